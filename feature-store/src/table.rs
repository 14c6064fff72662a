//! Where the rows of one source are kept: its table in parts, and the table of rows set aside.
//!
//! A part is a table with fixed columns. When a source gains a column a new part begins; rows of older parts
//! have nulls there. Beside the source's own columns stand `_row` (number from 0 in order of ingestion),
//! `_replaces` (number of the row this one corrects) and `_ingested_at`.

use std::{
    collections::HashSet,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use arrow::{
    array::{AsArray as _, Int64Array, RecordBatch},
    datatypes::Int64Type,
};
use domain::{Column, Digest, Field, Frame, SourceName, Timestamp, Value, ValueType, definition::SourceColumn};
use serde::{Deserialize, Serialize};
use storage::{StorageError, Table, Tables, TimeRange};
use tokio::sync::Mutex;

use crate::error::{Doing as _, FeatureError};

pub(crate) const ROW: &str = "_row";
pub(crate) const REPLACES: &str = "_replaces";
const INGESTED_AT: &str = "_ingested_at";

/// A row of a source's table. Values stand in the order of the source's columns.
#[derive(Debug, Clone)]
pub(crate) struct StoredRow {
    pub(crate) number: i64,
    pub(crate) replaces: Option<i64>,
    pub(crate) values: Vec<Value>,
}

/// The columns of one part, as `Meta` keeps them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PartSpec {
    /// From 1.
    pub(crate) number: i64,
    pub(crate) columns: Vec<Field>,
}

impl PartSpec {
    /// Whether the part holds exactly these columns, in any order.
    pub(crate) fn fits(&self, columns: &[SourceColumn]) -> bool {
        self.columns.len() == columns.len() && columns.iter().all(|c| self.kind(c.name.as_str()) == Some(c.kind))
    }

    pub(crate) fn kind(&self, name: &str) -> Option<ValueType> {
        self.columns.iter().find(|field| &*field.name == name).map(|field| field.kind)
    }

    fn table_name(&self, source: &SourceName) -> String {
        match self.number {
            1 => format!("source.{source}"),
            number => format!("source.{source}.{number}"),
        }
    }
}

#[derive(Clone)]
struct Part {
    spec: PartSpec,
    table: Table,
}

/// The rows of one source.
pub(crate) struct SourceTable {
    parts: RwLock<Vec<Part>>,
    pub(crate) quarantine: Table,
    /// Held by whoever writes rows or rebuilds what hangs on them.
    pub(crate) writing: Mutex<()>,
    /// Rows whose effects are in the online store.
    pub(crate) applied: AtomicU64,
    /// An append began and was not seen to end: its rows may still arrive.
    unsure: AtomicBool,
}

/// A point in the table's history: rows numbered below `rows`, named by `digest`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mark {
    pub(crate) rows: u64,
    pub(crate) digest: Digest,
}

impl SourceTable {
    /// Opens all parts, making those that do not exist yet.
    pub(crate) async fn open(tables: &Tables, source: &SourceName, specs: Vec<PartSpec>) -> Result<Self, FeatureError> {
        let quarantine = tables
            .table(&format!("quarantine.{source}"), storage::schema_of(&quarantine_fields()))
            .await
            .doing("open a quarantine table")?;
        let opened = Self {
            parts: RwLock::default(),
            quarantine,
            writing: Mutex::default(),
            applied: AtomicU64::new(0),
            unsure: AtomicBool::new(false),
        };
        opened.extend(tables, source, specs).await?;
        Ok(opened)
    }

    /// Opens the parts of `specs` that are not open yet; new rows go to the last.
    pub(crate) async fn extend(
        &self,
        tables: &Tables,
        source: &SourceName,
        specs: Vec<PartSpec>,
    ) -> Result<(), FeatureError> {
        let open = self.parts().len();
        for spec in specs.into_iter().skip(open) {
            let mut fields = spec.columns.clone();
            fields.push(Field::new(ROW, ValueType::Int));
            fields.push(Field::new(REPLACES, ValueType::Int));
            fields.push(Field::new(INGESTED_AT, ValueType::Timestamp));
            let table = tables.table(&spec.table_name(source), storage::schema_of(&fields)).await;
            let table = table.doing("open a source table")?;
            self.parts.write().unwrap_or_else(PoisonError::into_inner).push(Part { spec, table });
        }
        Ok(())
    }

