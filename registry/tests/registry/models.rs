//! Versions, aliases, lineage and the port.

use std::{collections::BTreeSet, fs, sync::Arc};

use domain::{Coded, ErrorCode, EventKind, ports::Models};
use futures::future::join_all;
use registry::{NewRun, NodeKind};
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
    assert_eq!((found.run, &found.files, &found.tags), (run, &made.files, &texts(&[("kind", "mlp")])));
    assert!(found.metrics["broken"].is_nan() && found.metrics["log_loss"] == 0.5);
    let opened = Models::open(&world.registry, &reference(1)).await.unwrap();
    assert_eq!((opened.version, opened.signature, opened.files), (reference(1), new.signature, new.files));
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
        [("champoin", "did you mean `champion`?"), ("4", "from 1 to 3"), ("0", "1 to 3"), ("", "set the")]
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
        ("17", 1, ErrorCode::InvalidArgument),
        ("No Such", 1, ErrorCode::InvalidArgument),
    ] {
        let error = registry.set_alias(&model(), alias, version, "tester", "").await.unwrap_err();
        assert_eq!(error.code(), code, "{alias} -> {version}: {error}");
    }
    assert_eq!(resolve("champion").await.unwrap(), reference(2), "a refused move moves nothing");
    let stranger = "flight-dealy".parse().unwrap();
    let error = registry.versions(&stranger).await.unwrap_err();
    assert_eq!(error.hint(), "did you mean `flight-delay`?");
    assert_eq!(registry.version(&reference(7)).await.unwrap_err().hint(), "versions count from 1 to 3");
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
    let edges: Vec<_> = lineage.edges.iter().map(|e| (e.from.as_str(), e.to.as_str(), e.relation.as_str())).collect();
    assert_eq!(edges, [(&*dataset, &*run, "read_by"), (&*run, "model/flight-delay/1", "made")]);
    assert_eq!(world.registry.lineage(&reference(2)).await.unwrap_err().code(), ErrorCode::NotFound);
}

#[tokio::test]
async fn a_failing_store_registers_all_or_nothing() {
    let world = World::new().await;
    let run = world.run().await;
    let mut registered = 0;
    for when in [When::Before, When::After] {
        for n in 1..=3 {
            let registry = world.with_faults(Faults::nth(n, when)).await;
            let made = registry.register(version_of(run, format!("{when:?} {n}").as_bytes())).await;
            // A version has two files, so the third call to the store does not happen.
            assert_eq!(made.is_ok(), n == 3);
            registered += u32::from(made.is_ok());
            assert_eq!(world.registry.models().await.unwrap().first().map_or(0, |model| model.latest), registered);
        }
    }
    assert_eq!(registered, 2);
    for number in 1..=registered {
        Models::open(&world.registry, &reference(number)).await.expect("what is registered can be opened");
    }
}
