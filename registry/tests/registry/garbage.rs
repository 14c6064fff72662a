//! What the registry names, and what it deletes for good.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytes::Bytes;
use domain::{Coded, Digest, ErrorCode, EventKind, RunId, Span, Timestamp};
use futures::stream;
use registry::{ArtifactPath, NewLoggedModel, Registry, RegistryError};
use storage::{Blobs, Collector, LocalBlobs};

use crate::world::{World, dataset, point, reference, texts, version_of};

async fn collect(world: &World) -> u64 {
    let blobs: Arc<dyn Blobs> = Arc::new(LocalBlobs::open(&world.dir.path().join("blobs")).await.unwrap());
    let rooms: Vec<Arc<dyn storage::References>> =
        vec![Arc::new(world.registry.clone()), Arc::new(world.tables.clone())];
    let collector = Collector::new(world.meta.clone(), blobs, rooms);
    collector.collect(Timestamp::MAX, world.clock.now(), "test").await.unwrap().removed
}

async fn put(registry: &Registry, path: &str, text: &'static str) -> Digest {
    let path: ArtifactPath = path.parse().unwrap();
    let pieces = stream::iter([Ok::<_, RegistryError>(Bytes::from_static(text.as_bytes()))]);
    registry.put_artifact(&path, pieces, None).await.unwrap().digest
}

#[tokio::test]
async fn what_a_row_names_stays_and_what_was_replaced_or_deleted_goes() {
    let world = World::new().await;
    let registry = &world.registry;
    let run = world.run().await;
    let root = world.artifacts_of(&run).await;
    let version = registry.register(version_of(run, b"weights")).await.unwrap();
    let recorded = registry.record_dataset(dataset(&world).await).await.unwrap();
    put(registry, &format!("{root}/a"), "first").await;
    let second = put(registry, &format!("{root}/a"), "second").await;
    let deleted = put(registry, &format!("{root}/b"), "third").await;
    registry.delete_artifacts(&format!("{root}/b").parse().unwrap()).await.unwrap();
    let upload = registry.create_upload(&format!("{root}/large").parse().unwrap(), 2).await.unwrap();
    let piece = stream::iter([Ok::<_, RegistryError>(Bytes::from_static(b"a part"))]);
    let part = registry.put_part(upload, 1, piece, None).await.unwrap();
    registry.log_metrics(&run, vec![point("loss", 1, 1, 0.5)]).await.unwrap();
    world.tables.flush_all().await;

    assert_eq!(collect(&world).await, 2, "the replaced and the deleted file");
    assert!(!registry.has_blob(&deleted).await.unwrap());
    let mut live: BTreeSet<Digest> = version.files.values().copied().collect();
    live.extend(recorded.snapshot.blobs.values());
    live.extend([second, part]);
    for digest in &live {
        assert!(registry.has_blob(digest).await.unwrap(), "{digest}");
    }
    assert_eq!(registry.metric_history(&run, "loss").await.unwrap().len(), 1);

    // An upload that nobody completes is forgotten after a day, a version when it is deleted.
    world.clock.advance(Span::from_micros(25 * Span::HOUR.micros()));
    registry.clean_uploads().await.unwrap();
    registry.delete_version(&reference(1), "test").await.unwrap();
    assert_eq!(collect(&world).await, 1 + distinct(&version.files));
    assert!(!registry.has_blob(&part).await.unwrap() && registry.has_blob(&second).await.unwrap());
}

fn distinct(files: &BTreeMap<String, Digest>) -> u64 {
    files.values().collect::<BTreeSet<_>>().len() as u64
}

#[tokio::test]
async fn bytes_that_were_cleared_away_cannot_be_registered() {
    let world = World::new().await;
    let run = world.run().await;
    let unrecorded = dataset(&world).await;
    assert_eq!(collect(&world).await, 2);
    let error = world.registry.record_dataset(unrecorded).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::InvalidArgument, "{error}");
    // Stored again they can be.
    world.registry.record_dataset(dataset(&world).await).await.unwrap();
    world.registry.register(version_of(run, b"weights")).await.unwrap();
}

