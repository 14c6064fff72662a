//! The one place where an Arrow table becomes the feature store's question and its answer Arrow again.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, RecordBatch, RecordBatchOptions},
    datatypes::{DataType, Field, Schema},
};
use domain::{ErrorCode, Frame, Timestamp};
use feature_store::{FeatureStore, Selection};

use super::table;
use crate::feast::{Class, Refusal};

/// What Feast calls the event time of a spine.
const EVENT_TIME: &str = "event_timestamp";

/// The spine's event time: the column of that name, or the only one that holds times.
///
/// # Errors
/// There is none, or several.
pub fn time_column(schema: &Schema) -> Result<&str, Refusal> {
    if schema.field_with_name(EVENT_TIME).is_ok() {
        return Ok(EVENT_TIME);
    }
    let times = schema.fields().iter().filter(|field| matches!(field.data_type(), DataType::Timestamp(..)));
    match times.map(|field| field.name().as_str()).collect::<Vec<_>>()[..] {
        [only] => Ok(only),
        ref several => Err(Refusal::unfit(
            Class::TimestampNotInferred,
            format!("name the column of event times `{EVENT_TIME}`: {} columns hold times", several.len()),
        )),
    }
}

/// The spine as it came, with a column for each chosen feature behind its own, called by `names` in the selection's
/// order. Rows keep their order; a row without a key or without a time finds nothing.
///
/// # Errors
/// A key that is missing or does not fit, no event time, a name that the spine has already, and what the feature
/// store says.
pub async fn join(
    features: &FeatureStore,
    selection: &Selection,
    spine: &RecordBatch,
    names: &[String],
) -> Result<RecordBatch, Refusal> {
    join_at(features, selection, spine, time_column(spine.schema_ref())?, names).await
}

/// The same where the spine's event time is known.
///
/// # Errors
/// As there.
pub async fn join_at(
    features: &FeatureStore,
    selection: &Selection,
    spine: &RecordBatch,
    time: &str,
    names: &[String],
) -> Result<RecordBatch, Refusal> {
    let at = table::instants(time, table::find(spine, time)?)?;
    // Before all rows there is nothing to be found.
    let at: Vec<Timestamp> = at.into_iter().map(|at| at.unwrap_or(Timestamp::MIN)).collect();
    let mut keys = Frame::of_rows(spine.num_rows());
    for key in &selection.schema().keys {
        let column = table::column(&key.name, table::find(spine, &key.name)?, key.kind)?;
        keys.add(key.name.clone(), column).map_err(feature_store::FeatureError::from)?;
    }
    let found = features.historical_selected(selection, &keys, &at).await?;
    let answer = storage::to_batch(&found.features).map_err(|e| internal(&e))?;

    let schema = spine.schema();
    let mut fields: Vec<_> = schema.fields().iter().cloned().collect();
    for (name, field) in names.iter().zip(answer.schema_ref().fields()) {
        if fields.iter().any(|known| known.name() == name) {
            let message = format!("the table has a column `{name}` already: rename it, or ask for full_feature_names");
            return Err(Refusal::unfit(Class::NameCollision, message));
        }
        fields.push(Arc::new(Field::new(name, field.data_type().clone(), true)));
    }
    let columns: Vec<ArrayRef> = spine.columns().iter().chain(answer.columns()).cloned().collect();
    // What pandas needs to know of its index and types stands in the schema's metadata.
    let schema = Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()));
    let options = RecordBatchOptions::new().with_row_count(Some(spine.num_rows()));
    RecordBatch::try_new_with_options(schema, columns, &options).map_err(|e| internal(&e))
}

fn internal(error: &dyn std::error::Error) -> Refusal {
    Refusal::new(ErrorCode::Internal, Class::General, format!("could not write the answer: {error}"))
}
