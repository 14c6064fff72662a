//! Versions made from files that lie on the server already, as MLflow's client registers them.

use std::{collections::BTreeSet, fs};

use domain::{
    Coded, ErrorCode, Field, RunId, ValueType,
    lineage::{Direction, NodeKind},
    ports::Models,
};
use futures::future::join_all;
use registry::{ModelVersion, NewModel, Reach, RegistryError, SourcedVersion, walk};

use crate::world::{World, model, reference, texts, version_of};

const ONNX: &str = "
flavors:
  onnx: {code: null, data: model.onnx, providers: [CPUExecutionProvider]}
  python_function: {loader_module: mlflow.onnx, data: model.onnx}
model_uuid: 0af3
saved_input_example_info: {artifact_path: input_example.json}
signature:
  inputs: '[{\"type\": \"double\", \"name\": \"distance\"}, {\"type\": \"string\", \"name\": \"place\"}]'
  outputs: '[{\"type\": \"tensor\", \"tensor-spec\": {\"dtype\": \"float32\", \"shape\": [-1, 2]}}]'
";
const FILES: [(&str, &[u8]); 3] =
    [("MLmodel", ONNX.as_bytes()), ("input_example.json", b"{}"), ("model.onnx", b"weights")];

/// A world with the model, a run, and the run's files below `model`.
async fn world() -> (World, RunId, String) {
    let world = World::new().await;
    let new = NewModel { name: model(), description: String::new(), tags: texts(&[]), user_id: String::new() };
    world.registry.create_model(new).await.unwrap();
    let run = world.run().await;
    let directory = format!("{}/model", world.artifacts_of(&run).await);
    world.put(&directory, &FILES).await;
    (world, run, directory)
}

fn from(source: impl Into<String>) -> SourcedVersion {
    SourcedVersion { source: source.into(), ..SourcedVersion::default() }
}

async fn register(world: &World, new: SourcedVersion) -> Result<ModelVersion, RegistryError> {
    world.registry.register_source(&model(), new).await
}

#[tokio::test]
async fn a_version_made_from_a_runs_files_is_the_same_record_as_one_made_from_bytes() {
    let (world, run, directory) = world().await;
    let new = SourcedVersion {
        run: Some(run),
        tags: texts(&[("a", "b")]),
        description: "from the client".into(),
        run_link: "https://elsewhere.example.com/run".into(),
        ..from(format!("mlflow-artifacts:/{directory}"))
    };
    let made = register(&world, new).await.unwrap();
    let world = world.reopen().await;
    let found = world.registry.version(&reference(1)).await.unwrap();
    assert_eq!(found, made);
    assert_eq!((found.run, found.unsafe_reason.as_deref()), (Some(run), None));
    assert_eq!(found.files.keys().collect::<Vec<_>>(), ["MLmodel", "input_example.json", "model.onnx"]);
    assert_eq!(found.files["model.onnx"], domain::Digest::of(b"weights"));
    assert_eq!(found.flavors, ["onnx", "python_function"]);
    let inputs = [Field::new("distance", ValueType::Float), Field::new("place", ValueType::Text)];
    assert_eq!((&found.signature.inputs[..], &found.signature.outputs[..]), (&inputs[..], &[][..]));
    assert_eq!(found.stated_signature.unwrap()["outputs"][0]["tensor-spec"]["shape"][1], 2, "kept as it was stated");
    assert_eq!(
        (found.input_example.as_deref(), found.model_uuid.as_deref()),
        (Some("input_example.json"), Some("0af3"))
    );
    assert_eq!(found.run_link, "https://elsewhere.example.com/run");
    let uri = world.registry.download_uri(&reference(1)).await.unwrap();
    assert_eq!((uri.as_str(), found.source.as_str()), (&*format!("mlflow-artifacts:/{directory}"), uri.as_str()));

    let opened = Models::open(&world.registry, &reference(1)).await.unwrap();
    assert_eq!(opened.files["model.onnx"].as_ref(), b"weights");
    // The trainer's own way gives the same bytes under the same digest, and a place that the client can read.
    let own = world.registry.register(version_of(run, b"weights")).await.unwrap();
    assert_eq!(own.files["model.onnx"], found.files["model.onnx"]);
    let folder = own.download.strip_prefix("mlflow-artifacts:/").unwrap();
    let listed: Vec<String> = own.files.keys().map(|path| format!("{folder}/{path}")).collect();
    assert_eq!(world.artifacts(folder).await, listed);
}

