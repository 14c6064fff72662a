//! Keys of the online store. Every key begins with a tag byte and then a name that no other key of that tag
//! extends, so a prefix never reaches into its neighbour; instants are stored so that bytes sort as time does.
//!
//! | key | value |
//! |---|---|
//! | `r` layout, entity, event time, created, row | the plain view's columns of that row |
//! | `t` layout, entity, event time, row | running totals up to and with that row |
//! | `w` layout, entity, chain, tile, event time, row | what the row brings, and the tile's state through it |
//! | `w` layout, entity, coarse chain, coarse tile | that tile's state |
//! | `b` layout | empty: the layout is complete |
//! | `i` source, event time, identity | the newest row of that identity and its values' digest |
//! | `s` source, identity | the same, as earlier versions wrote it |
//! | `m` source | greatest event time of a row that reached this store |
//! | `n` source | how many rows of the source's table have reached this store |

use domain::{Column, Digest, Timestamp, Value};

pub(crate) const PLAIN: u8 = b'r';
pub(crate) const TOTALS: u8 = b't';
pub(crate) const TILES: u8 = b'w';
const BUILT: u8 = b'b';
const SEEN: u8 = b's';
const IDENTITY: u8 = b'i';
const NEWEST: u8 = b'm';
const APPLIED: u8 = b'n';

/// Names what a view keeps online: another choice of source, keys or columns is another layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Layout {
    pub(crate) tag: u8,
    id: [u8; 8],
}

impl Layout {
    pub(crate) fn new(tag: u8, digest: &Digest) -> Self {
        let mut id = [0; 8];
        id.copy_from_slice(&digest.as_bytes()[..8]);
        Self { tag, id }
    }

    /// What all rows of the layout begin with.
    pub(crate) fn prefix(self) -> Vec<u8> {
        let mut key = Vec::with_capacity(64);
        key.push(self.tag);
        key.extend_from_slice(&self.id);
        key
    }

    /// The end of the layout's rows, exclusive: no instant and no entity tag reaches 0xFF.
    pub(crate) fn end(self) -> Vec<u8> {
        let mut key = self.prefix();
        key.push(0xFF);
        key
    }

    /// Where the tiles of a windowed view stand.
    pub(crate) const fn tiles(self) -> Self {
        Self { tag: TILES, id: self.id }
    }

    /// The mark that says the layout is complete.
    pub(crate) fn built(self) -> Vec<u8> {
        let mut key = vec![BUILT, self.tag];
        key.extend_from_slice(&self.id);
        key
    }

    /// All marks lie in this range.
    pub(crate) fn all_built() -> (Vec<u8>, Vec<u8>) {
        (vec![BUILT], vec![BUILT + 1])
    }

    /// The layout a mark belongs to.
    pub(crate) fn of_built(key: &[u8]) -> Option<Self> {
        match key {
            [BUILT, tag, id @ ..] => Some(Self { tag: *tag, id: id.try_into().ok()? }),
            _ => None,
        }
    }
}

/// Appends one key column's value; false (and nothing appended) for null.
pub(crate) fn push_entity(key: &mut Vec<u8>, value: &Value) -> bool {
    match value {
        // Definitions refuse lists as keys.
        Value::Null | Value::List(_) => return false,
        Value::Bool(b) => key.extend_from_slice(&[1, u8::from(*b)]),
        Value::Int(i) => {
            key.push(2);
            key.extend_from_slice(&ordered(*i));
        }
        Value::Float(x) => {
            key.push(3);
            key.extend_from_slice(&x.to_be_bytes());
        }
        Value::Text(s) => push_text(key, s),
        Value::Timestamp(t) => {
            key.push(5);
            key.extend_from_slice(&ordered(t.micros()));
        }
    }
    true
}

pub(crate) fn push_text(key: &mut Vec<u8>, text: &str) {
    key.push(4);
    // Names and codes are far below 4 GiB; the length keeps one key from being the beginning of another.
    key.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes());
    key.extend_from_slice(text.as_bytes());
}

/// The same from a cell of a column, without cloning text.
pub(crate) fn push_cell(key: &mut Vec<u8>, column: &Column, row: usize) -> bool {
    match column {
        Column::Text(v) => v[row].as_deref().map(|text| push_text(key, text)).is_some(),
        other => push_entity(key, &other.get(row)),
    }
}

/// Big-endian with the sign bit turned, so that bytes sort as the numbers do.
pub(crate) const fn ordered(number: i64) -> [u8; 8] {
    (number ^ i64::MIN).to_be_bytes()
}

