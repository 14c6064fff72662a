//! Commits: new files and how far the log is kept, in one step.
//!
//! How far is said by Delta Lake's own means, application transactions: `millpond` has the number of rows,
//! `millpond.log` the newest log file among them, and `millpond.chain.0` to `.3` the chain after them, 64 bits each.

use deltalake_core::{
    DeltaResult, DeltaTable,
    kernel::{
        Action, Add, Transaction,
        transaction::{CommitBuilder, CommitProperties, TableReference},
    },
    logstore::LogStoreRef,
    protocol::DeltaOperation,
};
use domain::Digest;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use object_store::ObjectStoreExt as _;
use storage::{Kept, StorageError};
use uuid::Uuid;

use crate::{EVENT_DATE, encode::Encoded, failure, table::LakeTable};

const ROWS: &str = "millpond";
const LOG: &str = "millpond.log";
/// Rows through which a compaction applied corrections.
pub(crate) const SETTLED: &str = "millpond.settled";
/// Files written side by side: each waits for the disk, or the network.
const PUT_AT_ONCE: usize = 8;

fn chain(part: usize) -> String {
    format!("millpond.chain.{part}")
}

/// The transactions that say how far the log is kept.
pub(crate) fn marks(kept: Kept) -> Vec<Action> {
    let count = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let mut marks = vec![mark(ROWS, count(kept.rows)), mark(LOG, count(kept.covered))];
    for (at, part) in kept.chain.as_bytes().chunks_exact(8).enumerate() {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(part);
        marks.push(mark(&chain(at), i64::from_be_bytes(bytes)));
    }
    marks
}

pub(crate) fn mark(app: &str, version: i64) -> Action {
    Action::Txn(Transaction::new(app, version))
}

/// The newest version of an application's transaction at a table's version.
pub(crate) async fn marked(log: &LogStoreRef, state: &DeltaTable, app: &str) -> Result<Option<i64>, StorageError> {
    let doing = || format!("read mark `{app}` of a table");
    let snapshot = state.snapshot().map_err(failure::delta(doing()))?;
    snapshot.snapshot().transaction_version(log.as_ref(), app).await.map_err(failure::delta(doing()))
}

/// Rows that are kept at a table's version.
pub(crate) async fn rows(log: &LogStoreRef, state: &DeltaTable) -> Result<u64, StorageError> {
    Ok(marked(log, state, ROWS).await?.map_or(0, i64::unsigned_abs))
}

pub(crate) async fn kept(log: &LogStoreRef, state: &DeltaTable) -> Result<Option<Kept>, StorageError> {
    let Some(rows) = marked(log, state, ROWS).await? else { return Ok(None) };
    let incomplete = || failure::damaged("a table's marks", "a commit has only some of them");
    let covered = marked(log, state, LOG).await?.ok_or_else(incomplete)?;
    let mut digest = [0; 32];
    for (at, part) in digest.chunks_exact_mut(8).enumerate() {
        let bits = marked(log, state, &chain(at)).await?.ok_or_else(incomplete)?;
        part.copy_from_slice(&bits.to_be_bytes());
    }
    let chain = Digest::from_bytes(digest);
    Ok(Some(Kept { rows: rows.unsigned_abs(), covered: covered.unsigned_abs(), chain }))
}

/// One step of the table's log. An error does not say that nothing happened.
pub(crate) async fn commit(
    log: &LogStoreRef,
    state: &DeltaTable,
    actions: Vec<Action>,
    operation: DeltaOperation,
) -> DeltaResult<DeltaTable> {
    let done = CommitBuilder::from(CommitProperties::default())
        .with_actions(actions)
        .build(Some(state.snapshot()? as &dyn TableReference), log.clone(), operation)
        .await?;
    let mut table = DeltaTable::new(log.clone());
    table.state = Some(done.snapshot());
    Ok(table)
}

/// Writes files that no commit names yet.
pub(crate) async fn put_all(table: &LakeTable, files: Vec<Encoded>, change: bool) -> Result<Vec<Add>, StorageError> {
    let puts = files.into_iter().map(|file| put(table, file, change));
    stream::iter(puts).buffered(PUT_AT_ONCE).try_collect().await
}

async fn put(table: &LakeTable, file: Encoded, change: bool) -> Result<Add, StorageError> {
    // Hive's name of a partition that has none.
    let day = file.day.as_deref().unwrap_or("__HIVE_DEFAULT_PARTITION__");
    let path = format!("{EVENT_DATE}={day}/part-{}.zstd.parquet", Uuid::now_v7());
    let size = i64::try_from(file.bytes.len()).unwrap_or(i64::MAX);
    let at = object_store::path::Path::from(path.as_str());
    let store = table.inner.log.object_store(None);
    store.put(&at, file.bytes.into()).await.map_err(failure::store(format!("write {path}")))?;
    Ok(Add {
        path,
        partition_values: [(EVENT_DATE.to_owned(), file.day)].into(),
        size,
        modification_time: jiff::Timestamp::now().as_millisecond(),
        data_change: change,
        stats: Some(file.stats),
        tags: None,
        deletion_vector: None,
        base_row_id: None,
        default_row_commit_version: None,
        clustering_provider: None,
    })
}
