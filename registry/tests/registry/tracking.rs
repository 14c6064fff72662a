//! Runs as MLflow's clients make, change and read them.

use domain::{
    Coded, ErrorCode, EventKind, RunId, Span,
    state::{RunEvent, RunState},
};
use registry::{Batch, DatasetInput, MetricEntry, ModelOutput, NewRun, Run, RunChange, RunFilter, TrackedStart};

use crate::world::{World, at, dataset, point, texts};

async fn create(world: &World, name: &str) -> Run {
    let new = TrackedStart { name: name.into(), ..TrackedStart::default() };
    world.registry.create_run(new).await.unwrap().run
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

#[tokio::test]
async fn a_created_run_reads_back_as_it_was_told() {
    let world = World::new().await;
    let new = TrackedStart {
        name: "first".into(),
        started_at: Some(at(77)),
        tags: texts(&[("mlflow.user", "ada"), ("k", &"v".repeat(9_000))]),
        ..TrackedStart::default()
    };
    let made = world.registry.create_run(new).await.unwrap();
    let world = world.reopen().await;
    assert_eq!(world.registry.tracked_run(&made.run.id).await.unwrap(), made);
    let run = made.run;
    assert_eq!((run.state, run.user_id.as_str(), run.started_at), (RunState::Running, "ada", at(77)));
    assert_eq!((run.tags["mlflow.runName"].as_str(), run.tags["k"].len()), ("first", 8_000));
    assert_eq!(run.artifact_uri, format!("mlflow-artifacts:/0/{}/artifacts", run.id));
}

#[tokio::test]
async fn name_and_tag_always_agree() {
    let world = World::new().await;
    let registry = &world.registry;
    let made_up = create(&world, "").await;
    assert!(made_up.name.split('-').count() == 3 && made_up.tags["mlflow.runName"] == made_up.name, "{made_up:?}");
    let tags = texts(&[("mlflow.runName", "by tag")]);
    let by_tag = registry.create_run(TrackedStart { tags: tags.clone(), ..TrackedStart::default() }).await.unwrap().run;
    assert_eq!(by_tag.name, "by tag");
    let both = TrackedStart { name: "other".into(), tags, ..TrackedStart::default() };
    assert_eq!(registry.create_run(both).await.unwrap_err().code(), ErrorCode::InvalidArgument);

    let id = by_tag.id;
    let agreed = async || {
        let run = registry.run(&id).await.unwrap();
        assert_eq!(run.tags["mlflow.runName"], run.name);
        run.name
    };
    registry.set_tags(&id, texts(&[("mlflow.runName", "second")])).await.unwrap();
    assert_eq!(agreed().await, "second");
    registry.update_run(&id, RunChange { name: Some("third".into()), ..RunChange::default() }).await.unwrap();
    assert_eq!(agreed().await, "third");
    let batch = Batch { tags: pairs(&[("mlflow.runName", "x"), ("mlflow.runName", "fourth")]), ..Batch::default() };
    registry.log_batch(&id, batch).await.unwrap();
    assert_eq!(agreed().await, "fourth");
    assert_eq!(registry.delete_tag(&id, "mlflow.runName").await.unwrap_err().code(), ErrorCode::InvalidArgument);
    let error = registry.set_tags(&id, texts(&[("mlflow.runName", "")])).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::InvalidArgument);
    assert_eq!(agreed().await, "fourth");
}

