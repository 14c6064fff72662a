//! Errors as Feast's clients know them: a status, and a text that names one of Feast's exception classes, which the
//! client then raises.

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use domain::{Coded, ErrorCode};
use feature_store::FeatureError;
use serde_json::json;
use tonic::{Code, Status};

use crate::http::problem::Problem;

/// Exception classes of Feast 0.67 (module `feast.errors`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// The base class, where none says more.
    General,
    ViewNotFound,
    VersionNotFound,
    ServiceNotFound,
    EntityNotFound,
    SourceNotFound,
    PushSourceNotFound,
    FeaturesNotPresent,
    NameCollision,
    ProjectNotFound,
    OnDemandViewNotFound,
    SavedDatasetNotFound,
    ReferenceNotFound,
    PermissionNotFound,
    MissingColumns,
    TimestampNotInferred,
    Permission,
    ReadOnly,
}

impl Class {
    const fn name(self) -> &'static str {
        match self {
            Self::General => "FeastError",
            Self::ViewNotFound => "FeatureViewNotFoundException",
            Self::VersionNotFound => "FeatureViewVersionNotFound",
            Self::ServiceNotFound => "FeatureServiceNotFoundException",
            Self::EntityNotFound => "EntityNotFoundException",
            Self::SourceNotFound => "DataSourceObjectNotFoundException",
            Self::PushSourceNotFound => "PushSourceNotFoundException",
            Self::FeaturesNotPresent => "SpecifiedFeaturesNotPresentError",
            Self::NameCollision => "FeatureNameCollisionError",
            Self::ProjectNotFound => "ProjectObjectNotFoundException",
            Self::OnDemandViewNotFound => "OnDemandFeatureViewNotFoundException",
            Self::SavedDatasetNotFound => "SavedDatasetNotFound",
            Self::ReferenceNotFound => "ValidationReferenceNotFound",
            Self::PermissionNotFound => "PermissionObjectNotFoundException",
            Self::MissingColumns => "FeastEntityDFMissingColumnsError",
            Self::TimestampNotInferred => "EntityTimestampInferenceException",
            Self::Permission => "FeastPermissionError",
            Self::ReadOnly => "ReadOnlyRegistryException",
        }
    }
}

/// A refused call.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    status: u16,
    code: ErrorCode,
    class: Class,
    message: String,
}

impl Refusal {
    pub fn new(code: ErrorCode, class: Class, message: impl Into<String>) -> Self {
        Self { status: code.http_status(), code, class, message: message.into() }
    }

    /// A request that is understood and cannot be answered as it stands: 422, as Feast answers.
    pub fn unfit(class: Class, message: impl Into<String>) -> Self {
        Self { status: 422, ..Self::new(ErrorCode::InvalidArgument, class, message) }
    }

    pub fn not_found(class: Class, message: impl Into<String>) -> Self {
        Self::new(ErrorCode::NotFound, class, message)
    }

    /// A JSON document with the members `module`, `class` and `message`, which Feast's clients look for.
    fn detail(&self) -> String {
        json!({"module": "feast.errors", "class": self.class.name(), "message": self.message}).to_string()
    }

    /// The same over gRPC.
    pub fn to_status(&self) -> Status {
        Status::new(Code::from_i32(self.code.grpc_status()), self.detail())
    }

    /// The same over Arrow Flight, whose clients look for the document behind these words.
    pub fn to_flight(&self) -> Status {
        Status::new(Code::from_i32(self.code.grpc_status()), format!("Flight error: {}", self.detail()))
    }
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        let code = problem.error_code();
        let class = match code {
            ErrorCode::PermissionDenied | ErrorCode::Unauthenticated => Class::Permission,
            _ => Class::General,
        };
        Self { status: problem.status, ..Self::new(code, class, problem.in_one_line()) }
    }
}

impl From<FeatureError> for Refusal {
    fn from(error: FeatureError) -> Self {
        let class = match &error {
            FeatureError::Unknown { kind, .. } => match *kind {
                "FeatureView" => Class::ViewNotFound,
                "FeatureService" => Class::ServiceNotFound,
                "Entity" => Class::EntityNotFound,
                "Source" => Class::SourceNotFound,
                "Feature" => Class::FeaturesNotPresent,
                _ => Class::General,
            },
            _ => Class::General,
        };
        let unfit = matches!(error.code(), ErrorCode::InvalidArgument);
        let refusal = Self { class, ..Self::from(Problem::from(error)) };
        if unfit { Self { status: 422, ..refusal } } else { refusal }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        // A JSON string that holds a JSON document: what Feast's server sends.
        let mut response = (status, axum::Json(self.detail())).into_response();
        if matches!(self.status, 429 | 503) {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_view_raises_feasts_own_exception() {
        let unknown = FeatureError::Unknown { kind: "FeatureView", name: "pumps".into(), near: Some("pump".into()) };
        let refusal = Refusal::from(unknown);
        assert_eq!(refusal.status, 404);
        let detail: serde_json::Value = serde_json::from_str(&refusal.detail()).unwrap();
        assert_eq!(detail["class"], "FeatureViewNotFoundException");
        assert_eq!(detail["message"], "FeatureView `pumps` does not exist: did you mean `pump`?");
        assert!(refusal.to_flight().message().starts_with("Flight error: {"));
    }
}
