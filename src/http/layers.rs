//! What every request passes: a request id, a span, RED metrics, a deadline; and the headers of every answer.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    extract::{MatchedPath, Request, State},
    http::{HeaderName, HeaderValue, Method, header},
    middleware::Next,
    response::Response,
};
use domain::ErrorCode;
use runtime::metrics::Metric;
use tracing::Instrument as _;

use super::{access, content, mlflow::artifacts, problem::Problem};
use crate::app::App;

/// What a browser may do with an answer: show it, with what this very server gives, framed by nobody.
const SAFETY: [(HeaderName, HeaderValue); 3] = [
    (
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(
            "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'",
        ),
    ),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
];

static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The request's name, in its extensions.
#[derive(Debug, Clone)]
pub struct RequestId(pub Arc<str>);

/// The method, as metrics and the audit log call it: who makes up methods must not be able to make either grow.
#[must_use]
pub fn method_name(method: &Method) -> &'static str {
    let known = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
    known.into_iter().find(|name| *name == method.as_str()).unwrap_or("other")
}

/// Names the request (taking the caller's `x-request-id` where it is plain), logs it and counts it.
pub async fn observe(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let id = request
        .headers()
        .get(&REQUEST_ID)
        .and_then(|v| v.to_str().ok())
        .filter(|v| (1..=64).contains(&v.len()) && v.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'))
        .map_or_else(|| uuid::Uuid::now_v7().simple().to_string(), str::to_owned);
    request.extensions_mut().insert(RequestId(id.as_str().into()));
    let method = method_name(request.method());
    // Who puts a token into an address does not find it in the log.
    let path = request.uri().path().split_inclusive("mpt_").next().unwrap_or_default().to_owned();
    // Unmatched paths share one label: a scanner must not be able to make metrics without bound.
    let route = request.extensions().get::<MatchedPath>().map_or("unmatched", MatchedPath::as_str).to_owned();
    let span = tracing::info_span!("request", %id, %method, %path);
    let started = Instant::now();
    let mut response = next.run(request).instrument(span.clone()).await;
    let took = started.elapsed();
    let status = response.status();
    let grpc = access::is_service(&route);
    if grpc {
        // Errors without a body carry their status in the headers; a status in the trailers is not seen here.
        let code = response.headers().get("grpc-status").and_then(|v| v.to_str().ok()).unwrap_or("0").to_owned();
        app.metrics.inc(Metric::GrpcRequests, &[&path, &code]);
        app.metrics.observe(Metric::GrpcRequestSeconds, &[&path], took);
    } else {
        app.metrics.inc(Metric::HttpRequests, &[&route, method, status.as_str()]);
        app.metrics.observe(Metric::HttpRequestSeconds, &[&route], took);
    }
    span.in_scope(|| {
        if status.is_server_error() {
            tracing::warn!(status = status.as_u16(), ms = took.as_millis() as u64, "answered");
        } else {
            tracing::debug!(status = status.as_u16(), us = took.as_micros() as u64, "answered");
        }
    });
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID.clone(), value);
    }
    if !grpc {
        for (name, value) in SAFETY {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

/// Gives up on a request that is not answered in time. An artifact on its way takes as long as it takes: it has a limit
/// for standing still instead. So does what reads through stored bytes: it ends when its caller hangs up.
pub async fn deadline(State(limit): State<Duration>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str);
    if artifacts::is_transfer(request.method(), route) || content::takes_long(route) {
        return next.run(request).await;
    }
    let (path, headers) = (request.uri().path().to_owned(), request.headers().clone());
    tokio::time::timeout(limit, next.run(request)).await.unwrap_or_else(|_| {
        let problem = Problem::new(
            ErrorCode::DeadlineExceeded,
            format!("no answer within {limit:?}"),
            "ask for less at once, or raise server.request_deadline; a write may still have been done: read before you repeat it",
        );
        access::refuse::answer(problem, &path, &headers)
    })
}
