use std::{
    path::Path,
    sync::{Arc, Mutex},
};

use tempfile::TempDir;

use super::rig::{Fate, Fated, keep, numbers, numbers_in, open, replacing, rows, upto};
use crate::Bound;

fn take(pictures: &Arc<Mutex<Vec<TempDir>>>) -> Vec<TempDir> {
    std::mem::take(&mut *pictures.lock().unwrap())
}

async fn pictured(dir: &Path) -> (crate::LakeTable, Arc<Mutex<Vec<TempDir>>>) {
    let pictures = Arc::<Mutex<Vec<TempDir>>>::default();
    let table = Fated::table(dir, Fate::Pictured(dir.to_owned(), pictures.clone())).await;
    (table, pictures)
}

#[tokio::test]
async fn a_crash_at_any_step_of_keeping_rows_loses_and_doubles_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (table, pictures) = pictured(dir.path()).await;
    keep(&table, rows(0..30)).await.unwrap();
    // Two files and a commit, each with what was there before and after it.
    let found = take(&pictures);
    assert!(found.len() >= 8, "{}", found.len());
    for (step, crashed) in found.iter().enumerate() {
        let again = open(crashed.path()).await;
        let there = again.rows();
        assert!(there == 0 || there == 30, "step {step}: all or none, {there}");
        assert_eq!(numbers(&again).await, upto(there as i64), "step {step}");
        if there == 0 {
            keep(&again, rows(0..30)).await.unwrap();
        }
        keep(&again, rows(30..35)).await.unwrap();
        assert_eq!(numbers(&open(crashed.path()).await).await, upto(35), "step {step}, written on");
    }
}

#[tokio::test]
async fn a_crash_at_any_step_of_a_compaction_shows_the_table_before_or_after() {
    let dir = tempfile::tempdir().unwrap();
    {
        let table = open(dir.path()).await;
        for n in 0..9 {
            keep(&table, rows(n * 5..n * 5 + 5)).await.unwrap();
        }
        keep(&table, replacing(45..48, |n| Some(n - 40))).await.unwrap();
    }
    let (table, pictures) = pictured(dir.path()).await;
    let before = numbers(&table).await;
    let version = table.snapshot().unwrap().version();
    let done = table.compact(Bound::NONE, u64::MAX).await.unwrap();
    assert_eq!((done.rows_dropped, done.more), (3, false));
    let after: Vec<i64> = upto(48).into_iter().filter(|n| !(5..8).contains(n)).collect();
    let found = take(&pictures);
    let mut seen = [0, 0];
    for (step, crashed) in found.iter().enumerate() {
        let again = open(crashed.path()).await;
        let rows_now = numbers(&again).await;
        assert!(rows_now == before || rows_now == after, "step {step}: {rows_now:?}");
        seen[usize::from(rows_now == after)] += 1;
        let earlier = again.at(version).await.unwrap();
        assert_eq!(numbers_in(&earlier).await, before, "step {step}: the version before");
        again.compact(Bound::NONE, u64::MAX).await.unwrap();
        keep(&again, rows(48..50)).await.unwrap();
        let expected: Vec<i64> = after.iter().copied().chain(48..50).collect();
        assert_eq!(numbers(&open(crashed.path()).await).await, expected, "step {step}, gone on");
    }
    assert!(seen[0] > 0 && seen[1] > 0, "{seen:?}");
}

#[tokio::test]
async fn a_crash_at_any_step_of_a_vacuum_leaves_every_row() {
    let dir = tempfile::tempdir().unwrap();
    {
        let table = open(dir.path()).await;
        for n in 0..6 {
            keep(&table, rows(n * 5..n * 5 + 5)).await.unwrap();
        }
        table.compact(Bound::NONE, u64::MAX).await.unwrap();
    }
    let (table, pictures) = pictured(dir.path()).await;
    let late = domain::Timestamp::from_micros(4_000_000_000_000_000);
    let gone = table.vacuum(std::time::Duration::ZERO, late).await.unwrap();
    assert!(gone.files >= 6, "{gone:?}");
    let found = take(&pictures);
    assert!(found.len() >= 12, "{}", found.len());
    for (step, crashed) in found.iter().enumerate() {
        let again = open(crashed.path()).await;
        assert_eq!(numbers(&again).await, upto(30), "step {step}");
        again.vacuum(std::time::Duration::ZERO, late).await.unwrap();
        keep(&again, rows(30..31)).await.unwrap();
        assert_eq!(numbers(&open(crashed.path()).await).await, upto(31), "step {step}, gone on");
    }
}
