use super::rig::{Folders, copy};
use crate::{
    EmbeddedKv, Kv as _, StorageError,
    testing::{Faults, FaultyKv, When, kv_suite},
};

async fn fresh(folders: &Folders) -> EmbeddedKv {
    EmbeddedKv::open(&folders.next()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_embedded_store_keeps_the_promises_of_kv() {
    let folders = Folders::new();
    kv_suite(async || fresh(&folders).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_that_repeat_survive_a_failing_store() {
    for when in [When::Before, When::After] {
        let (folders, faults) = (Folders::new(), Faults::every(3, when));
        kv_suite(async || FaultyKv::new(fresh(&folders).await, faults.clone())).await;
        assert!(faults.calls() > 50);
    }
}

#[tokio::test]
async fn a_durable_write_survives_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let kv = EmbeddedKv::open(dir.path()).await.unwrap();
    let puts: Vec<_> = (0..500_u16).map(|n| (n.to_be_bytes().to_vec(), vec![1; 50])).collect();
    kv.write(puts, vec![], true).await.unwrap();
    let crashed = copy(dir.path());
    let reopened = EmbeddedKv::open(crashed.path()).await.unwrap();
    assert_eq!(reopened.range(&[0], &[255; 3], 1_000).await.unwrap().len(), 500);
}

#[tokio::test]
async fn a_store_has_one_owner() {
    let dir = tempfile::tempdir().unwrap();
    let owner = EmbeddedKv::open(dir.path()).await.unwrap();
    assert!(matches!(EmbeddedKv::open(dir.path()).await, Err(StorageError::Locked(_))));
    drop(owner);
    assert!(EmbeddedKv::open(dir.path()).await.is_ok());
}
