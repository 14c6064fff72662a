//! Lists as values: arrays and embeddings. Written `float[]`, or `float[384]` where each has that length.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::{BadValue, Value, ValueType};

/// Greatest length that a type may fix.
pub const LENGTH_MAX: u32 = 65_536;

/// What may stand as a type, in errors; lists by two examples.
const NAMES: [&str; 7] = ["bool", "int", "float", "text", "timestamp", "float[]", "float[384]"];

/// What a list is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scalar {
    Bool,
    Int,
    Float,
    Text,
    Timestamp,
}

/// Type of a list. Its elements are never null and never lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ListType {
    pub element: Scalar,
    /// The length of every list, 1 to [`LENGTH_MAX`]; `None`: any.
    pub length: Option<u32>,
}

/// A text that names no type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a type: write bool, int, float, text, timestamp, or a list of one, as in `float[]` or `float[384]`"
)]
pub struct BadType(pub String);

impl Scalar {
    const ALL: [Self; 5] = [Self::Bool, Self::Int, Self::Float, Self::Text, Self::Timestamp];

    /// The same as the type of a column; `None` for a list.
    #[must_use]
    pub const fn of(kind: ValueType) -> Option<Self> {
        match kind {
            ValueType::Bool => Some(Self::Bool),
            ValueType::Int => Some(Self::Int),
            ValueType::Float => Some(Self::Float),
            ValueType::Text => Some(Self::Text),
            ValueType::Timestamp => Some(Self::Timestamp),
            ValueType::List(_) => None,
        }
    }

    #[must_use]
    pub const fn kind(self) -> ValueType {
        match self {
            Self::Bool => ValueType::Bool,
            Self::Int => ValueType::Int,
            Self::Float => ValueType::Float,
            Self::Text => ValueType::Text,
            Self::Timestamp => ValueType::Timestamp,
        }
    }
}

impl ListType {
    /// Lists of any length.
    #[must_use]
    pub const fn of(element: Scalar) -> Self {
        Self { element, length: None }
    }

    /// Whether this is one of these lists; integers widen into lists of floats.
    ///
    /// # Errors
    /// `Length`, or `Element` for the first one that is null or of another type.
    pub fn take(self, values: &Arc<[Value]>) -> Result<Arc<[Value]>, BadValue> {
        if let Some(length) = self.length
            && values.len() != length as usize
        {
            return Err(BadValue::Length { expected: length, found: values.len() });
        }
        let wanted = self.element.kind();
        if values.iter().all(|value| value.kind() == Some(wanted)) {
            return Ok(values.clone());
        }
        let widened = values.iter().enumerate().map(|(at, value)| match value {
            #[expect(clippy::cast_precision_loss, reason = "documented widening")]
            Value::Int(x) if wanted == ValueType::Float => Ok(Value::Float(*x as f64)),
            other if other.kind() == Some(wanted) => Ok(other.clone()),
            other => Err(element(at, BadValue::wrong(wanted, &other.to_json()))),
        });
        widened.collect()
    }

    /// Reads a JSON array.
    ///
    /// # Errors
    /// As [`take`](Self::take).
    pub fn from_json(self, json: &[serde_json::Value]) -> Result<Value, BadValue> {
        let kind = self.element.kind();
        let read = |(at, json)| match Value::from_json(json, kind) {
            Ok(Value::Null) => Err(element(at, BadValue::wrong(kind, json))),
            Ok(value) => Ok(value),
            Err(error) => Err(element(at, error)),
        };
        let values = json.iter().enumerate().map(read).collect::<Result<Arc<[Value]>, _>>()?;
        Ok(Value::List(self.take(&values)?))
    }
}

fn element(at: usize, reason: BadValue) -> BadValue {
    BadValue::Element { at, reason: Box::new(reason) }
}

impl fmt::Display for ListType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.length {
            None => write!(f, "{}[]", self.element.kind().as_str()),
            Some(length) => write!(f, "{}[{length}]", self.element.kind().as_str()),
        }
    }
}

impl fmt::Display for ValueType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::List(list) => list.fmt(f),
            scalar => f.write_str(scalar.as_str()),
        }
    }
}

impl FromStr for ValueType {
    type Err = BadType;

    fn from_str(raw: &str) -> Result<Self, BadType> {
        let bad = || BadType(raw.to_owned());
        let (name, length) = match raw.strip_suffix(']') {
            None => (raw, None),
            Some(list) => {
                let (name, length) = list.split_once('[').ok_or_else(bad)?;
                (name, Some(length))
            }
        };
        let element = Scalar::ALL.into_iter().find(|scalar| scalar.kind().as_str() == name).ok_or_else(bad)?;
        let length = match length {
            None => return Ok(element.kind()),
            Some("") => None,
            Some(digits) => {
                let length = digits.bytes().all(|digit| digit.is_ascii_digit()).then(|| digits.parse().ok()).flatten();
                Some(length.filter(|length| (1..=LENGTH_MAX).contains(length)).ok_or_else(bad)?)
            }
        };
        Ok(Self::List(ListType { element, length }))
    }
}

impl Serialize for ValueType {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ValueType {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let raw = String::deserialize(from)?;
        raw.parse().map_err(|_| D::Error::unknown_variant(&raw, &NAMES))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::Column;

    #[test]
    fn types_read_as_they_are_written() {
        for text in ["bool", "int", "float", "text", "timestamp", "float[]", "int[3]", "text[65536]"] {
            assert_eq!(text.parse::<ValueType>().unwrap().to_string(), text);
            assert_eq!(serde_json::from_value::<ValueType>(json!(text)).unwrap().to_string(), text);
        }
        for bad in ["", "[]", "float[", "float]", "float[0]", "float[+3]", "float[65537]", "float[][]", "list"] {
            assert!(bad.parse::<ValueType>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_list_has_its_length_and_no_stranger_in_it() {
        let kind: ValueType = "float[2]".parse().unwrap();
        let read = |json: serde_json::Value| Value::from_json(&json, kind).map_err(|error| error.to_string());
        assert_eq!(read(json!([1, 2.5])), Ok(Value::List([Value::Float(1.0), Value::Float(2.5)].into())));
        assert_eq!(read(json!(null)), Ok(Value::Null));
        assert_eq!(read(json!([1])).unwrap_err(), "expected 2 elements, found 1");
        assert_eq!(read(json!([1, null])).unwrap_err(), "element 1: expected float, found null");
        assert_eq!(read(json!([1, "a"])).unwrap_err(), "element 1: expected float, found text \"a\"");
        assert_eq!(read(json!(3)).unwrap_err(), "expected float[2], found number 3");
        assert_eq!(Value::from_text("[1,2]", kind), Ok(Value::List([Value::Float(1.0), Value::Float(2.0)].into())));
        assert_eq!(Value::from_text("1,2", kind).unwrap_err().to_string(), "expected float[2], found `1,2`");
    }

    #[test]
    fn a_column_of_lists_gives_back_what_it_took() {
        let kind: ValueType = "int[]".parse().unwrap();
        let mut column = Column::with_capacity(kind, 2);
        let list = Value::List([Value::Int(1), Value::Int(2)].into());
        column.push(list.clone()).unwrap();
        column.push(Value::Null).unwrap();
        assert!(column.push(Value::List([Value::Text("a".into())].into())).is_err());
        assert!(column.push(Value::Int(1)).is_err());
        assert_eq!((column.kind(), column.get(0), column.get(1)), (kind, list.clone(), Value::Null));
        assert_eq!(column.take(&[1, 0]).get(1), list);
        assert_eq!(list.to_json(), json!([1, 2]));
        assert_eq!(column.to_floats(), None);
    }
}
