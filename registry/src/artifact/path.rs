//! Where a file stands in the artifact tree. The tree is rows of a table, so a path leads nowhere but to rows; it is
//! held to this form so that it means the same to every client that makes files of it.

use std::{borrow::Cow, fmt, str::FromStr};

use domain::{Coded, ErrorCode};

const PATH_BYTES_MAX: usize = 1024;
const NAME_BYTES_MAX: usize = 255;

/// A relative path of plain names joined by `/`, decoded once by whoever took it out of a URL.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ArtifactPath(String);

/// A text that is not such a path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Invalid path {shown:?}: {problem}")]
pub struct BadPath {
    shown: String,
    problem: &'static str,
}

impl BadPath {
    fn new(raw: &str, problem: &'static str) -> Self {
        Self { shown: raw.chars().take(80).collect(), problem }
    }
}

impl Coded for BadPath {
    fn code(&self) -> ErrorCode {
        ErrorCode::InvalidArgument
    }

    fn hint(&self) -> String {
        "use names joined by `/`, without `.` and `..`, `\\`, `#`, `?` and control characters, encoded once".into()
    }
}

impl ArtifactPath {
    /// Reads the path of a directory, where an empty one is the root and one `/` may stand at the end.
    ///
    /// # Errors
    /// As [`ArtifactPath::from_str`].
    pub fn directory(raw: &str) -> Result<Option<Self>, BadPath> {
        match raw.strip_suffix('/').filter(|path| !path.is_empty()).unwrap_or(raw) {
            "" => Ok(None),
            path => path.parse().map(Some),
        }
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The last name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }

    /// A file of this directory.
    ///
    /// # Errors
    /// As [`ArtifactPath::from_str`].
    pub fn join(&self, name: &str) -> Result<Self, BadPath> {
        format!("{self}/{name}").parse()
    }

    /// This path below `root`, which is a path of ours.
    pub(crate) fn below(&self, root: &str) -> Self {
        Self(format!("{root}/{}", self.0))
    }

    /// The directories it lies in, outermost first.
    pub(crate) fn parents(&self) -> impl Iterator<Item = &str> {
        self.0.match_indices('/').map(move |(at, _)| &self.0[..at])
    }
}

impl fmt::Display for ArtifactPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ArtifactPath {
    type Err = BadPath;

    fn from_str(path: &str) -> Result<Self, BadPath> {
        // Whoever decodes once too often must not get elsewhere: the path is lawful however often it is decoded.
        // Every round is shorter than the one before.
        let mut layer = Cow::Borrowed(path);
        loop {
            lawful(&layer).map_err(|problem| BadPath::new(path, problem))?;
            match decoded(&layer) {
                None => return Err(BadPath::new(path, "decoded once more it is not UTF-8")),
                Some(next) if next == layer => return Ok(Self(path.to_owned())),
                Some(next) => layer = Cow::Owned(next.into_owned()),
            }
        }
    }
}

fn lawful(path: &str) -> Result<(), &'static str> {
    if path.is_empty() {
        return Err("it is empty");
    }
    if path.len() > PATH_BYTES_MAX {
        return Err("it is longer than 1024 bytes");
    }
    if path.starts_with('/') {
        return Err("it is absolute");
    }
    if path.chars().any(|c| c.is_control() || matches!(c, '\\' | '#' | '?')) {
        return Err("it holds `\\`, `#`, `?` or a control character");
    }
    let drive = |name: &str| matches!(name.as_bytes(), [letter, b':', ..] if letter.is_ascii_alphabetic());
    for name in path.split('/') {
        match name {
            "" => return Err("it holds an empty name"),
            "." | ".." => return Err("it holds `.` or `..`"),
            name if name.len() > NAME_BYTES_MAX => return Err("it holds a name longer than 255 bytes"),
            // Joined to a folder on Windows it would leave it.
            name if drive(name) => return Err("it holds a name that begins like a drive"),
            _ => {}
        }
    }
    if path.split('/').next().is_some_and(|first| first.ends_with(':')) {
        return Err("it begins with a scheme");
    }
    Ok(())
}

