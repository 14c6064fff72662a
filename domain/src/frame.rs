//! Small columnar tables: what rooms hand each other (spines, features, model inputs and outputs).

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{ListType, Scalar, Timestamp, time::BadTimestamp};

/// Type of one column. Shown and read as `bool`, `int`, `float`, `text`, `timestamp`, `float[]`, `float[384]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ValueType {
    Bool,
    Int,
    Float,
    Text,
    Timestamp,
    List(ListType),
}

impl ValueType {
    /// The type's name; of a list only that it is one.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::Int => "int",
            Self::Float => "float",
            Self::Text => "text",
            Self::Timestamp => "timestamp",
            Self::List(_) => "list",
        }
    }
}

/// One value; `Null` belongs to every type. Floats are finite by construction at the doors.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(Arc<str>),
    Timestamp(Timestamp),
    /// Elements of one type, none of them null.
    List(Arc<[Value]>),
}

/// A named, typed column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Field {
    pub name: Arc<str>,
    #[serde(rename = "type")]
    pub kind: ValueType,
}

impl Field {
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>, kind: ValueType) -> Self {
        Self { name: name.into(), kind }
    }
}

/// The values of one column; `None` is null.
#[derive(Debug, Clone, PartialEq)]
pub enum Column {
    Bool(Vec<Option<bool>>),
    Int(Vec<Option<i64>>),
    Float(Vec<Option<f64>>),
    Text(Vec<Option<Arc<str>>>),
    Timestamp(Vec<Option<Timestamp>>),
    List(ListType, Vec<Option<Arc<[Value]>>>),
}

/// Columns of equal length, found by name. Order of columns is kept.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Frame {
    names: Vec<Arc<str>>,
    columns: Vec<Column>,
    rows: usize,
}

#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum FrameError {
    #[error("column `{name}` has {found} rows where the table has {expected}")]
    Ragged { name: Arc<str>, found: usize, expected: usize },
    #[error("column `{0}` stands twice")]
    Twice(Arc<str>),
    #[error("column `{0}` is missing")]
    Missing(Arc<str>),
    #[error("column `{name}` is {found} where {expected} is needed")]
    WrongType { name: Arc<str>, found: ValueType, expected: ValueType },
}

/// A value that does not fit a type.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum BadValue {
    #[error("expected {expected}, found {found}")]
    WrongType { expected: ValueType, found: String },
    #[error("expected {expected} elements, found {found}")]
    Length { expected: u32, found: usize },
    /// One of a list's elements, counted from 0.
    #[error("element {at}: {reason}")]
    Element { at: usize, reason: Box<BadValue> },
    #[error("{0} is not a finite number")]
    NotFinite(String),
    #[error(transparent)]
    Timestamp(#[from] BadTimestamp),
}

impl BadValue {
    pub(crate) fn wrong(expected: ValueType, found: &serde_json::Value) -> Self {
        Self::WrongType { expected, found: describe(found) }
    }
}

impl Value {
    /// The type; `None` for null and for an empty list, which belong to several. Of a list, without its length.
    #[must_use]
    pub fn kind(&self) -> Option<ValueType> {
        Some(match self {
            Self::Null => return None,
            Self::Bool(_) => ValueType::Bool,
            Self::Int(_) => ValueType::Int,
            Self::Float(_) => ValueType::Float,
            Self::Text(_) => ValueType::Text,
            Self::Timestamp(_) => ValueType::Timestamp,
            Self::List(values) => ValueType::List(ListType::of(Scalar::of(values.first()?.kind()?)?)),
        })
    }

