//! Page tokens: the sort values of a page's last row and which query they belong to, as base64 of JSON.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use domain::Digest;
use serde::{Deserialize, Serialize};

use super::sql::{Cell, Slot};
use crate::{RegistryError, number, query::Bind, row};

/// A value of a sort column.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Mark {
    #[serde(rename = "n")]
    Nothing,
    #[serde(rename = "t")]
    Text(String),
    #[serde(rename = "i")]
    Int(i64),
    #[serde(rename = "f", with = "number")]
    Float(f64),
}

impl Mark {
    pub(super) fn bind(&self) -> Option<Bind> {
        match self {
            Self::Nothing => None,
            Self::Text(text) => Some(Bind::Text(text.clone())),
            Self::Int(number) => Some(Bind::Int(*number)),
            Self::Float(number) => Some(Bind::Float(*number)),
        }
    }

    fn fits(&self, slot: &Slot) -> bool {
        match self {
            Self::Nothing => slot.nullable,
            Self::Text(text) => slot.cell == Cell::Text && !text.contains('\0'),
            Self::Int(_) => slot.cell == Cell::Int,
            Self::Float(number) => slot.cell == Cell::Float && !number.is_nan(),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Token {
    query: String,
    after: Vec<Mark>,
}

/// A short name for a query, so that its tokens are not taken for another's.
pub(super) fn name_of(parts: &[&str]) -> String {
    let mut name = Digest::of(row::to_json(&parts).as_bytes()).to_string();
    name.truncate(16);
    name
}

pub(super) fn write(query: &str, after: Vec<Mark>) -> String {
    URL_SAFE_NO_PAD.encode(row::to_json(&Token { query: query.to_owned(), after }))
}

/// The sort values in a token of this query.
pub(super) fn read(token: &str, query: &str, slots: &[Slot]) -> Result<Vec<Mark>, RegistryError> {
    let refuse = |problem: &str| {
        let hint = "send the token of the page before with the same filter and order, or none to start again";
        RegistryError::invalid("the page token", problem, hint)
    };
    let json = URL_SAFE_NO_PAD.decode(token.trim_end_matches('=')).map_err(|_| refuse("is not one of ours"))?;
    let token: Token = serde_json::from_slice(&json).map_err(|_| refuse("is not one of ours"))?;
    if token.query != query {
        return Err(refuse("belongs to another query"));
    }
    let fits = token.after.len() == slots.len() && token.after.iter().zip(slots).all(|(mark, slot)| mark.fits(slot));
    if fits { Ok(token.after) } else { Err(refuse("is not one of ours")) }
}
