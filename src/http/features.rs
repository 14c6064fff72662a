//! Ingestion and feature retrieval.

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, header},
};
use domain::{ServiceName, SourceName};
use feature_store::Format;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::problem::{Body, Path, Problem, Query, Raw};
use crate::{app::App, counts, rows};

pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(ingest))
        .routes(routes!(online))
        .routes(routes!(historical))
        .routes(routes!(plan))
        .routes(routes!(consistency))
        .routes(routes!(check_consistency))
}

/// Ingest rows into a source
///
/// The content type says the format: `text/csv` (with a header), `application/x-ndjson` (a JSON object a line),
/// `application/json` (an array of objects) or `application/vnd.apache.parquet`. When the answer comes, accepted
/// rows are durable and served online. Bad rows are quarantined with line and reason; the rest go in.
#[utoipa::path(post, path = "/api/v1/sources/{source}/rows", operation_id = "ingestRows", tag = "features",
    params(("source" = String, Path, description = "Name of the source")),
    request_body(content = String, content_type = "text/csv"),
    responses((status = 200, description = "Counts of accepted, duplicate, corrected and quarantined rows", body = Object),
              (status = "4XX", description = "Nothing was ingested", body = Problem)))]
async fn ingest(
    State(app): State<App>,
    Path(source): Path<SourceName>,
    headers: HeaderMap,
    Raw(body): Raw,
) -> Result<Json<feature_store::IngestReport>, Problem> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("");
    let kind = kind.split(';').next().unwrap_or("").trim();
    let format = match kind {
        "text/csv" => Format::Csv,
        "application/x-ndjson" | "application/jsonl" => Format::JsonLines,
        "application/vnd.apache.parquet" => Format::Parquet,
        "application/json" => {
            let rows: Vec<Map<String, Value>> = serde_json::from_slice(&body)
                .map_err(|e| Problem::invalid(e.to_string(), "send an array of objects, one for each row"))?;
            let report = app.features.ingest_rows(&source, rows).await?;
            counts::ingested(&app.metrics, &source, &report);
            return Ok(Json(report));
        }
        other => {
            return Err(Problem {
                status: 415,
                ..Problem::invalid(
                    format!("content type `{other}` is not one that rows come in"),
                    "use text/csv, application/x-ndjson, application/json or application/vnd.apache.parquet",
                )
            });
        }
    };
    let report = app.features.ingest(&source, format, body).await?;
    counts::ingested(&app.metrics, &source, &report);
    Ok(Json(report))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct Limit {
    /// At most so many, newest first.
    #[serde(default = "hundred")]
    #[param(minimum = 1, maximum = 10000)]
    limit: usize,
}

const fn hundred() -> usize {
    100
}

/// Which entities, and as of when.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct FeatureRequest {
    #[schema(value_type = String, example = "flight_features")]
    service: ServiceName,
    /// One object for each row: the entity keys and, if wanted, `event_timestamp` (default: now).
    #[schema(value_type = Vec<Object>)]
    rows: Vec<Map<String, Value>>,
}

#[derive(Serialize, ToSchema)]
struct FeatureRows {
    /// One object for each row asked for: keys, event_timestamp and features (`view__feature`).
    #[schema(value_type = Vec<Object>)]
    rows: Vec<Map<String, Value>>,
    /// For each row and feature: PRESENT, NULL_VALUE, NOT_FOUND or OUTSIDE_MAX_AGE, and the event time of the value.
    #[schema(value_type = Vec<Object>)]
    status: Vec<Map<String, Value>>,
}

impl FeatureRows {
    fn new(spine: &rows::Spine, answer: &feature_store::Answer) -> Self {
        Self { rows: rows::values(spine, answer), status: rows::statuses(answer) }
    }
}

/// Read features online
#[utoipa::path(post, path = "/api/v1/features/online", operation_id = "onlineFeatures", tag = "features", request_body = FeatureRequest,
    responses((status = 200, description = "Features from the online store", body = FeatureRows), (status = "4XX", description = "Wrong request", body = Problem)))]
async fn online(State(app): State<App>, Body(request): Body<FeatureRequest>) -> Result<Json<FeatureRows>, Problem> {
    let spine = rows::spine(&app.features, &request.service, &request.rows, app.clock.now())?;
    let answer = app.features.online(&request.service, &spine.keys, &spine.at).await?;
    Ok(Json(FeatureRows::new(&spine, &answer)))
}

/// Join features as of each row's time
#[utoipa::path(post, path = "/api/v1/features/historical", operation_id = "historicalFeatures", tag = "features", request_body = FeatureRequest,
    responses((status = 200, description = "Features from offline history", body = FeatureRows), (status = "4XX", description = "Wrong request", body = Problem)))]
async fn historical(State(app): State<App>, Body(request): Body<FeatureRequest>) -> Result<Json<FeatureRows>, Problem> {
    let spine = rows::spine(&app.features, &request.service, &request.rows, app.clock.now())?;
    let answer = app.features.historical(&request.service, &spine.keys, &spine.at).await?;
    Ok(Json(FeatureRows::new(&spine, &answer)))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct PlanQuery {
    /// Name of the service.
    #[param(value_type = String)]
    service: ServiceName,
    /// How many rows would be asked for.
    questions: u64,
}

/// Say where a join would run, and why
#[utoipa::path(get, path = "/api/v1/features/plan", operation_id = "planHistoricalFeatures", tag = "features", params(PlanQuery),
    responses((status = 200, description = "`local` or `spark`, the reason, and what the join would need", body = Object), (status = "4XX", description = "Wrong request", body = Problem)))]
async fn plan(
    State(app): State<App>,
    Query(query): Query<PlanQuery>,
) -> Result<Json<feature_store::JoinPlan>, Problem> {
    Ok(Json(app.features.join_plan(&query.service, query.questions)?))
}

/// How served features agree with history
///
/// Of a share of entities every vector served online is derived again from history as of its time.
#[utoipa::path(get, path = "/api/v1/features/consistency", operation_id = "featureConsistency", tag = "features", params(Limit),
    responses((status = 200, description = "Counts since the server's start, and the newest mismatches, each with its cause", body = Object), (status = "4XX", description = "Wrong request", body = Problem)))]
async fn consistency(
    State(app): State<App>,
    Query(query): Query<Limit>,
) -> Result<Json<feature_store::GuardState>, Problem> {
    Ok(Json(app.features.consistency(query.limit.clamp(1, 10_000)).await?))
}

/// Compare what was served with history, now
#[utoipa::path(post, path = "/api/v1/features/consistency/check", operation_id = "checkFeatureConsistency", tag = "features",
    responses((status = 200, description = "Vectors and values compared, and how many differ, by cause", body = Object), (status = "4XX", description = "Not allowed", body = Problem)))]
async fn check_consistency(State(app): State<App>) -> Result<Json<feature_store::GuardReport>, Problem> {
    Ok(Json(crate::consistency::check(&app.features, &app.metrics).await?))
}