#[tokio::test]
async fn a_source_leads_to_its_files_however_it_is_named() {
    let (world, run, directory) = world().await;
    let id = "m-0123456789abcdef0123456789abcdef";
    let below = world.logged_model(id, Some(run)).await;
    world.put(&below, &FILES).await;
    let kept = |path: &str| format!("mlflow-artifacts:/{path}");
    let named = |run, logged: Option<&str>, source: String| {
        let new = SourcedVersion { run, logged_model: logged.map(str::to_owned), ..from(source) };
        register(&world, new)
    };
    for (run_said, logged_said, source, download, logged) in [
        (Some(run), None, kept(&directory), kept(&directory), None),
        (Some(run), None, format!("runs:/{run}/model"), kept(&directory), None),
        (None, None, format!("runs:/{run}/model"), kept(&directory), None),
        (None, None, format!("models:/{id}"), kept(&below), Some(id)),
        (Some(run), Some(id), format!("models:/{id}"), kept(&below), Some(id)),
        (Some(run), None, kept(&below), kept(&below), None),
        (None, Some(id), kept(&below), kept(&below), Some(id)),
        (None, None, "models:/flight-delay/1".into(), kept(&directory), None),
        (Some(run), None, "models:/flight-delay/latest".into(), kept(&directory), None),
    ] {
        let made = named(run_said, logged_said, source.clone()).await.unwrap();
        assert_eq!((made.run, made.download, made.logged_model.as_deref()), (Some(run), download, logged), "{source}");
        assert_eq!((made.source, made.files.len(), made.flavors.len()), (source, 3, 2));
    }
    // The pages of a logged model show which versions it became.
    let tag = "SELECT value FROM registry_logged_model_tags WHERE model = $1 AND key = 'mlflow.modelVersions'";
    let tag: String = sqlx::query_scalar(tag).bind(id).fetch_one(world.meta.reader()).await.unwrap();
    let tag: serde_json::Value = serde_json::from_str(&tag).unwrap();
    assert_eq!(
        (tag.as_array().unwrap().len(), &tag[0]),
        (3, &serde_json::json!({"name": "flight-delay", "version": 4}))
    );
    let elsewhere = register(&world, from("s3://bucket/model")).await.unwrap();
    assert_eq!((elsewhere.download.as_str(), elsewhere.files.len(), elsewhere.run), ("s3://bucket/model", 0, None));
    let error = Models::open(&world.registry, &elsewhere.reference()).await.unwrap_err();
    assert!(error.to_string().contains("has no `model.onnx`"), "{error}");
}

#[tokio::test]
async fn a_source_that_is_not_what_it_is_said_to_be_is_refused_and_takes_no_number() {
    let (world, run, directory) = world().await;
    let other = world.run().await;
    let id = "m-0123456789abcdef0123456789abcdef";
    let below = world.logged_model(id, Some(run)).await;
    let kept = |path: &str| format!("mlflow-artifacts:/{path}");
    let invalid = ErrorCode::InvalidArgument;
    for (run_said, logged_said, source, code) in [
        (None, None, "/etc/passwd".to_owned(), invalid),
        (None, None, "file:///etc".to_owned(), invalid),
        (None, None, kept(&format!("{directory}/../../x")), invalid),
        (None, None, kept(&format!("{directory}/%252e%252e/x")), invalid),
        (None, None, "http://169.254.169.254/latest".to_owned(), invalid),
        (None, None, "dbfs:/x".to_owned(), invalid),
        (None, None, String::new(), invalid),
        (None, None, kept(&directory), invalid),
        (Some(other), None, kept(&directory), invalid),
        (Some(other), None, format!("runs:/{run}/model"), invalid),
        (Some(other), None, kept(&below), invalid),
        (Some(run), None, kept("versions/abc"), invalid),
        (None, Some(id), kept(&directory), invalid),
        (None, Some("m-other"), format!("models:/{id}"), invalid),
        (Some(RunId::mint()), None, kept(&directory), ErrorCode::NotFound),
        (Some(RunId::mint()), None, "s3://bucket/x".to_owned(), ErrorCode::NotFound),
        (None, None, format!("runs:/{}/model", RunId::mint()), ErrorCode::NotFound),
        (None, None, "models:/m-unknown".to_owned(), ErrorCode::NotFound),
        (None, Some("m-unknown"), "s3://bucket/x".to_owned(), ErrorCode::NotFound),
        (None, None, "models:/flight-delay/1".to_owned(), ErrorCode::NotFound),
        (None, None, "models:/flight-delay@champion".to_owned(), ErrorCode::NotFound),
        (None, None, "models:/stranger/1".to_owned(), ErrorCode::NotFound),
    ] {
        let new =
            SourcedVersion { run: run_said, logged_model: logged_said.map(str::to_owned), ..from(source.clone()) };
        let error = register(&world, new).await.unwrap_err();
        assert_eq!(error.code(), code, "{source}: {error}");
    }
    let stranger = "stranger".parse().unwrap();
    let error = world.registry.register_source(&stranger, from("s3://bucket/x")).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::NotFound, "the client creates the model first");
    assert_eq!(register(&world, from(format!("runs:/{run}/model"))).await.unwrap().version, 1);
    let new = SourcedVersion { run: Some(other), ..from("models:/flight-delay/1") };
    assert_eq!(register(&world, new).await.unwrap_err().code(), invalid, "the run is the other version's");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn versions_created_at_once_by_both_ways_are_numbered_without_gap_or_repetition() {
    let (world, run, _) = world().await;
    let tasks = (0..32u8).map(|i| {
        let (registry, source) = (world.registry.clone(), format!("runs:/{run}/model"));
        tokio::spawn(async move {
            match i % 2 {
                0 => registry.register(version_of(run, &[i])).await,
                _ => registry.register_source(&model(), from(source)).await,
            }
        })
    });
    let made: Vec<_> = join_all(tasks).await.into_iter().map(|made| made.unwrap().unwrap()).collect();
    let numbers: BTreeSet<_> = made.iter().map(|version| version.version).collect();
    assert_eq!(numbers, (1..=32).collect());
    assert_eq!(world.registry.registered_model(&model()).await.unwrap().model.latest, 32);
}

