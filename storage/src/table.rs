//! Append-only columnar tables: a write-ahead log in front of Parquet segments.
//!
//! A row is in exactly one place: a segment of the manifest, or a log file that no segment covers. Moving rows
//! from log to segment is one row of the manifest, so a crash at any step loses and doubles nothing.
//!
//! A table may have a [`Vault`] instead of segments: sealed rows go there, and it says how many it has.
//!
//! The log lies in one data directory. Where several servers share a database, a table belongs to the directory that
//! opened it first, its keeper; on every other server the table can be named and neither read nor written.

mod pass;

use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock, mpsc},
    thread,
};

use arrow::{array::RecordBatch, compute::concat_batches, datatypes::SchemaRef};
use async_trait::async_trait;
use domain::{Digest, Timestamp};
use futures::{StreamExt as _, TryStreamExt as _, stream, stream::BoxStream};
use tokio::sync::{Mutex, Semaphore, oneshot};

use crate::{
    Blobs, Kept, Meta, References, StorageError, Vault,
    disk::{self, DirLock},
    manifest,
    recover::{Begin, describe, fit, folder_of, recover},
    segment::{self, Cut, Segment, SegmentCache},
    sql::Conn,
    wal::{self, OpenLog},
    writer::{Append, Command, Sealed, State, Tail, Writer},
};

/// Decoded segments of all tables kept in memory.
const CACHE_BYTES: usize = 512 << 20;
/// A log longer than this is moved into a segment.
const TAIL_ROWS_MAX: u64 = 65_536;
const TAIL_BYTES_MAX: u64 = 32 << 20;
/// What a vault is given at once is more: many small files cost its readers.
const VAULTED_ROWS_MAX: u64 = 262_144;
const VAULTED_BYTES_MAX: u64 = 128 << 20;
/// At this many times the limits, appends wait for the segment.
const TAIL_EXCESS: u64 = 4;
/// Appends that may wait for one table's writer at once; more wait before it.
const SEATS: usize = 256;
/// Batches with more rows are encoded away from the caller's thread.
const INLINE_ROWS_MAX: usize = 4_096;
/// Segments decoded side by side by one scan.
const DECODED_AT_ONCE: usize = 2;

/// Rows whose `column` lies between `from` and `to`, both included; rows without a value are outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimeRange {
    pub column: String,
    pub from: Timestamp,
    pub to: Timestamp,
}

/// All tables under one directory, which belongs to this process while it is open. Clones share it.
#[derive(Clone)]
pub struct Tables {
    inner: Arc<Opened>,
}

struct Opened {
    meta: Meta,
    blobs: Arc<dyn Blobs>,
    dir: PathBuf,
    cache: Arc<SegmentCache>,
    open_log: OpenLog,
    lock: Arc<DirLock>,
    /// This directory's name among the servers of a shared database.
    keeper: Option<String>,
    tables: Mutex<HashMap<String, Table>>,
}

impl Tables {
    /// Claims `wal_dir` (creating it) for this process; [`StorageError::Locked`] while another has it.
    pub async fn open(meta: Meta, blobs: Arc<dyn Blobs>, wal_dir: &Path) -> Result<Self, StorageError> {
        Self::open_with(meta, blobs, wal_dir, Arc::new(wal::open_log)).await
    }

