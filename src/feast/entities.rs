//! The entities of an online request: `{"key": [values]}`, read straight into columns.

use std::{fmt, sync::Arc};

use domain::{Column, Field, Frame, Timestamp, Value, ValueType, error::nearest};
use feature_store::Selection;
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, Visitor},
};

use super::{Class, Refusal, columns};

/// One value of a key, as JSON had it.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(Arc<str>),
}

/// Columns in the order in which they were sent.
#[derive(Debug, Default)]
pub struct Entities(Vec<(String, Vec<Cell>)>);

/// Which entities are asked about.
#[derive(Debug)]
pub struct Asked {
    /// The keys that the features need and any others that were sent, in the order in which they came.
    pub keys: Frame,
    pub rows: usize,
}

impl Entities {
    /// Columns by name; no name stands twice.
    #[must_use]
    pub const fn of(columns: Vec<(String, Vec<Cell>)>) -> Self {
        Self(columns)
    }

    /// The key columns of `selection`, typed. Values that a service asks of its callers may stand among them, and
    /// keys of entities that no chosen feature needs; an entity may be named instead of its column.
    ///
    /// # Errors
    /// A column that is neither (404), a key that is missing or empty, columns of different lengths, or a value that
    /// does not fit its key (422).
    pub fn ask(self, selection: &Selection) -> Result<Asked, Refusal> {
        let schema = selection.schema();
        let rows = self.0.first().map_or(0, |(_, cells)| cells.len());
        if let Some((name, cells)) = self.0.iter().find(|(_, cells)| cells.len() != rows) {
            let first = &self.0[0].0;
            return Err(unfit(format!("entities.{name} has {} values where entities.{first} has {rows}", cells.len())));
        }
        let mut keys = Frame::of_rows(rows);
        for (name, cells) in self.0 {
            let needed = schema.keys.iter().find(|key| *key.name == *name).cloned();
            let Some(field) = needed.or_else(|| selection.known_key(&name)) else {
                if schema.request.iter().any(|value| *value.field.name == *name) {
                    continue;
                }
                return Err(stranger(&name, selection));
            };
            let column = column(&name, &field, cells)?;
            keys.add(field.name.clone(), column).map_err(|e| unfit(format!("entities.{name}: {e}")))?;
        }
        let missing: Vec<&str> =
            schema.keys.iter().map(|key| &*key.name).filter(|key| keys.column(key).is_none()).collect();
        if !missing.is_empty() {
            return Err(unfit(format!("entities: these features need the keys {}", missing.join(", "))));
        }
        if rows == 0 {
            return Err(unfit("entities: there are no values: send at least one for each key".into()));
        }
        Ok(Asked { keys, rows })
    }
}

fn unfit(message: String) -> Refusal {
    Refusal::unfit(Class::General, message)
}

fn stranger(name: &str, selection: &Selection) -> Refusal {
    let schema = selection.schema();
    let known = || schema.keys.iter().map(|key| &*key.name);
    let hint = match nearest(name, known()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("these features need {}", known().collect::<Vec<_>>().join(", ")),
    };
    Refusal::not_found(Class::EntityNotFound, format!("entity `{name}` does not exist: {hint}"))
}

/// The cells as the key's type. Whole floats are taken for integers, as pandas makes them where a value is missing.
fn column(name: &str, field: &Field, cells: Vec<Cell>) -> Result<Column, Refusal> {
    let mut column = Column::with_capacity(field.kind, cells.len());
    for (row, cell) in cells.into_iter().enumerate() {
        let value = match (field.kind, &cell) {
            (_, Cell::Null) => Some(Value::Null),
            (ValueType::Bool, Cell::Bool(x)) => Some(Value::Bool(*x)),
            (ValueType::Int, Cell::Int(x)) => Some(Value::Int(*x)),
            (ValueType::Int, Cell::Float(x)) => whole(*x).map(Value::Int),
            #[expect(clippy::cast_precision_loss, reason = "integers are taken where floats are wanted")]
            (ValueType::Float, Cell::Int(x)) => Some(Value::Float(*x as f64)),
            (ValueType::Float, Cell::Float(x)) => Some(Value::Float(*x)),
            (ValueType::Text, Cell::Text(x)) => Some(Value::Text(x.clone())),
            (ValueType::Timestamp, Cell::Text(x)) => columns::parse(x).ok().map(Value::Timestamp),
            (ValueType::Timestamp, Cell::Int(x)) => {
                x.checked_mul(1_000_000).map(|micros| Value::Timestamp(Timestamp::from_micros(micros)))
            }
            _ => None,
        };
        let fits = value.and_then(|value| column.push(value).ok());
        if fits.is_none() {
            let message = format!("entities.{name}[{row}] is {cell}, the key is {}", field.kind.as_str());
            return Err(unfit(message));
        }
    }
    Ok(column)
}

