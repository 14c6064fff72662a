//! Where the rows of one source are kept: a log, and behind it a Delta Lake table.
//!
//! Beside the source's own columns stand `_row` (number from 0 in order of ingestion), `_replaces` (number of the row
//! this one corrects) and `_ingested_at`. The newest rows are in the log only; sealing moves them into the Delta table.
//! When a source gains a column, older rows have nulls there.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use arrow::{
    array::{AsArray as _, Int64Array, RecordBatch},
    datatypes::{Int64Type, SchemaRef},
};
use domain::{
    Column, Digest, Field, Frame, SourceName, Timestamp, Value, ValueType,
    definition::{Source, SourceColumn},
};
use lake::{Lake, LakeTable, Layout, LiveFile, Snapshot};
use storage::{Kept, StorageError, Table, Tables, TimeRange};
use tokio::sync::Mutex;

use crate::{
    error::{Doing as _, FeatureError},
    view::SourcePlan,
};

pub(crate) const ROW: &str = "_row";
pub(crate) const REPLACES: &str = "_replaces";
pub(crate) const INGESTED_AT: &str = "_ingested_at";

/// A row of a source's table. Values stand in the order of the source's columns.
#[derive(Debug, Clone)]
pub(crate) struct StoredRow {
    pub(crate) number: i64,
    pub(crate) replaces: Option<i64>,
    pub(crate) values: Vec<Value>,
}

/// The name of a source's log among all tables.
pub(crate) fn log_name(source: &SourceName) -> String {
    format!("source.{source}")
}

/// The source's columns and those of the system, as rows are written.
pub(crate) fn stored_schema(columns: &[Field]) -> SchemaRef {
    let mut fields = columns.to_vec();
    fields.push(Field::new(ROW, ValueType::Int));
    fields.push(Field::new(REPLACES, ValueType::Int));
    fields.push(Field::new(INGESTED_AT, ValueType::Timestamp));
    storage::schema_of(&fields)
}

pub(crate) fn fields_of(source: &Source) -> Vec<Field> {
    source.columns.iter().map(|column| Field::new(column.name.as_str(), column.kind)).collect()
}

/// The columns that rows are sorted by: the keys of the source's views, those of the most views first.
fn sort_columns(plan: &SourcePlan) -> Vec<String> {
    let mut uses: BTreeMap<&str, usize> = BTreeMap::new();
    for key in plan.views.iter().flat_map(|view| &view.keys) {
        *uses.entry(key.name.as_str()).or_default() += 1;
    }
    let mut names: Vec<(&str, usize)> = uses.into_iter().collect();
    names.sort_by_key(|(name, uses)| (std::cmp::Reverse(*uses), *name));
    names.into_iter().map(|(name, _)| name.to_owned()).collect()
}

/// The log as it is open, and the source's columns in it.
#[derive(Clone)]
struct Log {
    table: Table,
    columns: Arc<[Field]>,
}

/// The rows of one source.
pub(crate) struct SourceTable {
    log: RwLock<Log>,
    pub(crate) lake: LakeTable,
    /// Rows set aside that wait for somebody.
    pub(crate) waiting: AtomicU64,
    /// Held by whoever writes rows or rebuilds what hangs on them.
    pub(crate) writing: Mutex<()>,
    /// Rows whose effects are in the online store.
    pub(crate) applied: AtomicU64,
    /// An append began and was not seen to end: its rows may still arrive.
    unsure: AtomicBool,
    /// The online store has identities of rows that an earlier version wrote.
    old_marks: AtomicBool,
}

/// A point in the table's history: rows numbered below `rows`, named by `digest`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mark {
    pub(crate) rows: u64,
    pub(crate) digest: Digest,
    /// The Delta table's version then. What it lacked of the rows was in the log.
    pub(crate) version: u64,
}

/// The files and the log of a source at one moment.
pub(crate) struct Pieces {
    lake: LakeTable,
    pub(crate) snapshot: Option<Snapshot>,
    pub(crate) files: Vec<LiveFile>,
    /// Number of the first row of the log.
    first: u64,
    logged: Vec<RecordBatch>,
}

