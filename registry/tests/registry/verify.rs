//! Files of versions, read back.

use std::fs;

use domain::{Coded, ErrorCode, EventKind};
use registry::FileState;

use crate::world::{World, model, reference, version_of};

#[tokio::test]
async fn a_flipped_bit_and_a_missing_file_are_named_and_told_in_the_journal() {
    let world = World::new().await;
    let run = world.run().await;
    let version = world.registry.register(version_of(run, b"weights")).await.unwrap();
    let verified = world.registry.verify_version(&reference(1), None, "test").await.unwrap();
    assert!(verified.whole && verified.files.len() == version.files.len());
    assert!(verified.files.iter().all(|file| file.state == FileState::Whole && file.problem.is_empty()));
    let told = async || {
        let events = world.meta.journal().about(&format!("model/{}/1", model()), 10).await.unwrap();
        events.into_iter().filter(|event| event.kind == EventKind::VersionDamaged).collect::<Vec<_>>()
    };
    assert_eq!(told().await, [], "nothing is said of what is whole");

    let paths: Vec<&String> = version.files.keys().collect();
    let (flipped, missing, cut) = (paths[0], paths[1], paths[2]);
    let file = |path: &String| world.blob_file(&version.files[path]);
    let mut bytes = fs::read(file(flipped)).unwrap();
    bytes[0] ^= 1;
    fs::write(file(flipped), &bytes).unwrap();
    fs::remove_file(file(missing)).unwrap();
    let bytes = fs::read(file(cut)).unwrap();
    fs::write(file(cut), &bytes[1..]).unwrap();

    let verified = world.registry.verify_version(&reference(1), None, "ada").await.unwrap();
    assert!(!verified.whole);
    for found in &verified.files {
        let expected = match &found.path {
            path if path == flipped || path == cut => FileState::Damaged,
            path if path == missing => FileState::Missing,
            _ => FileState::Whole,
        };
        assert_eq!(found.state, expected, "{}", found.path);
        assert_eq!(found.problem.is_empty(), expected == FileState::Whole, "{}", found.path);
        assert_eq!(found.digest, version.files[&found.path]);
    }
    let told = told().await;
    assert_eq!((told.len(), told[0].actor.as_str()), (1, "ada"));
    assert_eq!(told[0].body["files"].as_array().unwrap().len(), 3);
    assert_eq!(told[0].body["files"][0]["path"], **flipped);
}

#[tokio::test]
async fn one_file_can_be_asked_for_and_an_unknown_one_is_said_to_be() {
    let world = World::new().await;
    let run = world.run().await;
    world.registry.register(version_of(run, b"weights")).await.unwrap();
    let one = world.registry.verify_version(&reference(1), Some("model.onnx"), "test").await.unwrap();
    assert_eq!(one.files.iter().map(|file| file.path.as_str()).collect::<Vec<_>>(), ["model.onnx"]);
    for (version, file) in [(1, Some("nothing")), (2, None)] {
        let error = world.registry.verify_version(&reference(version), file, "test").await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::NotFound, "{error}");
    }
}
