//! The REST door: routes, the layers every request passes, and the OpenAPI document.

pub(crate) mod access;
mod approvals;
pub mod connections;
mod content;
mod definitions;
mod endpoints;
mod feast;
mod features;
mod health;
mod layers;
mod lineage;
mod loads;
mod mlflow;
mod origin;
mod pages;
mod pipelines;
pub mod problem;
mod quarantine;
mod registry;
mod review;
mod sql;
mod streams;
mod tables;
mod webhooks;
pub mod wires;

use axum::{Extension, Router, middleware};
use utoipa::{OpenApi, openapi::RefOr};
use utoipa_axum::router::OpenApiRouter;

pub use access::{Door, Peer, Scheme, Visitor, page as permissions_page, table as permissions};
pub use origin::Names;

use crate::app::App;

/// The document's frame; paths are added where routes are.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Millpond",
        description = "An ML platform in one binary: registry, feature store, trainer, serving, evaluator and the loop \
                       that retrains. Every error is `application/problem+json` with a `code`, a `detail` and a `hint`.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    servers((url = "/", description = "this server")),
    tags(
        (name = "definitions", description = "Entities, sources, feature views and services, pipelines and endpoints"),
        (name = "features", description = "Ingestion, online values and point-in-time joins"),
        (name = "feast", description = "What Feast's clients call; errors have Feast's form: a JSON string"),
        (name = "registry", description = "Runs, metrics, models, versions, aliases and lineage"),
        (name = "serving", description = "Deployments and predictions"),
        (name = "evaluator", description = "Labels, quality, drift, alerts and review tasks"),
        (name = "pipelines", description = "Retraining runs and the journal"),
        (name = "access", description = "Projects, tokens and the audit log"),
        (name = "operations", description = "Health and metrics")
    )
)]
struct Frame;

fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::with_openapi(Frame::openapi())
        .merge(health::routes())
        .merge(definitions::routes())
        .merge(features::routes())
        .merge(tables::routes())
        .merge(sql::routes())
        .merge(loads::routes())
        .merge(quarantine::routes())
        .merge(streams::routes())
        .merge(feast::routes())
        .merge(registry::routes())
        .merge(content::routes())
        .merge(approvals::routes())
        .merge(webhooks::routes())
        .merge(endpoints::routes())
        .merge(review::routes())
        .merge(pipelines::routes())
        .merge(lineage::routes())
        .merge(access::routes())
}

/// The OpenAPI 3.1 document of every route.
pub fn openapi() -> utoipa::openapi::OpenApi {
    described().1
}

/// Every route, and the document that describes them.
fn described() -> (Router<App>, utoipa::openapi::OpenApi) {
    let (router, mut document) = routes().split_for_parts();
    for item in document.paths.paths.values_mut() {
        let operations = [&mut item.get, &mut item.put, &mut item.post, &mut item.delete];
        // Feast's clients read errors of another form.
        let is_feasts = |tags: &Option<Vec<String>>| tags.iter().flatten().any(|tag| tag == "feast");
        let operations = operations.into_iter().flatten().filter(|operation| !is_feasts(&operation.tags));
        let responses = operations.flat_map(|operation| &mut operation.responses.responses);
        for response in responses.filter(|(status, _)| !status.starts_with('2')).map(|(_, response)| response) {
            // The attributes on the routes say `body = Problem`, which stands for plain JSON.
            if let RefOr::T(response) = response
                && let Some(problem) = response.content.shift_remove("application/json")
            {
                response.content.insert(problem::CONTENT_TYPE.to_owned(), problem);
            }
        }
    }
    (router, document)
}

/// Limits that every request meets at the door.
#[derive(Debug, Clone, Copy)]
pub struct DoorLimits {
    pub max_body_bytes: usize,
    pub deadline: std::time::Duration,
    /// Of one artifact, or of one part of it.
    pub max_artifact_bytes: u64,
    /// How long an artifact on its way may stand still; it has no other deadline.
    pub transfer_idle: std::time::Duration,
}

/// The routes of REST and of pages, before any layer.
fn undressed() -> Router<App> {
    let (rest, document) = described();
    rest.merge(pages::routes(document)).merge(mlflow::routes())
}

/// REST, pages and (merged) gRPC of one project on one router. Every route stands behind [`access::check`].
pub fn router(app: App, grpc: Router, limits: DoorLimits) -> Router {
    let rest = undressed()
        .layer(Extension(problem::BodyLimit(limits.max_body_bytes)))
        .layer(Extension(limits))
        .layer(middleware::from_fn_with_state(limits.deadline, layers::deadline));
    rest.with_state(app.clone())
        .merge(grpc)
        .layer(middleware::from_fn_with_state(app.clone(), access::check))
        .layer(middleware::from_fn_with_state(app, layers::observe))
}
