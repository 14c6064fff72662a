//! The ports: what one room needs of another, in words both share. The root package plugs them together.

use async_trait::async_trait;

use crate::{
    Coded, ErrorCode, Field, Frame, ModelFiles, ModelName, ModelRef, ServiceName, Signature, Timestamp, Value,
    prediction::PredictionBatch,
};

/// An error that crossed a port: what the other room said, with its code.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct PortError {
    pub code: ErrorCode,
    pub message: String,
    pub hint: String,
}

impl PortError {
    /// Carries any coded error across a port.
    pub fn from_coded(error: &dyn Coded) -> Self {
        Self { code: error.code(), message: error.to_string(), hint: error.hint() }
    }
}

impl Coded for PortError {
    fn code(&self) -> ErrorCode {
        self.code
    }
    fn hint(&self) -> String {
        self.hint.clone()
    }
}

/// A value the caller sends with each request.
#[derive(Debug, Clone, PartialEq)]
pub struct RequestField {
    pub field: Field,
    /// Used where the caller leaves the field out or sends null; `None` makes the field required.
    pub default: Option<Value>,
}

/// The columns of a feature service.
#[derive(Debug, Clone, PartialEq)]
pub struct ServiceSchema {
    pub service: ServiceName,
    /// Entity key columns, in the order of the entities' names.
    pub keys: Vec<Field>,
    pub request: Vec<RequestField>,
    /// Feature columns, named `view__feature`.
    pub features: Vec<Field>,
}

/// The feature store, as serving and training see it.
#[async_trait]
pub trait Features: Send + Sync {
    async fn schema(&self, service: &ServiceName) -> Result<ServiceSchema, PortError>;

    /// The features of each row as the online store knows them at `at[row]` (inclusive).
    ///
    /// `keys` holds the service's key columns; a null key finds nothing. The answer has one column per
    /// feature, in schema order, and as many rows; what is unknown or older than its view's time to live
    /// is the feature's declared default, or null.
    async fn latest(&self, service: &ServiceName, keys: &Frame, at: &[Timestamp]) -> Result<Frame, PortError>;

    /// The same, from offline history (point-in-time join; see `shared/api/point-in-time.md`).
    async fn as_of(&self, service: &ServiceName, keys: &Frame, at: &[Timestamp]) -> Result<Frame, PortError>;
}

/// The registry, as serving sees it.
#[async_trait]
pub trait Models: Send + Sync {
    /// The version an alias (`champion`) points at, or the newest when `alias` is `latest`.
    async fn resolve(&self, model: &ModelName, alias: &str) -> Result<ModelRef, PortError>;

    /// All files of a version, digests checked.
    async fn open(&self, version: &ModelRef) -> Result<OpenedModel, PortError>;
}

/// A version ready to be loaded by a backend.
#[derive(Debug, Clone)]
pub struct OpenedModel {
    pub version: ModelRef,
    pub signature: Signature,
    pub files: ModelFiles,
}

/// Where serving leaves its samples. Never blocks and never waits.
pub trait PredictionTap: Send + Sync {
    /// Takes the batch, or counts it as dropped when the log cannot keep up. True when taken.
    fn offer(&self, batch: PredictionBatch) -> bool;
}
