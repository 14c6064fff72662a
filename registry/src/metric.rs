//! Metric points: every one in a columnar table, the newest of each key in SQL beside its run.

use std::{collections::HashSet, sync::Arc};

use domain::{Column, Frame, RunId, Timestamp};
use serde::{Deserialize, Serialize};
use storage::{TimeRange, from_batches, to_batch};

use crate::{Registry, RegistryError, check, number, row, run};

/// One value of one metric. Run, key, step, time and value together identify a point: logging it again adds nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MetricPoint {
    pub key: String,
    /// Any float; `NaN` and infinities travel as texts.
    #[serde(with = "number")]
    pub value: f64,
    /// Epoch, batch or whatever the run counts; may be negative.
    #[serde(default)]
    pub step: i64,
    pub at: Timestamp,
}

impl Registry {
    /// Logs points of a run, finished or not. Durable when it returns. The newest point of a key is the one with
    /// the greatest step, then time, then value (NaN counts as least), in whatever order they come.
    ///
    /// # Errors
    /// An unknown run or a bad key; then nothing is logged.
    pub async fn log_metrics(&self, run: &RunId, points: Vec<MetricPoint>) -> Result<(), RegistryError> {
        for point in &points {
            check::text("metric", &point.key, 1)?;
        }
        let mut conn = self.meta().reader().acquire().await.map_err(RegistryError::from)?;
        run::require(&mut conn, run).await?;
        drop(conn);
        if points.is_empty() {
            return Ok(());
        }
        // History first: a newest value without its history would be a claim without proof.
        self.points().append(to_batch(&columns(run, &points)?)?).await?;
        let mut tx = self.begin().await?;
        for point in &points {
            sqlx::query(
                "INSERT INTO registry_latest_metrics AS known (run, key, value, step, at, first_at, last_at)
                 VALUES ($1, $2, $3, $4, $5, $5, $5)
                 ON CONFLICT (run, key) DO UPDATE SET
                     first_at = CASE WHEN excluded.at < known.first_at THEN excluded.at ELSE known.first_at END,
                     last_at = CASE WHEN excluded.at > known.last_at THEN excluded.at ELSE known.last_at END,
                     value = CASE WHEN (excluded.step, excluded.at) > (known.step, known.at)
                         OR ((excluded.step, excluded.at) = (known.step, known.at)
                             AND (known.value IS NULL OR excluded.value > known.value))
                         THEN excluded.value ELSE known.value END,
                     at = CASE WHEN (excluded.step, excluded.at) > (known.step, known.at)
                         THEN excluded.at ELSE known.at END,
                     step = CASE WHEN excluded.step > known.step THEN excluded.step ELSE known.step END",
            )
            .bind(run.to_string())
            .bind(&point.key)
            .bind(row::float(point.value))
            .bind(point.step)
            .bind(point.at.micros())
            .execute(tx.conn())
            .await?;
        }
        Ok(tx.commit().await?)
    }

    /// All points of a metric by step, then time; of equals, in the order logged. Empty for a metric never logged.
    ///
    /// # Errors
    /// An unknown run.
    pub async fn metric_history(&self, run: &RunId, key: &str) -> Result<Vec<MetricPoint>, RegistryError> {
        let mut conn = self.meta().reader().acquire().await.map_err(RegistryError::from)?;
        run::require(&mut conn, run).await?;
        let extent: Option<(i64, i64)> =
            sqlx::query_as("SELECT first_at, last_at FROM registry_latest_metrics WHERE run = $1 AND key = $2")
                .bind(run.to_string())
                .bind(key)
                .fetch_optional(&mut *conn)
                .await?;
        drop(conn);
        let Some((from, to)) = extent.map(|(a, b)| (Timestamp::from_micros(a), Timestamp::from_micros(b))) else {
            return Ok(Vec::new());
        };
        let points = self.points().clone();
        let batches = points.scan(Some(TimeRange { column: "at".into(), from, to })).await?;
        let (run, key) = (run.to_string(), key.to_owned());
        let filtered = tokio::task::spawn_blocking(move || {
            let frame = from_batches(points.schema(), &batches)?;
            select(&frame, &run, &key)
        });
        filtered.await.map_err(RegistryError::damaged("metric history"))?
    }
}

fn columns(run: &RunId, points: &[MetricPoint]) -> Result<Frame, RegistryError> {
    let id: Arc<str> = run.to_string().into();
    let columns: [(&str, Column); 5] = [
        ("run", Column::Text(vec![Some(id); points.len()])),
        ("key", Column::Text(points.iter().map(|point| Some(point.key.as_str().into())).collect())),
        ("value", Column::Float(points.iter().map(|point| Some(point.value)).collect())),
        ("step", Column::Int(points.iter().map(|point| Some(point.step)).collect())),
        ("at", Column::Timestamp(points.iter().map(|point| Some(point.at)).collect())),
    ];
    let columns = columns.into_iter().map(|(name, column)| (name.into(), column));
    Ok(Frame::new(columns).map_err(storage::StorageError::from)?)
}

/// The points of one metric of one run, each once.
fn select(frame: &Frame, run: &str, key: &str) -> Result<Vec<MetricPoint>, RegistryError> {
    use Column as C;
    let column = |name: &str| frame.require(name).map_err(storage::StorageError::from);
    let (runs, keys, values, steps, times) =
        (column("run")?, column("key")?, column("value")?, column("step")?, column("at")?);
    let (C::Text(runs), C::Text(keys), C::Float(values), C::Int(steps), C::Timestamp(times)) =
        (runs, keys, values, steps, times)
    else {
        return Err(RegistryError::Damaged { what: "metric history", detail: "columns of other types".into() });
    };
    let mut seen = HashSet::new();
    let mut found = Vec::new();
    for row in 0..frame.rows() {
        let (Some(its_run), Some(its_key)) = (&runs[row], &keys[row]) else { continue };
        let (Some(value), Some(step), Some(at)) = (values[row], steps[row], times[row]) else { continue };
        if **its_run == *run && **its_key == *key && seen.insert((step, at, value.to_bits())) {
            found.push(MetricPoint { key: key.to_owned(), value, step, at });
        }
    }
    found.sort_by_key(|point| (point.step, point.at));
    Ok(found)
}
