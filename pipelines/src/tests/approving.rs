//! A version takes over a protected champion once people approved, and not before.

use domain::{
    Coded as _, ErrorCode, EventKind, ModelName,
    state::{ApprovalState, PipelineRunState},
};
use registry::{Approval, ApprovalFilter, NewProtection, Verdict};
use serving::Target;

use super::world::{World, endpoint};
use crate::{CHAMPION, Deployment, PipelineRun};

const BEST: f64 = 1.0;
const MILD: f64 = 0.2;

fn model() -> ModelName {
    "oracle".parse().unwrap()
}

async fn protect(world: &World) {
    let rule = NewProtection { approvals: 1, gates: Vec::new(), allow_unsafe: false, reason: String::new() };
    world.rooms.registry.protect_alias(&model(), CHAMPION, rule, "ada").await.unwrap();
}

async fn requests(world: &World) -> Vec<Approval> {
    world.rooms.registry.approvals(&model(), &ApprovalFilter::default()).await.unwrap()
}

async fn targets(world: &World) -> Vec<(u32, u32)> {
    let view = world.conductor.endpoint(&endpoint()).await.unwrap();
    view.targets.iter().map(|t| (t.version, t.percent)).collect()
}

async fn champion(world: &World) -> Option<u32> {
    world.rooms.registry.resolve(&model(), CHAMPION).await.ok().map(|at| at.version)
}

async fn approve(world: &World, asked: &Approval) {
    world.rooms.registry.decide_approval(&model(), &asked.id, Verdict::Approve, "ada", "go").await.unwrap();
    world.conductor.settle(&endpoint()).await.unwrap();
}

/// A first version in charge, the alias protected, and a better one that has passed its trial.
async fn held() -> (World, PipelineRun) {
    let mut world = World::new(&[MILD, BEST]).await;
    world.retrain().await;
    protect(&world).await;
    world.live(false).await;
    let on_trial = world.retrain().await;
    assert_eq!(on_trial.state, PipelineRunState::Canary, "{:?}", on_trial.error);
    world.live(false).await;
    let run = world.conductor.run(&on_trial.id).await.unwrap();
    assert_eq!(run.state, PipelineRunState::Held, "{:?}", run.rollout);
    (world, run)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_challenger_that_passed_waits_for_approval_and_then_takes_over() {
    let (world, run) = held().await;
    let [asked] = &requests(&world).await[..] else { panic!("one request") };
    assert_eq!((asked.version, &asked.asked_by[..], asked.state), (2, "pipelines", ApprovalState::Pending));
    assert!(asked.reason.contains(&run.id.to_string()) && asked.reason.contains("log loss"), "{}", asked.reason);
    let verdict = run.rollout.unwrap().verdict.unwrap();
    assert!(verdict.contains(&asked.id.to_string()) && verdict.contains("waits for 1 approval"), "{verdict}");
    assert_eq!((targets(&world).await, champion(&world).await), (vec![(1, 100)], Some(1)), "nothing moved yet");
    world.conductor.settle(&endpoint()).await.unwrap();
    assert_eq!(requests(&world).await.len(), 1, "asked once");

    // The deciding approval finds a server that was started anew.
    let asked = asked.clone();
    let world = world.restart().await;
    approve(&world, &asked).await;
    assert_eq!((targets(&world).await, champion(&world).await), (vec![(2, 100)], Some(2)));
    let story: Vec<_> = world.conductor.story(run.story).await.unwrap().iter().map(|event| event.kind).collect();
    let tail = [EventKind::ApprovalApproved, EventKind::AliasMoved, EventKind::EndpointChanged];
    assert!(story.ends_with(&tail), "{story:?}");
    assert!(story.contains(&EventKind::RolloutHeld) && story.contains(&EventKind::ApprovalAsked));
    world.conductor.rewind(3).await.unwrap();
    world.conductor.settle(&endpoint()).await.unwrap();
    assert_eq!(targets(&world).await, [(2, 100)], "told again, it is as it was");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_challenger_stays_out() {
    let (world, _) = held().await;
    let [asked] = &requests(&world).await[..] else { panic!("one request") };
    world.rooms.registry.decide_approval(&model(), &asked.id, Verdict::Reject, "ada", "no").await.unwrap();
    world.conductor.settle(&endpoint()).await.unwrap();
    assert_eq!((targets(&world).await, champion(&world).await), (vec![(1, 100)], Some(1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn even_the_first_version_waits() {
    let world = World::new(&[MILD]).await;
    world
        .rooms
        .registry
        .create_model(registry::NewModel {
            name: model(),
            description: String::new(),
            tags: Default::default(),
            user_id: String::new(),
        })
        .await
        .unwrap();
    protect(&world).await;
    let run = world.retrain().await;
    assert_eq!(run.state, PipelineRunState::Held, "{:?}", run.error);
    let [asked] = &requests(&world).await[..] else { panic!("one request") };
    assert!(run.decision.unwrap().reason.contains(&asked.id.to_string()));
    assert_eq!((targets(&world).await, champion(&world).await), (vec![], None));
    approve(&world, asked).await;
    assert_eq!((targets(&world).await, champion(&world).await), (vec![(1, 100)], Some(1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn deploying_by_hand_is_no_way_around() {
    let (world, _) = held().await;
    let all = |version| Deployment { targets: vec![Target { version, percent: 100 }], shadow: Vec::new() };
    let refused = world.conductor.deploy(&endpoint(), all(2), "bob", "").await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::PermissionDenied, "{refused}");
    assert!(refused.hint().contains("millpond models ask oracle champion 2"), "{}", refused.hint());
    assert_eq!((targets(&world).await, champion(&world).await), (vec![(1, 100)], Some(1)));
    world.conductor.deploy(&endpoint(), all(1), "bob", "").await.expect("it is in charge already");
    let [asked] = &requests(&world).await[..] else { panic!("one request") };
    approve(&world, asked).await;
    world.conductor.deploy(&endpoint(), all(2), "bob", "").await.expect("it was approved");
}
