use std::path::Path;

use domain::{Coded as _, ErrorCode};

use crate::{Meta, Migration, StorageError};

const ONE: Migration =
    Migration { name: "one", sql: "CREATE TABLE a (x BIGINT PRIMARY KEY); INSERT INTO a VALUES (1);" };
const TWO: Migration = Migration { name: "two", sql: "INSERT INTO a VALUES (2)" };

async fn open(dir: &Path) -> Meta {
    Meta::open(&dir.join("deep/meta.db")).await.unwrap()
}

async fn rows(meta: &Meta) -> Vec<i64> {
    sqlx::query_scalar("SELECT x FROM a ORDER BY x").fetch_all(meta.reader()).await.unwrap()
}

#[tokio::test]
async fn each_migration_runs_once_and_in_order() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path()).await.migrate("room", &[ONE]).await.unwrap();
    let meta = open(dir.path()).await;
    meta.migrate("room", &[ONE, TWO]).await.unwrap();
    meta.migrate("room", &[ONE, TWO]).await.unwrap();
    assert_eq!(rows(&meta).await, [1, 2]);
}

#[tokio::test]
async fn data_of_a_newer_program_is_refused_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let meta = open(dir.path()).await;
    meta.migrate("room", &[ONE, TWO]).await.unwrap();
    let refused = meta.migrate("room", &[ONE]).await.unwrap_err();
    assert!(matches!(&refused, StorageError::NewerData { room, found: 2, known: 1 } if room == "room"));
    assert_eq!(refused.code(), ErrorCode::Conflict);
    assert!(refused.hint().contains("newer millpond"));
}

#[tokio::test]
async fn a_migration_that_was_edited_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let meta = open(dir.path()).await;
    meta.migrate("room", &[ONE]).await.unwrap();
    let edited = Migration { sql: "CREATE TABLE a (x TEXT)", ..ONE };
    let refused = meta.migrate("room", &[edited, TWO]).await;
    assert!(matches!(refused, Err(StorageError::ChangedMigration { position: 0, .. })), "{refused:?}");
    assert_eq!(rows(&meta).await, [1]);
}

#[tokio::test]
async fn a_failing_migration_leaves_no_trace_of_its_room() {
    let dir = tempfile::tempdir().unwrap();
    let meta = open(dir.path()).await;
    let broken = Migration { name: "broken", sql: "INSERT INTO a VALUES (3); INSERT INTO nowhere VALUES (1)" };
    assert!(meta.migrate("room", &[ONE, broken]).await.is_err());
    meta.migrate("room", &[ONE, TWO]).await.unwrap();
    assert_eq!(rows(&meta).await, [1, 2]);
}

#[tokio::test]
async fn a_dropped_transaction_is_undone_and_lets_the_next_writer_in() {
    let dir = tempfile::tempdir().unwrap();
    let meta = open(dir.path()).await;
    meta.migrate("room", &[ONE]).await.unwrap();
    for _ in 0..3 {
        let mut tx = meta.begin().await.unwrap();
        sqlx::query("INSERT INTO a VALUES (9)").execute(tx.conn()).await.unwrap();
        drop(tx);
    }
    let mut tx = meta.begin().await.unwrap();
    sqlx::query("INSERT INTO a VALUES (3)").execute(tx.conn()).await.unwrap();
    assert_eq!(rows(&meta).await, [1], "readers see only what is committed");
    tx.commit().await.unwrap();
    assert_eq!(rows(&meta).await, [1, 3]);
}

#[tokio::test]
async fn a_waiting_writer_that_gives_up_does_not_keep_the_turn() {
    let dir = tempfile::tempdir().unwrap();
    let meta = open(dir.path()).await;
    let held = meta.begin().await.unwrap();
    let mut waiting = Box::pin(meta.begin());
    assert!(futures::poll!(&mut waiting).is_pending());
    drop(waiting);
    drop(held);
    meta.begin().await.unwrap().commit().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_writers_take_turns_and_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let meta = open(dir.path()).await;
    meta.migrate("room", &[ONE]).await.unwrap();
    let writers = (0..20).map(|_| {
        let meta = meta.clone();
        tokio::spawn(async move {
            let mut tx = meta.begin().await.unwrap();
            let newest: i64 = sqlx::query_scalar("SELECT MAX(x) FROM a").fetch_one(tx.conn()).await.unwrap();
            sqlx::query("INSERT INTO a VALUES ($1)").bind(newest + 1).execute(tx.conn()).await.unwrap();
            tx.commit().await.unwrap();
        })
    });
    for done in futures::future::join_all(writers).await {
        done.unwrap();
    }
    assert_eq!(rows(&meta).await, (1..=21).collect::<Vec<_>>());
}

#[tokio::test]
async fn the_reader_cannot_write_and_a_repeated_key_already_exists() {
    let dir = tempfile::tempdir().unwrap();
    let meta = open(dir.path()).await;
    meta.migrate("room", &[ONE]).await.unwrap();
    assert!(sqlx::query("INSERT INTO a VALUES (5)").execute(meta.reader()).await.is_err());
    let mut tx = meta.begin().await.unwrap();
    let twice = sqlx::query("INSERT INTO a VALUES (1)").execute(tx.conn()).await.unwrap_err();
    assert_eq!(StorageError::from(twice).code(), ErrorCode::AlreadyExists);
}

#[tokio::test]
async fn a_constraint_found_broken_at_commit_is_a_certain_failure() {
    let dir = tempfile::tempdir().unwrap();
    let meta = open(dir.path()).await;
    let sql = "CREATE TABLE p (id BIGINT PRIMARY KEY);
               CREATE TABLE c (p BIGINT REFERENCES p (id) DEFERRABLE INITIALLY DEFERRED)";
    meta.migrate("room", &[Migration { name: "tree", sql }]).await.unwrap();
    let mut tx = meta.begin().await.unwrap();
    sqlx::query("INSERT INTO c VALUES (1)").execute(tx.conn()).await.unwrap();
    let failed = tx.commit().await.unwrap_err();
    assert!(!failed.is_unknown(), "{failed:?}");
    let orphans: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM c").fetch_one(meta.reader()).await.unwrap();
    assert_eq!(orphans, 0);
    meta.begin().await.unwrap().commit().await.unwrap();
}
