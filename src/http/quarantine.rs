//! Rows that were set aside: found, mended, replayed, discarded; and how a source's ingestion stands.

use std::collections::BTreeSet;

use axum::{Json, extract::State};
use domain::{SourceName, Timestamp};
use feature_store::{Aside, Ingestion, QuarantineFilter, Quarantined, Reason, Replay, ReplayReport, Which};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::problem::{Body, Path, Problem, Query};
use crate::app::App;

pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(show))
        .routes(routes!(replay))
        .routes(routes!(discard))
        .routes(routes!(ingestion))
}

/// Which rows.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct Wanted {
    /// At most so many, newest first.
    #[serde(default = "hundred")]
    #[param(minimum = 1, maximum = 10000)]
    limit: usize,
    /// `waiting`, `replayed` or `discarded`; left out: all.
    #[param(value_type = Option<String>)]
    state: Option<Aside>,
    /// Why, as in `wrong_type` or `late`; left out: all.
    #[param(value_type = Option<String>)]
    reason: Option<Reason>,
    /// First set aside at or after this.
    #[param(value_type = Option<String>)]
    from: Option<Timestamp>,
    /// First set aside before this.
    #[param(value_type = Option<String>)]
    to: Option<Timestamp>,
}

const fn hundred() -> usize {
    100
}

/// List quarantined rows of a source
#[utoipa::path(get, path = "/api/v1/sources/{source}/quarantine", operation_id = "listQuarantine", tag = "features",
    params(("source" = String, Path, description = "Name of the source"), Wanted),
    responses((status = 200, description = "Rows with id, line, column, reason, state and text", body = Vec<Object>),
              (status = "4XX", description = "No such source", body = Problem)))]
async fn list(
    State(app): State<App>,
    Path(source): Path<SourceName>,
    Query(wanted): Query<Wanted>,
) -> Result<Json<Vec<Quarantined>>, Problem> {
    let Wanted { limit, state, reason, from, to } = wanted;
    let filter = QuarantineFilter { state, reason, from, to };
    Ok(Json(app.features.quarantine(&source, &filter, limit.clamp(1, 10_000)).await?))
}

/// Look at one quarantined row
#[utoipa::path(get, path = "/api/v1/sources/{source}/quarantine/{row}", operation_id = "getQuarantined", tag = "features",
    params(("source" = String, Path, description = "Name of the source"), ("row" = String, Path, description = "Id of the row")),
    responses((status = 200, description = "The row as it came, why it was set aside, and what was decided", body = Object),
              (status = "4XX", description = "No such source or row", body = Problem)))]
async fn show(
    State(app): State<App>,
    Path((source, row)): Path<(SourceName, String)>,
) -> Result<Json<Quarantined>, Problem> {
    Ok(Json(app.features.quarantined_row(&source, &row).await?))
}

/// Rows by id, or all that wait and match.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Named {
    /// Ids of rows; left out: all that wait and match the rest.
    rows: Option<BTreeSet<String>>,
    #[schema(value_type = Option<String>, example = "wrong_type")]
    reason: Option<Reason>,
    #[schema(value_type = Option<String>)]
    from: Option<Timestamp>,
    #[schema(value_type = Option<String>)]
    to: Option<Timestamp>,
}

impl Named {
    fn which(self) -> Result<Which, Problem> {
        let Self { rows, reason, from, to } = self;
        match rows {
            Some(_) if reason.is_some() || from.is_some() || to.is_some() => Err(Problem::invalid(
                "rows named by id cannot be filtered as well",
                "give either `rows`, or `reason`, `from` and `to`",
            )),
            Some(rows) => Ok(Which::Rows(rows)),
            None => Ok(Which::Waiting(QuarantineFilter { state: None, reason, from, to })),
        }
    }
}

/// Which rows to replay, and how they are mended.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ReplayRequest {
    /// Ids of rows; left out: all that wait and match the rest.
    rows: Option<BTreeSet<String>>,
    #[schema(value_type = Option<String>, example = "wrong_type")]
    reason: Option<Reason>,
    #[schema(value_type = Option<String>)]
    from: Option<Timestamp>,
    #[schema(value_type = Option<String>)]
    to: Option<Timestamp>,
    /// Columns that are set to other values in every row first; null removes one.
    #[serde(default)]
    #[schema(value_type = Object)]
    patch: Map<String, Value>,
    /// What to take in the place of the row; for exactly one row.
    #[schema(value_type = Option<Object>)]
    instead: Option<Map<String, Value>>,
}

/// Replay quarantined rows
///
/// Rows that wait are parsed against the definition that stands now, mended first if so asked, and taken into the store,
/// however late they are. Each comes in once. Those that still do not fit go on waiting.
#[utoipa::path(post, path = "/api/v1/sources/{source}/quarantine/replay", operation_id = "replayQuarantine", tag = "features",
    params(("source" = String, Path, description = "Name of the source")), request_body = ReplayRequest,
    responses((status = 200, description = "Rows replayed, accepted, found again, and still bad", body = Object),
              (status = "4XX", description = "No such source or row", body = Problem)))]
async fn replay(
    State(app): State<App>,
    Path(source): Path<SourceName>,
    Body(request): Body<ReplayRequest>,
) -> Result<Json<ReplayReport>, Problem> {
    let ReplayRequest { rows, reason, from, to, patch, instead } = request;
    let replay = Replay { which: Named { rows, reason, from, to }.which()?, patch, instead };
    Ok(Json(app.features.replay(&source, &replay, &storage::caller_or("rest")).await?))
}

#[derive(Serialize, ToSchema)]
struct Discarded {
    discarded: u64,
}

/// Discard quarantined rows
///
/// They stay visible, marked so, until they are removed for age or space; when they are delivered again they stay discarded.
#[utoipa::path(post, path = "/api/v1/sources/{source}/quarantine/discard", operation_id = "discardQuarantine", tag = "features",
    params(("source" = String, Path, description = "Name of the source")), request_body = Named,
    responses((status = 200, description = "How many rows were discarded", body = Discarded),
              (status = "4XX", description = "No such source or row", body = Problem)))]
async fn discard(
    State(app): State<App>,
    Path(source): Path<SourceName>,
    Body(named): Body<Named>,
) -> Result<Json<Discarded>, Problem> {
    let discarded = app.features.discard(&source, &named.which()?, &storage::caller_or("rest")).await?;
    Ok(Json(Discarded { discarded }))
}

/// How a source's ingestion stands
///
/// Rows, rows that wait in quarantine by reason, the watermark, and columns that came otherwise than declared.
#[utoipa::path(get, path = "/api/v1/sources/{source}/ingestion", operation_id = "getIngestion", tag = "features",
    params(("source" = String, Path, description = "Name of the source")),
    responses((status = 200, description = "Counts, event time and drift", body = Object),
              (status = "4XX", description = "No such source", body = Problem)))]
async fn ingestion(State(app): State<App>, Path(source): Path<SourceName>) -> Result<Json<Ingestion>, Problem> {
    Ok(Json(app.features.ingestion(&source).await?))
}
