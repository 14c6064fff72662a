//! Tables whose sealed rows go to a vault.

use std::{
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU8, Ordering},
    },
};

use arrow::array::RecordBatch;
use async_trait::async_trait;
use domain::Digest;

use super::rig::{Rig, copy, numbers, numbers_schema, values};
use crate::{Kept, StorageError, Table, Tables, Vault};

/// Rows in memory. Fails when told so: 1 before a call is carried out, 2 after.
#[derive(Default)]
struct Shelf {
    rows: Mutex<Vec<i64>>,
    kept: Mutex<Option<Kept>>,
    fails: AtomicU8,
}

#[async_trait]
impl Vault for Shelf {
    async fn kept(&self) -> Result<Option<Kept>, StorageError> {
        Ok(*self.kept.lock().unwrap())
    }

    async fn keep(&self, rows: &[RecordBatch], upto: Kept) -> Result<(), StorageError> {
        let fails = self.fails.swap(0, Ordering::SeqCst);
        if fails == 1 {
            return Err(StorageError::Injected("keep"));
        }
        let mut kept = self.kept.lock().unwrap();
        if *kept != Some(upto) {
            let mut all = self.rows.lock().unwrap();
            assert_eq!(all.len() as u64, kept.map_or(0, |kept| kept.rows), "rows follow those that are kept");
            all.extend(values(rows));
            assert_eq!(all.len() as u64, upto.rows);
            *kept = Some(upto);
        }
        if fails == 2 { Err(StorageError::Injected("keep, afterwards")) } else { Ok(()) }
    }
}

impl Shelf {
    /// What is here, then what the log adds.
    fn all(&self, table: &Table) -> Vec<i64> {
        let (first, logged) = table.logged();
        let mut all = self.rows.lock().unwrap().clone();
        assert!(first <= all.len() as u64, "no row is in neither");
        all.extend(values(&logged).into_iter().skip(all.len() - first as usize));
        all
    }
}

async fn open(rig: &Rig, wal: &Path, shelf: &Arc<Shelf>) -> (Tables, Table) {
    let tables = Tables::open(rig.meta.clone(), rig.blobs.clone(), wal).await.unwrap();
    let table = tables.vaulted("numbers", numbers_schema(), shelf.clone()).await.unwrap();
    (tables, table)
}

#[tokio::test]
async fn a_row_is_in_the_vault_or_in_the_log_whatever_happens_between() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::open(&dir.path().join("rig")).await;
    let wal = dir.path().join("logs");
    let shelf = Arc::<Shelf>::default();
    let (tables, table) = open(&rig, &wal, &shelf).await;
    table.append(numbers(0, 10)).await.unwrap();
    table.flush().await.unwrap();
    table.append(numbers(10, 25)).await.unwrap();
    let snapshot = table.snapshot();
    // As the log stood before the rows moved: as if the process had died before it was cut.
    let uncut = copy(&wal);
    table.flush().await.unwrap();
    assert_eq!((table.logged().0, table.rows(), shelf.all(&table)), (25, 25, (0..25).collect()));
    drop((table, tables));
    for logs in [wal.as_path(), uncut.path()] {
        let (_tables, table) = open(&rig, logs, &shelf).await;
        assert_eq!((table.rows(), table.snapshot(), shelf.all(&table)), (25, snapshot, (0..25).collect()));
    }
    let (_tables, table) = open(&rig, uncut.path(), &shelf).await;
    table.append(numbers(25, 30)).await.unwrap();
    table.flush().await.unwrap();
    assert_eq!(shelf.all(&table), (0..30).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_vault_that_fails_before_or_after_is_asked_again_with_the_same_rows() {
    for fails in [1, 2] {
        let dir = tempfile::tempdir().unwrap();
        let rig = Rig::open(&dir.path().join("rig")).await;
        let shelf = Arc::<Shelf>::default();
        let (_tables, table) = open(&rig, &dir.path().join("logs"), &shelf).await;
        table.append(numbers(0, 10)).await.unwrap();
        shelf.fails.store(fails, Ordering::SeqCst);
        assert!(table.flush().await.is_err());
        assert_eq!((table.rows(), shelf.all(&table)), (10, (0..10).collect()));
        table.append(numbers(10, 12)).await.unwrap();
        table.flush().await.unwrap();
        assert_eq!((table.logged().0, shelf.all(&table)), (12, (0..12).collect()));
    }
}

#[tokio::test]
async fn a_table_of_segments_is_handed_over_with_its_log_and_its_keeper() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::open(dir.path()).await;
    let shelf = Arc::<Shelf>::default();
    let table = rig.numbers().await;
    table.append(numbers(0, 10)).await.unwrap();
    assert!(rig.tables.keeps("numbers").await.unwrap());
    table.flush().await.unwrap();
    for at in 0..table.segments() {
        shelf.keep(&table.segment(at).await.unwrap(), table.stored()).await.unwrap();
    }
    drop(table);
    rig.tables.hand_over(&["numbers".to_owned()]).await.unwrap();
    assert!(!rig.tables.keeps("numbers").await.unwrap());
    let table = rig.tables.vaulted("numbers", numbers_schema(), shelf.clone()).await.unwrap();
    table.append(numbers(10, 15)).await.unwrap();
    assert_eq!((table.rows(), shelf.all(&table)), (15, (0..15).collect()));
    assert!(!rig.tables.keeps("nothing").await.unwrap());
}

