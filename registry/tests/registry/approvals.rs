//! Protected aliases and the requests that move them.

use domain::{Coded, ErrorCode, EventKind, RunId, state::ApprovalState};
use futures::future::join_all;
use registry::{
    Approval, ApprovalFilter, Ask, Gate, MetricBound, NewProtection, NewRun, NotWorse, RegistryError, SourcedVersion,
    Stage, Verdict,
};

use crate::world::{World, dataset, model, point, reference, version_of};

const CHAMPION: &str = "champion";

fn rule(approvals: u32, gates: Vec<Gate>) -> NewProtection {
    NewProtection { approvals, gates, allow_unsafe: false, reason: "people decide".into() }
}

/// A model with so many versions and a protected `champion` at the first.
async fn protected(versions: u8, rule: NewProtection) -> (World, RunId) {
    let world = World::new().await;
    let run = world.run().await;
    for weights in 0..versions {
        world.registry.register(version_of(run, &[weights])).await.unwrap();
    }
    world.registry.set_alias(&model(), CHAMPION, 1, "ada", "the first").await.unwrap();
    world.registry.protect_alias(&model(), CHAMPION, rule, "ada").await.unwrap();
    (world, run)
}

async fn ask(world: &World, version: u32, actor: &str) -> Result<Approval, RegistryError> {
    let (alias, actor, reason) = (CHAMPION.to_owned(), actor.to_owned(), "better on the holdout".to_owned());
    world.registry.ask_approval(Ask { model: model(), alias, version, actor, reason, cause: None }).await
}

async fn say(world: &World, asked: &Approval, verdict: Verdict, actor: &str) -> Result<Approval, RegistryError> {
    world.registry.decide_approval(&model(), &asked.id, verdict, actor, "looked at it").await
}

async fn champion(world: &World) -> u32 {
    world.registry.resolve(&model(), CHAMPION).await.unwrap().version
}

/// Kinds of the events about the alias, oldest first.
async fn kinds(world: &World) -> Vec<EventKind> {
    let mut events = world.registry.alias_history(&model(), CHAMPION, 100).await.unwrap();
    events.reverse();
    events.into_iter().map(|event| event.kind).collect()
}

#[track_caller]
fn denied<T: std::fmt::Debug>(answer: Result<T, RegistryError>) {
    let error = answer.unwrap_err();
    assert_eq!(error.code(), ErrorCode::PermissionDenied, "{error}");
    assert!(!error.hint().is_empty());
}

#[track_caller]
fn conflict<T: std::fmt::Debug>(answer: Result<T, RegistryError>, part: &str) {
    let error = answer.unwrap_err();
    assert_eq!(error.code(), ErrorCode::Conflict, "{error}");
    assert!(error.to_string().contains(part), "{error}");
}

#[tokio::test]
async fn a_protected_alias_moves_through_no_door() {
    let (world, _) = protected(2, rule(1, Vec::new())).await;
    let registry = &world.registry;
    let before = kinds(&world).await;
    denied(registry.set_alias(&model(), CHAMPION, 2, "bob", "").await);
    denied(registry.remove_alias(&model(), CHAMPION, "bob").await);
    denied(registry.delete_version(&reference(1), "bob").await);
    denied(registry.delete_model(&model(), "bob").await);
    denied(registry.rename_model(&model(), &"other".parse().unwrap()).await);
    assert_eq!((champion(&world).await, kinds(&world).await), (1, before), "nothing was written");
    let hint = registry.set_alias(&model(), CHAMPION, 2, "bob", "").await.unwrap_err().hint();
    assert!(hint.contains("millpond models ask flight-delay champion 2"), "{hint}");

    registry.set_alias(&model(), CHAMPION, 1, "bob", "").await.expect("it points there already");
    registry.set_alias(&model(), "other", 2, "bob", "").await.expect("only the one alias is protected");
    registry.delete_version(&reference(2), "bob").await.expect("nothing protected points at it");
    registry.unprotect_alias(&model(), CHAMPION, "ada", "over").await.unwrap();
    registry.remove_alias(&model(), CHAMPION, "bob").await.unwrap();
    registry.delete_model(&model(), "bob").await.unwrap();
}