#[tokio::test]
async fn a_pickle_is_kept_marked_unsafe_and_never_opened() {
    let (world, run, _) = world().await;
    let pickle: &[u8] = b"\x80\x04\x95cos\nsystem\n.";
    let root = world.artifacts_of(&run).await;
    for (n, (path, bytes)) in [
        ("python_model.pkl", pickle),
        ("weights", pickle),
        ("data.txt", b"cposix\nsystem\n(S'id'\ntR."),
        ("model.pt", b"anything"),
        ("code/loader.py", b"print(1)"),
        ("MLmodel", b"flavors: {python_function: {loader_module: mine}}"),
        ("MLmodel", b"not: an MLmodel"),
    ]
    .into_iter()
    .enumerate()
    {
        let directory = format!("{root}/case-{n}");
        let digests = world.put(&directory, &[(path, bytes), ("model.onnx", b"weights")]).await;
        let made = register(&world, from(format!("runs:/{run}/case-{n}"))).await.unwrap();
        assert_eq!(made.files, digests, "it is kept as it is");
        assert!(made.unsafe_reason.is_some(), "{path}");
        // Whoever copies it copies the mark.
        let copy = register(&world, from(format!("models:/flight-delay/{}", made.version))).await.unwrap();
        assert_eq!(copy.unsafe_reason, made.unsafe_reason);
        for version in [made, copy] {
            let error = Models::open(&world.registry, &version.reference()).await.unwrap_err();
            assert_eq!(error.code(), ErrorCode::InvalidArgument);
            assert!(error.to_string().contains("marked unsafe"), "{error}");
        }
    }
    let mut new = version_of(run, b"weights");
    new.files.insert("extra/model.joblib".into(), b"x".as_slice().into());
    let made = world.registry.register(new).await.unwrap();
    assert_eq!(made.unsafe_reason.as_deref(), Some("`extra/model.joblib` is a pickle"));
    assert!(Models::open(&world.registry, &made.reference()).await.is_err());
}

#[tokio::test]
async fn a_bit_flipped_in_a_runs_file_is_noticed_by_its_version() {
    let (world, run, _) = world().await;
    let made = register(&world, from(format!("runs:/{run}/model"))).await.unwrap();
    Models::open(&world.registry, &made.reference()).await.unwrap();
    let file = world.blob_file(&made.files["model.onnx"]);
    let mut bytes = fs::read(&file).unwrap();
    bytes[0] ^= 1;
    fs::remove_file(&file).unwrap();
    fs::write(&file, bytes).unwrap();
    let error = Models::open(&world.registry, &made.reference()).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::DataLoss, "{error}");
    assert_eq!(register(&world, from(format!("runs:/{run}/model"))).await.unwrap_err().code(), ErrorCode::DataLoss);
}

