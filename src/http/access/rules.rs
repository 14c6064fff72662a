//! Which right each route needs.

use std::{borrow::Cow, collections::HashMap, sync::LazyLock};

use axum::{
    extract::{MatchedPath, Request},
    http::{HeaderMap, Method},
    response::{IntoResponse as _, Response},
};
use domain::{ErrorCode, Right, Role};

use super::refuse;
use crate::http::{
    mlflow::{self, wire::Refusal},
    problem::Problem,
};

/// Who may call a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// Everybody, also without a token: it tells nothing about any project.
    Open,
    /// Whoever holds the right.
    Needs(Right),
    /// Whoever holds a token that opens every project.
    House,
}

use Right::{Administer, Operate, Predict, Read, Review, Write};
use Rule::{House, Needs, Open};

/// Methods, route, rule. What MLflow's clients call stands here once, below `/api/`.
const RULES: &[(&str, &str, Rule)] = &[
    // Whether the server lives.
    ("GET", "/healthz", Open),
    ("GET", "/readyz", Open),
    ("GET", "/health", Open),
    ("GET", "/version", Open),
    ("POST", "/grpc.health.v1.Health/Check", Open),
    ("POST", "/grpc.health.v1.Health/Watch", Open),
    ("POST", "/grpc.health.v1.Health/List", Open),
    // Pages, and what describes the API.
    ("GET", "/", Needs(Read)),
    ("GET", "/console.css", Needs(Read)),
    ("GET", "/console.js", Needs(Read)),
    ("GET", "/docs", Needs(Read)),
    ("GET", "/docs/", Needs(Read)),
    ("GET", "/docs/{*rest}", Needs(Read)),
    ("GET", "/openapi.json", Needs(Read)),
    ("GET", "/metrics", Needs(Read)),
    ("POST", "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Needs(Read)),
    // Who may come in.
    ("GET", "/api/v1/whoami", Needs(Read)),
    ("GET POST", "/api/v1/tokens", Needs(Administer)),
    ("DELETE", "/api/v1/tokens/{token}", Needs(Administer)),
    ("POST", "/api/v1/tokens/{token}/rotate", Needs(Administer)),
    ("GET", "/api/v1/projects", Needs(Read)),
    ("POST", "/api/v1/projects", House),
    ("GET", "/api/v1/audit", Needs(Administer)),
    ("GET", "/api/v1/audit/verify", Needs(Administer)),
    ("POST", "/millpond.access.v1.Access/Whoami", Needs(Read)),
    ("POST", "/millpond.access.v1.Access/ListTokens", Needs(Administer)),
    ("POST", "/millpond.access.v1.Access/CreateToken", Needs(Administer)),
    ("POST", "/millpond.access.v1.Access/RotateToken", Needs(Administer)),
    ("POST", "/millpond.access.v1.Access/RevokeToken", Needs(Administer)),
    ("POST", "/millpond.access.v1.Access/ListProjects", Needs(Read)),
    ("POST", "/millpond.access.v1.Access/CreateProject", House),
    ("POST", "/millpond.access.v1.Access/VerifyAudit", Needs(Administer)),
    // Definitions and features.
    ("GET", "/api/v1/definitions", Needs(Read)),
    ("POST", "/api/v1/definitions", Needs(Write)),
    ("POST", "/api/v1/features/historical", Needs(Read)),
    ("POST", "/api/v1/features/online", Needs(Read)),
    ("GET", "/api/v1/features/plan", Needs(Read)),
    ("GET", "/api/v1/features/consistency", Needs(Read)),
    ("POST", "/api/v1/features/consistency/check", Needs(Operate)),
    ("POST", "/api/v1/sources/{source}/rows", Needs(Write)),
    ("GET", "/api/v1/sources/{source}/ingestion", Needs(Read)),
    ("GET", "/api/v1/sources/{source}/quarantine", Needs(Read)),
    ("GET", "/api/v1/sources/{source}/quarantine/{row}", Needs(Read)),
    ("POST", "/api/v1/sources/{source}/quarantine/replay", Needs(Write)),
    ("POST", "/api/v1/sources/{source}/quarantine/discard", Needs(Write)),
    ("GET", "/api/v1/streams", Needs(Read)),
    ("POST", "/api/v1/sources/{source}/load", Needs(Write)),
    ("GET", "/api/v1/sources/{source}/files", Needs(Read)),
    ("GET", "/api/v1/loads", Needs(Read)),
    ("GET", "/api/v1/loads/{load}", Needs(Read)),
    ("GET", "/api/v1/sources/{source}/stream", Needs(Read)),
    ("POST", "/api/v1/sources/{source}/stream/pause", Needs(Operate)),
    ("POST", "/api/v1/sources/{source}/stream/resume", Needs(Operate)),
    ("GET", "/api/v1/sources/{source}/table", Needs(Read)),
    ("POST", "/api/v1/sources/{source}/compact", Needs(Write)),
    ("POST", "/api/v1/sources/{source}/vacuum", Needs(Administer)),
    ("POST", "/api/v1/sql", Needs(Read)),
    ("POST", "/millpond.features.v1.FeatureStore/Ingest", Needs(Write)),
    ("POST", "/millpond.features.v1.FeatureStore/IngestStream", Needs(Write)),
    ("POST", "/millpond.features.v1.FeatureStore/Push", Needs(Write)),
    ("POST", "/millpond.features.v1.FeatureStore/GetIngestion", Needs(Read)),
    ("POST", "/millpond.features.v1.FeatureStore/ListQuarantine", Needs(Read)),
    ("POST", "/millpond.features.v1.FeatureStore/ReplayQuarantine", Needs(Write)),
    ("POST", "/millpond.features.v1.FeatureStore/DiscardQuarantine", Needs(Write)),
    ("POST", "/millpond.features.v1.FeatureStore/Load", Needs(Write)),
    ("POST", "/millpond.features.v1.FeatureStore/GetLoad", Needs(Read)),
    ("POST", "/millpond.features.v1.FeatureStore/ListLoads", Needs(Read)),
    ("POST", "/millpond.features.v1.FeatureStore/ListStreams", Needs(Read)),
    ("POST", "/millpond.features.v1.FeatureStore/PauseStream", Needs(Operate)),
    ("POST", "/millpond.features.v1.FeatureStore/ResumeStream", Needs(Operate)),
    ("POST", "/millpond.features.v1.FeatureStore/GetTable", Needs(Read)),
    ("POST", "/millpond.features.v1.FeatureStore/CompactTable", Needs(Write)),
    ("POST", "/millpond.features.v1.FeatureStore/VacuumTable", Needs(Administer)),
    ("POST", "/millpond.features.v1.FeatureStore/GetOnlineFeatures", Needs(Read)),
    ("POST", "/millpond.features.v1.FeatureStore/GetHistoricalFeatures", Needs(Read)),
    ("POST", "/millpond.features.v1.FeatureStore/PlanHistoricalFeatures", Needs(Read)),
    ("POST", "/millpond.features.v1.FeatureStore/GetConsistency", Needs(Read)),
    ("POST", "/millpond.features.v1.FeatureStore/CheckConsistency", Needs(Operate)),
    // What Feast's clients call.
    ("POST", "/get-online-features", Needs(Read)),
    ("POST", "/write-to-online-store", Needs(Write)),
    ("POST", "/push", Needs(Write)),
    ("POST", "/materialize", Needs(Write)),
    ("POST", "/materialize-incremental", Needs(Write)),
    ("POST", "/feast.serving.ServingService/GetFeastServingInfo", Needs(Read)),
    ("POST", "/feast.serving.ServingService/GetOnlineFeatures", Needs(Read)),
    // Feast's registry.
    ("POST", "/feast.registry.RegistryServer/GetEntity", Needs(Read)),
    ("POST", "/feast.registry.RegistryServer/ListEntities", Needs(Read)),
    ("POST", "/feast.registry.RegistryServer/GetDataSource", Needs(Read)),
    ("POST", "/feast.registry.RegistryServer/ListDataSources", Needs(Read)),
    ("POST", "/feast.registry.RegistryServer/GetAnyFeatureView", Needs(Read)),
    ("POST", "/feast.registry.RegistryServer/ListAllFeatureViews", Needs(Read)),
    ("POST", "/feast.registry.RegistryServer/GetFeatureView", Needs(Read)),
    ("POST", "/feast.registry.RegistryServer/ListFeatureViews", Needs(Read)),
    ("POST", "/feast.registry.RegistryServer/GetStreamFeatureView", Needs(Read)),
    ("POST", "/feast.registry.RegistryServer/ListStreamFeatureViews", Needs(Read)),
    ("POST", "/feast.registry.RegistryServer/GetOnDemandFeatureView", Needs(Read)),
    ("POST", "/feast.registry.RegistryServer/ListOnDemandFeatureViews", Needs(Read)),
    ("POST", "/feast.registry.RegistryServer/GetLabelView", Needs(Read)),
    ("POST", "/feast.registry.RegistryServer/ListLabelViews", Needs(Read)),
    ("POST", "/feast.registry.RegistryServer/GetFeatureService", Needs(Read)),
    ("POST", "/feast.registry.RegistryServer/ListFeatureServices", Needs(Read)),
    ("POST", "/feast.registry.RegistryServer/GetSavedDataset", Needs(Read)),
    ("POST", "/feast.registry.RegistryServer/ListSavedDatasets", Needs(Read)),
    ("POST", "/feast.registry.RegistryServer/GetValidationReference", Needs(Read)),
    ("POST", "/feast.registry.RegistryServer/ListValidationReferences", Needs(Read)),
    ("POST", "/feast.registry.RegistryServer/GetPermission", Needs(Read)),
    ("POST", "/feast.registry.RegistryServer/ListPermissions", Needs(Read)),
    ("POST", "/feast.registry.RegistryServer/GetProject", Needs(Read)),
    ("POST", "/feast.registry.RegistryServer/ListProjects", Needs(Read)),
    ("POST", "/feast.registry.RegistryServer/ListProjectMetadata", Needs(Read)),
    ("POST", "/feast.registry.RegistryServer/GetInfra", Needs(Read)),
    ("POST", "/feast.registry.RegistryServer/ApplyMaterialization", Needs(Write)),
    ("POST", "/feast.registry.RegistryServer/Refresh", Needs(Read)),
    ("POST", "/feast.registry.RegistryServer/Commit", Needs(Read)),
    ("POST", "/feast.registry.RegistryServer/Proto", Needs(Read)),
    ("POST", "/feast.registry.RegistryServer/ApplyEntity", Needs(Write)),
    ("POST", "/feast.registry.RegistryServer/DeleteEntity", Needs(Write)),
    ("POST", "/feast.registry.RegistryServer/ApplyDataSource", Needs(Write)),
    ("POST", "/feast.registry.RegistryServer/DeleteDataSource", Needs(Write)),
    ("POST", "/feast.registry.RegistryServer/ApplyFeatureView", Needs(Write)),
    ("POST", "/feast.registry.RegistryServer/DeleteFeatureView", Needs(Write)),
    ("POST", "/feast.registry.RegistryServer/ApplyFeatureService", Needs(Write)),
    ("POST", "/feast.registry.RegistryServer/DeleteFeatureService", Needs(Write)),
    ("POST", "/feast.registry.RegistryServer/ApplySavedDataset", Needs(Write)),
    ("POST", "/feast.registry.RegistryServer/DeleteSavedDataset", Needs(Write)),
    ("POST", "/feast.registry.RegistryServer/ApplyValidationReference", Needs(Write)),
    ("POST", "/feast.registry.RegistryServer/DeleteValidationReference", Needs(Write)),
    ("POST", "/feast.registry.RegistryServer/ApplyPermission", Needs(Write)),
    ("POST", "/feast.registry.RegistryServer/DeletePermission", Needs(Write)),
    ("POST", "/feast.registry.RegistryServer/ApplyProject", Needs(Write)),
    ("POST", "/feast.registry.RegistryServer/DeleteProject", Needs(Write)),
    ("POST", "/feast.registry.RegistryServer/UpdateInfra", Needs(Write)),
    // Tables over Arrow Flight. What DoPut writes needs the right to write, which the call itself asks for.
    ("POST", "/arrow.flight.protocol.FlightService/Handshake", Needs(Read)),
    ("POST", "/arrow.flight.protocol.FlightService/ListFlights", Needs(Read)),
    ("POST", "/arrow.flight.protocol.FlightService/GetFlightInfo", Needs(Read)),
    ("POST", "/arrow.flight.protocol.FlightService/PollFlightInfo", Needs(Read)),
    ("POST", "/arrow.flight.protocol.FlightService/GetSchema", Needs(Read)),
    ("POST", "/arrow.flight.protocol.FlightService/DoGet", Needs(Read)),
    ("POST", "/arrow.flight.protocol.FlightService/DoPut", Needs(Read)),
    ("POST", "/arrow.flight.protocol.FlightService/DoExchange", Needs(Read)),
    ("POST", "/arrow.flight.protocol.FlightService/DoAction", Needs(Read)),
    ("POST", "/arrow.flight.protocol.FlightService/ListActions", Needs(Read)),
    // Runs and models.
    ("GET", "/api/v1/runs", Needs(Read)),
    ("POST", "/api/v1/runs", Needs(Write)),
    ("GET", "/api/v1/runs/{run}", Needs(Read)),
    ("POST", "/api/v1/runs/{run}/finish", Needs(Write)),
    ("POST", "/api/v1/runs/{run}/metrics", Needs(Write)),
    ("GET", "/api/v1/runs/{run}/metrics/{key}", Needs(Read)),
    ("GET", "/api/v1/runs/{run}/metrics/{key}/chart", Needs(Read)),
    ("GET", "/api/v1/models", Needs(Read)),
    ("PUT", "/api/v1/models/{model}/aliases/{alias}", Needs(Write)),
    ("PUT DELETE", "/api/v1/models/{model}/aliases/{alias}/protection", Needs(Administer)),
    ("GET", "/api/v1/models/{model}/protections", Needs(Read)),
    ("GET", "/api/v1/models/{model}/approvals", Needs(Read)),
    ("POST", "/api/v1/models/{model}/approvals", Needs(Write)),
    ("GET", "/api/v1/models/{model}/approvals/{approval}", Needs(Read)),
    ("POST", "/api/v1/models/{model}/approvals/{approval}/approve", Needs(Operate)),
    ("POST", "/api/v1/models/{model}/approvals/{approval}/reject", Needs(Operate)),
    // Only who asked can.
    ("POST", "/api/v1/models/{model}/approvals/{approval}/withdraw", Needs(Write)),
    ("GET", "/api/v1/models/{model}/history", Needs(Read)),
    ("GET", "/api/v1/webhooks/{webhook}/deliveries", Needs(Administer)),
    // Only who asked can.
    ("GET", "/api/v1/models/{model}/versions", Needs(Read)),
    ("POST", "/api/v1/models/{model}/versions", Needs(Write)),
    ("GET", "/api/v1/models/{model}/versions/{version}", Needs(Read)),
    ("GET", "/api/v1/models/{model}/versions/{version}/files/{file}", Needs(Read)),
    ("GET", "/api/v1/models/{model}/versions/{version}/lineage", Needs(Read)),
    ("POST", "/api/v1/models/{model}/versions/{version}/verify", Needs(Write)),
    ("POST", "/api/v1/models/{model}/import", Needs(Write)),
    ("POST", "/api/v1/imports", Needs(Operate)),
    ("POST", "/api/v1/gc", Needs(Operate)),
    ("POST", "/millpond.registry.v1.Registry/VerifyVersion", Needs(Write)),
    ("POST", "/millpond.registry.v1.Registry/ImportVersion", Needs(Write)),
    ("POST", "/millpond.registry.v1.Registry/StartRun", Needs(Write)),
    ("POST", "/millpond.registry.v1.Registry/LogMetrics", Needs(Write)),
    ("POST", "/millpond.registry.v1.Registry/FinishRun", Needs(Write)),
    ("POST", "/millpond.registry.v1.Registry/GetRun", Needs(Read)),
    ("POST", "/millpond.registry.v1.Registry/ListRuns", Needs(Read)),
    ("POST", "/millpond.registry.v1.Registry/ListModels", Needs(Read)),
    ("POST", "/millpond.registry.v1.Registry/RegisterVersion", Needs(Write)),
    ("POST", "/millpond.registry.v1.Registry/GetVersion", Needs(Read)),
    ("POST", "/millpond.registry.v1.Registry/ListVersions", Needs(Read)),
    ("POST", "/millpond.registry.v1.Registry/SetAlias", Needs(Write)),
    ("POST", "/millpond.registry.v1.Registry/GetLineage", Needs(Read)),
    ("POST", "/millpond.registry.v1.Approvals/ProtectAlias", Needs(Administer)),
    ("POST", "/millpond.registry.v1.Approvals/UnprotectAlias", Needs(Administer)),
    ("POST", "/millpond.registry.v1.Approvals/ListProtections", Needs(Read)),
    ("POST", "/millpond.registry.v1.Approvals/Ask", Needs(Write)),
    ("POST", "/millpond.registry.v1.Approvals/GetApproval", Needs(Read)),
    ("POST", "/millpond.registry.v1.Approvals/ListApprovals", Needs(Read)),
    ("POST", "/millpond.registry.v1.Approvals/Decide", Needs(Operate)),
    ("POST", "/millpond.registry.v1.Approvals/GetHistory", Needs(Read)),
    // Endpoints.
    ("GET", "/api/v1/endpoints", Needs(Read)),
    ("GET", "/api/v1/endpoints/{endpoint}", Needs(Read)),
    ("PUT", "/api/v1/endpoints/{endpoint}/deployment", Needs(Operate)),
    ("POST", "/api/v1/endpoints/{endpoint}/predict", Needs(Predict)),
    ("GET", "/api/v1/endpoints/{endpoint}/predictions", Needs(Read)),
    ("POST", "/api/v1/endpoints/{endpoint}/labels", Needs(Review)),
    ("GET", "/api/v1/endpoints/{endpoint}/quality", Needs(Read)),
    ("GET", "/api/v1/endpoints/{endpoint}/reports", Needs(Read)),
    ("GET", "/api/v1/endpoints/{endpoint}/review", Needs(Read)),
    ("POST", "/api/v1/endpoints/{endpoint}/settle", Needs(Read)),
    ("POST", "/api/v1/review/{task}/answer", Needs(Review)),
    ("GET", "/api/v1/alerts", Needs(Read)),
    ("POST", "/millpond.serving.v1.Serving/Predict", Needs(Predict)),
    ("POST", "/millpond.serving.v1.Serving/Deploy", Needs(Operate)),
    ("POST", "/millpond.serving.v1.Serving/GetEndpoint", Needs(Read)),
    ("POST", "/millpond.serving.v1.Serving/ListEndpoints", Needs(Read)),
    ("POST", "/millpond.evaluator.v1.Evaluator/PostLabels", Needs(Review)),
    ("POST", "/millpond.evaluator.v1.Evaluator/GetQuality", Needs(Read)),
    ("POST", "/millpond.evaluator.v1.Evaluator/GetDriftReports", Needs(Read)),
    ("POST", "/millpond.evaluator.v1.Evaluator/ListPredictions", Needs(Read)),
    ("POST", "/millpond.evaluator.v1.Evaluator/ListAlerts", Needs(Read)),
    ("POST", "/millpond.evaluator.v1.Evaluator/ListReviewTasks", Needs(Read)),
    ("POST", "/millpond.evaluator.v1.Evaluator/AnswerReviewTask", Needs(Review)),
    // Pipelines and the journal.
    ("POST", "/api/v1/pipelines/{pipeline}/runs", Needs(Write)),
    ("GET", "/api/v1/pipeline-runs", Needs(Read)),
    ("GET", "/api/v1/pipeline-runs/{run}", Needs(Read)),
    ("GET", "/api/v1/events", Needs(Read)),
    ("GET", "/api/v1/overview", Needs(Read)),
    ("GET", "/api/v1/lineage", Needs(Read)),
    ("GET", "/api/v1/datasets/{digest}/impact", Needs(Read)),
    ("POST", "/millpond.pipelines.v1.Lineage/Trace", Needs(Read)),
    ("POST", "/millpond.pipelines.v1.Lineage/Impact", Needs(Read)),
    ("POST", "/millpond.pipelines.v1.Pipelines/Apply", Needs(Write)),
    ("POST", "/millpond.pipelines.v1.Pipelines/ListDefinitions", Needs(Read)),
    ("POST", "/millpond.pipelines.v1.Pipelines/Trigger", Needs(Write)),
    ("POST", "/millpond.pipelines.v1.Pipelines/GetRun", Needs(Read)),
    ("POST", "/millpond.pipelines.v1.Pipelines/ListRuns", Needs(Read)),
    ("POST", "/millpond.pipelines.v1.Pipelines/ListEvents", Needs(Read)),
    ("POST", "/millpond.pipelines.v1.Pipelines/FollowEvents", Needs(Read)),
    // What MLflow's clients call.
    ("GET", "/api/3.0/mlflow/server-info", Needs(Read)),
    ("GET", "/api/3.0/mlflow/workspaces", Needs(Read)),
    ("POST", "/api/3.0/mlflow/workspaces", House),
    ("GET", "/api/3.0/mlflow/workspaces/{name}", Needs(Read)),
    ("POST", "/api/2.0/mlflow/experiments/create", Needs(Write)),
    ("GET", "/api/2.0/mlflow/experiments/get", Needs(Read)),
    ("GET", "/api/2.0/mlflow/experiments/get-by-name", Needs(Read)),
    ("GET POST", "/api/2.0/mlflow/experiments/search", Needs(Read)),
    ("POST", "/api/2.0/mlflow/experiments/update", Needs(Write)),
    ("POST", "/api/2.0/mlflow/experiments/delete", Needs(Write)),
    ("POST", "/api/2.0/mlflow/experiments/restore", Needs(Write)),
    ("POST", "/api/2.0/mlflow/experiments/set-experiment-tag", Needs(Write)),
    ("POST", "/api/2.0/mlflow/experiments/delete-experiment-tag", Needs(Write)),
    ("POST", "/api/2.0/mlflow/experiments/search-datasets", Needs(Read)),
    ("POST", "/api/2.0/mlflow/runs/create", Needs(Write)),
    ("POST", "/api/2.0/mlflow/runs/update", Needs(Write)),
    ("GET", "/api/2.0/mlflow/runs/get", Needs(Read)),
    ("POST", "/api/2.0/mlflow/runs/delete", Needs(Write)),
    ("POST", "/api/2.0/mlflow/runs/restore", Needs(Write)),
    ("POST", "/api/2.0/mlflow/runs/log-metric", Needs(Write)),
    ("POST", "/api/2.0/mlflow/runs/log-parameter", Needs(Write)),
    ("POST", "/api/2.0/mlflow/runs/set-tag", Needs(Write)),
    ("POST", "/api/2.0/mlflow/runs/delete-tag", Needs(Write)),
    ("POST", "/api/2.0/mlflow/runs/log-batch", Needs(Write)),
    ("POST", "/api/2.0/mlflow/runs/log-inputs", Needs(Write)),
    ("POST", "/api/2.0/mlflow/runs/outputs", Needs(Write)),
    ("POST", "/api/2.0/mlflow/runs/log-model", Needs(Write)),
    ("POST", "/api/2.0/mlflow/runs/search", Needs(Read)),
    ("GET", "/api/2.0/mlflow/metrics/get-history", Needs(Read)),
    ("GET", "/api/2.0/mlflow/metrics/get-history-bulk", Needs(Read)),
    ("GET", "/api/2.0/mlflow/metrics/get-history-bulk-interval", Needs(Read)),
    ("POST", "/api/2.0/mlflow/logged-models", Needs(Write)),
    ("POST", "/api/2.0/mlflow/logged-models/search", Needs(Read)),
    ("GET", "/api/2.0/mlflow/logged-models/{model_id}", Needs(Read)),
    ("PATCH DELETE", "/api/2.0/mlflow/logged-models/{model_id}", Needs(Write)),
    ("POST", "/api/2.0/mlflow/logged-models/{model_id}/params", Needs(Write)),
    ("PATCH", "/api/2.0/mlflow/logged-models/{model_id}/tags", Needs(Write)),
    ("DELETE", "/api/2.0/mlflow/logged-models/{model_id}/tags/{*key}", Needs(Write)),
    ("GET", "/api/2.0/mlflow/logged-models/{id}/artifacts/directories", Needs(Read)),
    ("POST", "/api/2.0/mlflow/registered-models/create", Needs(Write)),
    ("GET", "/api/2.0/mlflow/registered-models/get", Needs(Read)),
    ("PATCH", "/api/2.0/mlflow/registered-models/update", Needs(Write)),
    ("POST", "/api/2.0/mlflow/registered-models/rename", Needs(Write)),
    ("DELETE", "/api/2.0/mlflow/registered-models/delete", Needs(Write)),
    ("GET", "/api/2.0/mlflow/registered-models/search", Needs(Read)),
    ("GET POST", "/api/2.0/mlflow/registered-models/get-latest-versions", Needs(Read)),
    ("POST", "/api/2.0/mlflow/registered-models/set-tag", Needs(Write)),
    ("DELETE", "/api/2.0/mlflow/registered-models/delete-tag", Needs(Write)),
    ("GET", "/api/2.0/mlflow/registered-models/alias", Needs(Read)),
    ("POST DELETE", "/api/2.0/mlflow/registered-models/alias", Needs(Write)),
    ("POST", "/api/2.0/mlflow/model-versions/create", Needs(Write)),
    ("GET", "/api/2.0/mlflow/model-versions/get", Needs(Read)),
    ("PATCH", "/api/2.0/mlflow/model-versions/update", Needs(Write)),
    ("DELETE", "/api/2.0/mlflow/model-versions/delete", Needs(Write)),
    ("GET", "/api/2.0/mlflow/model-versions/search", Needs(Read)),
    ("GET", "/api/2.0/mlflow/model-versions/get-download-uri", Needs(Read)),
    ("POST", "/api/2.0/mlflow/model-versions/transition-stage", Needs(Write)),
    ("POST", "/api/2.0/mlflow/model-versions/set-tag", Needs(Write)),
    ("DELETE", "/api/2.0/mlflow/model-versions/delete-tag", Needs(Write)),
    // Whoever makes one has the server send to where they say.
    ("GET POST", "/api/2.0/mlflow/webhooks", Needs(Administer)),
    ("GET PATCH DELETE", "/api/2.0/mlflow/webhooks/{id}", Needs(Administer)),
    ("POST", "/api/2.0/mlflow/webhooks/{id}/test", Needs(Administer)),
    ("GET", "/api/2.0/mlflow/artifacts/list", Needs(Read)),
    ("POST", "/api/2.0/mlflow/artifacts/presigned-download-url", Needs(Read)),
    ("POST", "/api/2.0/mlflow/artifacts/presigned-upload-url", Needs(Write)),
    ("GET", "/api/2.0/mlflow-artifacts/artifacts", Needs(Read)),
    ("GET", "/api/2.0/mlflow-artifacts/artifacts/{*path}", Needs(Read)),
    ("PUT DELETE", "/api/2.0/mlflow-artifacts/artifacts/{*path}", Needs(Write)),
    ("GET", "/api/2.0/mlflow-artifacts/presigned/{*path}", Needs(Read)),
    ("POST", "/api/2.0/mlflow-artifacts/mpu/create/{*path}", Needs(Write)),
    ("PUT", "/api/2.0/mlflow-artifacts/mpu/part/{upload}/{number}", Needs(Write)),
    ("POST", "/api/2.0/mlflow-artifacts/mpu/complete/{*path}", Needs(Write)),
    ("POST", "/api/2.0/mlflow-artifacts/mpu/abort/{*path}", Needs(Write)),
    ("GET", "/get-artifact", Needs(Read)),
    ("GET", "/model-versions/get-artifact", Needs(Read)),
];

/// The right a call needs, as a word; `open` where it needs none, `house` where only a token will do that opens every
/// project.
const fn word(rule: Rule) -> &'static str {
    match rule {
        Rule::Open => "open",
        Rule::House => "house",
        Rule::Needs(right) => right.as_str(),
    }
}

