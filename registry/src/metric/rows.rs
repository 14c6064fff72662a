//! Every metric point as a table.

use std::collections::HashMap;

use arrow::{
    array::{AsArray as _, BooleanArray, RecordBatch},
    compute::filter_record_batch,
    datatypes::{SchemaRef, TimestampMicrosecondType},
};
use domain::Timestamp;
use futures::{StreamExt as _, stream::BoxStream};
use storage::{TimeRange, schema_of};

use crate::{Registry, RegistryError, schema};

impl Registry {
    /// Columns and types of [`Registry::metric_rows`]: `run`, `key`, `value`, `step`, `at`.
    #[must_use]
    pub fn metric_rows_schema() -> SchemaRef {
        schema_of(&schema::point_fields())
    }

    /// The points of all runs with a time from `from` to `to`, both included, in order of logging. A point that was logged
    /// twice stands there twice.
    ///
    /// # Errors
    /// What storage says.
    pub async fn metric_rows(
        &self,
        (from, to): (Timestamp, Timestamp),
    ) -> Result<BoxStream<'static, Result<RecordBatch, RegistryError>>, RegistryError> {
        let known: Vec<(String, String, i64, i64)> =
            sqlx::query_as("SELECT run, key, first_at, last_at FROM registry_latest_metrics")
                .fetch_all(self.meta().reader())
                .await?;
        let mut extents: HashMap<String, HashMap<String, (i64, i64)>> = HashMap::new();
        for (run, key, first, last) in known {
            extents.entry(run).or_default().insert(key, (first, last));
        }
        let points = self.points().stream(Some(TimeRange { column: "at".into(), from, to }))?;
        Ok(points.map(move |batch| acknowledged(&batch?, &extents)).boxed())
    }
}

/// Without the points that a call logged and never answered for.
fn acknowledged(
    batch: &RecordBatch,
    extents: &HashMap<String, HashMap<String, (i64, i64)>>,
) -> Result<RecordBatch, RegistryError> {
    let texts = |at: usize| batch.column(at).as_string_opt::<i32>().ok_or_else(|| damaged("columns of other types"));
    let (runs, keys) = (texts(0)?, texts(1)?);
    let times = batch.column(4).as_primitive_opt::<TimestampMicrosecondType>();
    let times = times.ok_or_else(|| damaged("columns of other types"))?;
    let told = |row: usize| {
        let extent = extents.get(runs.value(row)).and_then(|keys_of| keys_of.get(keys.value(row)));
        extent.is_some_and(|(first, last)| (*first..=*last).contains(&times.value(row)))
    };
    let mask: BooleanArray = (0..batch.num_rows()).map(|row| Some(told(row))).collect();
    filter_record_batch(batch, &mask).map_err(|error| damaged(&error.to_string()))
}

fn damaged(detail: &str) -> RegistryError {
    RegistryError::Damaged { what: "metric history", detail: detail.to_owned() }
}
