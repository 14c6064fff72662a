//! Registered models, their versions, aliases, stages and tags.

use axum::{
    Json, Router,
    extract::State,
    routing::{get, patch, post},
};
use domain::{ErrorCode, ModelName, ModelRef, Timestamp};
use registry::{ModelVersion, NewModel, RegisteredModel, RegistryError, Search, SourcedVersion, Stage};
use serde_json::{Value, json};

use super::wire::{Answer, Fields, Refusal, done, trimmed};
use crate::app::App;

/// Who stands in the journal for what comes through this door.
const ACTOR: &str = "mlflow";
/// The most versions and models that one page may hold.
const VERSIONS_MAX: usize = 200_000;
const MODELS_MAX: usize = 1_000;

pub fn routes() -> Router<App> {
    Router::new()
        .route("/registered-models/create", post(create_model))
        .route("/registered-models/get", get(get_model))
        .route("/registered-models/update", patch(update_model))
        .route("/registered-models/rename", post(rename_model))
        .route("/registered-models/delete", axum::routing::delete(delete_model))
        .route("/registered-models/search", get(search_models))
        .route("/registered-models/get-latest-versions", post(latest_versions).get(latest_versions))
        .route("/registered-models/set-tag", post(tag_model))
        .route("/registered-models/delete-tag", axum::routing::delete(untag_model))
        .route("/registered-models/alias", post(set_alias).delete(remove_alias).get(alias_version))
        .route("/model-versions/create", post(create_version))
        .route("/model-versions/get", get(get_version))
        .route("/model-versions/update", patch(update_version))
        .route("/model-versions/delete", axum::routing::delete(delete_version))
        .route("/model-versions/search", get(search_versions))
        .route("/model-versions/get-download-uri", get(download_uri))
        .route("/model-versions/transition-stage", post(transition_stage))
        .route("/model-versions/set-tag", post(tag_version))
        .route("/model-versions/delete-tag", axum::routing::delete(untag_version))
}

async fn create_model(State(app): State<App>, fields: Fields) -> Answer {
    let new = NewModel {
        name: name(&fields)?,
        description: fields.text_opt("description")?.unwrap_or_default(),
        tags: fields.pairs("tags")?.into_iter().collect(),
        user_id: String::new(),
    };
    answer("registered_model", model_json(&app.registry.create_model(new).await?))
}

async fn get_model(State(app): State<App>, fields: Fields) -> Answer {
    answer("registered_model", model_json(&app.registry.registered_model(&name(&fields)?).await?))
}

async fn update_model(State(app): State<App>, fields: Fields) -> Answer {
    let text = fields.text_opt("description")?.unwrap_or_default();
    answer("registered_model", model_json(&app.registry.describe_model(&name(&fields)?, &text).await?))
}

async fn rename_model(State(app): State<App>, fields: Fields) -> Answer {
    let to = model_name(&fields.text("new_name")?)?;
    answer("registered_model", model_json(&app.conductor.rename_model(&name(&fields)?, &to).await?))
}

async fn delete_model(State(app): State<App>, fields: Fields) -> Answer {
    app.conductor.delete_model(&name(&fields)?, ACTOR).await?;
    done()
}

async fn search_models(State(app): State<App>, fields: Fields) -> Answer {
    let page = app.registry.search_models(&search(&fields, 100, MODELS_MAX)?).await?;
    let models: Vec<Value> = page.items.iter().map(model_json).collect();
    Ok(Json(trimmed(json!({"registered_models": models, "next_page_token": page.next}))))
}

async fn latest_versions(State(app): State<App>, fields: Fields) -> Answer {
    let stages = fields.texts("stages")?.iter().map(|text| Stage::parse(text)).collect::<Result<Vec<_>, _>>()?;
    let found = app.registry.latest_versions(&name(&fields)?, &stages).await?;
    answer("model_versions", found.iter().map(version_json).collect())
}

async fn tag_model(State(app): State<App>, fields: Fields) -> Answer {
    let value = fields.text_opt("value")?.unwrap_or_default();
    app.registry.tag_model(&name(&fields)?, &fields.text("key")?, &value).await?;
    done()
}

async fn untag_model(State(app): State<App>, fields: Fields) -> Answer {
    app.registry.untag_model(&name(&fields)?, &fields.text("key")?).await?;
    done()
}

async fn set_alias(State(app): State<App>, fields: Fields) -> Answer {
    let ModelRef { model, version } = reference(&fields)?;
    app.registry.set_alias(&model, &fields.text("alias")?, version, &storage::caller_or(ACTOR), "").await?;
    done()
}

async fn remove_alias(State(app): State<App>, fields: Fields) -> Answer {
    app.registry.remove_alias(&name(&fields)?, &fields.text("alias")?, ACTOR).await?;
    done()
}

async fn alias_version(State(app): State<App>, fields: Fields) -> Answer {
    let found = app.registry.alias_version(&name(&fields)?, &fields.text("alias")?).await;
    // The client tells an absent alias from an absent model by this code.
    let found = found.map_err(|error| match error {
        RegistryError::NoSuchAlias { alias, .. } => {
            Refusal::invalid(format!("Registered model alias {alias} not found."))
        }
        error => error.into(),
    })?;
    answer("model_version", version_json(&found))
}

