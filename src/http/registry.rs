//! Runs, metrics, models, versions, aliases, lineage.

use std::collections::BTreeMap;

use axum::{Json, extract::State, http::StatusCode, http::header, response::IntoResponse};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use domain::{ErrorCode, ModelFiles, ModelName, ModelRef, RunId, Signature, Timestamp, state::RunEvent};
use registry::{MetricChart, MetricPoint, ModelVersion, NewRun, NewVersion, Run, RunFilter};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::problem::{Body, Path, Problem, Query};
use crate::app::App;

pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(start_run, list_runs))
        .routes(routes!(get_run))
        .routes(routes!(log_metrics))
        .routes(routes!(metric_history))
        .routes(routes!(metric_chart))
        .routes(routes!(finish_run))
        .routes(routes!(list_models))
        .routes(routes!(list_versions, register_version))
        .routes(routes!(get_version))
        .routes(routes!(get_file))
        .routes(routes!(lineage))
        .routes(routes!(set_alias))
}

/// A run to be started.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct StartRun {
    #[schema(example = "flight-delay")]
    experiment: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    params: BTreeMap<String, String>,
    #[serde(default)]
    tags: BTreeMap<String, String>,
    #[serde(default)]
    code_version: String,
    #[serde(default)]
    environment: BTreeMap<String, String>,
}

/// Start a run
#[utoipa::path(post, path = "/api/v1/runs", operation_id = "startRun", tag = "registry", request_body = StartRun,
    responses((status = 201, description = "The run", body = Object), (status = "4XX", description = "Wrong request", body = Problem)))]
async fn start_run(State(app): State<App>, Body(new): Body<StartRun>) -> Result<(StatusCode, Json<Run>), Problem> {
    let run = app
        .registry
        .start_run(NewRun {
            experiment: new.experiment,
            name: new.name,
            params: new.params,
            tags: new.tags,
            dataset: None,
            code_version: new.code_version,
            environment: new.environment,
            cause: None,
        })
        .await?;
    Ok((StatusCode::CREATED, Json(run)))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct RunsQuery {
    /// Only runs of this experiment.
    experiment: Option<String>,
    /// At most so many, newest first.
    #[serde(default = "hundred")]
    #[param(minimum = 1, maximum = 1000)]
    limit: usize,
}

const fn hundred() -> usize {
    100
}

/// List runs, newest first
#[utoipa::path(get, path = "/api/v1/runs", operation_id = "listRuns", tag = "registry", params(RunsQuery),
    responses((status = 200, description = "Runs", body = Vec<Object>), (status = "4XX", description = "Wrong request", body = Problem)))]
async fn list_runs(State(app): State<App>, Query(query): Query<RunsQuery>) -> Result<Json<Vec<Run>>, Problem> {
    let filter = RunFilter { experiment: query.experiment, limit: query.limit.clamp(1, 1_000) };
    Ok(Json(app.registry.runs(filter).await?))
}

/// Read a run with its parameters and latest metrics
#[utoipa::path(get, path = "/api/v1/runs/{run}", operation_id = "getRun", tag = "registry", params(("run" = String, Path, description = "Run id")),
    responses((status = 200, description = "The run", body = Object), (status = "4XX", description = "No such run", body = Problem)))]
async fn get_run(State(app): State<App>, Path(run): Path<RunId>) -> Result<Json<Run>, Problem> {
    Ok(Json(app.registry.run(&run).await?))
}

/// One value of one metric.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Point {
    #[schema(example = "log_loss")]
    key: String,
    value: f64,
    #[serde(default)]
    step: i64,
    /// When it was measured; now when left out.
    #[schema(value_type = Option<String>, format = DateTime)]
    at: Option<Timestamp>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Points {
    metrics: Vec<Point>,
}

/// How many things a write took.
#[derive(Serialize, ToSchema)]
struct Written {
    written: usize,
}

/// Log metrics
///
/// When the answer comes, every point is durable.
#[utoipa::path(post, path = "/api/v1/runs/{run}/metrics", operation_id = "logMetrics", tag = "registry",
    params(("run" = String, Path, description = "Run id")), request_body = Points,
    responses((status = 200, description = "Written", body = Written), (status = "4XX", description = "No such run, or it has ended", body = Problem)))]
