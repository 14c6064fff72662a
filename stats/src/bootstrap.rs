//! Whether one model's losses are smaller than another's on the same rows.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// What resampling says about a mean difference.
#[derive(Debug, Clone, PartialEq)]
pub struct Bootstrap {
    /// Mean of `loss_a - loss_b`: positive when b is better.
    pub mean_diff: f64,
    /// 2.5 % quantile of the resampled means: with `upper` a two-sided 95 % interval.
    pub lower: f64,
    /// 97.5 % quantile.
    pub upper: f64,
    /// One-sided: how likely a gain this large would be if b were no better,
    /// (1 + resamples at or below 0) / (1 + resamples) (Davison and Hinkley 1997, 4.2).
    pub p: f64,
    /// The resampled means, ascending.
    means: Vec<f64>,
}

impl Bootstrap {
    /// The bound that the true gain exceeds with this one-sided `confidence`, 0 to 1: the quantile
    /// 1 - confidence of the resampled means (percentile method, Efron and Tibshirani 1993, 13.3).
    #[must_use]
    pub fn lower_bound(&self, confidence: f64) -> f64 {
        quantile(&self.means, 1.0 - confidence)
    }
}

/// Resamples the rows `resamples` times with replacement, each time taking both losses of a row together, and
/// looks at how the mean of `loss_a - loss_b` scatters (Efron 1979). Rows are taken to be independent.
/// The same seed gives the same answer. 50,000 rows and 1,000 resamples take a fraction of a second.
///
/// `None` without rows, without resamples, or with a difference that is not finite.
///
/// # Panics
/// When the lengths differ.
#[must_use]
pub fn paired_bootstrap(loss_a: &[f64], loss_b: &[f64], resamples: usize, seed: u64) -> Option<Bootstrap> {
    assert_eq!(loss_a.len(), loss_b.len(), "both models are judged on the same rows");
    let diffs: Vec<f64> = loss_a.iter().zip(loss_b).map(|(a, b)| a - b).collect();
    let rows = u32::try_from(diffs.len()).ok().filter(|rows| *rows > 0)?;
    if resamples == 0 || diffs.iter().any(|diff| !diff.is_finite()) {
        return None;
    }
    let mean_diff = diffs.iter().sum::<f64>() / f64::from(rows);
    let mut chance = ChaCha8Rng::seed_from_u64(seed);
    let mut means: Vec<f64> = (0..resamples).map(|_| resampled_mean(&diffs, rows, &mut chance)).collect();
    means.sort_unstable_by(f64::total_cmp);
    let not_better = means.partition_point(|mean| *mean <= 0.0);
    Some(Bootstrap {
        mean_diff,
        lower: quantile(&means, 0.025),
        upper: quantile(&means, 0.975),
        p: (1 + not_better) as f64 / (1 + resamples) as f64,
        means,
    })
}

fn resampled_mean(diffs: &[f64], rows: u32, chance: &mut ChaCha8Rng) -> f64 {
    // Multiply-shift picks a row; rows are favoured by at most rows / 2^32 (Lemire 2019), far below the noise.
    let draw = |bits: u32| diffs[((u64::from(bits) * u64::from(rows)) >> 32) as usize];
    let mut sum = 0.0;
    for _ in 0..rows / 2 {
        let bits = chance.next_u64();
        sum += draw(bits as u32) + draw((bits >> 32) as u32);
    }
    if rows % 2 == 1 {
        sum += draw(chance.next_u32());
    }
    sum / f64::from(rows)
}