    /// Reads a JSON value as `kind`. Integers are taken where floats are wanted; nothing else is converted.
    pub fn from_json(json: &serde_json::Value, kind: ValueType) -> Result<Self, BadValue> {
        use serde_json::Value as J;
        let wrong = || BadValue::WrongType { expected: kind, found: describe(json) };
        Ok(match (kind, json) {
            (_, J::Null) => Self::Null,
            (ValueType::Bool, J::Bool(b)) => Self::Bool(*b),
            (ValueType::Int, J::Number(n)) => Self::Int(n.as_i64().ok_or_else(wrong)?),
            (ValueType::Float, J::Number(n)) => {
                let x = n.as_f64().ok_or_else(wrong)?;
                if !x.is_finite() {
                    return Err(BadValue::NotFinite(n.to_string()));
                }
                Self::Float(x)
            }
            (ValueType::Float, J::String(s)) if matches!(s.as_str(), "NaN" | "Infinity" | "-Infinity") => {
                return Err(BadValue::NotFinite(s.clone()));
            }
            (ValueType::Text, J::String(s)) => Self::Text(s.as_str().into()),
            (ValueType::Timestamp, J::String(s)) => Self::Timestamp(s.parse()?),
            (ValueType::List(list), J::Array(values)) => list.from_json(values)?,
            _ => return Err(wrong()),
        })
    }

    /// Reads a text cell (CSV) as `kind`. The empty text and `NA` are null, except in text columns where only the empty text is. A list is a JSON array.
    pub fn from_text(cell: &str, kind: ValueType) -> Result<Self, BadValue> {
        let cell = cell.trim();
        if cell.is_empty() || (kind != ValueType::Text && cell == "NA") {
            return Ok(Self::Null);
        }
        let wrong = || BadValue::WrongType { expected: kind, found: format!("`{cell}`") };
        Ok(match kind {
            ValueType::Bool => match cell {
                "true" | "TRUE" | "True" | "1" => Self::Bool(true),
                "false" | "FALSE" | "False" | "0" => Self::Bool(false),
                _ => return Err(wrong()),
            },
            ValueType::Int => Self::Int(cell.parse().map_err(|_| wrong())?),
            ValueType::Float => {
                let x: f64 = cell.parse().map_err(|_| wrong())?;
                if !x.is_finite() {
                    return Err(BadValue::NotFinite(cell.to_owned()));
                }
                Self::Float(x)
            }
            ValueType::Text => Self::Text(cell.into()),
            ValueType::Timestamp => Self::Timestamp(cell.parse()?),
            ValueType::List(list) => {
                let json: Vec<serde_json::Value> = serde_json::from_str(cell).map_err(|_| wrong())?;
                list.from_json(&json)?
            }
        })
    }

    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        use serde_json::Value as J;
        match self {
            Self::Null => J::Null,
            Self::Bool(b) => J::Bool(*b),
            Self::Int(i) => J::from(*i),
            Self::Float(x) => serde_json::Number::from_f64(*x).map_or(J::Null, J::Number),
            Self::Text(s) => J::String(s.as_ref().to_owned()),
            Self::Timestamp(t) => J::String(t.to_string()),
            Self::List(values) => J::Array(values.iter().map(Self::to_json).collect()),
        }
    }

    #[must_use]
    pub const fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }
}

fn describe(json: &serde_json::Value) -> String {
    use serde_json::Value as J;
    match json {
        J::Null => "null".into(),
        J::Bool(b) => format!("bool {b}"),
        J::Number(n) => format!("number {n}"),
        J::String(s) if s.chars().count() > 40 => format!("text \"{}...\"", s.chars().take(40).collect::<String>()),
        J::String(s) => format!("text {s:?}"),
        J::Array(_) => "an array".into(),
        J::Object(_) => "an object".into(),
    }
}

impl Column {
    #[must_use]
    pub fn empty(kind: ValueType) -> Self {
        Self::with_capacity(kind, 0)
    }

    #[must_use]
    pub fn with_capacity(kind: ValueType, rows: usize) -> Self {
        match kind {
            ValueType::Bool => Self::Bool(Vec::with_capacity(rows)),
            ValueType::Int => Self::Int(Vec::with_capacity(rows)),
            ValueType::Float => Self::Float(Vec::with_capacity(rows)),
            ValueType::Text => Self::Text(Vec::with_capacity(rows)),
            ValueType::Timestamp => Self::Timestamp(Vec::with_capacity(rows)),
            ValueType::List(list) => Self::List(list, Vec::with_capacity(rows)),
        }
    }

