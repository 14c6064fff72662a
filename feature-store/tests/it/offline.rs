//! Offline tables: what is answered does not depend on where rows lie by now.

use std::sync::Arc;

use domain::{
    Coded as _, Column, ErrorCode, Frame, Span, Timestamp, Value, definition::DatasetSpec, ports::Features as _,
};
use feature_store::{Compaction, Lake};
use serde_json::json;
use storage::{LocalBlobs, Meta, Tables, sqlx};
use tempfile::TempDir;

use crate::world::{World, cell, event, events, is_on_spark, spine, t};

fn source() -> domain::SourceName {
    "events".parse().unwrap()
}

async fn answers(world: &World) -> Frame {
    let (keys, at) = spine(&[(Some("a"), 5), (Some("a"), 40), (Some("b"), 41), (None, 3), (Some("c"), 100)]);
    let service = "all".parse().unwrap();
    let offline = world.store.as_of(&service, &keys, &at).await.unwrap();
    assert_eq!(offline, world.store.latest(&service, &keys, &at).await.unwrap(), "online and offline");
    offline
}

async fn fill(world: &World) {
    world.put("events", (0..40).map(|n| event(n, if n % 2 == 0 { "a" } else { "b" }, n, n as f64)).collect()).await;
    world.put("events", vec![event(4, "a", 4, 0.25), event(39, "a", 39, 0.5)]).await;
}

#[tokio::test]
async fn a_source_without_rows_may_get_another_event_time() {
    let world = World::new().await;
    let mut first = events();
    first[1]["timestamp"] = json!("written");
    first[1]["created"] = json!(null);
    world.apply(&first[..2]).await;
    world.apply(&events()).await;
    fill(&world).await;
    let expected = answers(&world).await;
    world.store.compact(&source(), "test").await.unwrap();
    assert_eq!(answers(&world).await, expected);
    assert_eq!(answers(&world.reopen().await).await, expected);
}

#[tokio::test]
pub async fn sealing_compaction_and_vacuum_change_no_answer() {
    let world = World::new().await;
    world.apply(&events()).await;
    fill(&world).await;
    let expected = answers(&world).await;
    let done = world.store.compact(&source(), "test").await.unwrap();
    // A join on Spark has sealed them before.
    let sealed = if is_on_spark() { 0 } else { 42 };
    assert_eq!((done.rows_sealed, done.rows_dropped, done.more), (sealed, 2, false));
    assert_eq!(answers(&world).await, expected);
    let world = world.reopen().await;
    assert_eq!(answers(&world).await, expected);
    let table = world.store.table(&source()).await.unwrap();
    assert_eq!((table.rows, table.unsealed_rows, table.file_rows, table.files), (42, 0, 40, 1));
    world.store.vacuum(&source(), Span::ZERO, "test").await.unwrap();
    assert_eq!(world.store.compact(&source(), "test").await.unwrap(), Compaction::default());
    assert_eq!(answers(&world.reopen().await).await, expected);
}

#[tokio::test]
pub async fn a_row_that_was_dropped_is_still_known_as_a_duplicate_and_can_be_corrected_again() {
    let world = World::new().await;
    world.apply(&events()).await;
    fill(&world).await;
    world.store.compact(&source(), "test").await.unwrap();
    assert_eq!(world.put("events", vec![event(4, "a", 4, 0.25)]).await.duplicates, 1);
    assert_eq!(world.put("events", vec![event(4, "a", 4, 0.75)]).await.corrections, 1);
    let (keys, at) = spine(&[(Some("a"), 4)]);
    let found = world.store.as_of(&"all".parse().unwrap(), &keys, &at).await.unwrap();
    assert_eq!(cell(&found, "last__x", 0), Value::Float(0.75));
    let before = answers(&world).await;
    assert_eq!(world.store.compact(&source(), "test").await.unwrap().rows_dropped, 1);
    assert_eq!(answers(&world).await, before);
}

#[tokio::test]
async fn an_online_store_lost_after_a_compaction_is_filled_again() {
    let world = World::new().await;
    world.apply(&events()).await;
    fill(&world).await;
    let expected = answers(&world).await;
    world.store.compact(&source(), "test").await.unwrap();
    let dir = world.dir.clone();
    drop(world);
    std::fs::remove_dir_all(dir.path().join("kv")).unwrap();
    assert_eq!(answers(&World::open(dir).await).await, expected);
}

