//! Which rows are the same: identities, duplicates and corrections.

use std::collections::HashMap;

use domain::{Digest, Value};
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
    pub(crate) identity: [u8; 16],
    pub(crate) digest: [u8; 16],
}

impl RowMark {
    /// Columns enter by name and nulls not at all, so a column added to the source later changes nothing.
    pub(crate) fn of(plan: &SourcePlan, row: &[Value]) -> Self {
        let hash = |columns: &mut dyn Iterator<Item = usize>| {
            let mut bytes = Vec::with_capacity(128);
            for at in columns.filter(|&at| !row[at].is_null()) {
                codec::push_value(&mut bytes, &Value::Text(plan.names[at].clone()));
                codec::push_value(&mut bytes, &row[at]);
            }
            let mut short = [0; 16];
            short.copy_from_slice(&Digest::of(&bytes).as_bytes()[..16]);
            short
        };
        Self { identity: hash(&mut plan.identity.iter().copied()), digest: hash(&mut plan.by_name.iter().copied()) }
    }

    /// How the online store remembers the newest row of this identity.
    pub(crate) fn seen(&self, source: &str, number: i64) -> (Vec<u8>, Vec<u8>) {
        let mut value = self.digest.to_vec();
        value.extend_from_slice(&number.to_le_bytes());
        (key::seen(source, &self.identity), value)
    }

    fn read(value: &[u8]) -> Result<([u8; 16], i64), FeatureError> {
        let (digest, number) = value.split_at_checked(16).ok_or_else(|| codec::corrupt("row mark too short".into()))?;
        let number = number.try_into().map_err(|_| codec::corrupt("row mark of a wrong length".into()))?;
        Ok((digest.try_into().unwrap_or_default(), i64::from_le_bytes(number)))
    }
}

/// The rows of a call that are new, and how many were not.
#[derive(Debug, Default)]
pub(crate) struct Sifted {
    pub(crate) rows: Vec<StoredRow>,
    pub(crate) seen: Vec<(Vec<u8>, Vec<u8>)>,
    pub(crate) duplicates: u64,
    pub(crate) corrections: u64,
}

/// Of each row the digest and the number of the newest stored one of its identity.
pub(crate) async fn known<'a>(
    kv: &dyn Kv,
    plan: &SourcePlan,
    marks: impl Iterator<Item = &'a RowMark>,
) -> Result<Vec<Option<([u8; 16], i64)>>, FeatureError> {
    let source = plan.definition.name.as_str();
    let keys: Vec<Vec<u8>> = marks.map(|mark| key::seen(source, &mark.identity)).collect();
    let stored = kv.get_many(&keys).await.doing("look for duplicate rows")?;
    stored.into_iter().map(|stored| stored.map(|bytes| RowMark::read(&bytes)).transpose()).collect()
}

/// Leaves out what is stored already, marks what corrects a stored row, and numbers the rest from `next`.
pub(crate) async fn sift(
    kv: &dyn Kv,
    plan: &SourcePlan,
    parsed: Vec<ParsedRow>,
    mut next: i64,
) -> Result<Sifted, FeatureError> {
    let source = plan.definition.name.as_str();
    let stored = known(kv, plan, parsed.iter().map(|row| &row.mark)).await?;
    let mut newest: HashMap<[u8; 16], ([u8; 16], i64)> = HashMap::with_capacity(parsed.len());
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
