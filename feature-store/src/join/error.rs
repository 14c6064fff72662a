//! What can go wrong in a join.

use std::io;

use arrow::error::ArrowError;
use domain::{Coded, ErrorCode};
use parquet::errors::ParquetError;

#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    #[error("{place} has no column `{column}`")]
    NoColumn { place: String, column: String },
    /// A column whose type does not serve its purpose.
    #[error("column `{column}` of {place} is {found}, {wanted} is needed")]
    ColumnType { place: String, column: String, found: String, wanted: String },
    #[error("view `{view}` needs {what}")]
    View { view: String, what: &'static str },
    #[error("column `{0}` would come out twice")]
    Twice(String),
    #[error("{0} rows are more than one join can tell apart (4,294,967,294)")]
    TooManyRows(u64),
    /// Bytes of a part that cannot be read, or are not what its footer says.
    #[error("could not read {place}: {source}")]
    Read { place: String, source: ParquetError },
    #[error("could not {doing}: {source}")]
    Spill { doing: &'static str, source: io::Error },
    #[error("could not put together the columns of {place}: {source}")]
    Columns { place: String, source: ArrowError },
}

impl Coded for JoinError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::NoColumn { .. }
            | Self::ColumnType { .. }
            | Self::View { .. }
            | Self::Twice(_)
            | Self::TooManyRows(_)
            | Self::Columns { .. } => ErrorCode::InvalidArgument,
            Self::Read { source: ParquetError::External(_), .. } => ErrorCode::Unavailable,
            Self::Read { .. } => ErrorCode::DataLoss,
            Self::Spill { .. } => ErrorCode::Internal,
        }
    }

    fn hint(&self) -> String {
        match self {
            Self::TooManyRows(_) => "join the spine in parts".into(),
            Self::Spill { .. } => {
                "make room in the directory for temporary files, or allow the join more memory".into()
            }
            _ => String::new(),
        }
    }
}
