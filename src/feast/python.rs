//! JSON as Python writes it: `NaN`, `Infinity` and `-Infinity` stand bare where no other JSON has them.

use std::borrow::Cow;

use serde::de::DeserializeOwned;

use super::{Class, Refusal};

/// Reads a body. `NaN`, which pandas writes for nothing, is null; an infinity becomes a text that no number is read
/// from, so that whoever reads it says so.
///
/// # Errors
/// Says where the JSON is wrong.
pub fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(&plain(body))
        .map_err(|e| Refusal::unfit(Class::General, format!("the body does not fit: {e}")))
}

/// The body without Python's own words.
fn plain(body: &[u8]) -> Cow<'_, [u8]> {
    const WORDS: [(&[u8], &[u8]); 3] =
        [(b"NaN", b"null"), (b"-Infinity", b"\"-Infinity\""), (b"Infinity", b"\"Infinity\"")];
    let mut out: Vec<u8> = Vec::new();
    // What stands before this is in `out` already.
    let mut kept = 0;
    let (mut at, mut quoted) = (0, false);
    while at < body.len() {
        match body[at] {
            b'\\' if quoted => at += 1,
            b'"' => quoted = !quoted,
            b'N' | b'I' | b'-' if !quoted => {
                if let Some((word, instead)) = WORDS.iter().find(|(word, _)| body[at..].starts_with(word)) {
                    out.extend_from_slice(&body[kept..at]);
                    out.extend_from_slice(instead);
                    at += word.len();
                    kept = at;
                    continue;
                }
            }
            _ => {}
        }
        at += 1;
    }
    if kept == 0 {
        return Cow::Borrowed(body);
    }
    out.extend_from_slice(&body[kept..]);
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn what_pandas_writes_for_nothing_is_null() {
        let body = br#"{"x": [1.5, NaN, -Infinity, Infinity, -2], "NaN": "NaN \" NaN", "y": NaN}"#;
        let read: Value = read(body).unwrap();
        let wanted = json!({"x": [1.5, null, "-Infinity", "Infinity", -2], "NaN": "NaN \" NaN", "y": null});
        assert_eq!(read, wanted);
    }

    #[test]
    fn a_body_without_such_words_is_not_copied() {
        assert!(matches!(plain(br#"{"a": [-1, "NaN"]}"#), Cow::Borrowed(_)));
    }

    #[test]
    fn a_broken_body_is_refused_with_its_place() {
        for body in ["", "{", "[1", r#"{"x": [Na]}"#, "\"\\", "-"] {
            let error = read::<Value>(body.as_bytes()).unwrap_err().to_string();
            assert!(error.contains("line 1 column"), "{body}: {error}");
        }
    }
}
