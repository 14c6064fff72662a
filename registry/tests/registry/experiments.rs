//! Experiments: made, renamed, deleted with their runs and brought back.

use domain::{Coded, ErrorCode, EventKind, Span};
use registry::{NewExperiment, NewRun, TrackedStart};
use storage::testing::Faults;

use crate::world::{World, texts};

fn named(name: &str) -> NewExperiment {
    NewExperiment { name: name.into(), ..NewExperiment::default() }
}

#[tokio::test]
async fn the_default_experiment_is_there_from_the_start_and_once() {
    let world = World::new().await;
    let first = world.registry.experiment(0).await.unwrap();
    assert_eq!((first.name.as_str(), first.artifact_location.as_str()), ("Default", "mlflow-artifacts:/0"));
    let (one, other) = tokio::join!(world.with_faults(Faults::never()), world.with_faults(Faults::never()));
    drop((one, other));
    let world = world.reopen().await;
    assert_eq!(world.registry.experiment_by_name("Default").await.unwrap(), first);
    let run = world.registry.start_run(NewRun { experiment: "Default".into(), ..NewRun::default() }).await.unwrap();
    assert_eq!((run.experiment_id, run.artifact_uri), (0, format!("mlflow-artifacts:/0/{}/artifacts", run.id)));
}

#[tokio::test]
async fn an_experiment_is_found_by_number_and_name() {
    let world = World::new().await;
    let new = NewExperiment {
        name: "Prévisions / 2013".into(),
        artifact_location: Some("s3://bucket/team".into()),
        tags: texts(&[("team", "delays")]),
    };
    let made = world.registry.create_experiment(new).await.unwrap();
    assert_eq!(made.id, 1);
    let world = world.reopen().await;
    assert_eq!(world.registry.experiment(1).await.unwrap(), made);
    assert_eq!(world.registry.experiment_by_name("Prévisions / 2013").await.unwrap(), made);
    let plain = world.registry.create_experiment(named("plain")).await.unwrap();
    assert_eq!((plain.id, plain.artifact_location.as_str()), (2, "mlflow-artifacts:/2"));
    for unknown in [world.registry.experiment(7).await, world.registry.experiment_by_name("nobody").await] {
        assert_eq!(unknown.unwrap_err().code(), ErrorCode::NotFound);
    }
}

#[tokio::test]
async fn a_name_is_taken_also_by_what_is_deleted() {
    let world = World::new().await;
    let registry = &world.registry;
    let made = registry.create_experiment(named("a")).await.unwrap();
    registry.create_experiment(named("b")).await.unwrap();
    assert_eq!(registry.create_experiment(named("a")).await.unwrap_err().code(), ErrorCode::AlreadyExists);
    registry.delete_experiment(made.id).await.unwrap();
    let error = registry.create_experiment(named("a")).await.unwrap_err();
    assert!(error.code() == ErrorCode::AlreadyExists && error.to_string().contains("deleted"), "{error}");
    assert_eq!(registry.rename_experiment(made.id, "c").await.unwrap_err().code(), ErrorCode::Conflict);
    registry.restore_experiment(made.id).await.unwrap();
    assert_eq!(registry.rename_experiment(made.id, "b").await.unwrap_err().code(), ErrorCode::AlreadyExists);
    registry.rename_experiment(made.id, "c").await.unwrap();
    registry.rename_experiment(made.id, "c").await.unwrap();
    registry.create_experiment(named("a")).await.unwrap();
    let events = world.meta.journal().about("experiment/1", 10).await.unwrap();
    let changes = events.iter().filter(|event| event.kind == EventKind::ExperimentChanged).count();
    assert_eq!(changes, 3, "deleted, restored, renamed once");
}

#[tokio::test]
async fn many_who_create_the_same_make_one() {
    let world = World::new().await;
    let results = futures::future::join_all((0..8).map(|_| world.registry.create_experiment(named("race")))).await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    let made = results.into_iter().filter_map(Result::err).map(|error| error.code());
    assert!(made.into_iter().all(|code| code == ErrorCode::AlreadyExists));
}

