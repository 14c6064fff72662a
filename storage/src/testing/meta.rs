//! What the relational database keeps to, whichever it is.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{LazyLock, Mutex, PoisonError},
};

use domain::{Coded as _, ErrorCode};

use super::Postgres;
use crate::{Meta, Migration, StorageError};

const ONE: Migration =
    Migration { name: "one", sql: "CREATE TABLE a (x BIGINT PRIMARY KEY); INSERT INTO a VALUES (1);" };
const TWO: Migration = Migration { name: "two", sql: "INSERT INTO a VALUES (2)" };
const KINDS: Migration = Migration {
    name: "kinds",
    sql: "CREATE TABLE kinds (id INTEGER PRIMARY KEY, number BIGINT, real DOUBLE PRECISION, text TEXT, bytes BLOB)",
};

/// A database that can be opened again and again.
#[derive(Debug, Clone)]
pub enum Home {
    File(PathBuf),
    /// The address of a Postgres database.
    Postgres(String),
}

impl Home {
    /// # Panics
    /// Where it does not open.
    pub async fn open(&self) -> Meta {
        match self {
            Self::File(path) => Meta::open(path).await,
            Self::Postgres(url) => Meta::connect(url).await,
        }
        .expect("open")
    }
}

/// The database of a test's directory: the same one whenever it is asked for. A SQLite file, or, with
/// `MILLPOND_TEST_POSTGRES` set, a database of a Postgres, so that every room's tests can be run on both.
///
/// # Panics
/// Where it does not open.
pub async fn meta_in(dir: &Path) -> Meta {
    static DATABASES: LazyLock<Mutex<HashMap<PathBuf, String>>> = LazyLock::new(Mutex::default);
    if std::env::var_os("MILLPOND_TEST_POSTGRES").is_none() {
        return Home::File(dir.join("meta.db")).open().await;
    }
    let known = DATABASES.lock().unwrap_or_else(PoisonError::into_inner).get(dir).cloned();
    let url = match known {
        Some(url) => url,
        None => {
            let url = Postgres::shared().database().await;
            DATABASES.lock().unwrap_or_else(PoisonError::into_inner).insert(dir.to_owned(), url.clone());
            url
        }
    };
    Home::Postgres(url).open().await
}

/// What every [`Meta`] keeps to; `fresh` gives an empty one.
///
/// # Panics
/// Where the implementation breaks a promise.
pub async fn meta_suite(fresh: impl AsyncFn() -> Home) {
    each_migration_runs_once_and_in_order(&fresh().await).await;
    data_of_a_newer_program_is_refused_with_what_to_do(&fresh().await).await;
    a_migration_that_was_edited_is_refused(&fresh().await).await;
    a_migration_that_fails_leaves_nothing(&fresh().await).await;
    a_dropped_transaction_is_undone_and_lets_the_next_writer_in(&fresh().await).await;
    a_waiting_writer_that_gives_up_does_not_keep_the_turn(&fresh().await).await;
    concurrent_writers_take_turns_and_lose_nothing(&fresh().await).await;
    the_reader_cannot_write_and_a_repeated_key_already_exists(&fresh().await).await;
    a_constraint_found_broken_at_commit_is_a_certain_failure(&fresh().await).await;
    values_come_back_as_they_went_in(&fresh().await).await;
    absent_values_keep_their_types(&fresh().await).await;
    text_with_nul_is_the_callers_mistake(&fresh().await).await;
    text_sorts_byte_by_byte(&fresh().await).await;
    counts_sums_and_truths_are_whole_numbers(&fresh().await).await;
    a_database_keeps_its_identity_and_shares_it_with_none(&fresh().await, &fresh().await).await;
}

async fn a_database_keeps_its_identity_and_shares_it_with_none(home: &Home, other: &Home) {
    let first = home.open().await.identity().await.expect("identity");
    let again = home.open().await;
    assert_eq!(again.identity().await.expect("identity"), first);
    assert_ne!(other.open().await.identity().await.expect("identity"), first);
}

