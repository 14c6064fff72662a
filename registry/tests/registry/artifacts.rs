//! The artifact tree: files by path, directories that are there while files are, uploads in parts.

use bytes::Bytes;
use domain::{Coded, Digest, ErrorCode, Span, UploadId};
use futures::{TryStreamExt as _, stream};
use registry::{Artifact, ArtifactPath, Registry, RegistryError};
use storage::testing::{Faults, When};

use crate::world::{World, model, version_of};

fn path(text: &str) -> ArtifactPath {
    text.parse().unwrap()
}

type Pieces = Vec<Result<Bytes, RegistryError>>;

fn pieces(text: &str) -> impl futures::Stream<Item = Result<Bytes, RegistryError>> + use<> {
    let pieces: Pieces = text.as_bytes().chunks(3).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    stream::iter(pieces)
}

async fn put(registry: &Registry, at: &str, text: &str) -> Result<Artifact, RegistryError> {
    registry.put_artifact(&path(at), pieces(text), None).await
}

async fn read(registry: &Registry, at: &str) -> Result<String, RegistryError> {
    let file = registry.artifact(&path(at)).await?;
    let pieces: Vec<Bytes> = registry.read_artifact(&file, 0..file.bytes).await?.try_collect().await?;
    Ok(String::from_utf8(pieces.concat()).unwrap())
}

/// Names, directories with a `/` at the end.
async fn names(registry: &Registry, directory: &str) -> Vec<String> {
    let directory = ArtifactPath::directory(directory).unwrap();
    let entries = registry.list_directory(directory.as_ref()).await.unwrap();
    entries.into_iter().map(|e| if e.is_dir() { format!("{}/", e.name) } else { e.name }).collect()
}

/// The path of a run's root.
async fn root(world: &World) -> (String, String) {
    let run = world.run().await.to_string();
    let listing = world.registry.list_artifacts(&run, None, "").await.unwrap();
    assert!(listing.entries.items.is_empty());
    (run, listing.root_uri.strip_prefix("mlflow-artifacts:/").unwrap().to_owned())
}

#[tokio::test]
async fn a_file_comes_back_whole_and_in_part_after_a_restart() {
    let world = World::new().await;
    let file = put(&world.registry, "0/x/artifacts/notes.txt", "ducks on a pond").await.unwrap();
    assert_eq!(file, Artifact { digest: Digest::of(b"ducks on a pond"), bytes: 15 });
    assert_eq!(put(&world.registry, "0/x/artifacts/notes.txt", "ducks on a pond").await.unwrap(), file, "once more");
    put(&world.registry, "0/x/artifacts/empty", "").await.unwrap();
    let world = world.reopen().await;
    assert_eq!(read(&world.registry, "0/x/artifacts/notes.txt").await.unwrap(), "ducks on a pond");
    assert_eq!(read(&world.registry, "0/x/artifacts/empty").await.unwrap(), "");
    let part: Vec<_> = world.registry.read_artifact(&file, 6..8).await.unwrap().try_collect().await.unwrap();
    assert_eq!(part.concat(), b"on");
    put(&world.registry, "0/x/artifacts/notes.txt", "geese").await.unwrap();
    assert_eq!(read(&world.registry, "0/x/artifacts/notes.txt").await.unwrap(), "geese");
}

#[tokio::test]
async fn what_breaks_off_or_is_not_what_was_announced_is_never_seen() {
    let world = World::new().await;
    put(&world.registry, "a/kept", "before").await.unwrap();
    let broken: Pieces =
        vec![Ok(Bytes::from_static(b"half")), Err(RegistryError::NoSuch { what: "rest", name: "of it".into() })];
    for at in ["a/kept", "a/new"] {
        let error =
            world.registry.put_artifact(&path(at), stream::iter(broken_again(&broken)), None).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::NotFound, "the caller's own error comes back: {error}");
        let other = Some(Digest::of(b"other"));
        let error = world.registry.put_artifact(&path(at), pieces("this"), other).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidArgument, "{error}");
    }
    let right = Some(Digest::of(b"this"));
    assert_eq!(names(&world.registry, "a").await, ["kept"]);
    assert_eq!(read(&world.registry, "a/kept").await.unwrap(), "before");
    world.registry.put_artifact(&path("a/new"), pieces("this"), right).await.unwrap();
    for n in 1..=4 {
        for when in [When::Before, When::After] {
            let registry = world.with_faults(Faults::nth(n, when)).await;
            assert!(put(&registry, "a/faulty", "abcdef").await.is_err(), "call {n} {when:?}");
            assert_eq!(names(&registry, "a").await, ["kept", "new"]);
        }
    }
}

