//! Workspaces, as MLflow's clients call projects. Those that a client works in travel in `X-MLFLOW-WORKSPACE`, which the
//! door reads.

use access::{AccessError, Project};
use axum::{
    Extension, Json, Router,
    extract::{Path, State},
    http::StatusCode,
    routing::get,
};
use domain::ErrorCode;
use serde_json::{Value, json};

use super::wire::{Answer, Fields, Refusal};
use crate::{app::App, http::access::Visitor, tenants::Tenants};

const ACTOR: &str = "mlflow";

pub fn routes() -> Router<App> {
    Router::new().route("/workspaces", get(list).post(create)).route("/workspaces/{name}", get(find))
}

fn shown(project: &Project) -> Value {
    json!({"name": project.name})
}

async fn list(State(app): State<App>, Extension(tenants): Extension<Tenants>, visitor: Visitor) -> Answer {
    let open = tenants.open_to(&visitor, &app.project).await?;
    Ok(Json(json!({"workspaces": open.iter().map(shown).collect::<Vec<_>>()})))
}

async fn find(
    State(app): State<App>,
    Extension(tenants): Extension<Tenants>,
    visitor: Visitor,
    Path(name): Path<String>,
) -> Answer {
    let open = tenants.open_to(&visitor, &app.project).await?;
    let found = open.iter().find(|project| project.name.as_str() == name);
    let found = found.ok_or_else(|| Refusal::new(ErrorCode::NotFound, format!("Workspace {name:?} not found")))?;
    Ok(Json(json!({"workspace": shown(found)})))
}

async fn create(Extension(tenants): Extension<Tenants>, fields: Fields) -> Result<(StatusCode, Json<Value>), Refusal> {
    let name = fields.text("name")?.parse().map_err(|e: domain::BadName| Refusal::invalid(e.to_string()))?;
    let project = tenants.create(&name, ACTOR).await.map_err(|error| match error.downcast::<AccessError>() {
        Ok(known) => known.into(),
        Err(error) => Refusal::new(ErrorCode::Unavailable, format!("the project does not open: {error}")),
    })?;
    Ok((StatusCode::CREATED, Json(json!({"workspace": shown(&project)}))))
}
