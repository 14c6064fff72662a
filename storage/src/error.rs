//! What can go wrong with stored things, as far as a caller can act on it.

use std::{io, path::PathBuf};

use domain::{Coded, Digest, ErrorCode, FrameError};

#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    #[error("blob `{0}` does not exist")]
    NoSuchBlob(Digest),
    /// Bytes on disk are not what was written.
    #[error("{what} is damaged: {detail}")]
    Corrupt { what: String, detail: String },
    #[error("could not {doing}: {source}")]
    Io { doing: String, source: io::Error },
    /// The write may or may not have happened; reading the state again tells.
    #[error("the outcome of `{doing}` is unknown: {reason}")]
    Unknown { doing: &'static str, reason: String },
    #[error("database: {0}")]
    Database(#[from] sqlx::Error),
    #[error("key-value store: {0}")]
    Kv(#[from] fjall::Error),
    #[error("a key of {length} bytes is outside 1 to 65535")]
    BadKey { length: usize },
    /// The data directory was written by a newer program.
    #[error("{room} data has {found} migrations where this program knows {known}")]
    NewerData { room: String, found: usize, known: usize },
    #[error("migration {position} of {room} was applied as `{found}` and is now `{expected}`, or its text changed")]
    ChangedMigration { room: String, position: usize, found: String, expected: String },
    #[error("`{0}` is in use by another process")]
    Locked(PathBuf),
    #[error("`{0}` is not a table name: expected 1 to 120 characters")]
    BadTableName(String),
    #[error("table `{table}` has other columns: {detail}")]
    SchemaMismatch { table: String, detail: String },
    #[error("rows do not fit table `{table}`: {detail}")]
    BadRows { table: String, detail: String },
    #[error("table `{table}` has no timestamp column `{column}`")]
    NoTimeColumn { table: String, column: String },
    #[error("column `{column}` of type {found} cannot be read as {expected}")]
    BadColumn { column: String, found: String, expected: &'static str },
    #[error("not a readable Parquet file: {0}")]
    BadParquet(String),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("columnar data: {0}")]
    Arrow(#[from] arrow::error::ArrowError),
    /// A failure made by a faulty twin of [`crate::testing`].
    #[error("injected failure of {0}")]
    Injected(&'static str),
    #[error("the worker of {0} is gone")]
    WorkerGone(&'static str),
}

impl StorageError {
    /// Whether the failed write may have happened all the same. False: it has not.
    #[must_use]
    pub const fn is_unknown(&self) -> bool {
        matches!(self, Self::Unknown { .. } | Self::Io { .. } | Self::Kv(_) | Self::WorkerGone(_))
    }

    /// Wraps an IO error with what was being done, as in `write /data/x`.
    pub(crate) fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Io { doing, source }
    }

    pub(crate) fn corrupt(what: impl Into<String>, detail: impl ToString) -> Self {
        Self::Corrupt { what: what.into(), detail: detail.to_string() }
    }
}

impl Coded for StorageError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::NoSuchBlob(_) => ErrorCode::NotFound,
            Self::Corrupt { .. } => ErrorCode::DataLoss,
            Self::Io { .. } | Self::Unknown { .. } | Self::Locked(_) | Self::Injected(_) => ErrorCode::Unavailable,
            Self::Database(sqlx::Error::RowNotFound) => ErrorCode::NotFound,
            Self::Database(sqlx::Error::PoolTimedOut) => ErrorCode::Overloaded,
            Self::Database(sqlx::Error::Database(e)) if e.is_unique_violation() => ErrorCode::AlreadyExists,
            Self::NewerData { .. } | Self::ChangedMigration { .. } | Self::SchemaMismatch { .. } => ErrorCode::Conflict,
            Self::BadKey { .. }
            | Self::BadTableName(_)
            | Self::BadRows { .. }
            | Self::NoTimeColumn { .. }
            | Self::BadColumn { .. }
            | Self::BadParquet(_)
            | Self::Frame(_) => ErrorCode::InvalidArgument,
            Self::Database(_) | Self::Kv(_) | Self::Arrow(_) | Self::WorkerGone(_) => ErrorCode::Internal,
        }
    }

    fn hint(&self) -> String {
        match self {
            Self::NewerData { .. } => "start the newer millpond, or give this one another data directory".into(),
            Self::ChangedMigration { .. } => {
                "start the millpond that wrote this data directory, or give this one another".into()
            }
            Self::Locked(_) => "stop the other millpond, or give this one another data directory".into(),
            Self::Io { .. } => "check free space and permissions of the data directory, then restart".into(),
            Self::Unknown { .. } => "read the state before trying again".into(),
            Self::Corrupt { .. } => "restore the data directory from a backup".into(),
            _ => String::new(),
        }
    }
}
