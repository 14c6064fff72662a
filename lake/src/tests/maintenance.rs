use std::time::Duration;

use domain::{Coded as _, ErrorCode, Timestamp};

use super::rig::{keep, numbers, numbers_in, open, replacing, rows, upto};
use crate::{Bound, Compacted};

/// Past every deletion of these tests.
const LATE: Timestamp = Timestamp::from_micros(4_000_000_000_000_000);

#[tokio::test]
async fn a_day_of_small_files_becomes_one_and_a_second_run_does_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let table = open(dir.path()).await;
    for n in 0..8 {
        keep(&table, rows(n * 6..n * 6 + 6)).await.unwrap();
    }
    let done = table.compact(Bound::NONE, u64::MAX).await.unwrap();
    assert_eq!((done.files_before, done.files_after, done.rows_dropped, done.more), (8, 2, 0, false));
    let files = table.snapshot().unwrap().files().await.unwrap();
    assert_eq!(files.iter().map(|file| file.rows).collect::<Vec<_>>(), [24, 24]);
    assert_eq!(table.compact(Bound::NONE, u64::MAX).await.unwrap(), Compacted::default());
    assert_eq!(numbers(&open(dir.path()).await).await, upto(48));
}

#[tokio::test]
async fn a_bound_leaves_the_rest_for_the_next_run() {
    let dir = tempfile::tempdir().unwrap();
    let table = open(dir.path()).await;
    for n in 0..16 {
        keep(&table, rows(n * 6..n * 6 + 6)).await.unwrap();
    }
    let mut runs = 0;
    loop {
        let done = table.compact(Bound { bytes: 1 }, u64::MAX).await.unwrap();
        assert_eq!(done.files_after, 1);
        runs += 1;
        if !done.more {
            break;
        }
    }
    assert_eq!(runs, 4);
    assert_eq!(numbers(&table).await, upto(96));
}

#[tokio::test]
async fn only_rows_that_rows_below_the_limit_replace_go() {
    let dir = tempfile::tempdir().unwrap();
    let table = open(dir.path()).await;
    keep(&table, rows(0..10)).await.unwrap();
    // Row 10 takes the place of 0, row 11 of 1, and row 12 of row 10.
    keep(&table, replacing(10..13, |n| Some(if n == 12 { 10 } else { n - 10 }))).await.unwrap();
    let without = |gone: &[i64]| upto(13).into_iter().filter(|n| !gone.contains(n)).collect::<Vec<_>>();
    assert_eq!(table.compact(Bound::NONE, 11).await.unwrap().rows_dropped, 1);
    assert_eq!(numbers(&table).await, without(&[0]));
    assert_eq!(table.compact(Bound::NONE, u64::MAX).await.unwrap().rows_dropped, 2);
    for table in [&table, &open(dir.path()).await] {
        assert_eq!(numbers(table).await, without(&[0, 1, 10]));
    }
    assert_eq!(table.compact(Bound::NONE, u64::MAX).await.unwrap(), Compacted::default());
}

#[tokio::test]
async fn an_earlier_version_is_read_until_a_vacuum_past_its_time() {
    let dir = tempfile::tempdir().unwrap();
    let table = open(dir.path()).await;
    keep(&table, rows(0..10)).await.unwrap();
    let before = table.snapshot().unwrap().version();
    keep(&table, replacing(10..14, |n| Some(n - 10))).await.unwrap();
    table.compact(Bound::NONE, u64::MAX).await.unwrap();
    // Rows up to 12 were in the log, say, when the version was noted.
    for (from, wanted) in [(before, 12), (before, 14)] {
        let then = table.with_rows(from, wanted).await.unwrap();
        assert_eq!(numbers_in(&then).await, upto(14), "before the compaction, with all that was to come");
    }
    assert_eq!(numbers_in(&table.with_rows(before, 10).await.unwrap()).await, upto(10));
    let young = Timestamp::from_micros(jiff::Timestamp::now().as_microsecond());
    assert_eq!(table.vacuum(Duration::from_secs(3_600), young).await.unwrap().files, 0);
    assert_eq!(numbers_in(&table.at(before).await.unwrap()).await, upto(10));
    let gone = table.vacuum(Duration::ZERO, LATE).await.unwrap();
    assert_eq!(gone.files, 2);
    assert_eq!(numbers(&open(dir.path()).await).await, (4..14).collect::<Vec<_>>());
    let snapshot = table.at(before).await;
    let read = match snapshot {
        Ok(snapshot) => snapshot.scan(&snapshot.schema().unwrap(), None).await.err(),
        Err(error) => Some(error),
    };
    let read = read.expect("its files are gone");
    assert_eq!((read.code(), read.hint().contains("keep_versions")), (ErrorCode::NotFound, true), "{read}");
}

#[tokio::test]
async fn what_a_crashed_write_left_goes_with_a_vacuum() {
    let dir = tempfile::tempdir().unwrap();
    let table = open(dir.path()).await;
    keep(&table, rows(0..10)).await.unwrap();
    let left = dir.path().join("numbers/event_date=2024-01-01/part-left.parquet");
    std::fs::write(&left, b"half a file").unwrap();
    let young = Timestamp::from_micros(jiff::Timestamp::now().as_microsecond());
    table.vacuum(Duration::from_secs(3_600), young).await.unwrap();
    assert!(left.exists(), "it might be of a write that goes on");
    let gone = table.vacuum(Duration::ZERO, LATE).await.unwrap();
    assert_eq!((gone.files, gone.bytes), (1, 11));
    assert!(!left.exists());
    assert_eq!(numbers(&table).await, upto(10));
}