impl Pieces {
    /// The columns of the rows in the span that are in no file.
    pub(crate) fn rest(&self, columns: &SchemaRef, span: (i64, i64)) -> Result<Vec<RecordBatch>, FeatureError> {
        let sealed = self.snapshot.as_ref().map_or(0, Snapshot::rows);
        let skipped = sealed.saturating_sub(self.first);
        self.lake.rest(columns, Some(span), &self.logged, skipped).doing("read rows")
    }
}

impl SourceTable {
    /// Opens log and table, making those that do not exist yet.
    pub(crate) async fn open(tables: &Tables, lake: &Lake, plan: &SourcePlan) -> Result<Self, FeatureError> {
        let source = &plan.definition;
        let lake = lake_table(lake, plan).await?;
        let log = open_log(tables, &lake, source).await?;
        Ok(Self {
            log: RwLock::new(log),
            lake,
            waiting: AtomicU64::new(0),
            writing: Mutex::default(),
            applied: AtomicU64::new(0),
            unsure: AtomicBool::new(false),
            old_marks: AtomicBool::new(false),
        })
    }

    /// Goes on with the columns that the source has by now. The caller holds `writing` and has flushed.
    pub(crate) async fn reshape(&self, tables: &Tables, plan: &SourcePlan) -> Result<(), FeatureError> {
        self.lake.lay_out(layout_of(plan));
        let log = self.log();
        if log.fits(&plan.definition.columns) || log.table.here().is_err() {
            return Ok(());
        }
        tables.retire(&log.table).await.doing("close a source's log")?;
        let log = open_log(tables, &self.lake, &plan.definition).await?;
        *self.log.write().unwrap_or_else(PoisonError::into_inner) = log;
        Ok(())
    }