    pub(crate) async fn open_with(
        meta: Meta,
        blobs: Arc<dyn Blobs>,
        wal_dir: &Path,
        open_log: OpenLog,
    ) -> Result<Self, StorageError> {
        disk::create_dir(wal_dir).map_err(StorageError::io(format!("create {}", wal_dir.display())))?;
        let lock = Arc::new(DirLock::take(wal_dir).await?);
        meta.migrate("tables", manifest::MIGRATIONS).await?;
        let (dir, cache) = (wal_dir.to_owned(), Arc::new(SegmentCache::new(CACHE_BYTES)));
        let keeper = if meta.is_shared() {
            let named = disk::name_of(wal_dir).map_err(StorageError::io(format!("name {}", wal_dir.display())))?;
            tracing::info!(keeper = named, "tables opened here first are kept in this data directory");
            Some(named)
        } else {
            None
        };
        let inner = Opened { meta, blobs, dir, cache, open_log, lock, keeper, tables: Mutex::default() };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Opens the table, or creates it with this schema. Its rows come back from segments and log.
    ///
    /// [`StorageError::SchemaMismatch`] when it exists with other columns (names, types, nullability, order). A table
    /// that another server keeps opens all the same, and using it is [`StorageError::Elsewhere`].
    pub async fn table(&self, name: &str, schema: SchemaRef) -> Result<Table, StorageError> {
        let folder = folder_of(name).ok_or_else(|| StorageError::BadTableName(name.to_owned()))?;
        let columns = describe(&schema);
        let mut tables = self.inner.tables.lock().await;
        let elsewhere = manifest::claim(&self.inner.meta, name, &columns, self.inner.keeper.as_deref()).await?;
        if let Some(table) = tables.get(name) {
            return Ok(table.clone());
        }
        if let Some(keeper) = elsewhere {
            let table = self.elsewhere(name, schema, keeper);
            tables.insert(name.to_owned(), table.clone());
            return Ok(table);
        }
        let segments = manifest::segments(&self.inner.meta, name).await?;
        let (dir, open_log) = (self.inner.dir.join(folder), self.inner.open_log.clone());
        let (owner, table_schema) = (name.to_owned(), schema.clone());
        let begin = Begin::after(&segments, &columns);
        let writer = tokio::task::spawn_blocking(move || recover(owner, dir, &table_schema, begin, segments, open_log))
            .await
            .map_err(|_| StorageError::WorkerGone("table"))??;
        let table = self.start(name, schema, None, writer)?;
        tables.insert(name.to_owned(), table.clone());
        Ok(table)
    }

    /// Opens or creates a table whose sealed rows `vault` keeps; the log begins where the vault ends.
    ///
    /// [`StorageError::SchemaMismatch`] while the manifest keeps its rows ([`Tables::keeps`]): hand them over first.
    pub async fn vaulted(&self, name: &str, schema: SchemaRef, vault: Arc<dyn Vault>) -> Result<Table, StorageError> {
        let folder = folder_of(name).ok_or_else(|| StorageError::BadTableName(name.to_owned()))?;
        let mut tables = self.inner.tables.lock().await;
        let keeper = self.inner.keeper.as_deref();
        let elsewhere = manifest::claim(&self.inner.meta, name, manifest::VAULTED, keeper).await?;
        if let Some(table) = tables.get(name) {
            return Ok(table.clone());
        }
        let table = if let Some(keeper) = elsewhere {
            self.elsewhere(name, schema, keeper)
        } else {
            let begin = vault.kept().await?.map_or_else(|| Begin::of(name), Begin::from);
            let (dir, open_log) = (self.inner.dir.join(folder), self.inner.open_log.clone());
            let (owner, table_schema) = (name.to_owned(), schema.clone());
            let recovered = move || recover(owner, dir, &table_schema, begin, Vec::new(), open_log);
            let writer = tokio::task::spawn_blocking(recovered).await;
            let writer = writer.map_err(|_| StorageError::WorkerGone("table"))??;
            self.start(name, schema, Some(vault), writer)?
        };
        tables.insert(name.to_owned(), table.clone());
        Ok(table)
    }

    /// Whether the manifest keeps the rows of a table of this name.
    pub async fn keeps(&self, name: &str) -> Result<bool, StorageError> {
        manifest::keeps(&self.inner.meta, name).await
    }

    /// Forgets the segments of these tables, whose logs are flushed and whose rows a vault keeps by now. The first may be
    /// opened with [`Tables::vaulted`] from now on; the others are gone. Their segments become garbage.
    pub async fn hand_over(&self, names: &[String]) -> Result<(), StorageError> {
        let mut tables = self.inner.tables.lock().await;
        manifest::hand_over(&self.inner.meta, names).await?;
        for name in names {
            tables.remove(name);
        }
        Ok(())
    }

    /// Flushes the table and lets go of it, so that it can be opened with other columns. Handles that are left can
    /// still read what it has.
    pub async fn retire(&self, table: &Table) -> Result<(), StorageError> {
        let mut tables = self.inner.tables.lock().await;
        table.flush().await?;
        table.inner.retire();
        tables.remove(&table.inner.name);
        Ok(())
    }

    /// Claims something that has no rows and that only one of the servers of a shared database may do. Gives the data
    /// directory that has it, where that is not this one.
    pub async fn keeper_of(&self, what: &str) -> Result<Option<String>, StorageError> {
        let Some(keeper) = &self.inner.keeper else { return Ok(None) };
        // In brackets, which no table's name has.
        manifest::claim(&self.inner.meta, &format!("({what})"), "", Some(keeper)).await
    }

    fn elsewhere(&self, name: &str, schema: SchemaRef, keeper: String) -> Table {
        let chain = Digest::of(describe(&schema).as_bytes());
        let state =
            State { segments: Vec::new(), vaulted: 0, sealed: None, tail: Tail::default(), chain, broken: None };
        self.handle(name, schema, None, Arc::new(RwLock::new(state)), PathBuf::new(), Err(keeper))
    }

    fn start(
        &self,
        name: &str,
        schema: SchemaRef,
        vault: Option<Arc<dyn Vault>>,
        writer: Writer,
    ) -> Result<Table, StorageError> {
        let (state, dir) = (writer.state.clone(), writer.dir.clone());
        let (commands, received) = mpsc::channel();
        let thread = thread::Builder::new()
            .name(format!("log {name}"))
            .spawn(move || writer.run(&received))
            .map_err(StorageError::io("start the writer of a table"))?;
        Ok(self.handle(name, schema, vault, state, dir, Ok((commands, thread))))
    }

    /// With the writer's end, or with who keeps the table instead.
    fn handle(
        &self,
        name: &str,
        schema: SchemaRef,
        vault: Option<Arc<dyn Vault>>,
        state: Arc<RwLock<State>>,
        dir: PathBuf,
        writer: Result<(mpsc::Sender<Command>, thread::JoinHandle<()>), String>,
    ) -> Table {
        let (writer, elsewhere) = writer.map_or_else(|keeper| (None, Some(keeper)), |writer| (Some(writer), None));
        let (commands, thread) = writer.unzip();
        let inner = Inner {
            name: name.to_owned(),
            schema,
            vault,
            meta: self.inner.meta.clone(),
            blobs: self.inner.blobs.clone(),
            cache: self.inner.cache.clone(),
            dir,
            state,
            commands,
            thread,
            elsewhere,
            seats: Arc::new(Semaphore::new(SEATS)),
            moving: Mutex::new(()),
            _lock: self.inner.lock.clone(),
        };
        Table { inner: Arc::new(inner) }
    }

    /// Moves the rows of every open table into segments. What fails is logged and stays in the log files.
    pub async fn flush_all(&self) {
        let tables: Vec<_> = self.inner.tables.lock().await.values().cloned().collect();
        for table in tables.into_iter().filter(|table| table.inner.elsewhere.is_none()) {
            if let Err(e) = table.flush().await {
                tracing::warn!(table = table.inner.name, error = %e, "rows stay in the log");
            }
        }
    }
}

/// One append-only table. Clones share it; the last one dropped syncs and ends its writer.
#[derive(Clone)]
pub struct Table {
    inner: Arc<Inner>,
}

struct Inner {
    name: String,
    schema: SchemaRef,
    vault: Option<Arc<dyn Vault>>,
    meta: Meta,
    blobs: Arc<dyn Blobs>,
    cache: Arc<SegmentCache>,
    dir: PathBuf,
    state: Arc<RwLock<State>>,
    commands: Option<mpsc::Sender<Command>>,
    thread: Option<thread::JoinHandle<()>>,
    /// The data directory that keeps the table, where it is not this one.
    elsewhere: Option<String>,
    seats: Arc<Semaphore>,
    /// Held while rows move into a segment.
    moving: Mutex<()>,
    _lock: Arc<DirLock>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        drop(self.commands.take());
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!(table = self.name, "the writer of a table panicked");
        }
    }
}

