//! The normal distribution.

use crate::special::{gamma_q, invert_falling};

/// Chance that a standard normal value is at most `z`: Phi(z) = Q(1/2, z^2/2) / 2 for z < 0 (DLMF 7.11.2),
/// so small tails keep their digits.
#[must_use]
pub fn normal_cdf(z: f64) -> f64 {
    if z > 0.0 { 1.0 - normal_cdf(-z) } else { gamma_q(0.5, z * z / 2.0) / 2.0 }
}

/// Chance that a standard normal value is above `z`.
#[must_use]
pub fn normal_sf(z: f64) -> f64 {
    normal_cdf(-z)
}

/// The z with `normal_cdf(z) == p`; minus infinity at 0 and below, infinity at 1 and above.
///
/// ```
/// assert!((stats::normal_quantile(0.975) - 1.959964).abs() < 1e-6);
/// ```
#[must_use]
pub fn normal_quantile(p: f64) -> f64 {
    if p.is_nan() {
        f64::NAN
    } else if p <= 0.0 {
        f64::NEG_INFINITY
    } else if p >= 1.0 {
        f64::INFINITY
    } else if p < 0.5 {
        -invert_falling(normal_sf, p, 0.0, 40.0)
    } else if p == 0.5 {
        0.0
    } else {
        invert_falling(normal_sf, 1.0 - p, 0.0, 40.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn published_values() {
        // Abramowitz and Stegun, table 26.1.
        for (z, wanted) in [
            (0.0, 0.5),
            (1.0, 0.841_344_746_068_543),
            (2.0, 0.977_249_868_051_821),
            (-3.0, 0.001_349_898_031_630_095),
            (-6.0, 9.865_876_450_376_98e-10),
        ] {
            assert!((normal_cdf(z) / wanted - 1.0).abs() < 1e-12, "{z}: {}", normal_cdf(z));
        }
        for (p, wanted) in [
            (0.975, 1.959_963_984_540_054),
            (0.95, 1.644_853_626_951_472_7),
            (0.995, 2.575_829_303_548_901),
            (0.5, 0.0),
            (1e-10, -6.361_340_902_404_056),
        ] {
            assert!((normal_quantile(p) - wanted).abs() < 1e-12, "{p}: {}", normal_quantile(p));
        }
    }

    #[test]
    fn the_ends_are_infinite() {
        assert_eq!((normal_quantile(0.0), normal_quantile(1.0)), (f64::NEG_INFINITY, f64::INFINITY));
        assert_eq!((normal_cdf(f64::NEG_INFINITY), normal_cdf(f64::INFINITY)), (0.0, 1.0));
        assert!(normal_quantile(f64::NAN).is_nan());
    }

    proptest! {
        #![proptest_config(crate::testing::fixed())]

        #[test]
        fn quantile_undoes_cdf(z in -8.0f64..6.0) {
            prop_assert!((normal_quantile(normal_cdf(z)) - z).abs() < 1e-6);
        }
    }
}
