//! One number for the rows of a Parquet file, whatever their order and whoever wrote it.

use std::{fs::File, path::Path};

use arrow::{
    array::{Array as _, AsArray as _, RecordBatch},
    compute::cast,
    datatypes::{DataType, Float64Type, Int64Type, TimeUnit},
};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

/// Rows and the sum of their hashes.
pub fn of(path: &Path) -> String {
    let file = File::open(path).expect("the joined rows are there");
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).expect("a Parquet file").build().expect("a reader");
    let (mut rows, mut sum) = (0, 0_u64);
    for batch in reader {
        let batch = batch.expect("whole rows");
        rows += batch.num_rows();
        sum = hashes(&batch).into_iter().fold(sum, u64::wrapping_add);
    }
    format!("{rows} rows, {sum:016x}")
}

fn hashes(batch: &RecordBatch) -> Vec<u64> {
    let mut hashes = vec![0_u64; batch.num_rows()];
    let schema = batch.schema();
    let mut order: Vec<usize> = (0..batch.num_columns()).collect();
    order.sort_by_key(|at| schema.field(*at).name());
    for at in order {
        let array = batch.column(at);
        let words: Vec<u64> = match array.data_type() {
            DataType::Float64 => array.as_primitive::<Float64Type>().values().iter().map(|x| x.to_bits()).collect(),
            other => {
                let array = match other {
                    DataType::Timestamp(_, zone) => {
                        cast(array, &DataType::Timestamp(TimeUnit::Microsecond, zone.clone())).expect("microseconds")
                    }
                    _ => array.clone(),
                };
                let array = cast(&array, &DataType::Int64).expect("a number");
                array.as_primitive::<Int64Type>().values().iter().map(|n| n.cast_unsigned()).collect()
            }
        };
        for (row, word) in words.into_iter().enumerate() {
            let word = if array.is_null(row) { 0x0123_4567_89AB_CDEF } else { word ^ 0x5555_5555_5555_5555 };
            let mixed = (hashes[row].rotate_left(7) ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            hashes[row] = mixed ^ (mixed >> 32);
        }
    }
    hashes
}
