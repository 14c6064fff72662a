//! A data directory, opened, copied and opened again, with a table `numbers` of rows 0, 1, 2, ...

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use arrow::{
    array::{AsArray as _, RecordBatch},
    datatypes::{Int64Type, SchemaRef},
};
use domain::{Column, Field, Frame, Timestamp, ValueType};
use tempfile::TempDir;

use crate::{Blobs, LocalBlobs, Meta, Table, Tables, schema_of, to_batch};

/// Everything under one data directory.
pub struct Rig {
    pub meta: Meta,
    pub blobs: Arc<dyn Blobs>,
    pub tables: Tables,
}

impl Rig {
    pub async fn open(dir: &Path) -> Self {
        let blobs: Arc<dyn Blobs> = Arc::new(LocalBlobs::open(&dir.join("blobs")).await.unwrap());
        Self::with(dir, blobs).await
    }

    pub async fn with(dir: &Path, blobs: Arc<dyn Blobs>) -> Self {
        let meta = Meta::open(&dir.join("meta.db")).await.unwrap();
        let tables = Tables::open(meta.clone(), blobs.clone(), &dir.join("wal")).await.unwrap();
        Self { meta, blobs, tables }
    }

    pub async fn numbers(&self) -> Table {
        self.tables.table("numbers", numbers_schema()).await.unwrap()
    }
}

pub fn numbers_schema() -> SchemaRef {
    schema_of(&[
        Field::new("n", ValueType::Int),
        Field::new("at", ValueType::Timestamp),
        Field::new("word", ValueType::Text),
    ])
}

/// Rows `from..to`; row n happened n seconds after the epoch, and every fifth has no time.
pub fn numbers(from: i64, to: i64) -> RecordBatch {
    let at = |n: i64| (n % 5 != 4).then(|| Timestamp::from_micros(n * 1_000_000));
    let frame = Frame::new([
        ("n".into(), Column::Int((from..to).map(Some).collect())),
        ("at".into(), Column::Timestamp((from..to).map(at).collect())),
        ("word".into(), Column::Text((from..to).map(|n| Some(format!("w{}", n % 7).into())).collect())),
    ]);
    to_batch(&frame.unwrap()).unwrap()
}

/// A parent whose numbered folders go away with it.
pub struct Folders {
    parent: TempDir,
    count: AtomicUsize,
}

impl Folders {
    pub fn new() -> Self {
        Self { parent: tempfile::tempdir().unwrap(), count: AtomicUsize::new(0) }
    }

    pub fn next(&self) -> PathBuf {
        self.parent.path().join(self.count.fetch_add(1, Ordering::SeqCst).to_string())
    }
}

/// The `n` column of the batches.
pub fn values(batches: &[RecordBatch]) -> Vec<i64> {
    batches.iter().flat_map(|b| b.column(0).as_primitive::<Int64Type>().values().to_vec()).collect()
}

pub async fn all(table: &Table) -> Vec<i64> {
    values(&table.scan(None).await.unwrap())
}

/// What a crash at this moment would leave behind.
pub fn copy(from: &Path) -> TempDir {
    let to = tempfile::tempdir().unwrap();
    copy_into(from, to.path());
    to
}

pub fn copy_into(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_into(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
