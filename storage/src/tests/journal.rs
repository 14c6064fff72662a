use super::rig::Folders;
use crate::testing::{Home, journal_suite};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sqlite_file_keeps_what_the_journal_promises() {
    let folders = Folders::new();
    journal_suite(async || Home::File(folders.next().join("meta.db"))).await;
}
