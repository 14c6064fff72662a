//! Errors as `application/problem+json` (RFC 9457) with `code`, `detail` and `hint`.

use axum::{
    Json,
    extract::{
        FromRequest, FromRequestParts, Request,
        rejection::{JsonRejection, PathRejection, QueryRejection},
    },
    http::{HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use bytes::{Bytes, BytesMut};
use domain::{Coded, ErrorCode};
use http_body_util::BodyExt as _;
use hyper::body::Body as _;
use serde::{Serialize, de::DeserializeOwned};
use utoipa::ToSchema;

/// Type of the body of every failed call.
pub const CONTENT_TYPE: &str = "application/problem+json";

/// What every failed call answers.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Problem {
    /// HTTP status, repeated.
    pub status: u16,
    /// Machine-readable code: one of a closed list.
    #[schema(example = "invalid_argument")]
    pub code: &'static str,
    /// What went wrong and where.
    #[schema(example = "instances[0].distance is missing")]
    pub detail: String,
    /// How to mend it; left out when there is nothing to add.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub hint: String,
}

impl Problem {
    pub fn new(code: ErrorCode, detail: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { status: code.http_status(), code: code.as_str(), detail: detail.into(), hint: hint.into() }
    }

    /// An error of the wiring: one of a room that stands in it is answered as such.
    pub fn from_any(error: anyhow::Error) -> Self {
        match error.downcast::<access::AccessError>() {
            Ok(known) => known.into(),
            Err(error) => {
                tracing::error!(error = %format!("{error:#}"), "a project does not open");
                Self::new(ErrorCode::Unavailable, "the project does not open", "the server's log says why")
            }
        }
    }

    /// The code it was made with.
    pub fn error_code(&self) -> ErrorCode {
        ErrorCode::ALL.into_iter().find(|code| code.as_str() == self.code).unwrap_or(ErrorCode::Internal)
    }

    /// What went wrong and how to mend it, for protocols that have one text for both.
    pub fn in_one_line(&self) -> String {
        if self.hint.is_empty() { self.detail.clone() } else { format!("{}: {}", self.detail, self.hint) }
    }

    pub fn invalid(detail: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(ErrorCode::InvalidArgument, detail, hint)
    }
}

impl<E: Coded> From<E> for Problem {
    fn from(error: E) -> Self {
        let code = error.code();
        if matches!(code, ErrorCode::Internal | ErrorCode::DataLoss) {
            tracing::error!(error = %chain(&error), "request failed");
        }
        Self::new(code, error.to_string(), error.hint())
    }
}

/// An error and what lies under it on one line; a cause that is part of the message already is not said twice.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let said = cause.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        next = cause.source();
    }
    text.lines().map(str::trim).collect::<Vec<_>>().join(" ")
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(&self)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
        if self.status == 429 || self.status == 503 {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

/// A JSON body. Does not demand a content type; says where the JSON is wrong.
pub struct Body<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let bytes = Raw::from_request(request, state).await?.0;
        Json::<T>::from_bytes(&bytes).map(|Json(value)| Self(value)).map_err(|rejection| match rejection {
            JsonRejection::JsonSyntaxError(e) => {
                Problem::invalid(deepest(&e), "send a JSON document; the position counts from line 1, column 1")
            }
            other => Problem::invalid(deepest(&other), "the shape of this body stands at /docs"),
        })
    }
}

/// The largest body that is taken, in bytes; a layer puts it on every request.
#[derive(Debug, Clone, Copy)]
pub struct BodyLimit(pub usize);

/// How much of a body beyond the limit is read and thrown away. A client that writes before it reads would otherwise
/// see a broken connection instead of the answer.
pub const DRAINED_BYTES_MAX: usize = 256 << 20;

/// The body as bytes, within the limit.
pub struct Raw(pub Bytes);

impl<S: Send + Sync> FromRequest<S> for Raw {
    type Rejection = Problem;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Problem> {
        let limit = request.extensions().get::<BodyLimit>().map_or(0, |limit| limit.0);
        let asks_first = request.headers().contains_key(header::EXPECT);
        let mut body = request.into_body();
        if asks_first && body.size_hint().lower() > limit as u64 {
            return Err(too_large(limit));
        }
        let (mut bytes, mut seen) = (BytesMut::new(), 0_usize);
        while let Some(frame) = body.frame().await {
            let frame =
                frame.map_err(|e| Problem::invalid(format!("the body broke off: {e}"), "send the whole body"))?;
            let Ok(data) = frame.into_data() else { continue };
            seen = seen.saturating_add(data.len());
            if seen <= limit {
                bytes.extend_from_slice(&data);
            } else if seen - limit > DRAINED_BYTES_MAX {
                break;
            } else {
                bytes = BytesMut::new();
            }
        }
        if seen > limit { Err(too_large(limit)) } else { Ok(Self(bytes.freeze())) }
    }
}

fn too_large(limit: usize) -> Problem {
    Problem::new(
        ErrorCode::TooLarge,
        format!("the body is larger than the limit of {limit} bytes"),
        "send fewer rows in each request, or raise server.max_body_bytes",
    )
}

/// Query parameters.
pub struct Query<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        axum::extract::Query::<T>::from_request_parts(parts, state)
            .await
            .map(|axum::extract::Query(value)| Self(value))
            .map_err(|e: QueryRejection| Problem::invalid(deepest(&e), "the parameters of this call stand at /docs"))
    }
}

/// Path parameters, parsed into domain names and ids.
pub struct Path<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        axum::extract::Path::<T>::from_request_parts(parts, state)
            .await
            .map(|axum::extract::Path(value)| Self(value))
            .map_err(|e: PathRejection| Problem::invalid(deepest(&e), "check the names in the path"))
    }
}

/// The innermost message: the one that names the field and the position.
fn deepest(error: &dyn std::error::Error) -> String {
    let mut last = error;
    while let Some(next) = last.source() {
        last = next;
    }
    last.to_string()
}
