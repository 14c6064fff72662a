//! The closed list of error codes, and the one table that turns a code into an HTTP or gRPC status.

use serde::{Deserialize, Serialize};

/// What went wrong, as far as a caller can act on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The request itself is wrong; sending it again unchanged cannot succeed.
    InvalidArgument,
    /// Nobody knows who asks: the call carries no token, or one that does not hold.
    Unauthenticated,
    /// Who asks may not do this, or asks from where nobody may.
    PermissionDenied,
    /// The named thing does not exist.
    NotFound,
    /// A thing of that name exists and differs.
    AlreadyExists,
    /// Somebody else changed it first, or its state does not allow this.
    Conflict,
    /// The body is larger than the configured limit.
    TooLarge,
    /// A bounded queue is full; try again later.
    Overloaded,
    /// The deadline passed before an answer was ready.
    DeadlineExceeded,
    /// The server is starting, draining or lacks a part it needs.
    Unavailable,
    /// Stored bytes do not match their digest or cannot be read.
    DataLoss,
    /// Our fault.
    Internal,
}

impl ErrorCode {
    /// Every code.
    pub const ALL: [Self; 12] = [
        Self::InvalidArgument,
        Self::Unauthenticated,
        Self::PermissionDenied,
        Self::NotFound,
        Self::AlreadyExists,
        Self::Conflict,
        Self::TooLarge,
        Self::Overloaded,
        Self::DeadlineExceeded,
        Self::Unavailable,
        Self::DataLoss,
        Self::Internal,
    ];

    /// RFC 9110 status.
    #[must_use]
    pub const fn http_status(self) -> u16 {
        match self {
            Self::InvalidArgument => 400,
            Self::Unauthenticated => 401,
            Self::PermissionDenied => 403,
            Self::NotFound => 404,
            Self::AlreadyExists | Self::Conflict => 409,
            Self::TooLarge => 413,
            Self::Overloaded => 429,
            Self::DataLoss | Self::Internal => 500,
            Self::Unavailable => 503,
            Self::DeadlineExceeded => 504,
        }
    }

    /// Numeric gRPC status code (grpc.io, status codes).
    #[must_use]
    pub const fn grpc_status(self) -> i32 {
        match self {
            Self::InvalidArgument => 3,
            Self::DeadlineExceeded => 4,
            Self::NotFound => 5,
            Self::AlreadyExists => 6,
            Self::PermissionDenied => 7,
            Self::TooLarge | Self::Overloaded => 8,
            Self::Conflict => 9,
            Self::Internal => 13,
            Self::Unavailable => 14,
            Self::DataLoss => 15,
            Self::Unauthenticated => 16,
        }
    }

    /// The code as it stands in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidArgument => "invalid_argument",
            Self::Unauthenticated => "unauthenticated",
            Self::PermissionDenied => "permission_denied",
            Self::NotFound => "not_found",
            Self::AlreadyExists => "already_exists",
            Self::Conflict => "conflict",
            Self::TooLarge => "too_large",
            Self::Overloaded => "overloaded",
            Self::DeadlineExceeded => "deadline_exceeded",
            Self::Unavailable => "unavailable",
            Self::DataLoss => "data_loss",
            Self::Internal => "internal",
        }
    }
}

/// An error that knows its code and how to mend it. `Display` says what and where.
pub trait Coded: std::error::Error {
    fn code(&self) -> ErrorCode;

    /// One sentence that says what to do about it; empty when there is nothing to add.
    fn hint(&self) -> String {
        String::new()
    }
}

/// The nearest of `known` to `wrong`, for "did you mean" hints; `None` when nothing is near.
#[must_use]
pub fn nearest<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(wrong, name), name))
        .filter(|(distance, name)| *distance <= 2.max(name.len() / 3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}