async fn log_metrics(
    State(app): State<App>,
    Path(run): Path<RunId>,
    Body(points): Body<Points>,
) -> Result<Json<Written>, Problem> {
    let now = app.clock.now();
    let points: Vec<MetricPoint> = points
        .metrics
        .into_iter()
        .map(|p| MetricPoint { key: p.key, value: p.value, step: p.step, at: p.at.unwrap_or(now) })
        .collect();
    let written = points.len();
    app.registry.log_metrics(&run, points).await?;
    Ok(Json(Written { written }))
}

/// Read the history of a metric
#[utoipa::path(get, path = "/api/v1/runs/{run}/metrics/{key}", operation_id = "metricHistory", tag = "registry",
    params(("run" = String, Path, description = "Run id"), ("key" = String, Path, description = "Metric")),
    responses((status = 200, description = "Points by step, then time, then value", body = Vec<Object>), (status = "4XX", description = "No such run", body = Problem)))]
async fn metric_history(
    State(app): State<App>,
    Path((run, key)): Path<(RunId, String)>,
) -> Result<Json<Vec<MetricPoint>>, Problem> {
    Ok(Json(app.registry.metric_history(&run, &key).await?))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct ChartQuery {
    /// At most so many points.
    #[serde(default = "two_thousand")]
    #[param(minimum = 5, maximum = 20000)]
    points: usize,
}

const fn two_thousand() -> usize {
    2_000
}

/// Read a metric thinned for a chart
///
/// Of every stretch of the series its first, last, least and greatest point are kept, and a NaN where it has one.
#[utoipa::path(get, path = "/api/v1/runs/{run}/metrics/{key}/chart", operation_id = "metricChart", tag = "registry",
    params(("run" = String, Path, description = "Run id"), ("key" = String, Path, description = "Metric"), ChartQuery),
    responses((status = 200, description = "How many points were logged, and those to draw", body = Object), (status = "4XX", description = "No such run, or too few points asked for", body = Problem)))]
async fn metric_chart(
    State(app): State<App>,
    Path((run, key)): Path<(RunId, String)>,
    Query(query): Query<ChartQuery>,
) -> Result<Json<MetricChart>, Problem> {
    Ok(Json(app.registry.metric_chart(&run, &key, query.points.min(20_000)).await?))
}

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum RunEnd {
    Finished,
    Failed,
    Cancelled,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct FinishRun {
    state: RunEnd,
}

/// End a run
#[utoipa::path(post, path = "/api/v1/runs/{run}/finish", operation_id = "finishRun", tag = "registry",
    params(("run" = String, Path, description = "Run id")), request_body = FinishRun,
    responses((status = 200, description = "The run", body = Object), (status = "4XX", description = "No such run, or it has ended otherwise", body = Problem)))]
async fn finish_run(
    State(app): State<App>,
    Path(run): Path<RunId>,
    Body(end): Body<FinishRun>,
) -> Result<Json<Run>, Problem> {
    let event = match end.state {
        RunEnd::Finished => RunEvent::Finish,
        RunEnd::Failed => RunEvent::Break,
        RunEnd::Cancelled => RunEvent::Stop,
    };
    Ok(Json(app.registry.finish_run(&run, event).await?))
}

/// List registered models
#[utoipa::path(get, path = "/api/v1/models", operation_id = "listModels", tag = "registry",
    responses((status = 200, description = "Models with aliases and newest version", body = Vec<Object>), (status = "4XX", description = "Wrong request", body = Problem)))]
async fn list_models(State(app): State<App>) -> Result<Json<Vec<registry::Model>>, Problem> {
    Ok(Json(app.registry.models().await?))
}

/// List versions of a model
#[utoipa::path(get, path = "/api/v1/models/{model}/versions", operation_id = "listVersions", tag = "registry",
    params(("model" = String, Path, description = "Model")),
    responses((status = 200, description = "Versions, oldest first", body = Vec<Object>), (status = "4XX", description = "No such model", body = Problem)))]
async fn list_versions(
    State(app): State<App>,
    Path(model): Path<ModelName>,
) -> Result<Json<Vec<ModelVersion>>, Problem> {
    Ok(Json(app.registry.versions(&model).await?))
}

/// A version to be registered.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct RegisterVersion {
    /// The run that made it.
    #[schema(value_type = String)]
    run: RunId,
    /// Path inside the version's directory -> base64 of the bytes. `model.onnx` is what is served.
    files: BTreeMap<String, String>,
    /// `inputs` and `outputs`, each a list of `{name, type}`.
    #[schema(value_type = Object)]
    signature: Signature,
    #[serde(default)]
    metrics: BTreeMap<String, f64>,
    #[serde(default)]
    tags: BTreeMap<String, String>,
}

