//! A file on its way out: what it is called, what kind it is, and which part of it was asked for.

use std::{convert::Infallible, fmt::Write as _, ops::Range};

use axum::{
    body::Body,
    extract::FromRequestParts,
    http::{HeaderMap, HeaderName, StatusCode, header, request::Parts},
    response::{IntoResponse as _, Response},
};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use registry::Artifact;

use crate::{
    app::App,
    http::{mlflow::wire::Refusal, problem::chain},
};

/// Kinds by the end of the name. Nothing is shown by a browser, whatever its kind: see [`disposition`].
const KINDS: [(&str, &[&str]); 26] = [
    (
        "text/plain; charset=utf-8",
        &[
            "txt",
            "log",
            "err",
            "cfg",
            "conf",
            "ini",
            "properties",
            "toml",
            "py",
            "md",
            "rst",
            "mlmodel",
            "mlproject",
            "yaml",
            "yml",
        ],
    ),
    ("text/csv; charset=utf-8", &["csv"]),
    ("text/tab-separated-values; charset=utf-8", &["tsv"]),
    ("text/html; charset=utf-8", &["html", "htm"]),
    ("text/css; charset=utf-8", &["css"]),
    ("text/javascript; charset=utf-8", &["js", "mjs"]),
    ("application/json", &["json", "ipynb"]),
    ("application/geo+json", &["geojson"]),
    ("application/xml", &["xml"]),
    ("application/pdf", &["pdf"]),
    ("application/zip", &["zip"]),
    ("application/gzip", &["gz", "tgz"]),
    ("application/x-tar", &["tar"]),
    ("application/vnd.apache.parquet", &["parquet"]),
    ("image/png", &["png"]),
    ("image/jpeg", &["jpg", "jpeg"]),
    ("image/gif", &["gif"]),
    ("image/webp", &["webp"]),
    ("image/bmp", &["bmp"]),
    ("image/tiff", &["tif", "tiff"]),
    ("image/svg+xml", &["svg"]),
    ("audio/mpeg", &["mp3"]),
    ("audio/wav", &["wav"]),
    ("audio/ogg", &["ogg"]),
    ("video/mp4", &["mp4", "m4v"]),
    ("video/webm", &["webm"]),
];

fn kind(name: &str) -> &'static str {
    let end = name.rsplit('.').next().unwrap_or(name).to_ascii_lowercase();
    KINDS.iter().find(|(_, ends)| ends.contains(&end.as_str())).map_or("application/octet-stream", |(kind, _)| kind)
}

/// Always to be saved, never to be shown: a file may be a page with a script. RFC 6266, with the name once for those who
/// read only ASCII and once as it is.
pub(super) fn disposition(name: &str) -> String {
    let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '"' | '\\' | '%') || c == ' ';
    let mut text: String = name.chars().map(|c| if plain(c) { c } else { '_' }).collect();
    text = format!("attachment; filename=\"{text}\"");
    if !name.chars().all(plain) {
        text.push_str("; filename*=UTF-8''");
        for byte in name.bytes() {
            // Writing to a String cannot fail.
            let _ = match byte {
                b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'-' | b'.' | b'_' | b'~' => write!(text, "{}", byte as char),
                _ => write!(text, "%{byte:02X}"),
            };
        }
    }
    text
}

/// What a request says about the part it wants and the version it has.
pub struct Asked(HeaderMap);

impl<S: Send + Sync> FromRequestParts<S> for Asked {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        Ok(Self(parts.headers.clone()))
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Part {
    Whole,
    Some(Range<u64>),
    /// What was asked for lies behind the end.
    Nothing,
}

impl Asked {
    fn text(&self, name: &HeaderName) -> Option<&str> {
        self.0.get(name).and_then(|value| value.to_str().ok())
    }

    /// Whether the caller has this version already.
    fn has(&self, tag: &str) -> bool {
        let matches = |known: &str| matches!(known.trim(), "*") || known.trim().trim_start_matches("W/") == tag;
        self.text(&header::IF_NONE_MATCH).is_some_and(|known| known.split(',').any(matches))
    }

    /// One range of bytes; several at once, other units and what cannot be read count as none (RFC 9110, 14.2).
    fn part(&self, tag: &str, bytes: u64) -> Part {
        if self.text(&header::IF_RANGE).is_some_and(|known| known.trim() != tag) {
            return Part::Whole;
        }
        let range = self.text(&header::RANGE).and_then(|text| text.trim().strip_prefix("bytes="));
        let Some((first, last)) = range.and_then(|range| range.trim().split_once('-')) else { return Part::Whole };
        let number = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            // Beyond any length is the end.
            digits.then(|| text.parse().unwrap_or(u64::MAX))
        };
        match (number(first), number(last)) {
            (Some(first), _) if last.is_empty() => within(first, bytes, bytes),
            (Some(first), Some(last)) if first <= last => within(first, last.saturating_add(1), bytes),
            // The last so many bytes.
            (None, Some(0)) if first.is_empty() => Part::Nothing,
            (None, Some(count)) if first.is_empty() => within(bytes.saturating_sub(count), bytes, bytes),
            _ => Part::Whole,
        }
    }
}

