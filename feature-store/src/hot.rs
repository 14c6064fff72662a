//! The part of the online store that is asked again and again, kept in memory.
//!
//! A run holds consecutive rows of one entity in one view, as the key-value store has them. It is read after a
//! question missed, and every write of this process goes through it, so it is never behind an acknowledged
//! write. That rests on this process being the store's only writer.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use crate::{
    key::{self, Layout},
    online::Pair,
};

/// Rows read into a run at once; a run that grows to twice this forgets its older half.
pub(crate) const RUN_ROWS: usize = 4_096;
/// Rows of one view in memory; beyond that the view starts anew.
const VIEW_ROWS_MAX: usize = 200_000;

#[derive(Default)]
pub(crate) struct Hot {
    views: Mutex<HashMap<Layout, Arc<RwLock<HotView>>>>,
}

/// The runs of one view, by the entity's key prefix.
#[derive(Default)]
pub(crate) struct HotView {
    runs: HashMap<Vec<u8>, Run>,
    rows: usize,
    /// Writes that have begun, ever, and those not yet ended.
    begun: u64,
    open: u32,
}

/// Consecutive rows of one entity, in order of their keys.
pub(crate) struct Run {
    pub(crate) pairs: Vec<Pair>,
    /// No row of the entity stands before the first.
    pub(crate) from_start: bool,
    /// No row of the entity stands behind the last.
    pub(crate) to_end: bool,
}

/// Taken before a run is read from the store; worthless once a write has begun.
#[derive(Clone, Copy)]
pub(crate) struct Ticket(Option<u64>);

impl Hot {
    pub(crate) fn view(&self, layout: Layout) -> Arc<RwLock<HotView>> {
        self.views.lock().unwrap_or_else(PoisonError::into_inner).entry(layout).or_default().clone()
    }

    pub(crate) fn forget(&self, layout: Layout) {
        self.views.lock().unwrap_or_else(PoisonError::into_inner).remove(&layout);
    }

    /// Announces a write to these layouts. Unless it is `finish`ed its outcome is unknown, and what is in
    /// memory of them is forgotten.
    pub(crate) fn begin(&self, layouts: impl Iterator<Item = Layout>) -> Writing {
        let views: HashMap<Layout, _> = layouts.map(|layout| (layout, self.view(layout))).collect();
        for view in views.values() {
            let mut view = view.write().unwrap_or_else(PoisonError::into_inner);
            view.begun += 1;
            view.open += 1;
        }
        Writing { views, done: false }
    }
}

impl HotView {
    /// The greatest row at or below `key` of the entity (the key's first `entity` bytes); `None` when memory
    /// cannot say, `Some(None)` when there is no such row.
    pub(crate) fn floor(&self, key: &[u8], entity: usize) -> Option<Option<&Pair>> {
        let run = self.runs.get(&key[..entity])?;
        match run.pairs.partition_point(|pair| pair.0.as_slice() <= key) {
            0 => run.from_start.then_some(None),
            behind if behind == run.pairs.len() && !run.to_end => None,
            behind => Some(Some(&run.pairs[behind - 1])),
        }
    }

    pub(crate) const fn ticket(&self) -> Ticket {
        Ticket(if self.open == 0 { Some(self.begun) } else { None })
    }

    /// Keeps a run that was read after `ticket` was taken, unless a write may have changed it since.
    pub(crate) fn keep(&mut self, ticket: Ticket, entity: Vec<u8>, run: Run) {
        if ticket.0 != Some(self.begun) || self.open > 0 {
            return;
        }
        // The newest rows are asked for most: a run that reaches them is not given up for one that does not.
        if !run.to_end && self.runs.get(&entity).is_some_and(|known| known.to_end) {
            return;
        }
        if self.rows + run.pairs.len() > VIEW_ROWS_MAX || self.runs.len() > VIEW_ROWS_MAX {
            self.clear();
        }
        self.rows += run.pairs.len();
        if let Some(old) = self.runs.insert(entity, run) {
            self.rows -= old.pairs.len();
        }
    }

    fn put(&mut self, entity: usize, pair: &Pair) {
        let Some(run) = self.runs.get_mut(&pair.0[..entity]) else { return };
        let at = run.pairs.partition_point(|known| known.0 < pair.0);
        if run.pairs.get(at).is_some_and(|known| known.0 == pair.0) {
            run.pairs[at].1.clone_from(&pair.1);
            return;
        }
        let covered = (at > 0 || run.from_start) && (at < run.pairs.len() || run.to_end);
        if covered {
            run.pairs.insert(at, pair.clone());
            self.rows += 1;
        }
        if run.pairs.len() >= 2 * RUN_ROWS {
            run.pairs.drain(..RUN_ROWS);
            run.from_start = false;
            self.rows -= RUN_ROWS;
        }
    }