#[tokio::test]
async fn runs_go_and_come_back_with_their_experiment() {
    let world = World::new().await;
    let registry = &world.registry;
    let experiment = registry.create_experiment(named("e")).await.unwrap().id;
    let start = || TrackedStart { experiment, ..TrackedStart::default() };
    let kept = registry.create_run(start()).await.unwrap().run.id;
    let gone = registry.create_run(start()).await.unwrap().run.id;
    // The clock stands still: what was deleted before is told apart all the same.
    registry.delete_run(&gone).await.unwrap();
    registry.delete_experiment(experiment).await.unwrap();
    registry.delete_experiment(experiment).await.unwrap();
    assert!(registry.run(&kept).await.unwrap().deleted_at.is_some());
    assert_eq!(registry.log_params(&kept, texts(&[("a", "b")])).await.unwrap_err().code(), ErrorCode::Conflict);
    assert_eq!(registry.create_run(start()).await.unwrap_err().code(), ErrorCode::Conflict);
    let new = NewRun { experiment: "e".into(), ..NewRun::default() };
    assert_eq!(registry.start_run(new).await.unwrap_err().code(), ErrorCode::Conflict);
    world.clock.advance(Span::HOUR);
    registry.restore_experiment(experiment).await.unwrap();
    registry.restore_experiment(experiment).await.unwrap();
    assert_eq!(registry.run(&kept).await.unwrap().deleted_at, None);
    assert!(registry.run(&gone).await.unwrap().deleted_at.is_some(), "it was deleted by itself");
    let found = registry.experiment(experiment).await.unwrap();
    assert!(found.deleted_at.is_none() && found.updated_at > found.created_at);
}

#[tokio::test]
async fn tags_are_set_replaced_and_removed() {
    let world = World::new().await;
    let registry = &world.registry;
    registry.set_experiment_tag(0, "team", "a").await.unwrap();
    registry.set_experiment_tag(0, "team", "").await.unwrap();
    registry.set_experiment_tag(0, "note", &"n".repeat(20_000)).await.unwrap();
    assert_eq!(registry.experiment(0).await.unwrap().tags["team"], "");
    registry.delete_experiment_tag(0, "team").await.unwrap();
    assert_eq!(registry.delete_experiment_tag(0, "team").await.unwrap_err().code(), ErrorCode::NotFound);
    let error = registry.set_experiment_tag(0, "note", &"n".repeat(20_001)).await.unwrap_err();
    assert!(error.code() == ErrorCode::InvalidArgument && error.to_string().contains("20000"), "{error}");
    assert_eq!(registry.set_experiment_tag(0, "a//b", "x").await.unwrap_err().code(), ErrorCode::InvalidArgument);
    assert_eq!(registry.set_experiment_tag(9, "a", "x").await.unwrap_err().code(), ErrorCode::NotFound);
    registry.delete_experiment(0).await.unwrap();
    assert_eq!(registry.set_experiment_tag(0, "a", "x").await.unwrap_err().code(), ErrorCode::Conflict);
}

#[tokio::test]
async fn bad_names_and_locations_are_refused() {
    let world = World::new().await;
    for name in ["", &"n".repeat(501), "a\nb"] {
        let error = world.registry.create_experiment(named(name)).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidArgument, "{name}");
    }
    world.registry.create_experiment(named(&"é".repeat(500))).await.unwrap();
    for location in ["/tmp/x", "file:///tmp/x", "s3://b/../c", "s3://b/%2e%2e/c", "mlflow-artifacts:/a#b"] {
        let new = NewExperiment { artifact_location: Some(location.into()), ..named("x") };
        let error = world.registry.create_experiment(new).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidArgument, "{location}");
    }
    assert_eq!(world.registry.experiment_by_name("x").await.unwrap_err().code(), ErrorCode::NotFound);
}
