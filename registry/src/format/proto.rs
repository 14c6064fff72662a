//! Walking protobuf messages field by field, without their schema.

use super::{Fault, read::Cursor};

/// Messages inside messages.
pub(super) const DEPTH_MAX: u32 = 64;

/// A field's value; of one with a length, where it ends. Its bytes come next.
pub(super) enum Value {
    Number(u64),
    Bytes { length: u64, end: u64 },
}

/// The next field of a message that ends at `end`; `None` at its end.
pub(super) fn field(cursor: &mut Cursor<'_>, end: u64) -> Result<Option<(u64, Value)>, Fault> {
    if cursor.at() == end {
        return Ok(None);
    }
    cursor.step()?;
    let at = cursor.at();
    let tag = varint(cursor)?;
    if tag >> 3 == 0 {
        return Err(Fault::bad(format!("has a field without a number at byte {at}")));
    }
    let value = match tag & 7 {
        0 => Value::Number(varint(cursor)?),
        1 => Value::Number(u64::from_le_bytes(cursor.array()?)),
        5 => Value::Number(u32::from_le_bytes(cursor.array()?).into()),
        2 => {
            let length = varint(cursor)?;
            let field_end = cursor.at().checked_add(length).filter(|field_end| *field_end <= end);
            let field_end = field_end.ok_or_else(|| {
                Fault::bad(format!(
                    "has a field of {length} bytes at byte {at}, which is longer than what it is part of"
                ))
            })?;
            Value::Bytes { length, end: field_end }
        }
        other => return Err(Fault::bad(format!("has a field of unknown kind {other} at byte {at}"))),
    };
    if cursor.at() > end {
        return Err(Fault::bad(format!("has a field at byte {at} that goes on behind its message")));
    }
    Ok(Some((tag >> 3, value)))
}

/// Goes on behind a field that is not looked into.
pub(super) fn pass(cursor: &mut Cursor<'_>, value: &Value) -> Result<(), Fault> {
    match value {
        Value::Number(_) => Ok(()),
        Value::Bytes { length, .. } => cursor.skip(*length),
    }
}

/// One level deeper, unless that is too deep.
pub(super) fn deeper(depth: u32) -> Result<u32, Fault> {
    if depth >= DEPTH_MAX {
        return Err(Fault::bad(format!("nests deeper than {DEPTH_MAX} messages")));
    }
    Ok(depth + 1)
}

pub(super) fn varint(cursor: &mut Cursor<'_>) -> Result<u64, Fault> {
    let at = cursor.at();
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = cursor.byte()?;
        let part = u64::from(byte & 0x7f);
        if shift == 63 && part > 1 {
            break;
        }
        value |= part << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(Fault::bad(format!("has a number without an end at byte {at}")))
}
