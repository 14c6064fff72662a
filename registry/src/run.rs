//! Runs: what was tried, with which parameters, on which data, and how it ended.

use std::collections::BTreeMap;

use domain::{
    Digest, EventKind, NewEvent, RunId, Timestamp,
    state::{RunEvent, RunState},
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use storage::{Tx, sql::Conn};

use crate::{Registry, RegistryError, check, dataset, experiment, number, row};

/// The data a run reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatasetRef {
    pub digest: Digest,
}

impl From<Digest> for DatasetRef {
    fn from(digest: Digest) -> Self {
        Self { digest }
    }
}

/// A run about to start.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewRun {
    /// Created if it does not exist; 1 to 250 characters.
    pub experiment: String,
    /// For people; need not be unique.
    pub name: String,
    pub params: BTreeMap<String, String>,
    pub tags: BTreeMap<String, String>,
    pub dataset: Option<DatasetRef>,
    /// Version of the code that runs.
    pub code_version: String,
    /// Libraries, seeds, machine.
    pub environment: BTreeMap<String, String>,
    /// Number of the journal's event that led to this run.
    pub cause: Option<u64>,
}

/// A run as it stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    pub id: RunId,
    pub experiment: String,
    pub name: String,
    pub state: RunState,
    pub params: BTreeMap<String, String>,
    pub tags: BTreeMap<String, String>,
    /// The newest point of each metric; `NaN` and infinities travel as texts.
    #[serde(with = "number::map")]
    pub metrics: BTreeMap<String, f64>,
    pub dataset: Option<DatasetRef>,
    pub code_version: String,
    pub environment: BTreeMap<String, String>,
    pub cause: Option<u64>,
    pub started_at: Timestamp,
    pub ended_at: Option<Timestamp>,
}

/// Which runs to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunFilter {
    /// `None`: of all experiments.
    pub experiment: Option<String>,
    /// At most this many, newest first; 0: 100.
    pub limit: usize,
}

const RUNS_SHOWN: usize = 100;

impl Registry {
    /// Starts a run. Durable when it returns.
    ///
    /// # Errors
    /// Bad names, or a dataset that is not recorded.
    pub async fn start_run(&self, new: NewRun) -> Result<Run, RegistryError> {
        check::text("experiment", &new.experiment, 1)?;
        check::text("run name", &new.name, 0)?;
        check::pairs("parameter", &new.params)?;
        check::pairs("tag", &new.tags)?;
        check::pairs("environment entry", &new.environment)?;
        let (id, now) = (RunId::mint(), self.now());
        let mut tx = self.begin().await?;
        if let Some(dataset) = new.dataset {
            dataset::require(tx.conn(), &dataset.digest).await?;
        }
        let (experiment, location) = experiment::ensure(&mut tx, &new.experiment, now).await?;
        sqlx::query(
            "INSERT INTO registry_runs
                 (id, experiment, name, user_id, state, artifact_uri, dataset, code_version, environment, cause, started_at)
             VALUES ($1, $2, $3, '', $4, $5, $6, $7, $8, $9, $10)",
        )
        .bind(id.to_string())
        .bind(experiment)
        .bind(&new.name)
        .bind(RunState::Running.as_str())
        .bind(format!("{location}/{id}/artifacts"))
        .bind(new.dataset.map(|dataset| dataset.digest.to_string()))
        .bind(&new.code_version)
        .bind(row::to_json(&new.environment))
        .bind(new.cause.map(row::count))
        .bind(now.micros())
        .execute(tx.conn())
        .await?;
        add_params(tx.conn(), &id, &new.params).await?;
        add_tags(tx.conn(), &id, &new.tags).await?;
        let body = json!({"experiment": new.experiment, "name": new.name, "dataset": new.dataset.map(|d| d.digest)});
        note(&mut tx, now, EventKind::RunStarted, &id, new.cause, body).await?;
        tx.commit().await?;
        let NewRun { experiment, name, params, tags, dataset, code_version, environment, cause } = new;
        Ok(Run {
            id,
            experiment,
            name,
            state: RunState::Running,
            params,
            tags,
            metrics: BTreeMap::new(),
            dataset,
            code_version,
            environment,
            cause,
            started_at: now,
            ended_at: None,
        })
    }

    /// Adds parameters. Saying the same again is fine; saying something else is refused, and then nothing is added.
    pub async fn log_params(&self, run: &RunId, params: BTreeMap<String, String>) -> Result<(), RegistryError> {
        check::pairs("parameter", &params)?;
        let mut tx = self.begin().await?;
        require(tx.conn(), run).await?;
        add_params(tx.conn(), run, &params).await?;
        Ok(tx.commit().await?)
    }

