//! Where the sealed rows of a table go when that is not segments of the manifest.

use arrow::array::RecordBatch;
use async_trait::async_trait;
use domain::Digest;

use crate::StorageError;

/// How far a table's rows are kept outside its log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    /// Rows kept: those numbered below this, from 0.
    pub rows: u64,
    /// Index of the newest log file whose rows are among them.
    pub covered: u64,
    /// The table's chain after the last of them; see [`crate::Table::snapshot`].
    pub chain: Digest,
}

/// Keeps the sealed rows of one table. A row is in its vault or in the log, never in both: what the vault says is kept
/// decides where the log begins.
#[async_trait]
pub trait Vault: Send + Sync + 'static {
    /// What the last [`Vault::keep`] that took effect was given; `None` before the first.
    async fn kept(&self) -> Result<Option<Kept>, StorageError>;

    /// Keeps the rows that follow those kept already: all of them together with `upto`, or nothing. Durable when it
    /// returns. After an error either may be the case; keeping again what is kept changes nothing.
    async fn keep(&self, rows: &[RecordBatch], upto: Kept) -> Result<(), StorageError>;
}
