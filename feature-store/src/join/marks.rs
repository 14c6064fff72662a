//! Which rows of a table were chosen, a bit for each, and how many stand before each.

use arrow::{
    array::BooleanArray,
    buffer::{BooleanBuffer, Buffer},
};

/// A row of a table: its unit above, its row in the unit below. Addresses sort in order of ingestion.
pub(super) type Address = u64;

/// No row.
pub(super) const NOWHERE: Address = u64::MAX;

pub(super) const fn address(unit: usize, row: usize) -> Address {
    (unit as u64) << 32 | row as u64
}

#[expect(clippy::cast_possible_truncation, reason = "both halves were made of these")]
pub(super) const fn unit_and_row(address: Address) -> (usize, usize) {
    ((address >> 32) as usize, address as u32 as usize)
}

/// Bits of the rows of each unit; units without a chosen row cost nothing.
pub(super) struct Marks(Vec<Option<Unit>>);

struct Unit {
    bits: Vec<u64>,
    /// Set bits before each word.
    before: Vec<u32>,
    rows: usize,
}

impl Marks {
    /// Marks the rows of `chosen`; `rows` of a unit says how many it has.
    pub(super) fn of(chosen: &[Address], units: usize, rows: impl Fn(usize) -> usize) -> Self {
        let mut all: Vec<Option<Unit>> = (0..units).map(|_| None).collect();
        for (unit, row) in chosen.iter().filter(|at| **at != NOWHERE).map(|at| unit_and_row(*at)) {
            let marks = all[unit].get_or_insert_with(|| {
                let rows = rows(unit);
                Unit { bits: vec![0; rows.div_ceil(64)], before: Vec::new(), rows }
            });
            marks.bits[row / 64] |= 1 << (row % 64);
        }
        for unit in all.iter_mut().flatten() {
            unit.before = unit
                .bits
                .iter()
                .scan(0, |sum, word| {
                    let before = *sum;
                    *sum += word.count_ones();
                    Some(before)
                })
                .collect();
        }
        Self(all)
    }

    /// The address among the marked rows only.
    pub(super) fn dense(&self, at: Address) -> Address {
        if at == NOWHERE {
            return NOWHERE;
        }
        let (unit, row) = unit_and_row(at);
        self.0[unit].as_ref().map_or(NOWHERE, |marks| {
            let below = marks.bits[row / 64] & ((1 << (row % 64)) - 1);
            address(unit, (marks.before[row / 64] + below.count_ones()) as usize)
        })
    }

    /// Marked rows of the unit.
    pub(super) fn count(&self, unit: usize) -> usize {
        let last =
            |marks: &Unit| marks.before.last().zip(marks.bits.last()).map_or(0, |(n, word)| n + word.count_ones());
        self.0[unit].as_ref().map_or(0, last) as usize
    }

    /// The unit's marks, a bit for each of its rows; `None` where none is set.
    pub(super) fn mask(&self, unit: usize) -> Option<BooleanBuffer> {
        let marks = self.0[unit].as_ref()?;
        Some(BooleanBuffer::new(Buffer::from_vec(marks.bits.clone()), 0, marks.rows))
    }

    /// The same as a filter.
    pub(super) fn filter(&self, unit: usize) -> Option<BooleanArray> {
        self.mask(unit).map(|mask| BooleanArray::new(mask, None))
    }

    /// Units with a marked row, in order.
    pub(super) fn units(&self) -> Vec<usize> {
        (0..self.0.len()).filter(|unit| self.0[*unit].is_some()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dense_addresses_count_the_marked_rows_before() {
        let chosen = [address(2, 130), NOWHERE, address(0, 5), address(2, 0), address(2, 130), address(2, 63)];
        let marks = Marks::of(&chosen, 4, |_| 200);
        let dense: Vec<Address> = chosen.iter().map(|at| marks.dense(*at)).collect();
        assert_eq!(dense, [address(2, 2), NOWHERE, address(0, 0), address(2, 0), address(2, 2), address(2, 1)]);
        assert_eq!([0, 1, 2, 3].map(|unit| marks.count(unit)), [1, 0, 3, 0]);
        assert_eq!(marks.units(), [0, 2]);
        let mask = marks.mask(2).unwrap();
        assert_eq!((mask.len(), mask.set_indices().collect::<Vec<_>>()), (200, vec![0, 63, 130]));
        assert!(marks.mask(1).is_none());
    }
}
