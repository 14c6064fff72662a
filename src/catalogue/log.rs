//! Predictions, scores and labels of all endpoints.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, RecordBatch, StringArray},
    datatypes::{DataType, Field, Schema, SchemaRef},
};
use domain::{EndpointName, Timestamp};
use evaluator::{Evaluator, LogTable};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use sql::{Batches, Fault, Rows};

use super::made::{Made, broken, fault};

/// Tables of the log by name.
pub(super) const LOG_TABLES: [(&str, LogTable); 3] =
    [("predictions", LogTable::Predictions), ("scores", LogTable::Scores), ("labels", LogTable::Labels)];

/// One of them, with the endpoint's name before its columns.
pub(super) fn rows(evaluator: &Evaluator, what: LogTable) -> Arc<dyn Rows> {
    let schema = with_endpoint(&what.schema());
    let (evaluator, shown) = (evaluator.clone(), schema.clone());
    Made::rows(schema, Some(what.time()), move |range| {
        let (evaluator, schema) = (evaluator.clone(), shown.clone());
        Box::pin(async move {
            let endpoints = stream::iter(evaluator.endpoints());
            // One endpoint after the other: as much is held as of a single one.
            let all = endpoints
                .then(move |endpoint| of_endpoint(evaluator.clone(), endpoint, what, range, schema.clone()))
                .try_flatten();
            Ok(all.boxed())
        })
    })
}

fn with_endpoint(schema: &Schema) -> SchemaRef {
    let endpoint = Arc::new(Field::new("endpoint", DataType::Utf8, false));
    let fields = std::iter::once(endpoint).chain(schema.fields().iter().cloned());
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

async fn of_endpoint(
    evaluator: Evaluator,
    endpoint: EndpointName,
    what: LogTable,
    range: (Timestamp, Timestamp),
    schema: SchemaRef,
) -> Result<Batches, Fault> {
    let read = evaluator.log_rows(&endpoint, what, range).await.map_err(fault)?;
    let named = move |batch: RecordBatch| {
        let names: ArrayRef =
            Arc::new(StringArray::from_iter_values(std::iter::repeat_n(endpoint.as_str(), batch.num_rows())));
        let columns = std::iter::once(names).chain(batch.columns().iter().cloned()).collect();
        RecordBatch::try_new(schema.clone(), columns).map_err(broken)
    };
    Ok(read.map(move |batch| batch.map_err(fault).and_then(&named)).boxed())
}