/// Every rule: method, route, and the right it needs or another word that [`word`] knows.
pub fn table() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    RULES.iter().flat_map(|(methods, route, rule)| methods.split(' ').map(|method| (method, *route, word(*rule))))
}

/// The page that tells who may do what.
pub fn page() -> String {
    let mut page = String::from(
        "# Permissions\n\n\
         Each role holds the rights marked here; a token may be narrowed to some of them by its scopes\n\
         ([access.md](access.md)). This page is generated from the rules that every call is checked against\n\
         (`millpond permissions`). A call that has no rule is served to nobody.\n\n| role |",
    );
    let mut line = |cells: &[String]| page.push_str(&format!("{} |\n", cells.join(" |")));
    line(&Right::ALL.iter().map(|right| format!(" {right}")).collect::<Vec<_>>());
    line(&["|---".to_owned(), Right::ALL.iter().map(|_| "---").collect::<Vec<_>>().join("|")]);
    for role in Role::ALL {
        let held = Right::ALL.iter().map(|right| if role.holds(*right) { " yes" } else { "" }.to_owned());
        line(&std::iter::once(format!("| {role}")).chain(held).collect::<Vec<_>>());
    }
    page.push_str(
        "\nCalls below `/api/2.0` and `/api/3.0` are MLflow's; the same rule holds for their twins below `/ajax-api`. Calls\n\
         of gRPC are those whose method is written `gRPC`. `open` needs no token, `house` one that opens every project.\n\n| method | route | right |\n|---|---|---|\n",
    );
    for (method, route, right) in table() {
        let method = if is_rpc(route) { "gRPC" } else { method };
        page.push_str(&format!("| {method} | `{route}` | {right} |\n"));
    }
    page
}

