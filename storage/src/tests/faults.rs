//! Disks and stores that fail while the process lives on.

use std::{
    fs::File,
    io,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    time::Duration,
};

use domain::{Coded as _, ErrorCode};
use futures::future::join_all;

use super::rig::{Rig, all, numbers, numbers_schema};
use crate::{
    Blobs, LocalBlobs, Meta, StorageError, Table, Tables,
    testing::{Faults, FaultyBlobs, When},
    wal::{LogFile, OpenLog},
};

/// What the log file under a table is told to do, and what it saw.
#[derive(Default)]
struct Disk {
    write_fails: AtomicBool,
    sync_fails: AtomicBool,
    syncs: AtomicUsize,
    /// Told of each sync before it is carried out.
    began: Option<Mutex<mpsc::Sender<()>>>,
    /// Each sync waits for a word from here.
    released: Option<Mutex<mpsc::Receiver<()>>>,
}

struct DiskFile {
    file: File,
    disk: Arc<Disk>,
}

impl LogFile for DiskFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.disk.write_fails.load(Ordering::SeqCst) {
            // Half of it arrives, as when space runs out.
            self.file.append(&bytes[..bytes.len() / 2])?;
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.file.append(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.disk.syncs.fetch_add(1, Ordering::SeqCst);
        if let Some(began) = &self.disk.began {
            let _ = began.lock().unwrap().send(());
        }
        if let Some(released) = &self.disk.released {
            let _ = released.lock().unwrap().recv();
        }
        if self.disk.sync_fails.load(Ordering::SeqCst) { Err(io::Error::other("bad sector")) } else { self.file.sync() }
    }
}

async fn table_on(disk: &Arc<Disk>, dir: &Path) -> Table {
    let meta = Meta::open(&dir.join("meta.db")).await.unwrap();
    let blobs: Arc<dyn Blobs> = Arc::new(LocalBlobs::open(&dir.join("blobs")).await.unwrap());
    let disk = disk.clone();
    let open_log: OpenLog = Arc::new(move |path: &Path| {
        let file = File::options().append(true).create(true).open(path)?;
        Ok(Box::new(DiskFile { file, disk: disk.clone() }) as Box<dyn LogFile>)
    });
    let tables = Tables::open_with(meta, blobs, &dir.join("wal"), open_log).await.unwrap();
    tables.table("numbers", numbers_schema()).await.unwrap()
}

async fn refuses_from_now_on(table: &Table) {
    for durable in [true, false] {
        let rows = numbers(7, 8);
        let refused = if durable { table.append(rows).await } else { table.append_soon(rows).await };
        let refused = refused.unwrap_err();
        assert!(matches!(&refused, StorageError::Io { .. }), "{refused:?}");
        assert_eq!(refused.code(), ErrorCode::Unavailable);
        assert!(refused.to_string().contains("numbers") && refused.to_string().contains("failed earlier"));
    }
    assert!(table.flush().await.is_err());
    assert_eq!(all(table).await, [0, 1, 2], "what was acknowledged can still be read");
}

#[tokio::test]
async fn a_failed_write_is_not_acknowledged_and_closes_the_table() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(Disk::default());
    {
        let table = table_on(&disk, dir.path()).await;
        table.append(numbers(0, 3)).await.unwrap();
        disk.write_fails.store(true, Ordering::SeqCst);
        assert!(table.append(numbers(3, 5)).await.unwrap_err().is_unknown());
        disk.write_fails.store(false, Ordering::SeqCst);
        refuses_from_now_on(&table).await;
    }
    let table = Rig::open(dir.path()).await.numbers().await;
    assert_eq!(all(&table).await, [0, 1, 2]);
    table.append(numbers(3, 4)).await.unwrap();
    assert_eq!(all(&table).await, [0, 1, 2, 3]);
}

