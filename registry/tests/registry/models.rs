//! Versions, aliases, lineage and the port.

use std::{collections::BTreeSet, fs, sync::Arc};

use domain::{Coded, ErrorCode, EventKind, lineage::NodeKind, ports::Models};
use futures::future::join_all;
use registry::{NewModel, NewRun, Stage};
use storage::testing::{Faults, When};

use crate::world::{World, dataset, model, reference, texts, version_of};

#[tokio::test]
async fn a_version_is_opened_as_it_was_registered() {
    let world = World::new().await;
    let run = world.run().await;
    let new = version_of(run, b"weights");
    let made = world.registry.register(new.clone()).await.unwrap();
    assert_eq!(made.reference(), reference(1));

    let world = world.reopen().await;
    let found = world.registry.version(&reference(1)).await.unwrap();
    assert_eq!((found.run, &found.tags), (Some(run), &texts(&[("kind", "mlp")])));
    assert_eq!(format!("{found:?}"), format!("{made:?}"), "what was answered is what is kept; NaN equals nothing");
    assert!(found.metrics["broken"].is_nan() && found.metrics["log_loss"] == 0.5);
    let opened = Models::open(&world.registry, &reference(1)).await.unwrap();
    assert_eq!((opened.version, opened.signature), (reference(1), new.signature));
    assert!(new.files.iter().all(|(path, bytes)| opened.files[path] == *bytes));
    // With these, MLflow's client loads it.
    let added: Vec<_> = opened.files.keys().filter(|path| !new.files.contains_key(*path)).collect();
    assert_eq!(added, ["MLmodel", "conda.yaml", "python_env.yaml", "requirements.txt"]);
    assert_eq!(
        (&found.flavors[..], found.unsafe_reason),
        (&["onnx".to_owned(), "python_function".to_owned()][..], None)
    );
    let [event] = &world.meta.journal().about("model/flight-delay/1", 9).await.unwrap()[..] else {
        panic!("one event")
    };
    assert_eq!(event.kind, EventKind::VersionRegistered);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn versions_registered_at_once_are_numbered_without_gap_or_repetition() {
    let world = World::new().await;
    let run = world.run().await;
    let tasks = (0..32u8).map(|i| {
        let registry = world.registry.clone();
        tokio::spawn(async move { registry.register(version_of(run, &[i])).await })
    });
    let made: Vec<_> = join_all(tasks).await.into_iter().map(|made| made.unwrap().unwrap()).collect();
    let numbers: BTreeSet<_> = made.iter().map(|version| version.version).collect();
    assert_eq!(numbers, (1..=32).collect());
    let listed = world.registry.versions(&model()).await.unwrap();
    assert_eq!(listed.iter().map(|version| version.version).collect::<Vec<_>>(), (1..=32).rev().collect::<Vec<_>>());
    for version in made {
        let found = listed.iter().find(|found| found.version == version.version).unwrap();
        assert_eq!(found.files, version.files, "numbers and files belong together");
    }
}

#[tokio::test]
async fn a_flipped_bit_in_a_file_is_noticed() {
    let world = World::new().await;
    let run = world.run().await;
    let made = world.registry.register(version_of(run, b"weights that matter")).await.unwrap();
    let file = world.blob_file(&made.files["model.onnx"]);
    let mut bytes = fs::read(&file).unwrap();
    bytes[3] ^= 1;
    let mut permissions = fs::metadata(&file).unwrap().permissions();
    #[expect(clippy::permissions_set_readonly_false, reason = "a test damages its own file")]
    permissions.set_readonly(false);
    fs::set_permissions(&file, permissions).unwrap();
    fs::write(&file, bytes).unwrap();
    let error = Models::open(&world.registry, &reference(1)).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::DataLoss, "{error}");
}

