//! Questions on their way to a server.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, Int64Array, RecordBatch},
    error::ArrowError,
};
use domain::{Frame, Timestamp, ValueType};
use spark::{Relation, Session};

use crate::{
    error::{Doing as _, FeatureError},
    table::corrupt,
    view::ViewPlan,
};

/// Bytes of one message of questions, about.
const PIECE_BYTES: usize = 8 << 20;

/// The questions of one view.
pub(super) struct Questions<'a> {
    pub(super) at: &'a [Timestamp],
    keys: Vec<ArrayRef>,
}

impl<'a> Questions<'a> {
    pub(super) fn new(view: &ViewPlan, keys: &Frame, at: &'a [Timestamp]) -> Result<Self, FeatureError> {
        let mut frame = Frame::of_rows(at.len());
        for (key, column) in view.keys.iter().zip(view.key_columns(keys)?) {
            if column.kind() == ValueType::Float {
                let reason = format!("its key `{}` is a float, and Spark does not tell 0 from -0", key.name);
                return Err(FeatureError::NotOnSpark { view: view.name.to_string(), reason });
            }
            frame.add(key.name.as_str(), column.clone())?;
        }
        let batch = storage::to_batch(&frame).doing("send questions")?;
        Ok(Self { at, keys: batch.columns().to_vec() })
    }

    pub(super) fn rows(&self) -> usize {
        self.at.len()
    }

    /// Whether some key of the question is null.
    pub(super) fn keyless(&self, row: usize) -> bool {
        self.keys.iter().any(|key| key.is_null(row))
    }

    /// Makes the questions a view of the session, with numbers of their own beside them: `n` (the question's place), `k0..`,
    /// `a` (its instant) and the columns of `more`. A piece at a time. The view's name.
    pub(super) async fn send(
        &self,
        session: &mut Session,
        more: &[(String, Vec<i64>)],
    ) -> Result<String, FeatureError> {
        let numbers = (0..self.rows()).map(|row| i64::try_from(row).unwrap_or(i64::MAX));
        let mut columns: Vec<(String, ArrayRef)> = vec![
            ("n".into(), Arc::new(Int64Array::from_iter_values(numbers))),
            ("a".into(), Arc::new(Int64Array::from_iter_values(self.at.iter().map(|at| at.micros())))),
        ];
        columns.extend(self.keys.iter().enumerate().map(|(at, key)| (format!("k{at}"), key.clone())));
        let more =
            more.iter().map(|(name, values)| (name.clone(), Arc::new(Int64Array::from(values.clone())) as ArrayRef));
        columns.extend(more);
        let batch =
            RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true)));
        let batch = batch.map_err(|error: ArrowError| corrupt(error.to_string()))?;
        let row_bytes = batch.get_array_memory_size().div_ceil(batch.num_rows().max(1)).max(1);
        let piece_rows = (PIECE_BYTES / row_bytes).max(1);
        let mut pieces = Vec::new();
        for from in (0..batch.num_rows()).step_by(piece_rows) {
            let piece = format!("spine{}", pieces.len());
            let rows = batch.slice(from, piece_rows.min(batch.num_rows() - from));
            session.view(&piece, Relation::Rows(rows)).await?;
            pieces.push(format!("SELECT * FROM {piece}"));
        }
        let whole = pieces.join(" UNION ALL ");
        Ok(format!("({whole})"))
    }
}
