//! Between words of the domain and what stands in SQL columns.

use std::str::FromStr;

use serde::{Serialize, de::DeserializeOwned};

use crate::RegistryError;

/// Reads a stored text as the word it was.
pub(crate) fn parse<T: FromStr<Err: ToString>>(text: &str, what: &'static str) -> Result<T, RegistryError> {
    text.parse().map_err(RegistryError::damaged(what))
}

/// Maps and records of texts and numbers, which always have a JSON form.
pub(crate) fn to_json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("records with text keys can be written as JSON")
}

pub(crate) fn from_json<T: DeserializeOwned>(text: &str, what: &'static str) -> Result<T, RegistryError> {
    serde_json::from_str(text).map_err(RegistryError::damaged(what))
}

/// A count as SQL's signed integer.
pub(crate) fn count(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(crate) fn uncount<T: TryFrom<i64, Error: ToString>>(number: i64, what: &'static str) -> Result<T, RegistryError> {
    T::try_from(number).map_err(RegistryError::damaged(what))
}

/// A float column's value: NaN is stored as null.
pub(crate) fn float(value: f64) -> Option<f64> {
    (!value.is_nan()).then_some(value)
}
