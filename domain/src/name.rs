//! Names people choose. Lowercase letters, digits, `_` and `-`, 1 to 64 of them, first a letter or digit.

use std::{borrow::Borrow, fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

/// A name that breaks the rule above.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a lawful name: use 1 to 64 lowercase letters, digits, `_` or `-`, beginning with a letter or digit"
)]
pub struct BadName(pub String);

fn lawful(raw: &str) -> bool {
    (1..=64).contains(&raw.len())
        && raw.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'))
        && raw.as_bytes()[0].is_ascii_alphanumeric()
}

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }

        impl FromStr for $name {
            type Err = BadName;
            fn from_str(raw: &str) -> Result<Self, BadName> {
                if lawful(raw) { Ok(Self(raw.into())) } else { Err(BadName(raw.to_owned())) }
            }
        }

        impl TryFrom<String> for $name {
            type Error = BadName;
            fn try_from(raw: String) -> Result<Self, BadName> {
                raw.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0.as_ref().to_owned()
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    )+};
}

names! {
    /// A kind of thing features describe (`carrier`, `pump`).
    EntityName,
    /// A table of timestamped rows that people ingest into.
    SourceName,
    /// A named set of features over one source.
    ViewName,
    /// A named set of features that models pin.
    ServiceName,
    /// A column of a source, or a feature.
    ColumnName,
    /// A registered model.
    ModelName,
    /// One URL with model versions behind it.
    EndpointName,
    /// A retraining pipeline.
    PipelineName,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_lowercase_and_short() {
        assert!("flight-delay".parse::<ModelName>().is_ok());
        assert!("temp_24h".parse::<ColumnName>().is_ok());
        for bad in ["", "Flight", "a b", "../etc", "-x", &"x".repeat(65)] {
            assert_eq!(bad.parse::<ModelName>(), Err(BadName(bad.to_owned())));
        }
    }
}
