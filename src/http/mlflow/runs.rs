//! Runs: their parameters, tags, inputs and outputs. Metrics are read in `metrics`.

use axum::{
    Json, Router,
    extract::State,
    http::{HeaderMap, header},
    routing::{get, post},
};
use domain::{RunId, Timestamp, state::RunState};
use registry::{Batch, DatasetInput, MetricEntry, MetricPoint, ModelOutput, RegistryError, RunChange, TrackedStart};
use serde_json::json;

use super::{
    experiments::{experiment_id, experiment_ids, search_of, view},
    run_json::{Info, RunOut, Runs, status},
    wire::{Answer, Fields, Refusal, done},
};
use crate::app::App;

/// Runs on a page where the client names no number, and at most.
const PAGE: usize = 1_000;
const PAGE_MAX: usize = 50_000;
/// Longest body of a batch.
const BATCH_BYTES_MAX: u64 = 1_000_000;

pub fn routes() -> Router<App> {
    Router::new()
        .route("/runs/create", post(create))
        .route("/runs/update", post(update))
        .route("/runs/get", get(read))
        .route("/runs/delete", post(delete))
        .route("/runs/restore", post(restore))
        .route("/runs/log-metric", post(log_metric))
        .route("/runs/log-parameter", post(log_parameter))
        .route("/runs/set-tag", post(set_tag))
        .route("/runs/delete-tag", post(delete_tag))
        .route("/runs/log-batch", post(log_batch))
        .route("/runs/log-inputs", post(log_inputs))
        .route("/runs/outputs", post(log_outputs))
        .route("/runs/log-model", post(log_model))
        .route("/runs/search", post(search))
}

async fn create(State(app): State<App>, fields: Fields) -> Answer {
    let experiment = if fields.has("experiment_id") { experiment_id(&fields)? } else { 0 };
    let new = TrackedStart {
        experiment,
        name: fields.text_opt("run_name")?.unwrap_or_default(),
        user_id: fields.text_opt("user_id")?.unwrap_or_default(),
        started_at: instant_opt(&fields, "start_time")?,
        tags: fields.pairs("tags")?.into_iter().collect(),
    };
    let run = app.registry.create_run(new).await?;
    Ok(Json(json!({"run": RunOut::from(run)})))
}

async fn update(State(app): State<App>, fields: Fields) -> Answer {
    let change = RunChange {
        state: fields.text_opt("status")?.filter(|text| !text.is_empty()).map(|text| state(&text)).transpose()?,
        ended_at: instant_opt(&fields, "end_time")?,
        name: fields.text_opt("run_name")?.filter(|name| !name.is_empty()),
    };
    let run = app.registry.update_run(&run_id(&fields)?, change).await?;
    Ok(Json(json!({"run_info": Info::from(run)})))
}

async fn read(State(app): State<App>, fields: Fields) -> Answer {
    let run = app.registry.tracked_run(&run_id(&fields)?).await?;
    Ok(Json(json!({"run": RunOut::from(run)})))
}

async fn delete(State(app): State<App>, fields: Fields) -> Answer {
    app.registry.delete_run(&run_id(&fields)?).await?;
    done()
}

async fn restore(State(app): State<App>, fields: Fields) -> Answer {
    app.registry.restore_run(&run_id(&fields)?).await?;
    done()
}

async fn log_metric(State(app): State<App>, fields: Fields) -> Answer {
    let batch = Batch { metrics: vec![entry(&fields)?], ..Batch::default() };
    app.registry.log_batch(&run_id(&fields)?, batch).await?;
    done()
}

async fn log_parameter(State(app): State<App>, fields: Fields) -> Answer {
    app.registry.log_params(&run_id(&fields)?, [pair(&fields)?].into()).await?;
    done()
}

async fn set_tag(State(app): State<App>, fields: Fields) -> Answer {
    app.registry.set_tags(&run_id(&fields)?, [pair(&fields)?].into()).await?;
    done()
}

async fn delete_tag(State(app): State<App>, fields: Fields) -> Answer {
    app.registry.delete_tag(&run_id(&fields)?, &fields.text("key")?).await?;
    done()
}

async fn log_batch(State(app): State<App>, headers: HeaderMap, fields: Fields) -> Answer {
    let bytes = headers.get(header::CONTENT_LENGTH).and_then(|text| text.to_str().ok()?.parse::<u64>().ok());
    if let Some(bytes) = bytes.filter(|bytes| *bytes > BATCH_BYTES_MAX) {
        let message = format!("the batch has {bytes} bytes where at most {BATCH_BYTES_MAX} are taken: send several");
        return Err(Refusal::invalid(message));
    }
    let batch = Batch {
        metrics: each(&fields, "metrics", entry)?,
        params: each(&fields, "params", pair)?,
        tags: each(&fields, "tags", pair)?,
    };
    app.registry.log_batch(&run_id(&fields)?, batch).await?;
    done()
}

