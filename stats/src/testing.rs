//! What the property tests of this crate share.

use proptest::{prelude::ProptestConfig, test_runner::RngSeed};

/// The same cases on every run, and no files left behind.
pub(crate) fn fixed() -> ProptestConfig {
    ProptestConfig { rng_seed: RngSeed::Fixed(11), failure_persistence: None, ..ProptestConfig::default() }
}
