//! The gRPC door: the same handles as REST, with reflection and health.

mod access;
mod approvals;
mod evaluator;
mod feast;
mod features;
mod flight;
mod lineage;
mod loads;
mod pipelines;
mod push;
mod quarantine;
mod registry;
mod serving;

use axum::Router;
use domain::{Coded, ErrorCode};
use serde::Serialize;
use tonic::{Code, Status};
use tonic_health::ServingStatus;

use crate::{app::App, http::DoorLimits};

/// Every service on one router, to be merged with REST.
pub fn router(app: App, limits: DoorLimits) -> anyhow::Result<Router> {
    use proto::{
        access::access_server::AccessServer,
        evaluator::evaluator_server::EvaluatorServer,
        features::feature_store_server::FeatureStoreServer,
        pipelines::{lineage_server::LineageServer, pipelines_server::PipelinesServer},
        registry::{approvals_server::ApprovalsServer, registry_server::RegistryServer},
        serving::serving_server::ServingServer,
    };
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()?;
    let (reporter, health) = tonic_health::server::health_reporter();
    let draining = app.drain();
    app.house.spawn("grpc health", |stop| async move {
        tokio::select! {
            () = draining.cancelled() => reporter.set_service_status("", ServingStatus::NotServing).await,
            () = stop.cancelled() => {}
        }
    });
    let door = Door { app };
    let limit = limits.max_body_bytes;
    let mut routes = tonic::service::Routes::builder();
    routes
        .add_service(reflection)
        .add_service(health)
        .add_service(flight::service(door.app.clone()))
        .add_service(feast::service(door.app.clone(), limit))
        .add_service(feast::serving::service(door.app.clone(), limit))
        .add_service(AccessServer::new(door.clone()).max_decoding_message_size(limit))
        .add_service(FeatureStoreServer::new(door.clone()).max_decoding_message_size(limit))
        .add_service(RegistryServer::new(door.clone()).max_decoding_message_size(limit))
        .add_service(ApprovalsServer::new(door.clone()).max_decoding_message_size(limit))
        .add_service(LineageServer::new(door.clone()).max_decoding_message_size(limit))
        .add_service(ServingServer::new(door.clone()).max_decoding_message_size(limit))
        .add_service(EvaluatorServer::new(door.clone()).max_decoding_message_size(limit))
        .add_service(PipelinesServer::new(door).max_decoding_message_size(limit));
    // Without its own fallback: unknown paths belong to REST.
    Ok(routes.routes().into_axum_router().reset_fallback())
}

/// What the services are implemented on.
#[derive(Clone)]
struct Door {
    app: App,
}

/// A coded error as a gRPC status; the hint travels in the message.
fn refuse(error: impl Coded) -> Status {
    let hint = error.hint();
    let message = if hint.is_empty() { error.to_string() } else { format!("{error} ({hint})") };
    status(error.code(), message)
}

fn status(code: ErrorCode, message: impl Into<String>) -> Status {
    Status::new(Code::from_i32(code.grpc_status()), message)
}

/// Reads a name, id or instant out of a text field.
fn read<T: std::str::FromStr<Err: std::fmt::Display>>(field: &str, text: &str) -> Result<T, Status> {
    text.parse().map_err(|e| status(ErrorCode::InvalidArgument, format!("{field}: {e}")))
}

/// The same, where an empty text means "not given".
fn read_opt<T: std::str::FromStr<Err: std::fmt::Display>>(field: &str, text: &str) -> Result<Option<T>, Status> {
    if text.is_empty() { Ok(None) } else { read(field, text).map(Some) }
}

/// Anything REST shows as an object, as a `Struct`.
fn object(value: &impl Serialize) -> Result<prost_types::Struct, Status> {
    serde_json::to_value(value)
        .map(proto::to_struct)
        .map_err(|e| status(ErrorCode::Internal, format!("could not encode the answer: {e}")))
}

fn objects<T: Serialize>(values: &[T]) -> Result<Vec<prost_types::Struct>, Status> {
    values.iter().map(object).collect()
}

/// `limit`, with 0 meaning `default`.
fn limit(asked: u32, default: usize) -> usize {
    if asked == 0 { default } else { (asked as usize).min(10_000) }
}
