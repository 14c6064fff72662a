//! Lineage over all rooms, and what a dataset reached.

use axum::{Json, extract::State};
use domain::{
    Digest,
    lineage::{BadNodeRef, Direction, Lineage, NodeRef},
};
use pipelines::Impact;
use registry::Reach;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::problem::{Path, Problem, Query};
use crate::app::App;

pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(lineage)).routes(routes!(impact))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct LineageQuery {
    /// `dataset/DIGEST`, `input/NAME/DIGEST`, `run/ID`, `logged_model/ID`, `model/NAME/VERSION`, `endpoint/NAME`,
    /// `predictions/ENDPOINT/VERSION` or `prediction/ID`.
    #[param(example = "model/flight-delay/3")]
    node: String,
    /// `up`: what it came from; `down`: what came from it; `both`.
    #[serde(default)]
    #[param(value_type = Option<String>)]
    direction: Direction,
    /// Steps from the node.
    #[serde(default = "ten")]
    #[param(minimum = 1, maximum = 20)]
    depth: usize,
    /// Nodes of the answer.
    #[serde(default = "five_hundred")]
    #[param(minimum = 1, maximum = 1000)]
    limit: usize,
}

const fn ten() -> usize {
    10
}

const fn five_hundred() -> usize {
    500
}

/// Trace a node up and down
///
/// From the data over runs, logged models and versions to endpoints and their prediction log, and back. What does not
/// fit the limits is left out, and `cut` says so.
#[utoipa::path(get, path = "/api/v1/lineage", operation_id = "lineage", tag = "pipelines", params(LineageQuery),
    responses((status = 200, description = "Nodes and edges, from what came first", body = Object), (status = "4XX", description = "No such node", body = Problem)))]
async fn lineage(State(app): State<App>, Query(query): Query<LineageQuery>) -> Result<Json<Lineage>, Problem> {
    let node = query.node.parse::<NodeRef>();
    let node = node.map_err(|error: BadNodeRef| Problem::invalid(error.to_string(), "name a node by kind and id"))?;
    let reach = Reach { depth: query.depth.max(1), nodes: query.limit.max(1) };
    Ok(Json(app.conductor.lineage(&node, query.direction, reach).await?))
}

/// Read which versions and endpoints a dataset reached
#[utoipa::path(get, path = "/api/v1/datasets/{digest}/impact", operation_id = "datasetImpact", tag = "pipelines",
    params(("digest" = String, Path, description = "Digest of the dataset")),
    responses((status = 200, description = "Versions that learned from it, and endpoints that served them", body = Object), (status = "4XX", description = "No such dataset", body = Problem)))]
async fn impact(State(app): State<App>, Path(digest): Path<Digest>) -> Result<Json<Impact>, Problem> {
    Ok(Json(app.conductor.impact(&digest).await?))
}
