//! Identifiers the platform mints: UUIDv7, shown as 32 hexadecimal digits, sortable by creation.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A text that is not 32 hexadecimal digits (hyphens are tolerated).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an id: expected 32 hexadecimal digits")]
pub struct BadId(pub String);

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Uuid);

        impl $name {
            /// Mints a fresh id; ids minted later sort later.
            #[must_use]
            pub fn mint() -> Self {
                Self(Uuid::now_v7())
            }

            /// Wraps a known UUID, for ids that are derived rather than minted.
            #[must_use]
            pub const fn from_uuid(raw: Uuid) -> Self {
                Self(raw)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0.simple())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0.simple())
            }
        }

        impl FromStr for $name {
            type Err = BadId;
            fn from_str(raw: &str) -> Result<Self, BadId> {
                Uuid::parse_str(raw).map(Self).map_err(|_| BadId(raw.to_owned()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = BadId;
            fn try_from(raw: String) -> Result<Self, BadId> {
                raw.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.to_string()
            }
        }
    )+};
}

ids! {
    /// One tracked run: parameters, metrics and what it read and made.
    RunId,
    /// One prediction of one row.
    PredictionId,
    /// One training job (a child process).
    JobId,
    /// One execution of a pipeline.
    PipelineRunId,
    /// One alert.
    AlertId,
    /// One review task.
    TaskId,
    /// One upload that comes in parts.
    UploadId,
    /// One request to move a protected alias.
    ApprovalId,
    /// One receiver of registry events.
    WebhookId,
}