fn broken_again(pieces: &Pieces) -> Pieces {
    let copy = |piece: &Result<Bytes, RegistryError>| match piece {
        Ok(bytes) => Ok(bytes.clone()),
        Err(_) => Err(RegistryError::NoSuch { what: "rest", name: "of it".into() }),
    };
    pieces.iter().map(copy).collect()
}

#[tokio::test]
async fn a_directory_shows_its_direct_children_by_name() {
    let world = World::new().await;
    let registry = &world.registry;
    for at in ["r/a-b", "r/a/x", "r/a/y/z", "r/a.txt", "r/a0", "r/Z", "r/模型/w", "s", "r/b/1", "ra/no"] {
        put(registry, at, "12").await.unwrap();
    }
    assert_eq!(names(registry, "").await, ["r/", "ra/", "s"]);
    assert_eq!(names(registry, "r").await, ["Z", "a/", "a-b", "a.txt", "a0", "b/", "模型/"]);
    assert_eq!(names(registry, "r/a/").await, ["x", "y/"]);
    for none in ["nowhere", "s", "r/a/x", "r/a/y/z/q"] {
        assert_eq!(names(registry, none).await, [""; 0], "{none}");
    }
    assert_eq!(registry.list_directory(Some(&path("r/a"))).await.unwrap()[0].bytes, Some(2));
}

#[tokio::test]
async fn a_large_directory_costs_no_more_than_its_entries_and_comes_in_pages() {
    let world = World::new().await;
    let (run, root) = root(&world).await;
    let mut tx = world.meta.begin().await.unwrap();
    let mut expected = Vec::new();
    for n in 0..10_500 {
        // Every fifth is a directory.
        let name = format!("f{n:05}");
        let inside = if n % 5 == 0 { "/in" } else { "" };
        insert(tx.conn(), &format!("{root}/{name}{inside}")).await;
        expected.push((name, n % 5 == 0));
    }
    for n in 0..1_200 {
        insert(tx.conn(), &format!("{root}/f00000/{n:04}")).await;
    }
    tx.commit().await.unwrap();
    let (mut found, mut token) = (Vec::new(), String::new());
    loop {
        let page = world.registry.list_artifacts(&run, None, &token).await.unwrap().entries;
        assert!(page.items.len() <= 10_000);
        found.extend(page.items.into_iter().map(|entry| (entry.name.clone(), entry.is_dir())));
        let Some(next) = page.next else { break };
        assert!(token.is_empty(), "two pages");
        token = next;
    }
    assert_eq!(found, expected);
    for bad in ["a/b", "/", "\n"] {
        let error = world.registry.list_artifacts(&run, None, bad).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidArgument, "{error}");
    }
}

async fn insert(conn: &mut storage::sql::Conn, at: &str) {
    sqlx::query("INSERT INTO registry_artifacts (path, digest, bytes, written_at) VALUES ($1, $2, 2, 0)")
        .bind(at)
        .bind(Digest::of(b"12").to_string())
        .execute(conn)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_file_is_no_directory_and_a_directory_no_file() {
    let world = World::new().await;
    let registry = &world.registry;
    put(registry, "m/dir/file", "1").await.unwrap();
    for at in ["m/dir", "m", "m/dir/file/below", "m/dir/file/far/below"] {
        let error = put(registry, at, "2").await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidArgument, "{at}: {error}");
        assert_eq!(registry.create_upload(&path(at), 1).await.unwrap_err().code(), ErrorCode::InvalidArgument);
    }
    assert_eq!(registry.artifact(&path("m/dir")).await.unwrap_err().code(), ErrorCode::InvalidArgument);
    assert_eq!(registry.artifact(&path("m/none")).await.unwrap_err().code(), ErrorCode::NotFound);
    put(registry, "m/dir-2", "3").await.unwrap();
    registry.delete_artifacts(&path("m/dir")).await.unwrap();
    assert_eq!(names(registry, "m").await, ["dir-2"], "only what is below it went");
    registry.delete_artifacts(&path("m/dir")).await.unwrap();
    put(registry, "m/dir", "now a file").await.unwrap();
    assert_eq!(read(registry, "m/dir").await.unwrap(), "now a file");
}

#[tokio::test]
async fn deleting_a_file_leaves_others_of_the_same_bytes_and_who_reads_it() {
    let world = World::new().await;
    put(&world.registry, "a", "same").await.unwrap();
    let file = put(&world.registry, "b", "same").await.unwrap();
    let reading = world.registry.read_artifact(&file, 0..4).await.unwrap();
    world.registry.delete_artifacts(&path("b")).await.unwrap();
    assert_eq!(reading.try_collect::<Vec<_>>().await.unwrap().concat(), b"same");
    assert_eq!(read(&world.registry, "a").await.unwrap(), "same");
}

