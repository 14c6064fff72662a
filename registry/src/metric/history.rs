//! Reading series back: whole, page by page, or of several runs at once.

use std::cmp::Ordering;

use domain::{RunId, Timestamp};
use storage::TimeRange;

use super::{
    MetricPoint,
    columns::{self, Point, Series},
};
use crate::{
    Registry, RegistryError,
    query::{KEYS_AT_ONCE, Page, Statement},
    run,
};

/// A point and the run that logged it.
#[derive(Debug, Clone, PartialEq)]
pub struct RunPoint {
    pub run: RunId,
    pub point: MetricPoint,
}

impl Registry {
    /// All points of a metric by step, then time, then value. Empty for a metric never logged.
    ///
    /// # Errors
    /// An unknown run.
    pub async fn metric_history(&self, run: &RunId, key: &str) -> Result<Vec<MetricPoint>, RegistryError> {
        Ok(self.metric_page(run, key, usize::MAX, "").await?.items)
    }

    /// The points that follow those of the page before, at most `limit`; `token` is empty for the first page. Points
    /// that arrive between two pages come in the later one if they belong there, and none comes twice.
    ///
    /// # Errors
    /// An unknown run, or a token that is not one.
    pub async fn metric_page(
        &self,
        run: &RunId,
        key: &str,
        limit: usize,
        token: &str,
    ) -> Result<Page<MetricPoint>, RegistryError> {
        let after = if token.is_empty() { None } else { Some(read_token(token)?) };
        let key = key.to_owned();
        self.one_series(run, &key.clone(), move |mut points| {
            if let Some(after) = after {
                let passed = points.partition_point(|point| point.place(&after) != Ordering::Greater);
                points.drain(..passed);
            }
            let more = points.len() > limit;
            points.truncate(limit);
            let next = points.last().filter(|_| more).map(token_of);
            Page { items: points.into_iter().map(|point| point.named(&key)).collect(), next }
        })
        .await
    }

    /// Points of one metric of several runs, run after run, each run's in order; `limit` of them at most. Runs that
    /// do not exist have none.
    pub async fn metric_histories(
        &self,
        runs: &[RunId],
        key: &str,
        limit: usize,
    ) -> Result<Vec<RunPoint>, RegistryError> {
        let found = self.series(runs, key, |found| found).await?;
        let points = found.into_iter().flat_map(|(run, points)| points.into_iter().map(move |point| (run, point)));
        Ok(points.take(limit).map(|(run, point)| RunPoint { run, point: point.named(key) }).collect())
    }

    /// Computes something of all points of a metric of a run that must exist.
    pub(super) async fn one_series<T: Send + 'static>(
        &self,
        run: &RunId,
        key: &str,
        compute: impl FnOnce(Vec<Point>) -> T + Send + 'static,
    ) -> Result<T, RegistryError> {
        let mut conn = self.meta().reader().acquire().await?;
        run::require(&mut conn, run).await?;
        drop(conn);
        let first = |found: Vec<(RunId, Vec<Point>)>| found.into_iter().next().map(|(_, points)| points);
        self.series(&[*run], key, move |found| compute(first(found).unwrap_or_default())).await
    }

    /// Computes something of all points of a metric of some runs, away from the threads that wait. Runs without
    /// points are left out; the order is that asked for.
    pub(super) async fn series<T: Send + 'static>(
        &self,
        runs: &[RunId],
        key: &str,
        compute: impl FnOnce(Vec<(RunId, Vec<Point>)>) -> T + Send + 'static,
    ) -> Result<T, RegistryError> {
        let (mut known, mut series) = (Vec::new(), Vec::new());
        for (run, one) in self.extents(runs, key).await? {
            known.push(run);
            series.push(one);
        }
        let first = series.iter().map(|one| one.first_at).min();
        let last = series.iter().map(|one| one.last_at).max();
        let Some((from, to)) = first.zip(last) else { return Ok(compute(Vec::new())) };
        let [from, to] = [from, to].map(Timestamp::from_micros);
        let batches = self.points().scan(Some(TimeRange { column: "at".into(), from, to })).await?;
        let key = key.to_owned();
        let computed = tokio::task::spawn_blocking(move || {
            let found = columns::select(&batches, &key, &series)?;
            Ok::<T, RegistryError>(compute(known.into_iter().zip(found).collect()))
        });
        computed.await.map_err(RegistryError::damaged("metric history"))?
    }

    /// From when to when each run logged this metric. Points outside were never acknowledged.
    async fn extents(&self, runs: &[RunId], key: &str) -> Result<Vec<(RunId, Series)>, RegistryError> {
        let mut found = Vec::new();
        for chunk in runs.chunks(KEYS_AT_ONCE) {
            let mut statement =
                Statement::new("SELECT run, first_at, last_at FROM registry_latest_metrics WHERE key = ");
            statement.bind(key).push(" AND run IN (").bind_all(chunk.iter().map(RunId::to_string)).push(")");
            let rows: Vec<(String, i64, i64)> = statement.query_as().fetch_all(self.meta().reader()).await?;
            for run in chunk {
                let id = run.to_string();
                let row = rows.iter().find(|(known, ..)| *known == id);
                found.extend(
                    row.map(|(_, first_at, last_at)| {
                        (*run, Series { run: id, first_at: *first_at, last_at: *last_at })
                    }),
                );
            }
        }
        Ok(found)
    }
}

/// The place of the last point of a page.
fn token_of(point: &Point) -> String {
    format!("{:016x}{:016x}{:016x}", point.step, point.at, point.value.to_bits())
}

fn read_token(token: &str) -> Result<Point, RegistryError> {
    let refuse = || {
        let shown: String = token.chars().take(60).collect();
        let hint = "send the `next_page_token` of the page before as it came";
        RegistryError::invalid(format!("page token {shown:?}"), "is not one of this listing", hint)
    };
    if token.len() != 48 || !token.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(refuse());
    }
    let part = |from: usize| u64::from_str_radix(&token[from..from + 16], 16).map_err(|_| refuse());
    let (step, at, value) = (part(0)?, part(16)?, part(32)?);
    Ok(Point { step: step.cast_signed(), at: at.cast_signed(), value: f64::from_bits(value) })
}
