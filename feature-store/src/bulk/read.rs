//! A large Parquet body, read a piece at a time by one thread.

use std::sync::Arc;

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use bytes::Bytes;
use domain::{Field, ValueType};
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use tokio::sync::mpsc;

use super::{BulkLimits, effects};
use crate::{
    drift::Strays,
    error::FeatureError,
    parse::{Intake, body_error},
    view::SourcePlan,
};

/// Rows decoded at once: few enough that long texts do not fill the memory.
const STEP_ROWS: usize = 16_384;
/// A piece ends when its decoded rows take about this much.
const PIECE_BYTES: usize = 256 << 20;

/// A body that can be taken column by column.
pub(crate) struct Body {
    bytes: Bytes,
    metadata: ArrowReaderMetadata,
    /// How its columns are read.
    pub(crate) fields: Arc<[Field]>,
    /// Where each of the source's columns stands among them.
    pub(crate) places: Arc<[Option<usize>]>,
    /// In which way its header is not as declared.
    pub(crate) strays: Strays,
    /// As the file says.
    rows: u64,
}

/// Some rows of a body as they were decoded.
pub(crate) struct Piece {
    pub(crate) schema: SchemaRef,
    pub(crate) batches: Vec<RecordBatch>,
    /// Number of the first row, from 1.
    pub(crate) line: u64,
}

/// The pieces in their order; one that is the last word is an error, or says that there are no more.
pub(crate) type Pieces = mpsc::Receiver<Result<Option<Piece>, FeatureError>>;

impl Body {
    /// `None` when the body is small, or something about it has to be looked at row by row.
    ///
    /// # Errors
    /// `Body` when columns are missing, unknown or of a type that does not fit.
    pub(crate) fn open(plan: &SourcePlan, bytes: Bytes, limits: &BulkLimits) -> Result<Option<Self>, FeatureError> {
        if !effects::is_plain(plan) {
            return Ok(None);
        }
        // What is no Parquet at all is refused where small bodies are.
        let Ok(metadata) = ArrowReaderMetadata::load(&bytes, ArrowReaderOptions::default()) else { return Ok(None) };
        let rows = u64::try_from(metadata.metadata().file_metadata().num_rows()).unwrap_or(0);
        if rows < limits.rows_min {
            return Ok(None);
        }
        let Ok(fields) = storage::fields_of(metadata.schema()) else { return Ok(None) };
        let mut intake = Intake::new(plan)?;
        let names: Vec<&str> = fields.iter().map(|field| &*field.name).collect();
        let places = intake.places(&names)?;
        for (column, place) in plan.definition.columns.iter().zip(&places) {
            let Some(given) = place.map(|at| fields[at].kind) else { continue };
            intake.fits(column, given)?;
            let by_column = given == column.kind || (given, column.kind) == (ValueType::Int, ValueType::Float);
            if !by_column {
                return Ok(None);
            }
        }
        intake.note_header(&names);
        let strays = intake.finish().strays;
        Ok(Some(Self { bytes, metadata, fields: fields.into(), places: places.into(), strays, rows }))
    }

    /// Starts to read.
    pub(crate) fn pieces(self, plan: &Arc<SourcePlan>, limits: &BulkLimits) -> Pieces {
        let (sender, receiver) = mpsc::channel(1);
        let (plan, piece_rows) = (plan.clone(), limits.piece_rows);
        // Who does not listen any more has given up.
        let _reading = tokio::task::spawn_blocking(move || {
            let last = self.read(&plan, piece_rows, |piece| sender.blocking_send(Ok(Some(piece))).is_ok());
            let _ = sender.blocking_send(last.map(|()| None));
        });
        receiver
    }

    fn read(
        self,
        plan: &SourcePlan,
        piece_rows: usize,
        mut give: impl FnMut(Piece) -> bool,
    ) -> Result<(), FeatureError> {
        let unreadable = |reason: String| body_error(plan, format!("not a readable Parquet file: {reason}"), None);
        let schema = self.metadata.schema().clone();
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(self.bytes, self.metadata);
        let reader = builder.with_batch_size(STEP_ROWS.min(piece_rows)).build();
        let mut reader = reader.map_err(|e| unreadable(e.to_string()))?;
        let mut line = 1;
        loop {
            let (mut batches, mut rows, mut bytes) = (Vec::new(), 0, 0);
            while rows < piece_rows && bytes < PIECE_BYTES {
                let Some(batch) = reader.next() else { break };
                let batch = batch.map_err(|e| unreadable(e.to_string()))?;
                rows += batch.num_rows();
                bytes += batch.get_array_memory_size();
                batches.push(batch);
            }
            if rows == 0 {
                break;
            }
            if !give(Piece { schema: schema.clone(), batches, line }) {
                return Ok(());
            }
            line += rows as u64;
        }
        if line - 1 != self.rows {
            return Err(unreadable(format!("it says that it has {} rows and has {}", self.rows, line - 1)));
        }
        Ok(())
    }
}