#[tokio::test]
async fn what_is_deleted_or_registered_is_not_written_to() {
    let world = World::new().await;
    let registry = &world.registry;
    let (run, root) = root(&world).await;
    let (file, fresh) = (format!("{root}/kept"), format!("{root}/fresh"));
    put(registry, &file, "1").await.unwrap();
    let upload = registry.create_upload(&path(&fresh), 1).await.unwrap();
    let part = registry.put_part(upload, 1, pieces("late"), None).await.unwrap().to_string();
    set_deleted(&world, &run, Some(1)).await;
    let complete = async || registry.complete_upload(upload, &path(&fresh), &[(1, part.clone())]).await;
    for error in [
        put(registry, &file, "2").await.unwrap_err(),
        registry.create_upload(&path(&fresh), 1).await.unwrap_err(),
        registry.delete_artifacts(&path(&file)).await.unwrap_err(),
        registry.delete_artifacts(&path(&root)).await.unwrap_err(),
        registry.delete_artifacts(&path(root.split('/').next().unwrap())).await.unwrap_err(),
        complete().await.unwrap_err(),
    ] {
        assert_eq!(error.code(), ErrorCode::Conflict, "{error}");
    }
    assert_eq!(read(registry, &file).await.unwrap(), "1", "it can still be read");
    set_deleted(&world, &run, None).await;
    complete().await.unwrap();
    assert_eq!(read(registry, &fresh).await.unwrap(), "late");

    for at in ["versions", "versions/flight-delay/1/model.onnx"] {
        assert_eq!(put(registry, at, "2").await.unwrap_err().code(), ErrorCode::InvalidArgument);
        assert_eq!(registry.delete_artifacts(&path(at)).await.unwrap_err().code(), ErrorCode::InvalidArgument);
        assert_eq!(registry.create_upload(&path(at), 1).await.unwrap_err().code(), ErrorCode::InvalidArgument);
    }
    put(registry, "versions-of-mine/a", "fine").await.unwrap();
    registry.delete_artifacts(&path(&root)).await.unwrap();
    assert_eq!(names(registry, &root).await, [""; 0]);
}

#[tokio::test]
async fn no_file_takes_the_place_of_a_root() {
    let world = World::new().await;
    let (_, root) = root(&world).await;
    let parents: Vec<_> = root.match_indices('/').map(|(at, _)| &root[..at]).chain([root.as_str()]).collect();
    for at in parents {
        let error = put(&world.registry, at, "in the way").await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidArgument, "{at}: {error}");
    }
    put(&world.registry, &format!("{root}/x/artifacts/y"), "fine").await.unwrap();
}

async fn set_deleted(world: &World, run: &str, at: Option<i64>) {
    let mut tx = world.meta.begin().await.unwrap();
    sqlx::query("UPDATE registry_runs SET deleted_at = $2 WHERE id = $1")
        .bind(run)
        .bind(at)
        .execute(tx.conn())
        .await
        .unwrap();
    tx.commit().await.unwrap();
}

#[tokio::test]
async fn a_run_and_a_version_show_their_own_files() {
    let world = World::new().await;
    let registry = &world.registry;
    let (run, root) = root(&world).await;
    put(registry, &format!("{root}/model/MLmodel"), "flavours").await.unwrap();
    put(registry, &format!("{root}/plot.png"), "png").await.unwrap();
    let list = async |at: &str| {
        let directory = ArtifactPath::directory(at).unwrap();
        let page = registry.list_artifacts(&run, directory.as_ref(), "").await.unwrap().entries;
        page.items.into_iter().map(|entry| (entry.name, entry.bytes)).collect::<Vec<_>>()
    };
    assert_eq!(list("").await, [("model".to_owned(), None), ("plot.png".to_owned(), Some(3))]);
    assert_eq!(list("model").await, [("MLmodel".to_owned(), Some(8))]);
    assert_eq!((list("plot.png").await, list("none").await), (vec![], vec![]));
    assert_eq!(registry.run_artifact(&run, &path("plot.png")).await.unwrap().digest, Digest::of(b"png"));
    for stranger in ["0".repeat(32), "no id".into()] {
        assert_eq!(registry.list_artifacts(&stranger, None, "").await.unwrap_err().code(), ErrorCode::NotFound);
        let error = registry.list_logged_model_artifacts(&stranger, None, "").await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::NotFound);
    }
    registry.register(version_of(run.parse().unwrap(), b"weights")).await.unwrap();
    let name = model().to_string();
    let file = registry.version_file(&name, 1, &path("extra/card.md")).await.unwrap();
    assert_eq!(file, Artifact { digest: Digest::of(b"# card"), bytes: 6 });
    for (version, at) in [(1, "extra"), (1, "none"), (2, "model.onnx")] {
        let error = registry.version_file(&name, version, &path(at)).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::NotFound, "{version} {at}");
    }
}