    fn delete(&mut self, entity: usize, key: &[u8]) {
        let Some(run) = self.runs.get_mut(&key[..entity]) else { return };
        if let Ok(at) = run.pairs.binary_search_by(|pair| pair.0.as_slice().cmp(key)) {
            run.pairs.remove(at);
            self.rows -= 1;
        }
        // Without rows nothing says which part of the entity's history the run was.
        if run.pairs.is_empty() && !(run.from_start && run.to_end) {
            self.runs.remove(&key[..entity]);
        }
    }

    fn clear(&mut self) {
        self.runs.clear();
        self.rows = 0;
    }
}

/// A write on its way to the store.
pub(crate) struct Writing {
    views: HashMap<Layout, Arc<RwLock<HotView>>>,
    done: bool,
}

impl Writing {
    /// The write has happened: memory follows.
    pub(crate) fn finish(mut self, puts: &[Pair], deletes: &HashSet<Vec<u8>>) {
        self.done = true;
        for (layout, view) in &self.views {
            let mut view = view.write().unwrap_or_else(PoisonError::into_inner);
            let prefix = layout.prefix();
            for key in deletes.iter().filter(|key| key.starts_with(&prefix)) {
                view.delete(key.len() - key::place_length(layout.tag), key);
            }
            for pair in puts.iter().filter(|pair| pair.0.starts_with(&prefix)) {
                view.put(pair.0.len() - key::place_length(layout.tag), pair);
            }
        }
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        for view in self.views.values() {
            let mut view = view.write().unwrap_or_else(PoisonError::into_inner);
            view.open -= 1;
            if !self.done {
                view.clear();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use domain::{Digest, Timestamp};

    use super::*;

    const TAG: u8 = key::TOTALS;

    fn entity() -> Vec<u8> {
        Layout::new(TAG, &Digest::of(b"v")).prefix()
    }

    fn at(micros: i64) -> Vec<u8> {
        let mut key = entity();
        key::push_totals(&mut key, Timestamp::from_micros(micros), 0);
        key
    }

    fn hot() -> (Hot, Layout) {
        let (hot, layout) = (Hot::default(), Layout::new(TAG, &Digest::of(b"v")));
        let view = hot.view(layout);
        let mut view = view.write().unwrap();
        let ticket = view.ticket();
        let pairs = vec![(at(10), vec![1]), (at(20), vec![2])];
        view.keep(ticket, entity(), Run { pairs, from_start: false, to_end: true });
        drop(view);
        (hot, layout)
    }

    fn floor(hot: &Hot, layout: Layout, micros: i64) -> Option<Option<u8>> {
        let view = hot.view(layout);
        let view = view.read().unwrap();
        view.floor(&at(micros), entity().len()).map(|found| found.map(|pair| pair.1[0]))
    }

    #[test]
    fn memory_answers_only_what_its_run_covers() {
        let (hot, layout) = hot();
        assert_eq!(
            [5, 10, 15, 99].map(|t| floor(&hot, layout, t)),
            [None, Some(Some(1)), Some(Some(1)), Some(Some(2))]
        );
    }

    #[test]
    fn a_finished_write_is_seen_and_an_unfinished_one_makes_memory_forget() {
        let (hot, layout) = hot();
        let writing = hot.begin([layout].into_iter());
        writing.finish(&[(at(15), vec![7]), (at(5), vec![8])], &HashSet::from([at(20)]));
        assert_eq!([5, 15, 99].map(|t| floor(&hot, layout, t)), [None, Some(Some(7)), Some(Some(7))]);
        drop(hot.begin([layout].into_iter()));
        assert_eq!(floor(&hot, layout, 15), None);
    }

    #[test]
    fn a_run_read_while_a_write_was_on_its_way_is_not_kept() {
        let (hot, layout) = (Hot::default(), Layout::new(TAG, &Digest::of(b"v")));
        let run = || Run { pairs: vec![(at(10), vec![1])], from_start: true, to_end: true };
        let view = hot.view(layout);
        let before = view.read().unwrap().ticket();
        let writing = hot.begin([layout].into_iter());
        let during = view.read().unwrap().ticket();
        view.write().unwrap().keep(during, entity(), run());
        writing.finish(&[], &HashSet::new());
        view.write().unwrap().keep(before, entity(), run());
        view.write().unwrap().keep(during, entity(), run());
        assert_eq!(floor(&hot, layout, 10), None);
        let after = view.read().unwrap().ticket();
        view.write().unwrap().keep(after, entity(), run());
        assert_eq!(floor(&hot, layout, 10), Some(Some(1)));
    }
}
