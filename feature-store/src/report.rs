//! What ingestion says about what it was given.

use std::{collections::BTreeMap, fmt};

use domain::{error::nearest, frame::BadValue};
use serde::{Deserialize, Serialize};

use crate::{
    drift::{ColumnDrift, Drift},
    lateness::EventTime,
};

/// How a body is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// With a header line; columns are found by name.
    Csv,
    /// One JSON object a line.
    JsonLines,
    Parquet,
}

/// Why a row was set aside: a closed list, to count and to filter by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// It cannot be read as a row: no JSON object, another number of fields than the header, no text.
    Malformed,
    /// A value is of another type, or a list of another length.
    WrongType,
    /// The event time or a required value is not there.
    Missing,
    /// A number is NaN or infinite.
    NotFinite,
    /// A time cannot be read, or names no zone where none is declared.
    BadTime,
    /// A number is outside the range of exact sums.
    OutOfRange,
    /// A key is longer than the online store takes.
    KeyTooLong,
    /// A member is not declared and probably means one that is missing.
    UnknownColumn,
    /// The row came further behind the watermark than is allowed.
    Late,
    /// The event time lies further ahead of the clock than is allowed.
    Future,
}

impl Reason {
    pub const ALL: [Self; 10] = [
        Self::Malformed,
        Self::WrongType,
        Self::Missing,
        Self::NotFinite,
        Self::BadTime,
        Self::OutOfRange,
        Self::KeyTooLong,
        Self::UnknownColumn,
        Self::Late,
        Self::Future,
    ];

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::WrongType => "wrong_type",
            Self::Missing => "missing",
            Self::NotFinite => "not_finite",
            Self::BadTime => "bad_time",
            Self::OutOfRange => "out_of_range",
            Self::KeyTooLong => "key_too_long",
            Self::UnknownColumn => "unknown_column",
            Self::Late => "late",
            Self::Future => "future",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that is no reason; says which are.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown reason `{wrong}`{near}: expected one of {known}")]
pub struct BadReason {
    wrong: String,
    near: String,
    known: String,
}

impl std::str::FromStr for Reason {
    type Err = BadReason;

    fn from_str(text: &str) -> Result<Self, BadReason> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == text).ok_or_else(|| {
            let names = Self::ALL.map(Self::as_str);
            let near = nearest(text, names).map_or_else(String::new, |near| format!(", did you mean `{near}`?"));
            BadReason { wrong: text.to_owned(), near, known: names.join(", ") }
        })
    }
}

/// What is wrong with a row, in a word and in a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) code: Reason,
    pub(crate) text: String,
}

impl Fault {
    pub(crate) fn new(code: Reason, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }
}

impl From<BadValue> for Fault {
    fn from(bad: BadValue) -> Self {
        fn code(bad: &BadValue) -> Reason {
            match bad {
                BadValue::WrongType { .. } | BadValue::Length { .. } => Reason::WrongType,
                BadValue::Element { reason, .. } => code(reason),
                BadValue::NotFinite(_) => Reason::NotFinite,
                BadValue::Timestamp(_) => Reason::BadTime,
            }
        }
        Self { code: code(&bad), text: bad.to_string() }
    }
}

/// What became of the rows of one call. Every row is counted in exactly one of the first three.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IngestReport {
    /// Rows now in the store; corrections are among them.
    pub accepted: u64,
    /// Rows that were there already, with equal values.
    pub duplicates: u64,
    /// Rows set aside with their reason.
    pub quarantined: u64,
    /// Accepted rows that took the place of an earlier one.
    pub corrections: u64,
    /// Of the rows set aside, how many for which reason.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub reasons: BTreeMap<Reason, u64>,
    /// Rows let go from the quarantine unseen, the oldest ones, because it is full.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub dropped: u64,
    /// The first 20 rows set aside.
    pub first_errors: Vec<RowError>,
    /// Columns that were not as declared; undeclared ones were left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub drift: Vec<ColumnDrift>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
const fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl IngestReport {
    const FIRST_ERRORS_MAX: usize = 20;

    /// Takes in rows that were set aside.
    pub(crate) fn aside<'a>(&mut self, errors: impl Iterator<Item = &'a RowError>) {
        for error in errors {
            self.quarantined += 1;
            *self.reasons.entry(error.code).or_default() += 1;
            if self.first_errors.len() < Self::FIRST_ERRORS_MAX {
                self.first_errors.push(error.clone());
            }
        }
    }

    /// Adds what became of later rows of the same stream.
    pub fn add(&mut self, later: Self) {
        self.accepted += later.accepted;
        self.duplicates += later.duplicates;
        self.quarantined += later.quarantined;
        self.corrections += later.corrections;
        self.dropped += later.dropped;
        for (reason, rows) in later.reasons {
            *self.reasons.entry(reason).or_default() += rows;
        }
        self.first_errors.extend(later.first_errors);
        self.first_errors.truncate(Self::FIRST_ERRORS_MAX);
        for drift in later.drift {
            match self.drift.iter_mut().find(|known| (&known.column, known.kind) == (&drift.column, drift.kind)) {
                Some(known) => known.rows += drift.rows,
                None => self.drift.push(drift),
            }
        }
    }
}

/// Why one row was set aside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowError {
    /// Line of the body, from 1 (a CSV header is line 1); in Parquet and in lists of rows, the row's number from 1.
    pub line: u64,
    /// The column at fault; `None` when the row as a whole cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<String>,
    /// The reason in a word.
    pub code: Reason,
    pub reason: String,
}

/// How much a source holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceStats {
    /// Rows accepted so far, superseded ones included.
    pub rows: u64,
    /// Rows set aside that wait for somebody.
    pub quarantined: u64,
}

/// How a source's ingestion stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ingestion {
    /// Rows accepted so far, superseded ones included.
    pub rows: u64,
    /// Rows set aside that wait for somebody, and for which reasons.
    pub quarantined: u64,
    pub reasons: BTreeMap<Reason, u64>,
    pub event_time: EventTime,
    /// Columns that came otherwise than the source declares them.
    pub drift: Vec<Drift>,
}