    #[must_use]
    pub const fn kind(&self) -> ValueType {
        match self {
            Self::Bool(_) => ValueType::Bool,
            Self::Int(_) => ValueType::Int,
            Self::Float(_) => ValueType::Float,
            Self::Text(_) => ValueType::Text,
            Self::Timestamp(_) => ValueType::Timestamp,
            Self::List(list, _) => ValueType::List(*list),
        }
    }

    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Bool(v) => v.len(),
            Self::Int(v) => v.len(),
            Self::Float(v) => v.len(),
            Self::Text(v) => v.len(),
            Self::Timestamp(v) => v.len(),
            Self::List(_, v) => v.len(),
        }
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value at `row`.
    ///
    /// # Panics
    /// When `row` is not below `len`.
    #[must_use]
    pub fn get(&self, row: usize) -> Value {
        match self {
            Self::Bool(v) => v[row].map_or(Value::Null, Value::Bool),
            Self::Int(v) => v[row].map_or(Value::Null, Value::Int),
            Self::Float(v) => v[row].map_or(Value::Null, Value::Float),
            Self::Text(v) => v[row].clone().map_or(Value::Null, Value::Text),
            Self::Timestamp(v) => v[row].map_or(Value::Null, Value::Timestamp),
            Self::List(_, v) => v[row].clone().map_or(Value::Null, Value::List),
        }
    }

    /// Appends a value; integers widen into float columns.
    pub fn push(&mut self, value: Value) -> Result<(), BadValue> {
        match (&mut *self, value) {
            (Self::Bool(v), Value::Bool(x)) => v.push(Some(x)),
            (Self::Int(v), Value::Int(x)) => v.push(Some(x)),
            (Self::Float(v), Value::Float(x)) => v.push(Some(x)),
            #[expect(clippy::cast_precision_loss, reason = "documented widening")]
            (Self::Float(v), Value::Int(x)) => v.push(Some(x as f64)),
            (Self::Text(v), Value::Text(x)) => v.push(Some(x)),
            (Self::Timestamp(v), Value::Timestamp(x)) => v.push(Some(x)),
            (Self::Bool(v), Value::Null) => v.push(None),
            (Self::Int(v), Value::Null) => v.push(None),
            (Self::Float(v), Value::Null) => v.push(None),
            (Self::Text(v), Value::Null) => v.push(None),
            (Self::Timestamp(v), Value::Null) => v.push(None),
            (Self::List(_, v), Value::Null) => v.push(None),
            (Self::List(list, v), Value::List(x)) => v.push(Some(list.take(&x)?)),
            (column, other) => {
                return Err(BadValue::WrongType { expected: column.kind(), found: describe(&other.to_json()) });
            }
        }
        Ok(())
    }

    /// The rows at `indices`, in that order.
    #[must_use]
    pub fn take(&self, indices: &[usize]) -> Self {
        match self {
            Self::Bool(v) => Self::Bool(indices.iter().map(|&i| v[i]).collect()),
            Self::Int(v) => Self::Int(indices.iter().map(|&i| v[i]).collect()),
            Self::Float(v) => Self::Float(indices.iter().map(|&i| v[i]).collect()),
            Self::Text(v) => Self::Text(indices.iter().map(|&i| v[i].clone()).collect()),
            Self::Timestamp(v) => Self::Timestamp(indices.iter().map(|&i| v[i]).collect()),
            Self::List(list, v) => Self::List(*list, indices.iter().map(|&i| v[i].clone()).collect()),
        }
    }

    /// Numbers as floats (bools as 0 and 1); `None` for text, timestamps and lists.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "features are float")]
    pub fn to_floats(&self) -> Option<Vec<Option<f64>>> {
        match self {
            Self::Float(v) => Some(v.clone()),
            Self::Int(v) => Some(v.iter().map(|x| x.map(|x| x as f64)).collect()),
            Self::Bool(v) => Some(v.iter().map(|x| x.map(f64::from)).collect()),
            Self::Text(_) | Self::Timestamp(_) | Self::List(..) => None,
        }
    }
}

impl Frame {
    /// A table without columns that still has `rows` rows.
    #[must_use]
    pub fn of_rows(rows: usize) -> Self {
        Self { rows, ..Self::default() }
    }

    pub fn new(columns: impl IntoIterator<Item = (Arc<str>, Column)>) -> Result<Self, FrameError> {
        let mut columns = columns.into_iter().peekable();
        let mut frame = Self::of_rows(columns.peek().map_or(0, |(_, c)| c.len()));
        for (name, column) in columns {
            frame.add(name, column)?;
        }
        Ok(frame)
    }

