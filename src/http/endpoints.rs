//! Endpoints: deployments, predictions, labels, quality, drift.

use std::time::{Duration, Instant};

use axum::{Json, extract::State};
use domain::{
    EndpointName, PredictionId, Timestamp,
    prediction::{Label, LabelOrigin, LabelTarget},
};
use evaluator::{Bucket, DriftReport, LabelReport, LoggedPrediction, PredictionFilter, QualityQuery, QualityRow};
use pipelines::{Deployment, EndpointView};
use serde::{Deserialize, Serialize};
use serving::{PredictRequest, PredictResponse, Target};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::problem::{Body, Path, Problem, Query};
use crate::app::App;

pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(get))
        .routes(routes!(deploy))
        .routes(routes!(predict))
        .routes(routes!(predictions))
        .routes(routes!(labels))
        .routes(routes!(quality))
        .routes(routes!(reports))
        .routes(routes!(settle))
}

/// List endpoints
#[utoipa::path(get, path = "/api/v1/endpoints", operation_id = "listEndpoints", tag = "serving",
    responses((status = 200, description = "Endpoints with their traffic split", body = Vec<Object>), (status = "4XX", description = "Wrong request", body = Problem)))]
async fn list(State(app): State<App>) -> Result<Json<Vec<EndpointView>>, Problem> {
    Ok(Json(app.conductor.endpoints().await?))
}

/// Read an endpoint
#[utoipa::path(get, path = "/api/v1/endpoints/{endpoint}", operation_id = "getEndpoint", tag = "serving",
    params(("endpoint" = String, Path, description = "Endpoint")),
    responses((status = 200, description = "The endpoint", body = Object), (status = "4XX", description = "No such endpoint", body = Problem)))]
async fn get(State(app): State<App>, Path(endpoint): Path<EndpointName>) -> Result<Json<EndpointView>, Problem> {
    Ok(Json(app.conductor.endpoint(&endpoint).await?))
}

/// A version's share of the traffic.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Share {
    #[schema(example = 1)]
    version: u32,
    /// Per cent of the requests; all shares add up to 100.
    #[schema(example = 100)]
    percent: u32,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Deploy {
    targets: Vec<Share>,
    /// Versions that score every logged request beside the answer, for comparison.
    #[serde(default)]
    shadow: Vec<u32>,
    /// Why; kept in the journal.
    #[serde(default)]
    reason: String,
}

/// Deploy versions behind an endpoint
///
/// The versions are loaded and warmed first; the traffic moves in one step and no request is lost.
#[utoipa::path(put, path = "/api/v1/endpoints/{endpoint}/deployment", operation_id = "deploy", tag = "serving",
    params(("endpoint" = String, Path, description = "Endpoint")), request_body = Deploy,
    responses((status = 200, description = "The endpoint as it now stands", body = Object),
              (status = "4XX", description = "No such version, or shares that do not add up to 100; nothing has changed", body = Problem)))]
async fn deploy(
    State(app): State<App>,
    Path(endpoint): Path<EndpointName>,
    Body(deploy): Body<Deploy>,
) -> Result<Json<EndpointView>, Problem> {
    let targets = deploy.targets.iter().map(|t| Target { version: t.version, percent: t.percent }).collect();
    let deployment = Deployment { targets, shadow: deploy.shadow };
    app.conductor.deploy(&endpoint, deployment, &storage::caller_or("rest"), &deploy.reason).await?;
    Ok(Json(app.conductor.endpoint(&endpoint).await?))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Predict {
    /// One object for each row: entity keys, request values, label key and, if wanted, `event_timestamp`.
    #[schema(value_type = Vec<Object>)]
    instances: Vec<serde_json::Value>,
    /// Answer with this version, whatever the split says. It must be deployed.
    #[serde(default)]
    version: Option<u32>,
    /// Give up after so many milliseconds.
    #[serde(default)]
    timeout_ms: Option<u64>,
}

/// Predict
///
/// The features of each row's entities are looked up online as of its `event_timestamp`.
#[utoipa::path(post, path = "/api/v1/endpoints/{endpoint}/predict", operation_id = "predict", tag = "serving",
    params(("endpoint" = String, Path, description = "Endpoint")), request_body = Predict,
    responses((status = 200, description = "A prediction for each row, in order, with the version that made it", body = Object),
              (status = "4XX", description = "Wrong instances, named one by one", body = Problem),
              (status = 504, description = "Not in time", body = Problem)))]
