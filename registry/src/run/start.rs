//! Starting a run: as our own pipelines do, and as MLflow's clients do.

use std::collections::BTreeMap;

use domain::{EventKind, RunId, Timestamp, state::RunState};
use serde::{Deserialize, Serialize};
use serde_json::json;
use storage::Tx;

use super::{
    DatasetRef, NAME_TAG, OWN_TAGS, Run, SOURCE_TAG, TrackedRun, USER_TAG, add_params, add_tags, note,
    write::{settle_params, settle_tags},
};
use crate::{Registry, RegistryError, check, dataset, experiment, input, nickname, row};

/// A run about to start.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewRun {
    /// Created if it does not exist; 1 to 500 characters.
    pub experiment: String,
    /// For people; need not be unique. Empty: one is made up.
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

/// A run about to start in an experiment that exists.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrackedStart {
    pub experiment: i64,
    /// Empty: that of the tag `mlflow.runName`, or one is made up.
    pub name: String,
    /// Empty: that of the tag `mlflow.user`.
    pub user_id: String,
    /// `None`: now.
    pub started_at: Option<Timestamp>,
    pub tags: BTreeMap<String, String>,
}

impl Registry {
    /// Starts a run. Durable when it returns.
    ///
    /// What it records beside its tags also stands in tags (`mlflow.source.name`, `millpond.*`) and inputs, where
    /// MLflow's users look for it.
    ///
    /// # Errors
    /// Bad names, or a dataset that is not recorded.
    pub async fn start_run(&self, new: NewRun) -> Result<Run, RegistryError> {
        check::experiment(&new.experiment)?;
        check::pairs("environment entry", &new.environment)?;
        let now = self.now();
        let mut tags = new.tags;
        let mut mirror = |key: String, value: &str| {
            tags.entry(key).or_insert_with(|| value.to_owned());
        };
        if !new.code_version.is_empty() {
            mirror(SOURCE_TAG.to_owned(), "millpond");
            mirror(format!("{OWN_TAGS}code_version"), &new.code_version);
        }
        for (key, value) in &new.environment {
            mirror(format!("{OWN_TAGS}environment.{key}"), value);
        }
        let mut run = Run {
            id: RunId::mint(),
            experiment: new.experiment,
            experiment_id: 0,
            name: new.name,
            user_id: String::new(),
            state: RunState::Running,
            artifact_uri: String::new(),
            params: new.params,
            tags,
            metrics: BTreeMap::new(),
            dataset: new.dataset,
            code_version: new.code_version,
            environment: new.environment,
            cause: new.cause,
            started_at: now,
            ended_at: None,
            deleted_at: None,
        };
        settle(&mut run)?;
        let mut tx = self.begin().await?;
        let data = match run.dataset {
            None => None,
            Some(data) => {
                let found = dataset::find(tx.conn(), &data.digest).await?;
                Some(found.ok_or(RegistryError::NoSuchDataset(data.digest))?)
            }
        };
        let (id, location) = experiment::ensure(&mut tx, &run.experiment, now).await?;
        (run.experiment_id, run.artifact_uri) = (id, artifacts_of(&location, &run.id));
        insert(&mut tx, &run, now).await?;
        if let Some(data) = data {
            input::put(tx.conn(), &run.id, &[input::of_dataset(&data)]).await?;
        }
        tx.commit().await?;
        Ok(run)
    }

    /// Starts a run in an active experiment. Durable when it returns.
    ///
    /// # Errors
    /// An unknown or deleted experiment, bad names, or a name that is not that of the tag `mlflow.runName`.
    pub async fn create_run(&self, new: TrackedStart) -> Result<TrackedRun, RegistryError> {
        let now = self.now();
        let mut run = Run {
            id: RunId::mint(),
            experiment: String::new(),
            experiment_id: new.experiment,
            name: new.name,
            user_id: new.user_id,
            state: RunState::Running,
            artifact_uri: String::new(),
            params: BTreeMap::new(),
            tags: new.tags,
            metrics: BTreeMap::new(),
            dataset: None,
            code_version: String::new(),
            environment: BTreeMap::new(),
            cause: None,
            started_at: new.started_at.unwrap_or(now),
            ended_at: None,
            deleted_at: None,
        };
        settle(&mut run)?;
        let mut tx = self.begin().await?;
        let known = experiment::require_active(tx.conn(), new.experiment).await?;
        (run.experiment, run.artifact_uri) = (known.name, artifacts_of(&known.location, &run.id));
        insert(&mut tx, &run, now).await?;
        tx.commit().await?;
        let (latest, inputs, models_read, models_made) = <_>::default();
        Ok(TrackedRun { run, latest, inputs, models_read, models_made })
    }
}

/// Makes name, user and tags lawful and agree.
fn settle(run: &mut Run) -> Result<(), RegistryError> {
    match run.tags.get(NAME_TAG).filter(|name| !name.is_empty()) {
        Some(tag) if run.name.is_empty() => run.name.clone_from(tag),
        Some(tag) if *tag != run.name => {
            let problem = format!("is {:?}, but tag `{NAME_TAG}` says {tag:?}", run.name);
            return Err(RegistryError::invalid("the run's name", problem, "give one of them, or the same twice"));
        }
        Some(_) => {}
        None if run.name.is_empty() => run.name = nickname::of(&run.id.to_string()),
        None => {}
    }
    check::text("run name", &run.name, 1)?;
    run.tags.insert(NAME_TAG.to_owned(), run.name.clone());
    if let Some(user) = run.tags.get(USER_TAG).filter(|_| run.user_id.is_empty()) {
        run.user_id.clone_from(user);
    }
    check::within("the user id", &run.user_id, check::KEY_CHARS_MAX)?;
    settle_tags(&mut run.tags)?;
    settle_params(&mut run.params)
}

pub(crate) fn artifacts_of(location: &str, run: &RunId) -> String {
    format!("{}/{run}/artifacts", location.trim_end_matches('/'))
}

async fn insert(tx: &mut Tx, run: &Run, now: Timestamp) -> Result<(), RegistryError> {
    sqlx::query(
        "INSERT INTO registry_runs
             (id, experiment, name, user_id, state, artifact_uri, dataset, code_version, environment, cause, started_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
    )
    .bind(run.id.to_string())
    .bind(run.experiment_id)
    .bind(&run.name)
    .bind(&run.user_id)
    .bind(run.state.as_str())
    .bind(&run.artifact_uri)
    .bind(run.dataset.map(|dataset| dataset.digest.to_string()))
    .bind(&run.code_version)
    .bind(row::to_json(&run.environment))
    .bind(run.cause.map(row::count))
    .bind(run.started_at.micros())
    .execute(tx.conn())
    .await?;
    add_params(tx.conn(), &run.id, &run.params).await?;
    add_tags(tx.conn(), &run.id, &run.tags).await?;
    let body = json!({"experiment": run.experiment, "name": run.name, "dataset": run.dataset.map(|d| d.digest)});
    note(tx, now, EventKind::RunStarted, &run.id, run.cause, body).await?;
    Ok(())
}
