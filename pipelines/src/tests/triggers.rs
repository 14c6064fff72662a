//! What starts runs, what does not, and what survives an interruption.

use domain::{
    EventKind,
    state::{PipelineRunState, RunState, StepState},
};

use super::world::{World, pipeline};
use crate::CauseKind;

const BEST: f64 = 1.0;
const MILD: f64 = 0.2;

async fn skips(world: &World) -> Vec<String> {
    let skipped = world.journal().await.into_iter().filter(|e| e.kind == EventKind::PipelineSkipped);
    skipped.map(|e| e.body["reason"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trigger_while_a_run_is_under_way_joins_it() {
    let world = World::new(&[MILD]).await;
    world.fit.hold(true);
    let first = world.trigger().await;
    world.fit.until_started(1).await;
    assert!(!world.conductor.idle().await.unwrap());
    assert_eq!(world.trigger().await, first);
    world.fit.hold(false);
    assert_eq!(world.computed(first).await.state, PipelineRunState::Promoted);
    assert_eq!(world.runs().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alert_starts_one_run_and_tells_why() {
    let mut world = World::new(&[MILD, BEST]).await;
    world.retrain().await;
    for _ in 0..3 {
        world.live(false).await;
    }
    world.live(false).await;
    world.live(false).await;
    let alert = world.alarm().await;
    world.conductor.settle(&super::world::endpoint()).await.unwrap();
    let runs = world.runs().await;
    assert_eq!(runs.len(), 2);
    assert_eq!((runs[0].cause.kind, runs[0].cause.event, runs[0].story), (CauseKind::Alert, Some(alert), alert));
    assert_eq!(runs[0].cutoff, world.now(), "labels are known up to the alert's watermark");
    let story = world.conductor.story(alert).await.unwrap();
    assert_eq!(story[0].seq, alert);
    assert_eq!(story[1].kind, EventKind::PipelineTriggered);
    assert!(story.iter().any(|e| e.kind == EventKind::GateDecided));

    let newest = *world.rooms.meta.journal().watch().borrow();
    world.conductor.rewind(newest).await.unwrap();
    world.conductor.settle(&super::world::endpoint()).await.unwrap();
    assert_eq!(world.runs().await.len(), 2, "the same alert, read again, starts nothing");
    assert_eq!(skips(&world).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alert_within_the_cool_down_is_skipped_with_its_reason() {
    let mut world = World::new(&[BEST, MILD]).await;
    let first = world.retrain().await;
    world.live(false).await;
    let alert = world.alarm().await;
    world.conductor.settle(&super::world::endpoint()).await.unwrap();
    assert_eq!(world.runs().await.len(), 1);
    let until = first.ended.unwrap() + "5d".parse().unwrap();
    assert_eq!(skips(&world).await, [format!("cool-down until {until}")]);
    let skip = world.journal().await.into_iter().find(|e| e.kind == EventKind::PipelineSkipped).unwrap();
    assert_eq!(skip.cause, Some(alert));
    for _ in 0..4 {
        world.live(false).await;
    }
    world.alarm().await;
    world.conductor.settle(&super::world::endpoint()).await.unwrap();
    assert_eq!(world.runs().await.len(), 2, "a later alert, after the cool-down");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_run_goes_on_where_it_stood() {
    let world = World::new(&[MILD]).await;
    world.fit.hold(true);
    let id = world.trigger().await;
    world.fit.until_started(1).await;
    let before = world.conductor.run(&id).await.unwrap();
    assert_eq!(before.steps[0].state, StepState::Done);
    assert_eq!(before.steps[1].state, StepState::Running);

    let world = world.restart().await;
    world.fit.until_started(2).await;
    world.fit.hold(false);
    let after = world.computed(id).await;
    assert_eq!(after.state, PipelineRunState::Promoted, "{:?}", after.error);
    assert_eq!(after.steps[0], before.steps[0], "the dataset was not built again");
    assert_eq!(after.steps[1].why.as_deref(), Some("started again after an interruption"));
    assert_eq!(world.rooms.registry.versions(&"oracle".parse().unwrap()).await.unwrap().len(), 1);
    let runs = world.rooms.registry.runs(registry::RunFilter::default()).await.unwrap();
    let mut states: Vec<_> = runs.iter().map(|r| r.state.as_str()).collect();
    states.sort_unstable();
    assert_eq!(states, [RunState::Cancelled.as_str(), RunState::Finished.as_str()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_breaks_says_why_and_the_next_one_starts_anew() {
    let world = World::new(&[]).await;
    let broken = world.retrain().await;
    assert_eq!(broken.state, PipelineRunState::Failed);
    assert_eq!(broken.error.as_deref(), Some("could not train: out of slopes"));
    assert_eq!(broken.steps[1].state, StepState::Failed);
    let again = world.retrain().await;
    assert_ne!(again.id, broken.id);
    assert_eq!(again.steps[0].state, StepState::Reused, "the dataset is still good");
    assert_eq!(world.fit.started(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_pipeline_names_the_nearest() {
    let world = World::new(&[]).await;
    let error = world.conductor.trigger(&"retrian".parse().unwrap(), crate::Cause::manual(""), None).await.unwrap_err();
    assert_eq!(domain::Coded::hint(&error), format!("did you mean `{}`?", pipeline()));
}
