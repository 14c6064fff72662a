//! What is in the store: files read back against their digests, models recognised by what is in them, and what nothing
//! needs cleared away.

use std::collections::BTreeMap;

use axum::{Json, extract::State, http::StatusCode};
use domain::{ModelName, ModelRef, RunId, Span};
use registry::{ArtifactPath, Brought, ModelVersion, NewImport, Record, Verified};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::problem::{Body, Path, Problem, Query};
use crate::{
    app::App,
    garbage::{Cleared, Wanted},
};

/// The ends of the paths of calls that read through stored bytes.
const VERIFY: &str = "/verify";
const IMPORT: &str = "/import";
/// The path of the call that looks at every blob.
const GARBAGE: &str = "/api/v1/gc";
/// The path of the call that takes records of another store.
const RECORDS: &str = "/api/v1/imports";
/// Records of one call.
const RECORDS_MAX: usize = 1_000;

pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(verify_version))
        .routes(routes!(import_version))
        .routes(routes!(bring_records))
        .routes(routes!(collect_garbage))
}

/// Whether a request of this route takes as long as there are bytes to read.
pub fn takes_long(route: &str) -> bool {
    route.ends_with(VERIFY) || route.ends_with(IMPORT) || [GARBAGE, RECORDS].contains(&route)
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct VerifyQuery {
    /// Only this file of the version, as in `model.onnx`; all of them when left out.
    file: Option<String>,
}

/// Read a version's files back
///
/// Every byte is held against the digest it was registered under. Damage is part of the answer, and told in the journal.
#[utoipa::path(post, path = "/api/v1/models/{model}/versions/{version}/verify", operation_id = "verifyVersion", tag = "registry",
    params(("model" = String, Path, description = "Model"), ("version" = u32, Path, description = "Version number"), VerifyQuery),
    responses((status = 200, description = "Each file, and whether all are whole", body = Object), (status = "4XX", description = "No such version or file", body = Problem)))]
async fn verify_version(
    State(app): State<App>,
    Path((model, version)): Path<(ModelName, u32)>,
    Query(query): Query<VerifyQuery>,
) -> Result<Json<Verified>, Problem> {
    Ok(Json(app.registry.verify_version(&ModelRef { model, version }, query.file.as_deref(), "rest").await?))
}

/// What to clear away.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct CollectGarbage {
    /// Only say what would be cleared away.
    #[serde(default)]
    dry_run: bool,
    /// Blobs stored longer ago than this are looked at; at least `1h`.
    #[serde(default = "week")]
    #[schema(value_type = String, example = "7d")]
    older_than: Span,
    /// Runs, logged models and experiments deleted for longer than this are deleted for good; none when left out.
    #[schema(value_type = Option<String>, example = "30d")]
    deleted_for: Option<Span>,
}

const fn week() -> Span {
    Span::from_micros(7 * Span::DAY.micros())
}

/// Clear away what nothing needs
///
/// Blobs that no artifact, version, dataset, table, pipeline or unfinished upload names. Safe while others write and read.
#[utoipa::path(post, path = "/api/v1/gc", operation_id = "collectGarbage", tag = "operations", request_body = CollectGarbage,
    responses((status = 200, description = "What was cleared away, or would be", body = Cleared), (status = "4XX", description = "Wrong request, or a collection is under way", body = Problem)))]
async fn collect_garbage(State(app): State<App>, Body(asked): Body<CollectGarbage>) -> Result<Json<Cleared>, Problem> {
    let CollectGarbage { dry_run, older_than, deleted_for } = asked;
    Ok(Json(app.garbage.clear(Wanted { dry_run, older_than, deleted_for }, "rest").await?))
}

/// Uploaded files that are to become a version.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ImportVersion {
    /// The run among whose artifacts they lie.
    #[schema(value_type = String)]
    run: RunId,
    /// The directory below the run's root.
    #[schema(example = "model")]
    directory: String,
    #[serde(default)]
    tags: BTreeMap<String, String>,
    #[serde(default)]
    description: String,
}

/// Register uploaded files, whatever tool made them
///
/// ONNX, TorchScript, safetensors, XGBoost, LightGBM, pickles, Keras, or a directory of MLflow's, recognised by what is in
/// them. What holds code is kept, marked unsafe and never loaded. The model is made if there is none of that name.
#[utoipa::path(post, path = "/api/v1/models/{model}/import", operation_id = "importVersion", tag = "registry",
    params(("model" = String, Path, description = "Model")), request_body = ImportVersion,
    responses((status = 201, description = "The version", body = Object), (status = "4XX", description = "No such files, or no model", body = Problem)))]
async fn import_version(
    State(app): State<App>,
    Path(model): Path<ModelName>,
    Body(asked): Body<ImportVersion>,
) -> Result<(StatusCode, Json<ModelVersion>), Problem> {
    let ImportVersion { run, directory, tags, description } = asked;
    let directory: ArtifactPath = directory.parse()?;
    let new = NewImport { run, directory, tags, description, user_id: String::new() };
    Ok((StatusCode::CREATED, Json(app.registry.import_version(&model, new).await?)))
}

/// Records of another store.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct BringRecords {
    /// At most 1,000; what others hang on comes first. Each has a `kind`: `experiment`, `run`, `points`, `inputs`, `run_done`,
    /// `logged_model`, `logged_model_done`, `model`, `version` or `alias`.
    #[schema(value_type = Vec<Object>)]
    records: Vec<Record>,
}

/// What became of them.
#[derive(Serialize, ToSchema)]
struct BroughtRecords {
    /// One for each record: `made`, `same`, `done`, or `refused` with a reason.
    #[schema(value_type = Vec<Object>)]
    outcomes: Vec<Brought>,
}

/// Bring in records of another store
///
/// With the ids they have there. Each record is a transaction of its own; bringing it again changes nothing, and nothing that
/// is here is overwritten. `millpond import mlflow` reads an MLflow store and calls this.
#[utoipa::path(post, path = "/api/v1/imports", operation_id = "bringRecords", tag = "registry", request_body = BringRecords,
    responses((status = 200, description = "What became of each", body = BroughtRecords), (status = "4XX", description = "Wrong request", body = Problem)))]
async fn bring_records(
    State(app): State<App>,
    Body(asked): Body<BringRecords>,
) -> Result<Json<BroughtRecords>, Problem> {
    if asked.records.len() > RECORDS_MAX {
        let problem = format!("records are {} where at most {RECORDS_MAX} are taken", asked.records.len());
        return Err(Problem::invalid(problem, "send them in several calls"));
    }
    let mut outcomes = Vec::with_capacity(asked.records.len());
    for record in asked.records {
        outcomes.push(app.registry.bring(record).await?);
    }
    Ok(Json(BroughtRecords { outcomes }))
}
