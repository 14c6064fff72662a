//! Rows from Feast's clients. What is written is durable, in history and online when the answer comes.

use axum::{Json, extract::State};
use domain::{SourceName, ViewName};
use feature_store::IngestReport;
use serde::Deserialize;

use super::Body;
use crate::{
    app::App,
    counts,
    feast::{self, Class, Refusal, columns::Columns},
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WriteRequest {
    feature_view_name: String,
    df: Columns,
    /// Definitions are never cached here.
    #[serde(default, rename = "allow_registry_cache")]
    _allow_registry_cache: bool,
    /// There are no transformations on write.
    #[serde(default, rename = "transform_on_write")]
    _transform_on_write: bool,
}

/// Write rows of a feature view, as Feast's clients do
///
/// `df` holds lists by column: keys, features, `event_timestamp` and, where the source has one, `created`. A time without
/// a zone is UTC. All rows are taken or none; an older event never takes the place of a newer one.
#[utoipa::path(post, path = "/write-to-online-store", operation_id = "feastWriteToOnlineStore", tag = "feast",
    request_body = Object,
    responses((status = 200, description = "`null`: the rows are durable and served"),
              (status = "4XX", description = "Feast's error: a JSON string with module, class and message", content_type = "application/json", body = String)))]
pub async fn write_to_online_store(
    State(app): State<App>,
    Body(request): Body<WriteRequest>,
) -> Result<Json<()>, Refusal> {
    let name = request.feature_view_name.parse::<ViewName>();
    let name = name.map_err(|e| Refusal::not_found(Class::ViewNotFound, e.to_string()))?;
    let source = app.features.source(&app.features.view(&name)?.source)?;
    let rows = request.df.into_rows(&source)?;
    count(&app, &source.name, &app.features.write_view(&name, rows).await?);
    Ok(Json(()))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PushRequest {
    push_source_name: String,
    df: Columns,
    /// History and online values are one here, so all three are the same.
    #[serde(default, rename = "to")]
    _to: To,
    #[serde(default, rename = "allow_registry_cache")]
    _allow_registry_cache: bool,
    #[serde(default, rename = "transform_on_write")]
    _transform_on_write: bool,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "snake_case")]
enum To {
    #[default]
    Online,
    Offline,
    OnlineAndOffline,
}

/// Push rows of a source, as Feast's clients do
///
/// `push_source_name` is a source's name, or that name with `_push` behind it. Rows go into history and online at once,
/// whatever `to` says: there is one truth.
#[utoipa::path(post, path = "/push", operation_id = "feastPush", tag = "feast", request_body = Object,
    responses((status = 200, description = "`null`: the rows are durable and served"),
              (status = "4XX", description = "Feast's error: a JSON string with module, class and message", content_type = "application/json", body = String)))]
pub async fn push(State(app): State<App>, Body(request): Body<PushRequest>) -> Result<Json<()>, Refusal> {
    let source = feast::push::source(&app.features, &request.push_source_name)?;
    let rows = request.df.into_rows(&source)?;
    count(&app, &source.name, &app.features.write_source(&source.name, rows).await?);
    Ok(Json(()))
}

fn count(app: &App, source: &SourceName, report: &IngestReport) {
    counts::ingested(&app.metrics, source, report);
}
