//! A 64-bit hash of keys: folded multiplication, as in wyhash and foldhash, under a seed nobody outside knows.
//! It only ever narrows a search; equality is always checked on the keys themselves.

use std::hash::{BuildHasher as _, RandomState};

const MIX: u64 = 0x9E37_79B9_7F4A_7C15;
const TAIL: u64 = 0xA076_1D64_78BD_642F;

#[derive(Debug, Clone, Copy)]
pub(super) struct Hashing {
    seed: u64,
    /// Bits of the hash that count.
    mask: u64,
}

impl Hashing {
    /// With only the lowest `bits` bits of each hash set, so that a test can make keys collide.
    pub(super) fn new(bits: u32) -> Self {
        let mask = if bits >= 64 { u64::MAX } else { (1 << bits) - 1 };
        Self { seed: RandomState::new().hash_one(MIX), mask }
    }

    pub(super) fn word(self, word: u64) -> u64 {
        fold(word ^ self.seed, MIX) & self.mask
    }

    pub(super) fn bytes(self, bytes: &[u8]) -> u64 {
        let mut hash = self.seed ^ bytes.len() as u64;
        let (words, tail) = bytes.as_chunks::<8>();
        for word in words {
            hash = fold(hash ^ u64::from_le_bytes(*word), MIX);
        }
        let mut last = [0; 8];
        last[..tail.len()].copy_from_slice(tail);
        fold(hash ^ u64::from_le_bytes(last), TAIL) & self.mask
    }

    /// The hash of a key whose columns so far hash to `one` and whose next column hashes to `other`.
    pub(super) fn both(self, one: u64, other: u64) -> u64 {
        fold(one.rotate_left(23) ^ self.seed ^ other, TAIL) & self.mask
    }
}

fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    #[expect(clippy::cast_possible_truncation, reason = "both halves are used")]
    let (low, high) = (product as u64, (product >> 64) as u64);
    low ^ high
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn neighbours_differ_in_the_bits_that_place_and_tag_them() {
        let hashing = Hashing::new(64);
        let hashes: Vec<u64> = (0..100_000).map(|n| hashing.word(n)).collect();
        // Random hashes into 2^20 places would leave about 95,368 distinct ones.
        let distinct = |bits: fn(u64) -> u64| hashes.iter().map(|hash| bits(*hash)).collect::<HashSet<_>>().len();
        assert!(distinct(|hash| hash & 0xF_FFFF) > 90_000);
        assert!(distinct(|hash| hash >> 44) > 90_000);
    }

    #[test]
    fn texts_that_begin_alike_differ() {
        let hashing = Hashing::new(64);
        let texts: Vec<String> =
            (0..10_000).map(|n| format!("customer-{n}")).chain((0..40).map(|n| "\0".repeat(n))).collect();
        let hashes: HashSet<u64> = texts.iter().map(|text| hashing.bytes(text.as_bytes())).collect();
        assert_eq!(hashes.len(), texts.len());
    }

    #[test]
    fn no_bits_make_all_keys_collide() {
        let hashing = Hashing::new(0);
        assert_eq!((hashing.word(1), hashing.bytes(b"a"), hashing.both(1, 2)), (0, 0, 0));
    }
}
