//! From a trigger to a version in service, or not.

use domain::{
    EventKind,
    state::{PipelineRunState, StepState},
};
use serving::Target;

use super::world::{DEFINITIONS, World, endpoint};
use crate::{CHAMPION, CauseKind, Deployment};

const BEST: f64 = 1.0;
const MILD: f64 = 0.2;

async fn targets(world: &World) -> Vec<(u32, u32)> {
    let view = world.conductor.endpoint(&endpoint()).await.unwrap();
    view.targets.iter().map(|t| (t.version, t.percent)).collect()
}

async fn kinds_in_story(world: &World, seq: u64) -> Vec<EventKind> {
    world.conductor.story(seq).await.unwrap().iter().map(|event| event.kind).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_version_goes_into_service_without_a_gate() {
    let world = World::new(&[MILD]).await;
    let run = world.retrain().await;
    assert_eq!(run.state, PipelineRunState::Promoted, "{:?}", run.error);
    let decision = run.decision.unwrap();
    assert!(decision.passed && decision.champion.is_none() && decision.comparison.is_none());
    assert_eq!(targets(&world).await, [(1, 100)]);
    let champion = world.rooms.registry.resolve(&"oracle".parse().unwrap(), CHAMPION).await.unwrap();
    assert_eq!(champion.version, 1);
    let steps: Vec<_> = run.steps.iter().map(|s| (s.name.as_str(), s.state)).collect();
    let done = StepState::Done;
    assert_eq!(
        steps,
        [
            ("dataset", done),
            ("train:plain", done),
            ("choose", done),
            ("register", done),
            ("gate", done),
            ("rollout", StepState::Waiting)
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_with_nothing_changed_computes_nothing() {
    let world = World::new(&[MILD]).await;
    let first = world.retrain().await;
    let again = world.retrain().await;
    assert_ne!(first.id, again.id);
    assert_eq!(world.fit.started(), 1, "the second run trained nothing");
    assert_eq!(again.state, PipelineRunState::Refused);
    assert!(again.decision.unwrap().reason.starts_with("nothing changed: version 1"));
    for step in &again.steps[..4] {
        assert_eq!(step.state, StepState::Reused, "{}", step.name);
        assert_eq!(step.why.as_deref(), Some(&*format!("nothing it depends on changed since run {}", first.id)));
    }
    assert_eq!(world.rooms.registry.versions(&"oracle".parse().unwrap()).await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worse_challenger_is_refused() {
    let mut world = World::new(&[BEST, MILD]).await;
    world.retrain().await;
    world.live(false).await;
    let run = world.retrain().await;
    assert_eq!(run.state, PipelineRunState::Refused, "{:?}", run.error);
    let decision = run.decision.unwrap();
    let compared = decision.comparison.unwrap();
    assert!(!decision.passed && compared.gain < 0.0 && compared.lower < compared.gain);
    assert_eq!((decision.champion, decision.challenger), (Some(1), 2));
    assert_eq!(targets(&world).await, [(1, 100)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_challenger_worse_than_a_constant_is_refused() {
    let mut world = World::new(&[-0.9, -0.2]).await;
    world.retrain().await;
    world.live(false).await;
    let decision = world.retrain().await.decision.unwrap();
    assert!(decision.comparison.as_ref().unwrap().gain > 0.0, "better than the champion");
    assert!(!decision.passed && decision.reason.contains("no better than a constant"), "{}", decision.reason);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_better_challenger_is_tried_and_promoted() {
    let mut world = World::new(&[MILD, BEST]).await;
    world.retrain().await;
    let kept = Deployment { targets: vec![Target { version: 1, percent: 100 }], shadow: vec![1] };
    world.conductor.deploy(&endpoint(), kept, "test", "compare with the first version").await.unwrap();
    world.live(false).await;
    let on_trial = world.retrain().await;
    assert_eq!(on_trial.state, PipelineRunState::Canary, "{:?} {:?}", on_trial.error, on_trial.decision);
    assert_eq!(targets(&world).await, [(1, 50), (2, 50)]);
    assert_eq!(world.conductor.endpoint(&endpoint()).await.unwrap().champion, Some(1), "still in charge");
    assert_eq!(world.trigger().await, on_trial.id, "a trigger during the trial starts nothing");

    world.live(false).await;
    let run = world.conductor.run(&on_trial.id).await.unwrap();
    assert_eq!(run.state, PipelineRunState::Promoted, "{:?}", run.rollout);
    let rollout = run.rollout.unwrap();
    let latest = rollout.latest.unwrap();
    assert!(latest.challenger_labels >= 150 && latest.difference.unwrap() < 0.0, "{latest:?}");
    assert_eq!(run.steps.last().unwrap().state, StepState::Done);
    let view = world.conductor.endpoint(&endpoint()).await.unwrap();
    assert_eq!((view.champion, view.first_version, &view.shadow[..]), (Some(2), Some(1), &[1][..]));
    let serving = &world.rooms.serving.endpoints()[0];
    assert_eq!(serving.shadow, [1], "the first version now scores beside its successor");
    let champion = world.rooms.registry.resolve(&"oracle".parse().unwrap(), CHAMPION).await.unwrap();
    assert_eq!(champion.version, 2);
    let story = kinds_in_story(&world, run.story).await;
    let at = |kind| story.iter().position(|k| *k == kind).unwrap_or_else(|| panic!("{kind:?} is not told"));
    assert!(at(EventKind::PipelineTriggered) < at(EventKind::RunStarted));
    assert!(at(EventKind::RunStarted) < at(EventKind::GateDecided));
    assert!(at(EventKind::GateDecided) < at(EventKind::RolloutPromoted));
    assert_eq!(*story.last().unwrap(), EventKind::PipelineFinished);
    world.live(false).await;
    assert_eq!(world.runs().await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_trial_is_rolled_back_on_its_live_results() {
    let mut world = World::new(&[MILD, BEST]).await;
    world.retrain().await;
    world.live(false).await;
    let on_trial = world.retrain().await;
    assert_eq!(on_trial.state, PipelineRunState::Canary, "{:?}", on_trial.decision);
    world.live(true).await;
    let run = world.conductor.run(&on_trial.id).await.unwrap();
    assert_eq!(run.state, PipelineRunState::RolledBack, "{:?}", run.rollout);
    assert!(run.rollout.unwrap().latest.unwrap().lower.unwrap() > 0.0);
    assert_eq!(targets(&world).await, [(1, 100)]);
    assert!(kinds_in_story(&world, run.story).await.contains(&EventKind::RolloutRolledBack));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trial_goes_on_after_a_restart() {
    let mut world = World::new(&[MILD, BEST]).await;
    world.retrain().await;
    world.live(false).await;
    let on_trial = world.retrain().await;
    let mut world = world.restart().await;
    assert_eq!(targets(&world).await, [(1, 50), (2, 50)]);
    world.live(false).await;
    assert_eq!(world.conductor.run(&on_trial.id).await.unwrap().state, PipelineRunState::Promoted);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trial_ended_by_hand_ends_its_run() {
    let mut world = World::new(&[MILD, BEST]).await;
    world.retrain().await;
    world.live(false).await;
    let on_trial = world.retrain().await;
    let back = Deployment { targets: vec![Target { version: 1, percent: 100 }], shadow: vec![] };
    world.conductor.deploy(&endpoint(), back, "ada", "too risky today").await.unwrap();
    world.conductor.settle(&endpoint()).await.unwrap();
    let run = world.conductor.run(&on_trial.id).await.unwrap();
    assert_eq!(run.state, PipelineRunState::RolledBack);
    assert_eq!(run.rollout.unwrap().verdict.unwrap(), "its share of the traffic was taken away");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_train_only_a_person_deploys() {
    let definitions = DEFINITIONS.replace("full_auto", "train_only");
    let mut world = World::with(&definitions, &[MILD, BEST]).await;
    world.retrain().await;
    world.live(false).await;
    let run = world.retrain().await;
    assert_eq!(run.state, PipelineRunState::Refused);
    let decision = run.decision.unwrap();
    assert!(decision.passed);
    assert!(decision.reason.ends_with("deploy it yourself with `millpond deploy oracle 2`"), "{}", decision.reason);
    assert_eq!(targets(&world).await, [(1, 100)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_best_of_several_candidates_goes_on_and_all_are_registered() {
    let two = "estimators: [{name: plain, learner: logistic}, {name: deep, learner: mlp, hidden: [4]}]";
    let definitions = DEFINITIONS.replace("estimators: [{name: plain, learner: logistic}]", two);
    let world = World::with(&definitions, &[MILD, BEST]).await;
    let run = world.retrain().await;
    assert_eq!((run.state, run.challenger), (PipelineRunState::Promoted, Some(2)), "{:?}", run.error);
    let versions = world.rooms.registry.versions(&"oracle".parse().unwrap()).await.unwrap();
    let mut estimators: Vec<_> = versions.iter().map(|v| (v.version, v.tags["estimator"].as_str())).collect();
    estimators.sort_unstable();
    assert_eq!(estimators, [(1, "plain"), (2, "deep")]);
    let history = world.rooms.registry.metric_history(&versions[0].run.unwrap(), "valid_auc").await.unwrap();
    assert_eq!(history.len(), 1, "every epoch is logged");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_world_that_turns_over_is_noticed_learned_and_served_without_a_hand() {
    let definitions = DEFINITIONS
        .replace("min_labels: 1000000", "min_labels: 100")
        .replace("cool_down: 5d", "cool_down: 2d")
        .replace("  holdout: 36h", "  window: 4d\n  holdout: 36h");
    let mut world = World::with(&definitions, &[BEST, -BEST]).await;
    world.retrain().await;
    for _ in 0..3 {
        world.live(false).await;
    }
    assert_eq!(world.runs().await.len(), 1, "nothing happens while all is well");
    let mut days = 0;
    while targets(&world).await != [(2, 100)] {
        world.live(true).await;
        days += 1;
        assert!(days < 10, "{:?}", world.runs().await.first().map(|run| (run.state, &run.decision)));
    }
    let run = &world.runs().await[0];
    assert_eq!(run.cause.kind, CauseKind::Alert);
    assert_eq!(run.state, PipelineRunState::Promoted);
    let story = world.conductor.story(run.story).await.unwrap();
    assert_eq!(story[0].kind, EventKind::AlertRaised);
    let registered = story.iter().find(|event| event.body["step"] == "register").unwrap();
    assert_eq!(registered.body["result"]["challenger"], 2);
    let last: Vec<_> = story[story.len() - 3..].iter().map(|event| event.kind).collect();
    assert_eq!(last, [EventKind::AliasMoved, EventKind::RolloutPromoted, EventKind::PipelineFinished]);
}
