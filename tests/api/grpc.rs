//! gRPC: the same port, the same handles, the other protocol.

use std::{collections::BTreeSet, future::Future};

use proto::{
    evaluator::{
        Label, ListReviewTasksRequest, PostLabelsRequest, QualityRequest, RangeRequest,
        evaluator_client::EvaluatorClient, label::Target as Labelled,
    },
    features::{
        CheckConsistencyRequest, Chosen, ConsistencyRequest, DiscardRequest, FeatureRequest, IngestRequest,
        IngestionRequest, JoinPlanRequest, ListStreamsRequest, QuarantineRequest, ReplayRequest,
        feature_store_client::FeatureStoreClient,
    },
    from_struct,
    pipelines::{
        ApplyRequest, GetRunRequest as GetPipelineRun, ImpactRequest, LineageRequest, ListEventsRequest,
        lineage_client::LineageClient, pipelines_client::PipelinesClient,
    },
    registry::{
        FinishRunRequest, GetRunRequest, GetVersionRequest, ImportVersionRequest, LogMetricsRequest, Metric,
        StartRunRequest, VerifyVersionRequest, registry_client::RegistryClient,
    },
    serving::{DeployRequest, GetEndpointRequest, PredictRequest, Target, serving_client::ServingClient},
    to_struct,
};
use serde_json::{Value, json};
use tonic::{Code, Status, transport::Channel};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

use crate::{
    SERVER, instance,
    support::sensors::{ENDPOINT, number, text},
};

/// Runs a test on a connection to the server.
fn on<T>(test: impl AsyncFnOnce(Channel) -> T) -> T {
    fn block<T>(test: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(test)
    }
    let url = SERVER.url.clone();
    block(async { test(Channel::from_shared(url).expect("an address").connect().await.expect("it connects")).await })
}

#[track_caller]
fn refused<T: std::fmt::Debug>(answer: Result<T, Status>, code: Code, word: &str) {
    let status = answer.expect_err("it is refused");
    assert_eq!(status.code(), code, "{status:?}");
    assert!(status.message().contains(word), "{status:?}");
}

#[test]
fn reflection_lists_every_service_and_finds_its_methods() {
    on(async |channel| {
        let mut client = ServerReflectionClient::new(channel);
        let ask = |message| ServerReflectionRequest { host: String::new(), message_request: Some(message) };
        let asked = [
            ask(MessageRequest::ListServices(String::new())),
            ask(MessageRequest::FileContainingSymbol("millpond.serving.v1.Serving.Predict".into())),
        ];
        let mut answers =
            client.server_reflection_info(tokio_stream::iter(asked)).await.expect("an answer").into_inner();
        let first = answers.message().await.expect("an answer").expect("a message").message_response;
        let Some(MessageResponse::ListServicesResponse(listed)) = first else { panic!("{first:?}") };
        let names: BTreeSet<String> = listed.service.into_iter().map(|service| service.name).collect();
        for service in [
            "millpond.features.v1.FeatureStore",
            "millpond.registry.v1.Registry",
            "millpond.serving.v1.Serving",
            "millpond.evaluator.v1.Evaluator",
            "millpond.pipelines.v1.Pipelines",
            "grpc.health.v1.Health",
        ] {
            assert!(names.contains(service), "{service} is not among {names:?}");
        }
        let second = answers.message().await.expect("an answer").expect("a message").message_response;
        let Some(MessageResponse::FileDescriptorResponse(found)) = second else { panic!("{second:?}") };
        let bytes = found.file_descriptor_proto.concat();
        assert!(bytes.windows(14).any(|part| part == b"PredictRequest"), "the file that describes it");
    });
}

#[test]
fn health_says_serving() {
    on(async |channel| {
        let mut client = HealthClient::new(channel);
        let answer = client.check(HealthCheckRequest::default()).await.expect("an answer").into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving);
    });
}