async fn predict(
    State(app): State<App>,
    Path(endpoint): Path<EndpointName>,
    Body(request): Body<Predict>,
) -> Result<Json<PredictResponse>, Problem> {
    let deadline = request.timeout_ms.map(|ms| Instant::now() + Duration::from_millis(ms));
    let request = PredictRequest { instances: request.instances, deadline, pin: request.version };
    Ok(Json(app.conductor.predict(&endpoint, request).await?))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct Between {
    /// Event time, inclusive.
    #[param(value_type = Option<String>)]
    from: Option<Timestamp>,
    /// Event time, exclusive.
    #[param(value_type = Option<String>)]
    to: Option<Timestamp>,
    /// At most so many, newest first.
    #[param(minimum = 1, maximum = 10000)]
    limit: Option<usize>,
}

/// List logged predictions
#[utoipa::path(get, path = "/api/v1/endpoints/{endpoint}/predictions", operation_id = "listPredictions", tag = "evaluator",
    params(("endpoint" = String, Path, description = "Endpoint"), Between),
    responses((status = 200, description = "Inputs, scores by version and label", body = Vec<Object>), (status = "4XX", description = "No such endpoint", body = Problem)))]
async fn predictions(
    State(app): State<App>,
    Path(endpoint): Path<EndpointName>,
    Query(query): Query<Between>,
) -> Result<Json<Vec<LoggedPrediction>>, Problem> {
    let filter = PredictionFilter {
        from: query.from,
        to: query.to,
        limit: query.limit.unwrap_or(100).clamp(1, 10_000),
        newest: true,
    };
    Ok(Json(app.evaluator.predictions(&endpoint, filter).await?))
}

/// What turned out to be true.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct PostedLabel {
    /// The prediction's id, or `key`.
    #[schema(value_type = Option<String>)]
    prediction_id: Option<PredictionId>,
    /// The values of the endpoint's label key, joined by `|`.
    key: Option<String>,
    value: bool,
    /// When it became known; the event time the endpoint has reached when left out.
    #[schema(value_type = Option<String>, format = DateTime)]
    known_at: Option<Timestamp>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct PostLabels {
    labels: Vec<PostedLabel>,
}

/// Post labels
///
/// Each label is written to the endpoint's label source, whence the next training set takes it, and joined to the
/// logged prediction. When the answer comes, both are durable. Posting the same label again changes nothing.
#[utoipa::path(post, path = "/api/v1/endpoints/{endpoint}/labels", operation_id = "postLabels", tag = "evaluator",
    params(("endpoint" = String, Path, description = "Endpoint")), request_body = PostLabels,
    responses((status = 200, description = "Joined, unmatched (no logged prediction has that key) and already known labels", body = Object),
              (status = "4XX", description = "Unknown endpoint or prediction", body = Problem)))]
