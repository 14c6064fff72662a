//! Tokens of the project, and who one is.

use access::{NewToken, Token, TokenId, lifetime};
use axum::{Json, extract::State, http::StatusCode};
use domain::{ProjectName, Right, Role, Span};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::Visitor;
use crate::{
    app::App,
    http::problem::{Body, Path, Problem},
};

/// Who stands in the journal where a call needs no token.
pub const ACTOR: &str = "rest";

pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(whoami))
        .routes(routes!(list, create))
        .routes(routes!(revoke))
        .routes(routes!(rotate))
}

/// Who a call comes from.
#[derive(Serialize, ToSchema)]
struct Whoami {
    #[schema(value_type = String)]
    project: ProjectName,
    /// Absent where calls need no token.
    #[schema(value_type = Option<Object>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<Token>,
    /// What the caller may do: `read`, `predict`, `review`, `write`, `operate`, `administer`.
    #[schema(value_type = Vec<String>)]
    rights: Vec<Right>,
}

/// Read who you are and what you may do
#[utoipa::path(get, path = "/api/v1/whoami", operation_id = "whoami", tag = "access",
    responses((status = 200, description = "The caller", body = Whoami), (status = "4XX", description = "No token that holds", body = Problem)))]
async fn whoami(State(app): State<App>, visitor: Visitor) -> Json<Whoami> {
    let rights = Right::ALL.iter().copied().filter(|right| visitor.may(*right)).collect();
    Json(Whoami { project: app.project, token: visitor.token.map(|token| Token::clone(&token)), rights })
}

/// List tokens, oldest first; their secrets are kept by nobody but their holders
#[utoipa::path(get, path = "/api/v1/tokens", operation_id = "listTokens", tag = "access",
    responses((status = 200, description = "Tokens, also those that no longer hold", body = Vec<Object>), (status = "4XX", description = "Not allowed", body = Problem)))]
async fn list(State(app): State<App>) -> Json<Vec<Token>> {
    Json(app.access.tokens().await)
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Create {
    /// Who holds it; the audit log calls them so.
    #[schema(example = "ann")]
    name: String,
    /// `viewer`, `reviewer`, `engineer`, `operator` or `admin`.
    #[schema(value_type = String, example = "engineer")]
    role: Role,
    /// Rights to narrow it to, as `["predict"]` for a program that only asks for predictions; all of its role when empty.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    scopes: Vec<Right>,
    /// Whether it opens every project. Only who holds such a token can make one.
    #[serde(default)]
    house: bool,
    /// How long it holds, as `90d` (when left out) or `never`.
    #[schema(example = "90d")]
    expires_in: Option<String>,
}

/// A token just made.
#[derive(Serialize, ToSchema)]
struct Made {
    /// The whole token. It is shown this once.
    secret: String,
    #[schema(value_type = Object)]
    #[serde(flatten)]
    token: Token,
}

/// Make a token
#[utoipa::path(post, path = "/api/v1/tokens", operation_id = "createToken", tag = "access", request_body = Create,
    responses((status = 201, description = "The token with its secret", body = Made), (status = "4XX", description = "Wrong request, or not allowed", body = Problem)))]
async fn create(
    State(app): State<App>,
    visitor: Visitor,
    Body(new): Body<Create>,
) -> Result<(StatusCode, Json<Made>), Problem> {
    let expires_in = lifetime(new.expires_in.as_deref())?;
    let new = NewToken { name: new.name, role: new.role, scopes: new.scopes, house: new.house, expires_in };
    let made = app.access.create_token(&app.project, new, visitor.as_admin(ACTOR)).await?;
    Ok((StatusCode::CREATED, Json(Made { secret: made.secret.reveal(), token: made.token })))
}

/// Revoke a token: it opens nothing from now on
#[utoipa::path(delete, path = "/api/v1/tokens/{token}", operation_id = "revokeToken", tag = "access",
    params(("token" = String, Path, description = "The token's id")),
    responses((status = 200, description = "The token as it now stands", body = Object), (status = "4XX", description = "No such token", body = Problem)))]
async fn revoke(State(app): State<App>, visitor: Visitor, Path(id): Path<TokenId>) -> Result<Json<Token>, Problem> {
    Ok(Json(app.access.revoke_token(&id, visitor.as_admin(ACTOR)).await?))
}

#[derive(Deserialize, ToSchema, Default)]
#[serde(deny_unknown_fields)]
struct Rotate {
    /// How long the old token goes on, as `1h`; not at all when left out.
    #[serde(default)]
    #[schema(value_type = Option<String>, example = "1h")]
    overlap: Option<Span>,
}

/// Replace a token by a new one that does the same, for as long
#[utoipa::path(post, path = "/api/v1/tokens/{token}/rotate", operation_id = "rotateToken", tag = "access",
    params(("token" = String, Path, description = "The token's id")), request_body = Rotate,
    responses((status = 201, description = "The new token with its secret", body = Made), (status = "4XX", description = "No such token, or it no longer holds", body = Problem)))]
async fn rotate(
    State(app): State<App>,
    visitor: Visitor,
    Path(id): Path<TokenId>,
    Body(rotate): Body<Rotate>,
) -> Result<(StatusCode, Json<Made>), Problem> {
    let made =
        app.access.rotate_token(&app.project, &id, rotate.overlap.unwrap_or_default(), visitor.as_admin(ACTOR)).await?;
    Ok((StatusCode::CREATED, Json(Made { secret: made.secret.reveal(), token: made.token })))
}