#[test]
fn a_prediction_has_the_same_score_over_rest_and_over_grpc() {
    let instance = instance("both");
    let rest = SERVER.predict(ENDPOINT, &json!([instance])).ok();
    let rest = &rest["predictions"][0];
    let grpc = on(async |channel| {
        let request =
            PredictRequest { endpoint: ENDPOINT.into(), instances: vec![to_struct(instance.clone())], version: 0 };
        ServingClient::new(channel).predict(request).await.expect("an answer").into_inner().predictions.remove(0)
    });
    #[expect(clippy::cast_possible_truncation, reason = "a score is a 32-bit float, which JSON writes in full")]
    let (over_rest, over_grpc) = (number(&rest["score"]) as f32, grpc.score as f32);
    assert_eq!(over_rest.to_bits(), over_grpc.to_bits());
    assert!((0.0..=1.0).contains(&over_grpc));
    assert_eq!((&rest["version"], &rest["positive"]), (&json!(grpc.version), &json!(grpc.positive)));
    assert_eq!(rest["event_timestamp"], json!(grpc.event_timestamp));
    assert_ne!(text(&rest["id"]), grpc.id);
}

#[test]
fn the_feature_store_takes_rows_and_gives_features() {
    on(async |channel| {
        let mut client = FeatureStoreClient::new(channel);
        let reading = json!({
            "pump": "P99", "measured_at": "2024-03-15T10:00:00Z", "vibration": 2.5, "temperature": 60,
            "pressure": null, "flow": 31.25
        });
        let request = IngestRequest { source: "readings".into(), rows: vec![to_struct(reading)] };
        let report = client.ingest(request.clone()).await.expect("an answer").into_inner();
        assert_eq!((report.accepted, report.quarantined), (1, 0));
        let again = client.ingest_stream(tokio_stream::iter([request.clone(), request])).await.expect("an answer");
        assert_eq!(again.into_inner().duplicates, 2);

        let rows = json!([{"pump": "P99", "event_timestamp": "2024-03-15T11:00:00Z"}]);
        let row = to_struct(rows[0].clone());
        let request = FeatureRequest { service: ENDPOINT.into(), rows: vec![row] };
        let online = client.get_online_features(request.clone()).await.expect("an answer").into_inner();
        let historical = client.get_historical_features(request).await.expect("an answer").into_inner();
        assert_eq!(online, historical);
        let mut known = from_struct(online.rows[0].clone());
        assert_eq!((&known["now__vibration"], &known["lately__flow_6h"]), (&json!(2.5), &json!(31.25)));

        let rest = SERVER.post("/api/v1/features/online", &json!({"service": ENDPOINT, "rows": rows})).ok();
        for (name, value) in rest["rows"][0].as_object().expect("an object") {
            let over_grpc = known.remove(name).expect("the same members");
            assert!(over_grpc == *value || over_grpc.as_f64() == value.as_f64(), "{name}: {over_grpc} {value}");
        }
        assert!(known.is_empty(), "{known:?}");

        let request = JoinPlanRequest { service: ENDPOINT.into(), questions: 7 };
        let plan = client.plan_historical_features(request).await.expect("an answer").into_inner();
        assert_eq!((plan.place.as_str(), plan.questions), ("local", 7));
        assert_eq!(plan.reason, "no Spark server is set (`joins.spark_url`)");
        let rest = SERVER.get(&format!("/api/v1/features/plan?service={ENDPOINT}&questions=7")).ok();
        assert_eq!((&rest["place"], &rest["bytes"]), (&json!("local"), &json!(plan.bytes)));

        let checked = client.check_consistency(CheckConsistencyRequest {}).await.expect("an answer").into_inner();
        assert_eq!((checked.late_data, checked.definition_change, checked.lost_write), (0, 0, 0));
        let state = client.get_consistency(ConsistencyRequest { limit: 0 }).await.expect("an answer").into_inner();
        assert_eq!((state.share, state.waiting, state.mismatches), (0.01, 0, vec![]));

        let nobody = FeatureRequest { service: "nobody".into(), rows: Vec::new() };
        refused(client.get_online_features(nobody).await, Code::NotFound, "nobody");
        let empty = FeatureRequest { service: ENDPOINT.into(), rows: Vec::new() };
        refused(client.get_online_features(empty).await, Code::InvalidArgument, "rows is empty");
    });
}

