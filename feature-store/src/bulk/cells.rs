//! Columns of Arrow data, typed once, cell by cell in the forms in which values are kept.

use arrow::{
    array::{
        Array as _, ArrayRef, AsArray as _, BooleanArray, Float64Array, Int64Array, StringArray,
        TimestampMicrosecondArray,
    },
    datatypes::{DataType, Float64Type, Int64Type, TimeUnit, TimestampMicrosecondType},
};
use domain::{Timestamp, Value};

use crate::{codec, error::FeatureError, key, rows::Cells, table::corrupt};

/// One column in the layout that [`storage::schema_of`] gives its type. Lists are not among them.
pub(crate) enum CellColumn {
    Bool(BooleanArray),
    Int(Int64Array),
    Float(Float64Array),
    Text(StringArray),
    Timestamp(TimestampMicrosecondArray),
}

impl CellColumn {
    pub(crate) fn of(array: &ArrayRef) -> Result<Self, FeatureError> {
        Ok(match array.data_type() {
            DataType::Boolean => Self::Bool(array.as_boolean().clone()),
            DataType::Int64 => Self::Int(array.as_primitive::<Int64Type>().clone()),
            DataType::Float64 => Self::Float(array.as_primitive::<Float64Type>().clone()),
            DataType::Utf8 => Self::Text(array.as_string::<i32>().clone()),
            DataType::Timestamp(TimeUnit::Microsecond, _) => {
                Self::Timestamp(array.as_primitive::<TimestampMicrosecondType>().clone())
            }
            other => return Err(corrupt(format!("a column of {other} in a bulk load"))),
        })
    }

    pub(crate) fn is_null(&self, row: usize) -> bool {
        match self {
            Self::Bool(v) => v.is_null(row),
            Self::Int(v) => v.is_null(row),
            Self::Float(v) => v.is_null(row),
            Self::Text(v) => v.is_null(row),
            Self::Timestamp(v) => v.is_null(row),
        }
    }

    pub(crate) fn value(&self, row: usize) -> Value {
        if self.is_null(row) {
            return Value::Null;
        }
        match self {
            Self::Bool(v) => Value::Bool(v.value(row)),
            Self::Int(v) => Value::Int(v.value(row)),
            Self::Float(v) => Value::Float(v.value(row)),
            Self::Text(v) => Value::Text(v.value(row).into()),
            Self::Timestamp(v) => Value::Timestamp(Timestamp::from_micros(v.value(row))),
        }
    }

    pub(crate) fn instant(&self, row: usize) -> Option<Timestamp> {
        match self {
            Self::Timestamp(v) if v.is_valid(row) => Some(Timestamp::from_micros(v.value(row))),
            _ => None,
        }
    }

    /// As [`codec::push_value`], without a copy of texts.
    pub(crate) fn push_value(&self, row: usize, out: &mut Vec<u8>) {
        match self {
            Self::Text(v) if v.is_valid(row) => codec::push_text(out, v.value(row)),
            other => codec::push_value(out, &other.value(row)),
        }
    }

    /// As [`key::push_entity`], without a copy of texts.
    pub(crate) fn push_entity(&self, row: usize, key: &mut Vec<u8>) -> bool {
        match self {
            Self::Text(v) if v.is_valid(row) => {
                key::push_text(key, v.value(row));
                true
            }
            other => key::push_entity(key, &other.value(row)),
        }
    }
}

/// One row of columns that stand as the source's do.
pub(crate) struct CellRow<'a> {
    pub(crate) columns: &'a [CellColumn],
    pub(crate) row: usize,
}

impl Cells for CellRow<'_> {
    fn is_null(&self, column: usize) -> bool {
        self.columns[column].is_null(self.row)
    }

    fn push(&self, column: usize, out: &mut Vec<u8>) {
        self.columns[column].push_value(self.row, out);
    }

    fn instant(&self, column: usize) -> Option<Timestamp> {
        self.columns[column].instant(self.row)
    }
}