/// Whether a route is a call of gRPC: `/package.Service/Method`.
fn is_rpc(route: &str) -> bool {
    let mut parts = route.split('/').skip(1);
    parts.next().is_some_and(|service| service.contains('.')) && parts.next().is_some() && parts.next().is_none()
}

/// The rules by route, then by method.
static BY_ROUTE: LazyLock<HashMap<&str, Vec<(&str, Rule)>>> = LazyLock::new(|| {
    let mut by_route: HashMap<_, Vec<_>> = HashMap::new();
    for (methods, route, rule) in RULES {
        by_route.entry(*route).or_default().extend(methods.split(' ').map(|method| (method, *rule)));
    }
    by_route
});

/// Whether a route, as the router has it, is a service of gRPC: one route for all its methods.
pub fn is_service(matched: &str) -> bool {
    matched.ends_with("/{*rest}") && !matched.starts_with("/docs")
}

/// The route that a request reached, as it stands in the table; empty where it reached none.
pub fn route_of(request: &Request) -> Cow<'static, str> {
    let matched = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str);
    // The method is the rest of the path.
    let route = if is_service(matched) { request.uri().path() } else { matched };
    match route.strip_prefix("/ajax-api/") {
        Some(rest) => format!("/api/{rest}").into(),
        None => route.to_owned().into(),
    }
}

