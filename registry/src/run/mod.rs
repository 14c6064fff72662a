//! Runs: what was tried, with which parameters, on which data, and how it ended.

mod change;
mod load;
mod start;
mod write;

use std::collections::BTreeMap;

use domain::{
    Digest, EventKind, NewEvent, RunId, Timestamp,
    state::{RunEvent, RunState},
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use storage::{Tx, sql::Conn};

use crate::{
    DatasetInput, MetricPoint, ModelOutput, Registry, RegistryError, View, experiment, number,
    query::{Page, Statement},
    row,
    search::{self, Kind, Search},
};

pub use change::RunChange;
pub(crate) use start::artifacts_of;
pub use start::{NewRun, TrackedStart};
pub(crate) use write::{add_params, add_tags, changed_param, cut_param, cut_tag};

/// The tag that always says what the run is called.
pub(crate) const NAME_TAG: &str = "mlflow.runName";
/// The tag that says who started the run.
const USER_TAG: &str = "mlflow.user";
/// The tag that says what ran.
const SOURCE_TAG: &str = "mlflow.source.name";
/// Tags that say what our own runs recorded beside their tags.
const OWN_TAGS: &str = "millpond.";

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

/// A run as it stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    pub id: RunId,
    pub experiment: String,
    pub experiment_id: i64,
    /// For people; need not be unique. The tag `mlflow.runName` says the same.
    pub name: String,
    /// Who started it; empty when nobody said.
    pub user_id: String,
    pub state: RunState,
    /// Where its files lie.
    pub artifact_uri: String,
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
    /// `None`: it is active.
    pub deleted_at: Option<Timestamp>,
}

/// A run with all that hangs on it.
#[derive(Debug, Clone, PartialEq)]
pub struct TrackedRun {
    pub run: Run,
    /// The newest point of each metric, by key.
    pub latest: Vec<MetricPoint>,
    pub inputs: Vec<DatasetInput>,
    /// Ids of the logged models it read.
    pub models_read: Vec<String>,
    /// The logged models it made.
    pub models_made: Vec<ModelOutput>,
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
    /// Ends a run and gives it as it then stands. Ending it again in the same way changes nothing.
    ///
    /// # Errors
    /// An unknown or deleted run, or one that ended in another way.
    pub async fn finish_run(&self, run: &RunId, event: RunEvent) -> Result<Run, RegistryError> {
        let now = self.now();
        let mut tx = self.begin().await?;
        let before = require_active(tx.conn(), run).await?;
        let wanted = RunState::Running.next(event)?;
        if before != wanted {
            let after = before.next(event)?;
            change::store(tx.conn(), run, after, Some(now)).await?;
            let cause = cause_of(tx.conn(), run).await?;
            note(&mut tx, now, EventKind::RunFinished, run, cause, json!({"state": after})).await?;
            tx.commit().await?;
        }
        self.run(run).await
    }

    /// One run, deleted or not.
    pub async fn run(&self, run: &RunId) -> Result<Run, RegistryError> {
        Ok(self.tracked_run(run).await?.run)
    }

    /// One run, deleted or not, with all that hangs on it.
    pub async fn tracked_run(&self, run: &RunId) -> Result<TrackedRun, RegistryError> {
        let mut tx = self.meta().reader().begin().await?;
        load::tracked(&mut tx, &[run.to_string()]).await?.pop().ok_or(RegistryError::NoSuchRun(*run))
    }

    /// Active runs, newest first.
    pub async fn runs(&self, filter: RunFilter) -> Result<Vec<Run>, RegistryError> {
        let limit = i64::try_from(if filter.limit == 0 { RUNS_SHOWN } else { filter.limit }).unwrap_or(i64::MAX);
        let mut tx = self.meta().reader().begin().await?;
        let mut statement = Statement::new("SELECT r.id FROM registry_runs r");
        if let Some(experiment) = filter.experiment {
            statement.push(" JOIN registry_experiments e ON e.id = r.experiment AND e.name = ").bind(experiment);
        }
        statement.push(" WHERE r.deleted_at IS NULL ORDER BY r.id DESC LIMIT ").bind(limit);
        let ids: Vec<(String,)> = statement.query_as().fetch_all(&mut *tx).await?;
        let ids: Vec<String> = ids.into_iter().map(|(id,)| id).collect();
        Ok(load::tracked(&mut tx, &ids).await?.into_iter().map(|found| found.run).collect())
    }

    /// Runs of some experiments, page by page; of equals, the ones started last come first. None of no experiments.
    ///
    /// # Errors
    /// A filter, order or token that cannot be read.
    pub async fn search_runs(
        &self,
        experiments: &[i64],
        view: View,
        search: &Search,
    ) -> Result<Page<TrackedRun>, RegistryError> {
        if experiments.is_empty() {
            return Ok(Page { items: Vec::new(), next: None });
        }
        experiment::check_many(experiments)?;
        let mut tx = self.meta().reader().begin().await?;
        let scope = |statement: &mut Statement| {
            statement.push("r.experiment IN (").bind_all(experiments.iter().copied()).push(") AND ");
            view.narrow(statement, "r.deleted_at");
        };
        let found = search::page(&mut tx, Kind::Runs, scope, search).await?;
        let ids: Vec<String> = found.items.into_iter().flatten().collect();
        Ok(Page { items: load::tracked(&mut tx, &ids).await?, next: found.next })
    }
}

/// The state of a run that must exist.
pub(crate) async fn require(conn: &mut Conn, run: &RunId) -> Result<RunState, RegistryError> {
    Ok(find(conn, run).await?.0)
}

/// The state of a run that must exist and must not be deleted.
pub(crate) async fn require_active(conn: &mut Conn, run: &RunId) -> Result<RunState, RegistryError> {
    match find(conn, run).await? {
        (state, None) => Ok(state),
        (_, Some(_)) => Err(RegistryError::Deleted { what: "run", name: run.to_string() }),
    }
}

/// State and time of deletion.
async fn find(conn: &mut Conn, run: &RunId) -> Result<(RunState, Option<i64>), RegistryError> {
    let found: Option<(String, Option<i64>)> =
        sqlx::query_as("SELECT state, deleted_at FROM registry_runs WHERE id = $1")
            .bind(run.to_string())
            .fetch_optional(conn)
            .await?;
    let (text, deleted_at) = found.ok_or(RegistryError::NoSuchRun(*run))?;
    Ok((state(&text)?, deleted_at))
}

fn state(text: &str) -> Result<RunState, RegistryError> {
    RunState::parse(text).ok_or_else(|| RegistryError::Damaged { what: "run", detail: format!("state `{text}`") })
}

/// Number of the event that led to the run.
async fn cause_of(conn: &mut Conn, run: &RunId) -> Result<Option<u64>, RegistryError> {
    let cause: Option<i64> = sqlx::query_scalar("SELECT cause FROM registry_runs WHERE id = $1")
        .bind(run.to_string())
        .fetch_one(conn)
        .await?;
    cause.map(|cause| row::uncount(cause, "cause")).transpose()
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