#[tokio::test]
async fn a_version_without_lawful_files_or_run_is_refused_and_takes_no_number() {
    let world = World::new().await;
    let run = world.run().await;
    let registry = &world.registry;
    for path in ["../model.onnx", "/etc/passwd", "a//b", "a/./b", "c:\\x", "", "a\nb", "x/"] {
        let mut new = version_of(run, b"w");
        new.files.insert(path.to_owned(), Arc::from(b"x".as_slice()));
        let error = registry.register(new).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidArgument, "{path:?}: {error}");
    }
    let mut new = version_of(run, b"w");
    new.files.clear();
    assert_eq!(registry.register(new).await.unwrap_err().code(), ErrorCode::InvalidArgument);
    let error = registry.register(version_of(domain::RunId::mint(), b"w")).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::NotFound);
    assert!(registry.models().await.unwrap().is_empty());
    assert_eq!(registry.register(version_of(run, b"w")).await.unwrap().version, 1);
}

#[tokio::test]
async fn an_alias_moves_with_its_reasons_and_survives() {
    let world = World::new().await;
    let run = world.run().await;
    for weights in [b"1", b"2"] {
        world.registry.register(version_of(run, weights)).await.unwrap();
    }
    let set = |version, reason| {
        let registry = world.registry.clone();
        async move { registry.set_alias(&model(), "champion", version, "tester", reason).await }
    };
    set(1, "the first").await.unwrap();
    let moved = set(2, "better on the holdout").await.unwrap();
    assert_eq!(set(2, "said again").await.unwrap(), moved, "it points there already");

    let world = world.reopen().await;
    assert_eq!(world.registry.aliases(&model()).await.unwrap(), [moved]);
    assert_eq!(world.registry.version(&reference(2)).await.unwrap().aliases, ["champion"]);
    assert!(world.registry.version(&reference(1)).await.unwrap().aliases.is_empty());
    let [shown] = &world.registry.models().await.unwrap()[..] else { panic!("one model") };
    assert_eq!((shown.latest, &shown.aliases), (2, &[("champion".to_owned(), 2)].into()));
    let history = world.registry.alias_history(&model(), "champion", 10).await.unwrap();
    let bodies: Vec<_> = history.iter().map(|event| (&event.body["from"], &event.body["to"])).collect();
    assert_eq!(bodies, [(&1.into(), &2.into()), (&serde_json::Value::Null, &1.into())]);
    assert_eq!(history[0].actor, "tester");
}

#[tokio::test]
async fn names_of_versions_mean_one_thing_or_are_refused() {
    let world = World::new().await;
    let run = world.run().await;
    for weights in [b"1", b"2", b"3"] {
        world.registry.register(version_of(run, weights)).await.unwrap();
    }
    world.registry.set_alias(&model(), "champion", 2, "tester", "").await.unwrap();
    let resolve = async |name: &str| Models::resolve(&world.registry, &model(), name).await;
    for (name, version) in [("champion", 2), ("latest", 3), ("1", 1)] {
        assert_eq!(resolve(name).await.unwrap(), reference(version));
    }
    for (name, hint) in
        [("champoin", "did you mean `champion`?"), ("4", "newest version is 3"), ("0", "version is 3"), ("", "set the")]
    {
        let error = resolve(name).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::NotFound);
        assert!(error.hint().contains(hint), "{name}: {}", error.hint());
    }
    let registry = &world.registry;
    for (alias, version, code) in [
        ("champion", 9, ErrorCode::NotFound),
        ("champion", 0, ErrorCode::NotFound),
        ("latest", 1, ErrorCode::InvalidArgument),
        ("Latest", 1, ErrorCode::InvalidArgument),
        ("17", 1, ErrorCode::InvalidArgument),
        ("v17", 1, ErrorCode::InvalidArgument),
        ("V2", 1, ErrorCode::InvalidArgument),
        ("No Such", 1, ErrorCode::InvalidArgument),
        ("a.b", 1, ErrorCode::InvalidArgument),
        ("", 1, ErrorCode::InvalidArgument),
        (&"x".repeat(256), 1, ErrorCode::InvalidArgument),
    ] {
        let error = registry.set_alias(&model(), alias, version, "tester", "").await.unwrap_err();
        assert_eq!(error.code(), code, "{alias} -> {version}: {error}");
    }
    assert_eq!(resolve("champion").await.unwrap(), reference(2), "a refused move moves nothing");
    for alias in ["Champion_2-b", "v", "v1a", &"x".repeat(255)] {
        registry.set_alias(&model(), alias, 1, "tester", "").await.unwrap();
    }
    let stranger = "flight-dealy".parse().unwrap();
    let error = registry.versions(&stranger).await.unwrap_err();
    assert_eq!(error.hint(), "did you mean `flight-delay`?");
    assert_eq!(registry.version(&reference(7)).await.unwrap_err().hint(), "the newest version is 3");
}

