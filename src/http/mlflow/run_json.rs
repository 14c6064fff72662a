//! Runs and metric points as they leave.

use domain::{Timestamp, state::RunState};
use registry::{DatasetInput, MetricPoint, ModelOutput, Run, TrackedRun};
use serde_json::{Value, json};

use super::{
    experiments::{pairs, stage},
    wire,
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

pub fn info(run: &Run) -> Value {
    let id = run.id.to_string();
    json!({
        "run_id": id,
        "run_uuid": id,
        "run_name": run.name,
        "experiment_id": run.experiment_id.to_string(),
        "user_id": run.user_id,
        "status": status(run.state),
        "start_time": millis(run.started_at),
        "end_time": run.ended_at.map(millis),
        "artifact_uri": run.artifact_uri,
        "lifecycle_stage": stage(run.deleted_at.is_some()),
    })
}

pub fn run(found: TrackedRun) -> Value {
    let TrackedRun { run, latest, inputs, models_read, models_made } = found;
    let info = info(&run);
    let models_read = models_read.into_iter().map(|id| json!({"model_id": id})).collect::<Vec<_>>();
    let made = |ModelOutput { model, step }| json!({"model_id": model, "step": step});
    json!({
        "info": info,
        "data": {
            "metrics": latest.into_iter().map(metric).collect::<Vec<_>>(),
            "params": pairs(run.params),
            "tags": pairs(run.tags),
        },
        "inputs": {
            "dataset_inputs": inputs.into_iter().map(input).collect::<Vec<_>>(),
            "model_inputs": models_read,
        },
        "outputs": {"model_outputs": models_made.into_iter().map(made).collect::<Vec<_>>()},
    })
}

pub fn metric(point: MetricPoint) -> Value {
    json!({
        "key": point.key,
        "value": wire::float(point.value),
        "timestamp": millis(point.at),
        "step": point.step,
    })
}

fn input(input: DatasetInput) -> Value {
    json!({
        "tags": pairs(input.tags),
        "dataset": {
            "name": input.name,
            "digest": input.digest,
            "source_type": input.source_type,
            "source": input.source,
            "schema": input.schema,
            "profile": input.profile,
        },
    })
}