    /// Sets tags; those that exist are replaced.
    pub async fn set_tags(&self, run: &RunId, tags: BTreeMap<String, String>) -> Result<(), RegistryError> {
        check::pairs("tag", &tags)?;
        let mut tx = self.begin().await?;
        require(tx.conn(), run).await?;
        add_tags(tx.conn(), run, &tags).await?;
        Ok(tx.commit().await?)
    }

    /// Ends a run and gives it as it then stands. Ending it again in the same way changes nothing.
    ///
    /// # Errors
    /// An unknown run, or one that ended in another way.
    pub async fn finish_run(&self, run: &RunId, event: RunEvent) -> Result<Run, RegistryError> {
        let now = self.now();
        let mut tx = self.begin().await?;
        let before = require(tx.conn(), run).await?;
        let wanted = RunState::Running.next(event)?;
        if before != wanted {
            let after = before.next(event)?;
            sqlx::query("UPDATE registry_runs SET state = $2, ended_at = $3 WHERE id = $1")
                .bind(run.to_string())
                .bind(after.as_str())
                .bind(now.micros())
                .execute(tx.conn())
                .await?;
            let cause: Option<i64> = sqlx::query_scalar("SELECT cause FROM registry_runs WHERE id = $1")
                .bind(run.to_string())
                .fetch_one(tx.conn())
                .await?;
            let cause = cause.map(|cause| row::uncount(cause, "cause")).transpose()?;
            note(&mut tx, now, EventKind::RunFinished, run, cause, json!({"state": after})).await?;
            tx.commit().await?;
        }
        self.run(run).await
    }

    /// One run.
    pub async fn run(&self, run: &RunId) -> Result<Run, RegistryError> {
        let mut tx = self.meta().reader().begin().await?;
        let found = sqlx::query_as::<_, Row>(
            "SELECT r.id, e.name AS experiment, r.name, r.state, r.dataset, r.code_version, r.environment, r.cause,
                 r.started_at, r.ended_at
             FROM registry_runs r JOIN registry_experiments e ON e.id = r.experiment WHERE r.id = $1",
        )
        .bind(run.to_string())
        .fetch_optional(&mut *tx)
        .await?;
        let mut found = found.ok_or(RegistryError::NoSuchRun(*run))?.read()?;
        let id = run.to_string();
        let params = "SELECT run, key, value FROM registry_params WHERE run = $1";
        let tags = "SELECT run, key, value FROM registry_tags WHERE run = $1";
        let metrics = "SELECT run, key, value FROM registry_latest_metrics WHERE run = $1";
        found.params = texts(sqlx::query_as(params).bind(&id).fetch_all(&mut *tx).await?);
        found.tags = texts(sqlx::query_as(tags).bind(&id).fetch_all(&mut *tx).await?);
        found.metrics = numbers(sqlx::query_as(metrics).bind(&id).fetch_all(&mut *tx).await?);
        Ok(found)
    }

    /// Runs, newest first.
    pub async fn runs(&self, filter: RunFilter) -> Result<Vec<Run>, RegistryError> {
        let limit = i64::try_from(if filter.limit == 0 { RUNS_SHOWN } else { filter.limit }).unwrap_or(i64::MAX);
        let mut tx = self.meta().reader().begin().await?;
        let experiment = filter.experiment.as_deref();
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT r.id, e.name AS experiment, r.name, r.state, r.dataset, r.code_version, r.environment, r.cause,
                 r.started_at, r.ended_at
             FROM registry_runs r JOIN registry_experiments e ON e.id = r.experiment
             WHERE $1 IS NULL OR e.name = $1 ORDER BY r.id DESC LIMIT $2",
        )
        .bind(experiment)
        .bind(limit)
        .fetch_all(&mut *tx)
        .await?;
        let mut runs: Vec<Run> = rows.into_iter().map(Row::read).collect::<Result<_, _>>()?;
        let params: Vec<(String, String, String)> = sqlx::query_as(
            "SELECT run, key, value FROM registry_params WHERE run IN (
                 SELECT r.id FROM registry_runs r JOIN registry_experiments e ON e.id = r.experiment
                 WHERE $1 IS NULL OR e.name = $1 ORDER BY r.id DESC LIMIT $2)",
        )
        .bind(experiment)
        .bind(limit)
        .fetch_all(&mut *tx)
        .await?;
        let tags: Vec<(String, String, String)> = sqlx::query_as(
            "SELECT run, key, value FROM registry_tags WHERE run IN (
                 SELECT r.id FROM registry_runs r JOIN registry_experiments e ON e.id = r.experiment
                 WHERE $1 IS NULL OR e.name = $1 ORDER BY r.id DESC LIMIT $2)",
        )
        .bind(experiment)
        .bind(limit)
        .fetch_all(&mut *tx)
        .await?;
        let metrics: Vec<(String, String, Option<f64>)> = sqlx::query_as(
            "SELECT run, key, value FROM registry_latest_metrics WHERE run IN (
                 SELECT r.id FROM registry_runs r JOIN registry_experiments e ON e.id = r.experiment
                 WHERE $1 IS NULL OR e.name = $1 ORDER BY r.id DESC LIMIT $2)",
        )
        .bind(experiment)
        .bind(limit)
        .fetch_all(&mut *tx)
        .await?;
        let (mut params, mut tags, mut metrics) = (by_run(params), by_run(tags), by_run(metrics));
        for run in &mut runs {
            let id = run.id.to_string();
            run.params = texts(params.remove(&id).unwrap_or_default());
            run.tags = texts(tags.remove(&id).unwrap_or_default());
            run.metrics = numbers(metrics.remove(&id).unwrap_or_default());
        }
        Ok(runs)
    }
}

