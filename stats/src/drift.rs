//! How far two samples differ, from the counts of rows per cell, and when to say so.
//!
//! Distances (PSI, KS, total variation) say how large a change is; the chi-square p-value says whether it
//! could be chance. [`drift_verdict`] wants both: with enough rows everything is significant, with few rows
//! everything is far.

use serde::{Deserialize, Serialize};

use crate::chi2_homogeneity;

/// Added to every cell before shares are taken for the PSI, so that an empty cell costs a finite amount
/// (Jeffreys' prior for a multinomial).
const PSI_PRIOR: f64 = 0.5;
/// Expected rows below which a cell is pooled with other rare ones (Cochran 1954).
pub const LEAST_EXPECTED: f64 = 5.0;

/// Population stability index: the sum over cells of (q - p) ln(q / p), p and q being the shares in
/// `reference` and `current` (Lewis, An Introduction to Credit Scoring, 1994; it is Jeffreys' divergence).
///
/// Small counts: each cell that either sample uses gets half a row more in both, p = (count + 0.5) / (rows + 0.5 k)
/// with k such cells, so an empty cell is finite and cells empty in both do not count. Without any drift
/// the PSI is still about [`psi_noise`]. `None` when either sample is empty.
///
/// # Panics
/// When the numbers of cells differ.
#[must_use]
pub fn psi(reference: &[u64], current: &[u64]) -> Option<f64> {
    let (n, m) = totals(reference, current)?;
    let used = || reference.iter().zip(current).filter(|(r, c)| **r + **c > 0);
    let prior = PSI_PRIOR * used().count() as f64;
    let sum = used().map(|(r, c)| {
        let p = (*r as f64 + PSI_PRIOR) / (n + prior);
        let q = (*c as f64 + PSI_PRIOR) / (m + prior);
        (q - p) * (q / p).ln()
    });
    Some(sum.sum())
}

/// What the PSI is on average when nothing has changed: (cells - 1) (1 / rows + 1 / rows), as the PSI is then
/// a chi-square divided by the rows (Yurdakul and Naranjo, Journal of Risk Model Validation 14, 2020).
#[must_use]
pub fn psi_noise(cells: u64, reference_rows: u64, current_rows: u64) -> f64 {
    cells.saturating_sub(1) as f64 * (1.0 / reference_rows as f64 + 1.0 / current_rows as f64)
}

/// Mean PSI weighted by importance, from (psi, importance) pairs; importances below 0 count as 0.
/// `None` when no weight is left.
#[must_use]
pub fn weighted_psi(columns: &[(f64, f64)]) -> Option<f64> {
    let weight: f64 = columns.iter().map(|(_, importance)| importance.max(0.0)).sum();
    (weight > 0.0).then(|| columns.iter().map(|(psi, importance)| psi * importance.max(0.0)).sum::<f64>() / weight)
}

/// Kolmogorov and Smirnov's distance from binned counts: the largest difference of the two cumulative shares
/// at an edge. Cells must be in the order of their values. Never larger than the distance of the raw values.
/// `None` when either sample is empty.
///
/// # Panics
/// When the numbers of cells differ.
#[must_use]
pub fn ks(reference: &[u64], current: &[u64]) -> Option<f64> {
    let (n, m) = totals(reference, current)?;
    let (mut below_r, mut below_c, mut most) = (0u64, 0u64, 0.0f64);
    for (r, c) in reference.iter().zip(current) {
        below_r += r;
        below_c += c;
        most = most.max((below_r as f64 / n - below_c as f64 / m).abs());
    }
    Some(most)
}

/// Total variation distance: half the sum of absolute differences of the shares, 0 to 1. The share of rows that
/// would have to move to another cell. `None` when either sample is empty.
///
/// # Panics
/// When the numbers of cells differ.
#[must_use]
pub fn total_variation(reference: &[u64], current: &[u64]) -> Option<f64> {
    let (n, m) = totals(reference, current)?;
    Some(reference.iter().zip(current).map(|(r, c)| (*r as f64 / n - *c as f64 / m).abs()).sum::<f64>() / 2.0)
}

/// What the total variation distance is on average when nothing has changed: half the sum over cells of
/// sqrt(2 / pi) sqrt(p (1 - p) (1 / n + 1 / m)) with p the share in both together, each difference being
/// about normal around 0. `None` when either sample is empty.
///
/// # Panics
/// When the numbers of cells differ.
#[must_use]
pub fn total_variation_noise(reference: &[u64], current: &[u64]) -> Option<f64> {
    let (n, m) = totals(reference, current)?;
    let spread = reference.iter().zip(current).map(|(r, c)| {
        let p = (*r + *c) as f64 / (n + m);
        (p * (1.0 - p) * (1.0 / n + 1.0 / m)).sqrt()
    });
    Some((2.0 / std::f64::consts::PI).sqrt() * spread.sum::<f64>() / 2.0)
}

