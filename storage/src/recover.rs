//! Opening a table: its folder, its columns, and what its log holds.

use std::{
    fmt::Write as _,
    path::PathBuf,
    sync::{Arc, RwLock},
};

use arrow::{
    array::RecordBatch,
    datatypes::{DataType, Schema, SchemaRef, TimeUnit},
};
use domain::Digest;

use crate::{
    Kept, StorageError, disk,
    segment::Segment,
    wal::{self, OpenLog},
    writer::{State, Tail, Writer},
};

/// A folder name for any table name of 1 to 120 characters: what is not lowercase is written as `%xx`.
pub(crate) fn folder_of(name: &str) -> Option<String> {
    if name.is_empty() || name.len() > 120 {
        return None;
    }
    let mut folder = String::new();
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' => folder.push(char::from(byte)),
            // A table is never called `.` or `..` on disk.
            other => write!(folder, "%{other:02x}").ok()?,
        }
    }
    // 120 characters of three each would be more than file systems take.
    (folder.len() <= 240).then_some(folder)
}

/// The columns as the manifest keeps and compares them, one a line.
pub(crate) fn describe(schema: &Schema) -> String {
    let utc = |zone: &Option<Arc<str>>| zone.as_deref() == Some("UTC");
    let lines = schema.fields().iter().map(|field| {
        let data_type = match field.data_type() {
            DataType::Boolean => "bool".to_owned(),
            DataType::Int64 => "int64".to_owned(),
            DataType::Float64 => "float64".to_owned(),
            DataType::Utf8 => "utf8".to_owned(),
            DataType::Timestamp(TimeUnit::Microsecond, zone) if utc(zone) => "timestamp_us_utc".to_owned(),
            other => other.to_string(),
        };
        format!("{} {data_type} {}\n", field.name(), if field.is_nullable() { "null" } else { "not null" })
    });
    lines.collect()
}

/// Where a log begins.
pub(crate) struct Begin {
    /// Rows that stand outside it, in a vault.
    vaulted: u64,
    covered: u64,
    chain: Digest,
}

impl Begin {
    pub(crate) fn after(segments: &[Arc<Segment>], columns: &str) -> Self {
        let last = segments.last();
        let (covered, chain) = last.map_or_else(|| (0, Digest::of(columns.as_bytes())), |s| (s.covered, s.chain));
        Self { vaulted: 0, covered, chain }
    }

    /// A vault that has kept nothing yet.
    pub(crate) fn of(name: &str) -> Self {
        Self { vaulted: 0, covered: 0, chain: Digest::of(name.as_bytes()) }
    }
}

impl From<Kept> for Begin {
    fn from(kept: Kept) -> Self {
        Self { vaulted: kept.rows, covered: kept.covered, chain: kept.chain }
    }
}

/// Reads back the log and gives a writer that goes on where it ends.
pub(crate) fn recover(
    table: String,
    dir: PathBuf,
    schema: &SchemaRef,
    begin: Begin,
    segments: Vec<Arc<Segment>>,
    open_log: OpenLog,
) -> Result<Writer, StorageError> {
    let io = |doing: &str| StorageError::io(format!("{doing} {}", dir.display()));
    disk::create_dir(&dir).map_err(io("create"))?;
    let Begin { vaulted, covered, chain: start } = begin;
    wal::drop_covered(&dir, covered).map_err(io("clear"))?;
    let files = wal::list(&dir).map_err(io("list"))?;
    let (mut chain, mut tail) = (start, Tail::default());
    for (position, (_, path)) in files.iter().enumerate() {
        let replayed = wal::replay(path, position + 1 == files.len(), chain)?;
        chain = replayed.chain;
        for batch in replayed.batches {
            let fit = fit(&table, schema, batch);
            tail.push(fit.map_err(|e| StorageError::corrupt(path.display().to_string(), e))?, 0);
        }
        tail.bytes += replayed.bytes;
    }
    let index = files.last().map_or(covered + 1, |(index, _)| *index);
    let file = open_log(&wal::path_of(&dir, index)).map_err(io("open a log file in"))?;
    let state = State { segments, vaulted, sealed: None, tail, chain, broken: None };
    Ok(Writer { table, dir, index, file, open_log, state: Arc::new(RwLock::new(state)), sync_by: None })
}

/// The batch under the table's own schema.
pub(crate) fn fit(table: &str, schema: &SchemaRef, batch: RecordBatch) -> Result<RecordBatch, StorageError> {
    let bad = |detail: String| StorageError::BadRows { table: table.to_owned(), detail };
    let found = batch.schema();
    if found.fields().len() != schema.fields().len() {
        return Err(bad(format!("{} columns where it has {}", found.fields().len(), schema.fields().len())));
    }
    for (expected, found) in schema.fields().iter().zip(found.fields()) {
        if expected.name() != found.name() || expected.data_type() != found.data_type() {
            let (found, found_type) = (found.name(), found.data_type());
            let (expected, expected_type) = (expected.name(), expected.data_type());
            return Err(bad(format!("column `{found}` ({found_type}) where `{expected}` ({expected_type}) stands")));
        }
    }
    RecordBatch::try_new(schema.clone(), batch.columns().to_vec()).map_err(|e| bad(e.to_string()))
}
