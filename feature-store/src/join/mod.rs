//! The point-in-time join: for every row of a spine, the row of each view that counted at the spine row's own instant.
//!
//! For a spine row with instant `s` the candidates of a view are the rows with equal keys (a null equals nothing) and
//! an event time `t <= s`, no older than the view's time to live (`t >= s - ttl`). The greatest `t` wins; among equals
//! the greatest time of creation, null being lowest, then the row ingested last. In mode [`Mode::Known`] a candidate
//! must also have been created by then. The chosen row's features come out as they are, nulls included. Every spine
//! row comes out exactly once, in the spine's order.
//!
//! Nothing of a view is sorted, and nothing of it is kept but what is asked for. The spine is grouped by key and
//! sorted by time (`index`); one pass over each view's keys and times finds the rows that count (`choose`); a second
//! pass over the feature columns fetches these (`gather`). Memory is proportional to the spine and bounded by
//! [`Options::memory_bytes`]: a spine whose index would need more is joined in rounds, and features that do not fit wait
//! in temporary files (`spill`).

mod choose;
mod error;
mod gather;
mod hash;
mod index;
mod keys;
mod marks;
mod output;
mod part;
mod plan;
mod round;
mod spill;
mod table;
mod threads;
mod time;
mod write;

use std::{collections::HashSet, path::PathBuf, sync::Arc};

use arrow::datatypes::{DataType, SchemaRef};

pub use error::JoinError;
pub use output::Joined;
pub use part::{LocalFile, Part, ReadAt};
pub use write::Compression;

use plan::Plan;

/// The questions: rows with keys, an instant, and columns that pass through untouched.
#[derive(Debug, Clone)]
pub struct Spine {
    /// All with the same columns, as the first part has them.
    pub parts: Vec<Part>,
    /// The column of instants; a row without one sees nothing. No zone means UTC.
    pub timestamp: String,
}

/// What is joined to the spine.
#[derive(Debug, Clone)]
pub struct JoinView {
    /// For messages.
    pub name: String,
    /// In order of ingestion.
    pub parts: Vec<Part>,
    pub keys: Vec<JoinKey>,
    /// The column of event times, of any unit; no zone means UTC.
    pub timestamp: String,
    /// The column that says when a row was written.
    pub created: Option<String>,
    /// What numbers the rows in order of ingestion; without it, their place in `parts` does.
    pub sequence: Option<Sequence>,
    /// Rows that are older than this many microseconds do not count; 0: no limit.
    pub ttl_micros: i64,
    pub mode: Mode,
    pub features: Vec<Feature>,
    /// Name of a column to come out behind the features: the event time of the newest row at or before the spine's
    /// instant, also where that is too old to count.
    pub newest: Option<String>,
}

/// A column of the spine and the column of the view that must equal it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinKey {
    pub spine: String,
    pub view: String,
}

impl JoinKey {
    /// A key of one name on both sides.
    #[must_use]
    pub fn same(name: &str) -> Self {
        Self { spine: name.to_owned(), view: name.to_owned() }
    }
}

/// A column of a view that comes out under a name.
#[derive(Debug, Clone)]
pub struct Feature {
    pub column: String,
    pub name: String,
    /// Cast to this type; `None`: as the first part has it, dictionaries with 32-bit positions. Parts without the column
    /// give nulls.
    pub data_type: Option<DataType>,
}

/// Which rows count by their numbers.
#[derive(Debug, Clone)]
pub struct Sequence {
    /// A column of whole numbers.
    pub column: String,
    /// Rows numbered from this on do not count.
    pub below: Option<i64>,
    /// Nor do these.
    pub replaced: Arc<HashSet<i64>>,
}

impl Sequence {
    pub(crate) fn counts(&self, number: i64) -> bool {
        self.below.is_none_or(|below| number < below) && !self.replaced.contains(&number)
    }
}

/// What a row must have done by the spine's instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// It had happened.
    #[default]
    Plain,
    /// It had happened and been written down.
    Known,
}

/// What a join may use.
#[derive(Debug, Clone)]
pub struct Options {
    pub threads: usize,
    /// What the join keeps at once, about; decoding and the batches handed out come on top, some 50 MiB a thread.
    pub memory_bytes: usize,
    /// Rows of a batch that comes out.
    pub batch_rows: usize,
    /// Where temporary files may stand.
    pub temporary: PathBuf,
    /// How many bits of a key's hash are used. 64, unless a test wants keys to collide.
    pub hash_bits: u32,
}

impl Default for Options {
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let temporary = std::env::temp_dir();
        Self { threads, memory_bytes: 1 << 30, batch_rows: 1 << 13, temporary, hash_bits: 64 }
    }
}

/// A join that has been checked; nothing is read yet but footers.
///
/// ```
/// use std::sync::Arc;
///
/// use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, TimestampMicrosecondArray};
/// use arrow::datatypes::Int64Type;
/// use feature_store::join::{Feature, Join, JoinKey, JoinView, Mode, Options, Spine};
///
/// let ints = |values: &[i64]| -> ArrayRef { Arc::new(Int64Array::from(values.to_vec())) };
/// let times = |values: &[i64]| -> ArrayRef { Arc::new(TimestampMicrosecondArray::from(values.to_vec())) };
/// let readings = RecordBatch::try_from_iter([
///     ("pump", ints(&[1, 1, 2])), ("at", times(&[10, 20, 10])), ("pressure", ints(&[5, 6, 7])),
/// ])?;
/// let questions = RecordBatch::try_from_iter([("pump", ints(&[2, 1, 1])), ("asked", times(&[99, 19, 20]))])?;
///
/// let view = JoinView {
///     name: "readings".into(),
///     parts: vec![readings.into()],
///     keys: vec![JoinKey::same("pump")],
///     timestamp: "at".into(),
///     created: None,
///     sequence: None,
///     ttl_micros: 50,
///     mode: Mode::Plain,
///     features: vec![Feature { column: "pressure".into(), name: "readings__pressure".into(), data_type: None }],
///     newest: None,
/// };
/// let spine = Spine { parts: vec![questions.into()], timestamp: "asked".into() };
/// let rows = Join::new(spine, vec![view], Options::default())?.run().next().ok_or("three rows")??;
/// let pressure = rows["readings__pressure"].as_primitive::<Int64Type>();
/// // The reading of pump 2 was 89 microseconds old.
/// assert_eq!(pressure.iter().collect::<Vec<_>>(), [None, Some(5), Some(6)]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Join {
    plan: Plan,
    options: Options,
}

impl Join {
    /// # Errors
    /// When a column is missing or of a type that does not serve, or would come out twice.
    pub fn new(spine: Spine, views: Vec<JoinView>, options: Options) -> Result<Self, JoinError> {
        Ok(Self { plan: Plan::new(spine, views)?, options })
    }

    /// The spine's columns, then each view's features and, where asked for, its newest event time.
    #[must_use]
    pub fn schema(&self) -> SchemaRef {
        self.plan.schema.clone()
    }

    /// The joined rows, batch by batch. The work begins with the first.
    #[must_use]
    pub fn run(self) -> Joined {
        Joined::new(self.plan, self.options)
    }
}