#[tokio::test]
async fn lineage_leads_from_the_data_to_the_version() {
    let world = World::new().await;
    let data = world.registry.record_dataset(dataset(&world).await).await.unwrap();
    let again = world.registry.record_dataset(data.snapshot.clone()).await.unwrap();
    assert_eq!(again, data, "recorded once");
    let new = NewRun {
        experiment: "delays".into(),
        name: "mlp".into(),
        dataset: Some(data.snapshot.digest.into()),
        ..NewRun::default()
    };
    let run = world.registry.start_run(new).await.unwrap().id;
    world.registry.register(version_of(run, b"w")).await.unwrap();
    let lineage = world.registry.lineage(&reference(1)).await.unwrap();
    let kinds: Vec<_> = lineage.nodes.iter().map(|node| node.kind).collect();
    assert_eq!(kinds, [NodeKind::Dataset, NodeKind::Run, NodeKind::Version]);
    let (dataset, run) = (format!("dataset/{}", data.snapshot.digest), format!("run/{run}"));
    let edges: Vec<_> = lineage.edges.iter().map(|e| format!("{} {} {}", e.from, e.relation, e.to)).collect();
    assert_eq!(edges, [format!("{dataset} read_by {run}"), format!("{run} made model/flight-delay/1")]);
    assert_eq!(world.registry.lineage(&reference(2)).await.unwrap_err().code(), ErrorCode::NotFound);
}

#[tokio::test]
async fn a_failing_store_registers_all_or_nothing() {
    let world = World::new().await;
    let run = world.run().await;
    let mut registered = 0;
    for when in [When::Before, When::After] {
        for n in 1..=13 {
            let registry = world.with_faults(Faults::nth(n, when)).await;
            let made = registry.register(version_of(run, format!("{when:?} {n}").as_bytes())).await;
            // A version has two files and four that come with them. Each is stored, and looked for once more when it is
            // named, so the thirteenth call to the store does not happen.
            assert_eq!(made.is_ok(), n == 13, "call {n} {when:?}");
            registered += u32::from(made.is_ok());
            assert_eq!(world.registry.models().await.unwrap().first().map_or(0, |model| model.latest), registered);
        }
    }
    assert_eq!(registered, 2);
    for number in 1..=registered {
        Models::open(&world.registry, &reference(number)).await.expect("what is registered can be opened");
    }
}

fn new_model(name: &str) -> NewModel {
    let (name, tags) = (name.parse().unwrap(), texts(&[("team", "ops")]));
    NewModel { name, description: "what it is for".into(), tags, user_id: "ann".into() }
}

