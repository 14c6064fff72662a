//! Runs, metrics and datasets.

use domain::{
    Coded, Digest, ErrorCode, EventKind, RunId,
    state::{RunEvent, RunState},
};
use registry::{NewRun, RunFilter};

use crate::world::{World, dataset, point, texts};

#[tokio::test]
async fn a_run_is_found_again_as_it_was_left() {
    let world = World::new().await;
    let data = dataset(&world).await;
    world.registry.record_dataset(data.clone()).await.unwrap();
    let new = NewRun {
        experiment: "delays".into(),
        name: "mlp".into(),
        params: texts(&[("learner", "mlp")]),
        tags: texts(&[("who", "test")]),
        dataset: Some(data.digest.into()),
        code_version: "0.1.0".into(),
        environment: texts(&[("onnxruntime", "1.32")]),
        cause: Some(1),
    };
    let run = world.registry.start_run(new).await.unwrap();
    assert_eq!(run.state, RunState::Running);
    world.registry.log_params(&run.id, texts(&[("epochs", "8"), ("learner", "mlp")])).await.unwrap();
    world.registry.set_tags(&run.id, texts(&[("who", "me")])).await.unwrap();
    world.registry.log_metrics(&run.id, vec![point("loss", 0, 1, 0.7), point("loss", 1, 2, 0.6)]).await.unwrap();
    let done = world.registry.finish_run(&run.id, RunEvent::Finish).await.unwrap();

    let world = world.reopen().await;
    let found = world.registry.run(&run.id).await.unwrap();
    assert_eq!(found, done);
    assert_eq!((found.state, found.dataset, found.cause), (RunState::Finished, Some(data.digest.into()), Some(1)));
    assert_eq!(found.params, texts(&[("epochs", "8"), ("learner", "mlp")]));
    let tags = texts(&[
        ("who", "me"),
        ("mlflow.runName", "mlp"),
        ("mlflow.source.name", "millpond"),
        ("millpond.code_version", "0.1.0"),
        ("millpond.environment.onnxruntime", "1.32"),
    ]);
    assert_eq!((found.tags, found.environment), (tags, texts(&[("onnxruntime", "1.32")])));
    assert_eq!(found.metrics, [("loss".to_owned(), 0.6)].into());
    assert_eq!(world.registry.dataset(&data.digest).await.unwrap().snapshot, data);
    let kinds: Vec<_> = world.meta.journal().read(0, 10).await.unwrap().into_iter().map(|event| event.kind).collect();
    let wanted = [EventKind::DatasetBuilt, EventKind::ExperimentCreated, EventKind::RunStarted, EventKind::RunFinished];
    assert_eq!(kinds, wanted);
}

#[tokio::test]
async fn a_run_ends_once() {
    let world = World::new().await;
    let run = world.run().await;
    let ended = world.registry.finish_run(&run, RunEvent::Break).await.unwrap();
    assert_eq!(world.registry.finish_run(&run, RunEvent::Break).await.unwrap(), ended, "saying it twice is fine");
    let error = world.registry.finish_run(&run, RunEvent::Finish).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::Conflict);
    assert_eq!(world.registry.run(&run).await.unwrap().state, RunState::Failed);
    let events = world.meta.journal().about(&format!("run/{run}"), 10).await.unwrap();
    assert_eq!(events.len(), 2, "one start, one end");
}

#[tokio::test]
async fn every_point_is_kept_and_the_newest_stands_with_the_run() {
    let world = World::new().await;
    let (run, other) = (world.run().await, world.run().await);
    let log = |run, points| world.registry.log_metrics(run, points);
    log(&run, vec![point("auc", 2, 30, f64::NAN), point("auc", 1, 10, 0.5)]).await.unwrap();
    log(&other, vec![point("auc", 9, 90, 0.1)]).await.unwrap();
    log(&run, vec![point("auc", 3, 40, f64::INFINITY), point("loss", 0, 5, 0.25)]).await.unwrap();
    log(&run, vec![point("auc", 1, 10, 0.5), point("auc", 0, 500, f64::NEG_INFINITY)]).await.unwrap();
    log(&run, vec![]).await.unwrap();

    let world = world.reopen().await;
    let history = world.registry.metric_history(&run, "auc").await.unwrap();
    let shape: Vec<_> = history.iter().map(|point| (point.step, point.at.micros() / 1_000_000)).collect();
    assert_eq!(shape, [(0, 500), (1, 10), (2, 30), (3, 40)], "a repeated point counts once");
    let values: Vec<_> = history.iter().map(|point| point.value.to_bits()).collect();
    assert_eq!(values, [f64::NEG_INFINITY, 0.5, f64::NAN, f64::INFINITY].map(f64::to_bits));
    let found = world.registry.run(&run).await.unwrap();
    assert_eq!(found.metrics, [("auc".to_owned(), f64::INFINITY), ("loss".to_owned(), 0.25)].into());
    assert!(world.registry.metric_history(&run, "f1").await.unwrap().is_empty());
    world.tables.flush_all().await;
    assert_eq!(world.registry.metric_history(&run, "auc").await.unwrap().len(), 4, "segments keep what the log had");
}