    fn log(&self) -> Log {
        self.log.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether the log has exactly these columns, in any order.
    pub(crate) fn fits(&self, columns: &[SourceColumn]) -> bool {
        self.log().fits(columns)
    }

    /// [`StorageError::Elsewhere`] where another server of the database keeps the rows.
    pub(crate) fn here(&self) -> Result<(), StorageError> {
        self.log().table.here()
    }

    /// Whether identities have to be looked for where earlier versions wrote them, too.
    pub(crate) fn has_old_marks(&self) -> bool {
        self.old_marks.load(Ordering::SeqCst)
    }

    pub(crate) fn note_old_marks(&self) {
        self.old_marks.store(true, Ordering::SeqCst);
    }

    /// Lets rows go past the log into the Delta table; see [`Table::pass`].
    pub(crate) async fn pass<F>(
        &self,
        rows: u64,
        link: Digest,
        keep: impl FnOnce(Kept) -> F + Send + 'static,
    ) -> Result<(), FeatureError>
    where
        F: Future<Output = Result<(), StorageError>> + Send,
    {
        self.log().table.pass(rows, link, keep).await.doing("write rows")
    }

    /// The number of the first row that is only in the log, and the rows from there on.
    pub(crate) fn logged(&self) -> (u64, Vec<RecordBatch>) {
        self.log().table.logged()
    }

    /// The columns that rows are written with, without those of the system.
    pub(crate) fn columns(&self) -> Arc<[Field]> {
        self.log().columns
    }

    /// Rows ever accepted.
    pub(crate) fn rows(&self) -> u64 {
        self.log().table.rows()
    }

    /// Moves the rows that are only in the log into the Delta table.
    pub(crate) async fn seal(&self) -> Result<(), FeatureError> {
        self.log().table.flush().await.doing("seal rows of a source")
    }

    /// Names of the columns that stored rows have, with their types.
    pub(crate) fn stored_columns(&self) -> Result<Vec<Field>, FeatureError> {
        let Log { table, columns } = self.log();
        let (sealed, logged) = table.logged();
        if !logged.is_empty() {
            return Ok(columns.to_vec());
        }
        let sealed = self.lake.snapshot().filter(|_| sealed > 0).map(|snapshot| snapshot.schema()).transpose();
        let Some(sealed) = sealed.doing("read a table's columns")? else { return Ok(Vec::new()) };
        Ok(columns.iter().filter(|field| sealed.column_with_name(&field.name).is_some()).cloned().collect())
    }

    /// The table's present state. Call it while holding `writing`, so that rows and digest belong together.
    pub(crate) fn mark(&self) -> Mark {
        // The version first: what is sealed in between, a later one has.
        let version = self.lake.snapshot().map_or(0, |snapshot| snapshot.version());
        let table = self.log().table;
        Mark { rows: table.rows(), digest: table.snapshot(), version }
    }

    /// Appends accepted rows; durable when it returns. The caller holds `writing`.
    pub(crate) async fn append(
        &self,
        columns: &[SourceColumn],
        rows: &[StoredRow],
        at: Timestamp,
    ) -> Result<(), FeatureError> {
        let log = self.log();
        let mut frame = Frame::of_rows(rows.len());
        for field in &*log.columns {
            let from = columns.iter().position(|column| column.name.as_str() == &*field.name);
            let mut column = Column::with_capacity(field.kind, rows.len());
            for row in rows {
                let value = from.map_or(Value::Null, |from| row.values[from].clone());
                column.push(value).map_err(|e| corrupt(format!("{}: {e}", field.name)))?;
            }
            frame.add(field.name.clone(), column)?;
        }
        frame.add(ROW, Column::Int(rows.iter().map(|row| Some(row.number)).collect()))?;
        frame.add(REPLACES, Column::Int(rows.iter().map(|row| row.replaces).collect()))?;
        frame.add(INGESTED_AT, Column::Timestamp(vec![Some(at); rows.len()]))?;
        let batch = storage::to_batch(&frame).doing("write rows")?;
        self.unsure.store(true, Ordering::SeqCst);
        log.table.append(batch).await.doing("write rows")?;
        self.unsure.store(false, Ordering::SeqCst);
        Ok(())
    }

    /// Waits until an append that failed or was given up has either arrived or never will, so that row numbers
    /// are not given twice. The caller holds `writing`.
    pub(crate) async fn settle(&self) -> Result<(), FeatureError> {
        if self.unsure.load(Ordering::SeqCst) {
            // The log does one thing after the other: a flush comes behind whatever was begun.
            self.log().table.flush().await.doing("settle an earlier write")?;
            self.unsure.store(false, Ordering::SeqCst);
        }
        Ok(())
    }

    /// The named columns (as `fields` types them) and `_row`, `_replaces` of all rows in the range, in order of
    /// ingestion; columns that older rows have not are null there. With a mark, as the table stood then (rows that
    /// came later may be among them); otherwise rows that others replaced may be missing.
    pub(crate) async fn scan(
        &self,
        fields: &[Field],
        range: Option<TimeRange>,
        mark: Option<&Mark>,
    ) -> Result<Frame, FeatureError> {
        let (schema, batches) = self.rows_of(fields.to_vec(), range, mark).await?;
        let frame = storage::from_batches(&schema, &batches).doing("read rows")?;
        let numbers = ints(&frame, ROW)?;
        if numbers.is_sorted() {
            return Ok(frame);
        }
        let mut order: Vec<usize> = (0..numbers.len()).collect();
        order.sort_unstable_by_key(|&row| numbers[row]);
        Ok(frame.take(&order))
    }

    /// The rows that [`SourceTable::scan`] gives, in no particular order, and their schema.
    pub(crate) async fn rows_of(
        &self,
        mut fields: Vec<Field>,
        range: Option<TimeRange>,
        mark: Option<&Mark>,
    ) -> Result<(SchemaRef, Vec<RecordBatch>), FeatureError> {
        fields.extend(system_fields());
        let schema = storage::schema_of(&fields);
        let mut tries = 0;
        loop {
            match self.batches(&schema, range.clone(), mark).await {
                // Files that were compacted and cleared away while they were read: the newest version has the rows.
                Err(FeatureError::Storage { source: StorageError::Gone { .. }, .. }) if mark.is_none() && tries < 3 => {
                    tries += 1;
                }
                read => return Ok((schema, read?)),
            }
        }
    }

    /// One try of [`SourceTable::rows_of`].
    async fn batches(
        &self,
        schema: &SchemaRef,
        range: Option<TimeRange>,
        mark: Option<&Mark>,
    ) -> Result<Vec<RecordBatch>, FeatureError> {
        let table = self.log().table;
        table.here().doing("read rows")?;
        // The log before the table: what is sealed in between is in both, and counted once below.
        let (first, logged) = table.logged();
        let snapshot = match mark {
            Some(mark) => self.snapshot_at(mark).await?,
            None => self.lake.snapshot(),
        };
        let sealed = snapshot.as_ref().map_or(0, Snapshot::rows);
        let span = range.map(|range| (range.from.micros(), range.to.micros()));
        let mut batches = match snapshot {
            Some(snapshot) => snapshot.scan(schema, span).await.doing("read rows")?,
            None => Vec::new(),
        };
        batches.extend(self.lake.rest(schema, span, &logged, sealed.saturating_sub(first)).doing("read rows")?);
        Ok(batches)
    }

    /// Where the rows with an event time in the span (microseconds, both ends included) lie now.
    pub(crate) async fn pieces(&self, span: (i64, i64)) -> Result<Pieces, FeatureError> {
        let table = self.log().table;
        table.here().doing("read rows")?;
        // The log before the table: what is sealed in between is in both, and counted once.
        let (first, logged) = table.logged();
        let snapshot = self.lake.snapshot();
        let files = match &snapshot {
            Some(snapshot) => snapshot.files_within(span).await.doing("list the files of a table")?,
            None => Vec::new(),
        };
        Ok(Pieces { lake: self.lake.clone(), snapshot, files, first, logged })
    }

    /// The state at the mark, or the present one, with all its rows in files: what is only in the log is sealed first. Rows
    /// numbered from the first of both on do not count. `None`: there are no files yet.
    pub(crate) async fn sealed(&self, mark: Option<&Mark>) -> Result<(i64, Option<Snapshot>), FeatureError> {
        self.log().table.here().doing("read rows")?;
        let rows = mark.map_or_else(|| self.rows(), |mark| mark.rows);
        if self.lake.snapshot().as_ref().map_or(0, Snapshot::rows) < rows {
            self.seal().await?;
        }
        let snapshot = match mark {
            Some(mark) => self.snapshot_at(mark).await?,
            None => self.lake.snapshot(),
        };
        Ok((i64::try_from(rows).unwrap_or(i64::MAX), snapshot))
    }

    async fn snapshot_at(&self, mark: &Mark) -> Result<Option<Snapshot>, FeatureError> {
        match self.lake.snapshot() {
            Some(newest) if newest.version() != mark.version => Ok(Some(
                self.lake.with_rows(mark.version, mark.rows).await.doing("read an earlier version of a table")?,
            )),
            newest => Ok(newest),
        }
    }

    /// All columns of the rows that `wanted` names (by number), as stored rows in order of ingestion.
    pub(crate) async fn fetch(
        &self,
        columns: &[SourceColumn],
        wanted: impl Fn(i64) -> bool,
    ) -> Result<Vec<StoredRow>, FeatureError> {
        let fields: Vec<Field> = columns.iter().map(|c| Field::new(c.name.as_str(), c.kind)).collect();
        let mut rows = stored(&self.scan(&fields, None, None).await?, &fields)?;
        rows.retain(|row| wanted(row.number));
        Ok(rows)
    }

    /// How many rows still wait to reach the online store.
    pub(crate) fn behind(&self) -> bool {
        self.applied.load(Ordering::SeqCst) < self.rows()
    }
}

impl Log {
    fn fits(&self, columns: &[SourceColumn]) -> bool {
        let kind = |name: &str| self.columns.iter().find(|field| &*field.name == name).map(|field| field.kind);
        self.columns.len() == columns.len() && columns.iter().all(|c| kind(c.name.as_str()) == Some(c.kind))
    }
}

/// The source's Delta table, where its rows lie.
pub(crate) async fn lake_table(lake: &Lake, plan: &SourcePlan) -> Result<LakeTable, FeatureError> {
    lake.table(plan.definition.name.as_str(), layout_of(plan)).await.doing("open a source's table")
}

/// How the source's rows lie in its table.
pub(crate) fn layout_of(plan: &SourcePlan) -> Layout {
    Layout {
        time: plan.definition.timestamp.to_string(),
        row: ROW.to_owned(),
        replaces: REPLACES.to_owned(),
        sorted_by: sort_columns(plan),
    }
}

async fn open_log(tables: &Tables, lake: &LakeTable, source: &Source) -> Result<Log, FeatureError> {
    let columns = fields_of(source);
    let schema = stored_schema(&columns);
    let table = tables.vaulted(&log_name(&source.name), schema.clone(), Arc::new(lake.clone())).await;
    let table = table.doing("open a source's log")?;
    if table.here().is_ok() {
        // Readers find an empty table before the first rows come.
        lake.ensure(&schema).await.doing("make a source's table")?;
    }
    Ok(Log { table, columns: columns.into() })
}

pub(crate) fn corrupt(reason: String) -> FeatureError {
    FeatureError::Corrupt { what: "source rows", reason }
}

pub(crate) fn system_fields() -> [Field; 2] {
    [Field::new(ROW, ValueType::Int), Field::new(REPLACES, ValueType::Int)]
}

/// An int column that every source table has.
pub(crate) fn ints<'a>(frame: &'a Frame, name: &str) -> Result<&'a [Option<i64>], FeatureError> {
    match frame.require(name)? {
        Column::Int(v) => Ok(v),
        other => Err(corrupt(format!("column {name} is {}", other.kind()))),
    }
}

