//! Promises on Postgres: the suites, and what a file of one process cannot show.

use std::time::{Duration, Instant};

use domain::{Coded as _, ErrorCode};
use futures::future::join_all;

use super::rig::{numbers, numbers_schema};
use crate::{
    LocalBlobs, Meta, Migration, StorageError, Tables,
    testing::{Home, Postgres, event, journal_suite, meta_suite},
};

const COUNTER: &[Migration] =
    &[Migration { name: "counter", sql: "CREATE TABLE a (x BIGINT PRIMARY KEY); INSERT INTO a VALUES (0);" }];

async fn home() -> Home {
    Home::Postgres(Postgres::shared().database().await)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_keeps_what_meta_promises() {
    meta_suite(home).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_keeps_what_the_journal_promises() {
    journal_suite(home).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn servers_that_start_together_migrate_once_and_take_turns() {
    let home = home().await;
    let servers = join_all((0..4).map(|_| async {
        let meta = home.open().await;
        meta.migrate("room", COUNTER).await.unwrap();
        meta
    }))
    .await;
    let writers = servers.iter().flat_map(|server| [server.clone(), server.clone()]).map(|meta| {
        tokio::spawn(async move {
            for n in 0..5 {
                let mut tx = meta.begin().await.unwrap();
                let newest: i64 = sqlx::query_scalar("SELECT MAX(x) FROM a").fetch_one(tx.conn()).await.unwrap();
                sqlx::query("INSERT INTO a VALUES ($1)").bind(newest + 1).execute(tx.conn()).await.unwrap();
                tx.append(event("a", n)).await.unwrap();
                tx.commit().await.unwrap();
            }
        })
    });
    for done in join_all(writers).await {
        done.unwrap();
    }
    let newest: i64 = sqlx::query_scalar("SELECT MAX(x) FROM a").fetch_one(servers[0].reader()).await.unwrap();
    assert_eq!(newest, 40);
    assert_eq!(servers[3].journal().verify(None).await.unwrap().seq, 40);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_server_appends_the_other_hears_of() {
    let home = home().await;
    let (here, there) = (home.open().await, home.open().await);
    let mut watch = here.journal().watch();
    let mut tx = there.begin().await.unwrap();
    tx.append(event("a", 1)).await.unwrap();
    tx.commit().await.unwrap();
    tokio::select! {
        () = here.follow() => unreachable!("it never ends"),
        heard = tokio::time::timeout(Duration::from_secs(5), watch.wait_for(|seq| *seq == 1)) => {
            heard.unwrap().unwrap();
        }
    }
}

#[tokio::test]
async fn a_transaction_in_which_a_statement_failed_cannot_be_committed() {
    let meta = home().await.open().await;
    meta.migrate("room", COUNTER).await.unwrap();
    let mut tx = meta.begin().await.unwrap();
    sqlx::query("INSERT INTO a VALUES (1)").execute(tx.conn()).await.unwrap();
    sqlx::query("INSERT INTO a VALUES (1)").execute(tx.conn()).await.unwrap_err();
    let refused = tx.commit().await.unwrap_err();
    assert!(matches!(refused, StorageError::Undone) && !refused.is_unknown(), "{refused:?}");
    let mut tx = meta.begin().await.unwrap();
    sqlx::query("INSERT INTO a VALUES (1)").execute(tx.conn()).await.unwrap();
    tx.commit().await.unwrap();
}

#[tokio::test]
async fn a_commit_whose_connection_broke_is_unknown() {
    let meta = home().await.open().await;
    meta.migrate("room", COUNTER).await.unwrap();
    let mut tx = meta.begin().await.unwrap();
    let pid: i64 = sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(tx.conn()).await.unwrap();
    sqlx::query("INSERT INTO a VALUES (1)").execute(tx.conn()).await.unwrap();
    sqlx::query("SELECT pg_terminate_backend(CAST($1 AS INT))").bind(pid).execute(meta.reader()).await.unwrap();
    let failed = tx.commit().await.unwrap_err();
    assert!(matches!(failed, StorageError::Unknown { .. }), "{failed:?}");
    assert_eq!(failed.code(), ErrorCode::Unavailable);
    let mut tx = meta.begin().await.unwrap();
    sqlx::query("INSERT INTO a VALUES (1)").execute(tx.conn()).await.unwrap();
    tx.commit().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_goes_away_is_unavailable_and_heals_by_itself() {
    let server = Postgres::start();
    let meta = Meta::connect(&server.database().await).await.unwrap();
    meta.migrate("room", COUNTER).await.unwrap();
    let count = async || {
        let counted = sqlx::query_scalar::<_, i64>("SELECT COUNT(*) FROM a").fetch_one(meta.reader()).await;
        counted.map_err(StorageError::from)
    };
    let mut open = meta.begin().await.unwrap();
    server.down();
    let in_the_middle = sqlx::query("INSERT INTO a VALUES (1)").execute(open.conn()).await.unwrap_err();
    assert_eq!(StorageError::from(in_the_middle).code(), ErrorCode::Unavailable);
    drop(open);
    assert!(!meta.answers(Duration::from_secs(8)).await);
    for _ in 0..3 {
        let asked = Instant::now();
        assert_eq!(count().await.unwrap_err().code(), ErrorCode::Unavailable);
        assert_eq!(meta.begin().await.unwrap_err().code(), ErrorCode::Unavailable);
        assert!(asked.elapsed() < Duration::from_secs(8), "it does not hang");
    }
    server.up();
    assert!(meta.answers(Duration::from_secs(8)).await);
    assert_eq!(count().await.unwrap(), 1);
    let mut tx = meta.begin().await.unwrap();
    sqlx::query("INSERT INTO a VALUES (1)").execute(tx.conn()).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(count().await.unwrap(), 2);
}

#[tokio::test]
async fn what_is_wrong_with_an_address_never_repeats_its_password() {
    let good = Postgres::shared().database().await;
    let password = Postgres::password();
    let port = good.rsplit_once(':').unwrap().1.split_once('/').unwrap().0;
    let bad = [
        format!("postgres://millpond:{password}@127.0.0.1:99999/pond"),
        format!("mysql://millpond:{password}@127.0.0.1/pond"),
        format!("postgres://millpond:{password}@127.0.0.1/pond?passwrod={password}"),
        format!("postgres://millpond:{password}@127.0.0.1/pond?sslmode=perhaps"),
        format!("postgres://millpond:{password}@127.0.0.1:{port}/absent"),
        format!("postgres://nobody:{password}@127.0.0.1:{port}/pond_0"),
        format!("postgres://millpond:{password}x@127.0.0.1:{port}/pond_0"),
        format!("postgres://millpond:{password}@127.0.0.1:1/pond"),
    ];
    for url in bad {
        let refused = Meta::connect(&url).await.map(drop).unwrap_err();
        let said = format!("{refused} {refused:?} {}", refused.hint());
        assert!(!said.contains(password), "{said}");
    }
    let meta = Meta::connect(&good).await.unwrap();
    assert!(!format!("{meta:?}").contains(password));
}

#[tokio::test]
async fn a_table_is_kept_by_the_server_that_opened_it_first() {
    let home = home().await;
    let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let open = async |dir: &std::path::Path| {
        let blobs = std::sync::Arc::new(LocalBlobs::open(&dir.join("blobs")).await.unwrap());
        Tables::open(home.open().await, blobs, &dir.join("wal")).await.unwrap()
    };
    let keeper = open(dir.path()).await;
    let table = keeper.table("numbers", numbers_schema()).await.unwrap();
    table.append(numbers(0, 10)).await.unwrap();
    table.flush().await.unwrap();
    table.append(numbers(10, 15)).await.unwrap();
    let other = open(elsewhere.path()).await;
    let away = other.table("numbers", numbers_schema()).await.unwrap();
    for refused in [away.append(numbers(0, 1)).await, away.flush().await, away.scan(None).await.map(drop)] {
        let refused = refused.unwrap_err();
        assert!(matches!(&refused, StorageError::Elsewhere { table, .. } if table == "numbers"), "{refused:?}");
        assert_eq!(refused.code(), ErrorCode::Conflict);
    }
    let own = other.table("others", numbers_schema()).await.unwrap();
    own.append(numbers(0, 1)).await.unwrap();
    other.flush_all().await;
    drop((table, keeper));
    let again = open(dir.path()).await.table("numbers", numbers_schema()).await.unwrap();
    assert_eq!(again.rows(), 15, "the keeper finds everything after a restart");
}

#[tokio::test]
async fn schemas_of_one_database_know_nothing_of_each_other() {
    let url = Postgres::shared().database().await;
    let opened = futures::future::join_all((0..4).map(|_| Meta::connect_in(&url, Some("one$a")))).await;
    let opened: Vec<Meta> = opened.into_iter().map(|meta| meta.expect("several servers make it once")).collect();
    let other = Meta::connect_in(&url, Some("two")).await.expect("open");
    let mut tx = opened[0].begin().await.expect("begin");
    tx.append(event("a", 1)).await.expect("append");
    // Their turns to write are apart as well.
    let mut beside = other.begin().await.expect("begin beside");
    beside.append(event("b", 1)).await.expect("append");
    beside.commit().await.expect("commit");
    tx.commit().await.expect("commit");
    let subjects = async |meta: &Meta| -> Vec<String> {
        meta.journal().read(0, 9).await.expect("read").into_iter().map(|event| event.subject).collect()
    };
    assert_eq!(subjects(&opened[3]).await, ["a"]);
    assert_eq!(subjects(&other).await, ["b"]);
    assert!(subjects(&Meta::connect(&url).await.expect("open")).await.is_empty());
    for bad in ["", "A", "a b", "a;drop", "a-b", "\"a\"", &"x".repeat(64)] {
        assert!(matches!(Meta::connect_in(&url, Some(bad)).await, Err(StorageError::BadSchema(_))), "{bad}");
    }
}
