use std::{fs, path::PathBuf};

use bytes::Bytes;
use domain::Digest;
use futures::{StreamExt as _, TryStreamExt as _};

use super::rig::Folders;
use crate::{
    Blobs as _, LocalBlobs, StorageError,
    testing::{Faults, FaultyBlobs, When, blobs_suite},
};

async fn fresh(folders: &Folders) -> LocalBlobs {
    LocalBlobs::open(&folders.next()).await.unwrap()
}

#[tokio::test]
async fn local_blobs_keep_the_promises_of_blobs() {
    let folders = Folders::new();
    blobs_suite(async || fresh(&folders).await).await;
}

#[tokio::test]
async fn callers_that_repeat_survive_failing_blobs() {
    // A blob in pieces is up to five calls, all of which have to come between two failures.
    for (every, when) in [6, 7, 8].into_iter().flat_map(|every| [(every, When::Before), (every, When::After)]) {
        let (folders, faults) = (Folders::new(), Faults::every(every, when));
        blobs_suite(async || FaultyBlobs::new(fresh(&folders).await, faults.clone())).await;
        assert!(faults.calls() > 20);
    }
}

fn path(dir: &std::path::Path, digest: &Digest) -> PathBuf {
    let name = digest.to_string();
    dir.join(&name[..2]).join(&name[2..])
}

#[tokio::test]
async fn a_damaged_blob_is_reported_and_healed_by_storing_it_again() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = LocalBlobs::open(dir.path()).await.unwrap();
    let digest = blobs.put(Bytes::from_static(b"model")).await.unwrap();
    fs::write(path(dir.path(), &digest), b"mode1").unwrap();
    assert!(matches!(blobs.get(&digest).await, Err(StorageError::Corrupt { .. })));
    blobs.put(Bytes::from_static(b"model")).await.unwrap();
    assert_eq!(blobs.get(&digest).await.unwrap(), "model");
}

#[tokio::test]
async fn a_damaged_blob_never_streams_to_its_end_and_a_writer_heals_it() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = LocalBlobs::open(dir.path()).await.unwrap();
    let right = Bytes::from(vec![7; 1 << 20]);
    let digest = blobs.put(right.clone()).await.unwrap();
    let mut flipped = right.to_vec();
    flipped[1 << 19] ^= 1;
    for wrong in [&flipped[..], &right[1..], b""] {
        fs::write(path(dir.path(), &digest), wrong).unwrap();
        let read = match blobs.read(&digest, 0..1 << 20).await {
            Ok(stream) => stream.map_ok(|piece| piece.len()).collect::<Vec<_>>().await,
            Err(error) => vec![Err(error)],
        };
        let (last, before) = read.split_last().unwrap();
        assert!(matches!(last, Err(StorageError::Corrupt { .. })), "{last:?}");
        let given: usize = before.iter().map(|piece| *piece.as_ref().unwrap()).sum();
        assert!(given < wrong.len().max(1), "{given} of {} bytes were given", wrong.len());
    }
    fs::write(path(dir.path(), &digest), &flipped).unwrap();
    let part: Vec<_> = blobs.read(&digest, 10..20).await.unwrap().try_collect().await.unwrap();
    assert_eq!(part.concat(), [7; 10], "a range elsewhere is served without looking at the whole");

    let mut writer = blobs.writer().await.unwrap();
    writer.write(right.clone()).await.unwrap();
    assert_eq!(writer.finish().await.unwrap(), (digest, 1 << 20));
    assert_eq!(blobs.get(&digest).await.unwrap(), right);
}

#[tokio::test]
async fn a_writer_that_is_dropped_or_fails_leaves_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let scratch = dir.path().join("tmp");
    let files = || fs::read_dir(&scratch).unwrap().count();
    let gone = async || {
        let start = std::time::Instant::now();
        while files() > 0 {
            assert!(start.elapsed().as_secs() < 10, "{} files stay", files());
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    };
    let blobs = LocalBlobs::open(dir.path()).await.unwrap();
    for bytes in [0, 1, 1 << 20] {
        let mut writer = blobs.writer().await.unwrap();
        writer.write(Bytes::from(vec![1; bytes])).await.unwrap();
        assert_eq!(files(), 1);
        drop(writer);
        gone().await;
    }
    let mut writer = blobs.writer().await.unwrap();
    // Given up while a disk thread writes.
    let mut writing = Box::pin(writer.write(Bytes::from(vec![1; 8 << 20])));
    assert!(futures::poll!(&mut writing).is_pending());
    drop(writing);
    assert!(writer.write(Bytes::from(vec![1; 1 << 20])).await.is_err(), "it is spent");
    assert!(writer.finish().await.is_err());
    gone().await;

    // The place it would move to is taken by something that is no folder.
    let digest = Digest::of(b"pond");
    fs::write(dir.path().join(&digest.to_string()[..2]), b"").unwrap();
    let mut writer = blobs.writer().await.unwrap();
    writer.write(Bytes::from_static(b"pond")).await.unwrap();
    assert!(writer.finish().await.unwrap_err().is_unknown());
    gone().await;
    assert!(!blobs.exists(&digest).await.unwrap_or(false));
}

#[tokio::test]
async fn an_interrupted_write_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let kept = LocalBlobs::open(dir.path()).await.unwrap().put(Bytes::from_static(b"kept")).await.unwrap();
    fs::write(dir.path().join("tmp").join("half"), b"ha").unwrap();
    let blobs = LocalBlobs::open(dir.path()).await.unwrap();
    assert_eq!(fs::read_dir(dir.path().join("tmp")).unwrap().count(), 0);
    assert_eq!(blobs.get(&kept).await.unwrap(), "kept");
}

#[tokio::test]
async fn writers_of_the_same_bytes_do_not_disturb_each_other() {
    let folders = Folders::new();
    let blobs = fresh(&folders).await;
    let bytes = Bytes::from(vec![7; 1 << 20]);
    let writers = (0..8).map(|_| blobs.put(bytes.clone()));
    for digest in futures::future::join_all(writers).await {
        assert_eq!(blobs.get(&digest.unwrap()).await.unwrap(), bytes);
    }
}