#[tokio::test]
async fn upkeep_is_told_in_the_journal_and_bad_wishes_are_refused() {
    let world = World::new().await;
    world.apply(&events()).await;
    let told = world.meta.journal().recent(1).await.unwrap()[0].seq;
    world.store.compact(&source(), "test").await.unwrap();
    assert_eq!(world.meta.journal().recent(1).await.unwrap()[0].seq, told, "nothing was done");
    for n in 0..3 {
        world.put("events", vec![event(n, "a", n, 1.0)]).await;
        world.store.compact(&source(), "ann").await.unwrap();
    }
    let newest = &world.meta.journal().recent(1).await.unwrap()[0];
    assert_eq!((newest.kind.as_str(), newest.actor.as_str()), ("source.compacted", "ann"));
    assert_eq!(newest.subject, "source/events");
    let refused = world.store.vacuum(&source(), "61d".parse().unwrap(), "ann").await.unwrap_err();
    assert_eq!((refused.code(), refused.hint().contains("at most 60d")), (ErrorCode::InvalidArgument, true));
    let refused = world.store.compact(&"event".parse().unwrap(), "ann").await.unwrap_err();
    assert_eq!((refused.code(), refused.hint()), (ErrorCode::NotFound, "did you mean `events`?".to_owned()));
}

#[tokio::test]
pub async fn a_new_column_joins_the_same_table() {
    let world = World::new().await;
    world.apply(&events()).await;
    fill(&world).await;
    world.store.compact(&source(), "test").await.unwrap();
    world.put("events", vec![event(50, "a", 50, 1.0)]).await;
    let mut wider = events();
    wider[1]["columns"].as_array_mut().unwrap().push(json!({"name": "extra", "type": "float"}));
    wider[2]["features"].as_array_mut().unwrap().push(json!({"name": "extra", "default": -1}));
    world.apply(&wider).await;
    let mut row = event(51, "b", 51, 2.0);
    row["extra"] = json!(7.5);
    world.put("events", vec![row]).await;
    for seal in [false, true] {
        if seal {
            world.store.compact(&source(), "test").await.unwrap();
        }
        let (keys, at) = spine(&[(Some("a"), 50), (Some("b"), 51), (Some("c"), 51)]);
        let found = world.store.as_of(&"all".parse().unwrap(), &keys, &at).await.unwrap();
        let extra: Vec<Value> = (0..3).map(|row| cell(&found, "last__extra", row)).collect();
        assert_eq!(extra, [Value::Null, Value::Float(7.5), Value::Float(-1.0)], "sealed: {seal}");
    }
    let world = world.reopen().await;
    assert_eq!(world.store.table(&source()).await.unwrap().rows, 44);
}

fn spec() -> DatasetSpec {
    let label = json!({"source": "events", "key": ["id"], "column": "ok"});
    serde_json::from_value(json!({"service": "all", "spine": "events", "label": label, "holdout": "1us"})).unwrap()
}

#[tokio::test]
pub async fn a_training_set_is_built_again_after_corrections_and_compactions_until_a_vacuum() {
    let world = World::new().await;
    world.apply(&events()).await;
    let labelled = |n: i64, x: f64| {
        let mut row = event(n, "a", n, x);
        row["ok"] = json!(n % 3 == 0);
        row
    };
    world.put("events", (0..20).map(|n| labelled(n, n as f64)).collect()).await;
    world.store.compact(&source(), "test").await.unwrap();
    // In the log when the set is built.
    world.put("events", (20..30).map(|n| labelled(n, n as f64)).chain([labelled(3, 33.0)]).collect()).await;
    let first = world.store.dataset(&spec(), t(100)).await.unwrap();
    world.put("events", (5..25).map(|n| labelled(n, -1.0)).chain((40..45).map(|n| labelled(n, 1.0))).collect()).await;
    let done = world.store.compact(&source(), "test").await.unwrap();
    assert_eq!(done.rows_dropped, 21);
    let changed = world.store.dataset(&spec(), t(100)).await.unwrap();
    assert_ne!(changed.train, first.train);
    let world = world.reopen().await;
    let again = world.store.dataset_again(&spec(), t(100), &first.source_snapshots).await.unwrap();
    assert_eq!(
        (&again.train, &again.holdout, &again.source_snapshots),
        (&first.train, &first.holdout, &first.source_snapshots)
    );
    let later = world.store.dataset_again(&spec(), t(100), &changed.source_snapshots).await.unwrap();
    assert_eq!((later.train, later.holdout), (changed.train, changed.holdout));

    let unknown = [("events".to_owned(), domain::Digest::of(b"never"))].into();
    let refused = world.store.dataset_again(&spec(), t(100), &unknown).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::NotFound);
    // The clock of this world stands in 2024, before the files were made: past all of them.
    world.clock.advance("36500d".parse().unwrap());
    assert!(world.store.vacuum(&source(), Span::ZERO, "test").await.unwrap().files > 0);
    let refused = world.store.dataset_again(&spec(), t(100), &first.source_snapshots).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::NotFound, "{refused}");
}

