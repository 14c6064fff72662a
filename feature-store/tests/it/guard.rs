//! The consistency guard: agreement over a busy store, and each cause by its name.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use async_trait::async_trait;
use domain::{EventKind, Span, ports::Features as _};
use feature_store::{Cause, GuardReport, Mismatch};
use serde_json::json;
use storage::{EmbeddedKv, Floor, Kv, StorageError};
use tempfile::TempDir;

use crate::world::{World, event, events, spine};

/// A store that acknowledges writes of values and forgets them, while it is told to.
struct Forgetful {
    kv: EmbeddedKv,
    forgets: Arc<AtomicBool>,
}

#[async_trait]
impl Kv for Forgetful {
    async fn get_many(&self, keys: &[Vec<u8>]) -> Result<Vec<Option<Vec<u8>>>, StorageError> {
        self.kv.get_many(keys).await
    }

    async fn floor_many(&self, queries: &[Floor]) -> Result<Vec<Option<(Vec<u8>, Vec<u8>)>>, StorageError> {
        self.kv.floor_many(queries).await
    }

    async fn range(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<(Vec<u8>, Vec<u8>)>, StorageError> {
        self.kv.range(from, to, limit).await
    }

    async fn write(
        &self,
        puts: Vec<(Vec<u8>, Vec<u8>)>,
        deletes: Vec<Vec<u8>>,
        durable: bool,
    ) -> Result<(), StorageError> {
        if self.forgets.load(Ordering::SeqCst) {
            return Ok(());
        }
        self.kv.write(puts, deletes, durable).await
    }
}

async fn ask(world: &World, who: &str, at: i64) {
    let (keys, at) = spine(&[(Some(who), at)]);
    world.store.latest(&"all".parse().unwrap(), &keys, &at).await.unwrap();
}

async fn checked(world: &World) -> (GuardReport, Vec<Mismatch>) {
    let report = world.store.check_consistency().await.unwrap();
    (report, world.store.consistency(100).await.unwrap().mismatches)
}

/// The causes of the mismatches of one feature.
fn causes(mismatches: &[Mismatch], feature: &str) -> Vec<Cause> {
    mismatches.iter().filter(|mismatch| mismatch.feature == feature).map(|mismatch| mismatch.cause).collect()
}

#[tokio::test]
async fn what_is_served_in_time_agrees_with_history() {
    let world = World::new().await;
    world.apply(&events()).await;
    for n in 0..40 {
        let who = ["a", "b", "c"][usize::try_from(n % 3).unwrap()];
        world.put("events", vec![event(n, who, n, n as f64 * 0.5)]).await;
        ask(&world, who, n).await;
        ask(&world, "nobody", n).await;
        ask(&world, who, n - 5).await;
    }
    let (report, mismatches) = checked(&world).await;
    // Four plain, two fresh and four windowed features each.
    let expected = GuardReport { vectors: 120, values: 1_200, ..GuardReport::default() };
    assert_eq!((report, mismatches), (expected, vec![]));
    assert_eq!(checked(&world).await.0, GuardReport::default(), "each vector is compared once");
    assert_eq!(world.store.consistency(1).await.unwrap().total.vectors, 120);
}

#[tokio::test]
async fn a_row_that_came_later_is_late_data() {
    let world = World::new().await;
    world.apply(&events()).await;
    world.put("events", vec![event(1, "a", 10, 1.0)]).await;
    ask(&world, "a", 20).await;
    world.clock.advance(Span::from_micros(1_000_000));
    world.put("events", vec![event(2, "a", 15, 2.0)]).await;
    // After the fact, so without blame.
    world.put("events", vec![event(3, "a", 21, 9.0)]).await;
    let (report, mismatches) = checked(&world).await;
    assert_eq!((report.vectors, report.late_data, report.mismatches()), (1, 7, 7), "{mismatches:#?}");
    assert_eq!(causes(&mismatches, "last__x"), [Cause::LateData]);
    let sum = mismatches.iter().find(|mismatch| mismatch.feature == "win__sum").unwrap();
    assert_eq!((&sum.online, &sum.offline), (&json!(1.0), &json!(3.0)));
    assert_eq!((sum.keys["who"].clone(), sum.served_at < sum.found_at), (json!("a"), true));
    assert_eq!(causes(&mismatches, "last__ok"), [], "null before and after");
    let events = world.meta.journal().about("feature_service/all", 10).await.unwrap();
    let inconsistent: Vec<_> = events.iter().filter(|event| event.kind == EventKind::FeaturesInconsistent).collect();
    assert_eq!((inconsistent.len(), inconsistent[0].body["late_data"].clone()), (1, json!(7)));
}

#[tokio::test]
async fn a_correction_after_the_answer_is_late_data() {
    let world = World::new().await;
    world.apply(&events()).await;
    world.put("events", vec![event(1, "a", 10, 1.0)]).await;
    ask(&world, "a", 20).await;
    world.put("events", vec![event(1, "a", 10, 5.0)]).await;
    let (_, mismatches) = checked(&world).await;
    assert_eq!(causes(&mismatches, "fresh__x"), [Cause::LateData]);
}

#[tokio::test]
async fn a_write_that_the_online_store_forgot_is_found() {
    let forgets = Arc::new(AtomicBool::new(false));
    let wrap = |kv| -> Arc<dyn Kv> { Arc::new(Forgetful { kv, forgets: forgets.clone() }) };
    let world = World::open_with(Arc::new(TempDir::new().unwrap()), wrap).await;
    world.apply(&events()).await;
    world.put("events", vec![event(1, "a", 10, 1.0)]).await;
    forgets.store(true, Ordering::SeqCst);
    world.put("events", vec![event(2, "a", 12, 2.0)]).await;
    forgets.store(false, Ordering::SeqCst);
    ask(&world, "a", 20).await;
    let (report, mismatches) = checked(&world).await;
    assert_eq!(causes(&mismatches, "last__x"), [Cause::LostWrite]);
    assert_eq!((report.lost_write, report.mismatches()), (7, 7), "{mismatches:#?}");
    let world = world.reopen().await;
    assert_eq!(world.store.consistency(3).await.unwrap().mismatches.len(), 3, "they survive a restart");
}

#[tokio::test]
async fn a_changed_definition_is_named_as_the_cause() {
    let world = World::new().await;
    world.apply(&events()).await;
    world.put("events", vec![event(1, "a", 10, 1.0), event(2, "a", 30, 2.0)]).await;
    ask(&world, "a", 40).await;
    ask(&world, "gone", 40).await;
    let mut changed = events();
    changed[4]["aggregations"][1]["window"] = json!("60us");
    world.apply(&changed).await;
    let (report, mismatches) = checked(&world).await;
    assert_eq!(causes(&mismatches, "win__sum"), [Cause::DefinitionChange]);
    assert_eq!((report.vectors, report.definition_change, report.mismatches()), (2, 1, 1), "{mismatches:#?}");
}
