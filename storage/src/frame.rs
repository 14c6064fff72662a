//! Frames as Arrow batches and Parquet bytes.

use std::{collections::HashMap, sync::Arc};

use arrow::{
    array::{
        Array, ArrayRef, AsArray as _, BooleanArray, Float64Array, Int64Array, RecordBatch, RecordBatchOptions,
        StringArray, TimestampMicrosecondArray,
    },
    compute::{CastOptions, cast_with_options},
    datatypes::{
        DataType, Field as ArrowField, Float64Type, Int64Type, Schema, SchemaRef, TimeUnit, TimestampMicrosecondType,
    },
};
use bytes::Bytes;
use domain::{Column, Field, Frame, Timestamp, ValueType};

use crate::{StorageError, list, segment};

/// Distinct texts shared between the rows of a column; more than this are kept one by one.
const SHARED_TEXTS_MAX: usize = 4_096;

fn arrow_field(name: &str, kind: ValueType) -> ArrowField {
    ArrowField::new(name, arrow_type(kind), true)
}

pub(crate) fn arrow_type(kind: ValueType) -> DataType {
    match kind {
        ValueType::Bool => DataType::Boolean,
        ValueType::Int => DataType::Int64,
        ValueType::Float => DataType::Float64,
        ValueType::Text => DataType::Utf8,
        ValueType::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        ValueType::List(kind) => list::arrow_type(kind),
    }
}

/// The Arrow schema of these columns: Boolean, Int64, Float64, Utf8, Timestamp(us, UTC), and List or
/// `FixedSizeList` of these; all nullable.
#[must_use]
pub fn schema_of(fields: &[Field]) -> SchemaRef {
    let fields: Vec<_> = fields.iter().map(|field| arrow_field(&field.name, field.kind)).collect();
    Arc::new(Schema::new(fields))
}

/// The frame as one batch with the schema [`schema_of`] gives its fields.
pub fn to_batch(frame: &Frame) -> Result<RecordBatch, StorageError> {
    let columns = frame.iter().map(|(_, column)| array(column)).collect::<Result<_, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(frame.rows()));
    Ok(RecordBatch::try_new_with_options(schema_of(&frame.fields()), columns, &options)?)
}

pub(crate) fn array(column: &Column) -> Result<ArrayRef, StorageError> {
    Ok(match column {
        Column::Bool(v) => Arc::new(BooleanArray::from(v.clone())),
        Column::Int(v) => Arc::new(Int64Array::from(v.clone())),
        Column::Float(v) => Arc::new(Float64Array::from(v.clone())),
        Column::Text(v) => Arc::new(v.iter().map(Option::as_deref).collect::<StringArray>()),
        Column::Timestamp(v) => {
            let micros: TimestampMicrosecondArray = v.iter().map(|t| t.map(Timestamp::micros)).collect();
            Arc::new(micros.with_timezone("UTC"))
        }
        Column::List(kind, v) => list::array(*kind, v)?,
    })
}

/// All rows of the batches, in order. Narrower numbers, other text encodings and timestamps of other
/// precision are converted; a value that does not fit, or a timestamp without a zone, is an error.
pub fn from_batches(schema: &Schema, batches: &[RecordBatch]) -> Result<Frame, StorageError> {
    let rows = batches.iter().map(RecordBatch::num_rows).sum();
    let mut frame = Frame::of_rows(rows);
    for (index, field) in schema.fields().iter().enumerate() {
        let kind = value_type(field)?;
        let mut column = Column::with_capacity(kind, rows);
        let mut texts = HashMap::new();
        for batch in batches {
            if batch.num_columns() != schema.fields().len() || batch.schema().field(index).name() != field.name() {
                return Err(bad_column(field, "a column of every batch"));
            }
            let array = plain(field, batch.column(index), kind)?;
            match &mut column {
                Column::List(kind, lists) => list::extend(*kind, lists, field, &array)?,
                column => extend(column, &array, &mut texts),
            }
        }
        frame.add(field.name().as_str(), column)?;
    }
    Ok(frame)
}

/// The names of foreign columns, and the types they are read as.
pub fn fields_of(schema: &Schema) -> Result<Vec<Field>, StorageError> {
    schema.fields().iter().map(|field| Ok(Field::new(field.name().as_str(), value_type(field)?))).collect()
}

