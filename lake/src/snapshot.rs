//! One version of a table, and its rows.

use std::{fs::File, io, sync::Arc};

use arrow::{
    array::RecordBatch,
    datatypes::{Schema, SchemaRef},
};
use deltalake_core::{DeltaTable, DeltaTableError};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use object_store::{ObjectStoreExt as _, path::Path};
use storage::StorageError;

use crate::{
    EVENT_DATE, commit, day,
    encode::arrow_failed,
    failure,
    file::{LiveFile, ParquetFile},
    read, schema,
    stats::Seen,
    table::LakeTable,
};

/// Files decoded side by side.
const DECODED_AT_ONCE: usize = 2;

/// A version of a table. What it lists stays readable until a vacuum, whatever is committed meanwhile.
#[derive(Clone)]
pub struct Snapshot {
    table: LakeTable,
    state: DeltaTable,
    rows: u64,
}

impl LakeTable {
    /// An earlier version. [`StorageError::Gone`] when a vacuum took it.
    pub async fn at(&self, version: u64) -> Result<Snapshot, StorageError> {
        let mut state = DeltaTable::new(self.inner.log.clone());
        let loaded = state.load_version(version).await;
        let newest = self.snapshot().map_or(0, |snapshot| snapshot.version());
        loaded.map_err(|error| match error {
            DeltaTableError::ObjectStore { .. } => failure::delta(self.named(version))(error),
            _ if version < newest => StorageError::Gone { what: self.named(version) },
            other => failure::delta(format!("read {}", self.named(version)))(other),
        })?;
        let rows = commit::rows(&self.inner.log, &state).await?;
        Ok(Snapshot::new(self.clone(), state, rows))
    }

    fn named(&self, version: u64) -> String {
        format!("version {version} of table {}", self.inner.name)
    }

    /// Rows of the log under `wanted`, without the first `skipped` of them, which the table has by now; with a range of
    /// event time, exactly those inside.
    pub fn rest(
        &self,
        wanted: &SchemaRef,
        range: Option<(i64, i64)>,
        logged: &[RecordBatch],
        skipped: u64,
    ) -> Result<Vec<RecordBatch>, StorageError> {
        let mut skipped = usize::try_from(skipped).unwrap_or(usize::MAX);
        let time = self.layout().time;
        let mut rest = Vec::new();
        for batch in logged {
            let skip = skipped.min(batch.num_rows());
            skipped -= skip;
            let mut batch = batch.slice(skip, batch.num_rows() - skip);
            if let Some(range) = range {
                batch = read::within(batch, &time, range)?;
            }
            if batch.num_rows() > 0 {
                rest.push(read::fit(&batch, wanted)?);
            }
        }
        Ok(rest)
    }

    /// The first version from `from` on that has the rows numbered below `rows`: what came after `from` and was only in
    /// the log then is there without anything that later rows did to it.
    pub async fn with_rows(&self, from: u64, rows: u64) -> Result<Snapshot, StorageError> {
        let newest = self.snapshot().map_or(0, |snapshot| snapshot.version());
        let mut version = from;
        loop {
            let snapshot = self.at(version).await?;
            if snapshot.rows() >= rows || version >= newest {
                return Ok(snapshot);
            }
            version += 1;
        }
    }
}

impl Snapshot {
    pub(crate) fn new(table: LakeTable, state: DeltaTable, rows: u64) -> Self {
        Self { table, state, rows }
    }

    #[must_use]
    pub fn version(&self) -> u64 {
        self.state.version().unwrap_or(0)
    }

    /// The rows numbered below this stand in it, except those that a compaction dropped because a later one of them
    /// took their place.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// The column of the rows' numbers.
    pub(crate) fn row_column(&self) -> String {
        self.table.layout().row
    }

    pub(crate) fn state(&self) -> &DeltaTable {
        &self.state
    }

    /// The columns of the rows.
    pub fn schema(&self) -> Result<SchemaRef, StorageError> {
        let snapshot = self.state.snapshot().map_err(failure::delta("read a table's columns"))?;
        schema::of_rows(&snapshot.schema())
    }

    /// The files, in order of day and path.
    pub async fn files(&self) -> Result<Vec<LiveFile>, StorageError> {
        let layout = self.table.layout();
        let snapshot = self.state.snapshot().map_err(failure::delta("list a table's files"))?;
        let views = snapshot.snapshot().file_views(self.table.inner.log.as_ref(), None);
        let mut files: Vec<LiveFile> = views
            .map_ok(|view| {
                let seen = Seen::parse(view.stats().as_deref());
                let rows = seen.rows.unwrap_or(0);
                LiveFile {
                    path: view.path().into_owned(),
                    bytes: view.size().unsigned_abs(),
                    rows,
                    day: view.partition_values_map().remove(EVENT_DATE).flatten(),
                    times: seen.instants(&layout.time),
                    numbers: seen.ints(&layout.row),
                    corrections: seen.nulls(&layout.replaces).map(|nulls| rows.saturating_sub(nulls)),
                }
            })
            .try_collect()
            .await
            .map_err(failure::delta("list a table's files"))?;
        files.sort_by(|a, b| (&a.day, &a.path).cmp(&(&b.day, &b.path)));
        Ok(files)
    }

