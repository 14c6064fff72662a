//! The records, in the form in which they travel.

use std::collections::BTreeMap;

use domain::{ModelName, RunId, Timestamp, state::RunState};
use serde::{Deserialize, Serialize};

use crate::{DatasetInput, MetricPoint, ModelOutput, Stage, number};

/// One thing of another store. What others hang on comes first: experiments, runs, logged models, models, versions.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Record {
    Experiment(BroughtExperiment),
    Run(BroughtRun),
    /// Some of a run's points; those that are here already add nothing.
    Points {
        run: RunId,
        points: Vec<MetricPoint>,
    },
    /// What a run read and made.
    Inputs {
        run: RunId,
        datasets: Vec<DatasetInput>,
        models_read: Vec<String>,
        models_made: Vec<ModelOutput>,
    },
    /// All of a run is here, its files included.
    RunDone {
        run: RunId,
        deleted_at: Option<Timestamp>,
    },
    LoggedModel(BroughtLoggedModel),
    /// All of a logged model is here, its files included.
    LoggedModelDone {
        id: String,
        deleted_at: Option<Timestamp>,
    },
    Model(BroughtModel),
    Version(BroughtVersion),
    Alias {
        model: ModelName,
        alias: String,
        version: u32,
    },
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BroughtExperiment {
    pub id: i64,
    pub name: String,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub deleted_at: Option<Timestamp>,
    pub tags: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BroughtRun {
    pub id: RunId,
    pub experiment: i64,
    pub name: String,
    pub user_id: String,
    pub state: RunState,
    pub started_at: Timestamp,
    pub ended_at: Option<Timestamp>,
    pub params: BTreeMap<String, String>,
    pub tags: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BroughtLoggedModel {
    pub id: String,
    pub experiment: i64,
    pub name: String,
    pub model_type: Option<String>,
    /// `PENDING`, `READY` or `UPLOAD_FAILED`.
    pub status: String,
    pub status_message: Option<String>,
    pub source_run: Option<RunId>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub params: BTreeMap<String, String>,
    pub tags: BTreeMap<String, String>,
    pub metrics: Vec<BroughtMeasure>,
}

/// How a logged model measured.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BroughtMeasure {
    pub key: String,
    #[serde(with = "number")]
    pub value: f64,
    pub step: i64,
    pub at: Timestamp,
    pub run: RunId,
    pub dataset_name: String,
    pub dataset_digest: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BroughtModel {
    pub name: ModelName,
    /// The greatest number a version ever had; the next one goes on from it.
    pub last_version: u32,
    pub description: String,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub tags: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BroughtVersion {
    pub model: ModelName,
    pub version: u32,
    /// Where its files lie on this server, or an address elsewhere.
    pub source: String,
    pub run: Option<RunId>,
    pub logged_model: Option<String>,
    pub stage: Stage,
    pub description: String,
    pub user_id: String,
    pub run_link: String,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub tags: BTreeMap<String, String>,
}
