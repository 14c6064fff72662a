//! Runs and metric points as they leave: written straight from the record, since a page holds thousands of them.

use domain::{RunId, Timestamp, state::RunState};
use registry::{DatasetInput, MetricPoint, ModelOutput, Run, TrackedRun};
use serde::Serialize;

use super::{
    experiments::stage,
    wire::{Float, Pair},
};

pub const fn status(state: RunState) -> &'static str {
    match state {
        RunState::Scheduled => "SCHEDULED",
        RunState::Running => "RUNNING",
        RunState::Finished => "FINISHED",
        RunState::Failed => "FAILED",
        RunState::Cancelled => "KILLED",
    }
}

const fn millis(at: Timestamp) -> i64 {
    at.micros().div_euclid(1_000)
}

/// A page of runs.
#[derive(Serialize)]
pub struct Runs {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub runs: Vec<RunOut>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_page_token: Option<String>,
}

/// A page of points.
#[derive(Serialize)]
pub struct Metrics {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub metrics: Vec<Metric>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_page_token: Option<String>,
}

#[derive(Serialize)]
pub struct RunOut {
    info: Info,
    data: Data,
    inputs: Inputs,
    outputs: Outputs,
}

#[derive(Serialize)]
pub struct Info {
    run_id: RunId,
    run_uuid: RunId,
    run_name: String,
    experiment_id: String,
    user_id: String,
    status: &'static str,
    start_time: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    end_time: Option<i64>,
    artifact_uri: String,
    lifecycle_stage: &'static str,
}

#[derive(Serialize)]
struct Data {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    metrics: Vec<Metric>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    params: Vec<Pair>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<Pair>,
}

#[derive(Serialize)]
pub struct Metric {
    key: String,
    value: Float,
    timestamp: i64,
    step: i64,
    /// Where points of several runs stand together.
    #[serde(skip_serializing_if = "Option::is_none")]
    run_id: Option<RunId>,
}

#[derive(Serialize)]
struct Inputs {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    dataset_inputs: Vec<Input>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    model_inputs: Vec<ModelIn>,
}

#[derive(Serialize)]
struct Input {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<Pair>,
    dataset: Dataset,
}

#[derive(Serialize)]
struct Dataset {
    name: String,
    digest: String,
    source_type: String,
    source: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    schema: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    profile: Option<String>,
}

#[derive(Serialize)]
struct ModelIn {
    model_id: String,
}

#[derive(Serialize)]
struct Outputs {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    model_outputs: Vec<ModelOut>,
}

#[derive(Serialize)]
struct ModelOut {
    model_id: String,
    step: i64,
}

impl From<Run> for Info {
    fn from(run: Run) -> Self {
        Self {
            run_id: run.id,
            run_uuid: run.id,
            run_name: run.name,
            experiment_id: run.experiment_id.to_string(),
            user_id: run.user_id,
            status: status(run.state),
            start_time: millis(run.started_at),
            end_time: run.ended_at.map(millis),
            artifact_uri: run.artifact_uri,
            lifecycle_stage: stage(run.deleted_at.is_some()),
        }
    }
}

impl From<TrackedRun> for RunOut {
    fn from(found: TrackedRun) -> Self {
        let TrackedRun { mut run, latest, inputs, models_read, models_made } = found;
        let pairs = |map: &mut _| std::mem::take::<std::collections::BTreeMap<_, _>>(map).into_iter().map(Pair::from);
        Self {
            data: Data {
                metrics: latest.into_iter().map(Metric::from).collect(),
                params: pairs(&mut run.params).collect(),
                tags: pairs(&mut run.tags).collect(),
            },
            info: run.into(),
            inputs: Inputs {
                dataset_inputs: inputs.into_iter().map(Input::from).collect(),
                model_inputs: models_read.into_iter().map(|model_id| ModelIn { model_id }).collect(),
            },
            outputs: Outputs { model_outputs: models_made.into_iter().map(ModelOut::from).collect() },
        }
    }
}

impl From<MetricPoint> for Metric {
    fn from(point: MetricPoint) -> Self {
        let (key, step) = (point.key, point.step);
        Self { key, value: Float(point.value), timestamp: millis(point.at), step, run_id: None }
    }
}

impl Metric {
    pub fn of_run(point: MetricPoint, run: RunId) -> Self {
        Self { run_id: Some(run), ..Self::from(point) }
    }
}

impl From<ModelOutput> for ModelOut {
    fn from(ModelOutput { model: model_id, step }: ModelOutput) -> Self {
        Self { model_id, step }
    }
}

impl From<DatasetInput> for Input {
    fn from(input: DatasetInput) -> Self {
        let DatasetInput { name, digest, source_type, source, schema, profile, tags } = input;
        let dataset = Dataset { name, digest, source_type, source, schema, profile };
        Self { tags: tags.into_iter().map(Pair::from).collect(), dataset }
    }
}
