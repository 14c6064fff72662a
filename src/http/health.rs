//! Liveness, readiness and metrics.

use std::time::Duration;

use axum::{extract::State, http::header, response::IntoResponse};
use domain::ErrorCode;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::problem::Problem;
use crate::app::App;

/// How long the database may take to say that it is there.
const DATABASE_WITHIN: Duration = Duration::from_secs(2);

pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(healthz)).routes(routes!(readyz)).routes(routes!(metrics))
}

/// Whether the process can answer at all
#[utoipa::path(get, path = "/healthz", operation_id = "healthz", tag = "operations",
    responses((status = 200, description = "Alive", body = String), (status = "4XX", description = "Wrong method", body = Problem)))]
async fn healthz() -> &'static str {
    "ok\n"
}

/// Whether new work is taken: not while starting or draining, nor while the database does not answer
#[utoipa::path(get, path = "/readyz", operation_id = "readyz", tag = "operations",
    responses((status = 200, description = "Ready", body = String), (status = 503, description = "Draining, or without its database", body = Problem),
              (status = "4XX", description = "Wrong method", body = Problem)))]
async fn readyz(State(app): State<App>) -> Result<&'static str, Problem> {
    if app.is_draining() {
        return Err(Problem::new(ErrorCode::Unavailable, "the server is draining", "use another server"));
    }
    if !app.meta.answers(DATABASE_WITHIN).await {
        return Err(Problem::new(ErrorCode::Unavailable, "the database does not answer", "use another server"));
    }
    Ok("ready\n")
}

/// Prometheus metrics, text format 0.0.4
#[utoipa::path(get, path = "/metrics", operation_id = "metrics", tag = "operations",
    responses((status = 200, description = "Metrics", body = String, content_type = "text/plain"),
              (status = "4XX", description = "Wrong method", body = Problem)))]
async fn metrics(State(app): State<App>) -> impl IntoResponse {
    crate::counts::freshness(&app.metrics, &app.features);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], app.metrics.render())
}
