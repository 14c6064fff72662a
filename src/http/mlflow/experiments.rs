//! Experiments, and the datasets their runs read.

use axum::{
    Json, Router,
    extract::State,
    routing::{get, post},
};
use registry::{Experiment, NewExperiment, RegistryError, Search, View};
use serde_json::{Value, json};

use super::wire::{Answer, Fields, Pair, Refusal, done, trimmed};
use crate::app::App;

/// Experiments on a page where the client names no number, and at most.
const PAGE: usize = 1_000;
const PAGE_MAX: usize = 50_000;

pub fn routes() -> Router<App> {
    Router::new()
        .route("/experiments/create", post(create))
        .route("/experiments/get", get(read))
        .route("/experiments/get-by-name", get(by_name))
        .route("/experiments/search", post(search).get(search))
        .route("/experiments/update", post(update))
        .route("/experiments/delete", post(delete))
        .route("/experiments/restore", post(restore))
        .route("/experiments/set-experiment-tag", post(set_tag))
        .route("/experiments/delete-experiment-tag", post(delete_tag))
        .route("/experiments/search-datasets", post(datasets))
}

async fn create(State(app): State<App>, fields: Fields) -> Answer {
    let new = NewExperiment {
        name: fields.text("name")?,
        artifact_location: fields.text_opt("artifact_location")?.filter(|location| !location.is_empty()),
        tags: fields.pairs("tags")?.into_iter().collect(),
    };
    let id = app.registry.create_experiment(new).await?.id;
    Ok(Json(json!({"experiment_id": id.to_string()})))
}

async fn read(State(app): State<App>, fields: Fields) -> Answer {
    let found = app.registry.experiment(experiment_id(&fields)?).await?;
    Ok(Json(trimmed(json!({"experiment": shown(found)}))))
}

async fn by_name(State(app): State<App>, fields: Fields) -> Answer {
    let found = app.registry.experiment_by_name(&fields.text("experiment_name")?).await?;
    Ok(Json(trimmed(json!({"experiment": shown(found)}))))
}

async fn search(State(app): State<App>, fields: Fields) -> Answer {
    let search = search_of(&fields, PAGE, PAGE_MAX)?;
    let page = app.registry.search_experiments(view(&fields, "view_type")?, &search).await?;
    let experiments: Vec<Value> = page.items.into_iter().map(shown).collect();
    Ok(Json(trimmed(json!({"experiments": experiments, "next_page_token": page.next}))))
}

async fn update(State(app): State<App>, fields: Fields) -> Answer {
    app.registry.rename_experiment(experiment_id(&fields)?, &fields.text("new_name")?).await?;
    done()
}

async fn delete(State(app): State<App>, fields: Fields) -> Answer {
    app.registry.delete_experiment(experiment_id(&fields)?).await?;
    done()
}

async fn restore(State(app): State<App>, fields: Fields) -> Answer {
    app.registry.restore_experiment(experiment_id(&fields)?).await?;
    done()
}

async fn set_tag(State(app): State<App>, fields: Fields) -> Answer {
    let value = fields.text_opt("value")?.unwrap_or_default();
    app.registry.set_experiment_tag(experiment_id(&fields)?, &fields.text("key")?, &value).await?;
    done()
}

async fn delete_tag(State(app): State<App>, fields: Fields) -> Answer {
    app.registry.delete_experiment_tag(experiment_id(&fields)?, &fields.text("key")?).await?;
    done()
}

async fn datasets(State(app): State<App>, fields: Fields) -> Answer {
    let found = app.registry.search_datasets(&experiment_ids(&fields)?).await?;
    let found = found.into_iter().map(|data| {
        let (id, name, digest, context) = (data.experiment_id.to_string(), data.name, data.digest, data.context);
        json!({"experiment_id": id, "name": name, "digest": digest, "context": context})
    });
    Ok(Json(trimmed(json!({"dataset_summaries": found.collect::<Vec<_>>()}))))
}

/// The experiment a request is about. What is no number is the id of none.
pub(super) fn experiment_id(fields: &Fields) -> Result<i64, Refusal> {
    let text = fields.text("experiment_id")?;
    text.parse().map_err(|_| RegistryError::NoSuch { what: "experiment", name: text }.into())
}

/// The experiments to look in; those that cannot exist are left out.
pub(super) fn experiment_ids(fields: &Fields) -> Result<Vec<i64>, Refusal> {
    Ok(fields.texts("experiment_ids")?.iter().filter_map(|id| id.parse().ok()).collect())
}

pub(super) fn view(fields: &Fields, name: &str) -> Result<View, Refusal> {
    match fields.text_opt(name)?.as_deref() {
        None | Some("" | "ACTIVE_ONLY") => Ok(View::Active),
        Some("DELETED_ONLY") => Ok(View::Deleted),
        Some("ALL") => Ok(View::All),
        Some(other) => Err(Refusal::invalid(format!(
            "Invalid value {other:?} for parameter '{name}' supplied: it must be ACTIVE_ONLY, DELETED_ONLY or ALL"
        ))),
    }
}

pub(super) fn search_of(fields: &Fields, default: usize, most: usize) -> Result<Search, Refusal> {
    Ok(Search {
        filter: fields.text_opt("filter")?.unwrap_or_default(),
        order_by: fields.texts("order_by")?,
        limit: fields.max_results(default, most)?,
        page_token: fields.page_token()?,
    })
}

/// Key and value pairs, as tags and parameters leave.
pub(super) fn pairs(pairs: impl IntoIterator<Item = (String, String)>) -> Vec<Pair> {
    pairs.into_iter().map(Pair::from).collect()
}

pub(super) const fn stage(deleted: bool) -> &'static str {
    if deleted { "deleted" } else { "active" }
}

fn shown(found: Experiment) -> Value {
    json!({
        "experiment_id": found.id.to_string(),
        "name": found.name,
        "artifact_location": found.artifact_location,
        "lifecycle_stage": stage(found.deleted_at.is_some()),
        "creation_time": found.created_at.micros().div_euclid(1_000),
        "last_update_time": found.updated_at.micros().div_euclid(1_000),
        "tags": pairs(found.tags),
    })
}
