//! Who calls, as the door found out.

use std::{convert::Infallible, sync::Arc};

use access::{Admin, Token};
use axum::{extract::FromRequestParts, http::request::Parts};
use domain::Right;

/// The holder of a token, or whoever reaches a server that asks for none. Stands in the request's extensions.
#[derive(Debug, Clone, Default)]
pub struct Visitor {
    /// `None` where calls need no token and this one has none: then it may do everything.
    pub token: Option<Arc<Token>>,
}

impl Visitor {
    /// Whether they may do what asks for `right`.
    #[must_use]
    pub fn may(&self, right: Right) -> bool {
        self.token.as_ref().is_none_or(|token| token.holds(right))
    }

    /// Why they may not do what asks for `right`.
    pub fn lacks(&self, right: Right) -> String {
        let Some(token) = &self.token else { return format!("this needs the right `{right}`") };
        let narrowed = if token.role.holds(right) { " narrowed by its scopes" } else { "" };
        format!("a token of the role {}{narrowed} may not do this: it needs the right `{right}`", token.role)
    }

    /// Whether every project is open to them.
    #[must_use]
    pub fn is_house(&self) -> bool {
        self.token.as_ref().is_none_or(|token| token.house)
    }

    /// As who makes tokens; `claimed` stands in the journal where the caller is not known.
    #[must_use]
    pub fn as_admin(&self, claimed: &'static str) -> Admin<'static> {
        Admin { name: claimed, house: self.is_house() }
    }

    /// What the audit log calls them.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.token.as_ref().map(|token| token.name.as_str())
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Visitor {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        // The door puts it there before any route is reached.
        Ok(parts.extensions.get::<Self>().cloned().unwrap_or_default())
    }
}
