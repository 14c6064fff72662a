//! Large bodies come to the same end as small ones, whatever befalls them on the way.

use std::sync::Arc;

use bytes::Bytes;
use domain::{Coded as _, Column, ErrorCode, Frame, Timestamp, ports::Features as _};
use feature_store::{BulkLimits, Format, IngestReport, Stretch};
use proptest::prelude::*;
use serde_json::{Value as Json, json};
use storage::testing::{Faults, FaultyKv, When};
use tempfile::TempDir;

use crate::world::{SMALL, World, copy_into, spine, t};

/// No body is large.
const NEVER: BulkLimits = BulkLimits { rows_min: u64::MAX, ..SMALL };

/// A row of `readings`; identity is `id` and `at`.
#[derive(Debug, Clone)]
struct Reading {
    id: Option<i64>,
    who: Option<&'static str>,
    at: Option<i64>,
    written: Option<i64>,
    x: Option<f64>,
    n: Option<i64>,
}

fn definitions() -> Vec<Json> {
    vec![
        json!({"kind": "Entity", "name": "who", "key": "who"}),
        json!({"kind": "Source", "name": "readings", "timestamp": "at", "created": "written", "row_id": ["id"], "columns": [
            {"name": "id", "type": "int", "required": true}, {"name": "who", "type": "text"},
            {"name": "at", "type": "timestamp"}, {"name": "written", "type": "timestamp"},
            {"name": "x", "type": "float"}, {"name": "n", "type": "float"}, {"name": "never", "type": "bool"},
        ]}),
        json!({"kind": "FeatureView", "name": "last", "source": "readings", "entities": ["who"], "features": [
            {"name": "x"}, {"name": "n", "default": -1}, {"name": "id"}, {"name": "never"},
        ]}),
        json!({"kind": "FeatureView", "name": "fresh", "source": "readings", "entities": ["who"], "ttl": "5us",
            "features": [{"name": "id"}]}),
        json!({"kind": "FeatureService", "name": "all", "views": [{"view": "last"}, {"view": "fresh"}]}),
    ]
}

fn later_view() -> Vec<Json> {
    vec![
        json!({"kind": "FeatureView", "name": "later", "source": "readings", "entities": ["who"],
            "features": [{"name": "when", "column": "at"}, {"name": "id"}]}),
        json!({"kind": "FeatureService", "name": "new", "views": [{"view": "later"}]}),
    ]
}

/// As a file whose `n` are ints where floats are declared, and that lacks `never`.
fn parquet(rows: &[Reading]) -> Bytes {
    let time = |micros: Option<i64>| micros.map(t);
    let frame = Frame::new([
        ("n".into(), Column::Int(rows.iter().map(|row| row.n).collect())),
        ("at".into(), Column::Timestamp(rows.iter().map(|row| time(row.at)).collect())),
        ("id".into(), Column::Int(rows.iter().map(|row| row.id).collect())),
        ("who".into(), Column::Text(rows.iter().map(|row| row.who.map(Into::into)).collect())),
        ("x".into(), Column::Float(rows.iter().map(|row| row.x).collect())),
        ("written".into(), Column::Timestamp(rows.iter().map(|row| time(row.written)).collect())),
    ]);
    storage::to_parquet(&frame.unwrap()).unwrap()
}

async fn send(world: &World, rows: &[Reading]) -> Result<IngestReport, feature_store::FeatureError> {
    world.store.ingest(&"readings".parse().unwrap(), Format::Parquet, parquet(rows)).await
}

/// Sixty good rows of three entities.
fn good() -> Vec<Reading> {
    let row = |n: i64| Reading {
        id: Some(n),
        who: Some(["a", "b", "c"][n as usize % 3]),
        at: Some(n * 7 % 50),
        written: None,
        x: Some(n as f64),
        n: Some(n),
    };
    (0..60).map(row).collect()
}

/// All standing rows, in an order that does not depend on how they came.
async fn content(world: &World) -> Vec<String> {
    let columns = ["id", "who", "at", "written", "x", "n", "never"].map(str::to_owned);
    let frame = world.store.rows(&"readings".parse().unwrap(), &columns, Stretch::default()).await.unwrap();
    let mut rows: Vec<String> = (0..frame.rows()).map(|row| Json::Object(frame.row_json(row)).to_string()).collect();
    rows.sort();
    rows
}

