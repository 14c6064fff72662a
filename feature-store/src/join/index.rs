//! The spine as the join sees it: rows with equal keys form a group, and within a group rows stand in order of time.

use super::{
    hash::Hashing,
    keys::{KeyStore, KeyType, Keys},
    time::Times,
};

/// No group, no row.
pub(super) const NONE: u32 = u32::MAX;

/// Open addressing with at most half of the places taken. A place holds the upper half of the hash and the group.
struct Table {
    places: Vec<(u32, u32)>,
    taken: usize,
}

impl Table {
    fn new() -> Self {
        Self { places: vec![(0, NONE); 1_024], taken: 0 }
    }

    const fn tag(hash: u64) -> u32 {
        (hash >> 32) as u32
    }

    /// The group of this hash for which `same` holds, or the free place where it belongs.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "the lower bits are the place")]
    fn find(&self, hash: u64, mut same: impl FnMut(u32) -> bool) -> Result<u32, usize> {
        let mask = self.places.len() - 1;
        let tag = Self::tag(hash);
        let mut at = hash as usize & mask;
        loop {
            let (found, group) = self.places[at];
            if group == NONE {
                return Err(at);
            }
            if found == tag && same(group) {
                return Ok(group);
            }
            at = (at + 1) & mask;
        }
    }

    /// Takes a free place; `hash_of` gives the hashes of groups that have to move.
    #[expect(clippy::cast_possible_truncation, reason = "the lower bits are the place")]
    fn take(&mut self, at: usize, hash: u64, group: u32, hash_of: impl Fn(u32) -> u64) {
        self.places[at] = (Self::tag(hash), group);
        self.taken += 1;
        if self.taken * 2 <= self.places.len() {
            return;
        }
        let wider = vec![(0, NONE); self.places.len() * 2];
        let old = std::mem::replace(&mut self.places, wider);
        let mask = self.places.len() - 1;
        for (tag, group) in old.into_iter().filter(|(_, group)| *group != NONE) {
            let mut at = hash_of(group) as usize & mask;
            while self.places[at].1 != NONE {
                at = (at + 1) & mask;
            }
            self.places[at] = (tag, group);
        }
    }
}

/// One distinct key: the word that tells it (the key itself where one word holds it, else its hash) and where its
/// rows begin. They end where the next group's begin.
#[derive(Clone, Copy)]
struct Head {
    word: u64,
    start: u32,
}

/// Rows of the spine are numbered from 0; a slot is a row's place in order of group and time.
pub(super) struct Index {
    hashing: Hashing,
    table: Table,
    heads: Vec<Head>,
    /// Where one word is not the whole key.
    store: Option<KeyStore>,
    /// By slot.
    pub(super) times: Vec<i64>,
    pub(super) order: Vec<u32>,
    /// First and last instant.
    pub(super) span: Option<(i64, i64)>,
    /// Smallest and greatest key, where keys are one signed number.
    pub(super) key_span: Option<(i64, i64)>,
}

/// Takes the rows of the spine in, batch by batch.
pub(super) struct Builder {
    index: Index,
    /// Group and time by row; rows without key or time have no group.
    rows: Vec<(u32, i64)>,
    counts: Vec<u32>,
    ordered_keys: bool,
    hashes: Vec<u64>,
}

impl Builder {
    pub(super) fn new(hashing: Hashing, types: &[KeyType], rows: usize) -> Self {
        let store = match types {
            [] | [KeyType::Text] | [_, _, ..] => Some(KeyStore::new(types)),
            [_] => None,
        };
        let index = Index {
            hashing,
            table: Table::new(),
            heads: Vec::new(),
            store,
            times: Vec::new(),
            order: Vec::new(),
            span: None,
            key_span: None,
        };
        let ordered_keys = matches!(types, [KeyType::Int { signed: true }]);
        Self { index, rows: Vec::with_capacity(rows), counts: Vec::new(), ordered_keys, hashes: Vec::new() }
    }

