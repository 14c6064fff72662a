//! Large bodies, taken column by column.
//!
//! The same rows come to the same end as by the way of small bodies ([`crate::ingest`]), only faster: typed columns are
//! checked whole, new rows go as sorted files into the source's table, past its log, and what they mean online is sorted
//! into runs that the key-value store loads at once. A part of a body becomes visible in this order:
//!
//! 1. files of the table and temporary runs are written; nobody sees them;
//! 2. one commit of the table makes the rows durable and counts them;
//! 3. the runs are loaded; reading online finds the rows;
//! 4. one write says that the rows are online.
//!
//! A crash before 2 leaves nothing but files that a vacuum takes, one after it is mended by [`catch_up`] at the next start:
//! the runs are made again from the table. So a body that is sent again is taken once, whatever happened to it before.

mod build;
mod catch_up;
mod cells;
mod check;
mod effects;
mod read;
mod runs;
mod sift;
mod stock;

use std::{
    collections::HashSet,
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
};

use arrow::{
    array::{ArrayRef, Int64Array, RecordBatch, TimestampMicrosecondArray, UInt32Array, new_null_array},
    compute::take_record_batch,
};
use bytes::Bytes;
use domain::{Field, SourceName, Timestamp};
use futures::{Stream, StreamExt as _, stream};
use lake::{Staged, Staging};
use runtime::Cpu;
use storage::StorageError;
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::{
    Inner,
    error::{Doing as _, FeatureError},
    lateness::Gate,
    parse::{body_error, unbroken},
    report::IngestReport,
    table::{INGESTED_AT, REPLACES, ROW, SourceTable, corrupt, stored_schema},
    view::SourcePlan,
};

use check::{Checked, arrow_failed, check};
use effects::{Marks, Runs, Writers};
use read::{Body, Pieces};
use sift::{Fresh, Sieve};

const DOING: &str = "take a large body";
/// Pieces that are checked, and pieces that are written, at the same time: one for each of two cores.
const AT_ONCE: usize = 2;
/// Bad rows that wait for the quarantine.
const BAD_WAITING_MAX: usize = 16_384;

/// When and how bodies are taken column by column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BulkLimits {
    /// Parquet bodies with at least this many rows are.
    pub rows_min: u64,
    /// Rows of one piece: what is checked, sorted and written together.
    pub piece_rows: usize,
    /// Rows of one commit; longer bodies take several.
    pub commit_rows: u64,
    /// Rows that may wait to be taken one by one, such as repeats within the body, before a commit comes early.
    pub aside_rows: usize,
}

impl Default for BulkLimits {
    fn default() -> Self {
        Self { rows_min: 65_536, piece_rows: 524_288, commit_rows: 1 << 25, aside_rows: 65_536 }
    }
}

/// What is the same for all pieces of a part.
struct Part {
    plan: Arc<SourcePlan>,
    /// The source's columns as the table has them.
    columns: Arc<[Field]>,
    staging: Staging,
    /// Runs stand here, and go with it.
    runs: TempDir,
    at: Timestamp,
}

impl Inner {
    /// Takes a large Parquet body; `None` when it has to go the way of small ones.
    ///
    /// # Errors
    /// As [`crate::FeatureStore::ingest`]. Where the body cannot be read to its end, the rows of commits before that stay,
    /// as do bad rows that were set aside.
    pub(crate) async fn take_bulk(
        &self,
        source: &SourceName,
        body: &Bytes,
    ) -> Result<Option<IngestReport>, FeatureError> {
        self.catalog().source(source)?;
        let table = self.source_table(source)?;
        let _writing = table.writing.lock().await;
        // Only now: definitions of this source change under the same lock.
        let plan = self.catalog().source(source)?;
        let at = self.clock.now();
        if !Gate::new(&plan, self.newest.of(source), at).is_open() {
            // Each row is judged by those before it.
            return Ok(None);
        }
        let (opening, bytes, limits) = (plan.clone(), body.clone(), self.bulk);
        let opened = self.cpu.run(move || Body::open(&opening, bytes, &limits)).await;
        let opened = unbroken(&plan, opened)??;
        let Some(mut body) = opened else { return Ok(None) };
        self.catch_up(&plan, &table).await?;
        let drift = std::mem::take(&mut body.strays).into_report();
        self.note_drift(source, &drift, at).await?;
        let (fields, places) = (body.fields.clone(), body.places.clone());
        let pieces = body.pieces(&plan, &limits);
        let checked = checked(self.cpu.clone(), plan.clone(), fields, places, pieces);
        tokio::pin!(checked);
        let mut report = IngestReport { drift, ..IngestReport::default() };
        loop {
            let ended = self.take_part(&plan, &table, &mut checked, at, &mut report).await?;
            if ended {
                return Ok(Some(report));
            }
        }
    }

