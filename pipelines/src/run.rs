//! One execution of a pipeline, its steps, and what it decided.

use domain::{
    Digest, EndpointName, PipelineName, PipelineRunId, Timestamp,
    definition::Pipeline,
    state::{PipelineRunState, StepState},
};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

/// What set a run in motion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CauseKind {
    /// A person asked for it.
    Manual,
    /// An alert of the endpoint's monitor.
    Alert,
    Schedule,
    /// Enough new labels.
    Labels,
}

/// What set a run in motion, with the journal event that tells of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    pub kind: CauseKind,
    /// Sequence number of the event; a run started by hand begins its own story.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<u64>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
}

impl Cause {
    #[must_use]
    pub fn manual(note: impl Into<String>) -> Self {
        Self { kind: CauseKind::Manual, event: None, note: note.into() }
    }
}

/// What the gate found. Losses are mean log losses on the same holdout rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    pub passed: bool,
    /// In words, for people.
    pub reason: String,
    pub challenger: u32,
    /// Absent for a first version, which nobody can be compared with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub champion: Option<u32>,
    /// Labelled rows of the holdout.
    pub rows: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comparison: Option<Compared>,
}

/// Champion and challenger on the holdout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Compared {
    pub champion_log_loss: f64,
    pub challenger_log_loss: f64,
    /// Champion's less challenger's; positive is better.
    pub gain: f64,
    /// Lower bound of the gain at the gate's confidence.
    pub lower: f64,
    pub champion_auc: Option<f64>,
    pub challenger_auc: Option<f64>,
}

/// A challenger's trial on live traffic.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rollout {
    /// Event time at which it began: only later predictions count.
    pub since: Timestamp,
    pub percent: u32,
    /// The latest look; the last one decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest: Option<Trial>,
    /// Why it was promoted or rolled back; absent while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<String>,
}

/// Live results of a trial so far.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    pub champion_labels: u64,
    pub challenger_labels: u64,
    pub champion_log_loss: Option<f64>,
    pub challenger_log_loss: Option<f64>,
    /// Challenger's less champion's, with its 95 % interval: negative is better. Absent until both have two labels.
    pub difference: Option<f64>,
    pub lower: Option<f64>,
    pub upper: Option<f64>,
    /// Event time of the look.
    pub at: Timestamp,
}

/// A run as people see it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PipelineRun {
    pub id: PipelineRunId,
    pub pipeline: PipelineName,
    pub endpoint: EndpointName,
    pub state: PipelineRunState,
    pub cause: Cause,
    /// Event that begins the story of this run: the alert, or its own trigger. Its later events name it as cause.
    pub story: u64,
    /// Event time up to which labels are known to the training set.
    pub cutoff: Timestamp,
    pub created: Timestamp,
    pub updated: Timestamp,
    /// Version in service when the run began.
    pub champion: Option<u32>,
    pub challenger: Option<u32>,
    pub decision: Option<Decision>,
    pub rollout: Option<Rollout>,
    pub error: Option<String>,
    /// Event time at which it ended.
    pub ended: Option<Timestamp>,
    pub steps: Vec<Step>,
    /// The definition as it was when the run began.
    #[serde(skip)]
    pub spec: Pipeline,
    /// Labels known for the endpoint when the run began.
    #[serde(skip)]
    pub labelled: u64,
}

impl PipelineRun {
    /// Whether it still computes (a run on trial does not).
    #[must_use]
    pub const fn is_computing(&self) -> bool {
        matches!(self.state, PipelineRunState::Queued | PipelineRunState::Running)
    }
}

/// One step of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Step {
    pub name: String,
    pub state: StepState,
    /// Digest of everything the result depends on.
    pub key: Option<Digest>,
    /// Why it ran or was reused.
    pub why: Option<String>,
    pub result: Option<Json>,
    pub started: Option<Timestamp>,
    pub finished: Option<Timestamp>,
    pub error: Option<String>,
}

/// Which runs to list; newest first.
#[derive(Debug, Clone, Default)]
pub struct RunFilter {
    pub pipeline: Option<PipelineName>,
    /// 0: 100.
    pub limit: usize,
}

/// Names of a pipeline's steps, in order.
pub(crate) fn step_names(spec: &Pipeline) -> Vec<String> {
    let mut names = vec!["dataset".to_owned()];
    names.extend(spec.estimators.iter().map(|e| train_step(&e.name)));
    names.extend(["choose", "register", "gate", "rollout"].map(str::to_owned));
    names
}

pub(crate) fn train_step(estimator: &str) -> String {
    format!("train:{estimator}")
}