#[tokio::test]
async fn a_table_that_segments_still_hold_is_not_opened_with_a_vault() {
    let dir = tempfile::tempdir().unwrap();
    {
        let rig = Rig::open(dir.path()).await;
        rig.numbers().await.append(numbers(0, 10)).await.unwrap();
    }
    let rig = Rig::open(dir.path()).await;
    let refused = rig.tables.vaulted("numbers", numbers_schema(), Arc::<Shelf>::default()).await.err();
    assert!(matches!(refused, Some(StorageError::SchemaMismatch { .. })), "{refused:?}");
}

#[tokio::test]
async fn a_retired_handle_takes_no_more_rows_and_the_next_one_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::open(&dir.path().join("rig")).await;
    let shelf = Arc::<Shelf>::default();
    let (tables, old) = open(&rig, &dir.path().join("logs"), &shelf).await;
    old.append(numbers(0, 5)).await.unwrap();
    tables.retire(&old).await.unwrap();
    assert!(old.append(numbers(5, 6)).await.is_err());
    let new = tables.vaulted("numbers", numbers_schema(), shelf.clone()).await.unwrap();
    new.append(numbers(5, 8)).await.unwrap();
    assert_eq!(shelf.all(&new), (0..8).collect::<Vec<_>>());
}

/// Rows that go past the log: as a bulk load would hand them over.
async fn pass(table: &Table, shelf: &Arc<Shelf>, from: i64, to: i64) -> Result<(), StorageError> {
    let (shelf, link) = (shelf.clone(), Digest::of(&from.to_le_bytes()));
    let rows = numbers(from, to);
    table.pass(u64::try_from(to - from).unwrap(), link, async move |upto| shelf.keep(&[rows], upto).await).await
}

#[tokio::test]
async fn rows_that_pass_the_log_stand_behind_those_it_held_and_before_those_that_come() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::open(&dir.path().join("rig")).await;
    let wal = dir.path().join("logs");
    let shelf = Arc::<Shelf>::default();
    let (tables, table) = open(&rig, &wal, &shelf).await;
    pass(&table, &shelf, 0, 3).await.unwrap();
    table.append(numbers(3, 10)).await.unwrap();
    pass(&table, &shelf, 10, 30).await.unwrap();
    pass(&table, &shelf, 30, 31).await.unwrap();
    assert_eq!((table.rows(), table.logged().0), (31, 31));
    table.append(numbers(31, 40)).await.unwrap();
    let snapshot = table.snapshot();
    let crashed = copy(&wal);
    drop((table, tables));
    for logs in [wal.as_path(), crashed.path()] {
        let (_tables, table) = open(&rig, logs, &shelf).await;
        assert_eq!((table.rows(), table.snapshot(), shelf.all(&table)), (40, snapshot, (0..40).collect()));
    }
}

#[tokio::test]
async fn a_pass_that_fails_counts_only_when_the_vault_says_so() {
    for (fails, rows) in [(1, 10), (2, 20)] {
        let dir = tempfile::tempdir().unwrap();
        let rig = Rig::open(&dir.path().join("rig")).await;
        let shelf = Arc::<Shelf>::default();
        let (_tables, table) = open(&rig, &dir.path().join("logs"), &shelf).await;
        table.append(numbers(0, 10)).await.unwrap();
        table.flush().await.unwrap();
        let before = table.snapshot();
        shelf.fails.store(fails, Ordering::SeqCst);
        assert_eq!(pass(&table, &shelf, 10, 20).await.is_ok(), fails == 2);
        assert_eq!((table.rows(), table.snapshot() != before), (rows, fails == 2));
        table.append(numbers(i64::try_from(rows).unwrap(), 25)).await.unwrap();
        table.flush().await.unwrap();
        assert_eq!(shelf.all(&table), (0..25).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn only_a_table_with_a_vault_lets_rows_pass() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::open(dir.path()).await;
    let refused = rig.numbers().await.pass(1, Digest::of(b"x"), async |_| Ok(())).await;
    assert!(matches!(refused, Err(StorageError::BadRows { .. })), "{refused:?}");
}
