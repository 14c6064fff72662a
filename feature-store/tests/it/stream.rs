//! Rows from Redis streams, through crashes of either side: each is in both stores once.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use domain::{EventKind, Value, ports::Features as _};
use feature_store::{Aside, IngestReport, Reason, StreamPhase, StreamSettings, StreamState, Stretch};
use runtime::House;
use serde_json::{Value as Json, json};
use storage::testing::{Faults, FaultyKv, Keeps, Redis, When};
use tempfile::TempDir;

use crate::world::{World, cell, event, events, spine, t};

const PATIENCE: Duration = Duration::from_secs(30);

fn source() -> domain::SourceName {
    "events".parse().unwrap()
}

/// `events`, read from the stream of this key.
fn streamed(key: &str) -> Vec<Json> {
    let mut definitions = events();
    definitions[1]["stream"] = json!({"redis": "main", "key": key, "payload": "row"});
    definitions
}

fn add(redis: &Redis, key: &str, row: &str) -> String {
    redis.ask(&["XADD", key, "*", "row", row])
}

/// Readers that run until they are stopped.
struct Readers {
    house: House,
    told: Arc<Mutex<IngestReport>>,
}

impl Readers {
    fn start(world: &World, redis: &Redis) -> Self {
        let told = Arc::new(Mutex::new(IngestReport::default()));
        let sum = told.clone();
        let settings = StreamSettings {
            batch: 7,
            block: Duration::from_millis(20),
            claim_after: Duration::from_millis(50),
            retry: (Duration::from_millis(5), Duration::from_millis(50)),
            ..StreamSettings::new(
                BTreeMap::from([("main".to_owned(), redis.url())]),
                Arc::new(move |_, report| sum.lock().unwrap().add(report.clone())),
            )
        };
        let house = House::new();
        world.store.read_streams(&house, settings);
        Self { house, told }
    }

    async fn stop(self) {
        assert_eq!(self.house.shutdown(PATIENCE).await, [] as [&str; 0]);
    }
}