async fn rows(meta: &Meta) -> Vec<i64> {
    sqlx::query_scalar("SELECT x FROM a ORDER BY x").fetch_all(meta.reader()).await.expect("rows")
}

async fn opened(home: &Home, steps: &[Migration]) -> Meta {
    let meta = home.open().await;
    meta.migrate("room", steps).await.expect("migrate");
    meta
}

async fn each_migration_runs_once_and_in_order(home: &Home) {
    opened(home, &[ONE]).await;
    let meta = opened(home, &[ONE, TWO]).await;
    meta.migrate("room", &[ONE, TWO]).await.expect("migrate");
    assert_eq!(rows(&meta).await, [1, 2]);
}

async fn data_of_a_newer_program_is_refused_with_what_to_do(home: &Home) {
    let meta = opened(home, &[ONE, TWO]).await;
    let refused = meta.migrate("room", &[ONE]).await.expect_err("refused");
    assert!(matches!(&refused, StorageError::NewerData { room, found: 2, known: 1 } if room == "room"));
    assert_eq!(refused.code(), ErrorCode::Conflict);
    assert!(refused.hint().contains("newer millpond"));
}

async fn a_migration_that_was_edited_is_refused(home: &Home) {
    let meta = opened(home, &[ONE]).await;
    let edited = Migration { sql: "CREATE TABLE a (x TEXT)", ..ONE };
    let refused = meta.migrate("room", &[edited, TWO]).await;
    assert!(matches!(refused, Err(StorageError::ChangedMigration { position: 0, .. })), "{refused:?}");
    assert_eq!(rows(&meta).await, [1]);
}

async fn a_migration_that_fails_leaves_nothing(home: &Home) {
    let meta = home.open().await;
    let broken = Migration { name: "two", sql: "INSERT INTO a VALUES (2); INSERT INTO absent VALUES (1)" };
    assert!(meta.migrate("room", &[ONE, broken]).await.is_err());
    meta.migrate("room", &[ONE, TWO]).await.expect("migrate");
    assert_eq!(rows(&meta).await, [1, 2]);
}

async fn a_dropped_transaction_is_undone_and_lets_the_next_writer_in(home: &Home) {
    let meta = opened(home, &[ONE]).await;
    for _ in 0..3 {
        let mut tx = meta.begin().await.expect("begin");
        sqlx::query("INSERT INTO a VALUES (9)").execute(tx.conn()).await.expect("insert");
        drop(tx);
    }
    let mut tx = meta.begin().await.expect("begin");
    sqlx::query("INSERT INTO a VALUES (3)").execute(tx.conn()).await.expect("insert");
    assert_eq!(rows(&meta).await, [1], "readers see only what is committed");
    tx.commit().await.expect("commit");
    assert_eq!(rows(&meta).await, [1, 3]);
}

async fn a_waiting_writer_that_gives_up_does_not_keep_the_turn(home: &Home) {
    let meta = home.open().await;
    let held = meta.begin().await.expect("begin");
    let mut waiting = Box::pin(meta.begin());
    assert!(futures::poll!(&mut waiting).is_pending());
    drop(waiting);
    drop(held);
    meta.begin().await.expect("begin").commit().await.expect("commit");
}

async fn concurrent_writers_take_turns_and_lose_nothing(home: &Home) {
    let meta = opened(home, &[ONE]).await;
    let writers = (0..20).map(|_| {
        let meta = meta.clone();
        tokio::spawn(async move {
            let mut tx = meta.begin().await.expect("begin");
            let newest: i64 = sqlx::query_scalar("SELECT MAX(x) FROM a").fetch_one(tx.conn()).await.expect("max");
            sqlx::query("INSERT INTO a VALUES ($1)").bind(newest + 1).execute(tx.conn()).await.expect("insert");
            tx.commit().await.expect("commit");
        })
    });
    for done in futures::future::join_all(writers).await {
        done.expect("writer");
    }
    assert_eq!(rows(&meta).await, (1..=21).collect::<Vec<_>>());
}