/// The rule for a method of a route. A HEAD is a GET whose answer is not sent.
pub fn rule(method: &Method, route: &str) -> Option<Rule> {
    let method = if method == Method::HEAD { "GET" } else { method.as_str() };
    BY_ROUTE.get(route)?.iter().find(|(known, _)| *known == method).map(|(_, rule)| *rule)
}

/// What a request without a rule is answered.
pub fn not_served(method: &Method, path: &str, route: &str, headers: &HeaderMap) -> Response {
    if mlflow::is_ours(path) {
        return Refusal::no_route(method.as_str(), path).into_response();
    }
    let hint = "the API stands at /docs and /openapi.json";
    let problem = if BY_ROUTE.contains_key(route) {
        Problem { status: 405, ..Problem::invalid(format!("{method} is not a method of {path}"), hint) }
    } else {
        Problem::new(ErrorCode::NotFound, format!("no route {method} {path}"), hint)
    };
    refuse::answer(problem, path, headers)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::http;

    /// The routes of a router, as its debug form shows them: `RouteId(7): "/healthz"`.
    fn routes_in(shown: &str) -> BTreeSet<String> {
        let (_, shown) = shown.split_once("paths: ").expect("the debug form of a router shows its paths");
        let quoted = shown.split('"').skip(1).step_by(2);
        let paths = quoted.filter(|text| text.starts_with('/') && !text.contains("__private__"));
        paths.map(|path| path.replacen("/ajax-api/", "/api/", 1)).collect()
    }

    #[test]
    fn every_route_has_a_rule_and_every_rule_a_route() {
        let served = routes_in(&format!("{:?}", http::undressed()));
        assert!(served.len() > 100, "{}", served.len());
        for route in &served {
            assert!(BY_ROUTE.contains_key(route.as_str()), "{route} has no rule, so it answers nobody");
        }
        for route in BY_ROUTE.keys().filter(|route| !is_rpc(route)) {
            assert!(served.contains(*route), "there is no route {route}");
        }
    }

    #[test]
    fn no_two_rules_are_about_the_same() {
        let mut seen = BTreeSet::new();
        for (method, route, _) in table() {
            assert!(seen.insert((method, route)), "{method} {route} stands there twice");
        }
    }

    #[test]
    fn what_changes_something_needs_more_than_the_right_to_read() {
        // Questions too long for an address come as POST.
        let questions = [
            "/search",
            "search-datasets",
            "/historical",
            "/online",
            "/get-online-features",
            "/settle",
            "get-latest-versions",
            "presigned-download-url",
            // Only queries are taken: `sql/tests/questions.rs`.
            "/sql",
        ];
        for (method, route, right) in table().filter(|(method, ..)| *method != "GET") {
            let asks = method == "POST" && (is_rpc(route) || questions.iter().any(|end| route.ends_with(end)));
            assert!(asks || right != "read" && right != "open", "{method} {route}");
        }
    }

    #[test]
    fn a_head_is_a_get_and_other_methods_have_no_rule() {
        assert_eq!(rule(&Method::HEAD, "/api/v1/runs"), rule(&Method::GET, "/api/v1/runs"));
        assert_eq!(rule(&Method::OPTIONS, "/api/v1/runs"), None);
        assert_eq!(rule(&Method::GET, "/nowhere"), None);
    }
}
