use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use domain::{Coded as _, ErrorCode};
use storage::Vault as _;

use super::rig::{Fate, Fated, keep, kept, numbers, open, rows, upto};
use crate::Bound;

#[tokio::test]
async fn keeping_rows_again_after_any_failure_keeps_them_once() {
    let mut failures = 0;
    for done in [false, true] {
        for nth in 1..8 {
            let dir = tempfile::tempdir().unwrap();
            let count = Arc::new(AtomicU64::new(0));
            let table = Fated::table(dir.path(), Fate::Fails { nth: count.clone(), done }).await;
            keep(&table, rows(0..5)).await.unwrap();
            count.store(nth, Ordering::SeqCst);
            let batch = rows(5..40);
            if let Err(error) = table.keep(std::slice::from_ref(&batch), kept(40)).await {
                failures += 1;
                assert_eq!(error.code(), ErrorCode::Unavailable, "{error}");
                assert_eq!(numbers(&table).await, upto(5), "change {nth}: readable as it was");
                table.keep(&[batch], kept(40)).await.unwrap();
            }
            for table in [&table, &open(dir.path()).await] {
                assert_eq!(numbers(table).await, upto(40), "change {nth}, done {done}");
                assert_eq!(table.kept().await.unwrap(), Some(kept(40)));
            }
        }
    }
    assert!(failures >= 5, "{failures}");
}

#[tokio::test]
async fn a_full_disk_leaves_the_table_readable_at_its_last_version() {
    let dir = tempfile::tempdir().unwrap();
    let full = Arc::new(AtomicBool::new(false));
    let table = Fated::table(dir.path(), Fate::Full(full.clone())).await;
    for n in 0..4 {
        keep(&table, rows(n * 5..n * 5 + 5)).await.unwrap();
    }
    full.store(true, Ordering::SeqCst);
    for refused in
        [keep(&table, rows(20..25)).await.unwrap_err(), table.compact(Bound::NONE, u64::MAX).await.unwrap_err()]
    {
        assert_eq!(refused.code(), ErrorCode::Unavailable);
        assert!(refused.hint().contains("free space"), "{refused}: {}", refused.hint());
    }
    for table in [&table, &open(dir.path()).await] {
        assert_eq!(numbers(table).await, upto(20));
    }
    full.store(false, Ordering::SeqCst);
    keep(&table, rows(20..25)).await.unwrap();
    let done = table.compact(Bound::NONE, u64::MAX).await.unwrap();
    assert!(done.files_before > done.files_after);
    assert_eq!(numbers(&open(dir.path()).await).await, upto(25));
}
