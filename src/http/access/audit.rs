//! The audit log: the project's journal, with every change and every refused attempt.

use axum::{Json, extract::State};
use domain::{Event, EventKind};
use serde::{Deserialize, Serialize};
use storage::Head;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    app::App,
    http::problem::{Problem, Query},
};

/// Events that are looked at for one page, whether or not they fit the question.
const LOOKED_AT: usize = 10_000;

pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(read)).routes(routes!(verify))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct AuditQuery {
    /// Only events after this sequence number; oldest first.
    #[serde(default)]
    after: u64,
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
    /// Only what this caller did or tried.
    actor: Option<String>,
    /// Only events of this kind, as `access.refused`.
    #[param(value_type = Option<String>)]
    kind: Option<EventKind>,
}

#[derive(Serialize, ToSchema)]
struct AuditPage {
    #[schema(value_type = Vec<Object>)]
    events: Vec<Event>,
    /// Where the next page begins; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<u64>,
}

/// Read the audit log
#[utoipa::path(get, path = "/api/v1/audit", operation_id = "readAudit", tag = "access", params(AuditQuery),
    responses((status = 200, description = "Who did or tried what, in order", body = AuditPage), (status = "4XX", description = "Not allowed", body = Problem)))]
async fn read(State(app): State<App>, Query(query): Query<AuditQuery>) -> Result<Json<AuditPage>, Problem> {
    let limit = query.limit.unwrap_or(100).clamp(1, 1_000);
    let fits = |event: &Event| {
        query.actor.as_ref().is_none_or(|actor| event.actor == *actor)
            && query.kind.is_none_or(|kind| event.kind == kind)
    };
    let (mut after, mut looked, mut events) = (query.after, 0, Vec::new());
    while events.len() < limit && looked < LOOKED_AT {
        let batch = app.meta.journal().read(after, 1_000).await?;
        let Some(last) = batch.last().map(|event| event.seq) else {
            return Ok(Json(AuditPage { events, next: None }));
        };
        looked += batch.len();
        for event in batch.into_iter().filter(&fits).take(limit - events.len()) {
            events.push(event);
        }
        after = if events.len() == limit { events.last().map_or(last, |event| event.seq) } else { last };
    }
    Ok(Json(AuditPage { events, next: Some(after) }))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct VerifyQuery {
    /// A head that an earlier check gave, as `SEQ:SEAL`: then it is also found out when the end was cut off.
    head: Option<String>,
}

#[derive(Serialize, ToSchema)]
struct Verified {
    /// Events in the log.
    events: u64,
    /// The newest event, sealed with all before it. Keep it elsewhere and give it to the next check.
    head: String,
}

/// Check that nothing in the audit log was changed, removed or reordered
#[utoipa::path(get, path = "/api/v1/audit/verify", operation_id = "verifyAudit", tag = "access", params(VerifyQuery),
    responses((status = 200, description = "The chain holds", body = Verified), (status = 500, description = "The first broken link", body = Problem),
              (status = "4XX", description = "Not allowed", body = Problem)))]
async fn verify(State(app): State<App>, Query(query): Query<VerifyQuery>) -> Result<Json<Verified>, Problem> {
    let remembered: Option<Head> =
        query.head.as_deref().map(str::parse).transpose().map_err(|e: storage::BadHead| {
            Problem::invalid(e.to_string(), "give what an earlier check called `head`")
        })?;
    let head = app.meta.journal().verify(remembered.as_ref()).await?;
    Ok(Json(Verified { events: head.seq, head: head.to_string() }))
}