    /// Appends a column.
    pub fn add(&mut self, name: impl Into<Arc<str>>, column: Column) -> Result<(), FrameError> {
        let name = name.into();
        if self.column(&name).is_some() {
            return Err(FrameError::Twice(name));
        }
        if column.len() != self.rows {
            return Err(FrameError::Ragged { name, found: column.len(), expected: self.rows });
        }
        self.names.push(name);
        self.columns.push(column);
        Ok(())
    }

    #[must_use]
    pub const fn rows(&self) -> usize {
        self.rows
    }

    #[must_use]
    pub fn names(&self) -> &[Arc<str>] {
        &self.names
    }

    #[must_use]
    pub fn fields(&self) -> Vec<Field> {
        self.iter().map(|(name, column)| Field::new(name.clone(), column.kind())).collect()
    }

    #[must_use]
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.names.iter().position(|n| &**n == name).map(|i| &self.columns[i])
    }

    /// The column, or an error that names it.
    pub fn require(&self, name: &str) -> Result<&Column, FrameError> {
        self.column(name).ok_or_else(|| FrameError::Missing(name.into()))
    }

    /// The column as instants, or an error that names it.
    pub fn timestamps(&self, name: &str) -> Result<&[Option<Timestamp>], FrameError> {
        match self.require(name)? {
            Column::Timestamp(v) => Ok(v),
            other => {
                Err(FrameError::WrongType { name: name.into(), found: other.kind(), expected: ValueType::Timestamp })
            }
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Column)> {
        self.names.iter().zip(&self.columns)
    }

    /// Takes a column out.
    pub fn remove(&mut self, name: &str) -> Option<Column> {
        let at = self.names.iter().position(|n| &**n == name)?;
        self.names.remove(at);
        Some(self.columns.remove(at))
    }

    /// The rows at `indices`, in that order.
    #[must_use]
    pub fn take(&self, indices: &[usize]) -> Self {
        Self {
            names: self.names.clone(),
            columns: self.columns.iter().map(|c| c.take(indices)).collect(),
            rows: indices.len(),
        }
    }

    /// Only the named columns, in the order asked for.
    pub fn select<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> Result<Self, FrameError> {
        let mut out = Self::of_rows(self.rows);
        for name in names {
            out.add(name, self.require(name)?.clone())?;
        }
        Ok(out)
    }

    /// One row as a JSON object.
    #[must_use]
    pub fn row_json(&self, row: usize) -> serde_json::Map<String, serde_json::Value> {
        self.iter().map(|(name, column)| (name.to_string(), column.get(row).to_json())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ragged_or_repeated_column_is_refused() {
        let mut frame = Frame::new([("a".into(), Column::Int(vec![Some(1), None]))]).unwrap();
        assert!(matches!(frame.add("b", Column::Bool(vec![None])), Err(FrameError::Ragged { .. })));
        assert!(matches!(frame.add("a", Column::Bool(vec![None, None])), Err(FrameError::Twice(_))));
    }

    #[test]
    fn json_values_are_taken_only_as_their_type() {
        use serde_json::json;
        assert_eq!(Value::from_json(&json!(3), ValueType::Float), Ok(Value::Float(3.0)));
        assert!(Value::from_json(&json!("3"), ValueType::Float).is_err());
        assert!(matches!(Value::from_json(&json!("NaN"), ValueType::Float), Err(BadValue::NotFinite(_))));
        assert!(Value::from_json(&json!(1.5), ValueType::Int).is_err());
        assert_eq!(Value::from_json(&json!(null), ValueType::Text), Ok(Value::Null));
    }

    #[test]
    fn cells_without_a_value_are_null() {
        assert_eq!(Value::from_text("NA", ValueType::Float), Ok(Value::Null));
        assert_eq!(Value::from_text("NA", ValueType::Text), Ok(Value::Text("NA".into())));
        assert!(Value::from_text("inf", ValueType::Float).is_err());
        assert!(Value::from_text("abc", ValueType::Int).is_err());
    }
}
