//! A refusal in the form that the caller's protocol knows.

use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, header},
    response::{IntoResponse as _, Response},
};
use domain::ErrorCode;
use tonic::{Code, Status};

use crate::{
    feast,
    http::{
        mlflow::{self, wire::Refusal},
        problem::Problem,
    },
};

/// Browsers ask for a password then, and take the token for one.
const CHALLENGE: HeaderValue = HeaderValue::from_static("Basic realm=\"millpond\", charset=\"UTF-8\"");

/// Whether this is a call of gRPC.
pub fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

/// `problem` as the answer to a request with that path and those headers.
pub fn answer(problem: Problem, path: &str, headers: &HeaderMap) -> Response {
    let code = problem.error_code();
    if is_grpc(headers) && path.starts_with("/arrow.flight.") {
        return feast::Refusal::from(problem).to_flight().into_http::<Body>();
    }
    if is_grpc(headers) && path.starts_with("/feast.") {
        return feast::Refusal::from(problem).to_status().into_http::<Body>();
    }
    if is_grpc(headers) {
        return Status::new(Code::from_i32(code.grpc_status()), problem.in_one_line()).into_http::<Body>();
    }
    let mut response = if feast::is_ours(path) {
        feast::Refusal::from(problem).into_response()
    } else if mlflow::is_ours(path) {
        Refusal::new(code, problem.in_one_line()).into_response()
    } else {
        problem.into_response()
    };
    if code == ErrorCode::Unauthenticated {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, CHALLENGE);
    }
    response
}
