use super::rig::Folders;
use crate::testing::{Home, meta_suite};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sqlite_file_keeps_what_meta_promises() {
    let folders = Folders::new();
    meta_suite(async || Home::File(folders.next().join("deep/meta.db"))).await;
}