impl Table {
    #[must_use]
    pub fn schema(&self) -> &SchemaRef {
        &self.inner.schema
    }

    /// [`StorageError::Elsewhere`] where another server keeps the table.
    pub fn here(&self) -> Result<(), StorageError> {
        self.inner.here()
    }

    /// Appends the rows; they are durable, and visible to scans, when it returns.
    ///
    /// Whole batches only: all rows or none. [`StorageError::Io`] says the log failed: these rows may come back at
    /// the next start, and the table takes no more until then. So does a cancelled call.
    pub async fn append(&self, batch: RecordBatch) -> Result<(), StorageError> {
        self.submit(batch, true).await
    }

    /// Appends the rows; they are visible to scans when it returns and durable within 100 ms.
    pub async fn append_soon(&self, batch: RecordBatch) -> Result<(), StorageError> {
        self.submit(batch, false).await
    }

    async fn submit(&self, batch: RecordBatch, durable: bool) -> Result<(), StorageError> {
        self.inner.here()?;
        let batch = fit(&self.inner.name, &self.inner.schema, batch)?;
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let frame = if batch.num_rows() <= INLINE_ROWS_MAX {
            wal::frame(&batch)?
        } else {
            let batch = batch.clone();
            let encoded = tokio::task::spawn_blocking(move || wal::frame(&batch));
            encoded.await.map_err(|_| StorageError::WorkerGone("table"))??
        };
        let too_long = || StorageError::BadRows {
            table: self.inner.name.clone(),
            detail: "more than 1 GiB in one batch; append it in parts".into(),
        };
        let frame = frame.ok_or_else(too_long)?;
        let seats = self.inner.seats.clone();
        let seat = seats.acquire_owned().await.map_err(|_| StorageError::WorkerGone("table"))?;
        let (done, answer) = oneshot::channel();
        self.inner.send(Command::Append(Append { batch, frame, durable, done, _seat: seat }))?;
        answer.await.map_err(|_| StorageError::WorkerGone("table"))??;
        self.relieve().await;
        Ok(())
    }