#[tokio::test]
async fn a_model_is_created_once_described_and_tagged() {
    let world = World::new().await;
    let registry = &world.registry;
    let made = registry.create_model(new_model("flight-delay")).await.unwrap();
    assert_eq!((made.model.latest, &made.latest_versions[..]), (0, &[][..]));
    assert_eq!((made.model.description.as_str(), made.model.user_id.as_str()), ("what it is for", "ann"));
    let error = registry.create_model(new_model("flight-delay")).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::AlreadyExists);

    registry.tag_model(&model(), "team", "research").await.unwrap();
    registry.tag_model(&model(), "tier: a/b", "").await.unwrap();
    registry.untag_model(&model(), "team").await.unwrap();
    registry.untag_model(&model(), "team").await.unwrap();
    registry.describe_model(&model(), "another text").await.unwrap();
    let world = world.reopen().await;
    let found = world.registry.registered_model(&model()).await.unwrap().model;
    assert_eq!((found.description.as_str(), found.tags), ("another text", texts(&[("tier: a/b", "")])));
    let error = world.registry.resolve(&model(), "latest").await.unwrap_err();
    assert_eq!((error.code(), error.hint()), (ErrorCode::NotFound, "register a version first".to_owned()));

    let registry = &world.registry;
    for key in ["", "a//b", "../x", "/x", "a\nb", "a?b", &"k".repeat(251)] {
        assert_eq!(
            registry.tag_model(&model(), key, "x").await.unwrap_err().code(),
            ErrorCode::InvalidArgument,
            "{key}"
        );
    }
    let long = "x".repeat(100_001);
    assert_eq!(registry.tag_model(&model(), "x", &long).await.unwrap_err().code(), ErrorCode::InvalidArgument);
    assert_eq!(registry.describe_model(&model(), &long).await.unwrap_err().code(), ErrorCode::InvalidArgument);
    let stranger = "stranger".parse().unwrap();
    for error in [
        registry.tag_model(&stranger, "a", "b").await.unwrap_err(),
        registry.untag_model(&stranger, "a").await.unwrap_err(),
        registry.describe_model(&stranger, "").await.unwrap_err(),
        registry.delete_model(&stranger, "tester").await.unwrap_err(),
        registry.rename_model(&stranger, &model()).await.unwrap_err(),
        registry.registered_model(&stranger).await.unwrap_err(),
    ] {
        assert_eq!(error.code(), ErrorCode::NotFound, "{error}");
    }
}

#[tokio::test]
async fn renaming_keeps_versions_aliases_tags_and_files() {
    let world = World::new().await;
    let run = world.run().await;
    for weights in [b"1", b"2"] {
        world.registry.register(version_of(run, weights)).await.unwrap();
    }
    let registry = &world.registry;
    registry.set_alias(&model(), "champion", 1, "tester", "").await.unwrap();
    registry.tag_model(&model(), "team", "ops").await.unwrap();
    registry.create_model(new_model("taken")).await.unwrap();
    let before = registry.version(&reference(1)).await.unwrap();
    let taken = "taken".parse().unwrap();
    assert_eq!(registry.rename_model(&model(), &taken).await.unwrap_err().code(), ErrorCode::AlreadyExists);
    assert_eq!(registry.rename_model(&model(), &model()).await.unwrap().model.latest, 2, "no other name, no change");

    let to: domain::ModelName = "Delays of Trains".parse().unwrap();
    let renamed = registry.rename_model(&model(), &to).await.unwrap();
    assert_eq!((&renamed.model.name, renamed.model.latest), (&to, 2));
    assert_eq!(
        (renamed.model.aliases, renamed.model.tags),
        ([("champion".to_owned(), 1)].into(), texts(&[("team", "ops")]))
    );
    let after = registry.version(&registry.resolve(&to, "champion").await.unwrap()).await.unwrap();
    let same = registry::ModelVersion { model: to.clone(), ..before };
    assert_eq!(format!("{after:?}"), format!("{same:?}"), "metrics may be NaN, which equals nothing");
    Models::open(registry, &after.reference()).await.unwrap();
    assert_eq!(registry.version(&reference(1)).await.unwrap_err().code(), ErrorCode::NotFound);
    assert_eq!(registry.register(version_named(&to, run)).await.unwrap().version, 3, "counting goes on");
    let events = world.meta.journal().about("model/flight-delay", 1).await.unwrap();
    assert_eq!(events[0].body["renamed_to"], "Delays of Trains");
}