    /// Takes as much as one commit holds; true at the end of the body.
    async fn take_part(
        &self,
        plan: &Arc<SourcePlan>,
        table: &SourceTable,
        pieces: &mut (impl Stream<Item = Result<Checked, FeatureError>> + Unpin),
        at: Timestamp,
        report: &mut IngestReport,
    ) -> Result<bool, FeatureError> {
        let source = &plan.definition.name;
        let columns = table.columns();
        let staging = table.lake.stage(stored_schema(&columns)).await;
        let runs = self.run_folder().await?;
        let part = Arc::new(Part { plan: plan.clone(), columns, staging, runs, at });
        let first = i64::try_from(table.rows()).map_err(|_| corrupt("too many rows".into()))?;
        let mut sieve = Sieve::new(first);
        let (mut files, mut online) = (Staged::default(), Runs::default());
        let (mut writing, mut bad, mut ended) = (JoinSet::new(), Vec::new(), true);
        while let Some(checked) = pieces.next().await {
            let mut checked = checked?;
            report.aside(checked.bad.iter().map(|row| &row.error));
            bad.append(&mut checked.bad);
            if bad.len() >= BAD_WAITING_MAX {
                report.dropped += self.set_aside(source, table, std::mem::take(&mut bad), at).await?;
            }
            let stored = sift::stored(&*self.kv, source, &checked, table.has_old_marks()).await?;
            let sifting = part.plan.clone();
            let sifting = self.cpu.run(move || {
                let fresh = sieve.sift(&sifting, stored, &mut checked);
                (sieve, checked.rows, fresh)
            });
            let (back, rows, fresh) = sifting.await.doing(DOING)?;
            sieve = back;
            if !fresh.places.is_empty() {
                while writing.len() >= AT_ONCE {
                    gather(&mut writing, &mut files, &mut online).await?;
                }
                writing.spawn(write(self.cpu.clone(), part.clone(), rows, fresh));
            }
            if sieve.taken >= self.bulk.commit_rows || sieve.aside.len() >= self.bulk.aside_rows {
                ended = false;
                break;
            }
        }
        while !writing.is_empty() {
            gather(&mut writing, &mut files, &mut online).await?;
        }
        report.dropped += self.set_aside(source, table, bad, at).await?;
        if sieve.taken > 0 {
            let keeping = part.clone();
            let keep = async move |upto| keeping.staging.keep(files, upto).await;
            table.pass(sieve.taken, sieve.digest(), keep).await?;
            report.accepted += sieve.taken;
            self.load_runs(plan, table, online).await?;
        }
        report.duplicates += sieve.duplicates;
        self.take_rows(plan, table, sieve.aside, at, report).await?;
        Ok(ended)
    }

    /// A folder for the runs of one load.
    pub(crate) async fn run_folder(&self) -> Result<TempDir, FeatureError> {
        let parent: PathBuf = self.joins.temporary.clone();
        let made = tokio::task::spawn_blocking(move || TempDir::with_prefix_in("millpond-load-", parent)).await;
        let made = made.map_err(|_| StorageError::WorkerGone("temporary files")).and_then(|made| {
            made.map_err(|source| StorageError::Io { doing: "make a folder for a load".into(), source })
        });
        made.doing(DOING)
    }
}

/// The pieces, checked, in the order of the body.
fn checked(
    cpu: Cpu,
    plan: Arc<SourcePlan>,
    fields: Arc<[Field]>,
    places: Arc<[Option<usize>]>,
    pieces: Pieces,
) -> impl Stream<Item = Result<Checked, FeatureError>> {
    let reading = plan.clone();
    let pieces = stream::unfold(Some(pieces), move |pieces| {
        let reading = reading.clone();
        async move {
            let mut pieces: Pieces = pieces?;
            match pieces.recv().await {
                Some(Ok(Some(piece))) => Some((Ok(piece), Some(pieces))),
                Some(Ok(None)) => None,
                Some(Err(error)) => Some((Err(error), None)),
                // The reader broke down, as it may over a file that was made to break it.
                None => Some((Err(body_error(&reading, "not a readable Parquet file".into(), None)), None)),
            }
        }
    });
    let checks = pieces.map(move |piece| {
        let (cpu, plan, fields, places) = (cpu.clone(), plan.clone(), fields.clone(), places.clone());
        async move {
            let piece = piece?;
            let checking = plan.clone();
            unbroken(&plan, cpu.run(move || check(&checking, &fields, &places, piece)).await)?
        }
    });
    checks.buffered(AT_ONCE)
}

