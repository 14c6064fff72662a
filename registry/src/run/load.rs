//! Whole runs by id: a handful of statements, however many runs there are.

use std::collections::{BTreeMap, HashMap};

use domain::{Digest, RunId, Timestamp};
use storage::sql::Conn;

use super::{DatasetRef, Run, TrackedRun, state};
use crate::{
    MetricPoint, RegistryError, input,
    query::{KEYS_AT_ONCE, Statement},
    row,
};

/// A run's own row.
#[derive(sqlx::FromRow)]
struct Row {
    id: String,
    experiment: String,
    experiment_id: i64,
    name: String,
    user_id: String,
    state: String,
    artifact_uri: String,
    dataset: Option<String>,
    code_version: String,
    environment: String,
    cause: Option<i64>,
    started_at: i64,
    ended_at: Option<i64>,
    deleted_at: Option<i64>,
}

impl Row {
    fn read(self) -> Result<Run, RegistryError> {
        let dataset: Option<Digest> = self.dataset.map(|text| row::parse(&text, "run")).transpose()?;
        Ok(Run {
            id: row::parse(&self.id, "run")?,
            experiment: self.experiment,
            experiment_id: self.experiment_id,
            name: self.name,
            user_id: self.user_id,
            state: state(&self.state)?,
            artifact_uri: self.artifact_uri,
            params: BTreeMap::new(),
            tags: BTreeMap::new(),
            metrics: BTreeMap::new(),
            dataset: dataset.map(DatasetRef::from),
            code_version: self.code_version,
            environment: row::from_json(&self.environment, "run")?,
            cause: self.cause.map(|cause| row::uncount(cause, "cause")).transpose()?,
            started_at: Timestamp::from_micros(self.started_at),
            ended_at: self.ended_at.map(Timestamp::from_micros),
            deleted_at: self.deleted_at.map(Timestamp::from_micros),
        })
    }
}

/// What one statement finds of runs.
const ROWS: &str =
    "SELECT r.id, e.name AS experiment, e.id AS experiment_id, r.name, r.user_id, r.state, r.artifact_uri,
        r.dataset, r.code_version, r.environment, r.cause, r.started_at, r.ended_at, r.deleted_at
    FROM registry_runs r JOIN registry_experiments e ON e.id = r.experiment WHERE r.id IN (";

/// A run that must exist, deleted or not, without its parameters, tags and metrics.
pub(super) async fn bare(conn: &mut Conn, run: &RunId) -> Result<Run, RegistryError> {
    let mut statement = Statement::new(ROWS);
    statement.bind(run.to_string()).push(")");
    let row = statement.query_as::<Row>().fetch_optional(conn).await?;
    row.ok_or(RegistryError::NoSuchRun(*run))?.read()
}

/// Runs in the order asked for; unknown ones are left out.
pub(super) async fn tracked(conn: &mut Conn, ids: &[String]) -> Result<Vec<TrackedRun>, RegistryError> {
    let mut found: HashMap<String, TrackedRun> = HashMap::with_capacity(ids.len());
    for ids in ids.chunks(KEYS_AT_ONCE) {
        load(conn, ids, &mut found).await?;
    }
    Ok(ids.iter().filter_map(|id| found.remove(id)).collect())
}

async fn load(conn: &mut Conn, ids: &[String], found: &mut HashMap<String, TrackedRun>) -> Result<(), RegistryError> {
    let of = |select: &str| {
        let mut statement = Statement::new(select);
        statement.bind_all(ids.iter().map(String::as_str)).push(")");
        statement
    };
    let rows = of(ROWS);
    for row in rows.query_as::<Row>().fetch_all(&mut *conn).await? {
        let (latest, inputs, models_read, models_made) = <_>::default();
        let id = row.id.clone();
        found.insert(id, TrackedRun { run: row.read()?, latest, inputs, models_read, models_made });
    }
    let params = of("SELECT run, key, value FROM registry_params WHERE run IN (");
    for (run, key, value) in params.query_as::<(String, String, String)>().fetch_all(&mut *conn).await? {
        if let Some(found) = found.get_mut(&run) {
            found.run.params.insert(key, value);
        }
    }
    let tags = of("SELECT run, key, value FROM registry_tags WHERE run IN (");
    for (run, key, value) in tags.query_as::<(String, String, String)>().fetch_all(&mut *conn).await? {
        if let Some(found) = found.get_mut(&run) {
            found.run.tags.insert(key, value);
        }
    }
    let mut metrics = of("SELECT run, key, value, step, at FROM registry_latest_metrics WHERE run IN (");
    metrics.push(" ORDER BY run, key");
    let metrics = metrics.query_as::<(String, String, Option<f64>, i64, i64)>().fetch_all(&mut *conn).await?;
    for (run, key, value, step, at) in metrics {
        if let Some(found) = found.get_mut(&run) {
            let value = value.unwrap_or(f64::NAN);
            found.run.metrics.insert(key.clone(), value);
            found.latest.push(MetricPoint { key, value, step, at: Timestamp::from_micros(at) });
        }
    }
    for (run, read) in input::datasets_of(conn, ids).await? {
        if let Some(found) = found.get_mut(&run) {
            found.inputs.push(read);
        }
    }
    for (run, model) in input::models_of(conn, ids).await? {
        if let Some(found) = found.get_mut(&run) {
            match model {
                input::ModelLink::Read(id) => found.models_read.push(id),
                input::ModelLink::Made(output) => found.models_made.push(output),
            }
        }
    }
    Ok(())
}