#[tokio::test]
async fn an_alias_of_a_stages_name_holds_the_stage_and_takes_it_along() {
    let world = World::new().await;
    let run = world.run().await;
    for weights in [b"1", b"2", b"3"] {
        world.registry.register(version_of(run, weights)).await.unwrap();
    }
    let registry = &world.registry;
    registry.move_to_stage(&reference(1), Stage::Production, false).await.unwrap();
    registry.protect_alias(&model(), "production", rule(1, Vec::new()), "ada").await.unwrap();
    denied(registry.move_to_stage(&reference(2), Stage::Production, false).await);
    denied(registry.move_to_stage(&reference(1), Stage::Archived, false).await);
    denied(registry.move_to_stage(&reference(1), Stage::Production, true).await);
    denied(registry.delete_version(&reference(1), "bob").await);
    registry.move_to_stage(&reference(1), Stage::Production, false).await.expect("it is there already");
    registry.move_to_stage(&reference(2), Stage::Staging, true).await.expect("another stage");

    let ask = Ask {
        model: model(),
        alias: "production".into(),
        version: 2,
        actor: "ada".into(),
        reason: "go".into(),
        cause: None,
    };
    let asked = registry.ask_approval(ask).await.unwrap();
    registry.decide_approval(&model(), &asked.id, Verdict::Approve, "bob", "").await.unwrap();
    let stages = [1, 2].map(reference);
    let [first, second] = &join_all(stages.iter().map(|one| registry.version(one))).await[..] else { panic!("two") };
    assert_eq!(first.as_ref().unwrap().stage, Stage::Archived);
    let second = second.as_ref().unwrap();
    assert_eq!((second.stage, &second.aliases[..]), (Stage::Production, &["production".to_owned()][..]));
}

