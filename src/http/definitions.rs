//! Definitions: apply (YAML or JSON), list.

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, header},
};
use domain::definition::Definition;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::problem::{Problem, Query, Raw};
use crate::app::App;

pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(apply, list))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct ApplyQuery {
    /// Only say what would change.
    #[serde(default)]
    dry_run: bool,
}

/// What an apply did, definition by definition.
#[derive(Serialize, ToSchema)]
struct Applied {
    /// One entry for each definition: kind, name, action (`created`, `updated`, `unchanged`) and detail.
    #[schema(value_type = Vec<Object>)]
    changes: Vec<pipelines::Change>,
    dry_run: bool,
}

/// Apply definitions
///
/// The body is YAML (several documents parted by `---`) or, with `content-type: application/json`, an array.
/// All are checked together; nothing is written unless all are good. Applying the same again changes nothing.
#[utoipa::path(post, path = "/api/v1/definitions", operation_id = "applyDefinitions", tag = "definitions", params(ApplyQuery),
    request_body(content = String, content_type = "application/yaml"),
    responses((status = 200, description = "What changed", body = Applied), (status = "4XX", description = "Wrong definition, with line and column", body = Problem)))]
async fn apply(
    State(app): State<App>,
    Query(query): Query<ApplyQuery>,
    headers: HeaderMap,
    Raw(body): Raw,
) -> Result<Json<Applied>, Problem> {
    let is_json = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).is_some_and(|v| v.contains("json"));
    let definitions = if is_json {
        serde_json::from_slice::<Vec<Definition>>(&body)
            .map_err(|e| Problem::invalid(e.to_string(), "send an array of definitions, each with its `kind`"))?
    } else {
        let text = std::str::from_utf8(&body)
            .map_err(|e| Problem::invalid(format!("the body is not UTF-8: {e}"), "send YAML as UTF-8"))?;
        pipelines::parse(text)?
    };
    let changes = app.conductor.apply(definitions, &storage::caller_or("rest"), query.dry_run).await?;
    Ok(Json(Applied { changes, dry_run: query.dry_run }))
}

#[derive(Serialize, ToSchema)]
struct Definitions {
    #[schema(value_type = Vec<Object>)]
    definitions: Vec<Definition>,
}

/// List every definition
#[utoipa::path(get, path = "/api/v1/definitions", operation_id = "listDefinitions", tag = "definitions",
    responses((status = 200, description = "Definitions as they stand", body = Definitions), (status = "4XX", description = "Wrong request", body = Problem)))]
async fn list(State(app): State<App>) -> Result<Json<Definitions>, Problem> {
    Ok(Json(Definitions { definitions: app.conductor.definitions() }))
}
