//! Rows of one file a batch at a time, for readers that keep few of them.

use std::sync::Arc;

use arrow::{
    array::{AsArray as _, BooleanArray, RecordBatch},
    datatypes::{Int64Type, SchemaRef},
};
use parquet::{
    arrow::{
        ProjectionMask,
        arrow_reader::{ArrowPredicateFn, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder, RowFilter},
    },
    errors::ParquetError,
};
use storage::StorageError;

use crate::{failure, file::LiveFile, read, snapshot::Snapshot};

/// Rows of one batch.
const BATCH_ROWS: usize = 65_536;

/// Which rows are wanted, by their number.
pub type Numbers = Arc<dyn Fn(i64) -> bool + Send + Sync>;

/// The rows of a file, in its order.
pub struct Pieces {
    reader: ParquetRecordBatchReader,
    wanted: SchemaRef,
    name: String,
}

impl Snapshot {
    /// The rows of the file under `wanted` whose number is wanted; columns that the file lacks are null. Blocks, and so do
    /// the pieces: for threads that compute.
    pub fn pieces(
        &self,
        file: &LiveFile,
        wanted: &SchemaRef,
        numbers: Option<Numbers>,
    ) -> Result<Pieces, StorageError> {
        let name = file.path.clone();
        let damaged = |e: ParquetError| failure::damaged(&name, e);
        let builder = ParquetRecordBatchReaderBuilder::try_new(self.open(file)?).map_err(damaged)?;
        let has = builder.schema().clone();
        let roots = wanted.fields().iter().filter_map(|field| has.index_of(field.name()).ok());
        let mask = ProjectionMask::roots(builder.parquet_schema(), roots);
        let filter = match numbers {
            Some(numbers) => {
                let row = self.row_column();
                let at = has.index_of(&row).map_err(|e| failure::damaged(&name, e))?;
                let mask = ProjectionMask::roots(builder.parquet_schema(), [at]);
                let holds = move |batch: RecordBatch| {
                    let all = batch.column(0).as_primitive::<Int64Type>();
                    Ok(all
                        .iter()
                        .map(|number| Some(number.is_some_and(|number| numbers(number))))
                        .collect::<BooleanArray>())
                };
                Some(RowFilter::new(vec![Box::new(ArrowPredicateFn::new(mask, holds))]))
            }
            None => None,
        };
        let mut builder = builder.with_projection(mask).with_batch_size(BATCH_ROWS);
        if let Some(filter) = filter {
            builder = builder.with_row_filter(filter);
        }
        let reader = builder.build().map_err(damaged)?;
        Ok(Pieces { reader, wanted: wanted.clone(), name })
    }
}

impl Iterator for Pieces {
    type Item = Result<RecordBatch, StorageError>;

    fn next(&mut self) -> Option<Self::Item> {
        let batch = self.reader.next()?.map_err(|e| failure::damaged(&self.name, e));
        Some(batch.and_then(|batch| read::fit(&batch, &self.wanted)))
    }
}
