//! Limits of texts that callers choose.

use std::collections::BTreeMap;

use domain::{ModelFiles, error::nearest};

use crate::RegistryError;

/// Longest key of a parameter, tag or metric, and longest name, in characters.
pub(crate) const KEY_CHARS_MAX: usize = 250;
/// Longest value of a parameter or tag, in bytes.
const VALUE_BYTES_MAX: usize = 64 * 1024;
/// Longest path of a file, in bytes.
const PATH_BYTES_MAX: usize = 512;
/// Longest name of an experiment, in characters.
const EXPERIMENT_CHARS_MAX: usize = 500;
/// Longest artifact location, in bytes.
const LOCATION_BYTES_MAX: usize = 1_024;
/// How often a location may be percent-encoded over itself.
const ENCODINGS_MAX: usize = 8;

/// A name of `least` to 250 characters without control characters.
pub(crate) fn text(what: &'static str, text: &str, least: usize) -> Result<(), RegistryError> {
    let chars = text.chars().count();
    if chars < least || chars > KEY_CHARS_MAX || text.chars().any(char::is_control) {
        let shown: String = text.chars().take(40).collect();
        let hint = "use at most 250 characters and none that control a terminal";
        return Err(RegistryError::invalid(format!("{what} {shown:?}"), "is not a lawful name", hint));
    }
    Ok(())
}

/// The key of a parameter, metric or tag: letters and digits of any script, `_ - . / :` and spaces, and equal to
/// itself as a path, because pages and exports make paths of keys.
pub(crate) fn key(what: &str, key: &str) -> Result<(), RegistryError> {
    let chars = key.chars().count();
    let lawful = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | ':' | ' ');
    let path_like = key.split('/').all(|part| !matches!(part, "" | "." | "..")) && !key.starts_with("..");
    if chars == 0 || chars > KEY_CHARS_MAX || !path_like || !key.chars().all(lawful) {
        let shown: String = key.chars().take(40).collect();
        let problem = if chars > KEY_CHARS_MAX {
            format!("has {chars} characters where at most {KEY_CHARS_MAX} are taken")
        } else {
            "is not a lawful key".to_owned()
        };
        let hint = "use letters, digits, `_`, `-`, `.`, `/`, `:` and spaces, and no empty, `.` or `..` part of a path";
        return Err(RegistryError::invalid(format!("{what} {shown:?}"), problem, hint));
    }
    Ok(())
}

/// The text without what is beyond `chars_max` characters.
pub(crate) fn cut(text: &str, chars_max: usize) -> &str {
    text.char_indices().nth(chars_max).map_or(text, |(end, _)| &text[..end])
}

/// A text within its limit; `what` is its name in the error.
pub(crate) fn within(what: impl Into<String>, text: &str, chars_max: usize) -> Result<(), RegistryError> {
    // Bytes bound characters, and are known without counting.
    let chars = if text.len() <= chars_max { 0 } else { text.chars().count() };
    if chars > chars_max {
        let problem = format!("has {chars} characters where at most {chars_max} are taken");
        return Err(RegistryError::invalid(what, problem, "keep long values as files"));
    }
    Ok(())
}

/// The name of an experiment: 1 to 500 characters, none of them a control character.
pub(crate) fn experiment(name: &str) -> Result<(), RegistryError> {
    let chars = name.chars().count();
    if chars == 0 || chars > EXPERIMENT_CHARS_MAX || name.chars().any(char::is_control) {
        let shown: String = name.chars().take(40).collect();
        let hint = "use 1 to 500 characters and none that control a terminal";
        return Err(RegistryError::invalid(format!("experiment {shown:?}"), "is not a lawful name", hint));
    }
    Ok(())
}

/// Where artifacts lie: a URI without the tricks that hide a way out of it, whatever it is percent-encoded with.
pub(crate) fn location(uri: &str) -> Result<(), RegistryError> {
    let refuse = |problem: &str| {
        let shown: String = uri.chars().take(80).collect();
        let hint = "name a store, as in `mlflow-artifacts:/team` or `s3://bucket/team`, without `..`, `?` and `#`";
        Err(RegistryError::invalid(format!("artifact location {shown:?}"), problem, hint))
    };
    if uri.len() > LOCATION_BYTES_MAX {
        return refuse("is too long");
    }
    let scheme = uri.split_once(':').map(|(scheme, _)| scheme.to_ascii_lowercase()).unwrap_or_default();
    let lawful = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'+' | b'-' | b'.');
    // One letter is a drive, not a scheme.
    if scheme.len() < 2 || !scheme.starts_with(|c: char| c.is_ascii_lowercase()) || !scheme.bytes().all(lawful) {
        return refuse("is a path of the caller's machine, which this server does not read");
    }
    if scheme == "file" {
        return refuse("is a file of the server's, which it does not give away");
    }
    let mut text = uri.as_bytes().to_vec();
    for _ in 0..ENCODINGS_MAX {
        if text.iter().any(|byte| matches!(byte, b'#' | b'?' | b';' | b'\\' | 0..=31 | 127)) {
            return refuse("has a fragment, a query or a control character");
        }
        let parts = text.split(|byte| matches!(byte, b'/' | b':'));
        if parts.into_iter().any(|part| part == b"..") {
            return refuse("leads out of itself");
        }
        let decoded = percent_decoded(&text);
        if decoded == text {
            return Ok(());
        }
        text = decoded;
    }
    refuse("is percent-encoded too often")
}