async fn log_inputs(State(app): State<App>, fields: Fields) -> Answer {
    let datasets = each(&fields, "datasets", dataset_input)?;
    let models = each(&fields, "models", |model| model.text("model_id"))?;
    app.registry.log_inputs(&run_id(&fields)?, datasets, models).await?;
    done()
}

async fn log_outputs(State(app): State<App>, fields: Fields) -> Answer {
    let made = |output: &Fields| Ok(ModelOutput { model: output.text("model_id")?, step: output.int("step")? });
    app.registry.log_outputs(&run_id(&fields)?, each(&fields, "models", made)?).await?;
    done()
}

async fn log_model(State(app): State<App>, fields: Fields) -> Answer {
    app.registry.log_model_history(&run_id(&fields)?, &fields.text("model_json")?).await?;
    done()
}

async fn search(State(app): State<App>, fields: Fields) -> Result<Json<Runs>, Refusal> {
    let (experiments, search) = (experiment_ids(&fields)?, search_of(&fields, PAGE, PAGE_MAX)?);
    let page = app.registry.search_runs(&experiments, view(&fields, "run_view_type")?, &search).await?;
    Ok(Json(Runs { runs: page.items.into_iter().map(RunOut::from).collect(), next_page_token: page.next }))
}

/// The run a request is about. What is no id is the id of none.
pub(super) fn run_id(fields: &Fields) -> Result<RunId, Refusal> {
    let text = fields.run_id()?;
    text.parse().map_err(|_| RegistryError::NoSuch { what: "run", name: text }.into())
}

/// Reads every object of a list; errors name its place.
fn each<T>(fields: &Fields, name: &str, read: impl Fn(&Fields) -> Result<T, Refusal>) -> Result<Vec<T>, Refusal> {
    let place = |index, refusal: Refusal| {
        let message = format!("{name}[{index}]: {}", refusal.message);
        Refusal { message, ..refusal }
    };
    let objects = fields.objects(name)?;
    objects.iter().enumerate().map(|(index, one)| read(one).map_err(|e| place(index, e))).collect()
}

fn pair(fields: &Fields) -> Result<(String, String), Refusal> {
    Ok((fields.text("key")?, fields.text_opt("value")?.unwrap_or_default()))
}

fn entry(fields: &Fields) -> Result<MetricEntry, Refusal> {
    let text = |name: &str| Ok::<_, Refusal>(fields.text_opt(name)?.unwrap_or_default());
    let millis = fields.int("timestamp")?;
    if millis < 0 {
        return Err(Refusal::invalid(format!(
            "Invalid value {millis} for parameter 'timestamp' supplied: it must be milliseconds since 1970"
        )));
    }
    let (key, value) = (fields.text("key")?, fields.float("value")?);
    let (step, at) = (fields.int_opt("step")?.unwrap_or_default(), instant("timestamp", millis)?);
    Ok(MetricEntry {
        point: MetricPoint { key, value, step, at },
        model: Some(text("model_id")?).filter(|id| !id.is_empty()),
        dataset_name: text("dataset_name")?,
        dataset_digest: text("dataset_digest")?,
    })
}

fn dataset_input(fields: &Fields) -> Result<DatasetInput, Refusal> {
    let dataset =
        fields.raw("dataset").ok_or_else(|| Refusal::invalid("Missing value for required parameter 'dataset'"))?;
    let dataset = Fields::of("dataset", dataset)?;
    Ok(DatasetInput {
        name: dataset.text("name")?,
        digest: dataset.text("digest")?,
        source_type: dataset.text("source_type")?,
        source: dataset.text("source")?,
        schema: dataset.text_opt("schema")?,
        profile: dataset.text_opt("profile")?,
        tags: fields.pairs("tags")?.into_iter().collect(),
    })
}

fn instant(name: &str, millis: i64) -> Result<Timestamp, Refusal> {
    let micros = millis.checked_mul(1_000).ok_or_else(|| {
        Refusal::invalid(format!("Invalid value {millis} for parameter '{name}' supplied: it must be milliseconds"))
    });
    micros.map(Timestamp::from_micros)
}

fn instant_opt(fields: &Fields, name: &str) -> Result<Option<Timestamp>, Refusal> {
    fields.int_opt(name)?.map(|millis| instant(name, millis)).transpose()
}

fn state(text: &str) -> Result<RunState, Refusal> {
    RunState::ALL.iter().copied().find(|state| status(*state) == text).ok_or_else(|| {
        Refusal::invalid(format!(
            "Invalid value {text:?} for parameter 'status' supplied: it must be RUNNING, SCHEDULED, FINISHED, FAILED or \
             KILLED"
        ))
    })
}
