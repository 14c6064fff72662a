//! Values of the online store as bytes.

use domain::{Timestamp, Value};

use crate::{error::FeatureError, exact::Totals};

/// Writes values one after the other, each with its type.
pub(crate) fn write_values<'a>(values: impl IntoIterator<Item = &'a Value>) -> Vec<u8> {
    let mut out = Vec::with_capacity(32);
    for value in values {
        push_value(&mut out, value);
    }
    out
}

/// Appends one value.
pub(crate) fn push_value(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Null => out.push(0),
        Value::Bool(b) => out.extend_from_slice(&[1, u8::from(*b)]),
        Value::Int(i) => {
            out.push(2);
            out.extend_from_slice(&i.to_le_bytes());
        }
        Value::Float(x) => {
            out.push(3);
            out.extend_from_slice(&x.to_le_bytes());
        }
        Value::Text(s) => push_text(out, s),
        Value::Timestamp(t) => {
            out.push(5);
            out.extend_from_slice(&t.micros().to_le_bytes());
        }
        Value::List(values) => {
            out.push(6);
            push_bytes(out, &write_values(values.iter()));
        }
    }
}

/// Appends a text as [`push_value`] does.
pub(crate) fn push_text(out: &mut Vec<u8>, text: &str) {
    out.push(4);
    push_bytes(out, text.as_bytes());
}

/// Reads what [`write_values`] wrote.
pub(crate) fn read_values(bytes: &[u8]) -> Result<Vec<Value>, FeatureError> {
    let mut rest = Rest(bytes);
    let mut values = Vec::with_capacity(8);
    while !rest.0.is_empty() {
        values.push(match rest.take::<1>()? {
            [0] => Value::Null,
            [1] => Value::Bool(rest.take::<1>()? == [1]),
            [2] => Value::Int(i64::from_le_bytes(rest.take()?)),
            [3] => Value::Float(f64::from_le_bytes(rest.take()?)),
            [4] => {
                let length = u32::from_le_bytes(rest.take()?) as usize;
                let text = rest.slice(length)?;
                Value::Text(std::str::from_utf8(text).map_err(|e| corrupt(e.to_string()))?.into())
            }
            [5] => Value::Timestamp(Timestamp::from_micros(i64::from_le_bytes(rest.take()?))),
            [6] => Value::List(read_values(rest.bytes()?)?.into()),
            [other] => return Err(corrupt(format!("unknown type {other}"))),
        });
    }
    Ok(values)
}

/// Writes running totals; squares only for the columns that keep them.
pub(crate) fn write_totals(totals: &[Totals], squares: impl Iterator<Item = bool>) -> Vec<u8> {
    let mut out = Vec::with_capacity(totals.len() * 40);
    for (total, squares) in totals.iter().zip(squares) {
        out.extend_from_slice(&total.count.to_le_bytes());
        out.extend_from_slice(&total.sum.to_le_bytes());
        if squares {
            out.extend_from_slice(&total.squares.to_le_bytes());
        }
    }
    out
}

/// Reads what [`write_totals`] wrote under the same `squares`.
pub(crate) fn read_totals(bytes: &[u8], squares: impl Iterator<Item = bool>) -> Result<Vec<Totals>, FeatureError> {
    let mut rest = Rest(bytes);
    squares
        .map(|squares| {
            Ok(Totals {
                count: u64::from_le_bytes(rest.take()?),
                sum: i128::from_le_bytes(rest.take()?),
                squares: if squares { u128::from_le_bytes(rest.take()?) } else { 0 },
            })
        })
        .collect()
}

/// Appends bytes with their length before them.
pub(crate) fn push_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(bytes);
}

/// What of some bytes has not been read.
pub(crate) struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    pub(crate) const fn of(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Reads what [`push_bytes`] wrote.
    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], FeatureError> {
        let length = u32::from_le_bytes(self.take()?) as usize;
        self.slice(length)
    }

    /// Makes sure that all has been read.
    pub(crate) fn end(&self) -> Result<(), FeatureError> {
        if self.0.is_empty() { Ok(()) } else { Err(corrupt("too long".into())) }
    }

    fn slice(&mut self, length: usize) -> Result<&'a [u8], FeatureError> {
        let (head, tail) = self.0.split_at_checked(length).ok_or_else(|| corrupt("too short".into()))?;
        self.0 = tail;
        Ok(head)
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], FeatureError> {
        self.slice(N)?.try_into().map_err(|_| corrupt("too short".into()))
    }
}

pub(crate) fn corrupt(reason: String) -> FeatureError {
    FeatureError::Corrupt { what: "online value", reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_value_comes_back() {
        let values = [
            Value::Null,
            Value::Bool(true),
            Value::Int(-3),
            Value::Float(0.25),
            Value::Text("Zürich".into()),
            Value::Timestamp(Timestamp::from_micros(-5)),
            Value::List([Value::Int(1), Value::Int(2)].into()),
            Value::List([].into()),
        ];
        assert_eq!(read_values(&write_values(&values)).unwrap(), values);
    }

    #[test]
    fn a_cut_value_is_an_error_and_no_panic() {
        let bytes = write_values(&[Value::Text("JFK".into())]);
        for end in 1..bytes.len() {
            assert!(read_values(&bytes[..end]).is_err(), "{end}");
        }
    }

    #[test]
    fn totals_come_back_with_and_without_squares() {
        let totals = [Totals { count: 2, sum: -7, squares: 0 }, Totals { count: 1, sum: 5, squares: 25 }];
        let bytes = write_totals(&totals, [false, true].into_iter());
        assert_eq!(read_totals(&bytes, [false, true].into_iter()).unwrap(), totals);
    }
}
