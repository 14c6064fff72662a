//! Rows out of files: the columns that are asked for, whatever a file has of them.

use arrow::{
    array::{AsArray as _, BooleanArray, RecordBatch, RecordBatchOptions, new_null_array},
    compute::{cast, filter_record_batch},
    datatypes::{SchemaRef, TimestampMicrosecondType},
};
use parquet::{
    arrow::{ProjectionMask, arrow_reader::ParquetRecordBatchReaderBuilder},
    errors::ParquetError,
};
use storage::StorageError;

use crate::{encode::arrow_failed, failure, file::ParquetFile};

/// Rows of one decoded batch.
const DECODED_ROWS: usize = 65_536;

/// The file's rows under `wanted`; columns it lacks are null. Blocks.
pub(crate) fn decode(file: ParquetFile, name: &str, wanted: &SchemaRef) -> Result<Vec<RecordBatch>, StorageError> {
    let damaged = |e: ParquetError| match e {
        ParquetError::External(inner) => match inner.downcast::<StorageError>() {
            Ok(own) => *own,
            Err(other) => failure::damaged(name, other),
        },
        other => failure::damaged(name, other),
    };
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(damaged)?;
    let has = builder.schema().clone();
    let roots = wanted.fields().iter().filter_map(|field| has.index_of(field.name()).ok());
    let mask = ProjectionMask::roots(builder.parquet_schema(), roots);
    let reader = builder.with_projection(mask).with_batch_size(DECODED_ROWS).build().map_err(damaged)?;
    reader.map(|batch| fit(&batch.map_err(|e| failure::damaged(name, e))?, wanted)).collect()
}

/// The batch under `wanted`: by name, converted where another writer chose another encoding, null where it is absent.
pub(crate) fn fit(batch: &RecordBatch, wanted: &SchemaRef) -> Result<RecordBatch, StorageError> {
    let columns = wanted.fields().iter().map(|field| match batch.column_by_name(field.name()) {
        Some(column) if column.data_type() == field.data_type() => Ok(column.clone()),
        Some(column) => cast(column, field.data_type()).map_err(arrow_failed),
        None => Ok(new_null_array(field.data_type(), batch.num_rows())),
    });
    let columns = columns.collect::<Result<_, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(wanted.clone(), columns, &options).map_err(arrow_failed)
}

/// The rows whose `time` lies in the range, both ends included; those without are outside.
pub(crate) fn within(batch: RecordBatch, time: &str, range: (i64, i64)) -> Result<RecordBatch, StorageError> {
    let Some(times) = batch.column_by_name(time) else {
        return Err(failure::damaged("rows of a table", format!("no column `{time}`")));
    };
    let Some(times) = times.as_primitive_opt::<TimestampMicrosecondType>() else {
        return Err(failure::damaged("rows of a table", format!("column `{time}` is {}", times.data_type())));
    };
    let inside: BooleanArray =
        times.iter().map(|time| Some(time.is_some_and(|time| (range.0..=range.1).contains(&time)))).collect();
    if inside.true_count() == batch.num_rows() {
        return Ok(batch);
    }
    filter_record_batch(&batch, &inside).map_err(arrow_failed)
}