/// Writes the new rows of a piece: as files that are not in the table yet, and as runs.
async fn write(cpu: Cpu, part: Arc<Part>, rows: RecordBatch, fresh: Fresh) -> Result<(Staged, Runs), FeatureError> {
    let sorting = part.clone();
    let sorted = cpu.run(move || {
        let Part { plan, columns, staging, runs, at } = &*sorting;
        let numbers = fresh.first..;
        let marks: Vec<_> = fresh.marks.into_iter().zip(numbers).collect();
        let stored = numbered(columns, rows, &fresh.places, fresh.first, *at)?;
        let sorted = staging.sort(&stored).doing(DOING)?;
        drop(stored);
        let mut writers = Writers::new(&plan.views, runs.path());
        writers.rows(plan, sorted.rows(), &HashSet::new())?;
        writers.marks(Marks { source: plan.definition.name.clone(), rows: marks })?;
        Ok::<_, FeatureError>((sorted, writers.finish()?))
    });
    let (sorted, runs) = sorted.await.doing(DOING)??;
    Ok((part.staging.put(sorted).await.doing("write rows")?, runs))
}

async fn gather(
    writing: &mut JoinSet<Result<(Staged, Runs), FeatureError>>,
    files: &mut Staged,
    online: &mut Runs,
) -> Result<(), FeatureError> {
    if let Some(done) = writing.join_next().await {
        let done = done.map_err(|_| StorageError::WorkerGone("a large body")).doing(DOING)?;
        let (staged, runs) = done?;
        files.join(staged);
        online.join(runs);
    }
    Ok(())
}

/// The rows at these places as the table has them, numbered from `first` on.
fn numbered(
    columns: &[Field],
    rows: RecordBatch,
    places: &[u32],
    first: i64,
    at: Timestamp,
) -> Result<RecordBatch, FeatureError> {
    let rows = if places.len() == rows.num_rows() {
        rows
    } else {
        take_record_batch(&rows, &UInt32Array::from(places.to_vec())).map_err(arrow_failed)?
    };
    let (schema, count) = (stored_schema(columns), rows.num_rows());
    let last = first + i64::try_from(count).map_err(|_| corrupt("too many rows".into()))?;
    let columns = schema.fields().iter().map(|field| -> ArrayRef {
        match field.name().as_str() {
            ROW => Arc::new(Int64Array::from_iter_values(first..last)),
            REPLACES => new_null_array(field.data_type(), count),
            INGESTED_AT => Arc::new(TimestampMicrosecondArray::from_value(at.micros(), count).with_timezone("UTC")),
            name => match rows.column_by_name(name) {
                Some(column) => column.clone(),
                None => new_null_array(field.data_type(), count),
            },
        }
    });
    let columns = columns.collect();
    RecordBatch::try_new(schema, columns).map_err(arrow_failed)
}

impl Inner {
    /// Brings the rows of these runs online, and says that all rows of the table are. The caller holds the table's
    /// `writing`.
    pub(crate) async fn load_runs(
        &self,
        plan: &SourcePlan,
        table: &SourceTable,
        runs: Runs,
    ) -> Result<(), FeatureError> {
        let (newest, rows) = (runs.newest, table.rows());
        let writing = self.hot.begin(plan.views.iter().map(|view| view.layout));
        runs.load(&*self.kv).await?;
        // Too many to follow: memory forgets them.
        drop(writing);
        let source = &plan.definition.name;
        let mut says = vec![(crate::key::applied(source.as_str()), rows.to_le_bytes().to_vec())];
        says.extend(newest.map(|newest| self.newest.pair(source, newest)));
        self.kv.write(says, Vec::new(), true).await.doing("write online values")?;
        table.applied.store(rows, Ordering::SeqCst);
        if let Some(newest) = newest {
            self.newest.note(source, newest);
        }
        Ok(())
    }
}
