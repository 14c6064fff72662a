//! Bodies too large for one write: their files are written one after the other, and one commit names them all.

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use deltalake_core::kernel::Add;
use storage::{Kept, StorageError};
use tokio::sync::OwnedRwLockReadGuard;

use crate::{
    commit,
    encode::{self, Sorted},
    failure,
    table::{LakeTable, Layout},
};

/// Files on their way into a table. Readers do not see them before [`Staging::keep`]; what is dropped before that is left
/// for a vacuum, which waits for it.
pub struct Staging {
    table: LakeTable,
    columns: SchemaRef,
    layout: Layout,
    _no_vacuum: OwnedRwLockReadGuard<()>,
}

/// Files that are written and that no commit names yet.
#[derive(Debug, Default)]
pub struct Staged(Vec<Add>);

impl Staged {
    /// Takes in the files of another.
    pub fn join(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// How many bytes they have.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.0.iter().map(|file| file.size.unsigned_abs()).sum()
    }
}

impl LakeTable {
    /// Begins to stage rows that have these columns.
    pub async fn stage(&self, columns: SchemaRef) -> Staging {
        let no_vacuum = self.inner.staging.clone().read_owned().await;
        Staging { table: self.clone(), columns, layout: self.layout(), _no_vacuum: no_vacuum }
    }
}

impl Staging {
    /// The rows in the order in which files have them. Computes, for as long as that takes.
    pub fn sort(&self, rows: &RecordBatch) -> Result<Sorted, StorageError> {
        encode::sorted(rows, &self.layout)
    }

    /// Writes the rows as files of their own, one for each day. Durable when it returns.
    pub async fn put(&self, rows: Sorted) -> Result<Staged, StorageError> {
        let layout = self.layout.clone();
        let encoded = tokio::task::spawn_blocking(move || encode::files_of(&rows, &layout));
        let files = encoded.await.map_err(failure::gone)??;
        Ok(Staged(commit::put_all(&self.table, files, true).await?))
    }

    /// Makes the files part of the table, all or none, as [`Vault::keep`](storage::Vault::keep) does with rows.
    pub async fn keep(&self, files: Staged, upto: Kept) -> Result<(), StorageError> {
        let _committing = self.table.inner.committing.lock().await;
        self.table.once(upto, self.table.append(files.0, &self.columns, upto)).await
    }
}
