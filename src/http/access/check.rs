//! What stands before every route: whether there is a rule for it, and whether the caller holds the right it needs.

use std::time::Duration;

use access::Attempt;
use axum::{
    body::Body,
    extract::{ConnectInfo, Request, State},
    http::{Extensions, header, request::Parts},
    middleware::Next,
    response::Response,
};
use bytes::Bytes;
use domain::{ErrorCode, Right};
use http_body_util::BodyExt as _;
use storage::Caller;

use super::{
    Peer, Visitor,
    door::{TurnedAway, attempt},
    refuse,
    rules::{self, Rule},
};
use crate::{
    app::App,
    http::layers::{RequestId, method_name},
    http::problem::Problem,
};

/// How much of a refused body is read, and for how long.
const DRAINED_BYTES: usize = 1 << 20;
const DRAINED_WITHIN: Duration = Duration::from_secs(1);

/// Lets a request pass to its route, or answers it.
pub async fn check(State(app): State<App>, request: Request, next: Next) -> Response {
    let route = rules::route_of(&request);
    let rule = rules::rule(request.method(), &route);
    let turned_away = request.extensions().get::<TurnedAway>().cloned();
    if rule == Some(Rule::Open) && turned_away.as_ref().is_none_or(|why| why.may_knock) {
        return next.run(request).await;
    }
    let (parts, body) = request.into_parts();
    if let Some(TurnedAway { problem, .. }) = turned_away {
        return turn_away(&app, Problem::clone(&problem), &route, None, &parts, body).await;
    }
    // Without one nobody was let in: whoever forgot the door gets nothing.
    let Some(visitor) = parts.extensions.get::<Visitor>().cloned() else {
        let problem = Problem::new(ErrorCode::Unauthenticated, "nobody was let in", "");
        return turn_away(&app, problem, &route, None, &parts, body).await;
    };
    let refused = match rule {
        Some(Rule::Needs(right)) if !visitor.may(right) => visitor.lacks(right),
        Some(Rule::House) if !visitor.is_house() => "this needs a token that opens every project".to_owned(),
        Some(_) => {
            let name = visitor.name().map(Into::into);
            let id = parts.extensions.get::<RequestId>().map(|RequestId(id)| id.clone());
            let request = Request::from_parts(parts, body);
            return storage::acting(Caller { name, request: id }, next.run(request)).await;
        }
        // Also what has a handler: deny by default.
        None => {
            drain(&parts, body).await;
            return rules::not_served(&parts.method, parts.uri.path(), &route, &parts.headers);
        }
    };
    let problem = Problem::new(ErrorCode::PermissionDenied, refused, "ask an admin for a token that may");
    turn_away(&app, problem, &route, Some(&visitor), &parts, body).await
}

/// Answers with `problem` and keeps the attempt in the audit log.
async fn turn_away(
    app: &App,
    problem: Problem,
    route: &str,
    visitor: Option<&Visitor>,
    parts: &Parts,
    body: Body,
) -> Response {
    drain(parts, body).await;
    let route = if route.is_empty() { "(no route)" } else { route };
    let call = format!("{} {route}", method_name(&parts.method));
    let attempt = attempt(parts, visitor, call, problem.error_code());
    let request = parts.extensions.get::<RequestId>().map(|RequestId(id)| id.clone());
    let kept = storage::acting(Caller { name: None, request }, app.access.refused(attempt));
    if let Err(error) = kept.await {
        tracing::error!(%error, "a refused attempt could not be written to the journal");
    }
    refuse::answer(problem, parts.uri.path(), &parts.headers)
}

/// Whether who calls holds `right`, too: for a call that needs more than its rule says because of what it carries. A
/// refusal is kept in the audit log.
///
/// # Errors
/// Says which right is lacking.
pub async fn demand(app: &App, extensions: &Extensions, right: Right, call: &str) -> Result<(), Problem> {
    let visitor = extensions.get::<Visitor>().cloned().unwrap_or_default();
    if visitor.may(right) {
        return Ok(());
    }
    let problem = Problem::new(ErrorCode::PermissionDenied, visitor.lacks(right), "ask an admin for a token that may");
    let from = extensions.get::<ConnectInfo<Peer>>().map(|ConnectInfo(Peer(address))| address.ip());
    let who = visitor.name().map(str::to_owned);
    let attempt = Attempt { who, from, call: call.to_owned(), code: problem.error_code() };
    if let Err(error) = app.access.refused(attempt).await {
        tracing::error!(%error, "a refused attempt could not be written to the journal");
    }
    Err(problem)
}

/// Reads what comes with a request that is refused and throws it away, within limits: a client that writes before it
/// reads would otherwise see a broken connection instead of the answer. Who asks first whether to send is told no.
async fn drain(parts: &Parts, mut body: Body) {
    if parts.headers.contains_key(header::EXPECT) {
        return;
    }
    let read = async {
        let mut left = DRAINED_BYTES;
        while let Some(Ok(frame)) = body.frame().await {
            left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
            if left == 0 {
                break;
            }
        }
    };
    // What did not come by then is not waited for.
    let _ = tokio::time::timeout(DRAINED_WITHIN, read).await;
}
