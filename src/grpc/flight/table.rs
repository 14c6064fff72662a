//! Columns of Arrow tables as the rooms' columns, whatever widths, encodings and units a client chose.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray as _, RecordBatch},
    compute::cast,
    datatypes::{
        DataType, Float64Type, Schema, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType,
        TimestampNanosecondType, TimestampSecondType,
    },
};
use domain::{Column, Frame, Timestamp, ValueType};

use crate::feast::{Class, Refusal, columns, entities::whole};

/// The column of that name.
///
/// # Errors
/// There is none, or two.
pub fn find<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef, Refusal> {
    let schema = batch.schema_ref();
    let mut places = schema.fields().iter().enumerate().filter(|(_, field)| field.name() == name);
    match (places.next(), places.next()) {
        (Some((at, _)), None) => Ok(batch.column(at)),
        (None, _) => {
            let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
            let message = format!("the table has no column `{name}`: its columns are {}", names.join(", "));
            Err(Refusal::unfit(Class::MissingColumns, message))
        }
        (Some(_), Some(_)) => Err(Refusal::unfit(Class::General, format!("column `{name}` stands twice"))),
    }
}

/// An array as a column of that type. Whole floats are taken for integers (pandas makes them where a value is missing)
/// and NaN among them for nothing; timestamps are floored to microseconds, and without a zone they are UTC.
///
/// # Errors
/// Values that do not fit the type, with the column's name.
pub fn column(name: &str, array: &ArrayRef, kind: ValueType) -> Result<Column, Refusal> {
    let data_type = array.data_type();
    match kind {
        _ if *data_type == DataType::Null => {
            let mut nothing = Column::with_capacity(kind, array.len());
            (0..array.len()).try_for_each(|_| nothing.push(domain::Value::Null)).map_err(|e| unfit(name, e))?;
            Ok(nothing)
        }
        ValueType::Timestamp => Ok(Column::Timestamp(instants(name, array)?)),
        ValueType::Int if data_type.is_floating() => {
            let floats = cast(array, &DataType::Float64).map_err(|e| unfit(name, e))?;
            let read = |x: Option<f64>| match x {
                Some(x) if !x.is_nan() => match whole(x) {
                    Some(x) => Ok(Some(x)),
                    None => Err(unfit(name, format!("{x} is no integer"))),
                },
                _ => Ok(None),
            };
            Ok(Column::Int(floats.as_primitive::<Float64Type>().iter().map(read).collect::<Result<_, _>>()?))
        }
        _ => {
            let field = arrow::datatypes::Field::new(name, data_type.clone(), true);
            let schema = Arc::new(Schema::new(vec![field]));
            let alone = RecordBatch::try_new(schema.clone(), vec![array.clone()]).map_err(|e| unfit(name, e))?;
            let mut frame = storage::from_batches(&schema, &[alone]).map_err(|e| unfit(name, e))?;
            match (frame.remove(name), kind) {
                (Some(column), _) if column.kind() == kind => Ok(column),
                #[expect(clippy::cast_precision_loss, reason = "integers are taken where floats are wanted")]
                (Some(Column::Int(v)), ValueType::Float) => {
                    Ok(Column::Float(v.into_iter().map(|x| x.map(|x| x as f64)).collect()))
                }
                _ => Err(unfit(name, format!("it is {data_type} where {} is needed", kind.as_str()))),
            }
        }
    }
}

/// The type that a column has by itself.
///
/// # Errors
/// There is none like it here.
pub fn kind_of(name: &str, data_type: &DataType) -> Result<ValueType, Refusal> {
    use DataType as T;
    Ok(match data_type {
        T::Boolean => ValueType::Bool,
        other if other.is_integer() => ValueType::Int,
        other if other.is_floating() => ValueType::Float,
        T::Utf8 | T::LargeUtf8 | T::Utf8View | T::Null => ValueType::Text,
        T::Timestamp(..) | T::Date32 | T::Date64 => ValueType::Timestamp,
        T::Dictionary(_, values) => kind_of(name, values)?,
        other => return Err(unfit(name, format!("{other} is not a type of values here"))),
    })
}

