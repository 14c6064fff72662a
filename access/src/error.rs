//! What is refused at the door, and why.

use domain::{Coded, ErrorCode, ProjectName, Timestamp};
use storage::StorageError;

use crate::TokenId;

#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// The same words for an unknown token and a wrong secret, so that nobody learns which tokens exist.
    #[error("the token is not known here")]
    UnknownToken,
    #[error("the token `{id}` expired at {at}")]
    Expired { id: TokenId, at: Timestamp },
    #[error("the token `{id}` was revoked at {at}")]
    Revoked { id: TokenId, at: Timestamp },
    #[error("token `{0}` does not exist")]
    NoSuchToken(TokenId),
    #[error("project `{0}` does not exist, or is not open to this token")]
    NoSuchProject(ProjectName),
    #[error("project `{0}` exists already")]
    ProjectExists(ProjectName),
    #[error("this token would open, or opens, every project, and yours does not")]
    NotOfTheHouse,
    #[error("{what} {problem}")]
    Invalid { what: &'static str, problem: String },
    #[error("could not keep the first admin's token: {0}")]
    NotKept(std::io::Error),
    /// The system gave no random bytes for a secret.
    #[error("no random bytes: {0}")]
    NoRandomness(String),
    #[error("the stored {what} cannot be read: {detail}")]
    Damaged { what: &'static str, detail: String },
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl From<sqlx::Error> for AccessError {
    fn from(error: sqlx::Error) -> Self {
        Self::Storage(error.into())
    }
}

impl AccessError {
    pub(crate) fn damaged<E: ToString>(what: &'static str) -> impl FnOnce(E) -> Self {
        move |error| Self::Damaged { what, detail: error.to_string() }
    }
}

impl Coded for AccessError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::UnknownToken | Self::Expired { .. } | Self::Revoked { .. } => ErrorCode::Unauthenticated,
            Self::NoSuchToken(_) | Self::NoSuchProject(_) => ErrorCode::NotFound,
            Self::NotOfTheHouse => ErrorCode::PermissionDenied,
            Self::ProjectExists(_) => ErrorCode::AlreadyExists,
            Self::Invalid { .. } => ErrorCode::InvalidArgument,
            Self::NoRandomness(_) | Self::NotKept(_) => ErrorCode::Unavailable,
            Self::Damaged { .. } => ErrorCode::DataLoss,
            Self::Storage(error) => error.code(),
        }
    }

    fn hint(&self) -> String {
        match self {
            Self::UnknownToken | Self::Expired { .. } | Self::Revoked { .. } => {
                "ask an admin of the project for a token (`millpond tokens create`)".into()
            }
            Self::NoSuchToken(_) => "list them with `millpond tokens list`".into(),
            Self::NoSuchProject(_) => "a token opens the project it was made for and no other".into(),
            Self::NotOfTheHouse => "ask who holds a token that opens every project".into(),
            Self::Storage(error) => error.hint(),
            _ => String::new(),
        }
    }
}
