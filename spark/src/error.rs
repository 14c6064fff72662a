//! What can go wrong with a server that is not ours.

use domain::{Coded, ErrorCode};
use tonic::{Code, Status};

#[derive(Debug, thiserror::Error)]
pub enum SparkError {
    /// The server cannot be reached, or went away.
    #[error("Spark at {server} is gone: {reason}")]
    Gone { server: String, reason: String },
    /// The server does not take our token.
    #[error("Spark at {server} refuses this server: {reason}")]
    Refused { server: String, reason: String },
    #[error("Spark at {server} gave no answer within {seconds} s")]
    Late { server: String, seconds: u64 },
    /// The server is too busy, or the query needs more than it has.
    #[error("Spark at {server} lacks room: {reason}")]
    Full { server: String, reason: String },
    /// The server could not run what it was asked.
    #[error("Spark at {server} could not run the query: {reason}")]
    Failed { server: String, reason: String },
    /// What came back is not what was asked for.
    #[error("Spark at {server} answered what cannot be read: {reason}")]
    Garbled { server: String, reason: String },
    #[error("cannot set up TLS for {server}: {reason}")]
    Tls { server: String, reason: String },
}

impl SparkError {
    pub(crate) fn of(server: &str, status: &Status) -> Self {
        let server = server.to_owned();
        // Spark's messages may carry a Java stack trace.
        let reason = status.message().lines().next().unwrap_or_default().to_owned();
        let reason = if reason.is_empty() { status.code().to_string() } else { reason };
        match status.code() {
            Code::Unavailable | Code::Cancelled | Code::Aborted => Self::Gone { server, reason },
            // A connection that breaks in the middle of an answer has no code of its own.
            Code::Unknown if std::error::Error::source(status).is_some() => Self::Gone { server, reason },
            Code::Unauthenticated | Code::PermissionDenied => Self::Refused { server, reason },
            Code::ResourceExhausted => Self::Full { server, reason },
            _ => Self::Failed { server, reason },
        }
    }
}

impl Coded for SparkError {
    fn code(&self) -> ErrorCode {
        match self {
            // Not the caller's token: this server lacks a part that it needs.
            Self::Gone { .. } | Self::Refused { .. } | Self::Tls { .. } => ErrorCode::Unavailable,
            Self::Full { .. } => ErrorCode::Overloaded,
            Self::Late { .. } => ErrorCode::DeadlineExceeded,
            Self::Failed { .. } | Self::Garbled { .. } => ErrorCode::Internal,
        }
    }

    fn hint(&self) -> String {
        match self {
            Self::Gone { .. } => "start it again, or set `joins.place` to `local`".into(),
            Self::Refused { .. } => "put a token that it takes into `joins.spark_token_file`".into(),
            Self::Late { .. } => "raise `joins.spark_deadline`, or ask for fewer rows".into(),
            Self::Full { .. } => "give it more workers or memory, or try again later".into(),
            Self::Failed { .. } | Self::Garbled { .. } => {
                "its log says more; `joins.place` = `local` does without it".into()
            }
            Self::Tls { .. } => "look at `joins.spark_ca_file`".into(),
        }
    }
}