/// Puts cells in which either sample expects fewer than `least` rows (at the share of both together) into
/// one last cell, so that chi-square and PSI are not made of noise. Cells empty in both disappear.
///
/// # Panics
/// When the numbers of cells differ.
#[must_use]
pub fn pool_rare(reference: &[u64], current: &[u64], least: f64) -> (Vec<u64>, Vec<u64>) {
    assert_eq!(reference.len(), current.len(), "both samples have the same cells");
    let (n, m) = (reference.iter().sum::<u64>() as f64, current.iter().sum::<u64>() as f64);
    let smaller = n.min(m);
    let (mut kept_r, mut kept_c, mut rare_r, mut rare_c) = (Vec::new(), Vec::new(), 0, 0);
    for (r, c) in reference.iter().zip(current) {
        if smaller * (*r + *c) as f64 >= least * (n + m) && *r + *c > 0 {
            kept_r.push(*r);
            kept_c.push(*c);
        } else {
            rare_r += r;
            rare_c += c;
        }
    }
    if rare_r + rare_c > 0 {
        kept_r.push(rare_r);
        kept_c.push(rare_c);
    }
    (kept_r, kept_c)
}

/// How one column's current window differs from its reference.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ColumnDrift {
    /// Rows of the current window, nulls too.
    pub rows: u64,
    /// Over all cells, nulls being one, rare ones pooled.
    pub psi: f64,
    /// Over the values that are there; absent for categories and where one side has none.
    pub ks: Option<f64>,
    /// Over all cells, nulls being one.
    pub total_variation: f64,
    /// Share of nulls now less share of nulls then.
    pub null_shift: f64,
    /// Of chi-square homogeneity over all cells, nulls being one, rare ones pooled; not corrected for the
    /// number of columns.
    pub p: f64,
    /// What the effect gate looks at, 0 to 1. Numeric: the larger of `ks` and the absolute `null_shift`.
    /// Categorical: the total variation less what chance alone would make it.
    pub effect: f64,
}

/// When drift counts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct DriftGate {
    /// Rows in the current window below which nothing is said.
    pub min_rows: u64,
    /// Chance of a false alarm in any of the columns of one report; shared out among them (Bonferroni).
    pub p: f64,
    /// Least `ColumnDrift::effect`.
    pub effect: f64,
}

impl Default for DriftGate {
    fn default() -> Self {
        Self { min_rows: 200, p: 0.01, effect: 0.1 }
    }
}

/// What is said about a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Too few rows to say anything.
    InsufficientData,
    Stable,
    Drifted,
}

impl Verdict {
    /// The verdict as it stands in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InsufficientData => "insufficient_data",
            Self::Stable => "stable",
            Self::Drifted => "drifted",
        }
    }
}

/// Two gates: the change must be too unlikely for chance (p below `gate.p / columns`, Bonferroni) and large
/// (effect at least `gate.effect`). `drift` is `None` where there were no rows at all; `columns` is the number
/// of columns judged in the same report.
#[must_use]
pub fn drift_verdict(drift: Option<&ColumnDrift>, columns: usize, gate: &DriftGate) -> Verdict {
    match drift {
        Some(drift) if drift.rows >= gate.min_rows => {
            let significant = drift.p < gate.p / columns.max(1) as f64;
            if significant && drift.effect >= gate.effect { Verdict::Drifted } else { Verdict::Stable }
        }
        _ => Verdict::InsufficientData,
    }
}

/// The p-value and PSI that a report shows: over cells pooled at [`LEAST_EXPECTED`].
pub(crate) fn pooled_p_and_psi(reference: &[u64], current: &[u64]) -> Option<(f64, f64)> {
    let (reference, current) = pool_rare(reference, current, LEAST_EXPECTED);
    Some((chi2_homogeneity(&reference, &current)?.p, psi(&reference, &current)?))
}

