//! The door: from where a request comes, who calls, and into which project.

use std::{net::SocketAddr, sync::Arc};

use access::{AccessError, Attempt, Secret, default_project};
use axum::{
    Router,
    extract::{ConnectInfo, Request, State},
    http::{HeaderMap, request::Parts},
    response::Response,
};
use domain::{ErrorCode, ProjectName};
use tower::ServiceExt as _;

use super::{Visitor, credentials};
use crate::{
    http::{Names, problem::Problem},
    tenants::{Tenant, Tenants},
};

/// The address of the other side of a connection.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub SocketAddr);

/// Why a request was not let in. It goes on to the routes of the first project with this in its extensions, so that
/// every refusal is counted, logged and answered in one place.
#[derive(Debug, Clone)]
pub struct TurnedAway {
    pub problem: Arc<Problem>,
    /// Whether what is open to everybody may answer it all the same.
    pub may_knock: bool,
}

/// What the door knows.
#[derive(Clone)]
pub struct Door {
    pub tenants: Tenants,
    pub names: Names,
    /// Whether a call needs a token.
    pub required: bool,
    /// `https` or `http`.
    pub scheme: Scheme,
}

/// How this server is spoken to; in every request's extensions.
#[derive(Debug, Clone, Copy)]
pub struct Scheme(pub &'static str);

impl Door {
    /// Everything behind the door.
    pub fn router(self) -> Router {
        Router::new().fallback(enter).with_state(self)
    }

    /// The project that is asked for, and who asks.
    async fn identify(&self, headers: &HeaderMap) -> Result<(Tenant, Visitor), Problem> {
        let wrong = |why: String| Problem::new(ErrorCode::Unauthenticated, why, "send `Authorization: Bearer <token>`");
        let secret = credentials::secret(headers).transpose().map_err(wrong)?;
        let named = credentials::project(headers).transpose();
        let named = named.map_err(|why| Problem::invalid(why, "name one that `millpond projects list` shows"))?;
        let Some(secret) = secret else {
            if self.required {
                let hint = "send `Authorization: Bearer <token>`, or the token as a password";
                return Err(Problem::new(ErrorCode::Unauthenticated, "this call needs a token", hint));
            }
            let tenant = self.open(&named.unwrap_or_else(default_project)).await?;
            return Ok((tenant, Visitor::default()));
        };
        self.admit(secret, named).await
    }

    /// Lets the holder of a token into its project, or, when it opens all of them, into the one named.
    async fn admit(&self, secret: Secret, named: Option<ProjectName>) -> Result<(Tenant, Visitor), Problem> {
        // A token of a project that does not exist is as unknown as one of a project that does.
        let unknown = || Problem::from(AccessError::UnknownToken);
        let own = self.tenants.tenant(&secret.project).await.map_err(|error| match error.downcast() {
            Ok(AccessError::NoSuchProject(_)) => unknown(),
            Ok(other) => other.into(),
            Err(error) => Problem::from_any(error),
        });
        let recognised = match &own {
            Ok(tenant) => tenant.app.access.recognise(&secret).await.map_err(Problem::from),
            Err(_) => Err(unknown()),
        };
        let token = match recognised {
            Ok(token) => token,
            Err(_) if self.tenants.first().app.access.is_flooded() => {
                let many = "too many wrong tokens come at once";
                return Err(Problem::new(ErrorCode::Overloaded, many, "come again in a second, with the right one"));
            }
            Err(problem) => return Err(own.err().unwrap_or(problem)),
        };
        let asked = named.unwrap_or_else(|| secret.project.clone());
        let tenant = match own {
            Ok(tenant) if asked == secret.project => tenant,
            _ if token.house => self.open(&asked).await?,
            _ => return Err(AccessError::NoSuchProject(asked).into()),
        };
        Ok((tenant, Visitor { token: Some(token) }))
    }

    async fn open(&self, project: &ProjectName) -> Result<Tenant, Problem> {
        self.tenants.tenant(project).await.map_err(Problem::from_any)
    }
}

async fn enter(State(door): State<Door>, request: Request) -> Response {
    let (mut parts, body) = request.into_parts();
    parts.extensions.insert(door.tenants.clone());
    parts.extensions.insert(door.scheme);
    let elsewhere = door.names.refusal(&parts.method, &parts.uri, &parts.headers);
    let may_knock = elsewhere.is_none();
    let let_in = match elsewhere {
        Some(problem) => Err(problem),
        None => door.identify(&parts.headers).await,
    };
    let router = match let_in {
        Ok((tenant, visitor)) => {
            parts.extensions.insert(visitor);
            tenant.router
        }
        Err(problem) => {
            parts.extensions.insert(TurnedAway { problem: Arc::new(problem), may_knock });
            door.tenants.first().router.clone()
        }
    };
    let Ok(response) = router.oneshot(Request::from_parts(parts, body)).await;
    response
}

/// An attempt to make `call`, for the audit log.
pub fn attempt(parts: &Parts, visitor: Option<&Visitor>, call: String, code: ErrorCode) -> Attempt {
    let from = parts.extensions.get::<ConnectInfo<Peer>>().map(|ConnectInfo(Peer(address))| address.ip());
    Attempt { who: visitor.and_then(Visitor::name).map(str::to_owned), from, call, code }
}