async fn create_version(State(app): State<App>, fields: Fields) -> Answer {
    let given = |name| Ok::<_, Refusal>(fields.text_opt(name)?.filter(|text| !text.is_empty()));
    let no_run = |run: &str| Refusal::new(ErrorCode::NotFound, format!("Run '{run}' not found"));
    let new = SourcedVersion {
        source: fields.text("source")?,
        run: given("run_id")?.map(|run| run.parse::<domain::RunId>().map_err(|_| no_run(&run))).transpose()?,
        logged_model: given("model_id")?,
        tags: fields.pairs("tags")?.into_iter().collect(),
        description: fields.text_opt("description")?.unwrap_or_default(),
        user_id: String::new(),
        run_link: fields.text_opt("run_link")?.unwrap_or_default(),
    };
    answer("model_version", version_json(&app.registry.register_source(&name(&fields)?, new).await?))
}

async fn get_version(State(app): State<App>, fields: Fields) -> Answer {
    answer("model_version", version_json(&app.registry.version(&reference(&fields)?).await?))
}

async fn update_version(State(app): State<App>, fields: Fields) -> Answer {
    let text = fields.text_opt("description")?.unwrap_or_default();
    answer("model_version", version_json(&app.registry.describe_version(&reference(&fields)?, &text).await?))
}

async fn delete_version(State(app): State<App>, fields: Fields) -> Answer {
    app.conductor.delete_version(&reference(&fields)?, ACTOR).await?;
    done()
}

async fn search_versions(State(app): State<App>, fields: Fields) -> Answer {
    let page = app.registry.search_versions(&search(&fields, 10_000, VERSIONS_MAX)?).await?;
    let versions: Vec<Value> = page.items.iter().map(version_json).collect();
    Ok(Json(trimmed(json!({"model_versions": versions, "next_page_token": page.next}))))
}

async fn download_uri(State(app): State<App>, fields: Fields) -> Answer {
    answer("artifact_uri", app.registry.download_uri(&reference(&fields)?).await?.into())
}

async fn transition_stage(State(app): State<App>, fields: Fields) -> Answer {
    let stage = Stage::parse(&fields.text("stage")?)?;
    let archive = fields.truth_opt("archive_existing_versions")?.unwrap_or(false);
    answer("model_version", version_json(&app.registry.move_to_stage(&reference(&fields)?, stage, archive).await?))
}

async fn tag_version(State(app): State<App>, fields: Fields) -> Answer {
    let value = fields.text_opt("value")?.unwrap_or_default();
    app.registry.tag_version(&reference(&fields)?, &fields.text("key")?, &value).await?;
    done()
}

async fn untag_version(State(app): State<App>, fields: Fields) -> Answer {
    app.registry.untag_version(&reference(&fields)?, &fields.text("key")?).await?;
    done()
}

fn answer(field: &str, value: Value) -> Answer {
    Ok(Json(trimmed(json!({ field: value }))))
}

fn name(fields: &Fields) -> Result<ModelName, Refusal> {
    model_name(&fields.text("name")?)
}

fn model_name(text: &str) -> Result<ModelName, Refusal> {
    if text.trim().is_empty() {
        return Err(Refusal::invalid("Missing value for required parameter 'name'"));
    }
    text.parse().map_err(|error: domain::BadModelName| Refusal::invalid(error.to_string()))
}

/// The version asked for. A number beyond all lawful ones is looked for like any other, and not found.
fn reference(fields: &Fields) -> Result<ModelRef, Refusal> {
    let model = name(fields)?;
    let text = fields.text("version")?;
    let number: i128 = text.trim().parse().map_err(|_| {
        Refusal::invalid(format!("Invalid value '{text}' for parameter 'version' supplied: it must be an integer"))
    })?;
    Ok(ModelRef { model, version: u32::try_from(number).unwrap_or_default() })
}

fn search(fields: &Fields, default: usize, most: usize) -> Result<Search, Refusal> {
    Ok(Search {
        filter: fields.text_opt("filter")?.unwrap_or_default(),
        order_by: fields.texts("order_by")?,
        limit: fields.max_results(default, most)?,
        page_token: fields.page_token()?,
    })
}

fn millis(at: Timestamp) -> i64 {
    at.micros().div_euclid(1_000)
}

/// An empty text is one that was never set.
fn text(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

fn pairs<'a>(map: impl IntoIterator<Item = (&'a String, &'a String)>) -> Vec<Value> {
    map.into_iter().map(|(key, value)| json!({"key": key, "value": value})).collect()
}

fn model_json(registered: &RegisteredModel) -> Value {
    let model = &registered.model;
    let aliases = model.aliases.iter().map(|(alias, version)| json!({"alias": alias, "version": version.to_string()}));
    json!({
        "name": model.name,
        "creation_timestamp": millis(model.created_at),
        "last_updated_timestamp": millis(model.updated_at),
        "user_id": text(&model.user_id),
        "description": text(&model.description),
        "latest_versions": registered.latest_versions.iter().map(version_json).collect::<Vec<_>>(),
        "tags": pairs(&model.tags),
        "aliases": aliases.collect::<Vec<_>>(),
    })
}

fn version_json(version: &ModelVersion) -> Value {
    json!({
        "name": version.model,
        "version": version.version.to_string(),
        "creation_timestamp": millis(version.created_at),
        "last_updated_timestamp": millis(version.updated_at),
        "user_id": text(&version.user_id),
        "current_stage": version.stage.as_str(),
        "description": text(&version.description),
        "source": version.source,
        "run_id": version.run,
        "status": "READY",
        "tags": pairs(&version.tags),
        "run_link": text(&version.run_link),
        "aliases": version.aliases,
        "model_id": version.logged_model,
    })
}