#[tokio::test]
async fn two_others_approve_and_the_alias_moves_with_the_second() {
    let (world, _) = protected(3, rule(2, Vec::new())).await;
    let asked = ask(&world, 2, "cleo").await.unwrap();
    assert_eq!(ask(&world, 2, "dan").await.unwrap(), asked, "the same is asked once");
    for same in ["cleo", " Cleo "] {
        denied(say(&world, &asked, Verdict::Approve, same).await);
    }
    let once = say(&world, &asked, Verdict::Approve, "ada").await.unwrap();
    assert_eq!((once.state, once.given(), champion(&world).await), (ApprovalState::Pending, 1, 1));
    let again = say(&world, &asked, Verdict::Approve, "ADA").await.unwrap();
    assert_eq!((again.state, again.given()), (ApprovalState::Pending, 1), "one person, one approval");
    let other = ask(&world, 3, "cleo").await.unwrap();

    let world = world.reopen().await;
    let twice = say(&world, &asked, Verdict::Approve, "bob").await.unwrap();
    assert_eq!((twice.state, twice.given(), champion(&world).await), (ApprovalState::Approved, 2, 2));
    assert_eq!(say(&world, &asked, Verdict::Approve, "bob").await.unwrap(), twice, "said again, it is what it was");
    conflict(say(&world, &asked, Verdict::Approve, "dan").await, "cannot go from approved");
    conflict(say(&world, &asked, Verdict::Reject, "dan").await, "cannot go from approved");
    let other = world.registry.approval(&model(), &other.id).await.unwrap();
    assert_eq!(other.state, ApprovalState::Superseded, "what was asked of the old champion has to be asked anew");

    use EventKind as K;
    let told = [
        K::AliasMoved,
        K::AliasProtected,
        K::ApprovalAsked,
        K::ApprovalGiven,
        K::ApprovalAsked,
        K::ApprovalApproved,
        K::AliasMoved,
        K::ApprovalSuperseded,
    ];
    assert_eq!(kinds(&world).await, told);
    let events = world.registry.alias_history(&model(), CHAMPION, 3).await.unwrap();
    let (moved, approved) = (&events[1], &events[2]);
    assert_eq!((moved.cause, &moved.actor[..]), (Some(approved.seq), "bob"));
    assert_eq!(approved.body["asked_by"], "cleo");
    let who: Vec<_> = approved.body["approved_by"].as_array().unwrap().iter().map(|one| &one["actor"]).collect();
    assert_eq!(who, ["ada", "bob"]);
    assert_eq!(approved.body["approved_by"][0]["comment"], "looked at it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_approvers_at_once_exactly_one_decides() {
    for needed in [1, 2] {
        let (world, _) = protected(2, rule(needed, Vec::new())).await;
        let asked = ask(&world, 2, "asker").await.unwrap();
        let tasks = (0..8).map(|n| {
            let (registry, id) = (world.registry.clone(), asked.id);
            tokio::spawn(async move {
                registry.decide_approval(&model(), &id, Verdict::Approve, &format!("p{n}"), "").await
            })
        });
        let answers: Vec<_> = join_all(tasks).await.into_iter().map(Result::unwrap).collect();
        let taken = answers.iter().filter(|answer| answer.is_ok()).count();
        assert_eq!(taken, needed as usize, "who comes after the decision is told so");
        let decided = answers.iter().flatten().filter(|one| one.state == ApprovalState::Approved).count();
        assert_eq!(decided, 1);
        let moves = kinds(&world).await.into_iter().filter(|kind| *kind == EventKind::AliasMoved).count();
        assert_eq!((moves, champion(&world).await), (2, 2), "the first, and the one that was approved");
    }
}

#[tokio::test]
async fn a_request_ends_by_rejection_withdrawal_or_when_its_ground_is_gone() {
    let (world, _) = protected(5, rule(1, Vec::new())).await;
    let rejected = ask(&world, 2, "cleo").await.unwrap();
    let rejected = say(&world, &rejected, Verdict::Reject, "ada").await.unwrap();
    assert_eq!((rejected.state, &rejected.votes[0].comment[..]), (ApprovalState::Rejected, "looked at it"));
    conflict(say(&world, &rejected, Verdict::Approve, "bob").await, "cannot go from rejected");
    assert_ne!(ask(&world, 2, "cleo").await.unwrap().id, rejected.id, "it may be asked again");

    let withdrawn = ask(&world, 3, "cleo").await.unwrap();
    denied(say(&world, &withdrawn, Verdict::Withdraw, "bob").await);
    assert_eq!(say(&world, &withdrawn, Verdict::Withdraw, "cleo").await.unwrap().state, ApprovalState::Withdrawn);

    let deleted = ask(&world, 4, "cleo").await.unwrap();
    world.registry.delete_version(&reference(4), "bob").await.unwrap();
    let lifted = ask(&world, 5, "cleo").await.unwrap();
    world.registry.unprotect_alias(&model(), CHAMPION, "ada", "").await.unwrap();
    for gone in [deleted, lifted] {
        let gone = world.registry.approval(&model(), &gone.id).await.unwrap();
        assert_eq!(gone.state, ApprovalState::Superseded);
        conflict(say(&world, &gone, Verdict::Approve, "bob").await, "cannot go from superseded");
    }
    let filter = ApprovalFilter { state: Some(ApprovalState::Withdrawn), ..ApprovalFilter::default() };
    let [only] = &world.registry.approvals(&model(), &filter).await.unwrap()[..] else { panic!("one") };
    assert_eq!(only.version, 3);
    assert_eq!(world.registry.approvals(&model(), &ApprovalFilter::default()).await.unwrap().len(), 5);
    assert_eq!(champion(&world).await, 1);
}

#[tokio::test]
async fn what_cannot_be_asked_says_why() {
    let (world, _) = protected(2, rule(1, Vec::new())).await;
    conflict(ask(&world, 1, "cleo").await, "points at");
    assert_eq!(ask(&world, 9, "cleo").await.unwrap_err().code(), ErrorCode::NotFound);
    assert_eq!(ask(&world, 2, "").await.unwrap_err().code(), ErrorCode::InvalidArgument);
    let ask = Ask {
        model: model(),
        alias: "free".into(),
        version: 2,
        actor: "cleo".into(),
        reason: String::new(),
        cause: None,
    };
    conflict(world.registry.ask_approval(ask).await, "not protected");
    for approvals in [0, 21] {
        let error = world.registry.protect_alias(&model(), CHAMPION, rule(approvals, vec![]), "ada").await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidArgument, "{error}");
    }
    let both = NewProtection { allow_unsafe: true, ..rule(1, vec![Gate::SafeFormat(true)]) };
    let error = world.registry.protect_alias(&model(), CHAMPION, both, "ada").await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::InvalidArgument, "{error}");
    let nobody = world.registry.protect_alias(&"absent".parse().unwrap(), CHAMPION, rule(1, vec![]), "ada").await;
    assert_eq!(nobody.unwrap_err().code(), ErrorCode::NotFound);
    assert_eq!(world.registry.protections(&model()).await.unwrap()[0].rule, rule(1, vec![]), "as it was");
}

