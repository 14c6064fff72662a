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
