//! Segments: sealed rows as zstd Parquet, with the spans of their timestamps and a bounded cache of decoded ones.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, PoisonError},
};

use arrow::{
    array::{Array as _, AsArray as _, BooleanArray, RecordBatch},
    compute::filter_record_batch,
    datatypes::{DataType, Schema, SchemaRef, TimeUnit, TimestampMicrosecondType},
};
use bytes::Bytes;
use domain::{Digest, Timestamp};
use parquet::{
    arrow::{ArrowWriter, arrow_reader::ParquetRecordBatchReaderBuilder},
    basic::{Compression, ZstdLevel},
    errors::ParquetError,
    file::properties::WriterProperties,
};
use serde::{Deserialize, Serialize};

use crate::StorageError;

/// Rows of one decoded batch.
const DECODED_ROWS: usize = 65_536;

/// Smallest and greatest value of a timestamp column, in microseconds; `None` where all are null.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Extent {
    pub min: Option<i64>,
    pub max: Option<i64>,
    pub nulls: u64,
}

pub(crate) type Extents = BTreeMap<String, Extent>;

/// What the manifest knows of one segment.
#[derive(Debug, Clone)]
pub(crate) struct Segment {
    pub digest: Digest,
    pub rows: u64,
    pub extents: Extents,
    /// The newest WAL file whose rows are in this segment or an earlier one.
    pub covered: u64,
    /// The table's chain after the last row of this segment.
    pub chain: Digest,
}

/// One Parquet file holding the batch; equal batches give equal bytes.
pub(crate) fn encode(batch: &RecordBatch) -> Result<Bytes, StorageError> {
    let failed = |e: ParquetError| StorageError::BadParquet(e.to_string());
    let properties = WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default())).build();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties)).map_err(failed)?;
    writer.write(batch).map_err(failed)?;
    Ok(writer.into_inner().map_err(failed)?.into())
}

pub(crate) fn decode(bytes: Bytes) -> Result<(SchemaRef, Vec<RecordBatch>), ParquetError> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(bytes)?.with_batch_size(DECODED_ROWS);
    let schema = builder.schema().clone();
    let batches = builder.build()?.collect::<Result<_, _>>()?;
    Ok((schema, batches))
}

const fn is_time(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Timestamp(TimeUnit::Microsecond, _))
}

/// The extent of every timestamp column.
pub(crate) fn extents(batch: &RecordBatch) -> Extents {
    let schema = batch.schema();
    let columns = schema.fields().iter().zip(batch.columns()).filter(|(field, _)| is_time(field.data_type()));
    columns
        .map(|(field, column)| {
            let values = column.as_primitive::<TimestampMicrosecondType>();
            let (min, max) = (values.iter().flatten().min(), values.iter().flatten().max());
            (field.name().clone(), Extent { min, max, nulls: values.null_count() as u64 })
        })
        .collect()
}

/// A range on one column of a table, both ends included.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cut {
    column: usize,
    from: i64,
    to: i64,
}

impl Cut {
    /// `None` when the schema has no such timestamp column.
    pub(crate) fn new(schema: &Schema, column: &str, from: Timestamp, to: Timestamp) -> Option<Self> {
        let (index, field) = schema.column_with_name(column)?;
        is_time(field.data_type()).then_some(Self { column: index, from: from.micros(), to: to.micros() })
    }

    /// Whether rows with this extent can lie in the range.
    pub(crate) fn touches(&self, extent: &Extent) -> bool {
        matches!((extent.min, extent.max), (Some(min), Some(max)) if min <= self.to && max >= self.from)
    }

    /// The rows inside, in order; null is outside.
    pub(crate) fn apply(&self, batch: &RecordBatch) -> Result<RecordBatch, StorageError> {
        let values = batch.column(self.column).as_primitive::<TimestampMicrosecondType>();
        let inside: BooleanArray =
            values.iter().map(|t| Some(t.is_some_and(|t| (self.from..=self.to).contains(&t)))).collect();
        if inside.true_count() == batch.num_rows() {
            return Ok(batch.clone());
        }
        Ok(filter_record_batch(batch, &inside)?)
    }
}

/// Decoded segments, the longest unused dropped first.
#[derive(Debug)]
pub(crate) struct SegmentCache {
    bytes_max: usize,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    segments: HashMap<Digest, Entry>,
    bytes: usize,
    uses: u64,
}

#[derive(Debug)]
struct Entry {
    batches: Vec<RecordBatch>,
    bytes: usize,
    used: u64,
}

impl SegmentCache {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, held: Mutex::default() }
    }

    pub(crate) fn get(&self, digest: &Digest) -> Option<Vec<RecordBatch>> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.uses += 1;
        let now = held.uses;
        let entry = held.segments.get_mut(digest)?;
        entry.used = now;
        Some(entry.batches.clone())
    }

    /// Keeps the batches, unless they alone are over the limit.
    pub(crate) fn put(&self, digest: Digest, batches: &[RecordBatch]) {
        let bytes = batches.iter().map(RecordBatch::get_array_memory_size).sum();
        if bytes > self.bytes_max {
            return;
        }
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.uses += 1;
        let used = held.uses;
        if let Some(old) = held.segments.insert(digest, Entry { batches: batches.to_vec(), bytes, used }) {
            held.bytes -= old.bytes;
        }
        held.bytes += bytes;
        while held.bytes > self.bytes_max {
            let Some(oldest) = held.segments.iter().min_by_key(|(_, e)| e.used).map(|(d, _)| *d) else { break };
            held.bytes -= held.segments.remove(&oldest).map_or(0, |e| e.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array};

    use super::*;

    #[test]
    fn the_cache_drops_what_was_not_used_longest() {
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..1_000));
        let batches = vec![RecordBatch::try_from_iter([("n", numbers)]).unwrap()];
        let size: usize = batches.iter().map(RecordBatch::get_array_memory_size).sum();
        let cache = SegmentCache::new(2 * size);
        let [a, b, c] = [b"a", b"b", b"c"].map(|name| Digest::of(name));
        cache.put(a, &batches);
        cache.put(b, &batches);
        assert!(cache.get(&a).is_some());
        cache.put(c, &batches);
        assert!(cache.get(&a).is_some() && cache.get(&c).is_some());
        assert!(cache.get(&b).is_none());

        let small = SegmentCache::new(size - 1);
        small.put(a, &batches);
        assert!(small.get(&a).is_none());
    }
}
