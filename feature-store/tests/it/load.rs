//! Files of the server's disk: each is taken once, whatever its name, and a bad one costs the others nothing.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use domain::{Coded as _, Column, ErrorCode, EventKind, Frame};
use feature_store::{IngestReport, LoadPhase, LoadState};
use runtime::House;

use crate::world::{World, event, events, t};

const PATIENCE: Duration = Duration::from_secs(30);

fn source() -> domain::SourceName {
    "events".parse().unwrap()
}

async fn world() -> World {
    let world = World::new().await;
    world.apply(&events()).await;
    std::fs::create_dir(files(&world)).unwrap();
    world
}

fn files(world: &World) -> PathBuf {
    world.dir.path().join("files")
}

fn put(world: &World, name: &str, bytes: impl AsRef<[u8]>) {
    std::fs::write(files(world).join(name), bytes).unwrap();
}

fn lines(ids: std::ops::Range<i64>) -> String {
    ids.map(|id| event(id, "a", id, 1.0).to_string() + "\n").collect()
}

fn parquet(ids: std::ops::Range<i64>) -> Bytes {
    let frame = Frame::new([
        ("id".into(), Column::Int(ids.clone().map(Some).collect())),
        ("at".into(), Column::Timestamp(ids.clone().map(|id| Some(t(id))).collect())),
        ("who".into(), Column::Text(ids.map(|_| Some("a".into())).collect())),
    ]);
    storage::to_parquet(&frame.unwrap()).unwrap()
}

/// Asks for a load and waits for its end.
async fn loaded(world: &World, path: &str) -> LoadState {
    let path = files(world).join(path);
    let load = world.store.load(&source(), path.to_str().unwrap(), "ann").await.unwrap();
    ended(world, load.number).await
}

async fn ended(world: &World, number: u64) -> LoadState {
    let begin = std::time::Instant::now();
    loop {
        let load = world.store.load_state(number).await.unwrap();
        if load.phase != LoadPhase::Running {
            return load;
        }
        assert!(begin.elapsed() < PATIENCE, "{load:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn start(world: &World) -> (House, Arc<Mutex<IngestReport>>) {
    let (house, told) = (House::new(), Arc::new(Mutex::new(IngestReport::default())));
    let sum = told.clone();
    world.store.load_files(&house, Arc::new(move |_, report| sum.lock().unwrap().add(report.clone())));
    (house, told)
}

#[tokio::test]
async fn files_are_taken_once_and_a_bad_one_is_named() {
    let world = world().await;
    let (house, told) = start(&world);
    put(&world, "a.jsonl", lines(1..101) + "no row\n");
    put(&world, "b.csv", "id,who,at\n200,a,2024-01-01T00:00:00Z\nx,a,2024-01-01T00:00:00Z\n");
    put(&world, "c.parquet", parquet(300..310));
    put(&world, "d.parquet", "PAR1 or not");
    put(&world, "notes.txt", "nothing");
    let load = loaded(&world, "").await;
    assert_eq!((load.phase, load.files, load.done, load.known, load.failed), (LoadPhase::Done, 4, 3, 0, 1), "{load:?}");
    assert_eq!((load.rows.accepted, load.rows.quarantined), (111, 2));
    assert_eq!(world.store.stats(&source()).unwrap().rows, 111);
    let all = world.store.loaded_files(&source(), 10).await.unwrap();
    let bad: Vec<_> = all.iter().filter(|file| file.phase == LoadPhase::Failed).collect();
    assert!(bad.len() == 1 && bad[0].path.ends_with("d.parquet"), "{all:?}");
    assert!(bad[0].reason.as_ref().unwrap().contains("not a readable Parquet file"), "{bad:?}");
    let aside = world.store.quarantined(&source(), 10).await.unwrap();
    let mut places: Vec<u64> = aside.iter().map(|row| row.error.line).collect();
    places.sort_unstable();
    assert_eq!(places, [3, 101]);
    // The same bytes under another name, a new file, and the bad one mended.
    std::fs::rename(files(&world).join("a.jsonl"), files(&world).join("z.jsonl")).unwrap();
    put(&world, "d.parquet", parquet(400..402));
    put(&world, "e.ndjson", lines(500..501));
    let load = loaded(&world, "").await;
    assert_eq!((load.phase, load.files, load.done, load.known, load.failed), (LoadPhase::Done, 5, 2, 3, 0), "{load:?}");
    assert_eq!((load.rows.accepted, load.rows.duplicates), (3, 0));
    assert_eq!(told.lock().unwrap().accepted, 114);
    let kinds: Vec<EventKind> =
        world.meta.journal().read(0, 100).await.unwrap().into_iter().map(|event| event.kind).collect();
    assert!(kinds.ends_with(&[EventKind::LoadAsked, EventKind::LoadFinished]), "{kinds:?}");
    assert!(house.shutdown(PATIENCE).await.is_empty());
}

#[tokio::test]
async fn a_load_goes_on_after_a_restart_and_one_that_nobody_may_ask_for_is_refused() {
    let world = world().await;
    put(&world, "a.jsonl", lines(1..50));
    put(&world, "b.jsonl", lines(40..60));
    let path = files(&world).join("?.jsonl");
    // Nobody loads yet; half of a file was taken before the crash.
    let asked = world.store.load(&source(), path.to_str().unwrap(), "ann").await.unwrap();
    assert_eq!((asked.phase, asked.files), (LoadPhase::Running, 0));
    world.put("events", (1..25).map(|id| event(id, "a", id, 1.0)).collect()).await;
    let world = world.reopen().await;
    let (house, _) = start(&world);
    let load = ended(&world, asked.number).await;
    assert_eq!((load.done, load.rows.accepted, load.rows.duplicates), (2, 35, 34), "{load:?}");
    assert_eq!(world.store.stats(&source()).unwrap().rows, 59);
    for path in ["/etc/passwd", "events.csv", "/tmp/../etc/*.csv"] {
        let error = world.store.load(&source(), path, "ann").await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidArgument, "{path}: {error}");
    }
    assert_eq!(world.store.load_state(99).await.unwrap_err().code(), ErrorCode::NotFound);
    assert_eq!(world.store.loads(10).await.unwrap().len(), 1);
    assert!(house.shutdown(PATIENCE).await.is_empty());
}
