//! The chi-square test that two samples fall into the same cells in the same proportions.

use serde::{Deserialize, Serialize};

use crate::special::gamma_q;

/// Chance that chi-square with `df` > 0 degrees of freedom is above `x`: Q(df/2, x/2) (DLMF 8.2.4;
/// Abramowitz and Stegun 26.4.19).
#[must_use]
pub fn chi2_sf(x: f64, df: f64) -> f64 {
    gamma_q(df / 2.0, x / 2.0)
}

/// Pearson's statistic and what it says.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Chi2 {
    pub statistic: f64,
    /// Cells in use less one.
    pub df: u64,
    /// p-value of equal proportions; 1 when all rows of both fall into one cell.
    pub p: f64,
}

/// Pearson's chi-square test of homogeneity of two samples over the same cells (Pearson 1911; without
/// continuity correction). Both samples count as random, unlike in a goodness-of-fit test against the
/// reference, which alarms without cause when the reference is small. Cells empty in both are left out.
///
/// Trustworthy from about 5 expected rows per cell: see [`pool_rare`](crate::pool_rare). `None` when either
/// sample is empty.
///
/// # Panics
/// When the numbers of cells differ.
#[must_use]
pub fn chi2_homogeneity(reference: &[u64], current: &[u64]) -> Option<Chi2> {
    assert_eq!(reference.len(), current.len(), "both samples have the same cells");
    let (n, m) = (reference.iter().sum::<u64>() as f64, current.iter().sum::<u64>() as f64);
    if n == 0.0 || m == 0.0 {
        return None;
    }
    let mut used = 0;
    let mut statistic = 0.0;
    for (r, c) in reference.iter().zip(current).filter(|(r, c)| **r + **c > 0) {
        let (r, c) = (*r as f64, *c as f64);
        used += 1;
        // Both squared distances from expectation at once: (r m - c n)^2 / (n m (r + c)).
        statistic += (r * m - c * n).powi(2) / (n * m * (r + c));
    }
    let df = used - 1;
    let p = if df == 0 { 1.0 } else { chi2_sf(statistic, df as f64) };
    Some(Chi2 { statistic, df, p })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn published_tails() {
        // Critical values at 5 % and 1 % as in any printed table; far tail by scipy 1.17.
        for (x, df, wanted) in [
            (3.841_458_820_694_124, 1.0, 0.05),
            (5.991_464_547_107_979, 2.0, 0.05),
            (74.919_474_308_478_14, 49.0, 0.01),
            (1_000.0, 20.0, 3.904_796_639_121_344_5e-199),
        ] {
            assert!((chi2_sf(x, df) / wanted - 1.0).abs() < 1e-10, "{x} {df}: {}", chi2_sf(x, df));
        }
        assert_eq!(chi2_sf(0.0, 3.0), 1.0);
    }

    #[test]
    fn a_table_worked_by_scipy() {
        // scipy.stats.chi2_contingency([[100, 200, 300, 5], [30, 40, 45, 35]], correction=False)
        let found = chi2_homogeneity(&[100, 200, 300, 5, 0], &[30, 40, 45, 35, 0]).expect("rows");
        assert!((found.statistic - 127.402_844_383_328_56).abs() < 1e-9, "{found:?}");
        assert_eq!(found.df, 3);
        assert!((found.p / 1.962_108_637_906_553_8e-27 - 1.0).abs() < 1e-9, "{found:?}");
    }

    #[test]
    fn a_constant_column_is_no_drift_and_no_nan() {
        let same = chi2_homogeneity(&[0, 500, 0], &[0, 20, 0]).expect("rows");
        assert_eq!((same.statistic, same.df, same.p), (0.0, 0, 1.0));
        assert_eq!(chi2_homogeneity(&[0, 0], &[1, 2]), None);
        assert_eq!(chi2_homogeneity(&[], &[]), None);
    }

    /// The definition: observed less expected, squared, over expected, for all 2 k cells.
    fn by_definition(reference: &[u64], current: &[u64]) -> f64 {
        let (n, m) = (reference.iter().sum::<u64>() as f64, current.iter().sum::<u64>() as f64);
        let rows = reference.iter().zip(current).flat_map(|(r, c)| {
            let share = (*r + *c) as f64 / (n + m);
            [(*r as f64, n * share), (*c as f64, m * share)]
        });
        rows.filter(|(_, expected)| *expected > 0.0).map(|(seen, expected)| (seen - expected).powi(2) / expected).sum()
    }

    proptest! {
        #![proptest_config(crate::testing::fixed())]

        #[test]
        fn the_short_formula_is_the_definition(cells in prop::collection::vec((0u64..500, 0u64..500), 2..20)) {
            let (reference, current): (Vec<u64>, Vec<u64>) = cells.into_iter().unzip();
            if let Some(found) = chi2_homogeneity(&reference, &current) {
                let wanted = by_definition(&reference, &current);
                prop_assert!((found.statistic - wanted).abs() <= 1e-9 * (1.0 + wanted));
                prop_assert!((0.0..=1.0).contains(&found.p));
                let swapped = chi2_homogeneity(&current, &reference).expect("rows");
                prop_assert!((found.statistic - swapped.statistic).abs() <= 1e-9 * (1.0 + wanted));
            }
        }
    }
}
