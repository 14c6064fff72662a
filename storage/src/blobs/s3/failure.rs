//! What the store's refusals and silences amount to. What is said never repeats a header, which may hold credentials.

use std::error::Error as _;

use aws_sdk_s3::{
    config::http::HttpResponse,
    error::{ProvideErrorMetadata, SdkError},
};

use crate::StorageError;

pub(super) fn status_of<E>(error: &SdkError<E, HttpResponse>) -> Option<u16> {
    error.raw_response().map(|answer| answer.status().as_u16())
}

/// Whether the store says that there is no such object, in a bucket that is there.
pub(super) fn absent<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> bool {
    status_of(error) == Some(404) && error.as_service_error().and_then(E::code) != Some("NoSuchBucket")
}

/// Whether the store answered with one of these statuses.
pub(super) fn refused<E>(error: &SdkError<E, HttpResponse>, statuses: &[u16]) -> bool {
    status_of(error).is_some_and(|status| statuses.contains(&status))
}

pub(super) fn failed<E>(doing: impl Into<String>, error: SdkError<E, HttpResponse>) -> StorageError
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    let reason = match &error {
        SdkError::TimeoutError(_) => "the object store did not answer in time".to_owned(),
        SdkError::ServiceError(refusal) => {
            let status = refusal.raw().status().as_u16();
            match (refusal.err().code(), refusal.err().message()) {
                (Some(code), Some(message)) => format!("the object store answered {status} {code}: {message}"),
                (Some(code), None) => format!("the object store answered {status} {code}"),
                _ => format!("the object store answered {status}"),
            }
        }
        other => root_of(other),
    };
    StorageError::Objects { doing: doing.into(), reason }
}

/// The innermost cause, such as `Connection refused`; of credentials that cannot be had, that.
fn root_of<E: std::error::Error + 'static>(error: &SdkError<E, HttpResponse>) -> String {
    let mut cause = error.source();
    let mut said = error.to_string();
    while let Some(inner) = cause {
        said = inner.to_string();
        if said.contains("credentials") {
            return "no credentials were found in objects.access_key, AWS's environment variables, profile, or the \
                    machine's role"
                .to_owned();
        }
        cause = inner.source();
    }
    said
}
