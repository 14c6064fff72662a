//! Intervals around a share.

use serde::{Deserialize, Serialize};

use crate::normal_quantile;

/// From `lower` to `upper`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    pub lower: f64,
    pub upper: f64,
}

/// Wilson's score interval for a share seen as `successes` of `trials` (Wilson, JASA 22, 1927), at a
/// two-sided `confidence` above 0 and below 1. `None` without trials or with more successes than trials.
///
/// ```
/// let interval = stats::wilson(0, 10, 0.95).unwrap();
/// assert_eq!(interval.lower, 0.0);
/// assert!((interval.upper - 0.2775).abs() < 1e-4);
/// ```
#[must_use]
pub fn wilson(successes: u64, trials: u64, confidence: f64) -> Option<Interval> {
    if trials == 0 || successes > trials {
        return None;
    }
    let z = normal_quantile(0.5 + confidence / 2.0);
    let (n, share) = (trials as f64, successes as f64 / trials as f64);
    let shrink = 1.0 + z * z / n;
    let middle = (share + z * z / (2.0 * n)) / shrink;
    let half = z / shrink * (share * (1.0 - share) / n + z * z / (4.0 * n * n)).sqrt();
    // At the ends the formula gives the end exactly, but for rounding.
    let lower = if successes == 0 { 0.0 } else { (middle - half).max(0.0) };
    let upper = if successes == trials { 1.0 } else { (middle + half).min(1.0) };
    Some(Interval { lower, upper })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn published_values() {
        // Newcombe, Statistics in Medicine 17 (1998), table I, method 3 (score).
        for (successes, trials, lower, upper) in
            [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)]
        {
            let found = wilson(successes, trials, 0.95).expect("trials");
            assert!((found.lower - lower).abs() < 6e-5 && (found.upper - upper).abs() < 6e-5, "{found:?}");
        }
        assert_eq!((wilson(0, 0, 0.95), wilson(2, 1, 0.95)), (None, None));
    }

    proptest! {
        #![proptest_config(crate::testing::fixed())]

        #[test]
        fn the_interval_holds_the_share_and_stays_lawful(trials in 1u64..10_000, part in 0.0f64..=1.0) {
            let successes = (trials as f64 * part) as u64;
            let Interval { lower, upper } = wilson(successes, trials, 0.95).expect("trials");
            let share = successes as f64 / trials as f64;
            prop_assert!(0.0 <= lower && lower <= share && share <= upper && upper <= 1.0);
        }
    }
}
