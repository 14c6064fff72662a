//! One pass over a view's keys and times: which row does each row of the spine see?
//!
//! A row of the view serves the rows of its group from the first at or after its own instant on, until a newer row
//! takes over. So it is enough to keep, for every slot of the spine, the best row that *begins* to serve there; the
//! best row so far, along a group, is then the answer. Nothing of the view is sorted or kept.

use std::sync::{Mutex, PoisonError};

use super::{
    error::JoinError,
    index::{Index, NONE},
    keys::{Cells, Keys},
    marks::{Address, NOWHERE, address},
    plan::View,
    table::{Slab, Unit},
    threads,
    time::{Age, Ratio, Times, tick},
};

use arrow::{
    array::{Array as _, AsArray as _, Int64Array},
    compute::cast,
    datatypes::{DataType, Int64Type, TimeUnit},
};

/// Rows of keys and times decoded together.
const BATCH_ROWS: usize = 1 << 14;
/// Slots behind one lock, and candidates that wait for it.
const STRIPE: usize = 1 << 15;
const WAITING: usize = 512;

/// What a spine row sees of a view, by row of the spine.
pub(super) struct Choice {
    pub(super) rows: Vec<Address>,
    /// Event time of the newest row, whatever its age; only where the view asks for it.
    pub(super) newest: Option<Vec<Option<i64>>>,
}

/// A candidate with what decides between two of them, the greater first. The least one is no row.
trait Rank: Copy + Ord + Send {
    const NOTHING: Self;

    fn new(time: i64, created: i64, number: i64, at: Address) -> Self;
    /// Event time and address plus one; 0 is no row.
    fn answer(self) -> (i64, u64);
}

impl Rank for (i64, u64) {
    const NOTHING: Self = (i64::MIN, 0);

    fn new(time: i64, _: i64, _: i64, at: Address) -> Self {
        (time, at + 1)
    }

    fn answer(self) -> (i64, u64) {
        self
    }
}

impl Rank for (i64, i64, u64) {
    const NOTHING: Self = (i64::MIN, i64::MIN, 0);

    fn new(time: i64, created: i64, _: i64, at: Address) -> Self {
        (time, created, at + 1)
    }

    fn answer(self) -> (i64, u64) {
        (self.0, self.2)
    }
}

impl Rank for (i64, i64, i64, u64) {
    const NOTHING: Self = (i64::MIN, i64::MIN, i64::MIN, 0);

    fn new(time: i64, created: i64, number: i64, at: Address) -> Self {
        (time, created, number, at + 1)
    }

    fn answer(self) -> (i64, u64) {
        (self.0, self.3)
    }
}

/// Chooses for `rows` rows of the spine.
pub(super) fn choose(
    view: &View,
    index: &Index,
    spine_unit: TimeUnit,
    rows: usize,
    threads: usize,
) -> Result<Choice, JoinError> {
    match (view.created.is_some(), view.sequence.is_some()) {
        (_, true) => pass::<(i64, i64, i64, u64)>(view, index, spine_unit, rows, threads),
        (true, false) => pass::<(i64, i64, u64)>(view, index, spine_unit, rows, threads),
        (false, false) => pass::<(i64, u64)>(view, index, spine_unit, rows, threads),
    }
}

/// The best candidate that begins at each slot, behind locks of neighbouring slots.
struct Stripes<R>(Vec<Mutex<Vec<R>>>);

impl<R: Rank> Stripes<R> {
    fn new(slots: usize) -> Self {
        let stripe = |from: usize| Mutex::new(vec![R::NOTHING; STRIPE.min(slots - from)]);
        Self((0..slots).step_by(STRIPE).map(stripe).collect())
    }

    fn put(&self, stripe: usize, candidates: &mut Vec<(u32, R)>) {
        let mut best = self.0[stripe].lock().unwrap_or_else(PoisonError::into_inner);
        for (slot, rank) in candidates.drain(..) {
            let best = &mut best[slot as usize];
            if *best < rank {
                *best = rank;
            }
        }
    }
}

/// What a thread keeps between units.
struct Worker<R> {
    hashes: Vec<u64>,
    groups: Vec<u32>,
    waiting: Vec<Vec<(u32, R)>>,
}

fn pass<R: Rank>(
    view: &View,
    index: &Index,
    spine_unit: TimeUnit,
    rows: usize,
    threads: usize,
) -> Result<Choice, JoinError> {
    let stripes = Stripes::<R>::new(index.slots());
    let judge = Judge::new(view, index, spine_unit);
    let units: Vec<usize> =
        (0..view.table.units.len()).filter(|unit| judge.may_hold(view.table.units[*unit])).collect();
    threads::spread(
        threads,
        units.len(),
        || Worker { hashes: Vec::new(), groups: Vec::new(), waiting: stripes.0.iter().map(|_| Vec::new()).collect() },
        |worker: &mut Worker<R>, item| {
            let mut row = 0;
            for slab in view.table.read(view.table.units[units[item]], &view.choosing(), None, BATCH_ROWS)? {
                let slab = slab?;
                judge.slab(&slab, address(units[item], row), worker, &stripes)?;
                row += slab.rows;
            }
            Ok(())
        },
        |mut worker| {
            worker.waiting.iter_mut().enumerate().for_each(|(at, candidates)| stripes.put(at, candidates));
            Ok(())
        },
    )?;
    Ok(judge.answer(stripes, rows))
}

/// Everything that decides about a candidate.
struct Judge<'a> {
    view: &'a View,
    index: &'a Index,
    ratio: Ratio,
    created_ratio: Option<Ratio>,
    age: Age,
    spine_unit: TimeUnit,
}

