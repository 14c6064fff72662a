//! Orders: `[entity.]key [ASC|DESC]`, and behind those of the caller the order that every listing has.

use super::{
    Kind,
    fault::{Fault, too_much},
    fields::{self, Field},
    lex::Lexer,
};
use crate::RegistryError;

/// Each may join a table, and databases join at most 64.
const ORDERS_MAX: usize = 32;

/// One of the values that a listing is sorted by. Whichever way it goes, what is missing comes last, behind NaN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Order {
    pub(super) field: Field,
    pub(super) descending: bool,
    /// For metrics of logged models: only those on this dataset.
    pub(super) on: OnDataset,
}

/// A dataset by its name, its digest, or both.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct OnDataset {
    pub name: Option<String>,
    pub digest: Option<String>,
}

/// Reads a caller's orders.
pub(super) fn parse(kind: Kind, orders: &[String]) -> Result<Vec<Order>, RegistryError> {
    let read = |(i, text): (usize, &String)| one(kind, text).map_err(|fault| fault.refuse(&format!("order_by[{i}]")));
    orders.iter().enumerate().map(read).collect()
}

/// The order of logged models by one field, as their search spells it.
pub(crate) fn of_logged_models(field: &str, descending: bool, on: OnDataset) -> Result<Order, RegistryError> {
    let order = one(Kind::LoggedModels, field).map_err(|fault| fault.refuse("the order's field_name"))?;
    Ok(Order { descending, on, ..order })
}

fn one(kind: Kind, text: &str) -> Result<Order, Fault> {
    let chars: Vec<char> = text.trim_end().chars().collect();
    let (key, descending) = direction(&chars);
    let mut lexer = Lexer { chars: key, at: key.iter().take_while(|c| c.is_whitespace()).count() };
    let start = lexer.at;
    let first = match lexer.peek() {
        None => return Err(lexer.fault(start, 0, "a key, with ASC or DESC behind it if you like")),
        Some('`' | '"') => lexer.quoted()?,
        Some(_) => {
            let length = key[start..].iter().take_while(|c| **c != '.').count();
            lexer.at += length;
            key[start..start + length].iter().collect()
        }
    };
    let (entity, name) = match lexer.peek() {
        None => (None, first),
        Some('.') => {
            lexer.at += 1;
            let behind = lexer.at;
            let name = match lexer.peek() {
                Some('`' | '"') => lexer.quoted()?,
                // A key with spaces stands in quotes: `metrics.loss SIDEWAYS` is a mistake and not a key.
                _ => {
                    let bare: String = key[lexer.at..].iter().take_while(|c| !c.is_whitespace()).collect();
                    lexer.at += bare.chars().count();
                    bare
                }
            };
            if name.is_empty() || name.contains('\0') {
                return Err(lexer.fault(behind, key.len() - behind, "a key"));
            }
            (Some(first), name)
        }
        Some(_) => (None, first),
    };
    lexer.at += key[lexer.at..].iter().take_while(|c| c.is_whitespace()).count();
    if lexer.at < key.len() {
        return Err(lexer.fault(lexer.at, key.len() - lexer.at, "ASC, DESC or the end"));
    }
    match fields::resolve(kind, entity.as_deref(), &name) {
        Ok(Field::Dataset(_)) => Err(lexer.fault(start, key.len() - start, "a field that a run has once")),
        Ok(field) => Ok(Order { field, descending, on: OnDataset::default() }),
        Err(unknown) => {
            let length = entity.filter(|_| unknown.is_entity).map_or(key.len() - start, |word| word.chars().count());
            Err(Fault { nearest: unknown.nearest, ..lexer.fault(start, length, &unknown.expected) })
        }
    }
}

/// The key without the direction behind it.
fn direction(chars: &[char]) -> (&[char], bool) {
    let Some(space) = chars.iter().rposition(|c| c.is_whitespace()) else { return (chars, false) };
    let word: String = chars[space + 1..].iter().collect();
    let descending = word.eq_ignore_ascii_case("DESC");
    if !descending && !word.eq_ignore_ascii_case("ASC") {
        return (chars, false);
    }
    let spaces = chars[..space].iter().rev().take_while(|c| c.is_whitespace()).count();
    (&chars[..space - spaces], descending)
}

/// The caller's orders, each field once, and behind them those that tell any two things apart.
pub(super) fn complete(kind: Kind, orders: Vec<Order>) -> Result<Vec<Order>, RegistryError> {
    if orders.len() > ORDERS_MAX {
        return Err(too_much("order_by", format!("has {} keys where at most {ORDERS_MAX} are taken", orders.len())));
    }
    let (up, down) = (false, true);
    let own: &[(&str, bool)] = match kind {
        Kind::Runs => &[("start_time", down), ("run_id", up)],
        Kind::Experiments => &[("last_update_time", down), ("creation_time", down), ("experiment_id", down)],
        Kind::Models => &[("name", up)],
        Kind::Versions => &[("last_updated_timestamp", down), ("name", up), ("version_number", down)],
        Kind::LoggedModels => &[("creation_timestamp", down), ("model_id", up)],
    };
    let own = own.iter().filter_map(|(name, descending)| {
        let field = Field::Attribute(fields::attribute(kind, name)?);
        Some(Order { field, descending: *descending, on: OnDataset::default() })
    });
    let mut all: Vec<Order> = Vec::new();
    for order in orders.into_iter().chain(own) {
        if !all.iter().any(|known| known.field == order.field && known.on == order.on) {
            all.push(order);
        }
    }
    Ok(all)
}
