//! The future does not exist: whatever happens after `t`, features as of `t` stay what they were.

use domain::ports::Features as _;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde_json::Value as Json;

use crate::world::{World, event, events, spine};

const NOW: i64 = 500;

/// Rows of the past, the same for every future.
fn past() -> Vec<Json> {
    let mut random = ChaCha8Rng::seed_from_u64(7);
    (0..300)
        .map(|id| {
            event(
                id,
                ["a", "b", "c"][random.random_range(0..3)],
                random.random_range(0..=NOW),
                random.random_range(-5.0..5.0),
            )
        })
        .collect()
}

/// Rows after `NOW`, each shifted and with its value scaled.
fn future(shift: i64, scale: f64) -> Vec<Json> {
    let mut random = ChaCha8Rng::seed_from_u64(8);
    (300..600)
        .map(|id| {
            let who = ["a", "b", "c"][random.random_range(0..3)];
            event(id, who, NOW + 1 + random.random_range(0..200) + shift, random.random_range(-5.0..5.0) * scale)
        })
        .collect()
}

/// The world in which this happened, with past and future rows mixed in what is sent.
async fn world(future: Vec<Json>) -> World {
    let world = World::new().await;
    world.apply(&events()).await;
    let mut rows = [past(), future].concat();
    // By id, so that rows of the past come in the same order in every world.
    rows.sort_by_key(|row| ChaCha8Rng::seed_from_u64(row["id"].as_u64().unwrap()).random::<u64>());
    for batch in rows.chunks(100) {
        world.put("events", batch.to_vec()).await;
    }
    world
}

#[tokio::test]
pub async fn no_change_of_the_future_reaches_features_as_of_now() {
    let mut random = ChaCha8Rng::seed_from_u64(10);
    let mut questions: Vec<_> =
        (0..200).map(|_| (Some(["a", "b", "c"][random.random_range(0..3)]), random.random_range(0..=NOW))).collect();
    questions.push((Some("a"), NOW));
    let (keys, at) = spine(&questions);
    let service = "all".parse().unwrap();
    let as_it_was = world(future(0, 1.0)).await;
    let known = as_it_was.store.as_of(&service, &keys, &at).await.unwrap();
    for (name, changed) in [
        ("shifted far away", future(1_000_000, 1.0)),
        ("with other values", future(0, -1_000.0)),
        ("that never comes", Vec::new()),
    ] {
        let other = world(changed).await;
        assert_eq!(other.store.as_of(&service, &keys, &at).await.unwrap(), known, "offline, a future {name}");
        assert_eq!(other.store.latest(&service, &keys, &at).await.unwrap(), known, "online, a future {name}");
        // The ruler works: after NOW the same change is seen.
        let (keys, at) = spine(&[(Some("a"), NOW + 100), (Some("b"), NOW + 100), (Some("c"), NOW + 100)]);
        let later = as_it_was.store.as_of(&service, &keys, &at).await.unwrap();
        assert_ne!(other.store.as_of(&service, &keys, &at).await.unwrap(), later, "a future {name}");
        assert_ne!(other.store.latest(&service, &keys, &at).await.unwrap(), later, "a future {name}");
    }
}
