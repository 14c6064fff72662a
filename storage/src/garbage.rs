//! Collecting garbage: removing blobs that no row names.
//!
//! Every room answers for its own tables ([`References`]). A blob goes when it was last stored before an instant and no
//! room names it, which is asked again inside the write transaction in which it is removed. Whoever begins to name a
//! blob makes sure, inside a write transaction of its own, that the blob is there ([`require_stored`]): of these two
//! transactions one comes first, also among several servers, so that either the name is seen or the absence is.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use domain::{Digest, EventKind, NewEvent, Timestamp};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::json;

use crate::{BlobInfo, Blobs, Meta, StorageError, sql::Conn};

/// Blobs that are looked up together.
const LOOKED_UP_AT_ONCE: usize = 500;
/// Blobs that are removed in one write transaction.
const REMOVED_AT_ONCE: usize = 64;
/// Blobs removed side by side.
const REMOVED_BESIDE: usize = 8;
/// How long one transaction may remove; well below the time after which a database takes a silent writer for dead.
const TURN: Duration = Duration::from_secs(5);

/// What the rows of a room name. Each room answers for its own tables.
#[async_trait]
pub trait References: Send + Sync {
    /// Of these blobs, the ones that a row names, as `conn` sees the rows. Naming one too many only keeps it longer.
    async fn named(&self, conn: &mut Conn, of: &[Digest]) -> Result<HashSet<Digest>, StorageError>;
}

/// Everything written in a text that reads as a digest: for rows that keep digests inside JSON.
#[must_use]
pub fn digests_in(text: &str) -> HashSet<Digest> {
    let words = text.split(|c: char| !c.is_ascii_hexdigit());
    words.filter(|word| word.len() == 64).filter_map(|word| word.parse().ok()).collect()
}

/// Fails with [`StorageError::Cleared`] unless the blobs are there. To be asked in the write transaction whose rows
/// begin to name them; see this file's head.
pub async fn require_stored(blobs: &dyn Blobs, wanted: &[Digest]) -> Result<(), StorageError> {
    for digest in wanted {
        if !blobs.exists(digest).await? {
            return Err(StorageError::Cleared(*digest));
        }
    }
    Ok(())
}

/// What a collection came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Collected {
    /// Blobs there are.
    pub seen: u64,
    /// Of these, stored too recently to be looked at.
    pub young: u64,
    /// Old enough, and named by nothing.
    pub garbage: u64,
    pub garbage_bytes: u64,
    /// Of these, removed; the others were named in time, or this was a dry run.
    pub removed: u64,
    pub removed_bytes: u64,
}

/// The collector of one store of blobs. Clones share it.
#[derive(Clone)]
pub struct Collector {
    meta: Meta,
    blobs: Arc<dyn Blobs>,
    rooms: Arc<[Arc<dyn References>]>,
}

impl Collector {
    /// `rooms` are all that name blobs of this store: what none of them names is garbage.
    #[must_use]
    pub fn new(meta: Meta, blobs: Arc<dyn Blobs>, rooms: Vec<Arc<dyn References>>) -> Self {
        Self { meta, blobs, rooms: rooms.into() }
    }

    /// Counts the garbage last stored before `before`, without removing any.
    pub async fn count(&self, before: Timestamp) -> Result<Collected, StorageError> {
        self.walk(before, None).await
    }

    /// Removes the garbage last stored before `before`. The journal tells of it, as done at `now` by `actor`.
    ///
    /// May end anywhere: what it removed by then was garbage, and the rest is found the next time.
    pub async fn collect(&self, before: Timestamp, now: Timestamp, actor: &str) -> Result<Collected, StorageError> {
        self.walk(before, Some((now, actor))).await
    }

    async fn walk(&self, before: Timestamp, remove: Option<(Timestamp, &str)>) -> Result<Collected, StorageError> {
        let mut collected = Collected::default();
        let pages = self.blobs.list().await.try_chunks(LOOKED_UP_AT_ONCE);
        let mut pages = std::pin::pin!(pages);
        while let Some(mut page) = pages.try_next().await.map_err(|broken| broken.1)? {
            collected.seen += page.len() as u64;
            let all = page.len();
            page.retain(|blob| blob.written_at < before);
            collected.young += (all - page.len()) as u64;
            let mut garbage = {
                let mut conn = self.meta.reader().acquire().await?;
                self.unnamed(&mut conn, page).await?
            };
            collected.garbage += garbage.len() as u64;
            collected.garbage_bytes += bytes(&garbage);
            let Some((now, actor)) = remove else { continue };
            while !garbage.is_empty() {
                let rest = garbage.split_off(garbage.len().min(REMOVED_AT_ONCE));
                let gone = self.remove(garbage, now, actor).await?;
                collected.removed += gone.len() as u64;
                collected.removed_bytes += bytes(&gone);
                garbage = rest;
            }
        }
        Ok(collected)
    }

    /// Those that no room names.
    async fn unnamed(&self, conn: &mut Conn, mut blobs: Vec<BlobInfo>) -> Result<Vec<BlobInfo>, StorageError> {
        for room in self.rooms.iter() {
            if blobs.is_empty() {
                break;
            }
            let digests: Vec<Digest> = blobs.iter().map(|blob| blob.digest).collect();
            let named = room.named(conn, &digests).await?;
            blobs.retain(|blob| !named.contains(&blob.digest));
        }
        Ok(blobs)
    }

    /// Removes those that are still named by nothing, while nobody else can begin to name one. Gives what went.
    async fn remove(&self, blobs: Vec<BlobInfo>, now: Timestamp, actor: &str) -> Result<Vec<BlobInfo>, StorageError> {
        let mut tx = self.meta.begin().await?;
        let began = Instant::now();
        let blobs = self.unnamed(tx.conn(), blobs).await?;
        let removals = blobs.into_iter().map(|blob| async move {
            // Past its turn the database may have let others write.
            if began.elapsed() > TURN {
                return Ok(None);
            }
            self.blobs.delete(&blob.digest).await.map(|()| Some(blob))
        });
        let removed = stream::iter(removals).buffer_unordered(REMOVED_BESIDE);
        let removed: Vec<Option<BlobInfo>> = removed.try_collect().await?;
        let removed: Vec<BlobInfo> = removed.into_iter().flatten().collect();
        if !removed.is_empty() {
            let digests: Vec<Digest> = removed.iter().map(|blob| blob.digest).collect();
            tx.append(NewEvent {
                at: now,
                kind: EventKind::BlobsCollected,
                subject: "blobs".into(),
                actor: actor.to_owned(),
                cause: None,
                body: json!({"blobs": digests, "bytes": bytes(&removed)}),
            })
            .await?;
            tx.commit().await?;
        }
        Ok(removed)
    }
}

fn bytes(blobs: &[BlobInfo]) -> u64 {
    blobs.iter().map(|blob| blob.bytes).sum()
}
