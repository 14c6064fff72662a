//! MLflow's REST API: what its Python client, its command and its web pages call.
//!
//! Each file serves the routes of one noun, written without their prefix: they are served under `/api/2.0/mlflow` and
//! `/ajax-api/2.0/mlflow`. Handlers read [`wire::Fields`], call one method of the registry and write the answer.

pub mod artifacts;
mod experiments;
mod logged_models;
mod metrics;
mod models;
mod run_json;
mod runs;
mod webhooks;
pub mod wire;
mod workspaces;

use axum::{Json, Router, routing::get};
use serde_json::json;

use crate::app::App;
use wire::Answer;

/// The version of MLflow whose API is spoken.
const SPOKEN: &str = "3.17.2";

pub fn routes() -> Router<App> {
    let calls = || {
        experiments::routes()
            .merge(runs::routes())
            .merge(metrics::routes())
            .merge(logged_models::routes())
            .merge(models::routes())
            .merge(webhooks::routes())
            .merge(artifacts::routes())
    };
    let newer = || workspaces::routes().route("/server-info", get(server_info));
    Router::new()
        .nest("/api/2.0/mlflow", calls())
        .nest("/ajax-api/2.0/mlflow", calls())
        .nest("/api/2.0/mlflow-artifacts", artifacts::proxy_routes())
        .nest("/ajax-api/2.0/mlflow-artifacts", artifacts::proxy_routes())
        .nest("/api/3.0/mlflow", newer())
        .nest("/ajax-api/3.0/mlflow", newer())
        .merge(artifacts::page_routes())
        .route("/health", get(async || "OK"))
        .route("/version", get(async || SPOKEN))
}

/// Whether MLflow's clients call this path, and so read its answers.
pub fn is_ours(path: &str) -> bool {
    ["/api/2.0/", "/api/3.0/", "/ajax-api/", "/get-artifact", "/model-versions/"]
        .iter()
        .any(|ours| path.starts_with(ours))
}

/// What the client may use beyond the plain calls.
async fn server_info() -> Answer {
    Ok(Json(json!({
        "store_type": "millpond",
        "workspaces_enabled": true,
        "trace_archival_enabled": false,
        "multipart_uploads_enabled": true,
        "multipart_downloads_enabled": false,
        "presigned_upload_run_id_supported": false,
        "presigned_upload_model_id_supported": false,
    })))
}