/// A store as the version before open tables left it: two parts with segments, and rows in their logs.
async fn old_store(dir: &TempDir) -> domain::Digest {
    let meta: Meta = storage::testing::meta_in(dir.path()).await;
    let blobs = Arc::new(LocalBlobs::open(&dir.path().join("blobs")).await.unwrap());
    let tables = Tables::open(meta.clone(), blobs, &dir.path().join("wal")).await.unwrap();
    let wider = |n: i64| n >= 30;
    let mut digests = Vec::new();
    for (number, rows) in [(1_i64, 0..30_i64), (2, 30..42)] {
        let frame = |rows: std::ops::Range<i64>| {
            let id = |n: i64| match n {
                40 => 4,
                41 => 39,
                n => n,
            };
            let at = |n: i64| Some(t(id(n)));
            let x = |n: i64| {
                Some(if n == 40 {
                    0.25
                } else if n == 41 {
                    0.5
                } else {
                    n as f64
                })
            };
            let who = |n: i64| Some(if n == 41 || id(n) % 2 == 0 { "a".into() } else { "b".into() });
            let mut columns: Vec<(Arc<str>, Column)> = vec![
                ("id".into(), Column::Int(rows.clone().map(|n| Some(id(n))).collect())),
                ("who".into(), Column::Text(rows.clone().map(who).collect())),
                ("at".into(), Column::Timestamp(rows.clone().map(at).collect())),
                ("written".into(), Column::Timestamp(vec![None; rows.clone().count()])),
                ("x".into(), Column::Float(rows.clone().map(x).collect())),
                ("ok".into(), Column::Bool(vec![None; rows.clone().count()])),
            ];
            if wider(rows.start) {
                columns.push(("note".into(), Column::Text(vec![None; rows.clone().count()])));
            }
            columns.extend([
                ("_row".into(), Column::Int(rows.clone().map(Some).collect())),
                ("_replaces".into(), Column::Int(rows.clone().map(|n| (n >= 40).then(|| id(n))).collect())),
                ("_ingested_at".into(), Column::Timestamp(rows.map(|_| Some(Timestamp::from_micros(0))).collect())),
            ]);
            Frame::new(columns).unwrap()
        };
        let name = if number == 1 { "source.events".to_owned() } else { format!("source.events.{number}") };
        let fields = frame(rows.clone()).fields();
        let table = tables.table(&name, storage::schema_of(&fields)).await.unwrap();
        let middle = rows.start + 5;
        table.append(storage::to_batch(&frame(rows.start..middle)).unwrap()).await.unwrap();
        table.flush().await.unwrap();
        table.append(storage::to_batch(&frame(middle..rows.end)).unwrap()).await.unwrap();
        digests.push(table.snapshot());
        let own: Vec<_> = fields.into_iter().filter(|field| !field.name.starts_with('_')).collect();
        let statement = "INSERT INTO feature_source_parts (source, part, columns) VALUES ('events', $1, $2)";
        let mut tx = meta.begin().await.unwrap();
        sqlx::query(statement)
            .bind(number)
            .bind(serde_json::to_string(&own).unwrap())
            .execute(tx.conn())
            .await
            .unwrap();
        tx.commit().await.unwrap();
    }
    domain::Digest::of_parts(digests.iter().map(|digest| digest.as_bytes().as_slice()))
}

/// Definitions as that version had stored them, and nothing else.
async fn old_definitions(dir: &Arc<TempDir>) {
    let world = World::open(dir.clone()).await;
    world.apply(&events()).await;
    let mut tx = world.meta.begin().await.unwrap();
    sqlx::query("DELETE FROM tables WHERE name = 'source.events'").execute(tx.conn()).await.unwrap();
    tx.commit().await.unwrap();
    drop(world);
    for folder in ["wal", "kv", "blobs"] {
        std::fs::remove_dir_all(dir.path().join(folder)).unwrap();
    }
}