/// The number that [`ordered`] wrote at `at`.
pub(crate) fn read_ordered(key: &[u8], at: usize) -> Option<i64> {
    let bytes: [u8; 8] = key.get(at..at + 8)?.try_into().ok()?;
    Some(i64::from_be_bytes(bytes) ^ i64::MIN)
}

/// Length of what follows the entity in a row's key.
pub(crate) const fn place_length(tag: u8) -> usize {
    if tag == PLAIN { 25 } else { 16 }
}

/// Completes a plain row's key; a null `created` sorts below every other.
pub(crate) fn push_plain(key: &mut Vec<u8>, at: Timestamp, created: Option<Timestamp>, row: i64) {
    key.extend_from_slice(&ordered(at.micros()));
    key.push(u8::from(created.is_some()));
    key.extend_from_slice(&ordered(created.map_or(0, Timestamp::micros)));
    key.extend_from_slice(&ordered(row));
}

/// Completes a totals row's key.
pub(crate) fn push_totals(key: &mut Vec<u8>, at: Timestamp, row: i64) {
    key.extend_from_slice(&ordered(at.micros()));
    key.extend_from_slice(&ordered(row));
}

/// Appends which tile: the chain, whether it is a coarse one, and its first instant.
pub(crate) fn push_tile(key: &mut Vec<u8>, chain: u8, coarse: bool, tile: i64) {
    key.extend_from_slice(&[chain, u8::from(coarse)]);
    key.extend_from_slice(&ordered(tile));
}

/// Completes a key that lies behind every row at `at` and before every later one.
pub(crate) fn push_after(key: &mut Vec<u8>, at: Timestamp) {
    key.extend_from_slice(&ordered(at.micros()));
    key.extend_from_slice(&[0xFF; 17]);
}

/// Identity of a row: its source, its event time and 128 bits of the digest of what tells rows apart. The time is part of
/// the identity already; it stands first so that rows of other times lie elsewhere, and new rows behind all others.
pub(crate) fn identity(source: &str, at: Timestamp, identity: &[u8; 16]) -> Vec<u8> {
    let mut key = Vec::with_capacity(5 + source.len() + 24);
    key.push(IDENTITY);
    push_text(&mut key, source);
    key.extend_from_slice(&ordered(at.micros()));
    key.extend_from_slice(identity);
    key
}

/// The same as earlier versions wrote it.
pub(crate) fn seen(source: &str, identity: &[u8; 16]) -> Vec<u8> {
    let mut key = named(SEEN, source);
    key.extend_from_slice(identity);
    key
}

/// Where all that earlier versions wrote of a source's identities lies.
pub(crate) fn all_seen(source: &str) -> (Vec<u8>, Vec<u8>) {
    let from = named(SEEN, source);
    let mut to = from.clone();
    to.extend_from_slice(&[0xFF; 17]);
    (from, to)
}

pub(crate) fn applied(source: &str) -> Vec<u8> {
    named(APPLIED, source)
}

pub(crate) fn newest(source: &str) -> Vec<u8> {
    named(NEWEST, source)
}

fn named(tag: u8, name: &str) -> Vec<u8> {
    let mut key = vec![tag];
    push_text(&mut key, name);
    key
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn keys_sort_by_time_then_created_then_row(
            a in (any::<i64>(), any::<Option<i64>>(), 0i64..9), b in (any::<i64>(), any::<Option<i64>>(), 0i64..9),
        ) {
            let bytes = |(at, created, row): (i64, Option<i64>, i64)| {
                let mut key = Vec::new();
                push_plain(&mut key, Timestamp::from_micros(at), created.map(Timestamp::from_micros), row);
                key
            };
            prop_assert_eq!(bytes(a).cmp(&bytes(b)), a.cmp(&b));
        }

        #[test]
        fn no_entity_key_begins_another(a in ".{0,6}", b in ".{0,6}") {
            let bytes = |text: &str| { let mut key = Vec::new(); push_text(&mut key, text); key };
            prop_assert!(a == b || !bytes(&a).starts_with(&bytes(&b)));
        }
    }

    #[test]
    fn the_end_of_an_instant_lies_behind_all_its_rows() {
        let mut row = Vec::new();
        push_plain(&mut row, Timestamp::from_micros(7), Some(Timestamp::MAX), i64::MAX);
        let mut end = Vec::new();
        push_after(&mut end, Timestamp::from_micros(7));
        let mut next = Vec::new();
        push_totals(&mut next, Timestamp::from_micros(8), 0);
        assert!(row < end && end < next);
    }
}
