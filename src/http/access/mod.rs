//! The one door of REST, gRPC and pages: who calls, into which project, and whether they may.
//!
//! [`door`] finds out who calls and hands the request to the routes of their project; [`check`] stands before every one
//! of these routes and asks [`rules`], which right the route needs. A route without a rule is served to nobody.

mod audit;
mod check;
mod credentials;
mod door;
mod projects;
pub mod refuse;
mod rules;
mod tokens;
mod visitor;

use utoipa_axum::router::OpenApiRouter;

pub use check::{check, demand};
pub use door::{Door, Peer, Scheme};
pub use rules::{is_service, page, table};
pub use visitor::Visitor;

use crate::app::App;

pub fn routes() -> OpenApiRouter<App> {
    tokens::routes().merge(projects::routes()).merge(audit::routes())
}