/// Linear interpolation between order statistics (Hyndman and Fan's type 7); `sorted` is not empty.
fn quantile(sorted: &[f64], q: f64) -> f64 {
    let place = q.clamp(0.0, 1.0) * (sorted.len() - 1) as f64;
    let below = sorted[place as usize];
    let above = sorted[(place as usize + 1).min(sorted.len() - 1)];
    below + (above - below) * place.fract()
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::Moments;

    /// Row losses of model a, and of b which is better by `gain` with noise of sd about 0.29.
    fn losses(rows: usize, gain: f64, seed: u64) -> (Vec<f64>, Vec<f64>) {
        let mut chance = ChaCha8Rng::seed_from_u64(seed);
        let mut unit = || f64::from(chance.next_u32()) / f64::from(u32::MAX);
        (0..rows).map(|_| (unit(), unit())).map(|(base, noise)| (base, base - gain + noise - 0.5)).unzip()
    }

    #[test]
    fn the_scatter_is_that_of_the_normal_approximation() {
        let (a, b) = losses(5_000, 0.01, 1);
        let found = paired_bootstrap(&a, &b, 4_000, 7).expect("rows");
        let diffs: Vec<f64> = a.iter().zip(&b).map(|(a, b)| a - b).collect();
        let moments = Moments::of(&diffs);
        let error = moments.sd().expect("rows") / (moments.n as f64).sqrt();
        assert!((found.mean_diff - moments.mean).abs() < 1e-12);
        for (bound, z) in [(found.lower, -1.96), (found.upper, 1.96), (found.lower_bound(0.95), -1.645)] {
            assert!(((bound - moments.mean) / error - z).abs() < 0.12, "{bound} is not {z} errors away");
        }
    }

    #[test]
    fn a_real_gain_is_seen_and_no_gain_is_not() {
        let (a, b) = losses(10_000, 0.02, 2);
        let gain = paired_bootstrap(&a, &b, 1_000, 7).expect("rows");
        assert!(gain.lower > 0.0 && gain.p < 0.01, "{} {}", gain.lower, gain.p);
        let loss = paired_bootstrap(&b, &a, 1_000, 7).expect("rows");
        assert!(loss.upper < 0.0 && loss.p > 0.99);
        let same = paired_bootstrap(&a, &a, 1_000, 7).expect("rows");
        assert_eq!((same.mean_diff, same.lower, same.upper, same.p), (0.0, 0.0, 0.0, 1.0));
    }

    #[test]
    fn no_gain_passes_about_as_often_as_promised() {
        let passed = (0..400)
            .filter(|trial| {
                let (a, b) = losses(300, 0.0, 1_000 + trial);
                paired_bootstrap(&a, &b, 400, *trial).expect("rows").lower_bound(0.95) > 0.0
            })
            .count();
        // 5 % of 400 is 20; four standard deviations are 17.
        assert!((4..=37).contains(&passed), "{passed} of 400");
    }

    #[test]
    fn a_seed_replays_exactly() {
        let (a, b) = losses(101, 0.0, 3);
        assert_eq!(paired_bootstrap(&a, &b, 50, 7), paired_bootstrap(&a, &b, 50, 7));
        assert_ne!(paired_bootstrap(&a, &b, 50, 7), paired_bootstrap(&a, &b, 50, 8));
    }

    #[test]
    fn without_an_answer_there_is_none() {
        assert_eq!(paired_bootstrap(&[], &[], 100, 0), None);
        assert_eq!(paired_bootstrap(&[1.0], &[0.0], 0, 0), None);
        assert_eq!(paired_bootstrap(&[f64::NAN], &[0.0], 10, 0), None);
        assert_eq!(paired_bootstrap(&[1.0], &[0.0], 10, 0).expect("a row").lower, 1.0);
    }

    #[test]
    fn fifty_thousand_rows_take_well_under_a_few_seconds() {
        let (a, b) = losses(50_000, 0.01, 4);
        let start = Instant::now();
        assert!(paired_bootstrap(&a, &b, 1_000, 7).expect("rows").lower > 0.0);
        // About 0.3 s on a free core; the bound leaves room for a crowded machine.
        assert!(start.elapsed().as_secs_f64() < 5.0, "{:?}", start.elapsed());
    }
}