/// (run, key, value)
type Pair<T> = (String, String, T);

fn by_run<T>(rows: Vec<Pair<T>>) -> BTreeMap<String, Vec<Pair<T>>> {
    let mut map: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for row in rows {
        map.entry(row.0.clone()).or_default().push(row);
    }
    map
}

fn texts(rows: Vec<Pair<String>>) -> BTreeMap<String, String> {
    rows.into_iter().map(|(_, key, value)| (key, value)).collect()
}

fn numbers(rows: Vec<Pair<Option<f64>>>) -> BTreeMap<String, f64> {
    rows.into_iter().map(|(_, key, value)| (key, value.unwrap_or(f64::NAN))).collect()
}

/// A run's own row.
#[derive(sqlx::FromRow)]
struct Row {
    id: String,
    experiment: String,
    name: String,
    state: String,
    dataset: Option<String>,
    code_version: String,
    environment: String,
    cause: Option<i64>,
    started_at: i64,
    ended_at: Option<i64>,
}

impl Row {
    fn read(self) -> Result<Run, RegistryError> {
        let dataset: Option<Digest> = self.dataset.map(|text| row::parse(&text, "run")).transpose()?;
        Ok(Run {
            id: row::parse(&self.id, "run")?,
            experiment: self.experiment,
            name: self.name,
            state: state(&self.state)?,
            params: BTreeMap::new(),
            tags: BTreeMap::new(),
            metrics: BTreeMap::new(),
            dataset: dataset.map(DatasetRef::from),
            code_version: self.code_version,
            environment: row::from_json(&self.environment, "run")?,
            cause: self.cause.map(|cause| row::uncount(cause, "cause")).transpose()?,
            started_at: Timestamp::from_micros(self.started_at),
            ended_at: self.ended_at.map(Timestamp::from_micros),
        })
    }
}

fn state(text: &str) -> Result<RunState, RegistryError> {
    RunState::parse(text).ok_or_else(|| RegistryError::Damaged { what: "run", detail: format!("state `{text}`") })
}

/// The state of a run that must exist.
pub(crate) async fn require(conn: &mut Conn, run: &RunId) -> Result<RunState, RegistryError> {
    let found: Option<String> = sqlx::query_scalar("SELECT state FROM registry_runs WHERE id = $1")
        .bind(run.to_string())
        .fetch_optional(conn)
        .await?;
    state(&found.ok_or(RegistryError::NoSuchRun(*run))?)
}

async fn add_params(
    conn: &mut Conn,
    run: &RunId,
    params: &BTreeMap<String, String>,
) -> Result<(), RegistryError> {
    for (key, value) in params {
        // The update changes nothing, but makes the row come back.
        let stored: String = sqlx::query_scalar(
            "INSERT INTO registry_params (run, key, value) VALUES ($1, $2, $3)
             ON CONFLICT (run, key) DO UPDATE SET key = excluded.key RETURNING value",
        )
        .bind(run.to_string())
        .bind(key)
        .bind(value)
        .fetch_one(&mut *conn)
        .await?;
        if stored != *value {
            return Err(RegistryError::ParamChanged { run: *run, key: key.clone(), found: stored });
        }
    }
    Ok(())
}

async fn add_tags(
    conn: &mut Conn,
    run: &RunId,
    tags: &BTreeMap<String, String>,
) -> Result<(), RegistryError> {
    for (key, value) in tags {
        sqlx::query(
            "INSERT INTO registry_tags (run, key, value) VALUES ($1, $2, $3)
             ON CONFLICT (run, key) DO UPDATE SET value = excluded.value",
        )
        .bind(run.to_string())
        .bind(key)
        .bind(value)
        .execute(&mut *conn)
        .await?;
    }
    Ok(())
}

async fn note(
    tx: &mut Tx,
    at: Timestamp,
    kind: EventKind,
    run: &RunId,
    cause: Option<u64>,
    body: serde_json::Value,
) -> Result<u64, RegistryError> {
    let event = NewEvent { at, kind, subject: format!("run/{run}"), actor: crate::ACTOR.into(), cause, body };
    Ok(tx.append(event).await?)
}
