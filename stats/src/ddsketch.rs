//! Quantiles in little memory: `DDSketch` (Masson, Rim and Lee 2019, "`DDSketch`: a fast and fully-mergeable quantile
//! sketch with relative-error guarantees").
//!
//! A quantile is found within 1 % of the true value ([`ACCURACY`]). Values are counted in bins whose bounds grow
//! by the factor 1.01 / 0.99; magnitudes below 1e-9 count as zero. Bins are never collapsed, so the state depends
//! on the values alone, not on their order or on how parts were merged. A bin costs about three bytes; values
//! across nine orders of magnitude have at most 1,040 of them on each side of zero.

use std::cmp::Ordering;

use crate::bytes::{BadSketch, Reader, push_number};

/// Greatest relative error of a quantile.
pub const ACCURACY: f64 = 0.01;
/// Lesser magnitudes count as zero.
pub const LEAST: f64 = 1e-9;

const GAMMA: f64 = (1.0 + ACCURACY) / (1.0 - ACCURACY);
const VERSION: u8 = 1;

/// Counts of values by bin.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DdSketch {
    /// Bin and count, in order of value: 0 holds zero, 1 the least positive values, -1 the least negative ones.
    bins: Vec<(i32, u64)>,
}

/// The paper's index of the bin that holds `LEAST`: the one before bin 1.
fn base() -> f64 {
    (LEAST.ln() / GAMMA.ln()).ceil() - 1.0
}

#[expect(clippy::cast_possible_truncation, reason = "a float's logarithm is small")]
fn bin(value: f64) -> i32 {
    let size = value.abs();
    if size < LEAST {
        return 0;
    }
    let index = ((size.ln() / GAMMA.ln()).ceil() - base()) as i32;
    if value < 0.0 { -index } else { index }
}

/// The value that is within `ACCURACY` of all that fall into the bin.
fn middle(bin: i32) -> f64 {
    if bin == 0 {
        return 0.0;
    }
    let index = f64::from(bin.abs()) + base();
    let size = (index * GAMMA.ln() + (2.0 / (GAMMA + 1.0)).ln()).exp().min(f64::MAX);
    if bin < 0 { -size } else { size }
}

impl DdSketch {
    /// Counts a value, which must be finite; others are left out.
    pub fn insert(&mut self, value: f64) {
        if value.is_finite() {
            let bin = bin(value);
            match self.bins.binary_search_by_key(&bin, |(bin, _)| *bin) {
                Ok(at) => self.bins[at].1 += 1,
                Err(at) => self.bins.insert(at, (bin, 1)),
            }
        }
    }

    /// Counts all values that `other` has counted.
    pub fn merge(&mut self, other: &Self) {
        if other.bins.is_empty() {
            return;
        }
        let mine = std::mem::take(&mut self.bins);
        self.bins.reserve(mine.len().max(other.bins.len()));
        let (mut left, mut right) = (mine.into_iter().peekable(), other.bins.iter().copied().peekable());
        while let (Some(a), Some(b)) = (left.peek().copied(), right.peek().copied()) {
            let next = match a.0.cmp(&b.0) {
                Ordering::Less => a,
                Ordering::Greater => b,
                Ordering::Equal => (a.0, a.1.saturating_add(b.1)),
            };
            self.bins.push(next);
            left.next_if(|(bin, _)| *bin == next.0);
            right.next_if(|(bin, _)| *bin == next.0);
        }
        self.bins.extend(left);
        self.bins.extend(right);
    }

    #[must_use]
    pub fn count(&self) -> u64 {
        self.bins.iter().fold(0, |sum, (_, count)| sum.saturating_add(*count))
    }

