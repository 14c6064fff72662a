//! UBJSON (<https://ubjson.org>), walked value by value: what XGBoost writes by default since its release 2.1.

use super::{Fault, read::Cursor};

/// Arrays and objects inside each other.
const DEPTH_MAX: u32 = 64;
/// Longest text that is kept.
const TEXT_BYTES_MAX: usize = 64 << 10;

/// What is told of each value: the names of the objects and the positions in arrays that lead to it, and the value where
/// it is a text or a whole number.
pub(super) type Seen<'s> = dyn FnMut(&[String], Leaf) -> Result<(), Fault> + 's;

/// A value that holds no other.
#[derive(Debug)]
pub(super) enum Leaf {
    Text(String),
    Whole(i64),
    Other,
}

/// Walks the one value of a document, which must end with it.
pub(super) fn walk(cursor: &mut Cursor<'_>, seen: &mut Seen<'_>) -> Result<(), Fault> {
    let marker = cursor.byte()?;
    value(cursor, marker, &mut Vec::new(), 0, seen)?;
    match cursor.left() {
        0 => Ok(()),
        left => Err(Fault::bad(format!("has {left} bytes behind its end"))),
    }
}

fn value(
    cursor: &mut Cursor<'_>,
    marker: u8,
    path: &mut Vec<String>,
    depth: u32,
    seen: &mut Seen<'_>,
) -> Result<(), Fault> {
    cursor.step()?;
    match marker {
        b'{' | b'[' if depth >= DEPTH_MAX => Err(Fault::bad(format!("nests deeper than {DEPTH_MAX} values"))),
        b'{' => object(cursor, path, depth + 1, seen),
        b'[' => array(cursor, path, depth + 1, seen),
        b'S' | b'H' => {
            let length = length(cursor)?;
            let text = cursor.text(length, TEXT_BYTES_MAX)?;
            seen(path, Leaf::Text(text))
        }
        b'i' | b'U' | b'I' | b'l' | b'L' => {
            let whole = whole(cursor, marker)?;
            seen(path, Leaf::Whole(whole))
        }
        _ => {
            let bytes = size(marker).ok_or_else(|| unknown(cursor, marker))?;
            cursor.skip(bytes)?;
            seen(path, Leaf::Other)
        }
    }
}

/// Type and count, where a container announces them.
fn announced(cursor: &mut Cursor<'_>) -> Result<(Option<u8>, Option<u64>, u8), Fault> {
    let mut marker = cursor.byte()?;
    let mut kind = None;
    if marker == b'$' {
        kind = Some(cursor.byte()?);
        marker = cursor.byte()?;
        if marker != b'#' {
            return Err(Fault::bad(format!("announces a type without a count before byte {}", cursor.at())));
        }
    }
    if marker == b'#' {
        let count = length(cursor)?;
        return Ok((kind, Some(count), 0));
    }
    Ok((kind, None, marker))
}

fn object(cursor: &mut Cursor<'_>, path: &mut Vec<String>, depth: u32, seen: &mut Seen<'_>) -> Result<(), Fault> {
    let (kind, count, mut marker) = announced(cursor)?;
    let mut left = count;
    loop {
        match left {
            Some(0) => return Ok(()),
            Some(ref mut left) => {
                *left -= 1;
                marker = cursor.byte()?;
            }
            None if marker == b'}' => return Ok(()),
            None => {}
        }
        let length = u64::try_from(whole(cursor, marker)?).map_err(|_| negative(cursor))?;
        path.push(cursor.text(length, TEXT_BYTES_MAX)?);
        let of = match kind {
            Some(kind) => kind,
            None => cursor.byte()?,
        };
        value(cursor, of, path, depth, seen)?;
        path.pop();
        if left.is_none() {
            marker = cursor.byte()?;
        }
    }
}

fn array(cursor: &mut Cursor<'_>, path: &mut Vec<String>, depth: u32, seen: &mut Seen<'_>) -> Result<(), Fault> {
    let (kind, count, mut marker) = announced(cursor)?;
    if let (Some(kind), Some(count)) = (kind, count)
        && let Some(bytes) = size(kind)
    {
        // Numbers end to end: passed over at once.
        let bytes = bytes.checked_mul(count).ok_or_else(|| negative(cursor))?;
        return cursor.skip(bytes);
    }
    let mut left = count;
    loop {
        match left {
            Some(0) => return Ok(()),
            Some(ref mut left) => {
                *left -= 1;
                marker = match kind {
                    Some(kind) => kind,
                    None => cursor.byte()?,
                };
            }
            None if marker == b']' => return Ok(()),
            None => {}
        }
        value(cursor, marker, path, depth, seen)?;
        if left.is_none() {
            marker = cursor.byte()?;
        }
    }
}

fn length(cursor: &mut Cursor<'_>) -> Result<u64, Fault> {
    let marker = cursor.byte()?;
    u64::try_from(whole(cursor, marker)?).map_err(|_| negative(cursor))
}

fn whole(cursor: &mut Cursor<'_>, marker: u8) -> Result<i64, Fault> {
    Ok(match marker {
        b'i' => i8::from_be_bytes(cursor.array()?).into(),
        b'U' => cursor.byte()?.into(),
        b'I' => i16::from_be_bytes(cursor.array()?).into(),
        b'l' => i32::from_be_bytes(cursor.array()?).into(),
        b'L' => i64::from_be_bytes(cursor.array()?),
        other => return Err(unknown(cursor, other)),
    })
}

/// Bytes of a value that has always as many.
const fn size(marker: u8) -> Option<u64> {
    Some(match marker {
        b'Z' | b'N' | b'T' | b'F' => 0,
        b'i' | b'U' | b'C' => 1,
        b'I' => 2,
        b'l' | b'd' => 4,
        b'L' | b'D' => 8,
        _ => return None,
    })
}

fn unknown(cursor: &Cursor<'_>, marker: u8) -> Fault {
    Fault::bad(format!("has a value of unknown kind {:?} before byte {}", char::from(marker), cursor.at()))
}

fn negative(cursor: &Cursor<'_>) -> Fault {
    Fault::bad(format!("has an impossible length before byte {}", cursor.at()))
}
