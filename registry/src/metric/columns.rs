//! Metric points as Arrow columns: what is appended, and what of it belongs to a series.

use std::{cmp::Ordering, collections::HashMap, sync::Arc};

use arrow::{
    array::{
        Array as _, AsArray as _, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray,
        TimestampMicrosecondArray,
    },
    compute::{and, kernels::cmp::eq, prep_null_mask_filter},
    datatypes::{Float64Type, Int64Type, SchemaRef, TimestampMicrosecondType},
    error::ArrowError,
};
use domain::{RunId, Timestamp};

use super::{MetricEntry, MetricPoint};
use crate::{RegistryError, schema};

/// A point of a series whose run and key are known.
#[derive(Debug, Clone, Copy)]
pub(super) struct Point {
    pub step: i64,
    /// Microseconds.
    pub at: i64,
    pub value: f64,
}

impl Point {
    /// By step, then time, then value: every point has its place, also NaN.
    pub(super) fn place(&self, other: &Self) -> Ordering {
        (self.step, self.at).cmp(&(other.step, other.at)).then_with(|| self.value.total_cmp(&other.value))
    }

    pub(super) fn named(self, key: &str) -> MetricPoint {
        let Self { step, at, value } = self;
        MetricPoint { key: key.to_owned(), value, step, at: Timestamp::from_micros(at) }
    }
}

/// A series to select: the points of a run between two instants, both included.
#[derive(Debug, Clone)]
pub(super) struct Series {
    pub run: String,
    pub first_at: i64,
    pub last_at: i64,
}

/// The points as rows of the table of points.
pub(crate) fn batch(schema: &SchemaRef, run: &RunId, entries: &[MetricEntry]) -> Result<RecordBatch, RegistryError> {
    let run = run.to_string();
    let points = || entries.iter().map(|entry| &entry.point);
    let at = TimestampMicrosecondArray::from_iter_values(points().map(|point| point.at.micros()));
    let columns: Vec<arrow::array::ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(points().map(|_| run.as_str()))),
        Arc::new(StringArray::from_iter_values(points().map(|point| point.key.as_str()))),
        Arc::new(Float64Array::from_iter_values(points().map(|point| point.value))),
        Arc::new(Int64Array::from_iter_values(points().map(|point| point.step))),
        Arc::new(at.with_timezone("UTC")),
    ];
    RecordBatch::try_new(schema.clone(), columns).map_err(damaged)
}

/// The points of one metric, series by series, each point once and in its place.
pub(super) fn select(batches: &[RecordBatch], key: &str, series: &[Series]) -> Result<Vec<Vec<Point>>, RegistryError> {
    let mut found: Vec<Vec<Point>> = vec![Vec::new(); series.len()];
    let index: HashMap<&str, usize> = series.iter().enumerate().map(|(i, one)| (one.run.as_str(), i)).collect();
    for batch in batches {
        let column = |name: &str| {
            batch.column_by_name(name).ok_or_else(|| damaged(ArrowError::SchemaError(format!("no column `{name}`"))))
        };
        let [run_column, key_column, value, step, at] = schema::POINT_COLUMNS;
        let (runs, keys) = (column(run_column)?.as_string::<i32>(), column(key_column)?.as_string::<i32>());
        let values = column(value)?.as_primitive::<Float64Type>();
        let steps = column(step)?.as_primitive::<Int64Type>();
        let times = column(at)?.as_primitive::<TimestampMicrosecondType>();
        let mut wanted = matching(keys, key)?;
        if let [only] = series {
            wanted = and(&wanted, &matching(runs, &only.run)?).map_err(damaged)?;
        }
        // The run of the row before: series mostly come in stretches.
        let mut last: Option<(&str, Option<usize>)> = None;
        for row in wanted.values().set_indices() {
            if values.is_null(row) || steps.is_null(row) || times.is_null(row) || runs.is_null(row) {
                continue;
            }
            let slot = match series {
                [_] => Some(0),
                _ => {
                    let run = runs.value(row);
                    let slot = match last {
                        Some((before, slot)) if before == run => slot,
                        _ => index.get(run).copied(),
                    };
                    last = Some((run, slot));
                    slot
                }
            };
            let Some(slot) = slot else { continue };
            let point = Point { step: steps.value(row), at: times.value(row), value: values.value(row) };
            if (series[slot].first_at..=series[slot].last_at).contains(&point.at) {
                found[slot].push(point);
            }
        }
    }
    for points in &mut found {
        // Points mostly come in order, which a stable sort finds out in one pass.
        points.sort_by(Point::place);
        points.dedup_by(|a, b| a.place(b) == Ordering::Equal);
    }
    Ok(found)
}

/// The rows whose text is this one.
fn matching(column: &StringArray, text: &str) -> Result<BooleanArray, RegistryError> {
    let mask = eq(column, &StringArray::new_scalar(text)).map_err(damaged)?;
    Ok(if mask.null_count() == 0 { mask } else { prep_null_mask_filter(&mask) })
}

fn damaged(error: ArrowError) -> RegistryError {
    RegistryError::damaged("metric history")(error)
}
