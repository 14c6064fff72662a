use std::{fs, path::PathBuf};

use bytes::Bytes;
use domain::Digest;

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
    for when in [When::Before, When::After] {
        let (folders, faults) = (Folders::new(), Faults::every(2, when));
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