#[tokio::test]
async fn the_newest_point_does_not_depend_on_the_order_of_calls() {
    let world = World::new().await;
    let points = [
        point("m", 1, 1, 9.0),
        point("m", 2, 1, f64::NAN),
        point("m", 2, 1, 4.0),
        point("m", 2, 1, 3.0),
        point("m", 2, 0, 8.0),
    ];
    for turn in 0..points.len() {
        let run = world.run().await;
        let mut turned = points.to_vec();
        turned.rotate_left(turn);
        for point in turned {
            world.registry.log_metrics(&run, vec![point]).await.unwrap();
        }
        assert_eq!(world.registry.run(&run).await.unwrap().metrics["m"], 4.0, "turned by {turn}");
    }
}

#[tokio::test]
async fn many_writers_lose_no_point() {
    let world = World::new().await;
    let run = world.run().await;
    let log = |step: i64| {
        let registry = world.registry.clone();
        async move { registry.log_metrics(&run, vec![point("loss", step, step, step as f64)]).await }
    };
    let results = futures::future::join_all((0..64).map(log)).await;
    assert!(results.into_iter().all(|result| result.is_ok()));
    assert_eq!(world.registry.metric_history(&run, "loss").await.unwrap().len(), 64);
    assert_eq!(world.registry.run(&run).await.unwrap().metrics["loss"], 63.0);
}

#[tokio::test]
async fn values_beyond_json_leave_as_texts() {
    let world = World::new().await;
    let run = world.run().await;
    world.registry.log_metrics(&run, vec![point("m", 0, 0, f64::NAN)]).await.unwrap();
    let shown = serde_json::to_value(world.registry.run(&run).await.unwrap()).unwrap();
    assert_eq!(shown["metrics"]["m"], "NaN");
    let shown = serde_json::to_value(world.registry.metric_history(&run, "m").await.unwrap()).unwrap();
    assert_eq!(shown[0]["value"], "NaN");
}

#[tokio::test]
async fn runs_are_listed_newest_first_and_by_experiment() {
    let world = World::new().await;
    let mut ids = Vec::new();
    for i in 0..6 {
        let experiment = if i % 2 == 0 { "even" } else { "odd" };
        let new =
            NewRun { experiment: experiment.into(), params: texts(&[("i", &i.to_string())]), ..NewRun::default() };
        ids.insert(0, world.registry.start_run(new).await.unwrap().id);
        world.registry.log_metrics(&ids[0], vec![point("m", 0, 0, f64::from(i))]).await.unwrap();
    }
    let all = world.registry.runs(RunFilter::default()).await.unwrap();
    assert_eq!(all.iter().map(|run| run.id).collect::<Vec<_>>(), ids);
    assert!(all.iter().all(|run| run.metrics["m"].to_string() == run.params["i"]));
    let filter = RunFilter { experiment: Some("odd".into()), limit: 2 };
    let odd: Vec<_> = world.registry.runs(filter).await.unwrap().into_iter().map(|run| run.id).collect();
    assert_eq!(odd, [ids[0], ids[2]]);
}

#[tokio::test]
async fn what_cannot_be_is_refused_and_leaves_nothing() {
    let world = World::new().await;
    let run = world.run().await;
    let stranger = RunId::mint();
    let registry = &world.registry;
    assert_eq!(registry.run(&stranger).await.unwrap_err().code(), ErrorCode::NotFound);
    let points = vec![point("m", 0, 0, 1.0)];
    assert_eq!(registry.log_metrics(&stranger, points).await.unwrap_err().code(), ErrorCode::NotFound);
    assert_eq!(registry.metric_history(&stranger, "m").await.unwrap_err().code(), ErrorCode::NotFound);
    let points = vec![point("m", 0, 0, 1.0), point("", 0, 0, 1.0)];
    assert_eq!(registry.log_metrics(&run, points).await.unwrap_err().code(), ErrorCode::InvalidArgument);
    assert!(registry.metric_history(&run, "m").await.unwrap().is_empty(), "all or nothing");

    registry.log_params(&run, texts(&[("lr", "0.1")])).await.unwrap();
    let error = registry.log_params(&run, texts(&[("a", "1"), ("lr", "0.2")])).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::Conflict);
    assert!(error.to_string().contains("`lr`") && error.to_string().contains("`0.1`"), "{error}");
    assert_eq!(registry.run(&run).await.unwrap().params, texts(&[("lr", "0.1")]), "all or nothing");

    let unnamed = registry.start_run(NewRun::default()).await.unwrap_err();
    assert_eq!(unnamed.code(), ErrorCode::InvalidArgument);
    let digest = Digest::of(b"never stored");
    let new = NewRun { experiment: "e".into(), dataset: Some(digest.into()), ..NewRun::default() };
    assert_eq!(registry.start_run(new).await.unwrap_err().code(), ErrorCode::NotFound);
    let mut data = dataset(&world).await;
    data.blobs.insert("train".into(), digest);
    let error = registry.record_dataset(data.clone()).await.unwrap_err();
    assert!(error.to_string().contains("part `train`"), "{error}");
    assert_eq!(registry.dataset(&data.digest).await.unwrap_err().code(), ErrorCode::NotFound);
    assert_eq!(registry.get_blob(&digest).await.unwrap_err().code(), ErrorCode::NotFound);
}