#[tokio::test]
async fn what_is_done_to_a_runs_files_later_does_not_change_its_version() {
    let (world, run, directory) = world().await;
    let made = register(&world, from(format!("runs:/{run}/model"))).await.unwrap();
    let mut tx = world.meta.begin().await.unwrap();
    let gone = format!("{directory}/model.onnx");
    sqlx::query("DELETE FROM registry_artifacts WHERE path = $1").bind(gone).execute(tx.conn()).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(world.registry.version(&reference(1)).await.unwrap().files, made.files);
    assert_eq!(Models::open(&world.registry, &reference(1)).await.unwrap().files["model.onnx"].as_ref(), b"weights");
    world.registry.delete_version(&reference(1), "tester").await.unwrap();
    assert_eq!(world.artifacts(&directory).await.len(), 2, "a run's files are its own");
}

#[tokio::test]
async fn files_of_a_version_go_with_the_last_copy_of_it() {
    let (world, run, _) = world().await;
    let own = world.registry.register(version_of(run, b"weights")).await.unwrap();
    let copy = register(&world, from("models:/flight-delay/1")).await.unwrap();
    assert_eq!((copy.download.as_str(), &copy.files), (own.download.as_str(), &own.files));
    let world = world.reopen().await;
    world.registry.delete_version(&own.reference(), "tester").await.unwrap();
    assert_eq!(world.artifacts("versions").await.len(), own.files.len());
    Models::open(&world.registry, &copy.reference()).await.unwrap();
    world.registry.delete_version(&copy.reference(), "tester").await.unwrap();
    assert!(world.artifacts("versions").await.is_empty());
}

#[tokio::test]
async fn lineage_leads_from_told_inputs_over_the_logged_model_to_the_version() {
    let (world, run, _) = world().await;
    let id = "m-0123456789abcdef0123456789abcdef";
    world.logged_model(id, Some(run)).await;
    let mut tx = world.meta.begin().await.unwrap();
    sqlx::query(
        "INSERT INTO registry_inputs (run, name, digest, source_type, source, context, tags, position)
         VALUES ($1, 'wine', 'a1b2', 'local', '{}', 'training', '[]', 0)",
    )
    .bind(run.to_string())
    .execute(tx.conn())
    .await
    .unwrap();
    tx.commit().await.unwrap();
    register(&world, from(format!("models:/{id}"))).await.unwrap();
    let lineage = world.registry.lineage(&reference(1)).await.unwrap();
    let nodes: Vec<_> = lineage.nodes.iter().map(|node| (node.kind, node.label.as_str())).collect();
    let expected = [
        (NodeKind::Dataset, "wine (training)"),
        (NodeKind::Run, "delays: first"),
        (NodeKind::LoggedModel, "classifier"),
        (NodeKind::Version, "flight-delay/1"),
    ];
    assert_eq!(nodes, expected);
    let edges: Vec<_> = lineage.edges.iter().map(|e| format!("{} {} {}", e.from, e.relation, e.to)).collect();
    let (run, logged) = (format!("run/{run}"), format!("logged_model/{id}"));
    let expected = [
        format!("input/wine/a1b2 read_by {run}"),
        format!("{run} made {logged}"),
        format!("{logged} registered_as model/flight-delay/1"),
    ];
    assert_eq!(edges, expected);
    // From the data on, the same graph is found.
    let reach = Reach { depth: 9, nodes: 99 };
    let start = "input/wine/a1b2".parse().unwrap();
    assert_eq!(walk(&world.registry, &start, Direction::Down, reach).await.unwrap(), lineage);
    let near = walk(&world.registry, &start, Direction::Down, Reach { depth: 2, nodes: 99 }).await.unwrap();
    assert_eq!((near.nodes.len(), near.cut.unwrap()), (3, "there is more beyond 2 steps".to_owned()));
    let few = walk(&world.registry, &start, Direction::Both, Reach { depth: 9, nodes: 2 }).await.unwrap();
    assert_eq!((few.nodes.len(), few.cut.unwrap()), (2, "there are more than 2 nodes".to_owned()));
    register(&world, from("s3://bucket/x")).await.unwrap();
    let alone = world.registry.lineage(&reference(2)).await.unwrap();
    assert_eq!((alone.nodes.len(), alone.edges.len()), (1, 0));
}