/// Percent-decoding. What is no code stays as it is; `None` where the bytes are not UTF-8.
fn decoded(raw: &str) -> Option<Cow<'_, str>> {
    if !raw.contains('%') {
        return Some(Cow::Borrowed(raw));
    }
    let digit = |at: usize| raw.as_bytes().get(at).and_then(|byte| char::from(*byte).to_digit(16));
    let (mut bytes, mut at) = (Vec::with_capacity(raw.len()), 0);
    while let Some(byte) = raw.as_bytes().get(at) {
        match (byte, digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                // Two digits of base 16 are a byte.
                bytes.push((high * 16 + low) as u8);
                at += 3;
            }
            _ => {
                bytes.push(*byte);
                at += 1;
            }
        }
    }
    String::from_utf8(bytes).ok().map(Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A path as it stands in a URL: decoded once.
    fn from_encoded(raw: &str) -> Result<ArtifactPath, BadPath> {
        decoded(raw).ok_or_else(|| BadPath::new(raw, "it is not UTF-8"))?.parse()
    }

    #[test]
    fn names_of_every_script_are_kept_as_they_are() {
        for path in [
            "a",
            "0/abc/artifacts/model/MLmodel",
            "Ünïcode/модель/模型.bin",
            "<script>alert(1)</script>",
            "a b",
            "100%",
            "50%zz",
            "a%20b",
            "..a/b../...",
            "CON",
            "-rf",
            "%s%n",
            "a;b",
            "it's",
            "x' OR '1'='1",
            "ab:c",
            "emoji 🦆",
            "right\u{202e}left",
        ] {
            assert_eq!(path.parse::<ArtifactPath>().map(|path| path.to_string()), Ok(path.to_owned()), "{path}");
        }
        assert_eq!(from_encoded("a%20b/%E6%A8%A1").unwrap().as_str(), "a b/模");
        assert_eq!(from_encoded("a%2520b").unwrap().as_str(), "a%20b", "decoded once");
    }

    #[test]
    fn no_encoding_of_a_way_out_is_lawful() {
        let ways_out = [
            "",
            "/",
            "/etc/passwd",
            "//proc/self/root",
            "..",
            "../a",
            "a/..",
            "a/../b",
            "./a",
            "a/.",
            "a//b",
            "a/",
            "..\\a",
            "a\\b",
            "a#b",
            "#/../a",
            "a?b",
            "?a=../",
            "a\0b",
            "a\nb",
            "a\u{7f}",
            "a\u{85}",
            "C:",
            "c:/x",
            "C:x",
            "file:/etc/passwd",
            "file:///etc/passwd",
            "s3://bucket/x",
        ];
        let encode = |text: &str| text.bytes().map(|byte| format!("%{byte:02x}")).collect::<String>();
        let encode_percent = |text: &str| text.replace('%', "%25");
        for way in ways_out {
            let once = encode(way);
            let twice = encode_percent(&once);
            let thrice = encode_percent(&twice);
            assert!(way.parse::<ArtifactPath>().is_err(), "{way:?}");
            for form in [&once, &twice, &thrice] {
                assert!(from_encoded(form).is_err(), "{form:?}");
                assert!(form.parse::<ArtifactPath>().is_err(), "{form:?}");
            }
        }
        for form in [
            "%2e%2e/a",
            "a/%2E%2e",
            "%252e%252e%252fa",
            "..%5ca",
            "..%255ca",
            "%c0%ae%c0%ae/a",
            "%25c0%25ae",
            "a%00",
            "%ff",
        ] {
            assert!(from_encoded(form).is_err(), "{form:?}");
        }
        let long = "x".repeat(256);
        assert!(long.parse::<ArtifactPath>().is_err() && long[1..].parse::<ArtifactPath>().is_ok());
        assert!(format!("{}x", "x/".repeat(512)).parse::<ArtifactPath>().is_err());
    }

    #[test]
    fn a_directory_may_be_the_root_and_end_in_a_slash() {
        let read = |raw| ArtifactPath::directory(raw).map(|path| path.map(|path| path.to_string()));
        assert_eq!(read(""), Ok(None));
        assert_eq!(read("a/b/"), Ok(Some("a/b".into())));
        assert!(read("/").is_err() && read("a//").is_err() && read("../").is_err());
    }
}