fn questions() -> (Frame, Vec<Timestamp>) {
    let whos = [Some("a"), Some("b"), Some("c"), Some("nobody"), None];
    let all: Vec<_> = whos.iter().flat_map(|who| (-1..55).step_by(2).map(|at| (*who, at))).collect();
    spine(&all)
}

/// What is served, after making sure that history says the same.
async fn served(world: &World, service: &str) -> Frame {
    let (keys, at) = questions();
    let service = service.parse().unwrap();
    let online = world.store.latest(&service, &keys, &at).await.unwrap();
    assert_eq!(online, world.store.as_of(&service, &keys, &at).await.unwrap(), "online and history agree");
    online
}

fn reading() -> impl Strategy<Value = Reading> {
    let long: &'static str = "k".repeat(1_100).leak();
    let who = prop_oneof![
        10 => prop::sample::select(vec!["a", "b", "c"]).prop_map(Some), 1 => Just(None), 1 => Just(Some(long)),
    ];
    let x = prop_oneof![8 => (-3i64..3).prop_map(|x| Some(x as f64)), 1 => Just(None), 1 => Just(Some(f64::NAN))];
    (
        prop::option::weighted(0.95, 0i64..12),
        who,
        prop::option::weighted(0.95, 0i64..6),
        prop::option::of(0i64..4),
        x,
        prop::option::of(0i64..3),
    )
        .prop_map(|(id, who, at, written, x, n)| Reading { id, who, at, written, x, n })
}

/// New rows mostly: ids far apart.
fn fresh() -> impl Strategy<Value = Reading> {
    (reading(), 0i64..100_000).prop_map(|(row, id)| Reading {
        id: row.id.map(|_| id),
        at: row.at.map(|at| at * 8),
        ..row
    })
}

fn bodies() -> impl Strategy<Value = Vec<Vec<Reading>>> {
    let row = prop_oneof![reading(), fresh(), fresh()];
    // Some are small, some large, some repeat one that came before.
    prop::collection::vec((prop::collection::vec(row, 1..150), prop::option::weighted(0.3, 0usize..3)), 1..4).prop_map(
        |all| {
            let mut bodies: Vec<Vec<Reading>> = Vec::new();
            for (body, again) in all {
                let again = again.and_then(|again| bodies.get(again).cloned());
                bodies.push(body);
                bodies.extend(again);
            }
            bodies
        },
    )
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(work)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn large_bodies_come_to_the_same_end_as_small_ones(bodies in bodies()) {
        block_on(async {
            let small = World::open_bulk(Arc::new(TempDir::new().unwrap()), |kv| Arc::new(kv), NEVER).await;
            let large = World::new().await;
            for world in [&small, &large] {
                world.apply(&definitions()).await;
            }
            for body in &bodies {
                let expected = send(&small, body).await.unwrap();
                assert_eq!(send(&large, body).await.unwrap(), expected);
            }
            let source = "readings".parse().unwrap();
            let aside = async |world: &World| world.store.quarantined(&source, 10_000).await.unwrap();
            assert_eq!(aside(&large).await, aside(&small).await);
            assert_eq!(large.store.stats(&source).unwrap(), small.store.stats(&source).unwrap());
            assert_eq!(content(&large).await, content(&small).await);
            let expected = served(&small, "all").await;
            assert_eq!(served(&large, "all").await, expected);
            for world in [&small, &large] {
                world.apply(&later_view()).await;
            }
            assert_eq!(served(&large, "new").await, served(&small, "new").await);
            let large = large.reopen().await;
            assert_eq!(served(&large, "all").await, expected);
            // What is there is known, by either way.
            for world in [&large, &World::open_bulk(Arc::new(copied(&large)), |kv| Arc::new(kv), NEVER).await] {
                let again = send(world, &good()).await.unwrap();
                assert_eq!(again.accepted, 60);
                assert_eq!(send(world, &good()).await.unwrap().duplicates, 60);
            }
        });
    }
}

fn copied(world: &World) -> TempDir {
    let to = TempDir::new().unwrap();
    copy_into(world.dir.path(), to.path());
    to
}

