//! What can go wrong with stored things, as far as a caller can act on it.

use std::{io, path::PathBuf};

use domain::{Coded, Digest, ErrorCode, FrameError};

#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    #[error("blob `{0}` does not exist")]
    NoSuchBlob(Digest),
    /// Bytes stored a moment ago, and removed as garbage before anything named them.
    #[error("blob `{0}` was cleared away before anything named it")]
    Cleared(Digest),
    /// Bytes on disk are not what was written.
    #[error("{what} is damaged: {detail}")]
    Corrupt { what: String, detail: String },
    #[error("could not {doing}: {source}")]
    Io { doing: String, source: io::Error },
    /// The object store is away, or refuses. Never repeats credentials.
    #[error("could not {doing}: {reason}")]
    Objects { doing: String, reason: String },
    /// Parts of an upload are not what their tags or numbers say, or too small.
    #[error("the parts of the upload do not fit: {0}")]
    BadParts(String),
    #[error("{what} is larger than {bytes_max} bytes")]
    TooLarge { what: String, bytes_max: u64 },
    /// The write may or may not have happened; reading the state again tells.
    #[error("the outcome of `{doing}` is unknown: {reason}")]
    Unknown { doing: &'static str, reason: String },
    #[error("{}", refusal(.0))]
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
    /// A statement failed and the transaction went on; on Postgres nothing of it can be kept.
    #[error("a statement of the transaction had failed, so all of it was undone")]
    Undone,
    /// Never repeats the URL, which may hold a password.
    #[error("the database's address does not fit: {0}")]
    BadUrl(String),
    #[error("`{0}` is not a schema's name: expected 1 to 63 lower-case letters, digits, `_` and `$`")]
    BadSchema(String),
    #[error("the database has no schema to put tables in")]
    NoSchema,
    /// The rows lie in the data directory of another server of the same database.
    #[error("table `{table}` is kept by another server, whose data directory is `{keeper}`")]
    Elsewhere { table: String, keeper: String },
    /// An earlier state whose files were cleared away.
    #[error("{what} is not kept any more")]
    Gone { what: String },
    /// The blobs of a bucket belong to another database.
    #[error("{place} belongs to another installation (`{owner}`)")]
    Claimed { place: String, owner: String },
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
        matches!(
            self,
            Self::Unknown { .. } | Self::Io { .. } | Self::Objects { .. } | Self::Kv(_) | Self::WorkerGone(_)
        )
    }

    /// Wraps an IO error with what was being done, as in `write /data/x`.
    pub(crate) fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Io { doing, source }
    }

    pub(crate) fn bad_url(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::Configuration(reason) => Self::BadUrl(reason.to_string()),
            other => Self::BadUrl(other.to_string()),
        }
    }

    pub(crate) fn corrupt(what: impl Into<String>, detail: impl ToString) -> Self {
        Self::Corrupt { what: what.into(), detail: detail.to_string() }
    }
}

impl Coded for StorageError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::NoSuchBlob(_) | Self::Gone { .. } => ErrorCode::NotFound,
            Self::Corrupt { .. } => ErrorCode::DataLoss,
            Self::Io { .. }
            | Self::Objects { .. }
            | Self::Unknown { .. }
            | Self::Locked(_)
            | Self::Injected(_)
            | Self::Cleared(_) => ErrorCode::Unavailable,
            Self::TooLarge { .. } => ErrorCode::TooLarge,
            Self::Database(error) => database_code(error),
            Self::NewerData { .. }
            | Self::ChangedMigration { .. }
            | Self::SchemaMismatch { .. }
            | Self::Elsewhere { .. }
            | Self::Claimed { .. }
            | Self::NoSchema => ErrorCode::Conflict,
            Self::BadKey { .. }
            | Self::BadTableName(_)
            | Self::BadRows { .. }
            | Self::NoTimeColumn { .. }
            | Self::BadColumn { .. }
            | Self::BadParquet(_)
            | Self::BadUrl(_)
            | Self::BadSchema(_)
            | Self::BadParts(_)
            | Self::Frame(_) => ErrorCode::InvalidArgument,
            Self::Undone | Self::Kv(_) | Self::Arrow(_) | Self::WorkerGone(_) => ErrorCode::Internal,
        }
    }

    fn hint(&self) -> String {
        match self {
            Self::NewerData { .. } => "start the newer millpond, or give this one another data directory".into(),
            Self::ChangedMigration { .. } => {
                "start the millpond that wrote this data directory, or give this one another".into()
            }
            Self::Cleared(_) => "send it again".into(),
            Self::Gone { .. } => "use a newer one; tables.keep_versions says for how long they are kept".into(),
            Self::Claimed { .. } => {
                "give this one another prefix in objects.url; if its database took over from the other's, remove the object \
                 `owner` under the prefix"
                    .into()
            }
            Self::Locked(_) => "stop the other millpond, or give this one another data directory".into(),
            Self::Io { .. } => "check free space and permissions of the data directory, then restart".into(),
            Self::Objects { .. } => {
                "see that the object store is up and that the settings of [objects] fit, then try again".into()
            }
            Self::BadParts(_) => "send the parts again, and name each by its number and tag".into(),
            Self::TooLarge { .. } => "split it".into(),
            Self::Unknown { .. } => "read the state before trying again".into(),
            Self::BadUrl(_) => "write it as in `postgres://user:password@host/database`".into(),
            Self::NoSchema => "create one, or let the user's `search_path` name one that exists".into(),
            Self::Elsewhere { .. } => "send this to the server that keeps it".into(),
            Self::Database(_) if self.code() == ErrorCode::Unavailable => {
                "see that the database is up and takes connections, then try again".into()
            }
            Self::Corrupt { .. } => "restore it from a backup".into(),
            _ => String::new(),
        }
    }
}

/// What a caller reads of it. A value that cannot be sent is the caller's own, so it is said without the library's words.
fn refusal(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Encode(reason) => {
            let reason = reason.to_string();
            format!("a value cannot be stored: {}", reason.rsplit(": ").next().unwrap_or(&reason))
        }
        other => format!("database: {other}"),
    }
}

/// What the database's refusal amounts to. Of its own errors Postgres' are told by SQLSTATE, five characters long;
/// SQLite's codes are shorter.
fn database_code(error: &sqlx::Error) -> ErrorCode {
    match error {
        sqlx::Error::RowNotFound => ErrorCode::NotFound,
        sqlx::Error::PoolTimedOut => ErrorCode::Overloaded,
        // A value that cannot be sent, such as text with a NUL character.
        sqlx::Error::Encode(_) => ErrorCode::InvalidArgument,
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => {
            ErrorCode::Unavailable
        }
        sqlx::Error::Database(e) if e.is_unique_violation() => ErrorCode::AlreadyExists,
        sqlx::Error::Database(e) => match e.code().as_deref() {
            Some("57014") => ErrorCode::DeadlineExceeded,
            // Connection lost, out of connections or memory, shutting down or starting, lock not granted, a
            // transaction that has to be repeated, a session ended by a time-out.
            Some(state)
                if state.len() == 5
                    && ["08", "53", "57", "55P03", "40", "25P03"].iter().any(|c| state.starts_with(c)) =>
            {
                ErrorCode::Unavailable
            }
            _ => ErrorCode::Internal,
        },
        _ => ErrorCode::Internal,
    }
}
