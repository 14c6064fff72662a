//! How many different values there are, in little memory: HyperLogLog.
//!
//! 4,096 registers (precision 12), so the standard error is 1.04 / sqrt(4096) = 1.6 %; far below 4,096 values the
//! error is that of a few hash collisions. Registers: Flajolet, Fusy, Gandouet and Meunier 2007. Estimate: Ertl
//! 2017, "New cardinality estimation algorithms for HyperLogLog sketches", algorithm 6 (no tables, no switch
//! between formulas). The state depends on the set of values alone, not on their order or on how parts were
//! merged.

use crate::bytes::{BadSketch, Reader};

/// Bits of the hash that choose the register.
const PRECISION: u32 = 12;
/// How many registers there are.
pub const REGISTERS: usize = 1 << PRECISION;
/// Bits of the hash that are left for the rank.
const REST: u32 = 64 - PRECISION;
/// More registers in use than this are kept as one byte each; up to it, three bytes for each one in use.
const SPARSE_MAX: usize = REGISTERS / 3;

const VERSION: u8 = 1;
const SPARSE: u8 = 0;
const DENSE: u8 = 1;

/// A set of values as far as their number goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HyperLogLog(Registers);

/// Always sparse up to `SPARSE_MAX` registers in use, so equal sets are equal states.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Registers {
    /// Register and rank, by register.
    Sparse(Vec<(u16, u8)>),
    Dense(Vec<u8>),
}

impl Default for HyperLogLog {
    fn default() -> Self {
        Self(Registers::Sparse(Vec::new()))
    }
}

/// 64 bits of a value's bytes, the same in every process and version: FNV-1a, then the finaliser of `MurmurHash3`.
#[must_use]
pub fn hash(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    let mut hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325, step);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

impl HyperLogLog {
    /// Adds a value by its [`hash`].
    pub fn insert(&mut self, hash: u64) {
        let register = (hash >> REST) as u16;
        // The number of leading zeros in the rest, and one.
        let rank = (hash << PRECISION).leading_zeros().min(REST) + 1;
        #[expect(clippy::cast_possible_truncation, reason = "at most 53")]
        self.raise(register, rank as u8);
    }

    /// Adds all values that `other` has seen.
    pub fn merge(&mut self, other: &Self) {
        match &other.0 {
            Registers::Sparse(used) => used.iter().for_each(|(register, rank)| self.raise(*register, *rank)),
            Registers::Dense(ranks) => {
                let mine = self.dense();
                mine.iter_mut().zip(ranks).for_each(|(mine, theirs)| *mine = (*mine).max(*theirs));
            }
        }
    }

    #[must_use]
    pub const fn is_empty(&self) -> bool {
        matches!(&self.0, Registers::Sparse(used) if used.is_empty())
    }

    /// The number of different values, rounded.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an estimate is finite and not negative"
    )]
    pub fn estimate(&self) -> u64 {
        let mut counts = [0u32; REST as usize + 2];
        match &self.0 {
            Registers::Sparse(used) => {
                counts[0] = (REGISTERS - used.len()) as u32;
                used.iter().for_each(|(_, rank)| counts[*rank as usize] += 1);
            }
            Registers::Dense(ranks) => ranks.iter().for_each(|rank| counts[*rank as usize] += 1),
        }
        let m = REGISTERS as f64;
        let mut z = m * tau(1.0 - f64::from(counts[REST as usize + 1]) / m);
        for count in counts[1..=REST as usize].iter().rev() {
            z = 0.5 * (z + f64::from(*count));
        }
        z += m * sigma(f64::from(counts[0]) / m);
        (m * m / (2.0 * std::f64::consts::LN_2 * z)).round() as u64
    }

    /// The state as bytes: a version, a form, and the registers.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        match &self.0 {
            Registers::Sparse(used) => {
                let mut out = vec![VERSION, SPARSE];
                for (register, rank) in used {
                    out.extend_from_slice(&register.to_le_bytes());
                    out.push(*rank);
                }
                out
            }
            Registers::Dense(ranks) => [&[VERSION, DENSE], ranks.as_slice()].concat(),
        }
    }

    /// Reads what [`to_bytes`](Self::to_bytes) wrote.
    ///
    /// # Errors
    /// [`BadSketch`] for anything else.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, BadSketch> {
        let mut reader = Reader::versioned(bytes, VERSION)?;
        let lawful = |rank: u8| (1..=REST + 1).contains(&u32::from(rank));
        match reader.byte()? {
            SPARSE => {
                let mut used: Vec<(u16, u8)> = Vec::with_capacity(reader.left() / 3);
                while reader.left() > 0 {
                    let (register, rank) = (u16::from_le_bytes([reader.byte()?, reader.byte()?]), reader.byte()?);
                    let ordered = used.last().is_none_or(|(before, _)| *before < register);
                    if !ordered || usize::from(register) >= REGISTERS || !lawful(rank) {
                        return Err(BadSketch("a register out of place"));
                    }
                    used.push((register, rank));
                }
                if used.len() > SPARSE_MAX {
                    return Err(BadSketch("too many registers"));
                }
                Ok(Self(Registers::Sparse(used)))
            }
            DENSE => {
                let ranks = reader.rest();
                let used = ranks.iter().filter(|rank| lawful(**rank)).count();
                let zero = ranks.iter().filter(|rank| **rank == 0).count();
                if ranks.len() != REGISTERS || used + zero != REGISTERS || used <= SPARSE_MAX {
                    return Err(BadSketch("registers of a wrong number or rank"));
                }
                Ok(Self(Registers::Dense(ranks.to_vec())))
            }
            _ => Err(BadSketch("an unknown form")),
        }
    }

    fn raise(&mut self, register: u16, rank: u8) {
        match &mut self.0 {
            Registers::Dense(ranks) => {
                let mine = &mut ranks[usize::from(register)];
                *mine = (*mine).max(rank);
            }
            Registers::Sparse(used) => match used.binary_search_by_key(&register, |(register, _)| *register) {
                Ok(at) => used[at].1 = used[at].1.max(rank),
                Err(at) if used.len() < SPARSE_MAX => used.insert(at, (register, rank)),
                Err(_) => self.dense()[usize::from(register)] = rank,
            },
        }
    }

    /// All registers, one byte each from now on. Only for a state that is about to have more than `SPARSE_MAX`.
    fn dense(&mut self) -> &mut Vec<u8> {
        if let Registers::Sparse(used) = &self.0 {
            let mut ranks = vec![0; REGISTERS];
            used.iter().for_each(|(register, rank)| ranks[usize::from(*register)] = *rank);
            self.0 = Registers::Dense(ranks);
        }
        match &mut self.0 {
            Registers::Dense(ranks) => ranks,
            Registers::Sparse(_) => unreachable!("it was made dense above"),
        }
    }
}

