//! Streams that sources read from.

use axum::{Json, extract::State};
use domain::SourceName;
use feature_store::StreamState;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::problem::{Path, Problem};
use crate::app::App;

pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(all)).routes(routes!(one)).routes(routes!(pause)).routes(routes!(resume))
}

/// List the streams that sources read from
#[utoipa::path(get, path = "/api/v1/streams", operation_id = "listStreams", tag = "features",
    responses((status = 200, description = "Each stream with its phase, lag and counts", body = Vec<Object>),
              (status = "4XX", description = "Not allowed", body = Problem)))]
async fn all(State(app): State<App>) -> Json<Vec<StreamState>> {
    Json(app.features.streams())
}

/// Look at the stream of a source
#[utoipa::path(get, path = "/api/v1/sources/{source}/stream", operation_id = "getStream", tag = "features",
    params(("source" = String, Path, description = "Name of the source")),
    responses((status = 200, description = "Phase, last error, lag and counts", body = Object),
              (status = "4XX", description = "No such source, or it has no stream", body = Problem)))]
async fn one(State(app): State<App>, Path(source): Path<SourceName>) -> Result<Json<StreamState>, Problem> {
    Ok(Json(app.features.stream(&source)?))
}

/// Pause the stream of a source
///
/// The batch at hand is stored and acknowledged first; later entries wait in the stream until it is resumed.
#[utoipa::path(post, path = "/api/v1/sources/{source}/stream/pause", operation_id = "pauseStream", tag = "features",
    params(("source" = String, Path, description = "Name of the source")),
    responses((status = 200, description = "How the stream stands", body = Object),
              (status = "4XX", description = "No such source, or it has no stream", body = Problem)))]
async fn pause(State(app): State<App>, Path(source): Path<SourceName>) -> Result<Json<StreamState>, Problem> {
    Ok(Json(app.features.pause_stream(&source, &storage::caller_or("rest")).await?))
}

/// Resume the stream of a source
#[utoipa::path(post, path = "/api/v1/sources/{source}/stream/resume", operation_id = "resumeStream", tag = "features",
    params(("source" = String, Path, description = "Name of the source")),
    responses((status = 200, description = "How the stream stands", body = Object),
              (status = "4XX", description = "No such source, or it has no stream", body = Problem)))]
async fn resume(State(app): State<App>, Path(source): Path<SourceName>) -> Result<Json<StreamState>, Problem> {
    Ok(Json(app.features.resume_stream(&source, &storage::caller_or("rest")).await?))
}
