//! Which rows are the same: identities, duplicates and corrections.

use std::collections::HashMap;

use domain::{Digest, Timestamp, Value};
use storage::Kv;

use crate::{
    codec,
    error::{Doing as _, FeatureError},
    key,
    table::StoredRow,
    view::SourcePlan,
};

/// A row that fits its source.
#[derive(Debug, Clone)]
pub(crate) struct ParsedRow {
    /// As in [`RowError`](crate::RowError).
    pub(crate) line: u64,
    pub(crate) values: Vec<Value>,
    pub(crate) mark: RowMark,
}

/// What a row is (`identity`) and what it says (`digest`): 128 bits of SHA-256 each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RowMark {
    /// The event time, which is part of the identity.
    pub(crate) at: Timestamp,
    pub(crate) identity: [u8; 16],
    pub(crate) digest: [u8; 16],
}

/// The values of one row, whatever holds them.
pub(crate) trait Cells {
    /// Whether the value of the column is null.
    fn is_null(&self, column: usize) -> bool;
    /// Appends the value as [`codec::push_value`] does.
    fn push(&self, column: usize, out: &mut Vec<u8>);
    /// The value of a timestamp column; of any other it is `None`.
    fn instant(&self, column: usize) -> Option<Timestamp>;
}

impl Cells for Vec<Value> {
    fn is_null(&self, column: usize) -> bool {
        self[column].is_null()
    }

    fn push(&self, column: usize, out: &mut Vec<u8>) {
        codec::push_value(out, &self[column]);
    }

    fn instant(&self, column: usize) -> Option<Timestamp> {
        match self[column] {
            Value::Timestamp(at) => Some(at),
            _ => None,
        }
    }
}

impl RowMark {
    /// Columns enter by name and nulls not at all, so a column added to the source later changes nothing.
    pub(crate) fn of(plan: &SourcePlan, row: &impl Cells) -> Self {
        Self::with(plan, row, &mut Vec::with_capacity(128))
    }

    /// The same, in memory that is used again.
    pub(crate) fn with(plan: &SourcePlan, row: &impl Cells, bytes: &mut Vec<u8>) -> Self {
        let mut hash = |columns: &[usize]| {
            bytes.clear();
            for &at in columns.iter().filter(|&&at| !row.is_null(at)) {
                codec::push_text(bytes, &plan.names[at]);
                row.push(at, bytes);
            }
            let mut short = [0; 16];
            short.copy_from_slice(&Digest::of(bytes).as_bytes()[..16]);
            short
        };
        let (identity, digest) = (hash(&plan.identity), hash(&plan.by_name));
        // Rows without an event time are quarantined before they get here.
        Self { at: row.instant(plan.timestamp).unwrap_or(Timestamp::MIN), identity, digest }
    }

    /// Where the online store remembers the newest row of this identity.
    pub(crate) fn key(&self, source: &str) -> Vec<u8> {
        key::identity(source, self.at, &self.identity)
    }

    /// How the online store remembers it.
    pub(crate) fn seen(&self, source: &str, number: i64) -> (Vec<u8>, Vec<u8>) {
        let mut value = self.digest.to_vec();
        value.extend_from_slice(&number.to_le_bytes());
        (self.key(source), value)
    }

    /// The digest and the number of the row that the online store remembers.
    pub(crate) fn read(value: &[u8]) -> Result<Known, FeatureError> {
        let (digest, number) = value.split_at_checked(16).ok_or_else(|| codec::corrupt("row mark too short".into()))?;
        let number = number.try_into().map_err(|_| codec::corrupt("row mark of a wrong length".into()))?;
        Ok((digest.try_into().unwrap_or_default(), i64::from_le_bytes(number)))
    }
}

/// Digest and number of the newest row of an identity.
pub(crate) type Known = ([u8; 16], i64);

/// What the store remembers of each mark. With `old`, the source has identities that an earlier version wrote.
pub(crate) async fn known(
    kv: &dyn Kv,
    source: &str,
    marks: &[RowMark],
    old: bool,
) -> Result<Vec<Option<Known>>, FeatureError> {
    let keys: Vec<Vec<u8>> = marks.iter().map(|mark| mark.key(source)).collect();
    let found = kv.get_many(&keys).await.doing("look for duplicate rows")?;
    let mut known: Vec<Option<Known>> = found
        .into_iter()
        .map(|found| found.map(|bytes| RowMark::read(&bytes)).transpose())
        .collect::<Result<_, _>>()?;
    let unknown: Vec<usize> =
        if old { (0..known.len()).filter(|&at| known[at].is_none()).collect() } else { Vec::new() };
    if !unknown.is_empty() {
        let keys: Vec<Vec<u8>> = unknown.iter().map(|&at| key::seen(source, &marks[at].identity)).collect();
        let found = kv.get_many(&keys).await.doing("look for duplicate rows")?;
        for (at, bytes) in unknown.into_iter().zip(found) {
            known[at] = bytes.map(|bytes| RowMark::read(&bytes)).transpose()?;
        }
    }
    Ok(known)
}

/// The rows of a call that are new, and how many were not.
#[derive(Debug, Default)]
pub(crate) struct Sifted {
    pub(crate) rows: Vec<StoredRow>,
    pub(crate) seen: Vec<(Vec<u8>, Vec<u8>)>,
    pub(crate) duplicates: u64,
    pub(crate) corrections: u64,
}

/// Leaves out what is stored already, marks what corrects a stored row, and numbers the rest from `next`. With `old`, the
/// source has identities that an earlier version wrote.
pub(crate) async fn sift(
    kv: &dyn Kv,
    plan: &SourcePlan,
    parsed: Vec<ParsedRow>,
    mut next: i64,
    old: bool,
) -> Result<Sifted, FeatureError> {
    let source = plan.definition.name.as_str();
    let marks: Vec<RowMark> = parsed.iter().map(|row| row.mark).collect();
    let stored = known(kv, source, &marks, old).await?;
    let mut newest: HashMap<[u8; 16], Known> = HashMap::with_capacity(parsed.len());
    let mut out = Sifted::default();
    for (row, stored) in parsed.into_iter().zip(stored) {
        let mark = row.mark;
        let known = newest.get(&mark.identity).copied().or(stored);
        if known.is_some_and(|(digest, _)| digest == mark.digest) {
            out.duplicates += 1;
            continue;
        }
        out.corrections += u64::from(known.is_some());
        out.seen.push(mark.seen(source, next));
        out.rows.push(StoredRow { number: next, replaces: known.map(|(_, number)| number), values: row.values });
        newest.insert(mark.identity, (mark.digest, next));
        next += 1;
    }
    Ok(out)
}
