//! Things of an MLflow store as they are read.

use domain::Timestamp;
use registry::{BroughtLoggedModel, BroughtRun};
use sqlx::FromRow;

/// A run beside its record.
pub struct SourceRun {
    pub record: BroughtRun,
    pub artifact_uri: String,
    pub deleted_at: Option<Timestamp>,
}

/// A logged model beside its record.
pub struct SourceModel {
    pub record: BroughtLoggedModel,
    pub artifact_uri: String,
    pub deleted_at: Option<Timestamp>,
}

/// A version as its row says.
#[derive(FromRow)]
pub struct SourceVersion {
    pub name: String,
    pub version: i64,
    pub created: Option<i64>,
    pub updated: Option<i64>,
    pub description: Option<String>,
    pub user_id: Option<String>,
    pub stage: Option<String>,
    pub source: Option<String>,
    pub run: Option<String>,
    pub run_link: Option<String>,
    pub storage_location: Option<String>,
}

/// MLflow counts milliseconds.
pub fn instant(millis: i64) -> Timestamp {
    Timestamp::from_micros(millis.saturating_mul(1_000))
}

/// When something was deleted, if it was.
pub fn deleted(stage: Option<&str>, at: Option<Timestamp>) -> Option<Timestamp> {
    (stage == Some("deleted")).then(|| at.unwrap_or(Timestamp::from_micros(0)))
}