/// Instants, floored to microseconds.
///
/// # Errors
/// The array holds no times.
pub fn instants(name: &str, array: &ArrayRef) -> Result<Vec<Option<Timestamp>>, Refusal> {
    let at = |micros: i64| Some(Timestamp::from_micros(micros));
    // Saturating: beyond the range of our own times nothing is ordered any more.
    Ok(match array.data_type() {
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            array.as_primitive::<TimestampNanosecondType>().iter().map(|t| at(t?.div_euclid(1_000))).collect()
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            array.as_primitive::<TimestampMicrosecondType>().iter().map(|t| at(t?)).collect()
        }
        DataType::Timestamp(TimeUnit::Millisecond, _) => {
            array.as_primitive::<TimestampMillisecondType>().iter().map(|t| at(t?.saturating_mul(1_000))).collect()
        }
        DataType::Timestamp(TimeUnit::Second, _) => {
            array.as_primitive::<TimestampSecondType>().iter().map(|t| at(t?.saturating_mul(1_000_000))).collect()
        }
        DataType::Date32 | DataType::Date64 => {
            let wanted = DataType::Timestamp(TimeUnit::Microsecond, None);
            let times = cast(array, &wanted).map_err(|e| unfit(name, e))?;
            times.as_primitive::<TimestampMicrosecondType>().iter().map(|t| at(t?)).collect()
        }
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
            let texts = cast(array, &DataType::Utf8).map_err(|e| unfit(name, e))?;
            let read = |text: Option<&str>| text.map(columns::parse).transpose().map_err(|why| unfit(name, why));
            texts.as_string::<i32>().iter().map(read).collect::<Result<_, _>>()?
        }
        other => return Err(unfit(name, format!("it is {other} where a timestamp is needed"))),
    })
}

/// The whole table as rows of JSON, each column read as `kind` says where that knows the name. NaN is null, and an index
/// of pandas is left out.
///
/// # Errors
/// A column that cannot be read, or holds infinities.
pub fn json_rows(
    batch: &RecordBatch,
    kind: impl Fn(&str) -> Option<ValueType>,
) -> Result<Vec<serde_json::Map<String, serde_json::Value>>, Refusal> {
    let mut frame = Frame::of_rows(batch.num_rows());
    for (field, array) in batch.schema_ref().fields().iter().zip(batch.columns()) {
        let name = field.name().as_str();
        // What pandas makes of an index that is not 0, 1, 2.
        if name.starts_with("__index_level_") && kind(name).is_none() {
            continue;
        }
        let kind = kind(name).map_or_else(|| kind_of(name, array.data_type()), Ok)?;
        let column = column(name, array, kind)?;
        if let Column::Float(values) = &column
            && let Some(row) = values.iter().position(|value| value.is_some_and(f64::is_infinite))
        {
            return Err(unfit(name, format!("row {} is infinite, which no value here is", row + 1)));
        }
        frame.add(name, column).map_err(|e| Refusal::unfit(Class::General, e.to_string()))?;
    }
    Ok((0..frame.rows()).map(|row| frame.row_json(row)).collect())
}

fn unfit(name: &str, why: impl std::fmt::Display) -> Refusal {
    Refusal::unfit(Class::General, format!("column `{name}`: {why}"))
}

#[cfg(test)]
mod tests {
    use arrow::array::{Float64Array, NullArray, TimestampNanosecondArray};

    use super::*;

    #[test]
    fn nanoseconds_are_floored_so_that_no_later_row_is_seen() {
        let nanos: ArrayRef = Arc::new(TimestampNanosecondArray::from(vec![Some(-1), Some(1_999), None]));
        let read = instants("t", &nanos).unwrap();
        assert_eq!(read, [Some(Timestamp::from_micros(-1)), Some(Timestamp::from_micros(1)), None]);
    }

    #[test]
    fn floats_that_pandas_made_of_integers_are_integers_again() {
        let floats: ArrayRef = Arc::new(Float64Array::from(vec![Some(7.0), Some(f64::NAN), None]));
        assert_eq!(column("k", &floats, ValueType::Int).unwrap(), Column::Int(vec![Some(7), None, None]));
        let broken: ArrayRef = Arc::new(Float64Array::from(vec![7.5]));
        assert!(column("k", &broken, ValueType::Int).unwrap_err().to_string().contains("7.5 is no integer"));
    }

    #[test]
    fn a_column_of_nothing_fits_every_type() {
        let nothing: ArrayRef = Arc::new(NullArray::new(2));
        for kind in [ValueType::Bool, ValueType::Int, ValueType::Float, ValueType::Text, ValueType::Timestamp] {
            assert_eq!(column("k", &nothing, kind).unwrap().len(), 2);
        }
    }
}