async fn the_reader_cannot_write_and_a_repeated_key_already_exists(home: &Home) {
    let meta = opened(home, &[ONE]).await;
    assert!(sqlx::query("INSERT INTO a VALUES (5)").execute(meta.reader()).await.is_err());
    let mut tx = meta.begin().await.expect("begin");
    let twice = sqlx::query("INSERT INTO a VALUES (1)").execute(tx.conn()).await.expect_err("refused");
    assert_eq!(StorageError::from(twice).code(), ErrorCode::AlreadyExists);
}

async fn a_constraint_found_broken_at_commit_is_a_certain_failure(home: &Home) {
    let sql = "CREATE TABLE p (id BIGINT PRIMARY KEY);
               CREATE TABLE c (p BIGINT REFERENCES p (id) DEFERRABLE INITIALLY DEFERRED)";
    let meta = opened(home, &[Migration { name: "tree", sql }]).await;
    let mut tx = meta.begin().await.expect("begin");
    sqlx::query("INSERT INTO c VALUES (1)").execute(tx.conn()).await.expect("insert");
    let failed = tx.commit().await.expect_err("refused");
    assert!(!failed.is_unknown(), "{failed:?}");
    let orphans: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM c").fetch_one(meta.reader()).await.expect("count");
    assert_eq!(orphans, 0);
    meta.begin().await.expect("begin").commit().await.expect("commit");
}

type Kinds = (Option<i64>, Option<f64>, Option<String>, Option<Vec<u8>>);

/// Writes the values and reads them back.
async fn there_and_back(meta: &Meta, id: i64, values: &Kinds) -> Kinds {
    let mut tx = meta.begin().await.expect("begin");
    sqlx::query("INSERT INTO kinds (id, number, real, text, bytes) VALUES ($1, $2, $3, $4, $5)")
        .bind(id)
        .bind(values.0)
        .bind(values.1)
        .bind(&values.2)
        .bind(&values.3)
        .execute(tx.conn())
        .await
        .expect("insert");
    tx.commit().await.expect("commit");
    sqlx::query_as("SELECT number, real, text, bytes FROM kinds WHERE id = $1")
        .bind(id)
        .fetch_one(meta.reader())
        .await
        .expect("a row")
}

async fn values_come_back_as_they_went_in(home: &Home) {
    let meta = opened(home, &[KINDS]).await;
    let text = |text: &str| Some(text.to_owned());
    let rows: [Kinds; 5] = [
        (Some(i64::MAX), Some(f64::MAX), text("π ≠ 3 \u{1f986}"), Some(vec![0, 255])),
        (Some(i64::MIN), Some(f64::INFINITY), text(""), Some(vec![])),
        (Some(0), Some(f64::NEG_INFINITY), text("'; DROP TABLE kinds; --"), None),
        (None, Some(0.1 + 0.2), None, None),
        (None, None, text("\u{1}\u{7f}\r\n"), None),
    ];
    for (id, row) in (0..).zip(&rows) {
        assert_eq!(there_and_back(&meta, id, row).await, *row);
    }
    let nan = there_and_back(&meta, 9, &(None, Some(f64::NAN), None, None)).await;
    assert_eq!(nan.1, None, "not a number is no value");
    let truth: (bool, bool) =
        sqlx::query_as("SELECT $1 = 1, $2 = 1").bind(true).bind(false).fetch_one(meta.reader()).await.expect("truths");
    assert_eq!(truth, (true, false));
    let null = sqlx::query_scalar::<_, i64>("SELECT number FROM kinds WHERE id = 9").fetch_one(meta.reader()).await;
    assert!(null.is_err(), "no value is not zero");
}

