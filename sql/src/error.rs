//! What can go wrong with a question.

use std::time::Duration;

use arrow::error::ArrowError;
use datafusion::error::DataFusionError;
use domain::{Coded, ErrorCode};

use crate::table::Fault;

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum SqlError {
    /// The text is no SQL, names what does not exist, or cannot be computed over these rows.
    #[error("{0}")]
    Query(String),
    /// SQL that would change something.
    #[error("only queries are taken here: {0}")]
    NotAQuery(String),
    #[error("the query has {bytes} bytes, and at most {max} are taken")]
    TooLong { bytes: usize, max: usize },
    /// Parameters that do not fit the places in the text.
    #[error("parameters: {0}")]
    Parameters(String),
    #[error("the query needs more than the {bytes} bytes of memory, or the disk space, that it may use: {reason}")]
    TooMuch { bytes: usize, reason: String },
    #[error("the query took longer than {0:?}")]
    Late(Duration),
    #[error("{0} queries run and as many wait")]
    Busy(usize),
    #[error("the server stops")]
    Stopped,
    /// A table that could not be read.
    #[error(transparent)]
    Table(#[from] Fault),
    /// A fault of the engine.
    #[error("the query engine failed: {0}")]
    Engine(String),
}

impl Coded for SqlError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Query(_) | Self::NotAQuery(_) | Self::Parameters(_) => ErrorCode::InvalidArgument,
            Self::TooLong { .. } | Self::TooMuch { .. } => ErrorCode::TooLarge,
            Self::Late(_) => ErrorCode::DeadlineExceeded,
            Self::Busy(_) => ErrorCode::Overloaded,
            Self::Stopped => ErrorCode::Unavailable,
            Self::Table(fault) => fault.code,
            Self::Engine(_) => ErrorCode::Internal,
        }
    }

    fn hint(&self) -> String {
        match self {
            Self::Query(_) => {
                "information_schema.columns lists tables and columns; names with capitals or hyphens stand in \
                               double quotes"
                    .into()
            }
            Self::NotAQuery(_) => "send one SELECT, WITH, VALUES, EXPLAIN, SHOW or DESCRIBE".into(),
            Self::TooLong { .. } => "put lists of values into parameters or a source of their own".into(),
            Self::Parameters(_) => "give one value for each ? or $1, $2, ...".into(),
            Self::TooMuch { .. } => "read fewer rows or columns, or raise sql.memory_bytes".into(),
            Self::Late(_) => "read fewer rows, or raise sql.deadline".into(),
            Self::Busy(_) => "try again later, or raise sql.at_once".into(),
            Self::Stopped => "ask again when it is up".into(),
            Self::Table(fault) => fault.hint.clone(),
            Self::Engine(_) => String::new(),
        }
    }
}

impl SqlError {
    /// Says what DataFusion says in our words. `memory` is what a question may use.
    pub(crate) fn of(error: DataFusionError, memory: usize) -> Self {
        match error {
            DataFusionError::External(inner) => match inner.downcast::<Fault>() {
                Ok(fault) => Self::Table(*fault),
                Err(other) => Self::Engine(line(&other.to_string())),
            },
            DataFusionError::ArrowError(inner, _) => match *inner {
                ArrowError::ExternalError(inner) => Self::of(DataFusionError::External(inner), memory),
                other => Self::Query(line(&other.to_string())),
            },
            DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => Self::of(*inner, memory),
            DataFusionError::Shared(inner) => match std::sync::Arc::try_unwrap(inner) {
                Ok(inner) => Self::of(inner, memory),
                Err(shared) => Self::of_shared(&shared, memory),
            },
            DataFusionError::Collection(mut all) if !all.is_empty() => Self::of(all.swap_remove(0), memory),
            DataFusionError::ResourcesExhausted(reason) => Self::TooMuch { bytes: memory, reason: line(&reason) },
            DataFusionError::SQL(..)
            | DataFusionError::Plan(_)
            | DataFusionError::SchemaError(..)
            | DataFusionError::NotImplemented(_)
            | DataFusionError::Configuration(_)
            | DataFusionError::Execution(_) => Self::Query(line(&error.to_string())),
            other => Self::Engine(line(&other.to_string())),
        }
    }

    /// The same of an error that others look at, too: a join's side that failed once is told of to every partition.
    fn of_shared(error: &DataFusionError, memory: usize) -> Self {
        match error {
            DataFusionError::External(inner) => match inner.downcast_ref::<Fault>() {
                Some(fault) => Self::Table(fault.clone()),
                None => Self::Engine(line(&inner.to_string())),
            },
            DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => {
                Self::of_shared(inner, memory)
            }
            DataFusionError::Shared(inner) => Self::of_shared(inner, memory),
            DataFusionError::ArrowError(inner, _) => Self::Query(line(&inner.to_string())),
            DataFusionError::ResourcesExhausted(reason) => Self::TooMuch { bytes: memory, reason: line(reason) },
            DataFusionError::Execution(_) | DataFusionError::Plan(_) => Self::Query(line(&error.to_string())),
            other => Self::Engine(line(&other.to_string())),
        }
    }
}

/// The first line, without the engine's own label.
fn line(text: &str) -> String {
    let first = text.lines().next().unwrap_or_default();
    let labels = [
        "Error during planning: ",
        "Schema error: ",
        "Execution error: ",
        "This feature is not implemented: ",
        "SQL error: ",
        "Arrow error: ",
    ];
    let cut = labels.iter().find_map(|label| first.strip_prefix(label)).unwrap_or(first);
    let parser = cut.strip_prefix("ParserError(\"").and_then(|rest| rest.strip_suffix("\")"));
    parser.unwrap_or(cut).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_s_own_error_comes_through_all_wrappers() {
        let fault = Fault { code: ErrorCode::Conflict, message: "kept elsewhere".into(), hint: "ask there".into() };
        let inner = DataFusionError::ArrowError(Box::new(ArrowError::ExternalError(Box::new(fault))), None);
        let wrapped = DataFusionError::Shared(std::sync::Arc::new(inner.context("while scanning")));
        let said = SqlError::of(wrapped, 1);
        assert_eq!(
            (said.code(), said.to_string(), said.hint()),
            (ErrorCode::Conflict, "kept elsewhere".into(), "ask there".into())
        );
    }

    #[test]
    fn what_the_caller_can_mend_is_not_our_fault() {
        let said = SqlError::of(DataFusionError::Plan("table 'x' not found\nbacktrace".into()), 1);
        assert_eq!((said.code(), said.to_string()), (ErrorCode::InvalidArgument, "table 'x' not found".into()));
        let said = SqlError::of(DataFusionError::ResourcesExhausted("no room".into()), 7);
        assert_eq!(said.code(), ErrorCode::TooLarge);
        assert_eq!(SqlError::of(DataFusionError::Internal("bug".into()), 7).code(), ErrorCode::Internal);
    }
}
