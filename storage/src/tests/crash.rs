//! A process that dies at any byte or between any two steps.

use std::{
    fs,
    ops::Range,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use bytes::Bytes;
use domain::Digest;
use tempfile::TempDir;

use super::rig::{Rig, all, copy, copy_into, numbers, numbers_schema, values};
use crate::{BlobList, BlobStream, BlobWriter, Blobs, LocalBlobs, StorageError, Tables, wal};

/// A log of three frames, the last one's start, and the snapshot before it.
struct Log {
    dir: TempDir,
    rig: Rig,
    bytes: Vec<u8>,
    last: usize,
    empty: Digest,
    before: Digest,
}

async fn log() -> Log {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::open(dir.path()).await;
    let table = rig.numbers().await;
    let empty = table.snapshot();
    table.append(numbers(0, 4)).await.unwrap();
    table.append(numbers(4, 5)).await.unwrap();
    let (file, before) = (wal::path_of(&dir.path().join("wal/numbers"), 1), table.snapshot());
    let last = fs::read(&file).unwrap().len();
    table.append(numbers(5, 7)).await.unwrap();
    let bytes = fs::read(&file).unwrap();
    Log { dir, rig, bytes, last, empty, before }
}

impl Log {
    /// Opens tables on a log with these bytes in its newest file.
    async fn reopen(&self, name: &str, bytes: &[u8]) -> (PathBuf, Tables) {
        let wal = self.dir.path().join(name);
        fs::create_dir_all(wal.join("numbers")).unwrap();
        fs::write(wal::path_of(&wal.join("numbers"), 1), bytes).unwrap();
        let tables = Tables::open(self.rig.meta.clone(), self.rig.blobs.clone(), &wal).await.unwrap();
        (wal, tables)
    }

    async fn earlier_rows_stand(&self, name: &str, bytes: &[u8]) {
        let (wal, tables) = self.reopen(name, bytes).await;
        let table = tables.table("numbers", numbers_schema()).await.unwrap();
        assert_eq!((all(&table).await, table.snapshot()), ((0..5).collect(), self.before), "{name}");
        drop((table, tables));
        let whole = fs::read(wal::path_of(&wal.join("numbers"), 1)).unwrap();
        assert_eq!(whole, self.bytes[..self.last], "{name}: the torn tail is gone from disk");
        fs::remove_dir_all(wal).unwrap();
    }

    /// What replay alone makes of these bytes: quick enough to ask for every byte.
    fn replays_as_before(&self, bytes: &[u8], what: &str) {
        let file = self.dir.path().join("replayed.wal");
        fs::write(&file, bytes).unwrap();
        let replayed = wal::replay(&file, true, self.empty).unwrap();
        assert_eq!((values(&replayed.batches), replayed.chain), ((0..5).collect(), self.before), "{what}");
        assert_eq!(fs::read(&file).unwrap(), self.bytes[..self.last], "{what}: the torn tail is gone from disk");
    }
}

#[tokio::test]
async fn a_log_cut_at_any_byte_of_its_last_frame_keeps_the_rows_before() {
    let log = log().await;
    for cut in log.last..log.bytes.len() {
        log.replays_as_before(&log.bytes[..cut], &format!("cut at {cut}"));
    }
    for cut in (log.last..log.bytes.len()).step_by(101) {
        log.earlier_rows_stand(&format!("cut{cut}"), &log.bytes[..cut]).await;
    }
}

#[tokio::test]
async fn a_last_frame_with_any_byte_changed_is_not_taken_for_rows() {
    let log = log().await;
    for at in log.last..log.bytes.len() {
        let mut bytes = log.bytes.clone();
        bytes[at] ^= 0x10;
        log.replays_as_before(&bytes, &format!("byte {at} changed"));
    }
}

#[tokio::test]
async fn zeros_behind_the_last_frame_are_a_torn_tail() {
    let log = log().await;
    for zeros in [1, 8, 4_096] {
        let bytes = [&log.bytes[..log.last], &vec![0; zeros]].concat();
        log.earlier_rows_stand(&format!("zeros{zeros}"), &bytes).await;
    }
}

#[tokio::test]
async fn a_mended_log_goes_on_and_keeps_what_was_cut_for_inspection() {
    let log = log().await;
    let (wal, tables) = log.reopen("torn", &log.bytes[..log.bytes.len() - 1]).await;
    let table = tables.table("numbers", numbers_schema()).await.unwrap();
    table.append(numbers(5, 9)).await.unwrap();
    drop((table, tables));
    let torn = wal::path_of(&wal.join("numbers"), 1).with_extension("torn");
    assert_eq!(fs::read(torn).unwrap(), log.bytes[log.last..log.bytes.len() - 1]);
    let tables = Tables::open(log.rig.meta.clone(), log.rig.blobs.clone(), &wal).await.unwrap();
    assert_eq!(all(&tables.table("numbers", numbers_schema()).await.unwrap()).await, (0..9).collect::<Vec<_>>());
}

#[tokio::test]
async fn damage_in_a_finished_file_is_reported_not_cut() {
    let log = log().await;
    let wal = log.dir.path().join("older");
    fs::create_dir_all(wal.join("numbers")).unwrap();
    fs::write(wal::path_of(&wal.join("numbers"), 1), &log.bytes[..log.bytes.len() - 1]).unwrap();
    fs::write(wal::path_of(&wal.join("numbers"), 2), []).unwrap();
    let tables = Tables::open(log.rig.meta.clone(), log.rig.blobs.clone(), &wal).await.unwrap();
    let refused = tables.table("numbers", numbers_schema()).await.err();
    assert!(matches!(refused, Some(StorageError::Corrupt { .. })), "{refused:?}");
}

/// Takes a copy of the data directory before and after each blob is written.
struct Photographer {
    inner: LocalBlobs,
    dir: PathBuf,
    pictures: Arc<Mutex<Vec<TempDir>>>,
}

impl Photographer {
    fn shoot(&self) {
        self.pictures.lock().unwrap().push(copy(&self.dir));
    }
}

#[async_trait]
impl Blobs for Photographer {
    async fn put(&self, bytes: Bytes) -> Result<Digest, StorageError> {
        self.shoot();
        let digest = self.inner.put(bytes).await?;
        self.shoot();
        Ok(digest)
    }
    async fn writer(&self) -> Result<Box<dyn BlobWriter>, StorageError> {
        self.inner.writer().await
    }
    async fn get(&self, digest: &Digest) -> Result<Bytes, StorageError> {
        self.inner.get(digest).await
    }
    async fn read(&self, digest: &Digest, range: Range<u64>) -> Result<BlobStream, StorageError> {
        self.inner.read(digest, range).await
    }
    async fn len(&self, digest: &Digest) -> Result<u64, StorageError> {
        self.inner.len(digest).await
    }
    async fn exists(&self, digest: &Digest) -> Result<bool, StorageError> {
        self.inner.exists(digest).await
    }
    async fn delete(&self, digest: &Digest) -> Result<(), StorageError> {
        self.inner.delete(digest).await
    }
    async fn claim(&self, owner: &str) -> Result<(), StorageError> {
        self.inner.claim(owner).await
    }

    async fn list(&self) -> BlobList {
        self.inner.list().await
    }
}

async fn survives(crashed: &Path, snapshot: Digest, step: &str) {
    let expected: Vec<i64> = (0..30).collect();
    for round in ["after the crash", "after another restart"] {
        let rig = Rig::open(crashed).await;
        let table = rig.numbers().await;
        assert_eq!(all(&table).await, expected, "{step}, {round}");
        assert_eq!(table.snapshot(), snapshot, "{step}, {round}");
    }
    let longer: Vec<i64> = (0..40).collect();
    {
        let table = Rig::open(crashed).await.numbers().await;
        table.append(numbers(30, 35)).await.unwrap();
        table.flush().await.unwrap();
        table.append(numbers(35, 40)).await.unwrap();
        assert_eq!(all(&table).await, longer, "{step}, written on");
    }
    assert_eq!(all(&Rig::open(crashed).await.numbers().await).await, longer, "{step}, written on and restarted");
}

#[tokio::test]
async fn a_crash_between_any_two_steps_of_a_flush_loses_and_doubles_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let pictures = Arc::<Mutex<Vec<TempDir>>>::default();
    let inner = LocalBlobs::open(&dir.path().join("blobs")).await.unwrap();
    let blobs = Photographer { inner, dir: dir.path().to_owned(), pictures: pictures.clone() };
    let rig = Rig::with(dir.path(), Arc::new(blobs)).await;
    let table = rig.numbers().await;
    table.append(numbers(0, 10)).await.unwrap();
    table.flush().await.unwrap();
    pictures.lock().unwrap().clear();
    table.append(numbers(10, 20)).await.unwrap();
    table.append(numbers(20, 30)).await.unwrap();
    let snapshot = table.snapshot();

    let logged = copy(dir.path());
    table.flush().await.unwrap();
    let flushed = copy(dir.path());
    let mut pictures = std::mem::take(&mut *pictures.lock().unwrap());
    let (stored, rotated) = (pictures.pop().unwrap(), pictures.pop().unwrap());
    assert!(pictures.is_empty());
    // The manifest names the segment, and its log files still stand.
    let covered = copy(flushed.path());
    copy_into(&stored.path().join("wal"), &covered.path().join("wal"));
    let files = |dir: &TempDir| wal::list(&dir.path().join("wal/numbers")).unwrap().len();
    assert_eq!((files(&logged), files(&rotated), files(&covered), files(&flushed)), (1, 2, 2, 1));

    survives(logged.path(), snapshot, "before the flush").await;
    survives(rotated.path(), snapshot, "with a new log file").await;
    survives(stored.path(), snapshot, "with the segment written").await;
    survives(covered.path(), snapshot, "with the manifest written").await;
    survives(flushed.path(), snapshot, "after the flush").await;
}
