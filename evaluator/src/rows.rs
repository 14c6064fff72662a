//! The log as tables: record batches of all predictions, scores or labels of an endpoint, as they were logged.

use std::{collections::BTreeMap, sync::Arc};

use arrow::{
    array::{Array as _, ArrayRef, AsArray as _, RecordBatch, StringBuilder},
    datatypes::{Int64Type, SchemaRef},
};
use domain::{EndpointName, Field, Timestamp, ValueType};
use futures::{StreamExt as _, stream::BoxStream};
use storage::{Table, TimeRange, schema_of};

use crate::{Evaluator, error::EvaluatorError, log};

/// What of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogTable {
    /// A row per prediction: `id`, `event_time`, `served_at`, `label_key`, `inputs` (a JSON object).
    Predictions,
    /// A row per prediction and version that scored it: `id`, `event_time`, `version`, `role` (`live` or `shadow`), `score`.
    Scores,
    /// A row per label that counted when it came: `id`, `known_at`, `value`, `origin`, `reviewer`. Of several of one
    /// prediction the last counts.
    Labels,
}

impl LogTable {
    /// Columns and their types.
    #[must_use]
    pub fn schema(self) -> SchemaRef {
        match self {
            Self::Predictions => schema_of(&shown_predictions()),
            Self::Scores => schema_of(&log::score_fields()),
            Self::Labels => schema_of(&log::label_fields()),
        }
    }

    /// The column of instants that a range narrows.
    #[must_use]
    pub const fn time(self) -> &'static str {
        match self {
            Self::Predictions | Self::Scores => "event_time",
            Self::Labels => "known_at",
        }
    }
}

impl Evaluator {
    /// The rows of an endpoint with [`LogTable::time`] from `from` to `to`, both included, in order of arrival.
    ///
    /// # Errors
    /// `UnknownEndpoint`; what storage says.
    pub async fn log_rows(
        &self,
        endpoint: &EndpointName,
        what: LogTable,
        (from, to): (Timestamp, Timestamp),
    ) -> Result<BoxStream<'static, Result<RecordBatch, EvaluatorError>>, EvaluatorError> {
        let log = self.shared.known(endpoint)?.log.clone();
        let range = TimeRange { column: what.time().to_owned(), from, to };
        let names = if what == LogTable::Predictions { log.all_columns().await? } else { BTreeMap::new() };
        let table: &Table = log.table(what);
        let read = table.stream(Some(range)).map_err(EvaluatorError::storage("read the prediction log"))?;
        Ok(read
            .map(move |batch| {
                let batch = batch.map_err(EvaluatorError::storage("read the prediction log"))?;
                if what == LogTable::Predictions { with_objects(&batch, &names) } else { Ok(batch) }
            })
            .boxed())
    }
}

fn shown_predictions() -> Vec<Field> {
    let mut fields = log::prediction_fields();
    fields.retain(|field| &*field.name != "columns");
    fields.iter_mut().filter(|field| &*field.name == "inputs").for_each(|field| field.kind = ValueType::Text);
    fields
}

/// Predictions with their inputs as objects in the place of values and the number of their names.
fn with_objects(batch: &RecordBatch, names: &BTreeMap<i64, Arc<[String]>>) -> Result<RecordBatch, EvaluatorError> {
    let corrupt = |why: &str| EvaluatorError::corrupt("logged inputs", why);
    let lists = batch.column_by_name("columns").and_then(|column| column.as_primitive_opt::<Int64Type>());
    let values = batch.column_by_name("inputs").and_then(|column| column.as_string_opt::<i32>());
    let (lists, values) = lists.zip(values).ok_or_else(|| corrupt("no column list"))?;
    let mut objects = StringBuilder::with_capacity(values.len(), values.values().len() * 2);
    for row in 0..values.len() {
        let names = names.get(&lists.value(row)).ok_or_else(|| corrupt("unknown column list"))?;
        let cells: Vec<serde_json::Value> =
            serde_json::from_str(values.value(row)).map_err(|e| EvaluatorError::corrupt("logged inputs", e))?;
        let object: serde_json::Map<String, serde_json::Value> = names.iter().cloned().zip(cells).collect();
        objects.append_value(serde_json::Value::Object(object).to_string());
    }
    let objects: ArrayRef = Arc::new(objects.finish());
    let schema = schema_of(&shown_predictions());
    let columns = schema.fields().iter().map(|field| match field.name().as_str() {
        "inputs" => Ok(objects.clone()),
        name => batch.column_by_name(name).cloned().ok_or_else(|| corrupt("a missing column")),
    });
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    RecordBatch::try_new(schema, columns).map_err(|e| EvaluatorError::corrupt("logged predictions", e))
}