    /// The files that may have rows with an event time in the range (microseconds, both ends included).
    pub async fn files_within(&self, range: (i64, i64)) -> Result<Vec<LiveFile>, StorageError> {
        let mut files = self.files().await?;
        files.retain(|file| {
            let by_day = || file.day.as_deref().and_then(day::parse).map(day::span);
            file.times.or_else(by_day).is_none_or(|(from, to)| from <= range.1 && to >= range.0)
        });
        Ok(files)
    }

    /// Opens a file for readers that pick their bytes; they block.
    pub fn open(&self, file: &LiveFile) -> Result<ParquetFile, StorageError> {
        let (path, bytes) = (self.path(file), file.bytes);
        let lake = &self.table.inner.lake;
        if lake.local {
            let name = format!("/{path}");
            let opened = File::open(&name).map_err(|source| match source.kind() {
                io::ErrorKind::NotFound => self.missing(&path),
                _ => StorageError::Io { doing: format!("open {name}"), source },
            })?;
            return Ok(ParquetFile::Local { file: Arc::new(opened), bytes });
        }
        Ok(ParquetFile::Remote { store: lake.store.clone(), path, bytes, runtime: self.table.inner.runtime.clone() })
    }

    /// Where Spark finds a file: `file:///...`, or `s3a://bucket/...`, which is what Hadoop calls S3.
    #[must_use]
    pub fn address(&self, file: &LiveFile) -> String {
        let path = self.path(file);
        let lake = &self.table.inner.lake;
        if lake.local {
            return format!("file:///{path}");
        }
        format!("s3a://{}/{path}", lake.base.host_str().unwrap_or_default())
    }

    /// A file that the version lists is not there: cleared away by a vacuum, unless this is the newest.
    fn missing(&self, path: &Path) -> StorageError {
        let what = self.table.named(self.version());
        match self.table.snapshot() {
            Some(newest) if newest.version() > self.version() => StorageError::Gone { what },
            _ => failure::damaged(what, format!("file {path} is missing")),
        }
    }

    fn path(&self, file: &LiveFile) -> Path {
        let folder = &self.table.inner.folder;
        Path::from_iter(folder.parts().chain(Path::from(file.path.as_str()).parts()))
    }

    /// The rows of a file under `wanted`: columns it lacks are null.
    pub async fn read(&self, file: &LiveFile, wanted: &SchemaRef) -> Result<Vec<RecordBatch>, StorageError> {
        let path = self.path(file);
        let opened = if self.table.inner.lake.local {
            self.open(file)?
        } else {
            let got = self.table.inner.lake.store.get(&path).await.map_err(|error| match error {
                object_store::Error::NotFound { .. } => self.missing(&path),
                other => failure::store(format!("read {path}"))(other),
            })?;
            ParquetFile::Memory(got.bytes().await.map_err(failure::store(format!("read {path}")))?)
        };
        let wanted = wanted.clone();
        let decode = move || read::decode(opened, path.as_ref(), &wanted);
        tokio::task::spawn_blocking(decode).await.map_err(failure::gone)?
    }

    /// The rows under `wanted`, in no particular order; with a range of event time, exactly those inside.
    pub async fn scan(&self, wanted: &SchemaRef, range: Option<(i64, i64)>) -> Result<Vec<RecordBatch>, StorageError> {
        let files = match range {
            Some(range) => self.files_within(range).await?,
            None => self.files().await?,
        };
        let time = self.table.layout().time;
        let read = match range {
            Some(_) => {
                let all = self.schema()?;
                with_time(wanted, &time, &all)?
            }
            None => wanted.clone(),
        };
        let reads = files.into_iter().map(|file| {
            let (snapshot, read) = (self.clone(), read.clone());
            async move { snapshot.read(&file, &read).await }
        });
        let batches: Vec<Vec<RecordBatch>> = stream::iter(reads).buffered(DECODED_AT_ONCE).try_collect().await?;
        let kept = batches.into_iter().flatten().map(|batch| match range {
            Some(range) => read::fit(&read::within(batch, &time, range)?, wanted),
            None => Ok(batch),
        });
        kept.filter(|batch| batch.as_ref().map_or(true, |batch| batch.num_rows() > 0)).collect()
    }
}

/// The wanted columns, and the time.
fn with_time(wanted: &SchemaRef, time: &str, all: &Schema) -> Result<SchemaRef, StorageError> {
    if wanted.column_with_name(time).is_some() {
        return Ok(wanted.clone());
    }
    let field = all.field_with_name(time).map_err(arrow_failed)?;
    let fields = wanted.fields().iter().map(|field| field.as_ref().clone()).chain([field.clone()]);
    Ok(Arc::new(Schema::new(fields.collect::<Vec<_>>())))
}
