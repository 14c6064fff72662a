//! Logged models: what runs made, with parameters, tags and metrics of their own.

use axum::{
    Json, Router,
    extract::{Path, State},
    routing::{delete, get, patch, post},
};
use domain::{ErrorCode, RunId, Timestamp};
use registry::{
    LoggedModel, LoggedModelMetric, LoggedModelStatus, ModelDataset, ModelOrder, ModelSearch, NewLoggedModel, Search,
};
use serde_json::{Value, json};

use super::wire::{Answer, Fields, Float, Refusal, done, trimmed};
use crate::app::App;

/// Models of one page: where the client does not say, and at most.
const PAGE: usize = 50;
const PAGE_MAX: usize = 10_000;
/// What stands before the status on the wire.
const STATUS: &str = "LOGGED_MODEL_";

pub fn routes() -> Router<App> {
    Router::new()
        .route("/logged-models", post(create))
        .route("/logged-models/search", post(search))
        .route("/logged-models/{model_id}", get(find).patch(finalize).delete(remove))
        .route("/logged-models/{model_id}/params", post(log_params))
        .route("/logged-models/{model_id}/tags", patch(set_tags))
        // Clients do not escape the key, so it may hold slashes.
        .route("/logged-models/{model_id}/tags/{*key}", delete(delete_tag))
}

async fn create(State(app): State<App>, fields: Fields) -> Answer {
    let new = NewLoggedModel {
        experiment: experiment_id(&fields.text("experiment_id")?)?,
        name: set(&fields, "name")?,
        model_type: set(&fields, "model_type")?,
        source_run: set(&fields, "source_run_id")?.map(|id| run_id(&id)).transpose()?,
        params: fields.pairs("params")?.into_iter().collect(),
        tags: fields.pairs("tags")?.into_iter().collect(),
    };
    Ok(answer(&app.registry.create_logged_model(new).await?))
}

async fn find(State(app): State<App>, Path(id): Path<String>) -> Answer {
    Ok(answer(&app.registry.logged_model(&id).await?))
}

async fn finalize(State(app): State<App>, Path(id): Path<String>, fields: Fields) -> Answer {
    let word = fields.text("status")?;
    let status = word.strip_prefix(STATUS).and_then(LoggedModelStatus::parse).ok_or_else(|| {
        let known = LoggedModelStatus::ALL.map(|status| format!("{STATUS}{}", status.as_str())).join(", ");
        Refusal::invalid(format!("Invalid value {word:?} for parameter 'status' supplied: it must be one of {known}"))
    })?;
    Ok(answer(&app.registry.finalize_logged_model(&id, status).await?))
}

async fn remove(State(app): State<App>, Path(id): Path<String>) -> Answer {
    app.registry.delete_logged_model(&id).await?;
    done()
}

async fn log_params(State(app): State<App>, Path(id): Path<String>, fields: Fields) -> Answer {
    app.registry.log_logged_model_params(&id, fields.pairs("params")?.into_iter().collect()).await?;
    done()
}

async fn set_tags(State(app): State<App>, Path(id): Path<String>, fields: Fields) -> Answer {
    Ok(answer(&app.registry.set_logged_model_tags(&id, fields.pairs("tags")?.into_iter().collect()).await?))
}

async fn delete_tag(State(app): State<App>, Path((id, key)): Path<(String, String)>) -> Answer {
    Ok(answer(&app.registry.delete_logged_model_tag(&id, &key).await?))
}

async fn search(State(app): State<App>, fields: Fields) -> Answer {
    let wanted = ModelSearch {
        search: Search {
            filter: fields.text_opt("filter")?.unwrap_or_default(),
            order_by: Vec::new(),
            limit: fields.max_results(PAGE, PAGE_MAX)?,
            page_token: fields.page_token()?,
        },
        experiments: fields.texts("experiment_ids")?.iter().map(|id| experiment_id(id)).collect::<Result<_, _>>()?,
        order: fields.objects("order_by")?.iter().map(order).collect::<Result<_, _>>()?,
        datasets: fields.objects("datasets")?.iter().map(dataset).collect::<Result<_, _>>()?,
    };
    let page = app.registry.search_logged_models(wanted).await?;
    let models: Vec<_> = page.items.iter().map(model).collect();
    Ok(Json(trimmed(json!({"models": models, "next_page_token": page.next}))))
}

/// A text that is there and says something.
fn set(fields: &Fields, name: &str) -> Result<Option<String>, Refusal> {
    Ok(fields.text_opt(name)?.filter(|text| !text.is_empty()))
}

fn experiment_id(text: &str) -> Result<i64, Refusal> {
    let wrong = || Refusal::invalid(format!("Invalid experiment ID {text:?}: it must be an integer"));
    text.parse().map_err(|_| wrong())
}

fn run_id(text: &str) -> Result<RunId, Refusal> {
    text.parse().map_err(|_| Refusal::new(ErrorCode::NotFound, format!("run {text:?} does not exist")))
}

fn order(fields: &Fields) -> Result<ModelOrder, Refusal> {
    Ok(ModelOrder {
        field: fields.text("field_name")?,
        descending: !fields.truth_opt("ascending")?.unwrap_or(true),
        dataset_name: set(fields, "dataset_name")?,
        dataset_digest: set(fields, "dataset_digest")?,
    })
}

fn dataset(fields: &Fields) -> Result<ModelDataset, Refusal> {
    Ok(ModelDataset { name: fields.text("dataset_name")?, digest: set(fields, "dataset_digest")? })
}

fn answer(found: &LoggedModel) -> Json<Value> {
    Json(trimmed(json!({"model": model(found)})))
}

fn model(model: &LoggedModel) -> Value {
    let pair = |(key, value): (&String, &String)| json!({"key": key, "value": value});
    let registration = |(name, version): &(String, u32)| json!({"name": name, "version": version.to_string()});
    json!({
        "info": {
            "model_id": model.id,
            "experiment_id": model.experiment.to_string(),
            "name": model.name,
            "creation_timestamp_ms": millis(model.created_at),
            "last_updated_timestamp_ms": millis(model.updated_at),
            "artifact_uri": model.artifact_uri,
            "status": format!("{STATUS}{}", model.status.as_str()),
            "status_message": model.status_message,
            "model_type": model.model_type,
            "source_run_id": model.source_run,
            "tags": model.tags.iter().map(pair).collect::<Vec<_>>(),
            "registrations": model.registrations.iter().map(registration).collect::<Vec<_>>(),
        },
        "data": {
            "params": model.params.iter().map(pair).collect::<Vec<_>>(),
            "metrics": model.metrics.iter().map(|point| metric(&model.id, point)).collect::<Vec<_>>(),
        },
    })
}

fn metric(model_id: &str, point: &LoggedModelMetric) -> Value {
    let named = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    json!({
        "key": point.key,
        "value": Float(point.value),
        "timestamp": millis(point.at),
        "step": point.step,
        "model_id": model_id,
        "run_id": point.run,
        "dataset_name": named(&point.dataset_name),
        "dataset_digest": named(&point.dataset_digest),
    })
}

fn millis(at: Timestamp) -> i64 {
    at.micros().div_euclid(1000)
}