    /// Moves a long log into a segment. The rows are safe either way, so a failure is not the caller's.
    async fn relieve(&self) {
        let excess = self.inner.excess();
        if excess == 0 || (excess < TAIL_EXCESS && self.inner.moving.try_lock().is_err()) {
            return;
        }
        if excess < TAIL_EXCESS && self.inner.vault.is_some() {
            // A vault takes its time; the caller need not.
            let table = self.clone();
            tokio::spawn(async move {
                if let Err(e) = table.move_rows(true).await {
                    tracing::warn!(table = table.inner.name, error = %e, "rows stay in the log");
                }
            });
            return;
        }
        if let Err(e) = self.move_rows(true).await {
            tracing::warn!(table = self.inner.name, error = %e, "rows stay in the log");
        }
    }

    /// Moves all rows appended so far from the log into a segment.
    pub async fn flush(&self) -> Result<(), StorageError> {
        self.move_rows(false).await
    }

    /// Runs to its end even when the caller stops waiting.
    async fn move_rows(&self, only_if_full: bool) -> Result<(), StorageError> {
        self.inner.here()?;
        let inner = self.inner.clone();
        let moved = tokio::spawn(async move {
            let _moving = inner.moving.lock().await;
            inner.store_sealed().await?;
            if only_if_full && inner.excess() == 0 {
                return Ok(());
            }
            inner.empty_log().await
        });
        moved.await.map_err(|_| StorageError::WorkerGone("table"))?
    }

    /// The rows in the order they were appended; with a range, exactly those inside it. Of a table with a vault only
    /// those still in the log.
    pub async fn scan(&self, range: Option<TimeRange>) -> Result<Vec<RecordBatch>, StorageError> {
        self.stream(range)?.try_collect().await
    }

