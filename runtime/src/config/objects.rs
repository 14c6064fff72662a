//! The address of a bucket, and secrets, which are not shown.

use std::{fmt, str::FromStr};

use serde::Serialize;

/// `s3://bucket/prefix`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectsUrl {
    pub bucket: String,
    /// Without slashes at its ends; empty for the bucket's root.
    pub prefix: String,
}

impl FromStr for ObjectsUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let place = text.strip_prefix("s3://").ok_or("expected `s3://bucket/prefix`")?;
        let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
        let in_bucket = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-".contains(&byte);
        if !(3..=63).contains(&bucket.len()) || !bucket.bytes().all(in_bucket) {
            return Err("expected a bucket's name of 3 to 63 lower-case letters, digits, `.` and `-`, as in \
                        `s3://bucket/prefix`"
                .into());
        }
        let prefix = prefix.trim_end_matches('/');
        let in_prefix = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let lawful = |name: &str| !matches!(name, "" | "." | "..") && name.bytes().all(in_prefix);
        if !prefix.is_empty() && (prefix.len() > 512 || !prefix.split('/').all(lawful)) {
            return Err(
                "expected a prefix of at most 512 letters, digits, `-`, `_` and `.` between single slashes, as in \
                        `s3://bucket/team/millpond`"
                    .into(),
            );
        }
        Ok(Self { bucket: bucket.to_owned(), prefix: prefix.to_owned() })
    }
}

impl fmt::Display for ObjectsUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}", self.bucket)?;
        if self.prefix.is_empty() { Ok(()) } else { write!(f, "/{}", self.prefix) }
    }
}

impl Serialize for ObjectsUrl {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

/// Text that is shown nowhere.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for whoever has to prove that it is known, and for nothing else.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Secret {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

/// An address of HTTP, without what may be a password.
pub(super) fn endpoint(text: &str) -> Result<Option<String>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let place = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let lawful = |place: &str| !place.is_empty() && place.bytes().all(|b| b.is_ascii_graphic() && !b"@?#".contains(&b));
    match place.filter(|place| lawful(place)) {
        Some(_) => Ok(Some(text.trim_end_matches('/').to_owned())),
        None => Err("expected an address without user and password, as in `https://s3.example.org:9000`".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_and_a_prefix_are_read_and_shown_alike() {
        for (text, bucket, prefix) in
            [("s3://pond", "pond", ""), ("s3://po.nd-1/a", "po.nd-1", "a"), ("s3://pond/a/b_c.D", "pond", "a/b_c.D")]
        {
            let url: ObjectsUrl = text.parse().expect("lawful");
            assert_eq!((url.bucket.as_str(), url.prefix.as_str()), (bucket, prefix));
            assert_eq!(url.to_string(), text);
        }
        let slash: ObjectsUrl = "s3://pond/a/".parse().expect("lawful");
        assert_eq!(slash.to_string(), "s3://pond/a");
        let long = format!("s3://pond/{}", "a".repeat(513));
        for bad in [
            "",
            "pond",
            "s3://",
            "s3://ab",
            "s3://Pond",
            "gs://pond",
            "s3://pond//a",
            "s3://pond/../a",
            "s3://pond/a b",
        ]
        .into_iter()
        .chain([long.as_str()])
        {
            assert!(bad.parse::<ObjectsUrl>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_secret_is_not_shown() {
        let secret = Secret::new("sesame");
        assert_eq!(
            format!("{secret} {secret:?} {}", serde_json::to_value(&secret).expect("serialises")),
            "*** *** \"***\""
        );
    }

    #[test]
    fn an_endpoint_has_no_password() {
        assert_eq!(endpoint(""), Ok(None));
        assert_eq!(endpoint("http://127.0.0.1:9000/"), Ok(Some("http://127.0.0.1:9000".into())));
        for bad in ["s3.example.org", "https://", "https://ann:sesame@s3.example.org", "https://a b", "https://h?x=1"] {
            assert!(endpoint(bad).is_err_and(|why| !why.contains("sesame")), "{bad}");
        }
    }
}
