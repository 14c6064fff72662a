//! The newest point of each key: by step, then time, then value, NaN the least.

use std::collections::BTreeMap;

use domain::RunId;
use storage::sql::Conn;

use super::{MetricEntry, MetricPoint};
use crate::{
    RegistryError,
    query::{ROWS_AT_ONCE, Statement},
    row,
};

/// What a batch says of one key.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Newest {
    value: f64,
    step: i64,
    at: i64,
    first_at: i64,
    last_at: i64,
}

impl From<&MetricPoint> for Newest {
    fn from(point: &MetricPoint) -> Self {
        let at = point.at.micros();
        Self { value: point.value, step: point.step, at, first_at: at, last_at: at }
    }
}

impl Newest {
    fn add(&mut self, point: &MetricPoint) {
        let at = point.at.micros();
        let (first_at, last_at) = (self.first_at.min(at), self.last_at.max(at));
        let (place, known) = ((point.step, at), (self.step, self.at));
        let greater = point.value > self.value || (self.value.is_nan() && !point.value.is_nan());
        if place > known || (place == known && greater) {
            *self = Self::from(point);
        }
        (self.first_at, self.last_at) = (first_at, last_at);
    }
}

/// One entry for each key, however many points it has.
pub(super) fn fold<'a, K: Ord>(points: impl IntoIterator<Item = (K, &'a MetricPoint)>) -> BTreeMap<K, Newest> {
    let mut newest = BTreeMap::new();
    for (key, point) in points {
        newest.entry(key).and_modify(|known: &mut Newest| known.add(point)).or_insert_with(|| Newest::from(point));
    }
    newest
}

/// Takes the newer value where rows of the same key meet; `known` is the row that stands.
const NEWER: &str = "value = CASE WHEN (excluded.step, excluded.at) > (known.step, known.at)
        OR ((excluded.step, excluded.at) = (known.step, known.at)
            AND (known.value IS NULL OR excluded.value > known.value))
        THEN excluded.value ELSE known.value END,
    at = CASE WHEN (excluded.step, excluded.at) > (known.step, known.at) THEN excluded.at ELSE known.at END,
    step = CASE WHEN excluded.step > known.step THEN excluded.step ELSE known.step END";

/// Brings the run's newest points up to date.
pub(crate) async fn of_run(conn: &mut Conn, run: &RunId, entries: &[MetricEntry]) -> Result<(), RegistryError> {
    let id = run.to_string();
    let newest: Vec<_> =
        fold(entries.iter().map(|entry| (entry.point.key.as_str(), &entry.point))).into_iter().collect();
    for newest in newest.chunks(ROWS_AT_ONCE) {
        let mut statement = Statement::new(
            "INSERT INTO registry_latest_metrics AS known (run, key, value, step, at, first_at, last_at) VALUES ",
        );
        for (position, (key, newest)) in newest.iter().enumerate() {
            statement.push(if position == 0 { "(" } else { ", (" });
            statement.bind_all([id.as_str(), *key]).push(", ").bind(row::float(newest.value)).push(", ");
            statement.bind_all([newest.step, newest.at, newest.first_at, newest.last_at]).push(")");
        }
        statement.push(
            " ON CONFLICT (run, key) DO UPDATE SET
                 first_at = CASE WHEN excluded.first_at < known.first_at THEN excluded.first_at ELSE known.first_at END,
                 last_at = CASE WHEN excluded.last_at > known.last_at THEN excluded.last_at ELSE known.last_at END, ",
        );
        statement.push(NEWER).query().execute(&mut *conn).await?;
    }
    Ok(())
}

/// Brings the newest points of logged models up to date, apart by the dataset they were measured on.
pub(super) async fn of_models(conn: &mut Conn, run: &RunId, entries: &[MetricEntry]) -> Result<(), RegistryError> {
    let run = run.to_string();
    let keyed = entries.iter().filter_map(|entry| {
        let key = (entry.model.as_deref()?, &*entry.point.key, &*entry.dataset_name, &*entry.dataset_digest);
        Some((key, &entry.point))
    });
    let newest: Vec<_> = fold(keyed).into_iter().collect();
    for newest in newest.chunks(ROWS_AT_ONCE) {
        let mut statement = Statement::new(
            "INSERT INTO registry_logged_model_metrics AS known
                 (model, key, dataset_name, dataset_digest, run, value, step, at) VALUES ",
        );
        for (position, ((model, key, name, digest), newest)) in newest.iter().enumerate() {
            statement.push(if position == 0 { "(" } else { ", (" });
            statement.bind_all([*model, *key, *name, *digest, run.as_str()]).push(", ");
            statement.bind(row::float(newest.value)).push(", ").bind_all([newest.step, newest.at]).push(")");
        }
        statement.push(" ON CONFLICT (model, key, dataset_name, dataset_digest, run) DO UPDATE SET ");
        statement.push(NEWER).query().execute(&mut *conn).await?;
    }
    Ok(())
}

/// Fails unless every logged model of these exists.
pub(super) async fn require_models(conn: &mut Conn, entries: &[MetricEntry]) -> Result<(), RegistryError> {
    let mut wanted: Vec<&str> = entries.iter().filter_map(|entry| entry.model.as_deref()).collect();
    wanted.sort_unstable();
    wanted.dedup();
    for wanted in wanted.chunks(ROWS_AT_ONCE) {
        let mut statement =
            Statement::new("SELECT id FROM registry_logged_models WHERE deleted_at IS NULL AND id IN (");
        statement.bind_all(wanted.iter().copied()).push(")");
        let known: Vec<(String,)> = statement.query_as().fetch_all(&mut *conn).await?;
        if let Some(missing) = wanted.iter().find(|id| known.iter().all(|(known,)| known != *id)) {
            return Err(RegistryError::NoSuch { what: "logged model", name: (*missing).to_owned() });
        }
    }
    Ok(())
}