async fn eventually(world: &World, what: &str, holds: impl Fn(&StreamState) -> bool) -> StreamState {
    let begin = std::time::Instant::now();
    loop {
        let state = world.store.stream(&source()).unwrap();
        if holds(&state) {
            return state;
        }
        assert!(begin.elapsed() < PATIENCE, "{what} did not come about: {state:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn drained(state: &StreamState) -> bool {
    state.phase == StreamPhase::Reading && (state.lag, state.pending) == (Some(0), 0)
}

/// Rows `1..=last` are in history once, and online.
async fn holds(world: &World, last: i64) {
    let columns = ["id".to_owned()];
    let rows = world.store.rows(&source(), &columns, Stretch::default()).await.unwrap();
    let ids: Vec<Value> = (0..rows.rows()).map(|row| rows.require("id").unwrap().get(row)).collect();
    assert_eq!(ids, (1..=last).map(Value::Int).collect::<Vec<_>>());
    assert_eq!(world.store.stats(&source()).unwrap().rows, u64::try_from(last).unwrap(), "none was stored twice");
    let questions: Vec<(Option<&str>, i64)> = (1..=last).map(|at| (Some("a"), at)).collect();
    let (keys, at) = spine(&questions);
    let service = "all".parse().unwrap();
    let online = world.store.latest(&service, &keys, &at).await.unwrap();
    for (row, id) in (1..=last).enumerate() {
        assert_eq!(cell(&online, "last__id", row), Value::Int(id));
        assert_eq!(cell(&online, "win__count", row), Value::Int(id.min(25)));
    }
    assert_eq!(online, world.store.as_of(&service, &keys, &at).await.unwrap());
}

fn fill(redis: &Redis, key: &str, ids: std::ops::RangeInclusive<i64>) {
    for id in ids {
        add(redis, key, &event(id, "a", id, 1.0).to_string());
    }
}

#[tokio::test]
async fn entries_are_taken_bad_ones_are_set_aside_and_a_pause_leaves_the_rest_where_it_is() {
    let (world, redis) = (World::new().await, Redis::shared());
    fill(redis, "taken", 1..=20);
    let poison = add(redis, "taken", "{\"id\": ");
    redis.ask::<String>(&["XADD", "taken", "*", "other", "field"]);
    add(redis, "taken", &json!({"id": "x", "at": t(1)}).to_string());
    fill(redis, "taken", 21..=25);
    let readers = Readers::start(&world, redis);
    world.apply(&streamed("taken")).await;
    let state = eventually(&world, "the stream read", |state| drained(state) && state.acknowledged == 28).await;
    assert_eq!((state.group.as_str(), state.redis.as_str(), state.error.as_deref()), ("millpond", "main", None));
    holds(&world, 25).await;
    let aside = world.store.quarantined(&source(), 10).await.unwrap();
    let why: Vec<Reason> = aside.iter().map(|row| row.error.code).collect();
    assert_eq!(why, [Reason::WrongType, Reason::Malformed, Reason::Malformed]);
    assert_eq!(aside[2].origin, Some(format!("main/taken/{poison}")));
    assert!(aside[2].raw.contains("id"), "{}", aside[2].raw);
    let told = readers.told.lock().unwrap().clone();
    assert_eq!((told.accepted, told.quarantined), (25, 3));

    world.store.pause_stream(&source(), "ann").await.unwrap();
    eventually(&world, "the pause", |state| state.phase == StreamPhase::Paused).await;
    fill(redis, "taken", 26..=30);
    readers.stop().await;
    // It stays paused after a restart.
    let world = world.reopen().await;
    let readers = Readers::start(&world, redis);
    eventually(&world, "the pause", |state| state.phase == StreamPhase::Paused).await;
    holds(&world, 25).await;
    world.store.resume_stream(&source(), "ann").await.unwrap();
    eventually(&world, "the rest read", |state| drained(state) && state.acknowledged == 5).await;
    holds(&world, 30).await;
    readers.stop().await;
    let kinds: Vec<EventKind> =
        world.meta.journal().read(0, 100).await.unwrap().into_iter().map(|event| event.kind).collect();
    assert!(kinds.ends_with(&[EventKind::StreamPaused, EventKind::StreamResumed]), "{kinds:?}");
}

#[tokio::test]
async fn entries_that_were_stored_or_set_aside_and_not_acknowledged_are_not_taken_twice() {
    let (world, redis) = (World::new().await, Redis::shared());
    world.apply(&streamed("again")).await;
    fill(redis, "again", 1..=12);
    add(redis, "again", "no row");
    // As before a crash between storing and acknowledging: the rows are stored, the entries pending with us.
    let us = world.meta.identity().await.unwrap();
    redis.ask::<String>(&["XGROUP", "CREATE", "again", "millpond", "0"]);
    redis.run(&["XREADGROUP", "GROUP", "millpond", &us, "COUNT", "8", "STREAMS", "again", ">"]);
    world.put("events", (1..=8).map(|id| event(id, "a", id, 1.0)).collect()).await;
    // And others with a consumer that will not come back.
    redis.run(&["XREADGROUP", "GROUP", "millpond", "dead", "STREAMS", "again", ">"]);
    let readers = Readers::start(&world, redis);
    let state = eventually(&world, "both taken over", |state| drained(state) && state.acknowledged == 13).await;
    assert_eq!(state.claimed, 5);
    holds(&world, 12).await;
    readers.stop().await;
    let aside = world.store.quarantined(&source(), 10).await.unwrap();
    assert_eq!(aside.iter().map(|row| (row.state, row.times)).collect::<Vec<_>>(), [(Aside::Waiting, 1)]);
    // The whole stream once more, through another group.
    let mut definitions = streamed("again");
    definitions[1]["stream"]["group"] = json!("second");
    world.apply(&definitions).await;
    let readers = Readers::start(&world, redis);
    eventually(&world, "all read again", |state| drained(state) && state.acknowledged == 13).await;
    holds(&world, 12).await;
    readers.stop().await;
    let aside = world.store.quarantined(&source(), 10).await.unwrap();
    assert_eq!(aside.iter().map(|row| (row.state, row.times)).collect::<Vec<_>>(), [(Aside::Waiting, 2)]);
}

#[tokio::test]
async fn whatever_call_of_the_online_store_fails_every_entry_is_taken_once() {
    let redis = Redis::shared();
    let mut failed = 0;
    for n in 4..13 {
        let key = format!("faulty-{n}");
        let dir = Arc::new(TempDir::new().unwrap());
        let world = World::open(dir.clone()).await;
        world.apply(&streamed(&key)).await;
        drop(world);
        fill(redis, &key, 1..=20);
        let when = if n % 2 == 0 { When::Before } else { When::After };
        let faults = Faults::nth(n, when);
        let world = World::open_with(dir, |kv| Arc::new(FaultyKv::new(kv, faults))).await;
        let readers = Readers::start(&world, redis);
        eventually(&world, "all read", drained).await;
        let told = readers.told.lock().unwrap().clone();
        failed += u32::from(told.accepted < 20 || told.duplicates > 0);
        holds(&world, 20).await;
        readers.stop().await;
    }
    assert!(failed > 0, "some fault was met");
}

#[tokio::test]
async fn a_redis_that_is_killed_and_comes_back_is_read_on_and_one_that_lost_its_stream_too() {
    let (world, redis) = (World::new().await, Redis::start(Keeps::Everything));
    world.apply(&streamed("killed")).await;
    let readers = Readers::start(&world, &redis);
    fill(&redis, "killed", 1..=10);
    eventually(&world, "the first read", |state| drained(state) && state.acknowledged == 10).await;
    redis.kill();
    let state = eventually(&world, "the failure", |state| state.phase == StreamPhase::Failing).await;
    assert!(!state.error.unwrap().contains(Redis::password()));
    redis.up();
    fill(&redis, "killed", 11..=20);
    eventually(&world, "the rest read", |state| drained(state) && state.acknowledged == 20).await;
    holds(&world, 20).await;
    redis.ask::<String>(&["FLUSHALL"]);
    fill(&redis, "killed", 15..=30);
    eventually(&world, "the new stream read", |state| drained(state) && state.acknowledged == 36).await;
    holds(&world, 30).await;
    readers.stop().await;
}

#[tokio::test]
async fn entries_that_say_the_same_are_two_rows_where_their_ids_are_part_of_them() {
    let (world, redis) = (World::new().await, Redis::shared());
    let definitions = [json!({"kind": "Source", "name": "events", "timestamp": "at", "row_id": ["entry"],
        "columns": [{"name": "entry", "type": "text"}, {"name": "at", "type": "timestamp"}, {"name": "x", "type": "float"}],
        "stream": {"redis": "main", "key": "same", "entry_id": "entry"}})];
    world.apply(&definitions).await;
    for _ in 0..3 {
        redis.ask::<String>(&["XADD", "same", "*", "at", "2024-01-01T00:00:00Z", "x", "1.5"]);
    }
    let readers = Readers::start(&world, redis);
    eventually(&world, "all read", |state| drained(state) && state.acknowledged == 3).await;
    assert_eq!(world.store.stats(&source()).unwrap().rows, 3);
    redis.ask::<i64>(&["XGROUP", "DESTROY", "same", "millpond"]);
    eventually(&world, "all read again", |state| drained(state) && state.acknowledged == 6).await;
    assert_eq!(world.store.stats(&source()).unwrap().rows, 3);
    readers.stop().await;
}

#[tokio::test]
async fn a_stream_of_an_unknown_connection_or_column_says_so() {
    let (world, redis) = (World::new().await, Redis::shared());
    let mut definitions = streamed("unknown");
    definitions[1]["stream"]["entry_id"] = json!("notes");
    let error = world.store.plan(&crate::world::parsed(&definitions)).await.unwrap_err();
    assert_eq!(error.to_string(), "Source `events`: stream.entry_id: unknown column `notes`");
    definitions[1]["stream"] = json!({"redis": "spare", "key": "unknown"});
    world.apply(&definitions).await;
    let readers = Readers::start(&world, redis);
    let state = eventually(&world, "the failure", |state| state.phase == StreamPhase::Failing).await;
    assert_eq!(state.error.as_deref(), Some("the configuration names no Redis `spare`: set ingestion.redis"));
    // A definition without a stream ends its reader.
    world.apply(&events()).await;
    assert!(world.store.stream(&source()).is_err());
    readers.stop().await;
}