/// A statement is planned at its first use; absent values there must not spoil the later ones.
async fn absent_values_keep_their_types(home: &Home) {
    let meta = opened(home, &[KINDS]).await;
    for (id, row) in [(1, (None, None, None, None)), (2, (Some(7), Some(0.5), Some("x".into()), Some(vec![1])))] {
        assert_eq!(there_and_back(&meta, id, &row).await, row);
    }
    for (wanted, found) in [(None, vec![1, 2]), (Some("x"), vec![2]), (Some("y"), vec![])] {
        let ids: Vec<i64> =
            sqlx::query_scalar("SELECT id FROM kinds WHERE ($1 IS NULL OR text = $1) ORDER BY id LIMIT $2")
                .bind(wanted)
                .bind(i64::MAX)
                .fetch_all(meta.reader())
                .await
                .expect("ids");
        assert_eq!(ids, found);
    }
}

async fn text_with_nul_is_the_callers_mistake(home: &Home) {
    let meta = opened(home, &[KINDS]).await;
    let mut tx = meta.begin().await.expect("begin");
    let insert = "INSERT INTO kinds (id, text) VALUES ($1, $2)";
    let refused = sqlx::query(insert).bind(1_i64).bind("a\0b").execute(tx.conn()).await.expect_err("refused");
    let refused = StorageError::from(refused);
    assert_eq!(refused.code(), ErrorCode::InvalidArgument);
    assert!(refused.to_string().contains("NUL"), "{refused}");
    // It was never sent, so the transaction is none the worse.
    sqlx::query(insert).bind(1_i64).bind("ab").execute(tx.conn()).await.expect("insert");
    tx.commit().await.expect("commit");
}

async fn text_sorts_byte_by_byte(home: &Home) {
    let meta = opened(home, &[KINDS]).await;
    let mut words = ["b", "a", "B", "é", "Z", "a b", "a_b", "A", "ab", "-", "10", "9", ""];
    let mut tx = meta.begin().await.expect("begin");
    for (id, word) in (0_i64..).zip(words) {
        let insert = "INSERT INTO kinds (id, text, number) VALUES ($1, $2, $1)";
        sqlx::query(insert).bind(id).bind(word).execute(tx.conn()).await.expect("insert");
    }
    tx.commit().await.expect("commit");
    words.sort_unstable();
    let all: Vec<String> =
        sqlx::query_scalar("SELECT text FROM kinds ORDER BY text").fetch_all(meta.reader()).await.expect("words");
    assert_eq!(all, words);
    let after: Vec<String> =
        sqlx::query_scalar("SELECT text FROM kinds WHERE (text, id) > ($1, $2) ORDER BY text, id LIMIT $3")
            .bind("a")
            .bind(1_i64)
            .bind(3_i64)
            .fetch_all(meta.reader())
            .await
            .expect("words");
    assert_eq!(after, ["a b", "a_b", "ab"]);
}

async fn counts_sums_and_truths_are_whole_numbers(home: &Home) {
    let meta = opened(home, &[KINDS]).await;
    for (id, number) in [(1, Some(2)), (2, Some(3)), (3, None)] {
        there_and_back(&meta, id, &(number, Some(0.5), None, None)).await;
    }
    let counts: (i64, i64, i64, i64, f64, bool) = sqlx::query_as(
        "SELECT COUNT(*), COUNT(number), COALESCE(MAX(number), 0), CAST(COALESCE(SUM(number), 0) AS BIGINT),
         COALESCE(SUM(real), 0), EXISTS (SELECT 1 FROM kinds WHERE number = 3) FROM kinds",
    )
    .fetch_one(meta.reader())
    .await
    .expect("counts");
    assert_eq!(counts, (3, 2, 3, 5, 1.5, true));
    let none: (i64, f64) = sqlx::query_as(
        "SELECT CAST(COALESCE(SUM(number), 0) AS BIGINT), COALESCE(SUM(real), 0) FROM kinds WHERE id > 9",
    )
    .fetch_one(meta.reader())
    .await
    .expect("counts");
    assert_eq!(none, (0, 0.0));
}
