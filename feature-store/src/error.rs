//! What can go wrong in the feature store.

use domain::{Coded, ErrorCode, FrameError, Span};
use runtime::CpuError;
use spark::SparkError;
use storage::StorageError;

use crate::join::JoinError;

#[derive(Debug, thiserror::Error)]
pub enum FeatureError {
    /// A definition that cannot stand: names it, the field and why.
    #[error("{kind} `{name}`: {field}: {reason}")]
    Definition {
        kind: &'static str,
        name: String,
        field: String,
        reason: String,
        /// The known name nearest to the one written.
        near: Option<String>,
    },
    /// A change of a source that its stored rows do not allow.
    #[error("Source `{name}` already holds {rows} rows: {reason}")]
    Incompatible { name: String, rows: u64, reason: String },
    #[error("{kind} `{name}` does not exist")]
    Unknown { kind: &'static str, name: String, near: Option<String> },
    /// A body that cannot be read as a whole; nothing of it was taken.
    #[error("cannot ingest into source `{source_name}`: {reason}")]
    Body { source_name: String, reason: String, near: Option<String> },
    /// A table handed in does not fit what was asked.
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("{rows} rows of keys stand beside {instants} instants")]
    Instants { rows: usize, instants: usize },
    /// A dataset that cannot be built from these sources.
    #[error("dataset: {field}: {reason}")]
    Dataset { field: String, reason: String, near: Option<String> },
    /// Rows set aside that cannot be replayed in this way.
    #[error("cannot replay: {reason}")]
    Replay { reason: String },
    /// Files that cannot be loaded.
    #[error("cannot load: {reason}")]
    Load { reason: String },
    /// A vacuum that would keep earlier versions longer than can be.
    #[error("earlier versions cannot be kept for {keep}")]
    Keep { keep: Span, keep_max: Span },
    #[error("could not {doing}: {source}")]
    Storage { doing: &'static str, source: StorageError },
    #[error("could not {doing}: {source}")]
    Cpu { doing: &'static str, source: CpuError },
    #[error(transparent)]
    Join(#[from] JoinError),
    #[error(transparent)]
    Spark(#[from] SparkError),
    /// A view that Spark cannot join so that the answer is the same.
    #[error("view `{view}` cannot be joined on Spark: {reason}")]
    NotOnSpark { view: String, reason: String },
    /// Stored bytes that are not what was written.
    #[error("stored {what} cannot be read: {reason}")]
    Corrupt { what: &'static str, reason: String },
}

impl Coded for FeatureError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Definition { .. }
            | Self::Body { .. }
            | Self::Frame(_)
            | Self::Instants { .. }
            | Self::Keep { .. }
            | Self::NotOnSpark { .. }
            | Self::Replay { .. }
            | Self::Load { .. }
            | Self::Dataset { .. } => ErrorCode::InvalidArgument,
            Self::Incompatible { .. } => ErrorCode::Conflict,
            Self::Unknown { .. } => ErrorCode::NotFound,
            Self::Storage { source, .. } => source.code(),
            Self::Cpu { source, .. } => source.code(),
            Self::Join(source) => source.code(),
            Self::Spark(source) => source.code(),
            Self::Corrupt { .. } => ErrorCode::DataLoss,
        }
    }

    fn hint(&self) -> String {
        match self {
            Self::Definition { near, .. }
            | Self::Unknown { near, .. }
            | Self::Body { near, .. }
            | Self::Dataset { near, .. } => {
                near.as_ref().map_or_else(String::new, |name| format!("did you mean `{name}`?"))
            }
            Self::Keep { keep_max, .. } => format!("ask for at least 0s and at most {keep_max}"),
            Self::Incompatible { .. } => "give the changed table a new source name and ingest into that".into(),
            Self::Storage { source, .. } => source.hint(),
            Self::Cpu { source, .. } => source.hint(),
            Self::Join(source) => source.hint(),
            Self::Spark(source) => source.hint(),
            Self::NotOnSpark { .. } => "set `joins.place` to `auto` or `local`".into(),
            Self::Frame(_) | Self::Instants { .. } | Self::Replay { .. } | Self::Load { .. } | Self::Corrupt { .. } => {
                String::new()
            }
        }
    }
}

/// Says what was being done when a lower layer failed.
pub(crate) trait Doing<T> {
    fn doing(self, doing: &'static str) -> Result<T, FeatureError>;
}

impl<T> Doing<T> for Result<T, StorageError> {
    fn doing(self, doing: &'static str) -> Result<T, FeatureError> {
        self.map_err(|source| FeatureError::Storage { doing, source })
    }
}

impl<T> Doing<T> for Result<T, CpuError> {
    fn doing(self, doing: &'static str) -> Result<T, FeatureError> {
        self.map_err(|source| FeatureError::Cpu { doing, source })
    }
}

impl<T> Doing<T> for Result<T, sqlx::Error> {
    fn doing(self, doing: &'static str) -> Result<T, FeatureError> {
        self.map_err(|error| FeatureError::Storage { doing, source: StorageError::from(error) })
    }
}

/// Shorthand for a lookup that found nothing, with the nearest known name.
pub(crate) fn unknown<'a>(kind: &'static str, name: &str, known: impl IntoIterator<Item = &'a str>) -> FeatureError {
    let near = domain::error::nearest(name, known).map(str::to_owned);
    FeatureError::Unknown { kind, name: name.to_owned(), near }
}