#[tokio::test]
async fn gates_are_looked_at_when_somebody_approves() {
    let gates = vec![
        Gate::Metric(MetricBound { key: "auc".into(), at_least: Some(0.7), at_most: None }),
        Gate::NotWorseThanCurrent(NotWorse { key: "log_loss".into(), greater_is_better: false, tolerance: 0.0 }),
        Gate::SafeFormat(true),
        Gate::HasSignature(true),
        Gate::HasLineage(true),
    ];
    let (world, run) = protected(1, rule(1, gates)).await;
    world.registry.register(version_of(run, b"no data behind it")).await.unwrap();
    let data = dataset(&world).await;
    world.registry.record_dataset(data.clone()).await.unwrap();
    let known = NewRun { experiment: "delays".into(), dataset: Some(data.digest.into()), ..NewRun::default() };
    let known = world.registry.start_run(known).await.unwrap().id;
    world.registry.register(version_of(known, b"from data")).await.unwrap();

    let lost = ask(&world, 2, "cleo").await.unwrap();
    let before = kinds(&world).await;
    conflict(say(&world, &lost, Verdict::Approve, "ada").await, "has lineage: the data that its run read is not known");
    assert_eq!(kinds(&world).await, before, "an approval that was refused is none");
    let asked = ask(&world, 3, "cleo").await.unwrap();
    conflict(say(&world, &asked, Verdict::Approve, "ada").await, "auc was never logged");
    for (value, why) in [(0.6, "auc is 0.6"), (f64::NAN, "auc is not a number")] {
        let step = if value.is_nan() { 2 } else { 1 };
        world.registry.log_metrics(&known, vec![point("auc", step, step, value)]).await.unwrap();
        conflict(say(&world, &asked, Verdict::Approve, "ada").await, why);
    }
    world.registry.log_metrics(&known, vec![point("auc", 3, 3, 0.8)]).await.unwrap();
    let approved = say(&world, &asked, Verdict::Approve, "ada").await.unwrap();
    assert_eq!((approved.state, champion(&world).await), (ApprovalState::Approved, 3));
    assert!(approved.gates.len() == 5 && approved.gates.iter().all(|gate| gate.passed), "{:?}", approved.gates);
    let told = world.registry.alias_history(&model(), CHAMPION, 3).await.unwrap();
    let told = told.iter().find(|event| event.kind == EventKind::ApprovalApproved).unwrap();
    assert_eq!(told.body["gates"], serde_json::json!(approved.gates), "the journal has what each gate found");
}

#[tokio::test]
async fn a_version_that_carries_code_gets_a_protected_alias_only_where_that_is_let_through() {
    let (world, run) = protected(1, rule(1, Vec::new())).await;
    let folder = world.artifacts_of(&run).await;
    world.put(&format!("{folder}/model"), &[("model.pkl", b"\x80\x04.")]).await;
    let pickle = SourcedVersion { source: format!("runs:/{run}/model"), ..SourcedVersion::default() };
    let pickle = world.registry.register_source(&model(), pickle).await.unwrap();
    assert!(pickle.unsafe_reason.is_some());
    conflict(ask(&world, 2, "cleo").await, "carry code");
    let through = NewProtection { allow_unsafe: true, ..rule(1, Vec::new()) };
    world.registry.protect_alias(&model(), CHAMPION, through, "ada").await.unwrap();
    let asked = ask(&world, 2, "cleo").await.unwrap();
    world.registry.protect_alias(&model(), CHAMPION, rule(1, Vec::new()), "ada").await.unwrap();
    conflict(say(&world, &asked, Verdict::Approve, "ada").await, "carry code");
    assert_eq!(champion(&world).await, 1);
}

#[tokio::test]
async fn a_rule_that_asks_for_fewer_lets_what_was_said_count() {
    let (world, _) = protected(2, rule(2, Vec::new())).await;
    let asked = ask(&world, 2, "cleo").await.unwrap();
    say(&world, &asked, Verdict::Approve, "ada").await.unwrap();
    world.registry.protect_alias(&model(), CHAMPION, rule(1, Vec::new()), "ada").await.unwrap();
    assert_eq!(world.registry.approval(&model(), &asked.id).await.unwrap().needed, 1);
    let decided = say(&world, &asked, Verdict::Approve, "ada").await.unwrap();
    assert_eq!((decided.state, champion(&world).await), (ApprovalState::Approved, 2));
}
