//! What the evaluator refuses, and how to mend it.

use domain::{Coded, EndpointName, ErrorCode, PredictionId, TaskId};
use storage::StorageError;

/// Why the evaluator did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum EvaluatorError {
    #[error("no predictions are watched for endpoint `{name}`")]
    UnknownEndpoint { name: EndpointName, nearest: Option<String> },
    #[error("prediction `{0}` is not in the log")]
    UnknownPrediction(PredictionId),
    #[error("review task `{0}` does not exist")]
    UnknownTask(TaskId),
    #[error("endpoint `{endpoint}` is not sliced by `{slice}`")]
    UnknownSlice { endpoint: EndpointName, slice: String, known: Vec<String> },
    #[error("review task `{task}` is already answered with {value}")]
    AlreadyAnswered { task: TaskId, value: bool },
    #[error("review task `{0}` was withdrawn: its outcome is known")]
    Withdrawn(TaskId),
    #[error("champion version {champion} of endpoint `{endpoint}` came without its reference")]
    NoReference { endpoint: EndpointName, champion: u32 },
    #[error("{what}")]
    BadArgument { what: String, hint: &'static str },
    #[error("the evaluator is stopping")]
    Stopping,
    #[error("could not {doing}")]
    Storage { doing: &'static str, source: StorageError },
    #[error("could not read back {what}: {detail}")]
    Corrupt { what: &'static str, detail: String },
    #[error("a computation broke off: {0}")]
    Computation(String),
}

impl EvaluatorError {
    /// Wraps an error of the storage layer with what was being done.
    pub(crate) fn storage<E: Into<StorageError>>(doing: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::Storage { doing, source: source.into() }
    }

    pub(crate) fn corrupt(what: &'static str, detail: impl ToString) -> Self {
        Self::Corrupt { what, detail: detail.to_string() }
    }
}

impl From<domain::FrameError> for EvaluatorError {
    fn from(error: domain::FrameError) -> Self {
        Self::corrupt("the prediction log", error)
    }
}

impl Coded for EvaluatorError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::UnknownEndpoint { .. } | Self::UnknownPrediction(_) | Self::UnknownTask(_) => ErrorCode::NotFound,
            Self::UnknownSlice { .. } | Self::NoReference { .. } | Self::BadArgument { .. } => {
                ErrorCode::InvalidArgument
            }
            Self::AlreadyAnswered { .. } | Self::Withdrawn(_) => ErrorCode::Conflict,
            Self::Stopping => ErrorCode::Unavailable,
            Self::Storage { source, .. } => source.code(),
            Self::Corrupt { .. } => ErrorCode::DataLoss,
            Self::Computation(_) => ErrorCode::Internal,
        }
    }

    fn hint(&self) -> String {
        match self {
            Self::UnknownEndpoint { nearest: Some(nearest), .. } => format!("did you mean `{nearest}`?"),
            Self::UnknownEndpoint { nearest: None, .. } => {
                "apply the endpoint's definition and deploy a version".into()
            }
            Self::UnknownPrediction(_) => {
                "it may not have been sampled: send the label by the endpoint's label key instead".into()
            }
            Self::UnknownTask(_) => "list the endpoint's review tasks for the ids".into(),
            Self::UnknownSlice { known, .. } if known.is_empty() => {
                "name columns under `monitor.slices` in the endpoint's definition".into()
            }
            Self::UnknownSlice { known, .. } => format!("slices are: {}", known.join(", ")),
            Self::AlreadyAnswered { .. } => "post a reviewer's label for the prediction to correct the answer".into(),
            Self::Withdrawn(_) => "post a reviewer's label for the prediction to overrule the outcome".into(),
            Self::NoReference { .. } => "register versions with the `reference.json` their training wrote".into(),
            Self::BadArgument { hint, .. } => (*hint).to_owned(),
            Self::Stopping => "send it again when the server is back".into(),
            Self::Storage { source, .. } => source.hint(),
            Self::Corrupt { .. } | Self::Computation(_) => String::new(),
        }
    }
}