    fn parts(&self) -> Vec<Part> {
        self.parts.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn specs(&self) -> Vec<PartSpec> {
        self.parts().into_iter().map(|part| part.spec).collect()
    }

    /// [`StorageError::Elsewhere`] where another server of the database keeps the rows.
    pub(crate) fn here(&self) -> Result<(), StorageError> {
        self.parts().iter().try_for_each(|part| part.table.here())
    }

    /// Rows ever accepted.
    pub(crate) fn rows(&self) -> u64 {
        self.parts().iter().map(|part| part.table.rows()).sum()
    }

    /// Names of the columns that stored rows have, with their types.
    pub(crate) fn stored_columns(&self) -> Vec<Field> {
        let mut fields: Vec<Field> = Vec::new();
        for part in self.parts().into_iter().filter(|part| part.table.rows() > 0) {
            for field in part.spec.columns {
                if !fields.iter().any(|known| known.name == field.name) {
                    fields.push(field);
                }
            }
        }
        fields
    }

    /// The table's present state. Call it while holding `writing`, so that rows and digest belong together.
    pub(crate) fn mark(&self) -> Mark {
        let parts = self.parts();
        let digests: Vec<Digest> = parts.iter().map(|part| part.table.snapshot()).collect();
        let digest = match digests.as_slice() {
            [only] => *only,
            all => Digest::of_parts(all.iter().map(|d| d.as_bytes().as_slice())),
        };
        Mark { rows: parts.iter().map(|part| part.table.rows()).sum(), digest }
    }

    /// Appends accepted rows; durable when it returns. The caller holds `writing`.
    pub(crate) async fn append(
        &self,
        columns: &[SourceColumn],
        rows: &[StoredRow],
        at: Timestamp,
    ) -> Result<(), FeatureError> {
        let Some(part) = self.parts().pop() else {
            return Err(FeatureError::Corrupt { what: "source table", reason: "it has no part".into() });
        };
        let mut frame = Frame::of_rows(rows.len());
        for field in &part.spec.columns {
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
        part.table.append(batch).await.doing("write rows")?;
        self.unsure.store(false, Ordering::SeqCst);
        Ok(())
    }

    /// Waits until an append that failed or was given up has either arrived or never will, so that row numbers
    /// are not given twice. The caller holds `writing`.
    pub(crate) async fn settle(&self) -> Result<(), FeatureError> {
        if self.unsure.load(Ordering::SeqCst) {
            for part in self.parts() {
                // The table does one thing after the other: a flush comes behind whatever was begun.
                part.table.flush().await.doing("settle an earlier write")?;
            }
            self.unsure.store(false, Ordering::SeqCst);
        }
        Ok(())
    }

    /// The named columns (as `fields` types them) and `_row`, `_replaces` of all rows in the range, in order of
    /// ingestion; columns that older parts have not are null there.
    pub(crate) async fn scan(&self, fields: &[Field], range: Option<TimeRange>) -> Result<Frame, FeatureError> {
        let mut frames = Vec::new();
        for part in self.parts().into_iter().filter(|part| part.table.rows() > 0) {
            let batches = part.table.scan(range.clone()).await.doing("read rows")?;
            if batches.iter().all(|batch| batch.num_rows() == 0) {
                continue;
            }
            frames.push(project(&part.spec, fields, &batches)?);
        }
        if frames.len() == 1 {
            return Ok(frames.remove(0));
        }
        let rows = frames.iter().map(Frame::rows).sum();
        let mut all = Frame::of_rows(rows);
        for field in fields.iter().cloned().chain(system_fields()) {
            let mut column = Column::with_capacity(field.kind, rows);
            for frame in &frames {
                let from = frame.require(&field.name)?;
                for row in 0..frame.rows() {
                    column.push(from.get(row)).map_err(|e| corrupt(format!("{}: {e}", field.name)))?;
                }
            }
            all.add(field.name, column)?;
        }
        Ok(all)
    }

    /// All columns of all rows in the range, in order of ingestion. Batches of older parts lack columns.
    pub(crate) async fn batches(&self, range: Option<TimeRange>) -> Result<Vec<RecordBatch>, FeatureError> {
        let mut batches = Vec::new();
        for part in self.parts().into_iter().filter(|part| part.table.rows() > 0) {
            batches.extend(part.table.scan(range.clone()).await.doing("read rows")?);
        }
        Ok(batches)
    }

    /// All columns of the rows that `wanted` names (by number), as stored rows in order of ingestion.
    pub(crate) async fn fetch(
        &self,
        columns: &[SourceColumn],
        range: Option<TimeRange>,
        wanted: impl Fn(i64) -> bool,
    ) -> Result<Vec<StoredRow>, FeatureError> {
        let fields: Vec<Field> = columns.iter().map(|c| Field::new(c.name.as_str(), c.kind)).collect();
        let frame = self.scan(&fields, range).await?;
        let numbers = ints(&frame, ROW)?;
        let replaces = ints(&frame, REPLACES)?;
        let columns: Vec<&Column> = fields.iter().map(|f| frame.require(&f.name)).collect::<Result<_, _>>()?;
        let mut rows = Vec::new();
        for row in 0..frame.rows() {
            let number = numbers[row].ok_or_else(|| corrupt("a row without a number".into()))?;
            if wanted(number) {
                let values = columns.iter().map(|column| column.get(row)).collect();
                rows.push(StoredRow { number, replaces: replaces[row], values });
            }
        }
        Ok(rows)
    }

    /// How many rows still wait to reach the online store.
    pub(crate) fn behind(&self) -> bool {
        self.applied.load(Ordering::SeqCst) < self.rows()
    }
}

pub(crate) fn corrupt(reason: String) -> FeatureError {
    FeatureError::Corrupt { what: "source rows", reason }
}

fn system_fields() -> [Field; 2] {
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

fn project(spec: &PartSpec, fields: &[Field], batches: &[RecordBatch]) -> Result<Frame, FeatureError> {
    let all: Vec<Field> = fields.iter().cloned().chain(system_fields()).collect();
    let present: Vec<&Field> = all.iter().filter(|f| f.name.starts_with('_') || spec.kind(&f.name).is_some()).collect();
    let narrow = batches
        .iter()
        .map(|batch| {
            let schema = batch.schema();
            let indices = present.iter().map(|f| schema.index_of(&f.name)).collect::<Result<Vec<_>, _>>()?;
            batch.project(&indices)
        })
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| corrupt(e.to_string()))?;
    let Some(schema) = narrow.first().map(RecordBatch::schema) else {
        return Err(corrupt("no batch".into()));
    };
    let mut frame = storage::from_batches(&schema, &narrow).doing("read rows")?;
    for field in &all {
        if frame.column(&field.name).is_none() {
            let mut nulls = Column::with_capacity(field.kind, frame.rows());
            for _ in 0..frame.rows() {
                nulls.push(Value::Null).map_err(|e| corrupt(e.to_string()))?;
            }
            frame.add(field.name.clone(), nulls)?;
        }
    }
    Ok(frame)
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

/// Columns of the table of rows set aside.
pub(crate) fn quarantine_fields() -> [Field; 5] {
    [
        Field::new("line", ValueType::Int),
        Field::new("column", ValueType::Text),
        Field::new("reason", ValueType::Text),
        Field::new("raw", ValueType::Text),
        Field::new("at", ValueType::Timestamp),
    ]
}

/// Shared by those who open or look up tables.
pub(crate) type Shelf = std::collections::BTreeMap<SourceName, Arc<SourceTable>>;