impl<'a> Judge<'a> {
    fn new(view: &'a View, index: &'a Index, spine_unit: TimeUnit) -> Self {
        Self {
            view,
            index,
            ratio: Ratio::new(view.unit, spine_unit),
            created_ratio: view.created.as_ref().filter(|_| view.known).map(|(_, unit)| Ratio::new(*unit, spine_unit)),
            age: Age::new(view.ttl, view.unit, spine_unit),
            spine_unit,
        }
    }

    /// Whether rows too old for every question may be left out at once.
    const fn drops_old(&self) -> bool {
        self.view.ttl > 0 && self.view.newest.is_none()
    }

    /// Whether the file says that no row of the unit can count.
    fn may_hold(&self, unit: Unit) -> bool {
        let Some((first, last)) = self.index.span else { return false };
        let nanos = |t: i64, unit: TimeUnit| i128::from(t) * i128::from(tick(unit));
        if let Some((min, max, unit)) = self.view.table.time_span(unit, &self.view.timestamp) {
            let ttl = i128::from(self.view.ttl) * 1_000;
            let too_old = self.drops_old() && nanos(max, unit) < nanos(first, self.spine_unit) - ttl;
            if too_old || nanos(min, unit) > nanos(last, self.spine_unit) {
                return false;
            }
        }
        match (self.index.key_span, self.view.keys.as_slice()) {
            (Some((least, greatest)), [key]) => {
                self.view.table.number_span(unit, key).is_none_or(|(min, max)| min <= greatest && max >= least)
            }
            _ => true,
        }
    }

    fn slab<R: Rank>(
        &self,
        slab: &Slab,
        first_address: Address,
        worker: &mut Worker<R>,
        stripes: &Stripes<R>,
    ) -> Result<(), JoinError> {
        let (view, index) = (self.view, self.index);
        let table = &view.table;
        let mut columns = slab.columns.iter();
        let mut cells = Vec::with_capacity(view.keys.len());
        for key in &view.key_types {
            // A part without the key has rows without a key.
            let Some(Some(array)) = columns.next() else { return Ok(()) };
            cells.push(Cells::of(array, *key).map_err(|source| table.columns_failed(source))?);
        }
        let keys = Keys::new(cells);
        let array = columns.next().and_then(Option::as_ref).ok_or_else(|| table.missing(&view.timestamp))?;
        let times = Times::of(array, view.unit).ok_or_else(|| table.missing(&view.timestamp))?;
        let created = match &view.created {
            Some((_, unit)) => columns.next().and_then(Option::as_ref).and_then(|array| Times::of(array, *unit)),
            None => None,
        };
        let numbers = match &view.sequence {
            Some(sequence) => {
                let array = columns.next().and_then(Option::as_ref).ok_or_else(|| table.missing(&sequence.column))?;
                let array = cast(array, &DataType::Int64).map_err(|source| table.columns_failed(source))?;
                Some((sequence, array.as_primitive::<Int64Type>().clone()))
            }
            None => None,
        };
        index.lookup(&keys, slab.rows, &mut worker.hashes, &mut worker.groups);
        for (row, group) in worker.groups.iter().enumerate().filter(|(_, group)| **group != NONE) {
            let Some(time) = times.get(row) else { continue };
            let Some(mut first) = self.ratio.first_at(time) else { continue };
            let created = created.as_ref().and_then(|created| created.get(row));
            if let Some(ratio) = self.created_ratio {
                match created.and_then(|created| ratio.first_at(created)) {
                    Some(known) => first = first.max(known),
                    None => continue,
                }
            }
            let number = match &numbers {
                Some((sequence, numbers)) => {
                    let number = number(numbers, row);
                    if !number.is_some_and(|number| sequence.counts(number)) {
                        continue;
                    }
                    number.unwrap_or_default()
                }
                None => 0,
            };
            let (start, end) = index.group(*group);
            let slot = start + index.times[start..end].partition_point(|at| *at < first);
            if slot == end || (self.drops_old() && !self.age.within(time, index.times[slot])) {
                continue;
            }
            // Null is lower than every time of creation.
            let created = created.map_or(i64::MIN, |created| created.max(i64::MIN + 1));
            let rank = R::new(time, created, number, first_address + row as u64);
            let waiting = &mut worker.waiting[slot / STRIPE];
            // A stripe has far fewer slots than a `u32` counts.
            waiting.push((u32::try_from(slot % STRIPE).unwrap_or(0), rank));
            if waiting.len() == WAITING {
                stripes.put(slot / STRIPE, waiting);
            }
        }
        Ok(())
    }

    fn answer<R: Rank>(&self, stripes: Stripes<R>, rows: usize) -> Choice {
        let best: Vec<Vec<R>> =
            stripes.0.into_iter().map(|stripe| stripe.into_inner().unwrap_or_else(PoisonError::into_inner)).collect();
        let mut chosen = vec![NOWHERE; rows];
        let mut newest = self.view.newest.as_ref().map(|_| vec![None; rows]);
        for group in self.index.groups() {
            let mut so_far = R::NOTHING;
            for slot in group {
                so_far = so_far.max(best[slot / STRIPE][slot % STRIPE]);
                let (time, next) = so_far.answer();
                if next == 0 {
                    continue;
                }
                let row = self.index.order[slot] as usize;
                if let Some(newest) = &mut newest {
                    newest[row] = Some(time);
                }
                if self.age.within(time, self.index.times[slot]) {
                    chosen[row] = next - 1;
                }
            }
        }
        Choice { rows: chosen, newest }
    }
}

fn number(numbers: &Int64Array, row: usize) -> Option<i64> {
    numbers.is_valid(row).then(|| numbers.value(row))
}