#[tokio::test]
async fn a_store_of_the_version_before_is_moved_once_with_all_its_rows() {
    let fresh = World::new().await;
    fresh.apply(&events()).await;
    fill(&fresh).await;
    let expected = answers(&fresh).await;

    let dir = Arc::new(TempDir::new().unwrap());
    old_definitions(&dir).await;
    let digest = old_store(&dir).await;
    for round in 0..3 {
        let world = World::open(dir.clone()).await;
        assert_eq!(answers(&world).await, expected, "round {round}");
        let table = world.store.table(&source()).await.unwrap();
        assert_eq!((table.rows, table.unsealed_rows, table.file_rows), (42, 0, 42), "round {round}");
        let set = world.store.dataset(&spec(), t(100)).await.unwrap();
        assert_eq!(set.source_snapshots["events"], digest, "what was built from these rows is known by the same name");
        let left: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM segments WHERE table_name LIKE 'source.%'")
            .fetch_one(world.meta.reader())
            .await
            .unwrap();
        assert_eq!(left, 0, "the segments are garbage now");
    }
    let world = World::open(dir).await;
    world.put("events", vec![event(60, "c", 60, 6.0)]).await;
    let world = world.reopen().await;
    world.store.compact(&source(), "test").await.unwrap();
    let (keys, at) = spine(&[(Some("c"), 61)]);
    let found = world.store.as_of(&"all".parse().unwrap(), &keys, &at).await.unwrap();
    assert_eq!(cell(&found, "last__x", 0), Value::Float(6.0));
    assert_eq!(world.store.table(&source()).await.unwrap().rows, 43);
}

#[tokio::test]
async fn a_move_that_was_cut_short_goes_on_where_the_table_ends() {
    for commits_lost in 0..3 {
        cut_short(commits_lost).await;
    }
}

async fn cut_short(commits_lost: usize) {
    let dir = Arc::new(TempDir::new().unwrap());
    old_definitions(&dir).await;
    old_store(&dir).await;
    // What the move takes away at its end is put back, as if it had been killed just before.
    let logs = crate::world::copy(&dir.path().join("wal"));
    let meta = storage::testing::meta_in(dir.path()).await;
    type Kept = (Vec<(String, String, Option<String>)>, Vec<(String, i64, String, i64, String, i64, String)>);
    let kept: Kept = (
        sqlx::query_as("SELECT name, columns, keeper FROM tables WHERE name LIKE 'source.%'")
            .fetch_all(meta.reader())
            .await
            .unwrap(),
        sqlx::query_as(
            "SELECT table_name, position, digest, row_count, extents, covered, chain FROM segments
             WHERE table_name LIKE 'source.%'",
        )
        .fetch_all(meta.reader())
        .await
        .unwrap(),
    );
    assert_eq!((kept.0.len(), kept.1.len()), (2, 2));
    drop(meta);
    let world = World::open(dir.clone()).await;
    let expected = answers(&world).await;
    drop(world);
    let meta = storage::testing::meta_in(dir.path()).await;
    let mut tx = meta.begin().await.unwrap();
    sqlx::query("DELETE FROM tables WHERE name LIKE 'source.%'").execute(tx.conn()).await.unwrap();
    for (name, columns, keeper) in kept.0 {
        let insert = sqlx::query("INSERT INTO tables (name, columns, keeper) VALUES ($1, $2, $3)");
        insert.bind(name).bind(columns).bind(keeper).execute(tx.conn()).await.unwrap();
    }
    for (table, position, digest, rows, extents, covered, chain) in kept.1 {
        sqlx::query(
            "INSERT INTO segments (table_name, position, digest, row_count, extents, covered, chain)
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(table)
        .bind(position)
        .bind(digest)
        .bind(rows)
        .bind(extents)
        .bind(covered)
        .bind(chain)
        .execute(tx.conn())
        .await
        .unwrap();
    }
    tx.commit().await.unwrap();
    drop(meta);
    std::fs::remove_dir_all(dir.path().join("wal")).unwrap();
    crate::world::copy_into(logs.path(), &dir.path().join("wal"));
    // Or before its last commits: those of the second part, and of the first.
    for version in (0..3).rev().take(commits_lost) {
        let commit = format!("blobs/tables/events/_delta_log/{version:020}.json");
        std::fs::remove_file(dir.path().join(commit)).unwrap();
    }
    let world = World::open(dir).await;
    assert_eq!(answers(&world).await, expected, "{commits_lost} commits lost");
    assert_eq!(world.store.table(&source()).await.unwrap().file_rows, 42, "{commits_lost} commits lost");
}

#[tokio::test]
async fn a_place_that_is_no_folder_is_said_so() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, b"x").unwrap();
    let refused = Lake::local(&file.join("tables")).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::Unavailable);
    assert!(refused.to_string().contains("open tables in"), "{refused}");
}
