//! Means with their spread, and tests of one mean or two.

use serde::{Deserialize, Serialize};

use crate::{
    interval::Interval,
    normal::normal_sf,
    student::{student_sf, student_two_sided},
};

/// Count, mean and spread of some values, gathered one by one or in parts (Welford 1962; merging by Chan,
/// Golub and LeVeque 1979).
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Moments {
    pub n: u64,
    pub mean: f64,
    /// Sum of squared differences from the mean.
    pub squares: f64,
}

impl Moments {
    #[must_use]
    pub fn of(values: &[f64]) -> Self {
        let mut moments = Self::default();
        values.iter().for_each(|value| moments.push(*value));
        moments
    }

    pub fn push(&mut self, value: f64) {
        self.n += 1;
        let before = value - self.mean;
        self.mean += before / self.n as f64;
        self.squares += before * (value - self.mean);
    }

    /// Takes in the values that `other` has seen.
    pub fn merge(&mut self, other: &Self) {
        if other.n == 0 {
            return;
        }
        let n = self.n + other.n;
        let (mine, theirs, all) = (self.n as f64, other.n as f64, n as f64);
        let apart = other.mean - self.mean;
        self.squares += other.squares + apart * apart * mine * theirs / all;
        self.mean += apart * theirs / all;
        self.n = n;
    }

    /// Sample variance, with n - 1 below; `None` for fewer than two values.
    #[must_use]
    pub fn variance(&self) -> Option<f64> {
        (self.n >= 2).then(|| (self.squares / (self.n - 1) as f64).max(0.0))
    }

    /// Sample standard deviation; `None` for fewer than two values.
    #[must_use]
    pub fn sd(&self) -> Option<f64> {
        self.variance().map(f64::sqrt)
    }
}

/// Two means compared without assuming equal spread.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Welch {
    /// Mean of the first less mean of the second.
    pub diff: f64,
    /// Bounds of `diff` at the confidence asked for, two-sided.
    pub interval: Interval,
    /// Two-sided p-value of no difference.
    pub p: f64,
    /// Welch and Satterthwaite's degrees of freedom.
    pub df: f64,
}

/// Welch's interval and test for the difference of two means (Welch, Biometrika 34, 1947). `confidence` is
/// two-sided, above 0 and below 1. `None` with fewer than two values on either side.
#[must_use]
pub fn welch(first: &Moments, second: &Moments, confidence: f64) -> Option<Welch> {
    let (a, b) = (first.variance()? / first.n as f64, second.variance()? / second.n as f64);
    let (diff, error) = (first.mean - second.mean, (a + b).sqrt());
    if error == 0.0 {
        // Constants on both sides: nothing is left to chance.
        let p = if diff == 0.0 { 1.0 } else { 0.0 };
        let df = (first.n + second.n - 2) as f64;
        return Some(Welch { diff, interval: Interval { lower: diff, upper: diff }, p, df });
    }
    let df = (a + b).powi(2) / (a * a / (first.n - 1) as f64 + b * b / (second.n - 1) as f64);
    let half = student_two_sided(confidence, df) * error;
    let p = (2.0 * student_sf((diff / error).abs(), df)).min(1.0);
    Some(Welch { diff, interval: Interval { lower: diff - half, upper: diff + half }, p, df })
}

/// One mean against a fixed value.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ZTest {
    /// Mean less the value.
    pub diff: f64,
    /// `diff` in standard errors.
    pub z: f64,
    /// Two-sided p-value of no difference.
    pub p: f64,
    /// One-sided p-value: how likely a rise this large would be by chance.
    pub p_rise: f64,
}

/// Whether a mean differs from `expected`, taken as known exactly (one-sample z test with the sample's own
/// standard error; for at least some 30 values). `None` for fewer than two.
#[must_use]
pub fn z_test(sample: &Moments, expected: f64) -> Option<ZTest> {
    let error = (sample.variance()? / sample.n as f64).sqrt();
    let diff = sample.mean - expected;
    let z = if diff == 0.0 { 0.0 } else { diff / error };
    Some(ZTest { diff, z, p: (2.0 * normal_sf(z.abs())).min(1.0), p_rise: normal_sf(z) })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn welch_on_a_published_example() {
        // The pair of examples in Wikipedia's article on the test; figures by scipy 1.17's ttest_ind(equal_var=False).
        let a = [27.5, 21.0, 19.0, 23.6, 17.0, 17.9, 16.9, 20.1, 21.9, 22.6, 23.1, 19.6, 19.0, 21.7, 21.4];
        let b = [27.1, 22.0, 20.8, 23.4, 23.4, 23.5, 25.8, 22.0, 24.8, 20.2, 21.9, 22.1, 22.9, 30.0, 22.2];
        let found = welch(&Moments::of(&a), &Moments::of(&b), 0.95).expect("enough");
        assert!((found.p - 0.011_451_424_016_036_835).abs() < 1e-9, "{found:?}");
        assert!((found.df - 27.761_261_578_429_806).abs() < 1e-9, "{found:?}");
        assert!((found.interval.lower + 4.661_098_916_647_113).abs() < 1e-9, "{found:?}");
        assert!((found.interval.upper + 0.645_567_750_019_558_7).abs() < 1e-9, "{found:?}");
    }

    #[test]
    fn constants_need_no_chance() {
        let (one, two) = (Moments::of(&[1.0; 5]), Moments::of(&[2.0; 3]));
        assert_eq!(welch(&one, &one, 0.95).expect("enough").p, 1.0);
        let apart = welch(&one, &two, 0.95).expect("enough");
        assert_eq!((apart.p, apart.interval), (0.0, Interval { lower: -1.0, upper: -1.0 }));
        assert_eq!(welch(&one, &Moments::of(&[1.0]), 0.95), None);
        assert_eq!(z_test(&one, 1.0).expect("enough").p, 1.0);
        assert_eq!(z_test(&two, 1.0).expect("enough").p_rise, 0.0);
    }

    #[test]
    fn a_z_test_worked_by_hand() {
        // 0 and 1 in turn, 100 of them: mean 0.5, sample variance 25/99.
        let values: Vec<f64> = (0..100).map(|n| f64::from(n % 2)).collect();
        let found = z_test(&Moments::of(&values), 0.4).expect("enough");
        let z = 0.1 / (25.0f64 / 99.0 / 100.0).sqrt();
        assert!((found.z - z).abs() < 1e-9 && (found.diff - 0.1).abs() < 1e-12, "{found:?}");
        assert!((found.p - 2.0 * found.p_rise).abs() < 1e-12 && found.p_rise < 0.025, "{found:?}");
        assert!(z_test(&Moments::of(&values), 0.6).expect("enough").p_rise > 0.975);
    }

    proptest! {
        #![proptest_config(crate::testing::fixed())]

        #[test]
        fn parts_merge_into_the_whole(values in prop::collection::vec(-1e3f64..1e3, 0..50), cut in 0usize..50) {
            let cut = cut.min(values.len());
            let mut parts = Moments::of(&values[..cut]);
            parts.merge(&Moments::of(&values[cut..]));
            let mean = values.iter().sum::<f64>() / values.len().max(1) as f64;
            let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
            prop_assert_eq!(parts.n, values.len() as u64);
            prop_assert!((parts.mean - mean).abs() < 1e-9);
            prop_assert!((parts.squares - squares).abs() <= 1e-9 * (1.0 + squares));
        }
    }
}
