//! Clearing away what nothing needs: abandoned uploads, what was deleted long ago, and then the blobs that no room names.

use std::{sync::Arc, time::Duration};

use domain::{Coded, ErrorCode, Span, Timestamp};
use registry::{Purged, Registry, RegistryError};
use runtime::{Clock, House};
use serde::Serialize;
use storage::{Collected, Collector, StorageError};
use tokio::sync::Mutex;

/// No younger blob is looked at: a write in flight may be this far from naming what it stored.
const YOUNGEST: Span = Span::HOUR;
/// How long after the start the first collection by itself comes, at most.
const FIRST_AFTER: Duration = Duration::from_secs(3_600);

/// What is to be cleared away.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// Only say what would be.
    pub dry_run: bool,
    /// Blobs that were stored longer ago than this, at least an hour.
    pub older_than: Span,
    /// Runs, logged models and experiments that have been deleted for longer than this; `None`: they stay.
    pub deleted_for: Option<Span>,
}

/// What was cleared away, or would be.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Cleared {
    pub dry_run: bool,
    /// Blobs there are.
    pub blobs: u64,
    /// Of these, too young to be looked at.
    pub young: u64,
    /// Old enough, and named by nothing.
    pub garbage: u64,
    pub garbage_bytes: u64,
    pub removed: u64,
    pub removed_bytes: u64,
    /// What was deleted for good; absent when that was not asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub purged: Option<Purged>,
}

/// Why nothing was cleared away.
#[derive(Debug, thiserror::Error)]
pub enum GarbageError {
    #[error("older_than is {0}, and blobs younger than {YOUNGEST} may be part of a write in flight")]
    TooYoung(Span),
    #[error("garbage is being collected already")]
    UnderWay,
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl Coded for GarbageError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::TooYoung(_) => ErrorCode::InvalidArgument,
            Self::UnderWay => ErrorCode::Conflict,
            Self::Registry(source) => source.code(),
            Self::Storage(source) => source.code(),
        }
    }

    fn hint(&self) -> String {
        match self {
            Self::TooYoung(_) => format!("give {YOUNGEST} or more"),
            Self::UnderWay => "wait for it to end".into(),
            Self::Registry(source) => source.hint(),
            Self::Storage(source) => source.hint(),
        }
    }
}

/// The collector with what belongs to it. Clones share it.
#[derive(Clone)]
pub struct Garbage {
    collector: Collector,
    registry: Registry,
    clock: Clock,
    turn: Arc<Mutex<()>>,
}

impl Garbage {
    #[must_use]
    pub fn new(collector: Collector, registry: Registry, clock: Clock) -> Self {
        Self { collector, registry, clock, turn: Arc::default() }
    }

    /// Clears away what is wanted, or says what that would be. One at a time; may end anywhere and go on another time.
    pub async fn clear(&self, wanted: Wanted, actor: &str) -> Result<Cleared, GarbageError> {
        let Wanted { dry_run, older_than, deleted_for } = wanted;
        if older_than < YOUNGEST {
            return Err(GarbageError::TooYoung(older_than));
        }
        let _turn = self.turn.try_lock().map_err(|_| GarbageError::UnderWay)?;
        let now = self.clock.now();
        let purged = match deleted_for {
            None => None,
            Some(span) => Some(self.registry.purge_deleted(now - span, dry_run, actor).await?),
        };
        let collected = self.collect(now - older_than, now, dry_run, actor).await?;
        Ok(Cleared {
            dry_run,
            blobs: collected.seen,
            young: collected.young,
            garbage: collected.garbage,
            garbage_bytes: collected.garbage_bytes,
            removed: collected.removed,
            removed_bytes: collected.removed_bytes,
            purged,
        })
    }

    async fn collect(
        &self,
        before: Timestamp,
        now: Timestamp,
        dry_run: bool,
        actor: &str,
    ) -> Result<Collected, GarbageError> {
        if dry_run {
            return Ok(self.collector.count(before).await?);
        }
        self.registry.clean_uploads().await?;
        Ok(self.collector.collect(before, now, actor).await?)
    }

    /// Collects by itself, `every` so often, blobs that are older than `grace`, until the house shuts down.
    pub fn go_on(&self, house: &House, every: Duration, grace: Span) {
        let garbage = self.clone();
        house.spawn("garbage", move |stop| async move {
            let mut wait = every.min(FIRST_AFTER);
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(wait) => {}
                }
                wait = every;
                let wanted = Wanted { dry_run: false, older_than: grace.max(YOUNGEST), deleted_for: None };
                let cleared = tokio::select! {
                    () = stop.cancelled() => return,
                    cleared = garbage.clear(wanted, "gc") => cleared,
                };
                match cleared {
                    Ok(cleared) => {
                        tracing::info!(removed = cleared.removed, bytes = cleared.removed_bytes, "garbage collected");
                    }
                    Err(error) => tracing::warn!(%error, "garbage is collected another time"),
                }
            }
        });
    }
}
