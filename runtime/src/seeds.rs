//! Chance, always from a seed that somebody wrote down.

use domain::Digest;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// A generator for one purpose: the same `seed` and `purpose` give the same stream on every machine, and
/// two purposes under one seed give unrelated streams, so adding a draw in one place moves no other.
#[must_use]
pub fn seeded(seed: u64, purpose: &str) -> ChaCha8Rng {
    let mixed = Digest::of_parts([seed.to_le_bytes().as_slice(), purpose.as_bytes()]);
    ChaCha8Rng::from_seed(*mixed.as_bytes())
}

#[cfg(test)]
mod tests {
    use rand::Rng;

    use super::*;

    #[test]
    fn a_seed_replays_exactly_and_purposes_do_not_meet() {
        let draw = |seed, purpose| seeded(seed, purpose).next_u64();
        assert_eq!(draw(7, "split"), draw(7, "split"));
        assert_ne!(draw(7, "split"), draw(7, "weights"));
        assert_ne!(draw(7, "split"), draw(8, "split"));
    }
}
