use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use arrow::{
    array::{AsArray as _, RecordBatch},
    datatypes::Int64Type,
};
use domain::{Coded as _, ErrorCode, Field, Timestamp, ValueType};
use storage::{StorageError, Vault as _};

use super::rig::{Fate, Fated, keep, kept, numbers, open, rows, upto};
use crate::{LakeTable, Staged, Staging};

async fn put(staging: &Staging, rows: RecordBatch) -> Result<Staged, StorageError> {
    staging.put(staging.sort(&rows)?).await
}

/// Rows 5 to 40 in three pieces, committed at once.
async fn staged(table: &LakeTable) -> Result<(), StorageError> {
    let staging = table.stage(rows(0..1).schema()).await;
    let mut files = Staged::default();
    for range in [5..12, 12..20, 20..40] {
        files.join(put(&staging, rows(range)).await?);
    }
    assert!(files.bytes() > 0);
    staging.keep(files, kept(40)).await
}

#[tokio::test]
async fn a_crash_at_any_step_of_staging_shows_all_rows_or_none() {
    let dir = tempfile::tempdir().unwrap();
    let pictures = Arc::<Mutex<Vec<_>>>::default();
    let table = Fated::table(dir.path(), Fate::Pictured(dir.path().to_owned(), pictures.clone())).await;
    keep(&table, rows(0..5)).await.unwrap();
    pictures.lock().unwrap().clear();
    staged(&table).await.unwrap();
    assert_eq!(numbers(&table).await, upto(40));
    let found = std::mem::take(&mut *pictures.lock().unwrap());
    assert!(found.len() >= 8, "{}", found.len());
    for (step, crashed) in found.iter().enumerate() {
        let again = open(crashed.path()).await;
        let there = again.rows();
        assert!(there == 5 || there == 40, "step {step}: all or none, {there}");
        assert_eq!(numbers(&again).await, upto(there as i64), "step {step}");
        if there == 5 {
            staged(&again).await.unwrap();
        }
        assert_eq!(numbers(&open(crashed.path()).await).await, upto(40), "step {step}, again");
    }
}

#[tokio::test]
async fn staging_again_after_any_failure_keeps_the_rows_once() {
    let mut failures = 0;
    for done in [false, true] {
        for nth in 1..8 {
            let dir = tempfile::tempdir().unwrap();
            let count = Arc::new(AtomicU64::new(0));
            let table = Fated::table(dir.path(), Fate::Fails { nth: count.clone(), done }).await;
            keep(&table, rows(0..5)).await.unwrap();
            count.store(nth, Ordering::SeqCst);
            if let Err(error) = staged(&table).await {
                failures += 1;
                assert_eq!(error.code(), ErrorCode::Unavailable, "{error}");
                assert_eq!(numbers(&table).await, upto(5), "change {nth}: readable as it was");
                staged(&table).await.unwrap();
            }
            for table in [&table, &open(dir.path()).await] {
                assert_eq!(numbers(table).await, upto(40), "change {nth}, done {done}");
                assert_eq!(table.kept().await.unwrap(), Some(kept(40)));
            }
        }
    }
    assert!(failures >= 4, "{failures}");
}

#[tokio::test]
async fn a_full_disk_leaves_nothing_of_what_was_staged() {
    let dir = tempfile::tempdir().unwrap();
    let full = Arc::new(AtomicBool::new(false));
    let table = Fated::table(dir.path(), Fate::Full(full.clone())).await;
    keep(&table, rows(0..5)).await.unwrap();
    let staging = table.stage(rows(0..1).schema()).await;
    let files = put(&staging, rows(5..12)).await.unwrap();
    full.store(true, Ordering::SeqCst);
    assert!(put(&staging, rows(12..40)).await.is_err());
    assert_eq!(staging.keep(files, kept(12)).await.unwrap_err().code(), ErrorCode::Unavailable);
    full.store(false, Ordering::SeqCst);
    assert_eq!(numbers(&open(dir.path()).await).await, upto(5));
    staged(&table).await.unwrap();
    assert_eq!(numbers(&table).await, upto(40));
}

#[tokio::test]
async fn a_vacuum_waits_for_what_is_staged_and_takes_what_was_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let table = open(dir.path()).await;
    keep(&table, rows(0..5)).await.unwrap();
    let staging = table.stage(rows(0..1).schema()).await;
    let files = put(&staging, rows(5..40)).await.unwrap();
    let far: Timestamp = "2100-01-01T00:00:00Z".parse().unwrap();
    let vacuum = table.vacuum(Duration::ZERO, far);
    tokio::pin!(vacuum);
    assert!(futures::poll!(vacuum.as_mut()).is_pending());
    staging.keep(files, kept(40)).await.unwrap();
    drop(staging);
    assert_eq!(vacuum.await.unwrap().files, 0);
    assert_eq!(numbers(&table).await, upto(40));
    let staging = table.stage(rows(0..1).schema()).await;
    let given_up = put(&staging, rows(40..50)).await.unwrap();
    drop((staging, given_up));
    assert!(table.vacuum(Duration::ZERO, far).await.unwrap().files > 0);
    assert_eq!(numbers(&open(dir.path()).await).await, upto(40));
}

#[tokio::test]
async fn pieces_are_the_rows_that_were_asked_for_by_number() {
    let dir = tempfile::tempdir().unwrap();
    let table = open(dir.path()).await;
    keep(&table, rows(0..100)).await.unwrap();
    let snapshot = table.snapshot().unwrap();
    let wanted = storage::schema_of(&[Field::new("_row", ValueType::Int), Field::new("later", ValueType::Text)]);
    let mut found = Vec::new();
    for file in snapshot.files().await.unwrap() {
        for batch in snapshot.pieces(&file, &wanted, Some(Arc::new(|n| n % 10 == 3))).unwrap() {
            let batch = batch.unwrap();
            assert_eq!(batch.column(1).null_count(), batch.num_rows());
            found.extend(batch.column(0).as_primitive::<Int64Type>().values().to_vec());
        }
    }
    found.sort_unstable();
    assert_eq!(found, (0..10).map(|n| n * 10 + 3).collect::<Vec<i64>>());
}
