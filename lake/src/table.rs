//! One table: its state as last seen, and how far the log before it is kept here.

use std::sync::{
    Arc, PoisonError, RwLock,
    atomic::{AtomicBool, Ordering},
};

use arrow::{
    array::RecordBatch,
    compute::concat_batches,
    datatypes::{Schema, SchemaRef},
};
use async_trait::async_trait;
use deltalake_core::{
    DeltaTable,
    kernel::{Action, Add, MetadataExt as _},
    logstore::{LogStoreRef, StorageConfig, default_logstore},
    operations::create::CreateBuilder,
    protocol::{DeltaOperation, SaveMode},
};
use object_store::{ObjectStore, path::Path, prefix::PrefixStore};
use storage::{Kept, StorageError, Vault};
use tokio::runtime::Handle;
use url::Url;

use crate::{
    EVENT_DATE, commit,
    encode::{self, arrow_failed},
    failure,
    place::Lake,
    schema,
    snapshot::Snapshot,
    vacuum::KEPT_MAX,
};

/// What a table's columns mean, and how its rows lie in files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// The event time: microseconds in UTC.
    pub time: String,
    /// The row's number, from 0 in order of coming.
    pub row: String,
    /// The number of the earlier row that this one takes the place of.
    pub replaces: String,
    /// Within a day, rows are sorted by these columns, then time.
    pub sorted_by: Vec<String>,
}

/// A Delta Lake table. Clones share it.
#[derive(Clone)]
pub struct LakeTable {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) name: String,
    pub(crate) lake: Lake,
    /// The table's folder, from the store's root.
    pub(crate) folder: Path,
    pub(crate) log: LogStoreRef,
    layout: RwLock<Layout>,
    /// As last loaded or committed; `None` before the table is made.
    seen: RwLock<Option<Seen>>,
    /// A commit's outcome is not known, and the log could not be asked.
    unsure: AtomicBool,
    /// Held while rows come in.
    pub(crate) committing: tokio::sync::Mutex<()>,
    /// Held while files are rewritten or removed.
    pub(crate) maintaining: tokio::sync::Mutex<()>,
    /// Shared by those who write files that a later commit names; a vacuum has it alone.
    pub(crate) staging: Arc<tokio::sync::RwLock<()>>,
    /// Where requests to the store run: files are also opened by threads that compute.
    pub(crate) runtime: Handle,
}

/// A version, and how far the log is kept in it: of one commit.
#[derive(Clone)]
struct Seen {
    state: DeltaTable,
    kept: Option<Kept>,
}

impl LakeTable {
    pub(crate) async fn open(lake: &Lake, name: &str, layout: Layout) -> Result<Self, StorageError> {
        let doing = || format!("open table {name}");
        let url = lake.base.join(&format!("{name}/"));
        let url: Url = url.map_err(|_| StorageError::BadTableName(name.to_owned()))?;
        let folder = Path::from_url_path(url.path()).map_err(|_| StorageError::BadTableName(name.to_owned()))?;
        let below: Arc<dyn ObjectStore> = Arc::new(PrefixStore::new(lake.store.clone(), folder.clone()));
        let log = default_logstore(below, lake.store.clone(), &url, &StorageConfig::default());
        let table = Self {
            inner: Arc::new(Inner {
                name: name.to_owned(),
                lake: lake.clone(),
                folder,
                log,
                layout: RwLock::new(layout),
                seen: RwLock::default(),
                unsure: AtomicBool::new(false),
                committing: tokio::sync::Mutex::default(),
                maintaining: tokio::sync::Mutex::default(),
                staging: Arc::default(),
                runtime: Handle::current(),
            }),
        };
        if table.inner.log.is_delta_table_location().await.map_err(failure::delta(doing()))? {
            table.reload().await?;
        }
        Ok(table)
    }

    /// The table's folder: a path of this machine, or `s3://bucket/...`.
    #[must_use]
    pub fn location(&self) -> String {
        if self.inner.lake.local {
            return format!("/{}", self.inner.folder);
        }
        format!("{}{}", self.inner.lake.base, self.inner.name)
    }