/// The batch under the schema that [`schema_of`] gives its [`fields_of`], converted as [`from_batches`] does. Lists that
/// are not in our own layout are not taken.
pub fn plain_batch(batch: &RecordBatch) -> Result<RecordBatch, StorageError> {
    let given = batch.schema();
    let fields = fields_of(&given)?;
    let columns = given.fields().iter().zip(batch.columns()).zip(&fields);
    let columns = columns.map(|((field, array), wanted)| plain(field, array, wanted.kind)).collect::<Result<_, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(schema_of(&fields), columns, &options)?)
}

pub(crate) fn bad_column(field: &ArrowField, expected: &'static str) -> StorageError {
    StorageError::BadColumn { column: field.name().clone(), found: field.data_type().to_string(), expected }
}

/// The type a foreign column is read as.
fn value_type(field: &ArrowField) -> Result<ValueType, StorageError> {
    use DataType as T;
    let data_type = match field.data_type() {
        T::Dictionary(_, values) => values.as_ref(),
        other => other,
    };
    Ok(match data_type {
        T::Boolean => ValueType::Bool,
        T::Int8 | T::Int16 | T::Int32 | T::Int64 | T::UInt8 | T::UInt16 | T::UInt32 | T::UInt64 => ValueType::Int,
        T::Float16 | T::Float32 | T::Float64 => ValueType::Float,
        T::Utf8 | T::LargeUtf8 | T::Utf8View => ValueType::Text,
        T::Timestamp(_, Some(_)) => ValueType::Timestamp,
        T::Timestamp(_, None) => return Err(bad_column(field, "a timestamp with a zone")),
        T::List(item) | T::LargeList(item) => list::value_type(field, value_type(item)?, None)?,
        T::FixedSizeList(item, length) => list::value_type(field, value_type(item)?, Some(*length))?,
        _ => return Err(bad_column(field, "bool, int, float, text, timestamp, or a list of one")),
    })
}

/// The array in the layout that `extend` reads.
fn plain(field: &ArrowField, array: &ArrayRef, kind: ValueType) -> Result<ArrayRef, StorageError> {
    let wanted = arrow_field(field.name(), kind);
    if array.data_type() == wanted.data_type() {
        return Ok(array.clone());
    }
    let options = CastOptions { safe: false, ..CastOptions::default() };
    cast_with_options(array, wanted.data_type(), &options).map_err(|_| bad_column(field, kind.as_str()))
}

pub(crate) fn extend(column: &mut Column, array: &ArrayRef, texts: &mut HashMap<Box<str>, Arc<str>>) {
    match column {
        Column::Bool(v) => v.extend(array.as_boolean()),
        Column::Int(v) => v.extend(array.as_primitive::<Int64Type>()),
        Column::Float(v) => v.extend(array.as_primitive::<Float64Type>()),
        Column::Text(v) => v.extend(array.as_string::<i32>().iter().map(|text| text.map(|t| shared(t, texts)))),
        Column::Timestamp(v) => v.extend(
            array.as_primitive::<TimestampMicrosecondType>().iter().map(|micros| micros.map(Timestamp::from_micros)),
        ),
        // `from_batches` reads these by their elements.
        Column::List(..) => {}
    }
}

/// Few texts fill most columns (carriers, airports): equal ones share one allocation.
fn shared(text: &str, texts: &mut HashMap<Box<str>, Arc<str>>) -> Arc<str> {
    if let Some(known) = texts.get(text) {
        return known.clone();
    }
    let fresh: Arc<str> = text.into();
    if texts.len() < SHARED_TEXTS_MAX {
        texts.insert(text.into(), fresh.clone());
    }
    fresh
}

/// The frame as one zstd Parquet file; equal frames give equal bytes. A frame has at least one column.
pub fn to_parquet(frame: &Frame) -> Result<Bytes, StorageError> {
    segment::encode(&to_batch(frame)?)
}

/// Reads a Parquet file, ours or foreign; see [`from_batches`] for what is converted.
pub fn from_parquet(bytes: Bytes) -> Result<Frame, StorageError> {
    let (schema, batches) = segment::decode(bytes).map_err(|e| StorageError::BadParquet(e.to_string()))?;
    from_batches(&schema, &batches)
}
