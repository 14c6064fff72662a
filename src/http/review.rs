//! Alerts and the review queue.

use axum::{Json, extract::State};
use domain::{
    EndpointName, TaskId,
    state::{AlertState, TaskState},
};
use evaluator::{Alert, AlertFilter, LabelReport, Task};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::problem::{Body, Path, Problem, Query};
use crate::app::App;

pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(alerts)).routes(routes!(tasks)).routes(routes!(answer))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct AlertsQuery {
    #[param(value_type = Option<String>)]
    endpoint: Option<EndpointName>,
    /// `open` or `cleared`.
    #[param(value_type = Option<String>)]
    state: Option<AlertState>,
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
}

/// List alerts, newest first
#[utoipa::path(get, path = "/api/v1/alerts", operation_id = "listAlerts", tag = "evaluator", params(AlertsQuery),
    responses((status = 200, description = "Alerts with their evidence", body = Vec<Object>), (status = "4XX", description = "Wrong request", body = Problem)))]
async fn alerts(State(app): State<App>, Query(query): Query<AlertsQuery>) -> Result<Json<Vec<Alert>>, Problem> {
    let filter =
        AlertFilter { endpoint: query.endpoint, state: query.state, limit: query.limit.unwrap_or(100).clamp(1, 1_000) };
    Ok(Json(app.evaluator.alerts(filter).await?))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct TasksQuery {
    /// `queued` (default), `answered` or `withdrawn`.
    #[param(value_type = Option<String>)]
    state: Option<TaskState>,
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
}

/// List review tasks
#[utoipa::path(get, path = "/api/v1/endpoints/{endpoint}/review", operation_id = "listReviewTasks", tag = "evaluator",
    params(("endpoint" = String, Path, description = "Endpoint"), TasksQuery),
    responses((status = 200, description = "Tasks with what the model saw and why they are here", body = Vec<Object>), (status = "4XX", description = "No such endpoint", body = Problem)))]
async fn tasks(
    State(app): State<App>,
    Path(endpoint): Path<EndpointName>,
    Query(query): Query<TasksQuery>,
) -> Result<Json<Vec<Task>>, Problem> {
    let state = query.state.unwrap_or(TaskState::Queued);
    Ok(Json(app.evaluator.tasks(&endpoint, Some(state), query.limit.unwrap_or(100).clamp(1, 1_000)).await?))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Answer {
    /// True for the positive class.
    value: bool,
    /// Who answers.
    #[schema(example = "ada")]
    reviewer: String,
}

/// Answer a review task
///
/// The answer becomes a reviewer's label: it is stored like any label, and outranks an outcome.
#[utoipa::path(post, path = "/api/v1/review/{task}/answer", operation_id = "answerReviewTask", tag = "evaluator",
    params(("task" = String, Path, description = "Task id")), request_body = Answer,
    responses((status = 200, description = "What became of the label", body = Object), (status = "4XX", description = "No such task, or answered otherwise", body = Problem)))]
async fn answer(
    State(app): State<App>,
    Path(task): Path<TaskId>,
    Body(answer): Body<Answer>,
) -> Result<Json<LabelReport>, Problem> {
    Ok(Json(app.conductor.answer(&task, answer.value, &storage::caller_or(&answer.reviewer)).await?))
}
