//! Rows as files: split by day, sorted, zstd Parquet.

use std::sync::Arc;

use arrow::{
    array::{AsArray as _, Int64Array, RecordBatch, UInt32Array},
    compute::{SortColumn, SortOptions, lexsort_to_indices, take_record_batch},
    datatypes::{DataType, TimeUnit, TimestampMicrosecondType},
    error::ArrowError,
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

/// One file for each day of the rows.
pub(crate) fn by_day(rows: &RecordBatch, layout: &Layout) -> Result<Vec<Encoded>, StorageError> {
    let (sorted, days) = sorted(rows, layout)?;
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

/// The rows in order of day, key columns, time and number, and their days.
fn sorted(rows: &RecordBatch, layout: &Layout) -> Result<(RecordBatch, Vec<i64>), StorageError> {
    let wrong = |detail: String| failure::damaged("rows on their way into a table", detail);
    let times = rows.column_by_name(&layout.time).ok_or_else(|| wrong(format!("no column `{}`", layout.time)))?;
    if !matches!(times.data_type(), DataType::Timestamp(TimeUnit::Microsecond, _)) {
        return Err(wrong(format!("column `{}` is {}", layout.time, times.data_type())));
    }
    let times = times.as_primitive::<TimestampMicrosecondType>();
    // A row without a time comes to the days without a name.
    let days = Int64Array::from_iter_values(times.iter().map(|time| time.map_or(i64::MIN, day::of)));
    let mut by = vec![SortColumn { values: Arc::new(days.clone()), options: None }];
    for name in layout.sorted_by.iter().chain([&layout.time, &layout.row]) {
        if let Some(values) = rows.column_by_name(name) {
            let options = Some(SortOptions { descending: false, nulls_first: true });
            by.push(SortColumn { values: values.clone(), options });
        }
    }
    let order: UInt32Array = lexsort_to_indices(&by, None).map_err(arrow_failed)?;
    let days = order.values().iter().map(|&row| days.value(row as usize)).collect();
    Ok((take_record_batch(rows, &order).map_err(arrow_failed)?, days))
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
