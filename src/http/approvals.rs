//! Protected aliases, the requests that move them, and the history of a model.

use axum::{Json, extract::State, http::StatusCode};
use domain::{ApprovalId, Event, ModelName, state::ApprovalState};
use registry::{Approval, ApprovalFilter, Ask, HistoryOf, NewProtection, Protection, Verdict};
use serde::{Deserialize, Serialize};
use storage::caller_or;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::problem::{Body, Path, Problem, Query};
use crate::app::App;

pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(protect, unprotect))
        .routes(routes!(list_protections))
        .routes(routes!(list_approvals, ask))
        .routes(routes!(get_approval))
        .routes(routes!(approve))
        .routes(routes!(reject))
        .routes(routes!(withdraw))
        .routes(routes!(history))
}

/// How an alias is to be protected.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Protect {
    /// How many people have to approve a move; who asks is not one of them.
    #[schema(minimum = 1, maximum = 20)]
    approvals: u32,
    /// What a version must show at each approval: `{"metric": {"key", "at_least", "at_most"}}`,
    /// `{"not_worse_than_current": {"key", "greater_is_better", "tolerance"}}`, `{"safe_format": true}`,
    /// `{"has_signature": true}`, `{"has_lineage": true}`.
    #[serde(default)]
    #[schema(value_type = Vec<Object>)]
    gates: Vec<registry::Gate>,
    /// Let versions through whose files carry code.
    #[serde(default)]
    allow_unsafe: bool,
    /// Why; kept in the journal.
    #[serde(default)]
    reason: String,
    /// Who protects it.
    #[serde(default = "rest")]
    actor: String,
}

fn rest() -> String {
    "rest".to_owned()
}

/// Protect an alias
///
/// From now on it moves only when a request is approved, whichever way it is touched. Replaces an earlier protection.
#[utoipa::path(put, path = "/api/v1/models/{model}/aliases/{alias}/protection", operation_id = "protectAlias", tag = "registry",
    params(("model" = String, Path, description = "Model"), ("alias" = String, Path, description = "Alias, as in `champion`")), request_body = Protect,
    responses((status = 200, description = "The protection", body = Object), (status = "4XX", description = "No such model, or an unlawful rule", body = Problem)))]
async fn protect(
    State(app): State<App>,
    Path((model, alias)): Path<(ModelName, String)>,
    Body(new): Body<Protect>,
) -> Result<Json<Protection>, Problem> {
    let Protect { approvals, gates, allow_unsafe, reason, actor } = new;
    let rule = NewProtection { approvals, gates, allow_unsafe, reason };
    Ok(Json(app.registry.protect_alias(&model, &alias, rule, &caller_or(&actor)).await?))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Unprotect {
    /// Why; kept in the journal.
    #[serde(default)]
    reason: String,
    /// Who lifts it.
    #[serde(default = "rest")]
    actor: String,
}

/// Lift the protection of an alias
///
/// Requests that wait are superseded. An alias without protection is no error.
#[utoipa::path(delete, path = "/api/v1/models/{model}/aliases/{alias}/protection", operation_id = "unprotectAlias", tag = "registry",
    params(("model" = String, Path, description = "Model"), ("alias" = String, Path, description = "Alias")), request_body = Unprotect,
    responses((status = 204, description = "It is not protected"), (status = "4XX", description = "No such model", body = Problem)))]
async fn unprotect(
    State(app): State<App>,
    Path((model, alias)): Path<(ModelName, String)>,
    Body(given): Body<Unprotect>,
) -> Result<StatusCode, Problem> {
    app.registry.unprotect_alias(&model, &alias, &caller_or(&given.actor), &given.reason).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// List the protected aliases of a model
#[utoipa::path(get, path = "/api/v1/models/{model}/protections", operation_id = "listProtections", tag = "registry",
    params(("model" = String, Path, description = "Model")),
    responses((status = 200, description = "Protections by alias", body = Vec<Object>), (status = "4XX", description = "No such model", body = Problem)))]
async fn list_protections(
    State(app): State<App>,
    Path(model): Path<ModelName>,
) -> Result<Json<Vec<Protection>>, Problem> {
    Ok(Json(app.registry.protections(&model).await?))
}

/// A request to move a protected alias.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct AskApproval {
    #[schema(example = "champion")]
    alias: String,
    version: u32,
    /// Why the alias should move; those who approve read it.
    #[serde(default)]
    reason: String,
    /// Who asks.
    /// Where the call carries a token, its holder counts and this may be left out.
    #[serde(default)]
    #[schema(example = "ada")]
    actor: String,
}

/// Ask for a protected alias to move
///
/// While the same version is asked for already, that request is the answer.
#[utoipa::path(post, path = "/api/v1/models/{model}/approvals", operation_id = "askApproval", tag = "registry",
    params(("model" = String, Path, description = "Model")), request_body = AskApproval,
    responses((status = 201, description = "The request", body = Object), (status = "4XX", description = "No such version, or an alias that needs no request", body = Problem)))]
async fn ask(
    State(app): State<App>,
    Path(model): Path<ModelName>,
    Body(new): Body<AskApproval>,
) -> Result<(StatusCode, Json<Approval>), Problem> {
    let AskApproval { alias, version, reason, actor } = new;
    let actor = caller_or(&actor);
    let asked = app.registry.ask_approval(Ask { model, alias, version, actor, reason, cause: None }).await?;
    Ok((StatusCode::CREATED, Json(asked)))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct ApprovalsQuery {
    /// `pending`, `approved`, `rejected`, `withdrawn` or `superseded`; all when left out.
    #[param(value_type = Option<String>)]
    state: Option<ApprovalState>,
    /// Only requests for this alias.
    alias: Option<String>,
    /// At most so many, newest first.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
}

/// List the requests of a model, newest first
#[utoipa::path(get, path = "/api/v1/models/{model}/approvals", operation_id = "listApprovals", tag = "registry",
    params(("model" = String, Path, description = "Model"), ApprovalsQuery),
    responses((status = 200, description = "Requests with what people said of them", body = Vec<Object>), (status = "4XX", description = "No such model", body = Problem)))]
