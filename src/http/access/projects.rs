//! Projects: which there are, and new ones.

use access::Project;
use axum::{Extension, Json, extract::State, http::StatusCode};
use domain::ProjectName;
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{Visitor, tokens::ACTOR};
use crate::{
    app::App,
    http::problem::{Body, Problem},
    tenants::Tenants,
};

pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list, create))
}

/// List the projects that are open to you
#[utoipa::path(get, path = "/api/v1/projects", operation_id = "listProjects", tag = "access",
    responses((status = 200, description = "Projects by name", body = Vec<Object>), (status = "4XX", description = "Not allowed", body = Problem)))]
async fn list(
    State(app): State<App>,
    Extension(tenants): Extension<Tenants>,
    visitor: Visitor,
) -> Result<Json<Vec<Project>>, Problem> {
    Ok(Json(tenants.open_to(&visitor, &app.project).await?))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Create {
    /// At most 40 lowercase letters, digits, `-` and `_`.
    #[schema(value_type = String, example = "vision")]
    name: ProjectName,
}

/// Create a project
///
/// It has models, features, endpoints, tokens and an audit log of its own and shares nothing with other projects.
#[utoipa::path(post, path = "/api/v1/projects", operation_id = "createProject", tag = "access", request_body = Create,
    responses((status = 201, description = "The project", body = Object), (status = "4XX", description = "A name that is taken, or not allowed", body = Problem)))]
async fn create(
    Extension(tenants): Extension<Tenants>,
    Body(new): Body<Create>,
) -> Result<(StatusCode, Json<Project>), Problem> {
    let project = tenants.create(&new.name, ACTOR).await.map_err(Problem::from_any)?;
    Ok((StatusCode::CREATED, Json(project)))
}