/// Register a version
#[utoipa::path(post, path = "/api/v1/models/{model}/versions", operation_id = "registerVersion", tag = "registry",
    params(("model" = String, Path, description = "Model")), request_body = RegisterVersion,
    responses((status = 201, description = "The version", body = Object), (status = "4XX", description = "Wrong request", body = Problem)))]
async fn register_version(
    State(app): State<App>,
    Path(model): Path<ModelName>,
    Body(new): Body<RegisterVersion>,
) -> Result<(StatusCode, Json<ModelVersion>), Problem> {
    let files = new
        .files
        .into_iter()
        .map(|(path, text)| match STANDARD.decode(&text) {
            Ok(bytes) => Ok((path, bytes.into())),
            Err(e) => Err(Problem::invalid(format!("files.{path} is not base64: {e}"), "encode the bytes as base64")),
        })
        .collect::<Result<ModelFiles, _>>()?;
    let version =
        NewVersion { model, run: new.run, files, signature: new.signature, metrics: new.metrics, tags: new.tags };
    Ok((StatusCode::CREATED, Json(app.registry.register(version).await?)))
}

/// Read a version
#[utoipa::path(get, path = "/api/v1/models/{model}/versions/{version}", operation_id = "getVersion", tag = "registry",
    params(("model" = String, Path, description = "Model"), ("version" = u32, Path, description = "Version number")),
    responses((status = 200, description = "The version", body = Object), (status = "4XX", description = "No such version", body = Problem)))]
async fn get_version(
    State(app): State<App>,
    Path((model, version)): Path<(ModelName, u32)>,
) -> Result<Json<ModelVersion>, Problem> {
    Ok(Json(app.registry.version(&ModelRef { model, version }).await?))
}

/// Download a file of a version
#[utoipa::path(get, path = "/api/v1/models/{model}/versions/{version}/files/{file}", operation_id = "getVersionFile", tag = "registry",
    params(("model" = String, Path, description = "Model"), ("version" = u32, Path, description = "Version number"),
           ("file" = String, Path, description = "File, as in `model.onnx`")),
    responses((status = 200, description = "The bytes", body = Vec<u8>, content_type = "application/octet-stream"),
              (status = "4XX", description = "No such file", body = Problem)))]
async fn get_file(
    State(app): State<App>,
    Path((model, version, file)): Path<(ModelName, u32, String)>,
) -> Result<impl IntoResponse, Problem> {
    let found = app.registry.version(&ModelRef { model, version }).await?;
    let Some(digest) = found.files.get(&file) else {
        let names = found.files.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        return Err(Problem::new(
            ErrorCode::NotFound,
            format!("the version has no file `{file}`"),
            format!("it has {names}"),
        ));
    };
    let bytes = app.registry.get_blob(digest).await?;
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CONTENT_DISPOSITION, "attachment"),
    ];
    Ok((headers, bytes))
}

/// Trace what a version came from
#[utoipa::path(get, path = "/api/v1/models/{model}/versions/{version}/lineage", operation_id = "versionLineage", tag = "registry",
    params(("model" = String, Path, description = "Model"), ("version" = u32, Path, description = "Version number")),
    responses((status = 200, description = "Nodes and edges: dataset, run, version", body = Object), (status = "4XX", description = "No such version", body = Problem)))]
async fn lineage(
    State(app): State<App>,
    Path((model, version)): Path<(ModelName, u32)>,
) -> Result<Json<domain::lineage::Lineage>, Problem> {
    Ok(Json(app.registry.lineage(&ModelRef { model, version }).await?))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct SetAlias {
    version: u32,
    /// Why; kept in the journal.
    #[serde(default)]
    reason: String,
}

/// Point an alias at a version
#[utoipa::path(put, path = "/api/v1/models/{model}/aliases/{alias}", operation_id = "setAlias", tag = "registry",
    params(("model" = String, Path, description = "Model"), ("alias" = String, Path, description = "Alias, as in `champion`")), request_body = SetAlias,
    responses((status = 200, description = "The version it points at", body = Object), (status = "4XX", description = "No such version", body = Problem)))]
async fn set_alias(
    State(app): State<App>,
    Path((model, alias)): Path<(ModelName, String)>,
    Body(set): Body<SetAlias>,
) -> Result<Json<ModelVersion>, Problem> {
    app.registry.set_alias(&model, &alias, set.version, &storage::caller_or("rest"), &set.reason).await?;
    Ok(Json(app.registry.version(&ModelRef { model, version: set.version }).await?))
}
