//! A table read piece by piece: only the wanted columns, row groups and rows.

use std::sync::Arc;

use arrow::{
    array::{Array as _, ArrayRef, BooleanArray, RecordBatch},
    buffer::BooleanBuffer,
    compute::filter_record_batch,
    datatypes::{DataType, TimeUnit},
    error::ArrowError,
};
use parquet::{
    arrow::{
        ProjectionMask,
        arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder, RowSelection},
    },
    errors::ParquetError,
    file::statistics::Statistics,
};

use super::{
    error::JoinError,
    part::{Kind, Part, group_rows},
    time::unit_of,
};

/// Rows of a batch in memory that are handed out together.
const SLICE_ROWS: usize = 1 << 16;

/// A row group, or a slice of a batch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unit {
    part: usize,
    /// Which row group, or which row of the batch comes first.
    at: usize,
    pub(super) rows: usize,
}

/// All rows of a view or of the spine, in order of ingestion.
#[derive(Debug)]
pub(super) struct Table {
    /// For messages.
    pub(super) place: String,
    parts: Vec<Part>,
    pub(super) units: Vec<Unit>,
}

/// Columns in the order asked for; `None` where the part does not have it.
pub(super) struct Slab {
    pub(super) columns: Vec<Option<ArrayRef>>,
    pub(super) rows: usize,
}

impl Table {
    pub(super) fn new(place: String, parts: Vec<Part>) -> Result<Self, JoinError> {
        let mut units = Vec::new();
        for (part, rows) in parts.iter().enumerate() {
            let mut unit = |at: usize, rows: usize| units.push(Unit { part, at, rows });
            match &rows.0 {
                Kind::Rows(batch) => (0..batch.num_rows())
                    .step_by(SLICE_ROWS)
                    .for_each(|at| unit(at, SLICE_ROWS.min(batch.num_rows() - at))),
                Kind::Parquet { meta, .. } => {
                    for (group, rows) in group_rows(meta.metadata()).enumerate().filter(|(_, rows)| *rows > 0) {
                        let rows = u32::try_from(rows).map_err(|_| JoinError::TooManyRows(rows))?;
                        unit(group, rows as usize);
                    }
                }
            }
        }
        if u32::try_from(units.len()).is_err() {
            return Err(JoinError::TooManyRows(units.iter().map(|unit| unit.rows as u64).sum()));
        }
        Ok(Self { place, parts, units })
    }

    pub(super) fn rows(&self) -> u64 {
        self.units.iter().map(|unit| unit.rows as u64).sum()
    }

    /// The column's types, part by part, where they have it.
    pub(super) fn types<'a>(&'a self, column: &'a str) -> impl Iterator<Item = DataType> + 'a {
        let of = move |part: &Part| part.schema().field_with_name(column).ok().map(|field| field.data_type().clone());
        self.parts.iter().filter_map(of)
    }

    pub(super) fn parts(&self) -> &[Part] {
        &self.parts
    }

    pub(super) fn missing(&self, column: &str) -> JoinError {
        JoinError::NoColumn { place: self.place.clone(), column: column.to_owned() }
    }

