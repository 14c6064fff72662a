//! Lists as Arrow arrays: `List`, or `FixedSizeList` where the type fixes the length.

use std::sync::Arc;

use arrow::{
    array::{Array as _, ArrayRef, AsArray as _, FixedSizeListArray, ListArray},
    buffer::{NullBuffer, OffsetBuffer},
    datatypes::{DataType, Field as ArrowField},
};
use domain::{Column, ListType, Scalar, Value, ValueType, list::LENGTH_MAX};

use crate::{
    StorageError,
    frame::{self, bad_column},
};

/// A row's list; `None` is null.
type Row = Option<Arc<[Value]>>;

fn item(kind: ListType) -> Arc<ArrowField> {
    Arc::new(ArrowField::new("item", frame::arrow_type(kind.element.kind()), true))
}

/// The length as Arrow has it; types fix none above [`LENGTH_MAX`].
fn size(length: u32) -> i32 {
    i32::try_from(length).unwrap_or(i32::MAX)
}

pub(crate) fn arrow_type(kind: ListType) -> DataType {
    match kind.length {
        None => DataType::List(item(kind)),
        Some(length) => DataType::FixedSizeList(item(kind), size(length)),
    }
}

pub(crate) fn array(kind: ListType, rows: &[Row]) -> Result<ArrayRef, StorageError> {
    let nulls = NullBuffer::from_iter(rows.iter().map(Option::is_some));
    let mut elements = Column::with_capacity(kind.element.kind(), rows.len());
    let mut push = |value: Value| {
        let pushed = elements.push(value);
        pushed.map_err(|error| StorageError::BadColumn {
            column: "list".into(),
            found: error.to_string(),
            expected: "elements of the list's type",
        })
    };
    for row in rows {
        match (row, kind.length) {
            (Some(values), _) => values.iter().try_for_each(|value| push(value.clone()))?,
            // Each row of a fixed length has its place among the elements, a null too.
            (None, Some(length)) => (0..length).try_for_each(|_| push(Value::Null))?,
            (None, None) => {}
        }
    }
    let elements = frame::array(&elements)?;
    Ok(match kind.length {
        None => {
            let lengths = rows.iter().map(|row| row.as_ref().map_or(0, |values| values.len()));
            Arc::new(ListArray::try_new(item(kind), OffsetBuffer::from_lengths(lengths), elements, Some(nulls))?)
        }
        Some(length) => Arc::new(FixedSizeListArray::try_new(item(kind), size(length), elements, Some(nulls))?),
    })
}

/// The type a foreign list is read as.
pub(crate) fn value_type(
    field: &ArrowField,
    element: ValueType,
    length: Option<i32>,
) -> Result<ValueType, StorageError> {
    let element =
        Scalar::of(element).ok_or_else(|| bad_column(field, "a list of bool, int, float, text or timestamp"))?;
    let lawful = |length: i32| u32::try_from(length).ok().filter(|length| (1..=LENGTH_MAX).contains(length));
    let length = match length {
        None => None,
        Some(length) => Some(lawful(length).ok_or_else(|| bad_column(field, "a list of 1 to 65536 elements"))?),
    };
    Ok(ValueType::List(ListType { element, length }))
}

/// Appends the array's rows. A null among the elements of a list is an error.
pub(crate) fn extend(
    kind: ListType,
    rows: &mut Vec<Row>,
    field: &ArrowField,
    array: &ArrayRef,
) -> Result<(), StorageError> {
    let mut texts = std::collections::HashMap::new();
    for row in 0..array.len() {
        if array.is_null(row) {
            rows.push(None);
            continue;
        }
        let values = match kind.length {
            None => array.as_list::<i32>().value(row),
            Some(_) => array.as_fixed_size_list().value(row),
        };
        let mut elements = Column::with_capacity(kind.element.kind(), values.len());
        frame::extend(&mut elements, &values, &mut texts);
        let values: Arc<[Value]> = (0..elements.len()).map(|at| elements.get(at)).collect();
        let list = kind.take(&values).map_err(|_| bad_column(field, "a list without nulls, of its length"))?;
        rows.push(Some(list));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use domain::Frame;

    use super::*;
    use crate::{from_parquet, to_parquet};

    #[test]
    fn lists_of_every_type_come_back_from_parquet() {
        let values = |kind: ListType| -> Vec<Value> {
            let json = match kind.element {
                Scalar::Bool => serde_json::json!([true, false]),
                Scalar::Int => serde_json::json!([1, -2]),
                Scalar::Float => serde_json::json!([0.5, 2]),
                Scalar::Text => serde_json::json!(["", "Z\u{fc}rich"]),
                Scalar::Timestamp => serde_json::json!(["2024-01-01T00:00:00Z", "1969-12-31T00:00:00Z"]),
            };
            let list = Value::from_json(&json, ValueType::List(kind)).unwrap();
            vec![list, Value::Null, Value::from_json(&json, ValueType::List(kind)).unwrap()]
        };
        let mut frame = Frame::of_rows(3);
        for element in [Scalar::Bool, Scalar::Int, Scalar::Float, Scalar::Text, Scalar::Timestamp] {
            for length in [None, Some(2)] {
                let kind = ListType { element, length };
                let mut column = Column::empty(ValueType::List(kind));
                values(kind).into_iter().for_each(|value| column.push(value).unwrap());
                frame.add(kind.to_string(), column).unwrap();
            }
        }
        let mut empty = Column::empty(ValueType::List(ListType::of(Scalar::Float)));
        [Value::List([].into()), Value::Null, Value::List([Value::Float(1.0)].into())]
            .into_iter()
            .for_each(|value| empty.push(value).unwrap());
        frame.add("empty", empty).unwrap();
        assert_eq!(from_parquet(to_parquet(&frame).unwrap()).unwrap(), frame);
    }
}
