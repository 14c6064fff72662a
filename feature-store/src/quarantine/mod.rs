//! The quarantine, a source's dead-letter queue: rows set aside with their reason, which wait to be mended and replayed, or
//! discarded.
//!
//! A row has an id made of where it came from and what it says, so a row that is delivered again is the same row: it is
//! counted, and what was decided about it stands.

mod replay;
mod store;

use std::{collections::BTreeSet, fmt, str::FromStr};

use domain::{Digest, Span, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{
    parse::BadRow,
    report::{Reason, RowError},
};

pub use replay::{Replay, ReplayReport, StillBad};
pub(crate) use store::MIGRATIONS;

/// How much of each source is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuarantineLimits {
    /// Rows; of more the settled ones go first, then the oldest.
    pub rows_max: u64,
    /// Rows that were last seen longer ago are removed.
    pub keep: Span,
}

impl Default for QuarantineLimits {
    fn default() -> Self {
        Self { rows_max: 100_000, keep: Span::from_micros(30 * Span::DAY.micros()) }
    }
}

/// What was decided about a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Aside {
    /// Nothing yet.
    Waiting,
    /// It is in the store now, as it was or mended.
    Replayed,
    /// Nobody wants it.
    Discarded,
}

impl Aside {
    const ALL: [Self; 3] = [Self::Waiting, Self::Replayed, Self::Discarded];

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Replayed => "replayed",
            Self::Discarded => "discarded",
        }
    }
}

impl fmt::Display for Aside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Aside {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|state| state.as_str() == text);
        found.ok_or_else(|| format!("unknown state `{text}`: expected waiting, replayed or discarded"))
    }
}

/// A row set aside, as it was given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantined {
    /// What to call it by.
    pub id: String,
    #[serde(flatten)]
    pub error: RowError,
    /// The row as JSON text: an object by column, or whatever could be read of it; cut after 64 KiB.
    pub raw: String,
    /// Whether `raw` is all of it.
    pub whole: bool,
    /// What it is called where it came from, as in `main/readings/1700000000000-0` for the entry of a Redis stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// When it was first set aside.
    pub at: Timestamp,
    pub last_seen: Timestamp,
    /// How often it came.
    pub times: u64,
    pub state: Aside,
    /// When and by whom it was replayed or discarded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settled_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settled_by: Option<String>,
}

/// Which rows of a quarantine. Empty: all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QuarantineFilter {
    pub state: Option<Aside>,
    pub reason: Option<Reason>,
    /// First set aside at or after this.
    pub from: Option<Timestamp>,
    /// First set aside before this.
    pub to: Option<Timestamp>,
}

/// Rows to act on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// These, by id.
    Rows(BTreeSet<String>),
    /// All that wait and match.
    Waiting(QuarantineFilter),
}

/// What tells rows set aside apart: the name that a row has where it came from, else what it says and what is wrong.
fn id_of(row: &BadRow) -> String {
    let digest = match &row.origin {
        Some(origin) => Digest::of_parts([b"origin".as_slice(), origin.as_bytes()]),
        None => Digest::of_parts([
            b"row".as_slice(),
            row.raw.as_bytes(),
            row.error.code.as_str().as_bytes(),
            row.error.column.as_deref().unwrap_or_default().as_bytes(),
        ]),
    };
    digest.to_string()[..32].to_owned()
}