async fn deleted_run(world: &World) -> RunId {
    let run = world.run().await;
    let registry = &world.registry;
    registry.log_params(&run, texts(&[("rate", "0.1")])).await.unwrap();
    registry.log_metrics(&run, vec![point("loss", 1, 1, 0.5)]).await.unwrap();
    put(registry, &format!("{}/notes", world.artifacts_of(&run).await), "notes").await;
    registry.delete_run(&run).await.unwrap();
    run
}

#[tokio::test]
async fn what_was_deleted_long_ago_is_deleted_for_good_unless_something_came_from_it() {
    let world = World::new().await;
    let registry = &world.registry;
    let living = world.run().await;
    let gone = deleted_run(&world).await;
    let (origin, version_run) = (world.run().await, world.run().await);
    registry.register(version_of(version_run, b"weights")).await.unwrap();
    let experiment = registry.run(&living).await.unwrap().experiment_id;
    let logged = |run| NewLoggedModel { experiment, source_run: Some(run), ..NewLoggedModel::default() };
    let logged_alive = registry.create_logged_model(logged(origin)).await.unwrap().id;
    let logged_gone = registry.create_logged_model(logged(gone)).await.unwrap().id;
    registry.delete_logged_model(&logged_gone).await.unwrap();
    for run in [origin, version_run] {
        registry.delete_run(&run).await.unwrap();
    }
    let before = world.clock.now() + Span::HOUR;

    let early = registry.purge_deleted(world.clock.now(), false, "test").await.unwrap();
    assert_eq!(early.runs.len() + early.logged_models.len() + early.kept.len(), 0, "{early:?}");
    let dry = registry.purge_deleted(before, true, "test").await.unwrap();
    assert_eq!(dry.logged_models, std::slice::from_ref(&logged_gone));
    assert_eq!(registry.run(&gone).await.unwrap().params.len(), 1, "a dry run changes nothing");
    let purged = registry.purge_deleted(before, false, "test").await.unwrap();
    assert_eq!((&purged.runs, &purged.logged_models), (&vec![gone.to_string()], &vec![logged_gone]));
    let kept: BTreeMap<String, String> = purged.kept.into_iter().map(|kept| (kept.id, kept.why)).collect();
    assert!(kept[&origin.to_string()].contains("logged model") && kept[&version_run.to_string()].contains("version"));

    assert_eq!(registry.run(&gone).await.unwrap_err().code(), ErrorCode::NotFound);
    assert_eq!(world.artifacts("1").await.iter().filter(|path| path.contains(&gone.to_string())).count(), 0);
    registry.run(&living).await.unwrap();
    registry.logged_model(&logged_alive).await.unwrap();
    registry.version(&reference(1)).await.unwrap();
    let told = world.meta.journal().about(&format!("run/{gone}"), 1).await.unwrap();
    assert_eq!((told[0].kind, told[0].actor.as_str()), (EventKind::RunPurged, "test"));
    let again = registry.purge_deleted(before, false, "test").await.unwrap();
    assert_eq!((again.runs.len(), again.logged_models.len()), (0, 0));
}

#[tokio::test]
async fn an_experiment_goes_when_it_is_empty_and_its_number_is_not_given_again() {
    let world = World::new().await;
    let registry = &world.registry;
    let first = registry.run(&deleted_run(&world).await).await.unwrap().experiment_id;
    let new = |name: &str| registry::NewExperiment { name: name.into(), ..Default::default() };
    let last = registry.create_experiment(new("last")).await.unwrap().id;
    for id in [0, first, last] {
        registry.delete_experiment(id).await.unwrap();
    }
    let before = world.clock.now() + Span::HOUR;
    let dry = registry.purge_deleted(before, true, "test").await.unwrap();
    let purged = registry.purge_deleted(before, false, "test").await.unwrap();
    assert_eq!((&purged.experiments, &dry.experiments), (&vec![first], &vec![first]));
    assert_eq!(purged.kept.iter().map(|kept| kept.id.as_str()).collect::<Vec<_>>(), ["0", &last.to_string()]);
    let next = registry.create_experiment(new("next")).await.unwrap().id;
    assert_eq!(next, last + 1);
    assert_eq!(registry.purge_deleted(before, false, "test").await.unwrap().experiments, [last]);
}
