//! Applying definitions, deploying versions, taking labels.

use domain::{Coded as _, ErrorCode, EventKind, PredictionId, definition::Definition, prediction::LabelTarget};
use feature_store::Action;
use serde_json::json;
use serving::{PredictRequest, Target};

use super::world::{DEFINITIONS, World, endpoint, label};
use crate::{ConductorError, Deployment, parse};

fn split(targets: &[(u32, u32)]) -> Deployment {
    let targets = targets.iter().map(|(version, percent)| Target { version: *version, percent: *percent });
    Deployment { targets: targets.collect(), shadow: Vec::new() }
}

fn question() -> PredictRequest {
    let instances = vec![json!({"unit": "a", "x": 1.0, "id": "one", "event_timestamp": "2020-01-09T00:00:00Z"})];
    PredictRequest { instances, deadline: None, pin: None }
}

#[tokio::test(flavor = "multi_thread")]
async fn applying_twice_changes_nothing() {
    let world = World::new(&[]).await;
    let before = world.journal().await.len();
    let changes = world.conductor.apply(parse(DEFINITIONS).unwrap(), "test", false).await.unwrap();
    assert_eq!(changes.len(), 8);
    assert!(changes.iter().all(|change| change.action == Action::Unchanged), "{changes:?}");
    assert_eq!(world.journal().await.len(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_says_what_would_happen_and_writes_nothing() {
    let world = World::new(&[]).await;
    let before = world.journal().await.len();
    let changed = parse(&DEFINITIONS.replace("cool_down: 5d", "cool_down: 6d")).unwrap();
    let changes = world.conductor.apply(changed.clone(), "test", true).await.unwrap();
    let updated: Vec<_> = changes.iter().filter(|c| c.action == Action::Updated).map(|c| &*c.kind).collect();
    assert_eq!(updated, ["Pipeline"]);
    assert_eq!(world.journal().await.len(), before);
    world.conductor.apply(changed, "test", false).await.unwrap();
    let told = world.journal().await;
    assert_eq!(told.len(), before + 1);
    assert_eq!(told[before].kind, EventKind::DefinitionApplied);
    let world = world.restart().await;
    let kept = world.conductor.pipelines();
    assert_eq!(kept[0].trigger.cool_down, "6d".parse().unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_with_problems_is_refused_as_a_whole() {
    let world = World::new(&[]).await;
    let before = world.journal().await.len();
    let bad = "
kind: Entity
name: fresh
key: fresh
---
kind: Endpoint
name: second
model: oracle
service: imputs
label_key: [id]
labels: {source: answer, key: [id], column: yes}
sample: 2.0
";
    let error = world.conductor.apply(parse(bad).unwrap(), "test", false).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::InvalidArgument);
    let ConductorError::Invalid(problems) = &error else { panic!("{error}") };
    let fields: Vec<_> = problems.iter().map(|p| p.field.as_str()).collect();
    assert_eq!(fields, ["service", "labels.source", "sample"]);
    assert_eq!(world.journal().await.len(), before);
    assert!(!world.conductor.definitions().iter().any(|d| d.name() == "fresh"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_keeps_what_versions_in_service_read() {
    let world = World::new(&[0.2]).await;
    world.retrain().await;
    let renamed = DEFINITIONS
        .replace("request: [{name: x, type: float}]", "request: [{name: y, type: float, default: 0.0}]")
        .replace("inputs: [{column: x, prep: numeric}]", "inputs: [{column: y, prep: numeric}]");
    let error = world.conductor.apply(parse(&renamed).unwrap(), "test", false).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "Endpoint `oracle`: service: version oracle/1 in service reads `x`, which it would not have"
    );
    let widened = DEFINITIONS.replace(
        "request: [{name: x, type: float}]",
        "request: [{name: x, type: float}, {name: y, type: float, default: 0.0}]",
    );
    world.conductor.apply(parse(&widened).unwrap(), "test", false).await.unwrap();
    let mut request = question();
    request.instances[0]["y"] = json!(2.0);
    assert!(world.conductor.predict(&endpoint(), request).await.is_ok(), "the new value is taken at once");
}

#[tokio::test(flavor = "multi_thread")]
async fn definitions_travel_as_json_too() {
    let definitions = parse(DEFINITIONS).unwrap();
    let json = serde_json::to_string(&definitions).unwrap();
    assert_eq!(serde_json::from_str::<Vec<Definition>>(&json).unwrap(), definitions);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_without_a_version_says_so() {
    let world = World::new(&[]).await;
    let error = world.conductor.predict(&endpoint(), question()).await.unwrap_err();
    assert_eq!(error.to_string(), "endpoint `oracle` has no version deployed yet");
    assert_eq!(error.code(), ErrorCode::Unavailable);
    let error = world.conductor.predict(&"oracel".parse().unwrap(), question()).await.unwrap_err();
    assert_eq!((error.code(), error.hint()), (ErrorCode::NotFound, "did you mean `oracle`?".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn unlawful_deployments_change_nothing() {
    let world = World::new(&[0.2]).await;
    world.retrain().await;
    let before = world.conductor.endpoint(&endpoint()).await.unwrap();
    for (targets, code) in [
        (&[(1, 60), (9, 40)][..], ErrorCode::NotFound),
        (&[(1, 99)], ErrorCode::InvalidArgument),
        (&[], ErrorCode::InvalidArgument),
        (&[(1, 50), (1, 50)], ErrorCode::InvalidArgument),
    ] {
        let error = world.conductor.deploy(&endpoint(), split(targets), "test", "").await.unwrap_err();
        assert_eq!(error.code(), code, "{targets:?}: {error}");
    }
    assert_eq!(world.conductor.endpoint(&endpoint()).await.unwrap(), before);
    assert!(world.conductor.predict(&endpoint(), question()).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_serves_after_a_restart_what_it_served_before() {
    let world = World::new(&[0.2]).await;
    world.retrain().await;
    let before = world.conductor.endpoint(&endpoint()).await.unwrap();
    let events = world.journal().await.len();
    let world = world.restart().await;
    assert_eq!(world.conductor.endpoint(&endpoint()).await.unwrap(), before);
    let answer = world.conductor.predict(&endpoint(), question()).await.unwrap();
    assert_eq!(answer.predictions[0].version, 1);
    assert_eq!(world.journal().await.len(), events, "a restart is no change");
    world.conductor.deploy(&endpoint(), split(&[(1, 100)]), "test", "again").await.unwrap();
    assert_eq!(world.journal().await.len(), events, "deploying what is deployed is no change");
}

#[tokio::test(flavor = "multi_thread")]
async fn labels_reach_the_store_and_the_evaluator_and_bad_ones_are_named() {
    let world = World::new(&[0.2]).await;
    world.retrain().await;
    let answer = world.conductor.predict(&endpoint(), question()).await.unwrap();
    let at = "2020-01-09T01:00:00Z".parse().unwrap();
    world.rooms.evaluator.settle(&endpoint()).await.unwrap();
    let source = "answers".parse().unwrap();
    let rows = world.rooms.features.stats(&source).unwrap().rows;

    let unknown =
        domain::prediction::Label { target: LabelTarget::Prediction(PredictionId::mint()), ..label("", true, at) };
    let known =
        domain::prediction::Label { target: LabelTarget::Prediction(answer.predictions[0].id), ..label("", true, at) };
    let report = world.label(vec![label("one|two", true, at), unknown, known, label("never-asked", false, at)]).await;
    assert_eq!((report.joined, report.unmatched), (1, 1), "{report:?}");
    let problems: Vec<_> = report.problems.iter().map(|p| (p.index, p.code)).collect();
    assert_eq!(problems, [(0, ErrorCode::InvalidArgument), (1, ErrorCode::NotFound)]);
    assert_eq!(report.problems[0].message, "label key `one|two` has 2 parts where 1 are needed");
    assert_eq!(world.rooms.features.stats(&source).unwrap().rows, rows + 2, "kept for the next training set");
    let again = world.label(vec![label("one", true, at)]).await;
    assert_eq!((again.joined, again.already), (0, 1));
    let wrong = world.conductor.label(&"oracel".parse().unwrap(), vec![]).await.unwrap_err();
    assert_eq!(wrong.code(), ErrorCode::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_overview_shows_the_loop() {
    let mut world = World::new(&[0.2]).await;
    let empty = world.conductor.overview().await.unwrap();
    assert!(empty.endpoints[0].status.is_none() && empty.runs.is_empty());
    world.retrain().await;
    world.live(false).await;
    let overview = world.conductor.overview().await.unwrap();
    let shown = &overview.endpoints[0];
    assert_eq!(shown.endpoint.champion, Some(1));
    assert_eq!(shown.status.as_ref().unwrap().labelled, super::world::PER_DAY as u64);
    assert!(shown.quality.iter().any(|row| row.version == "served") && shown.quality.iter().any(|r| r.version == "1"));
    assert_eq!(overview.runs.len(), 1);
    assert!(serde_json::to_value(&overview).unwrap()["events"].as_array().is_some_and(|events| !events.is_empty()));
}
