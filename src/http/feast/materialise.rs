//! Materialisation: checked, because rows are online from the start.

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use serde::Deserialize;
use serde_json::json;
use utoipa::IntoParams;

use super::Body;
use crate::{
    app::App,
    feast::{
        Refusal,
        materialise::{Job, Request},
    },
    http::problem::{Problem, Query},
};

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct How {
    /// Whether to answer 202 at once.
    #[serde(default, rename = "async")]
    in_background: bool,
    /// Whether to begin although one is under way.
    #[serde(default)]
    force: bool,
}

/// Make sure that a stretch of time is online, as Feast's clients do
///
/// Rows go online when they are ingested. This compares, for every entity with rows between `start_ts` and `end_ts`, what
/// is served with what history says, and builds a view's online values anew where they differ.
#[utoipa::path(post, path = "/materialize", operation_id = "feastMaterialize", tag = "feast", params(How),
    request_body = Object,
    responses((status = 200, description = "`null`: the stretch is online"),
              (status = 202, description = "The check has begun", body = Object),
              (status = "4XX", description = "Feast's error: a JSON string with module, class and message", content_type = "application/json", body = String)))]
pub async fn materialize(
    State(app): State<App>,
    how: Result<Query<How>, Problem>,
    Body(request): Body<Request>,
) -> Result<Response, Refusal> {
    run(app.clone(), request.read(&app.features, false).await?, how?.0).await
}

/// The same from wherever it was to `end_ts`
#[utoipa::path(post, path = "/materialize-incremental", operation_id = "feastMaterializeIncremental", tag = "feast",
    params(How), request_body = Object,
    responses((status = 200, description = "`null`: everything up to `end_ts` is online"),
              (status = 202, description = "The check has begun", body = Object),
              (status = "4XX", description = "Feast's error: a JSON string with module, class and message", content_type = "application/json", body = String)))]
pub async fn materialize_incremental(
    State(app): State<App>,
    how: Result<Query<How>, Problem>,
    Body(request): Body<Request>,
) -> Result<Response, Refusal> {
    run(app.clone(), request.read(&app.features, true).await?, how?.0).await
}

async fn run(app: App, job: Job, how: How) -> Result<Response, Refusal> {
    let now = app.clock.now();
    if !how.in_background {
        job.run(&app.features, now).await?;
        return Ok(Json(()).into_response());
    }
    let turn = app.materialising.begin(&job.views, how.force)?;
    let accepted = Json(json!({"status": "accepted", "feature_views": job.views}));
    let features = app.features.clone();
    app.house.spawn("feast materialisation", move |stop| async move {
        let _turn = turn;
        tokio::select! {
            () = stop.cancelled() => {}
            done = job.run(&features, now) => if let Err(error) = done {
                tracing::error!(%error, "a materialisation failed");
            }
        }
    });
    Ok((StatusCode::ACCEPTED, accepted).into_response())
}