async fn list_approvals(
    State(app): State<App>,
    Path(model): Path<ModelName>,
    Query(query): Query<ApprovalsQuery>,
) -> Result<Json<Vec<Approval>>, Problem> {
    let limit = query.limit.unwrap_or(100).clamp(1, 1_000);
    let filter = ApprovalFilter { state: query.state, alias: query.alias, limit };
    Ok(Json(app.registry.approvals(&model, &filter).await?))
}

/// Read a request
#[utoipa::path(get, path = "/api/v1/models/{model}/approvals/{approval}", operation_id = "getApproval", tag = "registry",
    params(("model" = String, Path, description = "Model"), ("approval" = String, Path, description = "Request id")),
    responses((status = 200, description = "The request", body = Object), (status = "4XX", description = "No such request", body = Problem)))]
async fn get_approval(
    State(app): State<App>,
    Path((model, id)): Path<(ModelName, ApprovalId)>,
) -> Result<Json<Approval>, Problem> {
    Ok(Json(app.registry.approval(&model, &id).await?))
}

/// What somebody says of a request.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Say {
    /// Who says it.
    /// Where the call carries a token, its holder counts and this may be left out.
    #[serde(default)]
    #[schema(example = "bob")]
    actor: String,
    #[serde(default)]
    comment: String,
}

/// Approve a request
///
/// The gates are looked at now. The last approval that is needed moves the alias.
#[utoipa::path(post, path = "/api/v1/models/{model}/approvals/{approval}/approve", operation_id = "approve", tag = "registry",
    params(("model" = String, Path, description = "Model"), ("approval" = String, Path, description = "Request id")), request_body = Say,
    responses((status = 200, description = "The request as it then stands", body = Object), (status = "4XX", description = "No such request, one that is decided, your own, or a gate that is closed", body = Problem)))]
async fn approve(
    State(app): State<App>,
    path: Path<(ModelName, ApprovalId)>,
    say: Body<Say>,
) -> Result<Json<Approval>, Problem> {
    decide(&app, path, Verdict::Approve, say).await
}

/// Reject a request
#[utoipa::path(post, path = "/api/v1/models/{model}/approvals/{approval}/reject", operation_id = "reject", tag = "registry",
    params(("model" = String, Path, description = "Model"), ("approval" = String, Path, description = "Request id")), request_body = Say,
    responses((status = 200, description = "The request as it then stands", body = Object), (status = "4XX", description = "No such request, or one that is decided", body = Problem)))]
async fn reject(
    State(app): State<App>,
    path: Path<(ModelName, ApprovalId)>,
    say: Body<Say>,
) -> Result<Json<Approval>, Problem> {
    decide(&app, path, Verdict::Reject, say).await
}

/// Withdraw a request of one's own
#[utoipa::path(post, path = "/api/v1/models/{model}/approvals/{approval}/withdraw", operation_id = "withdraw", tag = "registry",
    params(("model" = String, Path, description = "Model"), ("approval" = String, Path, description = "Request id")), request_body = Say,
    responses((status = 200, description = "The request as it then stands", body = Object), (status = "4XX", description = "No such request, one that is decided, or somebody else's", body = Problem)))]
async fn withdraw(
    State(app): State<App>,
    path: Path<(ModelName, ApprovalId)>,
    say: Body<Say>,
) -> Result<Json<Approval>, Problem> {
    decide(&app, path, Verdict::Withdraw, say).await
}

async fn decide(
    app: &App,
    Path((model, id)): Path<(ModelName, ApprovalId)>,
    verdict: Verdict,
    Body(say): Body<Say>,
) -> Result<Json<Approval>, Problem> {
    Ok(Json(app.registry.decide_approval(&model, &id, verdict, &caller_or(&say.actor), &say.comment).await?))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct HistoryQuery {
    /// Only of this version.
    version: Option<u32>,
    /// Only of this alias.
    alias: Option<String>,
    /// Only events before this sequence number: `next` of the page before.
    before: Option<u64>,
    /// At most so many.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
}

/// A page of a history.
#[derive(Serialize, ToSchema)]
struct History {
    /// Newest first.
    #[schema(value_type = Vec<Object>)]
    events: Vec<Event>,
    /// Ask with this as `before` for the next page; left out on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<u64>,
}

/// Read every change of a model, its versions and aliases, newest first
///
/// What was deleted keeps its history.
#[utoipa::path(get, path = "/api/v1/models/{model}/history", operation_id = "modelHistory", tag = "registry",
    params(("model" = String, Path, description = "Model"), HistoryQuery),
    responses((status = 200, description = "Events of the journal", body = History), (status = "4XX", description = "Nothing is known of such a model", body = Problem)))]
async fn history(
    State(app): State<App>,
    Path(model): Path<ModelName>,
    Query(query): Query<HistoryQuery>,
) -> Result<Json<History>, Problem> {
    let of = HistoryOf::parse(query.version, query.alias)?;
    let limit = query.limit.unwrap_or(100).clamp(1, 1_000);
    let page = app.registry.history(&model, &of, query.before, limit).await?;
    Ok(Json(History { events: page.events, next: page.next }))
}