/// Ertl 2017, algorithm 6: x + sum of x^(2^k) 2^(k-1).
fn sigma(mut x: f64) -> f64 {
    if x >= 1.0 {
        return f64::INFINITY;
    }
    let (mut y, mut z) = (1.0, x);
    loop {
        x *= x;
        let before = z;
        z += x * y;
        y += y;
        if z <= before {
            return z;
        }
    }
}

/// Ertl 2017, algorithm 6: (1 - x - sum of (1 - x^(2^-k))^2 2^-k) / 3.
fn tau(mut x: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return 0.0;
    }
    let (mut y, mut z) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = z;
        y *= 0.5;
        z -= (1.0 - x) * (1.0 - x) * y;
        if z >= before {
            return z / 3.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(values: impl IntoIterator<Item = u64>) -> HyperLogLog {
        let mut sketch = HyperLogLog::default();
        values.into_iter().for_each(|value| sketch.insert(hash(&value.to_le_bytes())));
        sketch
    }

    #[test]
    fn the_error_stays_within_four_standard_errors() {
        for n in [0u64, 1, 2, 10, 100, 1_000, 3_000, 10_000, 50_000, 300_000] {
            for seed in 0..5u64 {
                let found = of((0..n).map(|value| value + seed * 1_000_000_007)).estimate();
                let off = (found as f64 - n as f64).abs();
                let limit = (4.0 * 1.04 / (REGISTERS as f64).sqrt() * n as f64).max(f64::from(u8::from(n > 2)));
                assert!(off <= limit, "{n} values, seed {seed}: {found}");
            }
        }
    }

    #[test]
    fn a_dense_state_comes_back_and_merges_with_a_sparse_one() {
        let (large, small) = (of(0..20_000), of(19_990..20_010));
        let (mut left, mut right) = (large.clone(), small.clone());
        left.merge(&small);
        right.merge(&large);
        assert_eq!(left, right);
        assert_eq!(left, of(0..20_010));
        assert_eq!(HyperLogLog::from_bytes(&left.to_bytes()).unwrap(), left);
        assert!(HyperLogLog::from_bytes(&left.to_bytes()[..100]).is_err());
    }

    #[test]
    fn the_hash_does_not_change_between_versions() {
        assert_eq!(hash(b""), 0xefd0_1f60_ba99_2926);
        assert_eq!(hash(b"JFK"), 0xf4b5_b877_930f_1bfe);
    }

    proptest! {
        #[test]
        fn parts_merge_in_any_order_to_the_same_state(
            values in prop::collection::vec(0u64..5_000, 0..3_000), cut in 0usize..3_000, second in 0usize..3_000,
        ) {
            let (a, b) = (cut.min(values.len()), second.min(values.len()));
            let (a, b) = (a.min(b), a.max(b));
            let parts = [of(values[..a].to_vec()), of(values[a..b].to_vec()), of(values[b..].to_vec())];
            let merged = |order: [usize; 3]| {
                let mut all = HyperLogLog::default();
                order.iter().for_each(|part| all.merge(&parts[*part]));
                all
            };
            let whole = of(values.iter().rev().copied());
            prop_assert_eq!(&merged([0, 1, 2]), &whole);
            prop_assert_eq!(&merged([2, 0, 1]), &whole);
            let mut inner = parts[1].clone();
            inner.merge(&parts[2]);
            inner.merge(&parts[0]);
            prop_assert_eq!(&inner, &whole);
            prop_assert_eq!(HyperLogLog::from_bytes(&whole.to_bytes()).unwrap(), whole);
        }

        #[test]
        fn foreign_bytes_are_refused_or_written_back_as_they_were(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(sketch) = HyperLogLog::from_bytes(&bytes) {
                prop_assert_eq!(sketch.to_bytes(), bytes);
            }
        }
    }
}