#[tokio::test]
async fn a_failed_sync_is_not_acknowledged_and_closes_the_table() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(Disk::default());
    {
        let table = table_on(&disk, dir.path()).await;
        table.append(numbers(0, 3)).await.unwrap();
        disk.sync_fails.store(true, Ordering::SeqCst);
        assert!(table.append(numbers(3, 5)).await.unwrap_err().is_unknown());
        disk.sync_fails.store(false, Ordering::SeqCst);
        refuses_from_now_on(&table).await;
    }
    let rows = all(&Rig::open(dir.path()).await.numbers().await).await;
    assert!(rows == [0, 1, 2] || rows == [0, 1, 2, 3, 4], "all or none of an unknown batch: {rows:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn appends_that_wait_together_share_one_sync() {
    let dir = tempfile::tempdir().unwrap();
    let (began, begun) = mpsc::channel();
    let (release, released) = mpsc::channel();
    let disk = Disk { began: Some(began.into()), released: Some(released.into()), ..Disk::default() };
    let disk = Arc::new(disk);
    let table = table_on(&disk, dir.path()).await;
    let mut first = Box::pin(table.append(numbers(0, 1)));
    assert!(futures::poll!(&mut first).is_pending());
    begun.recv_timeout(Duration::from_secs(10)).unwrap();
    let mut rest = Box::pin(join_all((1..21).map(|n| table.append(numbers(n, n + 1)))));
    assert!(futures::poll!(&mut rest).is_pending());
    assert_eq!(table.rows(), 0, "a row is not shown before it is durable");
    release.send(()).unwrap();
    release.send(()).unwrap();
    first.await.unwrap();
    rest.await.into_iter().for_each(|appended| appended.unwrap());
    assert_eq!(disk.syncs.load(Ordering::SeqCst), 2);
    assert_eq!(all(&table).await, (0..21).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_appended_soon_are_seen_at_once_and_synced_shortly_after() {
    let dir = tempfile::tempdir().unwrap();
    let (began, begun) = mpsc::channel();
    let (release, released) = mpsc::channel();
    let disk = Arc::new(Disk { began: Some(began.into()), released: Some(released.into()), ..Disk::default() });
    let table = table_on(&disk, dir.path()).await;
    table.append_soon(numbers(0, 2)).await.unwrap();
    assert_eq!(all(&table).await, [0, 1]);
    begun.recv_timeout(Duration::from_secs(10)).unwrap();
    release.send(()).unwrap();
    // A handle given up before the time is over syncs on its way out.
    table.append_soon(numbers(2, 3)).await.unwrap();
    release.send(()).unwrap();
    drop(table);
    assert_eq!(disk.syncs.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_flush_that_fails_at_the_blobs_is_made_up_for_later() {
    for when in [When::Before, When::After] {
        let dir = tempfile::tempdir().unwrap();
        let inner = LocalBlobs::open(&dir.path().join("blobs")).await.unwrap();
        let blobs = FaultyBlobs::new(inner, Faults::nth(1, when));
        let rig = Rig::with(dir.path(), Arc::new(blobs)).await;
        let table = rig.numbers().await;
        table.append(numbers(0, 10)).await.unwrap();
        let snapshot = table.snapshot();
        assert!(table.flush().await.is_err());
        assert_eq!((all(&table).await, table.snapshot()), ((0..10).collect(), snapshot));
        table.append(numbers(10, 12)).await.unwrap();
        table.flush().await.unwrap();
        assert_eq!((table.rows(), all(&table).await), (12, (0..12).collect()));
        let rows: Vec<i64> = sqlx::query_scalar("SELECT row_count FROM segments ORDER BY position")
            .fetch_all(rig.meta.reader())
            .await
            .unwrap();
        assert_eq!(rows, [10, 2]);
    }
}

#[tokio::test]
async fn a_flush_nobody_waits_for_still_ends() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::open(dir.path()).await;
    let table = rig.numbers().await;
    table.append(numbers(0, 10)).await.unwrap();
    let mut given_up = Box::pin(table.flush());
    assert!(futures::poll!(&mut given_up).is_pending());
    drop(given_up);
    table.append(numbers(10, 11)).await.unwrap();
    table.flush().await.unwrap();
    assert_eq!(all(&table).await, (0..11).collect::<Vec<_>>());
}