    /// The value at rank `q (n - 1)` of the n sorted values, rounded down, within [`ACCURACY`]; `None` without
    /// values. `q` from 0 (least) to 1 (greatest).
    #[must_use]
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let count = self.count();
        let rank = q.clamp(0.0, 1.0) * count.checked_sub(1)? as f64;
        let mut below = 0u64;
        for (bin, count) in &self.bins {
            below = below.saturating_add(*count);
            if below as f64 > rank {
                return Some(middle(*bin));
            }
        }
        self.bins.last().map(|(bin, _)| middle(*bin))
    }

    /// The state as bytes: a version, then per bin the distance from the one before and the count.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(1 + 3 * self.bins.len());
        out.push(VERSION);
        let mut before = None;
        for (bin, count) in &self.bins {
            let bin = i64::from(*bin);
            // The first one is counted from zero, its sign in the last bit.
            let distance = before.map_or((bin << 1) ^ (bin >> 63), |before| bin - before);
            push_number(&mut out, distance.cast_unsigned());
            push_number(&mut out, *count);
            before = Some(bin);
        }
        out
    }

    /// Reads what [`to_bytes`](Self::to_bytes) wrote.
    ///
    /// # Errors
    /// [`BadSketch`] for anything else.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, BadSketch> {
        let wrong = BadSketch("a bin out of place");
        let mut reader = Reader::versioned(bytes, VERSION)?;
        let mut bins: Vec<(i32, u64)> = Vec::with_capacity(reader.left() / 2);
        while reader.left() > 0 {
            let (distance, count) = (reader.number()?, reader.number()?);
            let bin = match bins.last() {
                None => (distance >> 1).cast_signed() ^ -(distance & 1).cast_signed(),
                Some(_) if distance == 0 => return Err(wrong),
                Some((before, _)) => i64::from(*before).checked_add_unsigned(distance).ok_or(wrong)?,
            };
            if count == 0 {
                return Err(BadSketch("an empty bin"));
            }
            bins.push((i32::try_from(bin).map_err(|_| wrong)?, count));
        }
        Ok(Self { bins })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(values: &[f64]) -> DdSketch {
        let mut sketch = DdSketch::default();
        values.iter().for_each(|value| sketch.insert(*value));
        sketch
    }

    fn numbers() -> impl Strategy<Value = Vec<f64>> {
        let number = prop_oneof![-1e9..1e9, -1.0..1.0, Just(0.0), -1e-8..1e-8, 1e-300..1e300];
        prop::collection::vec(number, 1..300)
    }

    #[test]
    fn an_empty_sketch_has_no_quantile_and_one_value_is_all_of_them() {
        assert_eq!(DdSketch::default().quantile(0.5), None);
        for value in [-3.5, 0.0, 1e-9, 7.0, f64::MAX, -f64::MAX, 1e-300] {
            let found = of(&[value]).quantile(0.3).unwrap();
            assert!((found - value).abs() <= (ACCURACY + 1e-9) * value.abs().max(LEAST), "{value}: {found}");
        }
        assert_eq!(of(&[f64::NAN, f64::INFINITY]).count(), 0);
    }

    proptest! {
        #[test]
        fn a_quantile_is_within_the_promised_accuracy(mut values in numbers(), q in 0.0..=1.0f64) {
            let found = of(&values).quantile(q).unwrap();
            values.sort_by(f64::total_cmp);
            let truth = values[(q * (values.len() - 1) as f64).floor() as usize];
            let limit = (ACCURACY + 1e-9) * truth.abs().max(LEAST / ACCURACY);
            prop_assert!((found - truth).abs() <= limit, "{} instead of {}", found, truth);
        }

        #[test]
        fn parts_merge_in_any_order_to_the_same_state(values in numbers(), cut in 0usize..300) {
            let cut = cut.min(values.len());
            let (mut left, mut right) = (of(&values[..cut]), of(&values[cut..]));
            let whole = of(&values.iter().rev().copied().collect::<Vec<_>>());
            let (a, b) = (left.clone(), right.clone());
            left.merge(&b);
            right.merge(&a);
            prop_assert_eq!(&left, &whole);
            prop_assert_eq!(&right, &whole);
            prop_assert_eq!(whole.count(), values.len() as u64);
            prop_assert_eq!(DdSketch::from_bytes(&whole.to_bytes()).unwrap(), whole);
        }

        #[test]
        fn foreign_bytes_are_refused_or_written_back_as_they_were(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(sketch) = DdSketch::from_bytes(&bytes) {
                prop_assert_eq!(sketch.to_bytes(), bytes);
            }
        }

        #[test]
        fn cut_bytes_are_refused_or_hold_fewer_bins(values in numbers(), cut in 0usize..2_000) {
            let bytes = of(&values).to_bytes();
            let cut = cut.min(bytes.len());
            if let Ok(sketch) = DdSketch::from_bytes(&bytes[..cut]) {
                prop_assert_eq!(sketch.to_bytes(), bytes[..cut].to_vec());
            }
        }
    }
}
