//! Which rows of a large body are new.
//!
//! Identities are kept in the key-value store under their event time, so a block of sorted identities is compared with one
//! stretch of the store; of new rows that stretch is empty. Within the call a set of 64-bit prints tells the rows that are
//! certainly the first of their identity. All others, and those that correct a stored row, go the way of small bodies
//! afterwards, in the order of the body: the first row of an identity always stands before the rest. So do rows that tie
//! with one that waits (the same entity at the same instant): of two that tie, the one that came last is served.

use std::{
    collections::HashSet,
    hash::{BuildHasher as _, BuildHasherDefault, Hasher, RandomState},
};

use domain::{Digest, Digester, SourceName, Timestamp};
use storage::Kv;

use super::check::Checked;
use crate::{
    error::{Doing as _, FeatureError},
    rows::{self, Known, ParsedRow, RowMark},
    view::SourcePlan,
};

/// Identities compared with one stretch of the store.
const BLOCK_ROWS: usize = 4_096;
/// A stretch with more identities than this is asked for one by one.
const STRETCH_MAX: usize = 4 * BLOCK_ROWS;

/// A print is as good as random already.
#[derive(Default)]
pub(crate) struct Same(u64);

impl Hasher for Same {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, print: u64) {
        self.0 = print;
    }
}

/// The rows of one part of a body as they are sorted out.
pub(crate) struct Sieve {
    met: HashSet<u64, BuildHasherDefault<Same>>,
    /// Entities and instants of rows that wait.
    ties: HashSet<u64>,
    hasher: RandomState,
    digests: Digester,
    /// Number of the next row that is taken.
    pub(crate) next: i64,
    pub(crate) taken: u64,
    pub(crate) duplicates: u64,
    /// Rows that go the way of small bodies.
    pub(crate) aside: Vec<ParsedRow>,
}

/// The rows of a piece that are new, and their marks; the first of them has the number `first`.
pub(crate) struct Fresh {
    pub(crate) places: Vec<u32>,
    pub(crate) marks: Vec<RowMark>,
    pub(crate) first: i64,
}

impl Sieve {
    pub(crate) fn new(next: i64) -> Self {
        Self {
            met: HashSet::default(),
            ties: HashSet::new(),
            hasher: RandomState::new(),
            digests: Digester::default(),
            next,
            taken: 0,
            duplicates: 0,
            aside: Vec::new(),
        }
    }

    /// What the taken rows say, in a word.
    pub(crate) fn digest(&self) -> Digest {
        self.digests.clone().finish()
    }

    /// Sorts out the rows of one piece, given what the store remembers of them.
    pub(crate) fn sift(&mut self, plan: &SourcePlan, stored: Vec<Option<Known>>, checked: &mut Checked) -> Fresh {
        let mut fresh = Fresh { places: Vec::new(), marks: Vec::new(), first: self.next };
        let mut bytes = Vec::new();
        for (row, stored) in stored.into_iter().enumerate() {
            let Some(mark) = checked.marks[row] else { continue };
            let print = print(&mark);
            let met = self.met.contains(&print);
            if !met && stored.is_some_and(|(digest, _)| digest == mark.digest) {
                self.duplicates += 1;
                continue;
            }
            self.met.insert(print);
            let waits = met || stored.is_some() || checked.odd.contains_key(&row);
            let mut ties = self.prints(plan, checked, row, mark.at, &mut bytes);
            if waits || !self.ties.is_empty() && ties.any(|tie| self.ties.contains(&tie)) {
                drop(ties);
                let ties: Vec<u64> = self.prints(plan, checked, row, mark.at, &mut bytes).collect();
                self.ties.extend(ties);
                self.aside.push(checked.odd.remove(&row).unwrap_or_else(|| checked.parsed(row, mark)));
                continue;
            }
            drop(ties);
            self.digests.update(&mark.digest);
            fresh.places.push(u32::try_from(row).unwrap_or(u32::MAX));
            fresh.marks.push(mark);
            self.next += 1;
            self.taken += 1;
        }
        fresh
    }

    /// What the row may tie with: one print for each view.
    fn prints<'a>(
        &'a self,
        plan: &'a SourcePlan,
        checked: &'a Checked,
        row: usize,
        at: Timestamp,
        bytes: &'a mut Vec<u8>,
    ) -> impl Iterator<Item = u64> + 'a {
        plan.views.iter().enumerate().filter_map(move |(number, view)| {
            bytes.clear();
            let whole = view.keys.iter().all(|key| checked.columns[key.at].push_entity(row, bytes));
            whole.then(|| self.hasher.hash_one((number, at.micros(), &*bytes)))
        })
    }
}

fn print(mark: &RowMark) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&mark.identity[..8]);
    u64::from_le_bytes(bytes)
}

/// The marks with their rows, in the order in which the store keeps them.
pub(crate) fn in_order(marks: &[Option<RowMark>]) -> Vec<(RowMark, usize)> {
    let mut sorted: Vec<(RowMark, usize)> =
        marks.iter().enumerate().filter_map(|(row, mark)| Some(((*mark)?, row))).collect();
    sorted.sort_unstable_by_key(|(mark, row)| (mark.at, u128::from_be_bytes(mark.identity), *row));
    sorted
}

/// What the store remembers of each row's identity. With `old`, the source has identities that an earlier version wrote.
pub(crate) async fn stored(
    kv: &dyn Kv,
    source: &SourceName,
    checked: &Checked,
    old: bool,
) -> Result<Vec<Option<Known>>, FeatureError> {
    let mut found = vec![None; checked.marks.len()];
    for block in checked.in_order.chunks(BLOCK_ROWS) {
        let [(first, _), .., (last, _)] = block else {
            // A single one.
            one_by_one(kv, source, block, old, &mut found).await?;
            continue;
        };
        let (from, mut to) = (first.key(source.as_str()), last.key(source.as_str()));
        to.push(0);
        let stretch = if old { None } else { Some(kv.range(&from, &to, STRETCH_MAX).await) };
        match stretch.transpose().doing("look for duplicate rows")? {
            Some(stretch) if stretch.len() < STRETCH_MAX => {
                let mut stretch = stretch.into_iter().peekable();
                for (mark, row) in block {
                    let key = mark.key(source.as_str());
                    while stretch.next_if(|pair| pair.0 < key).is_some() {}
                    if let Some((_, value)) = stretch.peek().filter(|pair| pair.0 == key) {
                        found[*row] = Some(RowMark::read(value)?);
                    }
                }
            }
            _ => one_by_one(kv, source, block, old, &mut found).await?,
        }
    }
    Ok(found)
}

async fn one_by_one(
    kv: &dyn Kv,
    source: &SourceName,
    block: &[(RowMark, usize)],
    old: bool,
    found: &mut [Option<Known>],
) -> Result<(), FeatureError> {
    let marks: Vec<RowMark> = block.iter().map(|(mark, _)| *mark).collect();
    let known = rows::known(kv, source.as_str(), &marks, old).await?;
    for ((_, row), known) in block.iter().zip(known) {
        found[*row] = known;
    }
    Ok(())
}
