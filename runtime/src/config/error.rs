//! What can be wrong with settings.

use std::{io, path::PathBuf};

use domain::{Coded, ErrorCode};

use super::{SETTINGS, Source};

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("could not read the config file `{}`", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("{}:{line}:{column}: not TOML: {message}", path.display())]
    NotToml { path: PathBuf, line: usize, column: usize, message: String },
    #[error("{place}: unknown setting `{key}`{}", did_you_mean(nearest.as_deref()))]
    Unknown {
        /// As it was written: a key, or the name of an environment variable.
        key: String,
        place: Source,
        /// The nearest known key or variable.
        nearest: Option<String>,
    },
    #[error("{place}: `{value}` is not a value of `{key}`: {reason}")]
    BadValue { key: &'static str, place: Source, value: String, reason: String },
}

fn did_you_mean(nearest: Option<&str>) -> String {
    nearest.map(|nearest| format!(", did you mean `{nearest}`?")).unwrap_or_default()
}

impl Coded for ConfigError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Unreadable { source, .. } if source.kind() == io::ErrorKind::NotFound => ErrorCode::NotFound,
            Self::Unreadable { .. } => ErrorCode::Unavailable,
            Self::NotToml { .. } | Self::Unknown { .. } | Self::BadValue { .. } => ErrorCode::InvalidArgument,
        }
    }

    fn hint(&self) -> String {
        match self {
            Self::Unreadable { .. } => "check the path given by `--config` or `MILLPOND_CONFIG`".to_owned(),
            Self::NotToml { .. } => "write sections and keys as in docs/configuration.md".to_owned(),
            Self::Unknown { .. } => {
                let known: Vec<_> = SETTINGS.iter().map(|setting| setting.key).collect();
                format!("known settings: {}", known.join(", "))
            }
            Self::BadValue { key, .. } => SETTINGS
                .iter()
                .find(|setting| setting.key == *key)
                .map(|setting| format!("`{key}` is in {}; its default is `{}`", setting.unit, setting.default_value()))
                .unwrap_or_default(),
        }
    }
}
