//! What can go wrong between a request and its answer.

use std::sync::Arc;

use backends::BackendError;
use domain::{Coded, EndpointName, ErrorCode, FrameError, ModelRef, ports::PortError};

/// Why serving did not do what was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ServingError {
    #[error("endpoint `{name}` does not exist")]
    NoSuchEndpoint { name: EndpointName, nearest: Option<EndpointName> },
    /// A pinned version that the endpoint does not hold.
    #[error("version {version} is not deployed on endpoint `{endpoint}`")]
    NotDeployed { endpoint: EndpointName, version: u32, deployed: Vec<u32> },
    /// A value of the request; `path` is as in `instances[3].distance`.
    #[error("{path} {problem}")]
    BadInstance { path: String, problem: String, hint: String },
    #[error("`instances` holds {found} rows where at most {limit} are taken")]
    TooManyRows { found: usize, limit: usize },
    #[error("{what} is full")]
    Overloaded { what: &'static str },
    #[error("the deadline passed {doing}")]
    DeadlineExceeded { doing: &'static str },
    /// An endpoint that cannot be served as it is written: its split, its sample, its label key.
    #[error("endpoint `{endpoint}`: {problem}")]
    BadEndpoint { endpoint: EndpointName, problem: String, hint: &'static str },
    /// The model wants a column that the endpoint's feature service does not give.
    #[error("version {version} does not fit feature service `{service}`: {problem}")]
    Misfit { version: ModelRef, service: String, problem: String },
    #[error("version {version} could not be {doing}: {source}")]
    Model { version: ModelRef, doing: &'static str, source: Arc<BackendError> },
    /// The model answered, but not with one finite score per row.
    #[error("version {version} gave {problem}")]
    BadScores { version: ModelRef, problem: String },
    #[error("the feature store answered {problem}")]
    BadFeatures { problem: String },
    #[error(transparent)]
    Port(#[from] PortError),
    /// Offline rows that lack a column of the model or hold it in another type.
    #[error("rows do not fit version {version}: {source}")]
    BadRows { version: ModelRef, source: FrameError },
    #[error("the server is stopping")]
    Stopping,
    #[error("the model of version {version} broke off: {message}")]
    Panicked { version: ModelRef, message: String },
}

impl Coded for ServingError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::NoSuchEndpoint { .. } => ErrorCode::NotFound,
            Self::NotDeployed { .. } | Self::BadInstance { .. } | Self::BadEndpoint { .. } | Self::BadRows { .. } => {
                ErrorCode::InvalidArgument
            }
            Self::TooManyRows { .. } => ErrorCode::TooLarge,
            Self::Overloaded { .. } => ErrorCode::Overloaded,
            Self::DeadlineExceeded { .. } => ErrorCode::DeadlineExceeded,
            Self::Misfit { .. } => ErrorCode::Conflict,
            Self::Model { source, .. } => source.code(),
            Self::Port(source) => source.code(),
            Self::Stopping => ErrorCode::Unavailable,
            Self::BadScores { .. } | Self::BadFeatures { .. } | Self::Panicked { .. } => ErrorCode::Internal,
        }
    }

    fn hint(&self) -> String {
        match self {
            Self::NoSuchEndpoint { nearest: Some(name), .. } => format!("did you mean `{name}`?"),
            Self::NoSuchEndpoint { .. } => "deploy a model version to the endpoint first".into(),
            Self::NotDeployed { deployed, .. } => {
                let known: Vec<_> = deployed.iter().map(u32::to_string).collect();
                format!("pin one of the deployed versions ({}), or none", known.join(", "))
            }
            Self::BadInstance { hint, .. } => hint.clone(),
            Self::TooManyRows { limit, .. } => format!("send at most {limit} instances per request"),
            Self::Overloaded { .. } => "try again in a moment".into(),
            Self::DeadlineExceeded { .. } => "allow more time or send fewer instances".into(),
            Self::BadEndpoint { hint, .. } => (*hint).into(),
            Self::Misfit { service, .. } => {
                format!("train against `{service}` as it is now, or give the column back to the service")
            }
            Self::BadRows { version, .. } => format!("give every column of the signature of {version} in its type"),
            Self::Model { source, .. } => source.hint(),
            Self::Port(source) => source.hint(),
            Self::Stopping => "try again when the server is back".into(),
            Self::BadScores { .. } | Self::Panicked { .. } => "route the traffic to another version".into(),
            Self::BadFeatures { .. } => String::new(),
        }
    }
}