#[test]
fn the_registry_tracks_runs_and_knows_versions() {
    on(async |channel| {
        let mut client = RegistryClient::new(channel.clone());
        let new = StartRunRequest { experiment: "by-hand".into(), name: "over grpc".into(), ..Default::default() };
        let run = client.start_run(new).await.expect("an answer").into_inner().id;
        let metrics = (0..3_u8).map(|step| Metric {
            key: "loss".into(),
            value: 1.0 / f64::from(step + 1),
            step: step.into(),
            at: String::new(),
        });
        let log = LogMetricsRequest { run: run.clone(), metrics: metrics.collect() };
        assert_eq!(client.log_metrics(log).await.expect("an answer").into_inner().written, 3);
        let finish = |state: &str| FinishRunRequest { run: run.clone(), state: state.into() };
        refused(client.finish_run(finish("done")).await, Code::InvalidArgument, "finished");
        client.finish_run(finish("finished")).await.expect("an answer");
        let read = client.get_run(GetRunRequest { run: run.clone() }).await.expect("an answer").into_inner();
        let read = Value::Object(from_struct(read.body.expect("a body")));
        let rest = SERVER.get(&format!("/api/v1/runs/{run}")).ok();
        assert_eq!((&read["state"], &rest["state"]), (&json!("finished"), &json!("finished")));
        assert_eq!(number(&read["metrics"]["loss"]).to_bits(), number(&rest["metrics"]["loss"]).to_bits());

        let lineage = GetVersionRequest { model: ENDPOINT.into(), version: 1 };
        let lineage = client.get_lineage(lineage).await.expect("an answer").into_inner();
        assert_eq!((lineage.nodes.len(), lineage.edges.len()), (3, 2));
        let mut tracing = LineageClient::new(channel.clone());
        let ask = |node: &str, direction: &str| LineageRequest {
            node: node.into(),
            direction: direction.into(),
            ..LineageRequest::default()
        };
        let version = format!("model/{ENDPOINT}/1");
        let up = tracing.trace(ask(&version, "up")).await.expect("an answer").into_inner();
        assert_eq!((&up.nodes, &up.edges, &*up.cut), (&lineage.nodes, &lineage.edges, ""));
        let champion = SERVER.get(&format!("/api/v1/endpoints/{ENDPOINT}")).ok()["champion"].clone();
        let both = tracing.trace(ask(&format!("model/{ENDPOINT}/{champion}"), "")).await.expect("an answer");
        assert!(both.into_inner().nodes.len() > up.nodes.len(), "the endpoint lies the other way");
        refused(tracing.trace(ask(&version, "sideways")).await, Code::InvalidArgument, "up, down or both");
        refused(tracing.trace(ask("row/1", "")).await, Code::InvalidArgument, "names no node");
        let dataset = Value::Object(from_struct(up.nodes[0].clone()))["id"].clone();
        let dataset = text(&dataset).strip_prefix("dataset/").expect("a dataset").to_owned();
        let impact = tracing.impact(ImpactRequest { dataset }).await.expect("an answer").into_inner();
        assert!(impact.body.is_some_and(|body| body.fields.contains_key("endpoints")));
        refused(client.get_run(GetRunRequest { run: "not-an-id".into() }).await, Code::InvalidArgument, "run");
        let unknown = GetVersionRequest { model: ENDPOINT.into(), version: 999 };
        refused(client.get_version(unknown).await, Code::NotFound, "999");
    });
}

#[test]
fn the_files_of_a_version_are_read_back_and_uploaded_ones_imported() {
    on(async |channel| {
        let mut client = RegistryClient::new(channel);
        let ask = |version, file: &str| VerifyVersionRequest { model: ENDPOINT.into(), version, file: file.into() };
        let all = client.verify_version(ask(1, "")).await.expect("an answer").into_inner();
        assert!(all.whole && all.files.len() == 3, "{all:?}");
        assert!(all.files.iter().all(|file| file.state == "whole" && file.bytes > 0), "{all:?}");
        let one = client.verify_version(ask(1, "model.onnx")).await.expect("an answer").into_inner();
        assert_eq!(one.files.iter().map(|file| file.path.as_str()).collect::<Vec<_>>(), ["model.onnx"]);
        refused(client.verify_version(ask(999, "")).await, Code::NotFound, "999");

        let started = StartRunRequest { experiment: "imports".into(), ..StartRunRequest::default() };
        let run = client.start_run(started).await.expect("an answer").into_inner().id;
        let import = |directory: &str| ImportVersionRequest {
            model: "over-grpc".into(),
            run: run.clone(),
            directory: directory.into(),
            ..ImportVersionRequest::default()
        };
        refused(client.import_version(import("../model")).await, Code::InvalidArgument, "directory");
        refused(client.import_version(import("model")).await, Code::InvalidArgument, "has no files");
    });
}

