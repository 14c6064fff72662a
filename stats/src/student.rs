//! Student's t distribution.

use crate::{
    normal::normal_sf,
    special::{beta_inc, invert_falling},
};

/// Above this many degrees of freedom the normal distribution stands in; they differ by less than 1e-6 there.
const NORMAL_FROM: f64 = 1e6;

/// Chance that t with `df` > 0 degrees of freedom is above `t` (DLMF 8.17.1; Abramowitz and Stegun 26.7.1).
#[must_use]
pub fn student_sf(t: f64, df: f64) -> f64 {
    if t < 0.0 {
        return 1.0 - student_sf(-t, df);
    }
    if df > NORMAL_FROM { normal_sf(t) } else { beta_inc(df / 2.0, 0.5, df / (df + t * t)) / 2.0 }
}

/// The t > 0 such that `-t..t` holds the share `confidence` (above 0, below 1) of the distribution.
#[must_use]
pub fn student_two_sided(confidence: f64, df: f64) -> f64 {
    let tail = (1.0 - confidence) / 2.0;
    let mut high = 50.0;
    while student_sf(high, df) > tail && high < 1e12 {
        high *= 10.0;
    }
    invert_falling(|t| student_sf(t, df), tail, 0.0, high)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_values() {
        // As in any printed table of t at 95 % and 99 %, two-sided; all digits from scipy 1.17's t.ppf.
        for (confidence, df, wanted) in [
            (0.95, 1.0, 12.706_204_736_174_694),
            (0.95, 2.0, 4.302_652_729_749_462),
            (0.95, 10.0, 2.228_138_851_986_274),
            (0.99, 30.0, 2.749_995_653_567_225_4),
            (0.95, 1_000.0, 1.962_339_080_826_408_3),
            (0.95, 1e9, 1.959_963_984_540_054),
        ] {
            let found = student_two_sided(confidence, df);
            assert!((found / wanted - 1.0).abs() < 1e-10, "{df}: {found}");
        }
    }

    #[test]
    fn with_one_degree_of_freedom_it_is_cauchy() {
        for t in [-20.0f64, -1.0, 0.0, 0.3, 4.0] {
            let wanted = 0.5 - t.atan() / std::f64::consts::PI;
            assert!((student_sf(t, 1.0) - wanted).abs() < 1e-13, "{t}");
        }
    }
}