/// The same of a batch.
pub(crate) fn numbers<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a Int64Array, FeatureError> {
    let column = batch.column_by_name(name).and_then(|column| column.as_primitive_opt::<Int64Type>());
    column.ok_or_else(|| corrupt(format!("a batch without int column {name}")))
}

/// The rows of a batch that has these fields and the system's columns.
pub(crate) fn rows_in(batch: &RecordBatch, fields: &[Field]) -> Result<Vec<StoredRow>, FeatureError> {
    stored(&storage::from_batches(&batch.schema(), std::slice::from_ref(batch)).doing("read rows")?, fields)
}

fn stored(frame: &Frame, fields: &[Field]) -> Result<Vec<StoredRow>, FeatureError> {
    let (numbers, replaces) = (ints(frame, ROW)?, ints(frame, REPLACES)?);
    let columns: Vec<&Column> = fields.iter().map(|f| frame.require(&f.name)).collect::<Result<_, _>>()?;
    let row = |row: usize| {
        let number = numbers[row].ok_or_else(|| corrupt("a row without a number".into()))?;
        Ok(StoredRow {
            number,
            replaces: replaces[row],
            values: columns.iter().map(|column| column.get(row)).collect(),
        })
    };
    (0..frame.rows()).map(row).collect()
}

/// Positions of the rows below `rows` that no later row replaces.
pub(crate) fn standing(frame: &Frame, rows: u64) -> Result<Vec<usize>, FeatureError> {
    let numbers = ints(frame, ROW)?;
    let below = |row: usize| numbers[row].is_some_and(|n| u64::try_from(n).is_ok_and(|n| n < rows));
    let inside: Vec<usize> = (0..frame.rows()).filter(|&row| below(row)).collect();
    let replaces = ints(frame, REPLACES)?;
    let gone: HashSet<i64> = inside.iter().filter_map(|&row| replaces[row]).collect();
    Ok(inside.into_iter().filter(|&row| numbers[row].is_some_and(|n| !gone.contains(&n))).collect())
}

/// Shared by those who open or look up tables.
pub(crate) type Shelf = BTreeMap<SourceName, Arc<SourceTable>>;