/// A float that is a whole number, as that number.
#[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "checked by the way back")]
pub fn whole(x: f64) -> Option<i64> {
    // Beyond 2^53 neighbours are the same float.
    (x.abs() <= 9_007_199_254_740_992.0 && x as i64 as f64 == x).then_some(x as i64)
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(b) => write!(f, "bool {b}"),
            Self::Int(i) => write!(f, "number {i}"),
            Self::Float(x) => write!(f, "number {x}"),
            Self::Text(text) => write!(f, "text {:?}", text.chars().take(40).collect::<String>()),
        }
    }
}

impl<'de> Deserialize<'de> for Cell {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Read;
        impl Visitor<'_> for Read {
            type Value = Cell;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("null, a bool, a number or a text")
            }
            fn visit_unit<E>(self) -> Result<Cell, E> {
                Ok(Cell::Null)
            }
            fn visit_bool<E>(self, b: bool) -> Result<Cell, E> {
                Ok(Cell::Bool(b))
            }
            fn visit_i64<E>(self, i: i64) -> Result<Cell, E> {
                Ok(Cell::Int(i))
            }
            #[expect(clippy::cast_precision_loss, reason = "no key is that large: it will not be found whole")]
            fn visit_u64<E>(self, u: u64) -> Result<Cell, E> {
                Ok(i64::try_from(u).map_or(Cell::Float(u as f64), Cell::Int))
            }
            fn visit_f64<E>(self, x: f64) -> Result<Cell, E> {
                Ok(Cell::Float(x))
            }
            fn visit_str<E>(self, text: &str) -> Result<Cell, E> {
                Ok(Cell::Text(text.into()))
            }
        }
        from.deserialize_any(Read)
    }
}

impl<'de> Deserialize<'de> for Entities {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Entities;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of lists, one for each entity key")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entities, A::Error> {
                let mut columns: Vec<(String, Vec<Cell>)> = Vec::new();
                while let Some((name, cells)) = map.next_entry::<String, Vec<Cell>>()? {
                    if columns.iter().any(|(known, _)| *known == name) {
                        return Err(A::Error::custom(format_args!("`{name}` stands twice")));
                    }
                    columns.push((name, cells));
                }
                Ok(Entities(columns))
            }
        }
        from.deserialize_map(Read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_floats_are_whole() {
        assert_eq!([3.0, -0.0, 3.5, 1e300, f64::NAN, 1e16].map(whole), [Some(3), Some(0), None, None, None, None]);
    }

    #[test]
    fn entities_are_lists_of_plain_values() {
        let read = |text: &str| serde_json::from_str::<Entities>(text).map(|e| e.0).map_err(|e| e.to_string());
        let all = vec![Cell::Int(1), Cell::Null, Cell::Text("a".into()), Cell::Float(0.5), Cell::Bool(true)];
        assert_eq!(read(r#"{"k": [1, null, "a", 0.5, true]}"#), Ok(vec![("k".to_owned(), all)]));
        assert!(read(r#"{"k": [1], "k": [2]}"#).unwrap_err().contains("stands twice"));
        assert!(read(r#"{"k": [[1]]}"#).unwrap_err().contains("expected null"));
        assert!(read(r#"{"k": 1}"#).is_err());
    }
}