fn percent_decoded(text: &[u8]) -> Vec<u8> {
    let digit = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let mut decoded = Vec::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        match (text[at], digit(text.get(at + 1)), digit(text.get(at + 2))) {
            (b'%', Some(high), Some(low)) => {
                decoded.extend(u8::try_from(high * 16 + low));
                at += 3;
            }
            (byte, ..) => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    decoded
}

/// Keys as names, values of bounded length.
pub(crate) fn pairs(what: &'static str, pairs: &BTreeMap<String, String>) -> Result<(), RegistryError> {
    for (key, value) in pairs {
        text(what, key, 1)?;
        if value.len() > VALUE_BYTES_MAX {
            let problem = format!("has {} bytes where at most {VALUE_BYTES_MAX} are taken", value.len());
            return Err(RegistryError::invalid(format!("{what} `{key}`"), problem, "keep long values as files"));
        }
    }
    Ok(())
}

/// Longest alias, in characters.
const ALIAS_CHARS_MAX: usize = 255;

/// An alias, by MLflow's rule; and none that could be taken for a version number or for `latest`.
pub(crate) fn alias(alias: &str) -> Result<(), RegistryError> {
    let lawful = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
    let number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let versioned = alias.strip_prefix(['v', 'V']).is_some_and(number);
    let sized = (1..=ALIAS_CHARS_MAX).contains(&alias.len());
    if !sized || !alias.bytes().all(lawful) || alias.eq_ignore_ascii_case(crate::LATEST) || versioned || number(alias) {
        let shown: String = alias.chars().take(40).collect();
        let hint =
            "use at most 255 letters, digits, `_` or `-`; neither `latest` nor what reads as a version, as `v3` or `3`";
        return Err(RegistryError::invalid(format!("alias {shown:?}"), "is not a lawful alias", hint));
    }
    Ok(())
}

/// At least one file, and only relative paths that stay inside the version's directory.
pub(crate) fn files(files: &ModelFiles) -> Result<(), RegistryError> {
    if files.is_empty() {
        return Err(RegistryError::invalid("the version", "has no files", "give at least `model.onnx`"));
    }
    for path in files.keys() {
        let bad_part = |part: &str| matches!(part, "" | "." | "..");
        let bad_char = |c: char| c.is_control() || matches!(c, '\\' | ':');
        if path.len() > PATH_BYTES_MAX || path.split('/').any(bad_part) || path.chars().any(bad_char) {
            let hint = "use a relative path of plain names joined by `/`";
            return Err(RegistryError::invalid(format!("file {path:?}"), "has no lawful path", hint));
        }
    }
    Ok(())
}

pub(crate) fn near<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    nearest(wrong, known).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_names_that_are_their_own_path() {
        for lawful in ["loss", "val/loss", "a b", "système", "名前", "x:y-z_1.0", ".hidden", "a..b"] {
            assert!(key("metric", lawful).is_ok(), "{lawful}");
        }
        for bad in ["", ".", "..", "a//b", "/a", "a/", "a/../b", "a/./b", "..a", "a%b", "a\nb", "a\\b", "a\"b"] {
            assert!(key("metric", bad).is_err(), "{bad}");
        }
        assert!(key("tag", &"k".repeat(250)).is_ok());
        assert!(key("tag", &"k".repeat(251)).unwrap_err().to_string().contains("250"));
    }

    #[test]
    fn a_location_cannot_hide_a_way_out() {
        for lawful in ["mlflow-artifacts:/3", "s3://bucket/a b/c%20d", "gs://bucket", "mlflow-artifacts://host/a..b"] {
            assert!(location(lawful).is_ok(), "{lawful}");
        }
        for bad in [
            "",
            "/tmp/x",
            "x",
            "file:///etc",
            "FILE:/etc",
            "C:/x",
            "s3://b/../c",
            "s3://b/%2e%2e/c",
            "s3://b/%252e%252e/c",
            "s3://b/x#y",
            "s3://b/x%23/../y",
            "s3://b?x=1",
            "s3://b/x;y",
            "s3://b\\..\\c",
            "s3:..",
            "s3://b/%00",
        ] {
            assert!(location(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn long_values_are_cut_between_characters() {
        assert_eq!(cut("añb", 2), "añ");
        assert_eq!(cut("ab", 2), "ab");
        assert!(within("value", "ñññ", 3).is_ok());
        assert!(within("value", "ññññ", 3).is_err());
    }
}