async fn labels(
    State(app): State<App>,
    Path(endpoint): Path<EndpointName>,
    Body(posted): Body<PostLabels>,
) -> Result<Json<LabelReport>, Problem> {
    let now = app.event_now(&endpoint).await;
    let labels = posted
        .labels
        .into_iter()
        .enumerate()
        .map(|(row, label)| {
            let target = match (label.prediction_id, label.key) {
                (Some(id), None) => LabelTarget::Prediction(id),
                (None, Some(key)) => LabelTarget::Key(key.into()),
                _ => {
                    return Err(Problem::invalid(
                        format!("labels[{row}] names no prediction, or two"),
                        "give either `prediction_id` or `key`",
                    ));
                }
            };
            let known_at = label.known_at.unwrap_or(now);
            Ok(Label { target, value: label.value, known_at, origin: LabelOrigin::Outcome, reviewer: None })
        })
        .collect::<Result<_, _>>()?;
    let report = app.conductor.label(&endpoint, labels).await?;
    match report.problems.first() {
        // With a single label there is nothing else to report: answer with its own status.
        Some(problem) if report.joined + report.unmatched + report.already == 0 => {
            Err(Problem::new(problem.code, problem.message.clone(), "send the label by `key` if it was not sampled"))
        }
        _ => Ok(Json(report)),
    }
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct QualityParams {
    /// Event time, inclusive.
    #[param(value_type = Option<String>)]
    from: Option<Timestamp>,
    /// Event time, exclusive.
    #[param(value_type = Option<String>)]
    to: Option<Timestamp>,
    /// `day`, `week`, `month` or `all`.
    #[serde(default)]
    #[param(value_type = Option<String>)]
    bucket: Bucket,
    /// A column by whose values to slice; one the monitor watches.
    slice: Option<String>,
}

/// Read quality by version over event time
///
/// Rows for `served` (the answers given, whatever version gave them) and for each version over all requests it scored.
#[utoipa::path(get, path = "/api/v1/endpoints/{endpoint}/quality", operation_id = "quality", tag = "evaluator",
    params(("endpoint" = String, Path, description = "Endpoint"), QualityParams),
    responses((status = 200, description = "AUC, log loss, Brier score, counts", body = Vec<Object>), (status = "4XX", description = "No such endpoint", body = Problem)))]
async fn quality(
    State(app): State<App>,
    Path(endpoint): Path<EndpointName>,
    Query(query): Query<QualityParams>,
) -> Result<Json<Vec<QualityRow>>, Problem> {
    let query = QualityQuery { from: query.from, to: query.to, bucket: query.bucket, slice: query.slice };
    Ok(Json(app.evaluator.quality(&endpoint, query).await?))
}

/// Read drift reports
#[utoipa::path(get, path = "/api/v1/endpoints/{endpoint}/reports", operation_id = "driftReports", tag = "evaluator",
    params(("endpoint" = String, Path, description = "Endpoint"), Between),
    responses((status = 200, description = "One report for each window: drift by column, quality, rules", body = Vec<Object>), (status = "4XX", description = "No such endpoint", body = Problem)))]
async fn reports(
    State(app): State<App>,
    Path(endpoint): Path<EndpointName>,
    Query(query): Query<Between>,
) -> Result<Json<Vec<DriftReport>>, Problem> {
    let mut reports = app.evaluator.reports(&endpoint, query.from, query.to).await?;
    let keep = query.limit.unwrap_or(1_000).clamp(1, 10_000);
    let excess = reports.len().saturating_sub(keep);
    reports.drain(..excess);
    Ok(Json(reports))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct SettleParams {
    /// Wait at most so many milliseconds.
    #[serde(default = "two_seconds")]
    #[param(minimum = 0, maximum = 5000)]
    wait_ms: u64,
}

const fn two_seconds() -> u64 {
    2_000
}

#[derive(Serialize, ToSchema)]
struct Settled {
    /// Whether everything sent so far has been evaluated and acted on, and no pipeline run is computing.
    settled: bool,
}

/// Wait until what was sent has been evaluated
///
/// For clients that replay history faster than time: hold event time still until the platform has caught up.
#[utoipa::path(post, path = "/api/v1/endpoints/{endpoint}/settle", operation_id = "settle", tag = "evaluator",
    params(("endpoint" = String, Path, description = "Endpoint"), SettleParams),
    responses((status = 200, description = "Whether it has", body = Settled), (status = "4XX", description = "No such endpoint", body = Problem)))]
async fn settle(
    State(app): State<App>,
    Path(endpoint): Path<EndpointName>,
    Query(params): Query<SettleParams>,
) -> Result<Json<Settled>, Problem> {
    let limit = Duration::from_millis(params.wait_ms.min(5_000));
    match tokio::time::timeout(limit, app.conductor.settle(&endpoint)).await {
        Ok(done) => done.map(|()| Json(Settled { settled: true })).map_err(Problem::from),
        Err(_) => Ok(Json(Settled { settled: false })),
    }
}
