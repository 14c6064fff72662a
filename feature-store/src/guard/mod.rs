//! The consistency guard: a sample of what was served online is derived again from history, and every difference is
//! reported with its cause.
//!
//! Entities are sampled by the hash of their key, not request by request, so that an entity is watched whole (as in
//! Chronon's online-offline consistency, whose check compares logged and recomputed values the same way). Beside the
//! values the guard keeps how many rows of each source had been applied by then. With that it can tell what the online
//! store did not know yet from what it should have known:
//!
//! | history as of the row's time | history as of the row's time, rows applied by then | definition | cause |
//! |---|---|---|---|
//! | equals what was served | | | none |
//! | differs | equals | same | [`Cause::LateData`] |
//! | differs | | another | [`Cause::DefinitionChange`] |
//! | differs | differs | same | [`Cause::LostWrite`] |

mod check;
mod store;
mod watch;

use domain::{ServiceName, Timestamp};
use serde::{Deserialize, Serialize};

pub(crate) use store::MIGRATIONS;
pub(crate) use watch::Guard;

/// What the guard watches.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GuardConfig {
    /// Share of entities, by the hash of their key: 0 (none) to 1 (all).
    pub share: f64,
    /// Vectors that wait for a check at most; beyond that the oldest are let go, and counted.
    pub waiting_max: usize,
}

impl Default for GuardConfig {
    fn default() -> Self {
        Self { share: 0.01, waiting_max: 10_000 }
    }
}

/// Why a served value is not what history says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// Rows, or corrections of rows, that belong before the asked instant came after the answer.
    LateData,
    /// The service, one of its views or sources was changed since.
    DefinitionChange,
    /// The online store did not say what it had been told.
    LostWrite,
}

impl Cause {
    pub const ALL: [Self; 3] = [Self::LateData, Self::DefinitionChange, Self::LostWrite];

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::LateData => "late_data",
            Self::DefinitionChange => "definition_change",
            Self::LostWrite => "lost_write",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|cause| cause.as_str() == text)
    }
}

/// One value that was served and is not what history says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Mismatch {
    pub service: ServiceName,
    /// `view__feature`.
    pub feature: String,
    pub cause: Cause,
    /// The entity's keys by column.
    pub keys: serde_json::Map<String, serde_json::Value>,
    /// The instant that was asked about.
    pub at: Timestamp,
    pub served_at: Timestamp,
    pub found_at: Timestamp,
    /// What was served.
    pub online: serde_json::Value,
    /// What history says now.
    pub offline: serde_json::Value,
}

/// What one check found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuardReport {
    /// Vectors derived again.
    pub vectors: u64,
    /// Values compared.
    pub values: u64,
    /// Vectors that could not be derived again: their service is gone, or the version of a table that they rest on.
    pub gone: u64,
    /// Values that differ, by cause.
    pub late_data: u64,
    pub definition_change: u64,
    pub lost_write: u64,
}

impl GuardReport {
    /// Values that differ.
    #[must_use]
    pub const fn mismatches(&self) -> u64 {
        self.late_data + self.definition_change + self.lost_write
    }

    /// How many values differ for this cause.
    #[must_use]
    pub const fn of(&self, cause: Cause) -> u64 {
        match cause {
            Cause::LateData => self.late_data,
            Cause::DefinitionChange => self.definition_change,
            Cause::LostWrite => self.lost_write,
        }
    }

    const fn count(&mut self, cause: Cause) {
        match cause {
            Cause::LateData => self.late_data += 1,
            Cause::DefinitionChange => self.definition_change += 1,
            Cause::LostWrite => self.lost_write += 1,
        }
    }
}

/// How the guard stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GuardState {
    /// Share of entities that is watched.
    pub share: f64,
    /// Vectors that wait for the next check.
    pub waiting: usize,
    /// Vectors let go unchecked since the start, because too many waited.
    pub dropped: u64,
    /// All checks of this server since its start together.
    pub total: GuardReport,
    /// The newest mismatches, newest first; they survive a restart.
    pub mismatches: Vec<Mismatch>,
}