#[tokio::test]
async fn a_run_ends_and_is_resumed_and_ends_otherwise() {
    let world = World::new().await;
    let run = create(&world, "r").await.id;
    let update = async |state, ended_at| {
        world.clock.advance(Span::from_micros(1_000_000));
        let change = RunChange { state: Some(state), ended_at, name: None };
        world.registry.update_run(&run, change).await.unwrap()
    };
    assert_eq!(update(RunState::Finished, Some(at(99))).await.ended_at, Some(at(99)));
    assert_eq!(update(RunState::Finished, None).await.ended_at, Some(at(99)), "a retry changes nothing");
    let resumed = update(RunState::Running, None).await;
    assert_eq!((resumed.state, resumed.ended_at), (RunState::Running, None));
    assert!(update(RunState::Cancelled, None).await.ended_at.is_some_and(|end| end > at(99)), "now, if nobody says");
    assert_eq!(update(RunState::Failed, Some(at(200))).await.state, RunState::Failed);
    assert_eq!(update(RunState::Scheduled, None).await.state, RunState::Scheduled);
    let events = world.meta.journal().about(&format!("run/{run}"), 10).await.unwrap();
    let finished = events.iter().filter(|event| event.kind == EventKind::RunFinished).count();
    assert_eq!((events.len(), finished), (6, 3));
}

#[tokio::test]
async fn a_deleted_run_takes_nothing_and_can_be_restored() {
    let world = World::new().await;
    let registry = &world.registry;
    let run = create(&world, "r").await.id;
    registry.delete_run(&run).await.unwrap();
    registry.delete_run(&run).await.unwrap();
    assert!(registry.run(&run).await.unwrap().deleted_at.is_some(), "still readable");
    assert!(registry.runs(RunFilter::default()).await.unwrap().is_empty());
    let output = ModelOutput { model: "m-1".into(), step: 0 };
    let refused = [
        registry.log_params(&run, texts(&[("a", "b")])).await.err(),
        registry.set_tags(&run, texts(&[("a", "b")])).await.err(),
        registry.delete_tag(&run, "a").await.err(),
        registry.log_metrics(&run, vec![point("m", 0, 0, 1.0)]).await.err(),
        registry.log_batch(&run, Batch::default()).await.err(),
        registry.log_inputs(&run, vec![], vec![]).await.err(),
        registry.log_outputs(&run, vec![output]).await.err(),
        registry.update_run(&run, RunChange::default()).await.err(),
        registry.finish_run(&run, RunEvent::Finish).await.err(),
        registry.log_model_history(&run, MODEL).await.err(),
    ];
    for (index, error) in refused.into_iter().enumerate() {
        assert_eq!(error.map(|error| error.code()), Some(ErrorCode::Conflict), "call {index}");
    }
    registry.restore_run(&run).await.unwrap();
    registry.restore_run(&run).await.unwrap();
    registry.log_params(&run, texts(&[("a", "b")])).await.unwrap();
    let stranger = RunId::mint();
    assert_eq!(registry.delete_run(&stranger).await.unwrap_err().code(), ErrorCode::NotFound);
    assert_eq!(registry.update_run(&stranger, RunChange::default()).await.unwrap_err().code(), ErrorCode::NotFound);
}

#[tokio::test]
async fn parameters_are_cut_and_never_change() {
    let world = World::new().await;
    let run = create(&world, "r").await.id;
    let long = "é".repeat(7_000);
    for _ in 0..2 {
        world.registry.log_params(&run, texts(&[("long", &long)])).await.unwrap();
    }
    assert_eq!(world.registry.run(&run).await.unwrap().params["long"].chars().count(), 6_000);
    let error = world.registry.log_params(&run, texts(&[("long", "short")])).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::Conflict);
}

