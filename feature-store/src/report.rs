//! What ingestion says about what it was given.

use domain::Timestamp;
use serde::{Deserialize, Serialize};

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
    /// The first 20 rows set aside.
    pub first_errors: Vec<RowError>,
}

/// Why one row was set aside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowError {
    /// Line of the body, from 1 (a CSV header is line 1); in Parquet and in lists of rows, the row's number from 1.
    pub line: u64,
    /// The column at fault; `None` when the row as a whole cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<String>,
    pub reason: String,
}

/// A row set aside, as it was given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantined {
    #[serde(flatten)]
    pub error: RowError,
    /// The row as JSON text: an object by column, or whatever could be read of it; cut after 16 KiB.
    pub raw: String,
    /// When it was set aside.
    pub at: Timestamp,
}

/// How much a source holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceStats {
    /// Rows accepted so far, superseded ones included.
    pub rows: u64,
    pub quarantined: u64,
}
