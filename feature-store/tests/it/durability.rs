//! Rows that were written but had not reached the online store reach it later, once.

use std::sync::Arc;

use domain::{Coded as _, ErrorCode, Value, ports::Features as _};
use storage::testing::{Faults, FaultyKv, When};
use tempfile::TempDir;

use crate::world::{World, cell, event, events, objects, spine};

/// Two rows are ingested while the `n`-th call of the key-value store fails.
async fn broken(dir: &Arc<TempDir>, n: u64, when: When) -> (World, bool) {
    let faults = Faults::nth(n, when);
    let world = World::open_with(dir.clone(), |kv| Arc::new(FaultyKv::new(kv, faults))).await;
    let rows = objects(vec![event(1, "a", 10, 1.0), event(2, "a", 12, 2.0), event(3, "a", 8, 4.0)]);
    match world.store.ingest_rows(&"events".parse().unwrap(), rows).await {
        Ok(_) => (world, false),
        Err(error) => {
            assert_eq!(error.code(), ErrorCode::Unavailable);
            (world, true)
        }
    }
}

async fn holds_both_rows_once(world: &World) {
    let (keys, at) = spine(&[(Some("a"), 12), (Some("a"), 9)]);
    let service = "all".parse().unwrap();
    let online = world.store.latest(&service, &keys, &at).await.unwrap();
    assert_eq!([0, 1].map(|row| cell(&online, "win__sum", row)), [7.0, 4.0].map(Value::Float));
    assert_eq!([0, 1].map(|row| cell(&online, "last__id", row)), [2, 3].map(Value::Int));
    assert_eq!(online, world.store.as_of(&service, &keys, &at).await.unwrap());
    assert_eq!(world.store.stats(&"events".parse().unwrap()).unwrap().rows, 3);
}

#[tokio::test]
async fn whatever_call_fails_sending_the_rows_again_or_starting_again_mends_it() {
    // Opening makes three calls (marks, old identities, row counter); ingestion makes at most eight more.
    let mut failures = 0;
    for n in 4..13 {
        for when in [When::Before, When::After] {
            for restart in [false, true] {
                let dir = Arc::new(TempDir::new().unwrap());
                let world = World::open(dir.clone()).await;
                world.apply(&events()).await;
                drop(world);
                let (world, failed) = broken(&dir, n, when).await;
                if !failed {
                    continue;
                }
                failures += 1;
                let stored = world.store.stats(&"events".parse().unwrap()).unwrap().rows;
                let world = if restart { world.reopen().await } else { world };
                if restart && stored == 3 {
                    holds_both_rows_once(&world).await;
                }
                world.put("events", vec![event(1, "a", 10, 1.0), event(2, "a", 12, 2.0), event(3, "a", 8, 4.0)]).await;
                holds_both_rows_once(&world).await;
            }
        }
    }
    assert!(failures >= 8, "the faults were met: {failures}");
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_restart() {
    let mut world = World::new().await;
    world.apply(&events()).await;
    for n in 0..10 {
        world.put("events", vec![event(n, "a", n, 1.0)]).await;
        world = world.reopen().await;
        let (keys, at) = spine(&[(Some("a"), 20)]);
        let features = world.store.latest(&"all".parse().unwrap(), &keys, &at).await.unwrap();
        assert_eq!(cell(&features, "win__count", 0), Value::Int(n + 1));
    }
    let again = world.put("events", (0..10).map(|n| event(n, "a", n, 1.0)).collect()).await;
    assert_eq!((again.accepted, again.duplicates), (0, 10));
}

#[tokio::test]
async fn an_online_store_that_was_lost_is_filled_again() {
    let world = World::new().await;
    world.apply(&events()).await;
    world.put("events", vec![event(1, "a", 10, 9.0), event(2, "a", 12, 2.0), event(3, "a", 8, 4.0)]).await;
    world.put("events", vec![event(1, "a", 10, 1.0)]).await;
    let dir = world.dir.clone();
    drop(world);
    std::fs::remove_dir_all(dir.path().join("kv")).unwrap();
    let world = World::open(dir).await;
    let (keys, at) = spine(&[(Some("a"), 12)]);
    let service = "all".parse().unwrap();
    let online = world.store.latest(&service, &keys, &at).await.unwrap();
    assert_eq!(cell(&online, "win__sum", 0), Value::Float(7.0));
    assert_eq!(online, world.store.as_of(&service, &keys, &at).await.unwrap());
    let again = world.put("events", vec![event(1, "a", 10, 1.0)]).await;
    assert_eq!(again.duplicates, 1);
}
