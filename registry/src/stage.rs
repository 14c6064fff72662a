//! Stages: how far a version has come, in MLflow's words.

use serde::{Deserialize, Serialize};

use crate::RegistryError;

/// How far a version has come, in MLflow's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub enum Stage {
    #[default]
    None,
    Staging,
    Production,
    Archived,
}

impl Stage {
    const ALL: [Self; 4] = [Self::None, Self::Staging, Self::Production, Self::Archived];

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Staging => "Staging",
            Self::Production => "Production",
            Self::Archived => "Archived",
        }
    }

    /// Whether it is one that a version is chosen for, and that clients load it by.
    #[must_use]
    pub const fn is_named(self) -> bool {
        matches!(self, Self::Staging | Self::Production)
    }

    /// The stage that an alias of this name stands for.
    pub(crate) fn named(alias: &str) -> Option<Self> {
        Self::parse(alias).ok().filter(|stage| stage.is_named())
    }

    /// The stage of that name, in whatever case.
    ///
    /// # Errors
    /// A name that is none of the four.
    pub fn parse(text: &str) -> Result<Self, RegistryError> {
        let found = Self::ALL.into_iter().find(|stage| stage.as_str().eq_ignore_ascii_case(text));
        let hint = "use None, Staging, Production or Archived";
        found.ok_or_else(|| RegistryError::invalid(format!("stage {text:?}"), "does not exist", hint))
    }
}
