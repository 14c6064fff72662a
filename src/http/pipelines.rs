//! Pipelines, their runs, the journal and the overview that the console shows.

use axum::{Json, extract::State, http::StatusCode};
use domain::{Event, PipelineName, PipelineRunId, Timestamp};
use pipelines::{Cause, Overview, PipelineRun, RunFilter};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::problem::{Body, Path, Problem, Query};
use crate::app::App;

pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(trigger))
        .routes(routes!(runs))
        .routes(routes!(run))
        .routes(routes!(events))
        .routes(routes!(overview))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Trigger {
    /// Train on what was known by this instant; now when left out.
    #[schema(value_type = Option<String>, format = DateTime)]
    cutoff: Option<Timestamp>,
    /// Why; kept with the run.
    #[serde(default)]
    reason: String,
}

#[derive(Serialize, ToSchema)]
struct Triggered {
    #[schema(value_type = String)]
    run: PipelineRunId,
}

/// Run a pipeline
///
/// Answers at once with the run's id. While a run of the pipeline is active, its id is returned instead of a new one.
#[utoipa::path(post, path = "/api/v1/pipelines/{pipeline}/runs", operation_id = "triggerPipeline", tag = "pipelines",
    params(("pipeline" = String, Path, description = "Pipeline")), request_body = Trigger,
    responses((status = 202, description = "The run's id", body = Triggered), (status = "4XX", description = "No such pipeline", body = Problem)))]
async fn trigger(
    State(app): State<App>,
    Path(pipeline): Path<PipelineName>,
    Body(trigger): Body<Trigger>,
) -> Result<(StatusCode, Json<Triggered>), Problem> {
    let cause = Cause::manual(trigger.reason);
    let run = app.conductor.trigger(&pipeline, cause, trigger.cutoff).await?;
    Ok((StatusCode::ACCEPTED, Json(Triggered { run })))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct RunsQuery {
    #[param(value_type = Option<String>)]
    pipeline: Option<PipelineName>,
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
}

/// List pipeline runs, newest first
#[utoipa::path(get, path = "/api/v1/pipeline-runs", operation_id = "listPipelineRuns", tag = "pipelines", params(RunsQuery),
    responses((status = 200, description = "Runs with steps and decisions", body = Vec<Object>), (status = "4XX", description = "Wrong request", body = Problem)))]
async fn runs(State(app): State<App>, Query(query): Query<RunsQuery>) -> Result<Json<Vec<PipelineRun>>, Problem> {
    let filter = RunFilter { pipeline: query.pipeline, limit: query.limit.unwrap_or(100).clamp(1, 1_000) };
    Ok(Json(app.conductor.runs(&filter).await?))
}

/// Read a pipeline run
#[utoipa::path(get, path = "/api/v1/pipeline-runs/{run}", operation_id = "getPipelineRun", tag = "pipelines",
    params(("run" = String, Path, description = "Pipeline run id")),
    responses((status = 200, description = "The run, its steps and its decision", body = Object), (status = "4XX", description = "No such run", body = Problem)))]
async fn run(State(app): State<App>, Path(run): Path<PipelineRunId>) -> Result<Json<PipelineRun>, Problem> {
    Ok(Json(app.conductor.run(&run).await?))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct EventsQuery {
    /// Only events after this sequence number; oldest first.
    #[serde(default)]
    after: u64,
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
}

/// Read the journal
#[utoipa::path(get, path = "/api/v1/events", operation_id = "listEvents", tag = "pipelines", params(EventsQuery),
    responses((status = 200, description = "Every change of state, in order, each naming its cause", body = Vec<Object>), (status = "4XX", description = "Wrong request", body = Problem)))]
async fn events(State(app): State<App>, Query(query): Query<EventsQuery>) -> Result<Json<Vec<Event>>, Problem> {
    Ok(Json(app.meta.journal().read(query.after, query.limit.unwrap_or(100).clamp(1, 1_000)).await?))
}

/// Read the loop as it stands
#[utoipa::path(get, path = "/api/v1/overview", operation_id = "overview", tag = "pipelines",
    responses((status = 200, description = "What the page at / shows", body = Object), (status = "4XX", description = "Wrong request", body = Problem)))]
async fn overview(State(app): State<App>) -> Result<Json<Overview>, Problem> {
    Ok(Json(app.conductor.overview().await?))
}