    /// Reads the unit's rows, or only those that `select` names, some `batch_rows` at a time.
    pub(super) fn read(
        &self,
        unit: Unit,
        columns: &[&str],
        select: Option<BooleanBuffer>,
        batch_rows: usize,
    ) -> Result<Reading<'_>, JoinError> {
        let expected = select.as_ref().map_or(unit.rows, BooleanBuffer::count_set_bits);
        let found: Vec<Option<usize>>;
        let from = match &self.parts[unit.part].0 {
            Kind::Rows(batch) => {
                let schema = batch.schema();
                found = columns.iter().map(|name| schema.index_of(name).ok()).collect();
                let batch = batch.slice(unit.at, unit.rows);
                let narrow: Vec<usize> = found.iter().flatten().copied().collect();
                let batch = batch.project(&narrow).map_err(|source| self.columns_failed(source))?;
                let batch = match select {
                    Some(select) => filter_record_batch(&batch, &BooleanArray::new(select, None))
                        .map_err(|source| self.columns_failed(source))?,
                    None => batch,
                };
                // Columns stand in the order asked for; a name asked for twice stands twice.
                let mut next = 0..;
                let places = found.iter().map(|at| at.and_then(|_| next.next())).collect();
                return Ok(Reading { table: self, from: From::Memory(Some(batch)), places, expected, seen: 0 });
            }
            Kind::Parquet { source, meta, .. } => {
                let schema = meta.schema();
                found = columns.iter().map(|name| schema.index_of(name).ok()).collect();
                let mask = ProjectionMask::roots(meta.parquet_schema(), found.iter().flatten().copied());
                let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(source.clone(), meta.clone())
                    .with_row_groups(vec![unit.at])
                    .with_projection(mask)
                    .with_batch_size(batch_rows);
                let builder = match select {
                    Some(select) => builder.with_row_selection(RowSelection::from_boolean_buffer(select)),
                    None => builder,
                };
                From::File(Box::new(builder.build().map_err(|source| self.unreadable(unit, source))?), unit)
            }
        };
        // A file's columns come in the file's order.
        let mut order: Vec<usize> = found.iter().flatten().copied().collect();
        order.sort_unstable();
        order.dedup();
        let places = found.iter().map(|at| at.and_then(|at| order.binary_search(&at).ok())).collect();
        Ok(Reading { table: self, from, places, expected, seen: 0 })
    }

    fn unreadable(&self, unit: Unit, source: ParquetError) -> JoinError {
        let place = match &self.parts[unit.part].0 {
            Kind::Rows(_) => self.place.clone(),
            Kind::Parquet { name, .. } => format!("`{name}` of {}", self.place),
        };
        JoinError::Read { place, source }
    }

    pub(super) fn columns_failed(&self, source: ArrowError) -> JoinError {
        JoinError::Columns { place: self.place.clone(), source }
    }

    /// Smallest and greatest value of a signed number or instant in the unit; `None` where the file does not say, or
    /// says what cannot be.
    fn span(&self, unit: Unit, column: &str) -> Option<(i64, i64, DataType)> {
        let Kind::Parquet { meta, .. } = &self.parts[unit.part].0 else { return None };
        let data_type = meta.schema().field_with_name(column).ok()?.data_type().clone();
        let group = meta.metadata().row_groups().get(unit.at)?;
        let chunk =
            group.columns().iter().find(|chunk| matches!(chunk.column_path().parts(), [only] if only == column))?;
        let (min, max) = match chunk.statistics()? {
            Statistics::Int64(values) => (*values.min_opt()?, *values.max_opt()?),
            Statistics::Int32(values) => ((*values.min_opt()?).into(), (*values.max_opt()?).into()),
            _ => return None,
        };
        (min <= max).then_some((min, max, data_type))
    }

    /// Smallest and greatest instant of the unit, with their unit of time.
    pub(super) fn time_span(&self, unit: Unit, column: &str) -> Option<(i64, i64, TimeUnit)> {
        let (min, max, data_type) = self.span(unit, column)?;
        unit_of(&data_type).map(|time_unit| (min, max, time_unit))
    }

    /// Smallest and greatest number of the unit.
    pub(super) fn number_span(&self, unit: Unit, column: &str) -> Option<(i64, i64)> {
        let (min, max, data_type) = self.span(unit, column)?;
        data_type.is_signed_integer().then_some((min, max))
    }
}

enum From {
    Memory(Option<RecordBatch>),
    File(Box<ParquetRecordBatchReader>, Unit),
}

/// The slabs of one unit.
pub(super) struct Reading<'a> {
    table: &'a Table,
    from: From,
    /// Where each column asked for stands in what is read.
    places: Vec<Option<usize>>,
    expected: usize,
    seen: usize,
}

impl Iterator for Reading<'_> {
    type Item = Result<Slab, JoinError>;

    fn next(&mut self) -> Option<Self::Item> {
        let batch = match &mut self.from {
            From::Memory(batch) => batch.take()?,
            From::File(reader, unit) => match reader.next() {
                Some(Ok(batch)) => batch,
                Some(Err(error)) => {
                    let source = match error {
                        ArrowError::ParquetError(reason) => ParquetError::General(reason),
                        ArrowError::ExternalError(source) => ParquetError::External(source),
                        other => ParquetError::ArrowError(other.to_string()),
                    };
                    return Some(Err(self.table.unreadable(*unit, source)));
                }
                None if self.seen == self.expected => return None,
                None => {
                    let found = std::mem::replace(&mut self.expected, self.seen);
                    let reason = format!("{} rows where its footer says {found}", self.seen);
                    return Some(Err(self.table.unreadable(*unit, ParquetError::General(reason))));
                }
            },
        };
        self.seen += batch.num_rows();
        let columns = self.places.iter().map(|at| at.map(|at| Arc::clone(batch.column(at)))).collect();
        Some(Ok(Slab { columns, rows: batch.num_rows() }))
    }
}

/// Bytes that the arrays hold in memory, buffers shared between them counted once for each.
pub(super) fn weight(columns: &[ArrayRef]) -> usize {
    columns.iter().map(|column| column.get_array_memory_size()).sum()
}
