//! Rows as files: split by day, sorted, zstd Parquet.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, AsArray as _, Int64Array, RecordBatch, UInt32Array},
    compute::take_record_batch,
    datatypes::{DataType, TimeUnit, TimestampMicrosecondType},
    error::ArrowError,
    row::{RowConverter, SortField},
};
use bytes::Bytes;
use parquet::{
    arrow::{ArrowWriter, arrow_writer::ArrowWriterOptions},
    basic::{Compression, ZstdLevel},
    errors::ParquetError,
    file::{metadata::SortingColumn, properties::WriterProperties},
};
use storage::StorageError;

use crate::{day, failure, stats, table::Layout};

/// Rows of a row group: small enough to skip, large enough to compress.
const GROUP_ROWS: usize = 131_072;

/// A file in the making.
pub(crate) struct Encoded {
    /// As `2024-02-29`; `None` where the day has no name.
    pub(crate) day: Option<String>,
    pub(crate) bytes: Bytes,
    pub(crate) stats: String,
}

/// Rows as they lie in files: in order of day, key columns, time and number.
#[derive(Debug, Clone)]
pub struct Sorted {
    rows: RecordBatch,
    days: Vec<i64>,
}

impl Sorted {
    #[must_use]
    pub const fn rows(&self) -> &RecordBatch {
        &self.rows
    }
}

/// One file for each day of the rows.
pub(crate) fn by_day(rows: &RecordBatch, layout: &Layout) -> Result<Vec<Encoded>, StorageError> {
    files_of(&sorted(rows, layout)?, layout)
}

/// The same for rows that are sorted already.
pub(crate) fn files_of(sorted: &Sorted, layout: &Layout) -> Result<Vec<Encoded>, StorageError> {
    let Sorted { rows: sorted, days } = sorted;
    let mut files = Vec::new();
    let mut start = 0;
    while start < sorted.num_rows() {
        let name = day::name(days[start]);
        let end = (start + 1..sorted.num_rows())
            .find(|&row| days[row] != days[start] && day::name(days[row]) != name)
            .unwrap_or(sorted.num_rows());
        let part = sorted.slice(start, end - start);
        files.push(Encoded { day: name, bytes: parquet(&part, layout)?, stats: stats::of(&part) });
        start = end;
    }
    Ok(files)
}

pub(crate) fn sorted(rows: &RecordBatch, layout: &Layout) -> Result<Sorted, StorageError> {
    let wrong = |detail: String| failure::damaged("rows on their way into a table", detail);
    let times = rows.column_by_name(&layout.time).ok_or_else(|| wrong(format!("no column `{}`", layout.time)))?;
    if !matches!(times.data_type(), DataType::Timestamp(TimeUnit::Microsecond, _)) {
        return Err(wrong(format!("column `{}` is {}", layout.time, times.data_type())));
    }
    let times = times.as_primitive::<TimestampMicrosecondType>();
    // A row without a time comes to the days without a name.
    let days = Int64Array::from_iter_values(times.iter().map(|time| time.map_or(i64::MIN, day::of)));
    let mut by: Vec<ArrayRef> = vec![Arc::new(days.clone())];
    by.extend(
        layout
            .sorted_by
            .iter()
            .chain([&layout.time, &layout.row])
            .filter_map(|name| rows.column_by_name(name).cloned()),
    );
    // Nulls come first, as `SortingColumn` says below.
    let fields = by.iter().map(|column| SortField::new(column.data_type().clone()));
    let converter = RowConverter::new(fields.collect()).map_err(arrow_failed)?;
    let keys = converter.convert_columns(&by).map_err(arrow_failed)?;
    let count = u32::try_from(rows.num_rows()).map_err(|_| wrong("too many rows in one piece".into()))?;
    let mut order: Vec<u32> = (0..count).collect();
    order.sort_unstable_by(|a, b| keys.row(*a as usize).cmp(&keys.row(*b as usize)));
    let order = UInt32Array::from(order);
    let days = order.values().iter().map(|&row| days.value(row as usize)).collect();
    Ok(Sorted { rows: take_record_batch(rows, &order).map_err(arrow_failed)?, days })
}

fn parquet(rows: &RecordBatch, layout: &Layout) -> Result<Bytes, StorageError> {
    let failed = |e: ParquetError| StorageError::BadParquet(e.to_string());
    let schema = rows.schema();
    let at = |name: &String| schema.index_of(name).ok().and_then(|at| i32::try_from(at).ok());
    let order = layout.sorted_by.iter().chain([&layout.time, &layout.row]).filter_map(at);
    let order = order.map(|column_idx| SortingColumn { column_idx, descending: false, nulls_first: true });
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_max_row_group_row_count(Some(GROUP_ROWS))
        .set_sorting_columns(Some(order.collect()))
        .build();
    // Without Arrow's own types beside Parquet's: the table has no lists of fixed length, and readers that believe them
    // (Sail) would refuse the file.
    let options = ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
    let mut writer = ArrowWriter::try_new_with_options(Vec::new(), schema.clone(), options).map_err(failed)?;
    writer.write(rows).map_err(failed)?;
    Ok(writer.into_inner().map_err(failed)?.into())
}

pub(crate) fn arrow_failed(error: ArrowError) -> StorageError {
    StorageError::Arrow(error)
}
