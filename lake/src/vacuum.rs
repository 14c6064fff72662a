//! Vacuum: files that no version needs any more, and log entries of versions that cannot be read any more, go.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use deltalake_core::checkpoints;
use domain::Timestamp;
use futures::TryStreamExt as _;
use object_store::ObjectStoreExt as _;
use storage::StorageError;

use crate::{failure, table::LakeTable};

/// Files that went from the table are remembered so long; a vacuum cannot keep them longer.
pub const KEPT_MAX: Duration = Duration::from_secs(60 * 86_400);
/// Where the log lies, in the table's folder.
const LOG: &str = "_delta_log";

/// What a vacuum removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Vacuumed {
    pub files: u64,
    pub bytes: u64,
}

impl LakeTable {
    /// Removes files that went from the table before `now - keep`, and what crashed writes left before that. Versions
    /// older than that cannot be read afterwards.
    pub async fn vacuum(&self, keep: Duration, now: Timestamp) -> Result<Vacuumed, StorageError> {
        // Nothing is being written that no commit names yet.
        let _staging = self.inner.staging.write().await;
        let _maintaining = self.inner.maintaining.lock().await;
        let _committing = self.inner.committing.lock().await;
        self.settle().await?;
        let mut gone = Vacuumed::default();
        let Some(snapshot) = self.snapshot() else { return Ok(gone) };
        let keep = i64::try_from(keep.min(KEPT_MAX).as_millis()).unwrap_or(i64::MAX);
        let before = now.micros().div_euclid(1_000).saturating_sub(keep);
        let doing = || format!("vacuum table {}", self.inner.name);
        let log = &self.inner.log;
        let live: HashSet<String> = snapshot.files().await?.into_iter().map(|file| file.path).collect();
        let state = snapshot.state().snapshot().map_err(failure::delta(doing()))?;
        let removed: HashMap<String, i64> = state
            .all_tombstones(log.as_ref())
            .map_ok(|file| (file.path().into_owned(), file.deletion_timestamp().unwrap_or(0)))
            .try_collect()
            .await
            .map_err(failure::delta(doing()))?;
        let store = log.object_store(None);
        let found: Vec<_> = store.list(None).try_collect().await.map_err(failure::store(doing()))?;
        for file in found {
            let name = file.location.as_ref();
            if name.starts_with(LOG) || live.contains(name) {
                continue;
            }
            // What no commit names was left by a write that did not come to its end.
            let since = removed.get(name).copied().unwrap_or_else(|| file.last_modified.timestamp_millis());
            if since < before {
                match store.delete(&file.location).await {
                    Ok(()) => {
                        gone.files += 1;
                        gone.bytes += file.size;
                    }
                    Err(object_store::Error::NotFound { .. }) => {}
                    Err(error) => return Err(failure::store(doing())(error)),
                }
            }
        }
        let version = snapshot.version();
        let cleared = checkpoints::cleanup_expired_logs_for(version, log.as_ref(), before, None).await;
        cleared.map_err(failure::delta(doing()))?;
        Ok(gone)
    }

    /// The bytes of a file of the table's folder, for tests.
    #[cfg(test)]
    pub(crate) async fn exists(&self, path: &str) -> bool {
        self.inner.log.object_store(None).head(&object_store::path::Path::from(path)).await.is_ok()
    }
}