fn version_named(model: &domain::ModelName, run: domain::RunId) -> registry::NewVersion {
    registry::NewVersion { model: model.clone(), ..version_of(run, b"x") }
}

#[tokio::test]
async fn deleting_a_model_frees_its_name_and_numbers_begin_again() {
    let world = World::new().await;
    let run = world.run().await;
    let first = world.registry.register(version_of(run, b"1")).await.unwrap();
    world.registry.register(version_of(run, b"2")).await.unwrap();
    world.registry.set_alias(&model(), "champion", 1, "tester", "").await.unwrap();
    assert_eq!(world.artifacts("versions").await.len(), 12, "six files each");
    world.registry.delete_model(&model(), "tester").await.unwrap();
    assert!(world.registry.models().await.unwrap().is_empty() && world.artifacts("versions").await.is_empty());
    assert_eq!(world.registry.delete_model(&model(), "tester").await.unwrap_err().code(), ErrorCode::NotFound);

    let world = world.reopen().await;
    let again = world.registry.register(version_of(run, b"1")).await.unwrap();
    assert_eq!((again.version, &again.aliases[..]), (1, &[][..]));
    assert_eq!(again.files["model.onnx"], first.files["model.onnx"], "bytes are known by their digest");
    assert_ne!(again.download, first.download, "but the place is another");
    let told = world.meta.journal().about("model/flight-delay", 9).await.unwrap();
    let kinds: Vec<_> = told.iter().map(|event| event.kind).collect();
    assert_eq!(kinds, [EventKind::ModelCreated, EventKind::ModelDeleted, EventKind::ModelCreated], "newest first");
}

#[tokio::test]
async fn a_deleted_version_leaves_its_number_and_takes_its_aliases_along() {
    let world = World::new().await;
    let run = world.run().await;
    for weights in [b"1", b"2", b"3"] {
        world.registry.register(version_of(run, weights)).await.unwrap();
    }
    let registry = &world.registry;
    registry.set_alias(&model(), "champion", 3, "tester", "").await.unwrap();
    registry.set_alias(&model(), "steady", 2, "tester", "").await.unwrap();
    registry.delete_version(&reference(3), "tester").await.unwrap();
    assert_eq!(registry.resolve(&model(), "latest").await.unwrap(), reference(2));
    let aliases = registry.aliases(&model()).await.unwrap();
    assert_eq!(aliases.iter().map(|alias| alias.alias.as_str()).collect::<Vec<_>>(), ["steady"]);
    for error in [
        registry.version(&reference(3)).await.unwrap_err(),
        registry.resolve(&model(), "3").await.unwrap_err(),
        registry.set_alias(&model(), "champion", 3, "tester", "").await.unwrap_err(),
        registry.delete_version(&reference(3), "tester").await.unwrap_err(),
        registry.download_uri(&reference(3)).await.unwrap_err(),
        registry.tag_version(&reference(3), "a", "b").await.unwrap_err(),
        registry.describe_version(&reference(3), "").await.unwrap_err(),
        registry.move_to_stage(&reference(3), Stage::Staging, false).await.unwrap_err(),
    ] {
        assert_eq!(
            (error.code(), error.hint()),
            (ErrorCode::NotFound, "the newest version is 2".to_owned()),
            "{error}"
        );
    }
    let history = registry.alias_history(&model(), "champion", 9).await.unwrap();
    assert_eq!(
        history.iter().map(|event| event.kind).collect::<Vec<_>>(),
        [EventKind::AliasRemoved, EventKind::AliasMoved]
    );
    assert_eq!(registry.register(version_of(run, b"4")).await.unwrap().version, 4, "no number is given twice");
    registry.delete_version(&reference(2), "tester").await.unwrap();
    registry.delete_version(&reference(1), "tester").await.unwrap();
    let shown = registry.versions(&model()).await.unwrap();
    assert_eq!(shown.iter().map(|version| version.version).collect::<Vec<_>>(), [4]);
}

