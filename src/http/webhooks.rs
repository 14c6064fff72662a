//! What became of what webhooks were to be told. They are set up over MLflow's API.

use axum::{Json, extract::State};
use domain::WebhookId;
use registry::Delivery;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::problem::{Path, Problem, Query};
use crate::app::App;

pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(deliveries))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct DeliveriesQuery {
    /// At most so many, newest first.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
}

/// List what a webhook was told, and what waits for it
///
/// All that waits is kept, and the newest 200 of what ended.
#[utoipa::path(get, path = "/api/v1/webhooks/{webhook}/deliveries", operation_id = "listDeliveries", tag = "registry",
    params(("webhook" = String, Path, description = "Webhook id"), DeliveriesQuery),
    responses((status = 200, description = "Deliveries, newest first", body = Vec<Object>), (status = "4XX", description = "No such webhook", body = Problem)))]
async fn deliveries(
    State(app): State<App>,
    Path(webhook): Path<WebhookId>,
    Query(query): Query<DeliveriesQuery>,
) -> Result<Json<Vec<Delivery>>, Problem> {
    Ok(Json(app.registry.deliveries(&webhook, query.limit.unwrap_or(100).clamp(1, 1_000)).await?))
}
