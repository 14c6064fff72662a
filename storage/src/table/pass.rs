//! Rows that go into a vault past the log.

use std::{io, sync::PoisonError};

use domain::Digest;

use super::{Inner, SEATS, Table};
use crate::{Kept, StorageError, wal};

impl Table {
    /// Counts rows that go into the vault past the log, for bodies too large to be logged first. All that the log holds
    /// is in the vault by then, nothing is appended meanwhile, and `keep` is given what the vault must say afterwards:
    /// it commits the rows together with that, or fails. `link` is mixed into the table's chain.
    ///
    /// Runs to its end even when the caller stops waiting. Where nobody can say what `keep` did, the table takes no more
    /// rows until the next start, which asks the vault.
    ///
    /// [`StorageError::BadRows`] for a table without a vault.
    pub async fn pass<F>(
        &self,
        rows: u64,
        link: Digest,
        keep: impl FnOnce(Kept) -> F + Send + 'static,
    ) -> Result<(), StorageError>
    where
        F: Future<Output = Result<(), StorageError>> + Send,
    {
        self.inner.here()?;
        let inner = self.inner.clone();
        let passed = tokio::spawn(async move {
            let seats = u32::try_from(SEATS).unwrap_or(u32::MAX);
            let all = inner.seats.clone().acquire_many_owned(seats).await;
            let _all = all.map_err(|_| StorageError::WorkerGone("table"))?;
            let _moving = inner.moving.lock().await;
            inner.empty_log().await?;
            inner.pass(rows, link, keep).await
        });
        passed.await.map_err(|_| StorageError::WorkerGone("table"))?
    }
}

impl Inner {
    /// The caller holds `moving` and all seats, and the log is empty.
    async fn pass<F: Future<Output = Result<(), StorageError>>>(
        &self,
        rows: u64,
        link: Digest,
        keep: impl FnOnce(Kept) -> F,
    ) -> Result<(), StorageError> {
        let Some(vault) = &self.vault else {
            return Err(StorageError::BadRows { table: self.name.clone(), detail: "it has no vault".into() });
        };
        let covered = vault.kept().await?.map_or(0, |kept| kept.covered);
        let upto = {
            let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(reason) = &state.broken {
                return Err(StorageError::io(format!("write to table {}", self.name))(io::Error::other(
                    reason.clone(),
                )));
            }
            Kept { rows: state.stored() + rows, covered, chain: wal::link(state.chain, link.as_bytes()) }
        };
        if let Err(error) = keep(upto).await {
            match vault.kept().await {
                Ok(kept) if kept == Some(upto) => {}
                Ok(_) => return Err(error),
                Err(unread) => {
                    let reason =
                        format!("a write to its vault failed ({error}), and the vault cannot be asked ({unread})");
                    tracing::error!(table = self.name, reason, "the table takes no more rows until the next start");
                    self.state.write().unwrap_or_else(PoisonError::into_inner).broken = Some(reason);
                    return Err(error);
                }
            }
        }
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        state.vaulted = upto.rows;
        state.chain = upto.chain;
        Ok(())
    }
}
