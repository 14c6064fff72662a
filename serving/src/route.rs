//! Which version answers a row, and whether the row is logged: both by hash of what identifies it.
//!
//! The hash is SHA-256 over the length-prefixed endpoint name and key (`Digest::of_parts`). Its first eight
//! bytes, little-endian, choose the target; the next eight choose the sample, so the two are independent.
//! Neither may ever change: a caller who was given version 3 yesterday is given version 3 tomorrow.

use domain::{Digest, EndpointName};
use serde::{Deserialize, Serialize};

/// A version and its share of the traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    pub version: u32,
    /// 0 to 100; those of an endpoint add up to 100.
    pub percent: u32,
}

/// Where a row falls: fixed by the endpoint and the row's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lot {
    route: u64,
    sample: u64,
}

impl Lot {
    #[must_use]
    pub fn draw(endpoint: &EndpointName, key: &str) -> Self {
        let digest = Digest::of_parts([endpoint.as_str().as_bytes(), key.as_bytes()]);
        let word = |at: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&digest.as_bytes()[at..at + 8]);
            u64::from_le_bytes(bytes)
        };
        Self { route: word(0), sample: word(8) }
    }

    /// Index of the target whose slice of the hundred holds this lot; targets lie side by side in the order given.
    /// `None` only where the percents add up to less than 100.
    #[must_use]
    pub fn target(self, targets: &[Target]) -> Option<usize> {
        let point = self.route % 100;
        let mut end = 0;
        targets.iter().position(|target| {
            end += u64::from(target.percent);
            point < end
        })
    }

    /// Whether the row is among the share `rate` (0 to 1) that is logged. A row of a smaller sample is in every larger one.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "53 bits are enough for a share")]
    pub fn sampled(self, rate: f64) -> bool {
        ((self.sample >> 11) as f64) / ((1u64 << 53) as f64) < rate
    }
}

/// Says why `targets` and `shadow` are no lawful split, if they are not.
pub(crate) fn check_split(targets: &[Target], shadow: &[u32]) -> Result<(), String> {
    let sum: u64 = targets.iter().map(|target| u64::from(target.percent)).sum();
    if sum != 100 {
        return Err(format!("the percents of the targets add up to {sum}, not to 100"));
    }
    // A target may be a shadow too: it then scores the rows that other targets answer.
    let answering: Vec<u32> = targets.iter().map(|target| target.version).collect();
    for (list, versions) in [("targets", answering.as_slice()), ("shadows", shadow)] {
        let mut seen = std::collections::BTreeSet::new();
        for version in versions {
            if *version == 0 {
                return Err("version 0 does not exist, versions count from 1".into());
            }
            if !seen.insert(version) {
                return Err(format!("version {version} stands twice among the {list}"));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint() -> EndpointName {
        "flight-delay".parse().unwrap()
    }

    #[test]
    fn the_hash_never_changes_between_releases() {
        // Computed once with Python's hashlib; a failure here means every caller would change versions.
        let lot = Lot::draw(&endpoint(), "UA1545|2013-01-01");
        assert_eq!((lot.route, lot.sample), (GOLDEN.0, GOLDEN.1));
    }

    const GOLDEN: (u64, u64) = (2_094_065_245_069_400_175, 18_402_022_577_404_022_277);

    #[test]
    fn shares_are_those_asked_for_and_independent_of_the_sample() {
        let targets = [Target { version: 1, percent: 70 }, Target { version: 2, percent: 30 }];
        let (mut second, mut sampled, mut both) = (0u32, 0u32, 0u32);
        for i in 0..20_000 {
            let lot = Lot::draw(&endpoint(), &format!("flight-{i}"));
            let to_second = lot.target(&targets) == Some(1);
            let logged = lot.sampled(0.25);
            second += u32::from(to_second);
            sampled += u32::from(logged);
            both += u32::from(to_second && logged);
        }
        // Five standard deviations of a binomial with n = 20,000.
        assert!((5_676..=6_324).contains(&second), "{second}");
        assert!((4_694..=5_306).contains(&sampled), "{sampled}");
        assert!((1_314..=1_686).contains(&both), "{both}");
    }

    #[test]
    fn growing_a_share_moves_nobody_back() {
        let small = [Target { version: 2, percent: 10 }, Target { version: 1, percent: 90 }];
        let large = [Target { version: 2, percent: 40 }, Target { version: 1, percent: 60 }];
        for i in 0..5_000 {
            let lot = Lot::draw(&endpoint(), &i.to_string());
            if lot.target(&small) == Some(0) {
                assert_eq!(lot.target(&large), Some(0));
            }
        }
    }

    #[test]
    fn a_sample_of_all_or_nothing_is_exact() {
        for i in 0..1_000 {
            let lot = Lot::draw(&endpoint(), &i.to_string());
            assert!(lot.sampled(1.0));
            assert!(!lot.sampled(0.0));
        }
    }

    #[test]
    fn splits_that_are_no_splits_are_refused() {
        let t = |version, percent| Target { version, percent };
        assert!(check_split(&[t(1, 100)], &[2]).is_ok());
        assert!(check_split(&[t(1, 100), t(2, 0)], &[]).is_ok());
        assert!(check_split(&[t(1, 80), t(2, 20)], &[1]).is_ok());
        for (targets, shadow) in [
            (vec![], vec![]),
            (vec![t(1, 99)], vec![]),
            (vec![t(1, 60), t(2, 60)], vec![]),
            (vec![t(1, 50), t(1, 50)], vec![]),
            (vec![t(1, 100)], vec![2, 2]),
            (vec![t(0, 100)], vec![]),
            (vec![t(1, u32::MAX), t(2, 101)], vec![]),
        ] {
            assert!(check_split(&targets, &shadow).is_err(), "{targets:?} {shadow:?}");
        }
    }
}
