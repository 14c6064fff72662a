//! What stands before every route: whether there is a rule for it, and whether the caller holds the right it needs.

use axum::{
    extract::{Request, State},
    http::request::Parts,
    middleware::Next,
    response::Response,
};
use domain::ErrorCode;
use storage::Caller;

use super::{
    Visitor,
    door::{TurnedAway, attempt},
    refuse,
    rules::{self, Rule},
};
use crate::{app::App, http::layers::RequestId, http::problem::Problem};

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
        return turn_away(&app, Problem::clone(&problem), &route, None, &parts).await;
    }
    // Without one nobody was let in: whoever forgot the door gets nothing.
    let Some(visitor) = parts.extensions.get::<Visitor>().cloned() else {
        let problem = Problem::new(ErrorCode::Unauthenticated, "nobody was let in", "");
        return turn_away(&app, problem, &route, None, &parts).await;
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
        None => return rules::not_served(&parts.method, parts.uri.path(), &route, &parts.headers),
    };
    let problem = Problem::new(ErrorCode::PermissionDenied, refused, "ask an admin for a token that may");
    turn_away(&app, problem, &route, Some(&visitor), &parts).await
}

/// Answers with `problem` and keeps the attempt in the audit log.
async fn turn_away(app: &App, problem: Problem, route: &str, visitor: Option<&Visitor>, parts: &Parts) -> Response {
    let call = format!("{} {route}", parts.method);
    let attempt = attempt(parts, visitor, call, problem.error_code());
    if let Err(error) = app.access.refused(attempt).await {
        tracing::error!(%error, "a refused attempt could not be written to the journal");
    }
    refuse::answer(problem, parts.uri.path(), &parts.headers)
}