#[tokio::test]
async fn a_batch_is_written_whole_or_not_at_all() {
    let world = World::new().await;
    let registry = &world.registry;
    let run = create(&world, "r").await.id;
    registry.log_params(&run, texts(&[("lr", "0.1")])).await.unwrap();
    let metrics = || vec![point("m", 0, 0, 1.0).into()];
    let many = |count: usize| (0..count).map(|i| (format!("k{i}"), "v".to_owned())).collect::<Vec<_>>();
    let bad = [
        (Batch { metrics: metrics(), params: pairs(&[("a", "1"), ("lr", "0.2")]), ..Batch::default() }, "lr"),
        (Batch { metrics: metrics(), params: pairs(&[("a", "1"), ("a", "2")]), ..Batch::default() }, "`a`"),
        (Batch { metrics: metrics(), params: pairs(&[("a", "1"), ("b//c", "2")]), ..Batch::default() }, "params[1]"),
        (Batch { metrics: metrics(), tags: pairs(&[("", "1")]), ..Batch::default() }, "tags[0]"),
        (Batch { metrics: metrics(), params: many(101), ..Batch::default() }, "100"),
        (Batch { metrics: metrics(), tags: many(101), ..Batch::default() }, "100"),
        (Batch { metrics: vec![point("m", 0, 0, 1.0).into(); 1_001], ..Batch::default() }, "1000"),
        (Batch { metrics: vec![point("m", 0, 0, 1.0).into(); 950], params: many(51), ..Batch::default() }, "1000"),
        (
            Batch { metrics: vec![point("m", 0, 0, 1.0).into(), point("%", 0, 0, 1.0).into()], ..Batch::default() },
            "metrics[1]",
        ),
    ];
    for (batch, named) in bad {
        let error = registry.log_batch(&run, batch).await.unwrap_err();
        assert!(matches!(error.code(), ErrorCode::InvalidArgument | ErrorCode::Conflict), "{error}");
        assert!(error.to_string().contains(named), "{error}: {named}");
    }
    let mut about = MetricEntry::from(point("m", 0, 0, 1.0));
    about.model = Some("m-unknown".into());
    let error = registry.log_batch(&run, Batch { metrics: vec![about], ..Batch::default() }).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::NotFound, "no such logged model");
    let found = registry.run(&run).await.unwrap();
    assert_eq!((found.params.len(), found.tags.len(), found.metrics.len()), (1, 1, 0));
    assert!(registry.metric_history(&run, "m").await.unwrap().is_empty());

    let whole = Batch { metrics: metrics(), params: pairs(&[("a", "1"), ("a", "1")]), tags: pairs(&[("t", "x")]) };
    for _ in 0..3 {
        registry.log_batch(&run, whole.clone()).await.unwrap();
    }
    let found = registry.run(&run).await.unwrap();
    assert_eq!((found.params["a"].as_str(), found.tags["t"].as_str(), found.metrics["m"]), ("1", "x", 1.0));
    assert_eq!(registry.metric_history(&run, "m").await.unwrap().len(), 1, "a retry doubles nothing");
}

#[tokio::test]
async fn tags_are_replaced_and_removed_and_say_who_runs() {
    let world = World::new().await;
    let registry = &world.registry;
    let run = create(&world, "r").await.id;
    registry.set_tags(&run, texts(&[("a", "1"), ("mlflow.user", "ada")])).await.unwrap();
    registry.set_tags(&run, texts(&[("a", "2"), ("mlflow.user", "bob")])).await.unwrap();
    let found = registry.run(&run).await.unwrap();
    assert_eq!((found.tags["a"].as_str(), found.user_id.as_str()), ("2", "ada"));
    registry.delete_tag(&run, "a").await.unwrap();
    assert_eq!(registry.delete_tag(&run, "a").await.unwrap_err().code(), ErrorCode::NotFound);
    assert!(!registry.run(&run).await.unwrap().tags.contains_key("a"));
}

fn read_for(context: &str) -> DatasetInput {
    DatasetInput {
        name: "wine".into(),
        digest: "d1".into(),
        source_type: "http".into(),
        source: "{\"url\": \"x\"}".into(),
        schema: Some("{}".into()),
        profile: None,
        tags: texts(&[("mlflow.data.context", context)]),
    }
}