    pub(crate) fn layout(&self) -> Layout {
        self.inner.layout.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Goes on with another layout; the columns that it names stay those of the rows that are there.
    pub fn lay_out(&self, layout: Layout) {
        *self.inner.layout.write().unwrap_or_else(PoisonError::into_inner) = layout;
    }

    /// The newest version, `None` before the table is made.
    #[must_use]
    pub fn snapshot(&self) -> Option<Snapshot> {
        let Seen { state, kept } = self.seen()?;
        Some(Snapshot::new(self.clone(), state, kept.map_or(0, |kept| kept.rows)))
    }

    /// Rows that came so far, those that others replaced included.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.kept_here().map_or(0, |kept| kept.rows)
    }

    fn seen(&self) -> Option<Seen> {
        self.inner.seen.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn kept_here(&self) -> Option<Kept> {
        self.inner.seen.read().unwrap_or_else(PoisonError::into_inner).as_ref().and_then(|seen| seen.kept)
    }

    pub(crate) fn state(&self) -> Option<DeltaTable> {
        self.seen().map(|seen| seen.state)
    }

    fn set(&self, state: DeltaTable, kept: Option<Kept>) {
        *self.inner.seen.write().unwrap_or_else(PoisonError::into_inner) = Some(Seen { state, kept });
    }

    /// Reads what the log says by now: after the start, and after a commit whose outcome is not known.
    pub(crate) async fn reload(&self) -> Result<(), StorageError> {
        let doing = format!("read the log of table {}", self.inner.name);
        let mut state = match self.state() {
            Some(state) => state,
            None => DeltaTable::new(self.inner.log.clone()),
        };
        state.load().await.map_err(failure::delta(doing))?;
        let kept = commit::kept(&self.inner.log, &state).await?;
        self.set(state, kept);
        Ok(())
    }

    /// Makes the table with these columns where there is none, and gives one without rows these columns.
    pub async fn ensure(&self, rows: &Schema) -> Result<(), StorageError> {
        let _committing = self.inner.committing.lock().await;
        self.settle().await?;
        self.ensure_inside(rows).await
    }

    /// The caller holds `committing`.
    async fn ensure_inside(&self, rows: &Schema) -> Result<(), StorageError> {
        let wanted = schema::with_day(rows);
        let Some(state) = self.state() else { return self.create(&wanted).await };
        if self.rows() > 0 {
            return Ok(());
        }
        let doing = || format!("change the columns of table {}", self.inner.name);
        let snapshot = state.snapshot().map_err(failure::delta(doing()))?;
        let columns = schema::to_delta(&wanted)?;
        if *schema::of_rows(&snapshot.schema())? == *schema::of_rows(&columns)? {
            return Ok(());
        }
        let metadata = snapshot.metadata().clone().with_schema(&columns).map_err(|e| failure::damaged(doing(), e))?;
        let operation = DeltaOperation::Write { mode: SaveMode::Overwrite, partition_by: None, predicate: None };
        let committed = commit::commit(&self.inner.log, &state, vec![Action::Metadata(metadata)], operation).await;
        self.committed(committed.map_err(failure::delta(doing())), None).await
    }

    async fn create(&self, columns: &Schema) -> Result<(), StorageError> {
        let doing = || format!("make table {}", self.inner.name);
        let columns = schema::to_delta(columns)?;
        let properties = [
            ("delta.checkpointInterval", "10".to_owned()),
            // Versions stay readable until a vacuum, which clears the log as well.
            ("delta.enableExpiredLogCleanup", "false".to_owned()),
            ("delta.deletedFileRetentionDuration", format!("interval {} days", KEPT_MAX.as_secs() / 86_400)),
        ];
        let made = CreateBuilder::new()
            .with_log_store(self.inner.log.clone())
            .with_table_name(&self.inner.name)
            .with_columns(columns.fields().cloned())
            .with_partition_columns([EVENT_DATE])
            .with_configuration(properties.map(|(name, value)| (name, Some(value))))
            .with_save_mode(SaveMode::Ignore)
            .await;
        self.committed(made.map_err(failure::delta(doing())), None).await
    }

    /// Takes over what a commit left, `kept` with it; where its outcome is not known, asks the log.
    pub(crate) async fn committed(
        &self,
        outcome: Result<DeltaTable, StorageError>,
        kept: Option<Kept>,
    ) -> Result<(), StorageError> {
        match outcome {
            Ok(state) => {
                self.set(state, kept.or_else(|| self.kept_here()));
                Ok(())
            }
            Err(error) => {
                self.inner.unsure.store(true, Ordering::SeqCst);
                if let Err(unread) = self.settle().await {
                    tracing::warn!(table = self.inner.name, error = %unread, "the log could not be read again");
                }
                Err(error)
            }
        }
    }

    /// Makes sure that what was seen last is what the log says. The caller holds `committing`.
    pub(crate) async fn settle(&self) -> Result<(), StorageError> {
        if !self.inner.unsure.load(Ordering::SeqCst) {
            return Ok(());
        }
        let doing = format!("look for table {}", self.inner.name);
        if self.inner.log.is_delta_table_location().await.map_err(failure::delta(doing))? {
            self.reload().await?;
        }
        self.inner.unsure.store(false, Ordering::SeqCst);
        Ok(())
    }

    /// Writes files, then commits them together with `upto`. The caller holds `committing`.
    async fn write(&self, rows: &[RecordBatch], upto: Kept) -> Result<(), StorageError> {
        let Some(columns) = rows.first().map(RecordBatch::schema) else {
            return Err(StorageError::BadRows { table: self.inner.name.clone(), detail: "there are none".into() });
        };
        self.ensure_inside(&columns).await?;
        let files = self.encoded(rows.to_vec(), columns.clone()).await?;
        let files = commit::put_all(self, files, true).await?;
        self.append(files, &columns, upto).await
    }

    /// Commits files that are written together with `upto`. The caller holds `committing`.
    pub(crate) async fn append(&self, files: Vec<Add>, columns: &SchemaRef, upto: Kept) -> Result<(), StorageError> {
        self.ensure_inside(columns).await?;
        let Some(state) = self.state() else {
            return Err(failure::damaged(format!("table {}", self.inner.name), "it was made and is not there"));
        };
        let doing = || format!("write rows to table {}", self.inner.name);
        let mut actions = Vec::new();
        let snapshot = state.snapshot().map_err(failure::delta(doing()))?;
        let has = schema::of_rows(&snapshot.schema())?;
        if let Some(merged) = schema::merged(&self.inner.name, &has, columns)? {
            let merged = schema::to_delta(&schema::with_day(&merged))?;
            let metadata =
                snapshot.metadata().clone().with_schema(&merged).map_err(|e| failure::damaged(doing(), e))?;
            actions.push(Action::Metadata(metadata));
        }
        actions.extend(files.into_iter().map(Action::Add));
        actions.extend(commit::marks(upto));
        let operation = DeltaOperation::Write {
            mode: SaveMode::Append,
            partition_by: Some(vec![EVENT_DATE.to_owned()]),
            predicate: None,
        };
        let committed = commit::commit(&self.inner.log, &state, actions, operation).await;
        self.committed(committed.map_err(failure::delta(doing())), Some(upto)).await
    }

    /// Keeps rows by `write`, unless they are kept already. The caller holds `committing`.
    pub(crate) async fn once(
        &self,
        upto: Kept,
        write: impl Future<Output = Result<(), StorageError>>,
    ) -> Result<(), StorageError> {
        self.settle().await?;
        if self.kept_here() == Some(upto) {
            return Ok(());
        }
        match write.await {
            // A commit may have taken effect although its answer, or its checkpoint, was lost.
            Err(error) if self.kept_here() == Some(upto) => {
                tracing::warn!(table = self.inner.name, %error, "rows were kept, and something after that failed");
                Ok(())
            }
            other => other,
        }
    }

    async fn encoded(&self, rows: Vec<RecordBatch>, columns: SchemaRef) -> Result<Vec<encode::Encoded>, StorageError> {
        let layout = self.layout();
        let work = move || {
            let rows = concat_batches(&columns, &rows).map_err(arrow_failed)?;
            encode::by_day(&rows, &layout)
        };
        tokio::task::spawn_blocking(work).await.map_err(failure::gone)?
    }
}

#[async_trait]
impl Vault for LakeTable {
    async fn kept(&self) -> Result<Option<Kept>, StorageError> {
        let _committing = self.inner.committing.lock().await;
        self.settle().await?;
        Ok(self.kept_here())
    }

    async fn keep(&self, rows: &[RecordBatch], upto: Kept) -> Result<(), StorageError> {
        let _committing = self.inner.committing.lock().await;
        self.once(upto, self.write(rows, upto)).await
    }
}