#[tokio::test]
async fn a_damaged_file_is_refused_or_ends_in_an_error() {
    let world = World::new().await;
    let file = put(&world.registry, "a", "right").await.unwrap();
    let blob = world.blob_file(&file.digest);
    std::fs::write(&blob, "wrong").unwrap();
    assert_eq!(read(&world.registry, "a").await.unwrap_err().code(), ErrorCode::DataLoss);
    std::fs::write(&blob, "torn").unwrap();
    assert_eq!(read(&world.registry, "a").await.unwrap_err().code(), ErrorCode::DataLoss);
    let part = world.registry.read_artifact(&file, 0..2).await.map(drop).unwrap_err();
    assert_eq!(part.code(), ErrorCode::DataLoss, "its length tells");
    std::fs::remove_file(&blob).unwrap();
    assert_eq!(read(&world.registry, "a").await.unwrap_err().code(), ErrorCode::DataLoss);
}

#[tokio::test]
async fn parts_in_any_order_become_one_file() {
    let world = World::new().await;
    let registry = &world.registry;
    let to = path("u/big");
    let upload = registry.create_upload(&to, 3).await.unwrap();
    let mut parts = Vec::new();
    for (number, text) in [(3, "three"), (1, "wrong"), (2, "two "), (1, "one ")] {
        let tag = registry.put_part(upload, number, pieces(text), None).await.unwrap().to_string();
        parts.retain(|(known, _)| *known != number);
        parts.push((number, tag));
    }
    let refused = async |to: &ArtifactPath, parts: &[(u32, String)]| {
        let error = registry.complete_upload(upload, to, parts).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidArgument, "{error}");
        assert_eq!(names(registry, "u").await, [""; 0]);
    };
    refused(&path("u/other"), &parts).await;
    refused(&to, &parts[1..]).await;
    refused(&to, &[&parts[..], &parts[..1]].concat()).await;
    refused(&to, &[&parts[..], &[(4, parts[0].1.clone())]].concat()).await;
    refused(&to, &[(1, parts[0].1.clone()), parts[0].clone(), parts[1].clone()]).await;
    for (number, code) in [(0, ErrorCode::InvalidArgument), (4, ErrorCode::InvalidArgument)] {
        assert_eq!(registry.put_part(upload, number, pieces("x"), None).await.unwrap_err().code(), code);
    }
    let quoted: Vec<_> = parts.iter().map(|(number, tag)| (*number, format!("\"{tag}\""))).collect();
    for _ in 0..2 {
        registry.complete_upload(upload, &to, &quoted).await.unwrap();
        registry.abort_upload(upload, &to).await.unwrap();
        assert_eq!(read(registry, "u/big").await.unwrap(), "one two three");
    }
    let late = registry.put_part(upload, 1, pieces("late"), None).await.unwrap_err();
    assert_eq!(late.code(), ErrorCode::InvalidArgument);
}

#[tokio::test]
async fn an_upload_lasts_a_day_unless_it_is_aborted() {
    let world = World::new().await;
    let to = path("u/f");
    let (aborted, old) =
        (world.registry.create_upload(&to, 2).await.unwrap(), world.registry.create_upload(&to, 1).await.unwrap());
    let tag = world.registry.put_part(aborted, 1, pieces("x"), None).await.unwrap().to_string();
    for upload in [aborted, aborted, UploadId::mint()] {
        world.registry.abort_upload(upload, &to).await.unwrap();
    }
    assert!(world.registry.abort_upload(old, &path("u/g")).await.is_err(), "it goes elsewhere");
    let gone = async |registry: &Registry, upload| {
        let part = registry.put_part(upload, 1, pieces("x"), None).await.unwrap_err();
        let end = registry.complete_upload(upload, &to, &[(1, tag.clone())]).await.unwrap_err();
        assert_eq!((part.code(), end.code()), (ErrorCode::NotFound, ErrorCode::NotFound));
    };
    gone(&world.registry, aborted).await;
    world.registry.put_part(old, 1, pieces("x"), None).await.unwrap();
    let world = world.reopen().await;
    world.registry.put_part(old, 1, pieces("x"), None).await.unwrap();
    world.clock.advance(Span::from_micros(23 * Span::HOUR.micros() + 1));
    world.registry.create_upload(&to, 1).await.unwrap();
    gone(&world.registry, old).await;
    for bad in [0, -1, 10_001, i64::MAX] {
        assert_eq!(world.registry.create_upload(&to, bad).await.unwrap_err().code(), ErrorCode::InvalidArgument);
    }
    world.registry.create_upload(&to, 10_000).await.unwrap();
}