fn within(from: u64, to: u64, bytes: u64) -> Part {
    if from < bytes { Part::Some(from..to.min(bytes)) } else { Part::Nothing }
}

/// The file as a browser or client takes it: whole, in part, or not at all if it has it.
pub async fn serve(app: &App, file: &Artifact, name: &str, asked: &Asked) -> Result<Response, Refusal> {
    let tag = format!("\"{}\"", file.digest);
    let mut headers = vec![(header::ETAG, tag.clone()), (header::ACCEPT_RANGES, "bytes".to_owned())];
    let headers_of = |headers: Vec<(HeaderName, String)>| axum::response::AppendHeaders(headers);
    if asked.has(&tag) {
        return Ok((StatusCode::NOT_MODIFIED, headers_of(headers)).into_response());
    }
    let (status, range) = match asked.part(&tag, file.bytes) {
        Part::Whole => (StatusCode::OK, 0..file.bytes),
        Part::Some(range) => {
            let text = format!("bytes {}-{}/{}", range.start, range.end - 1, file.bytes);
            headers.push((header::CONTENT_RANGE, text));
            (StatusCode::PARTIAL_CONTENT, range)
        }
        Part::Nothing => {
            headers.push((header::CONTENT_RANGE, format!("bytes */{}", file.bytes)));
            let message = format!("the range lies outside the file, which has {} bytes", file.bytes);
            let refusal = Refusal { status: StatusCode::RANGE_NOT_SATISFIABLE.as_u16(), ..Refusal::invalid(message) };
            return Ok((headers_of(headers), refusal).into_response());
        }
    };
    headers.push((header::CONTENT_LENGTH, (range.end - range.start).to_string()));
    headers.push((header::CONTENT_DISPOSITION, disposition(name)));
    headers.push((header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()));
    let mut stream = app.registry.read_artifact(file, range).await?;
    // Before the answer begins: what is wrong with a small file, or with the place of all files, can still be said.
    let first = stream.try_next().await?;
    let stream = stream::iter(first.map(Ok)).chain(stream);
    let digest = file.digest;
    // The answer has begun when this happens: the connection breaks before the end, and here is why.
    let stream = stream.inspect_err(move |error| tracing::error!(%digest, error = %chain(error), "reading failed"));
    let kind = [(header::CONTENT_TYPE, kind(name))];
    Ok((status, kind, headers_of(headers), Body::from_stream(stream)).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(pairs: &[(HeaderName, &str)]) -> Asked {
        Asked(pairs.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect())
    }

    #[test]
    fn a_range_is_read_as_the_standard_says() {
        let part = |range: &str| asked(&[(header::RANGE, range)]).part("\"t\"", 10);
        for (range, from, to) in
            [("bytes=0-0", 0, 1), ("bytes=2-4", 2, 5), ("bytes=3-", 3, 10), ("bytes=-4", 6, 10), ("bytes=-99", 0, 10)]
        {
            assert_eq!(part(range), Part::Some(from..to), "{range}");
        }
        assert_eq!(part("bytes=9-99999999999999999999999"), Part::Some(9..10));
        for range in ["bytes=10-", "bytes=10-20", "bytes=-0", "bytes=99999999999999999999999-"] {
            assert_eq!(part(range), Part::Nothing, "{range}");
        }
        for range in ["bytes=4-2", "bytes=0-1,4-5", "lines=1-2", "bytes=", "bytes=-", "bytes=a-b", "bytes=+1-2"] {
            assert_eq!(part(range), Part::Whole, "{range}");
        }
        let changed = asked(&[(header::RANGE, "bytes=0-0"), (header::IF_RANGE, "\"other\"")]);
        assert_eq!(changed.part("\"t\"", 10), Part::Whole);
        assert_eq!(asked(&[(header::RANGE, "bytes=0-")]).part("\"t\"", 0), Part::Nothing);
    }

    #[test]
    fn a_tag_is_known_among_others_and_as_a_weak_one() {
        let has = |known: &str| asked(&[(header::IF_NONE_MATCH, known)]).has("\"t\"");
        assert!(has("\"t\"") && has("\"s\", W/\"t\"") && has("*"));
        assert!(!has("\"s\"") && !has("t"));
    }

    #[test]
    fn no_name_leaves_its_quotes() {
        assert_eq!(disposition("model.onnx"), "attachment; filename=\"model.onnx\"");
        assert_eq!(
            disposition("a\"; x=\".txt"),
            "attachment; filename=\"a_; x=_.txt\"; filename*=UTF-8''a%22%3B%20x%3D%22.txt"
        );
        assert_eq!(disposition("模.bin"), "attachment; filename=\"_.bin\"; filename*=UTF-8''%E6%A8%A1.bin");
    }

    #[test]
    fn the_kind_stands_at_the_end_of_the_name() {
        for (name, expected) in [
            ("MLmodel", "text/plain; charset=utf-8"),
            ("a.JSON", "application/json"),
            ("x.svg", "image/svg+xml"),
            ("model.pkl", "application/octet-stream"),
            ("noend", "application/octet-stream"),
        ] {
            assert_eq!(kind(name), expected, "{name}");
        }
    }
}