    pub(super) fn add(&mut self, keys: &Keys, times: &Times, rows: usize) {
        let Self { index, rows: all, counts, hashes, .. } = self;
        keys.hash(index.hashing, rows, hashes);
        let words = if index.store.is_none() { keys.one_word() } else { None };
        for (row, hash) in hashes.iter().copied().enumerate() {
            let time = times.get(row);
            let time = time.filter(|_| keys.whole.as_ref().is_none_or(|whole| whole.is_valid(row)));
            let Some(time) = time else {
                all.push((NONE, 0));
                continue;
            };
            let word = words.map_or(hash, |words| words[row]);
            let found = index.table.find(hash, |group| {
                let at = group as usize;
                index.heads[at].word == word && index.store.as_ref().is_none_or(|store| store.equal(at, keys, row))
            });
            let group = found.unwrap_or_else(|place| {
                // There are no more groups than rows, which a `u32` counts.
                let group = u32::try_from(index.heads.len()).unwrap_or(NONE);
                index.heads.push(Head { word, start: 0 });
                counts.push(0);
                if let Some(store) = &mut index.store {
                    store.push(keys, row);
                }
                let (heads, hashing, exact) = (&index.heads, index.hashing, words.is_some());
                let hash_of = |group: u32| {
                    let word = heads[group as usize].word;
                    if exact { hashing.word(word) } else { word }
                };
                index.table.take(place, hash, group, hash_of);
                group
            });
            counts[group as usize] += 1;
            all.push((group, time));
        }
    }

    /// Sorts.
    pub(super) fn finish(self) -> Index {
        let Self { mut index, rows, counts, ordered_keys, .. } = self;
        let mut start = 0;
        for (head, count) in index.heads.iter_mut().zip(&counts) {
            head.start = start;
            start += count;
        }
        if ordered_keys {
            let keys = || index.heads.iter().map(|head| head.word.cast_signed());
            index.key_span = keys().min().zip(keys().max());
        }
        index.heads.push(Head { word: 0, start });
        let mut next: Vec<u32> = index.heads.iter().map(|head| head.start).collect();
        let mut sorted = vec![(0_i64, 0_u32); start as usize];
        for (row, (group, time)) in rows.into_iter().enumerate().filter(|(_, (group, _))| *group != NONE) {
            let at = &mut next[group as usize];
            sorted[*at as usize] = (time, u32::try_from(row).unwrap_or(NONE));
            *at += 1;
        }
        for pair in index.heads.windows(2) {
            sorted[pair[0].start as usize..pair[1].start as usize].sort_unstable();
        }
        (index.times, index.order) = sorted.into_iter().unzip();
        index.span = index.times.iter().min().copied().zip(index.times.iter().max().copied());
        index
    }
}

impl Index {
    /// Rows that have a key and a time.
    pub(super) const fn slots(&self) -> usize {
        self.times.len()
    }

    /// Slots of each group.
    pub(super) fn groups(&self) -> impl Iterator<Item = std::ops::Range<usize>> + '_ {
        self.heads.windows(2).map(|pair| pair[0].start as usize..pair[1].start as usize)
    }

    /// The group of each row, in place of what `groups` held; [`NONE`] where the spine does not have the key.
    pub(super) fn lookup(&self, keys: &Keys, rows: usize, hashes: &mut Vec<u64>, groups: &mut Vec<u32>) {
        groups.clear();
        groups.reserve(rows);
        let whole = |row: usize| keys.whole.as_ref().is_none_or(|whole| whole.is_valid(row));
        match (&self.store, keys.one_word()) {
            (None, Some(words)) => {
                // Rows with one key often stand together.
                let mut last = None;
                groups.extend(words.iter().map(|word| match last {
                    Some((known, group)) if known == *word => group,
                    _ => {
                        let same = |group: u32| self.heads[group as usize].word == *word;
                        let group = self.table.find(self.hashing.word(*word), same).unwrap_or(NONE);
                        last = Some((*word, group));
                        group
                    }
                }));
                if keys.whole.is_some() {
                    groups.iter_mut().enumerate().filter(|(row, _)| !whole(*row)).for_each(|(_, group)| *group = NONE);
                }
            }
            (Some(store), _) => {
                keys.hash(self.hashing, rows, hashes);
                groups.extend(hashes.iter().enumerate().map(|(row, hash)| {
                    let same = |group: u32| {
                        let at = group as usize;
                        self.heads[at].word == *hash && store.equal(at, keys, row)
                    };
                    if whole(row) { self.table.find(*hash, same).unwrap_or(NONE) } else { NONE }
                }));
            }
            // A key of one word always comes as one.
            (None, None) => groups.resize(rows, NONE),
        }
    }

    /// Where the rows of a group lie.
    #[inline]
    pub(super) fn group(&self, group: u32) -> (usize, usize) {
        let at = group as usize;
        (self.heads[at].start as usize, self.heads[at + 1].start as usize)
    }
}
