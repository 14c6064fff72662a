//! A table of rows 0, 1, 2, ..., and stores that fail or take pictures.

use std::{
    fmt, fs,
    ops::Range,
    path::{Path as FilePath, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use arrow::{
    array::{AsArray as _, RecordBatch},
    datatypes::Int64Type,
};
use async_trait::async_trait;
use bytes::Bytes;
use domain::{Column, Digest, Field, Frame, Timestamp, ValueType};
use futures::{StreamExt as _, stream::BoxStream};
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result, path::Path,
};
use storage::{Kept, StorageError, Vault as _};
use tempfile::TempDir;

use crate::{Lake, LakeTable, Layout, Snapshot, durable::Durable};

pub const HOUR: i64 = 3_600_000_000;

pub fn layout() -> Layout {
    Layout { time: "at".into(), row: "_row".into(), replaces: "_replaces".into(), sorted_by: vec!["who".into()] }
}

/// Row n happened n hours after 2024 began, to one of three.
pub fn rows(range: Range<i64>) -> RecordBatch {
    replacing(range, |_| None)
}

/// The same, where rows take the place of others.
pub fn replacing(range: Range<i64>, replaces: impl Fn(i64) -> Option<i64>) -> RecordBatch {
    // A row stands at the time of what it replaces.
    let at = |n: i64| Timestamp::from_micros(1_704_067_200_000_000 + replaces(n).unwrap_or(n) * HOUR);
    let frame = Frame::new([
        ("who".into(), Column::Text(range.clone().map(|n| Some(["b", "c", "a"][n as usize % 3].into())).collect())),
        ("at".into(), Column::Timestamp(range.clone().map(|n| Some(at(n))).collect())),
        ("x".into(), Column::Float(range.clone().map(|n| Some(n as f64)).collect())),
        ("_row".into(), Column::Int(range.clone().map(Some).collect())),
        ("_replaces".into(), Column::Int(range.map(&replaces).collect())),
    ]);
    storage::to_batch(&frame.unwrap()).unwrap()
}

pub fn kept(rows: u64) -> Kept {
    Kept { rows, covered: rows / 10, chain: Digest::of(&rows.to_le_bytes()) }
}

pub async fn keep(table: &LakeTable, batch: RecordBatch) -> std::result::Result<(), StorageError> {
    let upto = table.rows() + batch.num_rows() as u64;
    table.keep(&[batch], kept(upto)).await
}

pub async fn open(dir: &FilePath) -> LakeTable {
    Lake::local(dir).await.unwrap().table("numbers", layout()).await.unwrap()
}

/// The numbers in the snapshot, in order.
pub async fn numbers_in(snapshot: &Snapshot) -> Vec<i64> {
    let wanted = storage::schema_of(&[Field::new("_row", ValueType::Int)]);
    let batches = snapshot.scan(&wanted, None).await.unwrap();
    let mut all: Vec<i64> =
        batches.iter().flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec()).collect();
    all.sort_unstable();
    all
}

pub async fn numbers(table: &LakeTable) -> Vec<i64> {
    match table.snapshot() {
        Some(snapshot) => numbers_in(&snapshot).await,
        None => Vec::new(),
    }
}

pub fn upto(end: i64) -> Vec<i64> {
    (0..end).collect()
}

pub fn copy(from: &FilePath) -> TempDir {
    fn into(from: &FilePath, to: &FilePath) {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            let target = to.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                into(&entry.path(), &target);
            } else {
                fs::copy(entry.path(), target).unwrap();
            }
        }
    }
    let to = tempfile::tempdir().unwrap();
    into(from, to.path());
    to
}

/// What befalls a store that changes something.
#[derive(Clone)]
pub enum Fate {
    /// A copy of the directory is taken before and after each change: what a crash there would leave.
    Pictured(PathBuf, Arc<Mutex<Vec<TempDir>>>),
    /// The n-th change from now on fails, counted from 1: before it is done, or after.
    Fails { nth: Arc<AtomicU64>, done: bool },
    /// Every change fails while it is set.
    Full(Arc<std::sync::atomic::AtomicBool>),
}

#[derive(Clone)]
pub struct Fated {
    inner: Arc<dyn ObjectStore>,
    fate: Fate,
}

impl Fated {
    pub async fn table(dir: &FilePath, fate: Fate) -> LakeTable {
        let wrap = |store: Durable| Arc::new(Self { inner: Arc::new(store), fate }) as Arc<dyn ObjectStore>;
        Lake::local_with(dir, wrap).await.unwrap().table("numbers", layout()).await.unwrap()
    }

    async fn around<T>(&self, change: impl Future<Output = Result<T>> + Send) -> Result<T> {
        let broken = || Error::Generic { store: "fated", source: "injected".into() };
        match &self.fate {
            Fate::Pictured(dir, pictures) => {
                pictures.lock().unwrap().push(copy(dir));
                let done = change.await;
                pictures.lock().unwrap().push(copy(dir));
                done
            }
            Fate::Fails { nth, done } => {
                let left = nth.load(Ordering::SeqCst);
                nth.store(left.saturating_sub(1), Ordering::SeqCst);
                match (left == 1, done) {
                    (false, _) => change.await,
                    (true, false) => Err(broken()),
                    (true, true) => {
                        change.await?;
                        Err(broken())
                    }
                }
            }
            Fate::Full(full) if full.load(Ordering::SeqCst) => {
                let source = std::io::Error::from(std::io::ErrorKind::StorageFull);
                Err(Error::Generic { store: "fated", source: source.into() })
            }
            Fate::Full(_) => change.await,
        }
    }
}

impl fmt::Debug for Fated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fated")
    }
}

impl fmt::Display for Fated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fated")
    }
}

#[async_trait]
impl ObjectStore for Fated {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.around(self.inner.put_opts(location, payload, options)).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let this = self.clone();
        locations
            .then(move |location| {
                let this = this.clone();
                async move {
                    let location = location?;
                    let one = futures::stream::once(std::future::ready(Ok(location.clone()))).boxed();
                    let mut deleted = this.inner.delete_stream(one);
                    this.around(async move { deleted.next().await.unwrap_or(Ok(location)) }).await
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.around(self.inner.copy_opts(from, to, options)).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.around(self.inner.rename_opts(from, to, options)).await
    }
}
