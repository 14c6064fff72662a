//! Names people choose. Lowercase letters, digits, `_` and `-`, 1 to 64 of them, first a letter or digit; names of
//! models follow the wider rule of MLflow's registry.

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

/// A model's name that breaks the rule of [`ModelName`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a lawful name of a model: use 1 to 256 characters without `/`, `:`, control characters or marks that \
     turn the direction of writing"
)]
pub struct BadModelName(pub String);

fn lawful_model(raw: &str) -> bool {
    // Marks that make a text look like another one (Unicode TR 36).
    let turns = |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    (1..=256).contains(&raw.chars().count())
        && !matches!(raw, "." | "..")
        && !raw.chars().any(|c| matches!(c, '/' | ':') || c.is_control() || turns(c))
}

macro_rules! names {
    ($rule:ident, $error:ident; $($(#[$doc:meta])* $name:ident),+ $(,)?) => {$(
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
            type Err = $error;
            fn from_str(raw: &str) -> Result<Self, $error> {
                if $rule(raw) { Ok(Self(raw.into())) } else { Err($error(raw.to_owned())) }
            }
        }

        impl TryFrom<String> for $name {
            type Error = $error;
            fn try_from(raw: String) -> Result<Self, $error> {
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

names! { lawful, BadName;
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
    /// One URL with model versions behind it.
    EndpointName,
    /// A retraining pipeline.
    PipelineName,
    /// A project: a tenant that shares nothing with the others.
    ProjectName,
}

names! { lawful_model, BadModelName;
    /// A registered model: 1 to 256 characters without `/`, `:` and control characters, as MLflow's clients choose them.
    ModelName,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_lowercase_and_short() {
        assert!("flight-delay".parse::<EndpointName>().is_ok());
        assert!("temp_24h".parse::<ColumnName>().is_ok());
        for bad in ["", "Flight", "a b", "../etc", "-x", &"x".repeat(65)] {
            assert_eq!(bad.parse::<EndpointName>(), Err(BadName(bad.to_owned())));
        }
    }

    #[test]
    fn a_model_is_called_what_people_call_it_except_what_would_be_a_path_or_a_trick() {
        for good in ["flight-delay", "Elasticnet Wine", "模型", "-x", "a.b", &"x".repeat(256)] {
            assert!(good.parse::<ModelName>().is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "models:x", "a\nb", "abc\u{202e}txt", &"x".repeat(257)] {
            assert_eq!(bad.parse::<ModelName>(), Err(BadModelName(bad.to_owned())));
        }
    }
}