#[tokio::test]
async fn inputs_and_outputs_are_recorded_once() {
    let world = World::new().await;
    let registry = &world.registry;
    let run = create(&world, "r").await.id;
    let other = DatasetInput { digest: "d2".into(), tags: texts(&[]), ..read_for("") };
    for _ in 0..2 {
        registry.log_inputs(&run, vec![read_for("train"), other.clone()], vec!["m-1".into()]).await.unwrap();
        let made = [(2, "m-9"), (1, "m-8")].map(|(step, model)| ModelOutput { model: model.into(), step });
        registry.log_outputs(&run, made.to_vec()).await.unwrap();
    }
    let found = registry.tracked_run(&run).await.unwrap();
    assert_eq!(found.inputs, [read_for("train"), other]);
    assert_eq!(found.models_read, ["m-1"]);
    assert_eq!(found.models_made.iter().map(|made| made.model.as_str()).collect::<Vec<_>>(), ["m-8", "m-9"]);

    let summaries = registry.search_datasets(&[0, 5]).await.unwrap();
    let shown: Vec<_> = summaries.iter().map(|one| (one.digest.as_str(), one.context.as_deref())).collect();
    assert_eq!(shown, [("d1", Some("train")), ("d2", None)]);
    assert!(registry.search_datasets(&[]).await.unwrap().is_empty());

    let too_long = [
        DatasetInput { name: "n".repeat(501), ..read_for("x") },
        DatasetInput { digest: "d".repeat(37), ..read_for("x") },
        DatasetInput { digest: String::new(), ..read_for("x") },
        DatasetInput { source: "s".repeat(65_536), ..read_for("x") },
        DatasetInput { schema: Some("s".repeat((1 << 20) + 1)), ..read_for("x") },
        DatasetInput { profile: Some("p".repeat(1 << 24)), ..read_for("x") },
    ];
    for input in too_long {
        let error = registry.log_inputs(&run, vec![read_for("y"), input], vec![]).await.unwrap_err();
        assert!(error.code() == ErrorCode::InvalidArgument && error.to_string().contains("datasets[1]"), "{error}");
    }
    assert_eq!(registry.tracked_run(&run).await.unwrap().inputs[0], read_for("train"), "nothing half-written");
}

#[tokio::test]
async fn a_run_of_our_own_shows_its_data_as_an_input() {
    let world = World::new().await;
    let data = dataset(&world).await;
    world.registry.record_dataset(data.clone()).await.unwrap();
    let new = NewRun { experiment: "delays".into(), dataset: Some(data.digest.into()), ..NewRun::default() };
    let run = world.registry.start_run(new).await.unwrap();
    let found = world.registry.tracked_run(&run.id).await.unwrap();
    assert_eq!(found.run, run);
    let input = &found.inputs[0];
    let digest = data.digest.to_string();
    assert_eq!((input.name.as_str(), input.digest.as_str()), ("flights", &digest[..32]));
    assert_eq!((input.source_type.as_str(), &input.schema), ("millpond", &None));
    assert!(input.source.contains(&digest));
    assert_eq!(input.tags, texts(&[("mlflow.data.context", "training")]));
}

const MODEL: &str = r#"{"artifact_path": "model", "flavors": {}, "utc_time_created": "now", "run_id": "x"}"#;

#[tokio::test]
async fn old_clients_keep_a_list_of_models() {
    let world = World::new().await;
    let registry = &world.registry;
    let run = create(&world, "r").await.id;
    registry.log_model_history(&run, MODEL).await.unwrap();
    registry.log_model_history(&run, MODEL).await.unwrap();
    registry.log_model_history(&run, &MODEL.replace("model", "other")).await.unwrap();
    let tag = &registry.run(&run).await.unwrap().tags["mlflow.log-model.history"];
    let listed: serde_json::Value = serde_json::from_str(tag).unwrap();
    assert_eq!(listed.as_array().map(Vec::len), Some(2), "{tag}");
    for bad in ["", "[]", "{\"run_id\": \"x\"}"] {
        assert_eq!(registry.log_model_history(&run, bad).await.unwrap_err().code(), ErrorCode::InvalidArgument);
    }
}