#[test]
fn serving_shows_its_endpoints_and_refuses_what_does_not_add_up() {
    on(async |channel| {
        let mut client = ServingClient::new(channel);
        let get = |name: &str| GetEndpointRequest { endpoint: name.into() };
        let view = client.get_endpoint(get(ENDPOINT)).await.expect("an answer").into_inner();
        let view = Value::Object(from_struct(view.body.expect("a body")));
        assert_eq!(view["champion"], SERVER.get(&format!("/api/v1/endpoints/{ENDPOINT}")).ok()["champion"]);
        refused(client.get_endpoint(get("nobody")).await, Code::NotFound, "nobody");
        let deploy = |percent| DeployRequest {
            endpoint: ENDPOINT.into(),
            targets: vec![Target { version: 1, percent }],
            shadow: Vec::new(),
            reason: String::new(),
        };
        refused(client.deploy(deploy(99)).await, Code::InvalidArgument, "100");
        let predict = |endpoint: &str, instances| PredictRequest { endpoint: endpoint.into(), instances, version: 0 };
        let one = vec![to_struct(instance("grpc"))];
        refused(client.predict(predict("nobody", one)).await, Code::NotFound, "nobody");
        let mut wrong = instance("grpc");
        wrong["load"] = json!("heavy");
        let wrong = predict(ENDPOINT, vec![to_struct(wrong)]);
        refused(client.predict(wrong).await, Code::InvalidArgument, "instances[0].load");
    });
}

#[test]
fn the_evaluator_takes_labels_and_shows_what_it_knows() {
    SERVER.predict(ENDPOINT, &json!([instance("told-over-grpc")])).ok();
    while SERVER.post(&format!("/api/v1/endpoints/{ENDPOINT}/settle"), &json!({})).ok()["settled"] != true {}
    on(async |channel| {
        let mut client = EvaluatorClient::new(channel);
        let label = |target| PostLabelsRequest {
            endpoint: ENDPOINT.into(),
            labels: vec![Label { target: Some(target), value: true, known_at: "2024-03-16T06:00:00Z".into() }],
        };
        let by_key = label(Labelled::Key("told-over-grpc".into()));
        assert_eq!(client.post_labels(by_key.clone()).await.expect("an answer").into_inner().joined, 1);
        assert_eq!(client.post_labels(by_key).await.expect("an answer").into_inner().already, 1);
        let strange = "01890000000070008000000000000000";
        let by_id = label(Labelled::PredictionId(strange.into()));
        refused(client.post_labels(by_id).await, Code::NotFound, strange);

        let range = RangeRequest { endpoint: ENDPOINT.into(), limit: 1_000, ..Default::default() };
        let logged = client.list_predictions(range).await.expect("an answer").into_inner().rows;
        let told = logged.into_iter().map(from_struct).find(|row| row["label_key"] == "told-over-grpc");
        assert_eq!(told.expect("it is logged")["label"]["value"], true);
        let quality =
            |bucket: &str| QualityRequest { endpoint: ENDPOINT.into(), bucket: bucket.into(), ..Default::default() };
        assert!(!client.get_quality(quality("all")).await.expect("an answer").into_inner().rows.is_empty());
        refused(client.get_quality(quality("fortnight")).await, Code::InvalidArgument, "bucket");
        let tasks = ListReviewTasksRequest { endpoint: "nobody".into(), ..Default::default() };
        refused(client.list_review_tasks(tasks).await, Code::NotFound, "nobody");
    });
}

