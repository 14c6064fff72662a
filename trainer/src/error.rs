use std::io;

use domain::{Coded, ErrorCode, FrameError, ValueType, definition::Prep};

/// Why a job made no model. Nothing is kept of such a job.
#[derive(Debug, thiserror::Error)]
pub enum TrainerError {
    #[error("the job names no input columns")]
    NoInputs,
    #[error("input column `{column}` is not in the dataset")]
    UnknownColumn { column: String, nearest: Option<String> },
    #[error("input column `{column}` is {kind}, which `{prep}` cannot take")]
    WrongType { column: String, kind: ValueType, prep: &'static str },
    #[error("input `{column}`: {reason}")]
    BadInput { column: String, reason: String },
    #[error("estimator `{estimator}`: {reason}")]
    BadEstimator { estimator: String, reason: String },
    #[error("dataset {0}")]
    Dataset(#[from] FrameError),
    #[error("row {row} of the {part} rows has no `{column}`")]
    NullValue { part: &'static str, column: String, row: usize },
    #[error("there are {rows} {part} rows; at least {least} are needed")]
    TooFewRows { part: &'static str, rows: usize, least: usize },
    #[error("the {part} rows have one class only: every `{label}` is {value}")]
    OneClass { part: &'static str, label: String, value: bool },
    #[error("training diverged in epoch {epoch}: the loss is no longer a number")]
    Diverged { epoch: u32 },
    #[error("candle and ONNX Runtime disagree by {max_abs_diff:e} (at most {allowed:e} is allowed), most on {row}")]
    Parity { max_abs_diff: f64, allowed: f64, row: String },
    #[error("could not {doing}: {source}")]
    Candle { doing: &'static str, source: candle_core::Error },
    #[error(transparent)]
    Backend(#[from] backends::BackendError),
    #[error("could not {doing}: {source}")]
    Storage { doing: &'static str, source: storage::StorageError },
    #[error("could not {doing}: {source}")]
    Io { doing: &'static str, source: io::Error },
    #[error("the job's {what} cannot be read: {reason}")]
    Record { what: &'static str, reason: String },
    #[error("the training process ended ({status}) and left no result{}", tail(.stderr))]
    Died { status: String, stderr: String },
    /// What the child said; the code is the child's.
    #[error("{message}")]
    Failed { code: ErrorCode, message: String, hint: String },
}

fn tail(stderr: &str) -> String {
    if stderr.is_empty() { String::new() } else { format!("; its last words: {stderr}") }
}

impl TrainerError {
    pub(crate) fn io(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing, source }
    }

    pub(crate) fn candle(doing: &'static str) -> impl FnOnce(candle_core::Error) -> Self {
        move |source| Self::Candle { doing, source }
    }

    pub(crate) fn input(column: &str, reason: impl Into<String>) -> Self {
        Self::BadInput { column: column.to_owned(), reason: reason.into() }
    }

    pub(crate) fn wrong_type(column: &str, kind: ValueType, prep: Prep) -> Self {
        Self::WrongType { column: column.to_owned(), kind, prep: prep_name(prep) }
    }
}

pub(crate) const fn prep_name(prep: Prep) -> &'static str {
    match prep {
        Prep::Numeric => "numeric",
        Prep::Log => "log",
        Prep::Difference => "difference",
        Prep::Cycle => "cycle",
        Prep::OneHot => "one_hot",
        Prep::Embedding => "embedding",
    }
}

impl Coded for TrainerError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::NoInputs
            | Self::UnknownColumn { .. }
            | Self::WrongType { .. }
            | Self::BadInput { .. }
            | Self::BadEstimator { .. }
            | Self::Dataset(_)
            | Self::NullValue { .. }
            | Self::TooFewRows { .. }
            | Self::OneClass { .. }
            | Self::Diverged { .. } => ErrorCode::InvalidArgument,
            Self::Parity { .. } | Self::Candle { .. } | Self::Io { .. } | Self::Died { .. } => ErrorCode::Internal,
            Self::Record { .. } => ErrorCode::DataLoss,
            Self::Backend(error) => error.code(),
            Self::Storage { source, .. } => source.code(),
            Self::Failed { code, .. } => *code,
        }
    }

    fn hint(&self) -> String {
        match self {
            Self::NoInputs => "list at least one column under `inputs`".into(),
            Self::UnknownColumn { nearest: Some(nearest), .. } => format!("did you mean `{nearest}`?"),
            Self::UnknownColumn { nearest: None, .. } => {
                "inputs are entity keys, request values and `view__feature` columns of the service".into()
            }
            Self::TooFewRows { .. } | Self::OneClass { .. } => {
                "take a longer dataset window or holdout, or wait for more labels".into()
            }
            Self::Diverged { .. } => "lower the learning rate".into(),
            Self::Died { .. } => "if it was killed for memory, shorten the dataset's window".into(),
            Self::Backend(error) => error.hint(),
            Self::Storage { source, .. } => source.hint(),
            Self::Failed { hint, .. } => hint.clone(),
            _ => String::new(),
        }
    }
}
