//! Files of the server's disk as a source of rows.

use axum::{Json, extract::State};
use domain::SourceName;
use feature_store::{LoadState, LoadedFile};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::problem::{Body, Path, Problem, Query};
use crate::app::App;

pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(load)).routes(routes!(all)).routes(routes!(one)).routes(routes!(files))
}

/// What to load.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct LoadRequest {
    /// A file, a folder, or a pattern with `*` and `?` in its last part, below one of the folders of `ingestion.paths`.
    #[schema(example = "/srv/rows/2024-03-*.csv")]
    path: String,
}

/// Load files of the server's disk into a source
///
/// Answers at once; the load goes on by itself, also after a restart. Files that were loaded before, by their bytes, are passed
/// over. Bad rows are quarantined; a file that cannot be read is named, and the others are taken.
#[utoipa::path(post, path = "/api/v1/sources/{source}/load", operation_id = "loadFiles", tag = "features",
    params(("source" = String, Path, description = "Name of the source")), request_body = LoadRequest,
    responses((status = 200, description = "The load, with its number", body = Object),
              (status = "4XX", description = "No such source, or a path that may not be loaded", body = Problem)))]
async fn load(
    State(app): State<App>,
    Path(source): Path<SourceName>,
    Body(request): Body<LoadRequest>,
) -> Result<Json<LoadState>, Problem> {
    Ok(Json(app.features.load(&source, &request.path, &storage::caller_or("rest")).await?))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct Newest {
    /// At most so many, newest first.
    #[serde(default = "hundred")]
    #[param(minimum = 1, maximum = 1000)]
    limit: usize,
}

const fn hundred() -> usize {
    100
}

/// List loads
#[utoipa::path(get, path = "/api/v1/loads", operation_id = "listLoads", tag = "features", params(Newest),
    responses((status = 200, description = "Loads with their phase, files, rows and progress", body = Vec<Object>),
              (status = "4XX", description = "Wrong request", body = Problem)))]
async fn all(State(app): State<App>, Query(query): Query<Newest>) -> Result<Json<Vec<LoadState>>, Problem> {
    Ok(Json(app.features.loads(query.limit.clamp(1, 1_000)).await?))
}

/// Look at a load
#[utoipa::path(get, path = "/api/v1/loads/{load}", operation_id = "getLoad", tag = "features",
    params(("load" = u64, Path, description = "Number of the load")),
    responses((status = 200, description = "Phase, files, rows and progress", body = Object),
              (status = "4XX", description = "No such load", body = Problem)))]
async fn one(State(app): State<App>, Path(load): Path<u64>) -> Result<Json<LoadState>, Problem> {
    Ok(Json(app.features.load_state(load).await?))
}

/// List the files that were loaded into a source
#[utoipa::path(get, path = "/api/v1/sources/{source}/files", operation_id = "listLoadedFiles", tag = "features",
    params(("source" = String, Path, description = "Name of the source"), Newest),
    responses((status = 200, description = "Path, digest, what became of the rows, and why a file failed", body = Vec<Object>),
              (status = "4XX", description = "No such source", body = Problem)))]
async fn files(
    State(app): State<App>,
    Path(source): Path<SourceName>,
    Query(query): Query<Newest>,
) -> Result<Json<Vec<LoadedFile>>, Problem> {
    Ok(Json(app.features.loaded_files(&source, query.limit.clamp(1, 1_000)).await?))
}