#[tokio::test]
async fn an_alias_is_removed_once_and_never_missed() {
    let world = World::new().await;
    let run = world.run().await;
    world.registry.register(version_of(run, b"1")).await.unwrap();
    let registry = &world.registry;
    registry.set_alias(&model(), "Champion", 1, "tester", "").await.unwrap();
    assert_eq!(registry.alias_version(&model(), "Champion").await.unwrap().version, 1);
    assert_eq!(
        registry.alias_version(&model(), "champion").await.unwrap_err().code(),
        ErrorCode::NotFound,
        "by its case"
    );
    for _ in 0..2 {
        registry.remove_alias(&model(), "Champion", "tester").await.unwrap();
    }
    for name in ["Champion", "latest", "1"] {
        let error = registry.alias_version(&model(), name).await.unwrap_err();
        assert!(matches!(error, registry::RegistryError::NoSuchAlias { .. }), "{name}: {error}");
    }
    assert_eq!(registry.alias_history(&model(), "Champion", 9).await.unwrap().len(), 2, "removed once");
}

#[tokio::test]
async fn a_stage_holds_many_versions_unless_those_before_are_archived() {
    let world = World::new().await;
    let run = world.run().await;
    for weights in [b"1", b"2", b"3", b"4"] {
        world.registry.register(version_of(run, weights)).await.unwrap();
    }
    let registry = &world.registry;
    for number in [1, 2] {
        registry.move_to_stage(&reference(number), Stage::parse("pRoduction").unwrap(), false).await.unwrap();
    }
    let latest = |stages: &'static [Stage]| async move {
        let found = registry.latest_versions(&model(), stages).await.unwrap();
        found.into_iter().map(|version| (version.stage, version.version)).collect::<BTreeSet<_>>()
    };
    assert_eq!(latest(&[]).await, [(Stage::Production, 2), (Stage::None, 4)].into());
    let moved = registry.move_to_stage(&reference(3), Stage::Production, true).await.unwrap();
    assert_eq!(moved.stage, Stage::Production);
    assert_eq!(latest(&[]).await, [(Stage::Production, 3), (Stage::None, 4), (Stage::Archived, 2)].into());
    assert_eq!(latest(&[Stage::Staging, Stage::None]).await, [(Stage::None, 4)].into());
    for stage in [Stage::None, Stage::Archived] {
        let error = registry.move_to_stage(&reference(1), stage, true).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidArgument);
    }
    assert_eq!(Stage::parse("prod").unwrap_err().code(), ErrorCode::InvalidArgument);
    let events = world.meta.journal().about("model/flight-delay/2", 1).await.unwrap();
    assert_eq!((events[0].kind, &events[0].body["stage"]), (EventKind::VersionChanged, &"Archived".into()));
}

#[tokio::test]
async fn a_version_is_described_and_tagged() {
    let world = World::new().await;
    let run = world.run().await;
    world.registry.register(version_of(run, b"1")).await.unwrap();
    let registry = &world.registry;
    registry.describe_version(&reference(1), "good on weekends").await.unwrap();
    registry.tag_version(&reference(1), "kind", "line").await.unwrap();
    registry.tag_version(&reference(1), "kind", "line").await.unwrap();
    registry.tag_version(&reference(1), "seen", "yes").await.unwrap();
    registry.untag_version(&reference(1), "seen").await.unwrap();
    registry.untag_version(&reference(1), "never there").await.unwrap();
    let found = registry.version(&reference(1)).await.unwrap();
    assert_eq!((found.description.as_str(), found.tags), ("good on weekends", texts(&[("kind", "line")])));
    let told = world.meta.journal().about("model/flight-delay/1", 99).await.unwrap();
    assert_eq!(told.len(), 5, "what changed nothing is not told");
}