#[test]
fn the_conductor_applies_definitions_and_lets_its_journal_be_followed() {
    on(async |channel| {
        let mut client = PipelinesClient::new(channel);
        let apply = |yaml: &str| ApplyRequest { yaml: yaml.into(), dry_run: false };
        let entity = apply("kind: Entity\nname: plant\nkey: plant\n");
        let first = client.apply(entity.clone()).await.expect("an answer").into_inner().changes;
        assert_eq!((first[0].action.as_str(), first[0].name.as_str()), ("created", "plant"));
        let again = client.apply(entity).await.expect("an answer").into_inner().changes;
        assert_eq!(again[0].action, "unchanged");
        refused(client.apply(apply("kind: Entity\nname: [\n")).await, Code::InvalidArgument, "line");

        let from = |after| ListEventsRequest { after, limit: 5 };
        let events = client.list_events(from(0)).await.expect("an answer").into_inner().events;
        assert_eq!(events.iter().map(|event| event.seq).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
        let mut followed = client.follow_events(from(3)).await.expect("an answer").into_inner();
        let next = followed.message().await.expect("no error").expect("an event");
        assert_eq!(next, events[3]);
        drop(followed);
        let unknown = GetPipelineRun { run: "01890000-0000-7000-8000-000000000000".into() };
        refused(client.get_run(unknown).await, Code::NotFound, "01890000");
    });
}

#[test]
fn pushed_messages_are_answered_one_by_one_and_a_bad_one_stops_nothing() {
    let yaml = "kind: Source\nname: pushed\ntimestamp: at\nrow_id: [id]\ncolumns:\n  - {name: id, type: int, required: true}\n  \
                - {name: at, type: timestamp}\n";
    SERVER.apply(yaml).ok();
    on(async |channel| {
        let mut client = FeatureStoreClient::new(channel);
        let row = |id: Value| to_struct(json!({"id": id, "at": "2024-03-15T10:00:00Z"}));
        let message = |source: &str, rows: Vec<Value>| IngestRequest {
            source: source.into(),
            rows: rows.into_iter().map(row).collect(),
        };
        let messages = [
            message("pushed", vec![json!(1), json!("two")]),
            message("pulled", vec![json!(3)]),
            message("pushed", vec![json!(1), json!(4)]),
        ];
        let mut answers = client.push(tokio_stream::iter(messages)).await.expect("an answer").into_inner();
        let mut seen = Vec::new();
        while let Some(answer) = answers.message().await.expect("the stream goes on") {
            let (taken, total) = (answer.taken.expect("counts"), answer.total.expect("counts"));
            seen.push((answer.message, answer.error.is_empty(), taken.accepted, total.accepted, total.quarantined));
        }
        assert_eq!(seen, [(1, true, 1, 1, 1), (2, false, 0, 1, 1), (3, true, 1, 2, 1)]);

        let source = || "pushed".to_owned();
        let state = client.get_ingestion(IngestionRequest { source: source() }).await.expect("an answer").into_inner();
        assert_eq!((state.rows, state.quarantined, state.reasons["wrong_type"]), (2, 1, 1));
        let listed =
            client.list_quarantine(QuarantineRequest { source: source(), ..QuarantineRequest::default() }).await;
        let kept = from_struct(listed.expect("an answer").into_inner().rows.remove(0));
        let chosen = Some(Chosen { rows: vec![text(&kept["id"]).to_owned()], ..Chosen::default() });
        let patch = Some(to_struct(json!({"id": 2})));
        let replay = ReplayRequest { source: source(), chosen, patch, instead: None };
        let replayed = client.replay_quarantine(replay).await.expect("an answer").into_inner();
        assert_eq!((replayed.replayed, replayed.accepted), (1, 1));
        let discard = DiscardRequest { source: source(), chosen: None };
        assert_eq!(client.discard_quarantine(discard).await.expect("an answer").into_inner().discarded, 0);
        let streams = client.list_streams(ListStreamsRequest {}).await.expect("an answer").into_inner().streams;
        assert_eq!(streams, []);
        let wrong = QuarantineRequest { source: source(), reason: "lat".into(), ..QuarantineRequest::default() };
        refused(client.list_quarantine(wrong).await, Code::InvalidArgument, "did you mean `late`?");
    });
}