    /// What [`Table::scan`] gives as of this moment, decoded segment by segment as it is fetched.
    pub fn stream(
        &self,
        range: Option<TimeRange>,
    ) -> Result<BoxStream<'static, Result<RecordBatch, StorageError>>, StorageError> {
        self.inner.here()?;
        let cut = range.map(|range| self.cut(&range).map(|cut| (range.column, cut))).transpose()?;
        let (mut segments, sealed, tail) = {
            let state = self.inner.state.read().unwrap_or_else(PoisonError::into_inner);
            (state.segments.clone(), state.sealed.clone(), state.tail.batches.clone())
        };
        if let Some((column, cut)) = &cut {
            segments.retain(|s| s.extents.get(column).is_some_and(|extent| cut.touches(extent)));
        }
        let inner = Arc::clone(&self.inner);
        // Owned in and out: a closure over borrowed segments would keep this from being sent between threads.
        let decoded = stream::iter(segments).map(move |segment| {
            let inner = Arc::clone(&inner);
            async move { inner.decoded(&segment).await }
        });
        let decoded = decoded.buffered(DECODED_AT_ONCE).map_ok(|batches| stream::iter(batches.into_iter().map(Ok)));
        let logged: Vec<RecordBatch> = sealed.iter().flat_map(|s| s.batches.iter()).chain(&tail).cloned().collect();
        let all = decoded.try_flatten().chain(stream::iter(logged.into_iter().map(Ok)));
        let kept = all.map(move |batch| match &cut {
            Some((_, cut)) => cut.apply(&batch?),
            None => batch,
        });
        Ok(kept.try_filter(|batch| std::future::ready(batch.num_rows() > 0)).boxed())
    }

    /// The rows that are only in the log, in order, and the number of the first. Whatever comes before it is in the
    /// segments, or the vault, by now.
    #[must_use]
    pub fn logged(&self) -> (u64, Vec<RecordBatch>) {
        let state = self.inner.state.read().unwrap_or_else(PoisonError::into_inner);
        let sealed = state.sealed.iter().flat_map(|sealed| &sealed.batches);
        (state.stored(), sealed.chain(&state.tail.batches).cloned().collect())
    }

    /// How many segments the table has.
    #[must_use]
    pub fn segments(&self) -> usize {
        self.inner.state.read().unwrap_or_else(PoisonError::into_inner).segments.len()
    }

    /// The rows of one segment, from 0 in row order; none past the last.
    pub async fn segment(&self, at: usize) -> Result<Vec<RecordBatch>, StorageError> {
        let segment = self.inner.state.read().unwrap_or_else(PoisonError::into_inner).segments.get(at).cloned();
        match segment {
            Some(segment) => self.inner.decoded(&segment).await,
            None => Ok(Vec::new()),
        }
    }

    /// How far segments, or the vault, reach.
    #[must_use]
    pub fn stored(&self) -> Kept {
        let state = self.inner.state.read().unwrap_or_else(PoisonError::into_inner);
        let last = state.segments.last();
        let covered = last.map_or(0, |segment| segment.covered);
        Kept { rows: state.stored(), covered, chain: last.map_or(state.chain, |segment| segment.chain) }
    }

    fn cut(&self, range: &TimeRange) -> Result<Cut, StorageError> {
        Cut::new(&self.inner.schema, &range.column, range.from, range.to)
            .ok_or_else(|| StorageError::NoTimeColumn { table: self.inner.name.clone(), column: range.column.clone() })
    }

    /// Rows visible to a scan now; none where another server keeps the table.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.inner.state.read().unwrap_or_else(PoisonError::into_inner).rows()
    }

    /// A digest of the columns and of everything appended, batch by batch: the same after a restart or a flush,
    /// another after any append.
    #[must_use]
    pub fn snapshot(&self) -> Digest {
        self.inner.state.read().unwrap_or_else(PoisonError::into_inner).chain
    }
}

impl Inner {
    fn here(&self) -> Result<(), StorageError> {
        match &self.elsewhere {
            Some(keeper) => Err(StorageError::Elsewhere { table: self.name.clone(), keeper: keeper.clone() }),
            None => Ok(()),
        }
    }

    fn send(&self, command: Command) -> Result<(), StorageError> {
        let gone = StorageError::WorkerGone("table");
        self.commands.as_ref().and_then(|commands| commands.send(command).ok()).ok_or(gone)
    }

    /// How many times over its limits the log is; 0: within.
    fn excess(&self) -> u64 {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let (rows, bytes) = match &self.vault {
            Some(_) => (VAULTED_ROWS_MAX, VAULTED_BYTES_MAX),
            None => (TAIL_ROWS_MAX, TAIL_BYTES_MAX),
        };
        (state.tail.rows / rows).max(state.tail.bytes / bytes)
    }

