//! A token: who holds it and what it opens.

use domain::{Right, Role, Span, Timestamp};
use serde::Serialize;

use crate::{AccessError, Secret, TokenId};

/// How long a token holds when nobody says.
const LIFETIME: Span = Span::from_micros(90 * Span::DAY.micros());

/// Longest name of a holder, in characters.
const NAME_MAX: usize = 100;

/// A token as it is kept: everything but its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Token {
    pub id: TokenId,
    /// Who holds it: what the audit log calls them.
    pub name: String,
    pub role: Role,
    /// Rights it is narrowed to; empty: all of its role.
    pub scopes: Vec<Right>,
    /// Whether it opens every project and may create them.
    pub house: bool,
    pub created_at: Timestamp,
    pub created_by: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<Timestamp>,
    /// Within a minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_used_at: Option<Timestamp>,
    /// The token it was made from when that was rotated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replaces: Option<TokenId>,
}

impl Token {
    /// Whether its holder may do what asks for `right`.
    #[must_use]
    pub fn holds(&self, right: Right) -> bool {
        self.role.holds(right) && (self.scopes.is_empty() || self.scopes.contains(&right))
    }

    /// Whether it opens anything at `now`.
    pub(crate) fn check(&self, now: Timestamp) -> Result<(), AccessError> {
        if let Some(at) = self.revoked_at {
            return Err(AccessError::Revoked { id: self.id.clone(), at });
        }
        match self.expires_at {
            Some(at) if at <= now => Err(AccessError::Expired { id: self.id.clone(), at }),
            _ => Ok(()),
        }
    }
}

/// A token to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewToken {
    /// 1 to 100 characters, none of them a control character.
    pub name: String,
    pub role: Role,
    /// Each a right of the role; empty: all of them.
    pub scopes: Vec<Right>,
    /// Only admins can open every project.
    pub house: bool,
    /// `None`: never.
    pub expires_in: Option<Span>,
}

/// Reads how long a token is to hold: a span, `never`, or nothing for 90 days.
///
/// # Errors
/// A text that is none of them.
pub fn lifetime(text: Option<&str>) -> Result<Option<Span>, AccessError> {
    match text {
        None | Some("") => Ok(Some(LIFETIME)),
        Some("never") => Ok(None),
        Some(text) => text.parse().map(Some).map_err(|_| AccessError::Invalid {
            what: "expires_in",
            problem: format!("`{text}` is neither a span, as `90d`, nor `never`"),
        }),
    }
}

/// Who makes, rotates or revokes a token.
#[derive(Debug, Clone, Copy)]
pub struct Admin<'a> {
    /// What the journal calls them, unless the caller is known.
    pub name: &'a str,
    /// Whether every project is open to them. Who holds no such token makes and ends none either.
    pub house: bool,
}

impl NewToken {
    pub(crate) fn check(&self) -> Result<(), AccessError> {
        let invalid = |what, problem: String| Err(AccessError::Invalid { what, problem });
        let length = self.name.chars().count();
        if !(1..=NAME_MAX).contains(&length) || self.name.chars().any(char::is_control) || self.name.trim() != self.name
        {
            return invalid(
                "name",
                format!("must have 1 to {NAME_MAX} characters, without control characters and blank ends"),
            );
        }
        if let Some(beyond) = self.scopes.iter().find(|right| !self.role.holds(**right)) {
            return invalid("scopes", format!("name `{beyond}`, which a {} may not do", self.role));
        }
        if self.house && self.role != Role::Admin {
            return invalid("house", "needs the role admin".into());
        }
        match self.expires_in {
            Some(span) if span <= Span::ZERO => invalid("expires_in", "must be longer than nothing".into()),
            _ => Ok(()),
        }
    }
}

/// A token just made. Its secret is shown this once.
#[derive(Debug, Clone)]
pub struct Issued {
    pub token: Token,
    pub secret: Secret,
}