fn totals(reference: &[u64], current: &[u64]) -> Option<(f64, f64)> {
    assert_eq!(reference.len(), current.len(), "both samples have the same cells");
    let (n, m) = (reference.iter().sum::<u64>(), current.iter().sum::<u64>());
    (n > 0 && m > 0).then_some((n as f64, m as f64))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn near(found: Option<f64>, wanted: f64, within: f64) {
        let found = found.expect("a figure");
        assert!((found - wanted).abs() < within, "{found} is not {wanted}");
    }

    #[test]
    fn distances_worked_by_hand() {
        let (reference, current) = ([250, 250, 500], [50, 50, 0]);
        // Shares .25 .25 .5 against .5 .5 0.
        near(ks(&reference, &current), 0.5, 1e-12);
        near(total_variation(&reference, &current), 0.5, 1e-12);
        let terms = [(250.5 / 1001.5, 50.5 / 101.5), (250.5 / 1001.5, 50.5 / 101.5), (500.5 / 1001.5, 0.5 / 101.5)];
        let wanted: f64 = terms.iter().map(|(p, q): &(f64, f64)| (q - p) * (q / p).ln()).sum();
        near(psi(&reference, &current), wanted, 1e-12);
        // (.1 - .2) ln(.1 / .2) + (.9 - .8) ln(.9 / .8), counts so large that half a row is nothing.
        near(psi(&[20_000_000, 80_000_000], &[10_000_000, 90_000_000]), 0.081_093, 1e-6);
    }

    #[test]
    fn the_same_shares_are_no_distance() {
        let (reference, current) = ([1000, 2000, 3000], [100, 200, 300]);
        near(ks(&reference, &current), 0.0, 1e-12);
        near(total_variation(&reference, &current), 0.0, 1e-12);
        near(psi(&reference, &current), 0.0, 1e-4);
        for distance in [psi, ks, total_variation, total_variation_noise] {
            assert_eq!(distance(&[0, 0], &[1, 2]), None);
            assert_eq!(distance(&[1, 2], &[0, 0]), None);
            assert_eq!(distance(&[], &[]), None);
        }
    }

    #[test]
    fn rare_cells_are_pooled_and_empty_ones_vanish() {
        // 10,000 and 200 rows: a cell wants 255 rows of the 10,200 to expect 5 of the 200.
        let (reference, current) = ([9_000, 0, 600, 251, 149], [150, 0, 40, 3, 7]);
        let (pooled_r, pooled_c) = pool_rare(&reference, &current, 5.0);
        assert_eq!((pooled_r, pooled_c), (vec![9_000, 600, 400], vec![150, 40, 10]));
        assert_eq!(pool_rare(&[5, 5], &[0, 0], 5.0), (vec![10], vec![0]));
        assert_eq!(pool_rare(&[0], &[0], 5.0), (vec![], vec![]));
    }

    #[test]
    fn weighing_follows_importance() {
        near(weighted_psi(&[(0.4, 3.0), (0.0, 1.0), (9.0, -1.0)]), 0.3, 1e-12);
        assert_eq!((weighted_psi(&[]), weighted_psi(&[(0.4, 0.0)])), (None, None));
    }

    #[test]
    fn both_gates_must_open() {
        let drift = |rows, p, effect| ColumnDrift {
            rows,
            psi: 0.0,
            ks: None,
            total_variation: 0.0,
            null_shift: 0.0,
            p,
            effect,
        };
        let judge = |drift: &ColumnDrift| drift_verdict(Some(drift), 10, &DriftGate::default());
        assert_eq!(judge(&drift(500, 1e-4, 0.2)), Verdict::Drifted);
        assert_eq!(judge(&drift(500, 1e-4, 0.05)), Verdict::Stable);
        assert_eq!(judge(&drift(500, 5e-3, 0.2)), Verdict::Stable, "0.005 is not below 0.01 / 10");
        assert_eq!(judge(&drift(199, 1e-9, 0.9)), Verdict::InsufficientData);
        assert_eq!(drift_verdict(None, 0, &DriftGate::default()), Verdict::InsufficientData);
    }

    /// `rows` draws over cells of equal share.
    fn sample(cells: usize, rows: usize, chance: &mut ChaCha8Rng) -> Vec<u64> {
        let mut counts = vec![0; cells];
        for _ in 0..rows {
            counts[chance.next_u32() as usize % cells] += 1;
        }
        counts
    }

    #[test]
    fn without_drift_the_distances_are_their_stated_noise() {
        let mut chance = ChaCha8Rng::seed_from_u64(5);
        let (mut psis, mut tvs, mut noise, mut alarms) = (0.0, 0.0, 0.0, 0);
        for _ in 0..500 {
            let (reference, current) = (sample(10, 1_000, &mut chance), sample(10, 500, &mut chance));
            psis += psi(&reference, &current).expect("rows") / 500.0;
            tvs += total_variation(&reference, &current).expect("rows") / 500.0;
            noise += total_variation_noise(&reference, &current).expect("rows") / 500.0;
            alarms += u32::from(chi2_homogeneity(&reference, &current).expect("rows").p < 0.05);
        }
        let stated = psi_noise(10, 1_000, 500);
        assert!((psis / stated - 1.0).abs() < 0.1, "{psis} for {stated}");
        assert!((tvs / noise - 1.0).abs() < 0.05, "{tvs} for {noise}");
        // 5 % of 500 is 25; four standard deviations are 20. A goodness-of-fit test would give 49 % here.
        assert!((6..=45).contains(&alarms), "{alarms}");
    }

    proptest! {
        #![proptest_config(crate::testing::fixed())]

        #[test]
        fn distances_keep_their_bounds(cells in prop::collection::vec((0u64..300, 0u64..300), 1..30)) {
            let (reference, current): (Vec<u64>, Vec<u64>) = cells.into_iter().unzip();
            let (Some(ks), Some(tv), Some(psi_forth)) =
                (ks(&reference, &current), total_variation(&reference, &current), psi(&reference, &current))
            else {
                return Ok(());
            };
            prop_assert!(0.0 <= ks && ks <= tv + 1e-12 && tv <= 1.0 + 1e-12);
            prop_assert!(psi_forth >= 0.0 && psi_forth.is_finite());
            prop_assert!((psi_forth - psi(&current, &reference).expect("rows")).abs() < 1e-9);
            let (pooled_r, pooled_c) = pool_rare(&reference, &current, LEAST_EXPECTED);
            prop_assert_eq!(pooled_r.iter().sum::<u64>(), reference.iter().sum::<u64>());
            prop_assert!(total_variation(&pooled_r, &pooled_c).expect("rows") <= tv + 1e-12);
        }
    }
}