    /// Takes no more rows; another handle goes on with the log.
    fn retire(&self) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        state.broken = Some("its columns changed; ask for the table again".into());
    }

    async fn decoded(&self, segment: &Segment) -> Result<Vec<RecordBatch>, StorageError> {
        if let Some(batches) = self.cache.get(&segment.digest) {
            return Ok(batches);
        }
        let (digest, schema, name) = (segment.digest, self.schema.clone(), self.name.clone());
        let bytes = self.blobs.get(&digest).await?;
        let decoded = tokio::task::spawn_blocking(move || {
            let damaged = |e: String| StorageError::corrupt(format!("segment {digest} of table {name}"), e);
            let (_, batches) = segment::decode(bytes).map_err(|e| damaged(e.to_string()))?;
            let batches = batches.into_iter().map(|batch| fit(&name, &schema, batch));
            batches.collect::<Result<Vec<_>, _>>().map_err(|e| damaged(e.to_string()))
        });
        let batches = decoded.await.map_err(|_| StorageError::WorkerGone("table"))??;
        self.cache.put(digest, &batches);
        Ok(batches)
    }

    /// Moves all that the log holds. The caller holds `moving`.
    async fn empty_log(&self) -> Result<(), StorageError> {
        self.store_sealed().await?;
        let (done, answer) = oneshot::channel();
        self.send(Command::Rotate(done))?;
        if answer.await.map_err(|_| StorageError::WorkerGone("table"))?? {
            self.store_sealed().await?;
        }
        Ok(())
    }

    /// Turns sealed rows into a segment. Every step may be repeated after a crash or an error.
    async fn store_sealed(&self) -> Result<(), StorageError> {
        let (sealed, position) = {
            let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
            (state.sealed.clone(), state.segments.len())
        };
        let Some(sealed) = sealed else { return Ok(()) };
        let covered = sealed.through;
        if let Some(vault) = &self.vault {
            self.store_vaulted(&**vault, &sealed).await?;
        } else {
            self.store_segment(&sealed, position).await?;
        }
        let dir = self.dir.clone();
        let dropped = tokio::task::spawn_blocking(move || wal::drop_covered(&dir, covered));
        if !matches!(dropped.await, Ok(Ok(()))) {
            tracing::warn!(table = self.name, covered, "log files whose rows are stored stay until the next start");
        }
        Ok(())
    }

    async fn store_vaulted(&self, vault: &dyn Vault, sealed: &Sealed) -> Result<(), StorageError> {
        let stored = self.state.read().unwrap_or_else(PoisonError::into_inner).stored();
        let upto = Kept { rows: stored + sealed.rows, covered: sealed.through, chain: sealed.chain };
        vault.keep(&sealed.batches, upto).await?;
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        state.vaulted = upto.rows;
        state.sealed = None;
        Ok(())
    }

    async fn store_segment(&self, sealed: &Arc<Sealed>, position: usize) -> Result<(), StorageError> {
        let (rows, schema) = (sealed.clone(), self.schema.clone());
        let encoded = tokio::task::spawn_blocking(move || encode(&schema, &rows));
        let (bytes, extents) = encoded.await.map_err(|_| StorageError::WorkerGone("table"))??;
        let digest = self.blobs.put(bytes).await?;
        let (covered, chain) = (sealed.through, sealed.chain);
        let segment = Segment { digest, rows: sealed.rows, extents, covered, chain };
        manifest::add(&self.meta, &*self.blobs, &self.name, position, &segment).await?;
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        state.segments.push(Arc::new(segment));
        state.sealed = None;
        Ok(())
    }
}

#[async_trait]
impl References for Tables {
    async fn named(&self, conn: &mut Conn, of: &[Digest]) -> Result<HashSet<Digest>, StorageError> {
        manifest::named(conn, of).await
    }
}

fn encode(schema: &SchemaRef, sealed: &Sealed) -> Result<(bytes::Bytes, segment::Extents), StorageError> {
    let rows = concat_batches(schema, &sealed.batches)?;
    Ok((segment::encode(&rows)?, segment::extents(&rows)))
}