/// Sends the rows while the `n`-th call of the key-value store fails.
async fn broken(dir: &Arc<TempDir>, n: u64, when: When) -> (World, bool) {
    let faults = Faults::nth(n, when);
    let world = World::open_with(dir.clone(), |kv| Arc::new(FaultyKv::new(kv, faults))).await;
    let failed = match send(&world, &good()).await {
        Ok(_) => false,
        Err(error) => {
            assert_eq!(error.code(), ErrorCode::Unavailable, "{error}");
            true
        }
    };
    (world, failed)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_call_fails_sending_the_body_again_or_starting_again_mends_it() {
    let whole = World::new().await;
    whole.apply(&definitions()).await;
    assert_eq!(send(&whole, &good()).await.unwrap().accepted, 60);
    let (expected, stored) = (served(&whole, "all").await, content(&whole).await);
    let mut failures = 0;
    // Opening makes three calls (marks, old identities, row counter).
    for n in 4..16 {
        for when in [When::Before, When::After] {
            for restart in [false, true] {
                let dir = Arc::new(TempDir::new().unwrap());
                let world = World::open(dir.clone()).await;
                world.apply(&definitions()).await;
                drop(world);
                let (world, failed) = broken(&dir, n, when).await;
                if !failed {
                    continue;
                }
                failures += 1;
                let rows = world.store.stats(&"readings".parse().unwrap()).unwrap().rows;
                assert!(rows == 0 || rows == 60, "call {n}: all or none");
                let world = if restart { world.reopen().await } else { world };
                if restart && rows == 60 {
                    assert_eq!(served(&world, "all").await, expected, "call {n}, started again");
                }
                let again = send(&world, &good()).await.unwrap();
                assert_eq!(again.accepted + again.duplicates, 60);
                assert_eq!((served(&world, "all").await, content(&world).await), (expected.clone(), stored.clone()));
            }
        }
    }
    assert!(failures >= 12, "the faults were met: {failures}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_takes_nothing_and_the_next_try_all() {
    let world = World::new().await;
    world.apply(&definitions()).await;
    let runs = world.dir.path().join("joins");
    std::fs::remove_dir_all(&runs).unwrap();
    let refused = send(&world, &good()).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::Unavailable, "{refused}");
    assert_eq!(world.store.stats(&"readings".parse().unwrap()).unwrap().rows, 0);
    assert_eq!(content(&world).await, Vec::<String>::new());
    std::fs::create_dir(&runs).unwrap();
    assert_eq!(send(&world, &good()).await.unwrap().accepted, 60);
    assert_eq!(std::fs::read_dir(&runs).unwrap().count(), 0, "no run is left");
    served(&world, "all").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_lies_is_refused_or_read_and_never_half() {
    let world = World::new().await;
    world.apply(&definitions()).await;
    let whole = parquet(&good());
    let (mut refused, mut taken) = (0, 0);
    for at in (0..whole.len()).step_by(whole.len() / 97) {
        for bit in [0x01, 0x80] {
            let mut bytes = whole.to_vec();
            bytes[at] ^= bit;
            let before = world.store.stats(&"readings".parse().unwrap()).unwrap().rows;
            match world.store.ingest(&"readings".parse().unwrap(), Format::Parquet, bytes.into()).await {
                Ok(report) => {
                    taken += 1;
                    assert_eq!(report.accepted + report.duplicates + report.quarantined, 60, "byte {at}");
                }
                Err(error) => {
                    refused += 1;
                    assert_eq!(error.code(), ErrorCode::InvalidArgument, "byte {at}: {error}");
                    assert_eq!(world.store.stats(&"readings".parse().unwrap()).unwrap().rows, before);
                }
            }
        }
    }
    assert!(refused > 20 && taken > 0, "{refused} refused, {taken} taken");
    send(&world, &good()).await.unwrap();
    served(&world, "all").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn columns_that_do_not_fit_are_named_and_nothing_is_taken() {
    let world = World::new().await;
    world.apply(&definitions()).await;
    let ints = || Column::Int((0..60).map(Some).collect());
    let times = || Column::Timestamp((0..60).map(|n| Some(t(n))).collect());
    for (columns, word) in [
        (vec![("id", ints()), ("at", times()), ("whoo", ints())], "unknown column `whoo`"),
        (vec![("at", times())], "required column `id` is missing"),
        (vec![("id", ints()), ("at", times()), ("who", ints())], "column `who` is int where text is needed"),
    ] {
        let frame = Frame::new(columns.into_iter().map(|(name, column)| (name.into(), column))).unwrap();
        let body = storage::to_parquet(&frame).unwrap();
        let refused = world.store.ingest(&"readings".parse().unwrap(), Format::Parquet, body).await.unwrap_err();
        assert_eq!(refused.code(), ErrorCode::InvalidArgument);
        assert!(refused.to_string().contains(word), "{refused}");
    }
    assert_eq!(world.store.stats(&"readings".parse().unwrap()).unwrap().rows, 0);
}
