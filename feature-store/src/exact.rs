//! Exact window arithmetic: the one implementation behind online values, training sets and backfills.
//!
//! A value enters a sum as a whole number of millionths, so sums are exact in fixed point at 1e-6 and batch,
//! stream and online agree bit for bit whatever the order of the rows. A window `(t - w, t]` is the difference
//! of two running totals, and only [`Totals::finish`] turns totals into a float.

use domain::{Value, ValueType};

/// Greatest magnitude of a value that may be counted, summed or averaged.
pub const SUM_LIMIT: f64 = 9e12;
/// Greatest magnitude of a value in a column with a standard deviation: its square is kept exactly as well.
pub const SQUARE_LIMIT: f64 = 1e9;

const UNITS: i64 = 1_000_000;

/// Running totals of one column. Sums wrap: a difference is right whenever the window's own totals fit, which
/// the limits above grant for windows of up to 1e19 rows (sums) and 8e7 rows (squares).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Totals {
    /// Rows whose value is not null.
    pub(crate) count: u64,
    /// Sum in millionths.
    pub(crate) sum: i128,
    /// Sum of squares in units of 1e-12; zero where no standard deviation is asked for.
    pub(crate) squares: u128,
}

/// A number as whole millionths: floats are rounded half away from zero, bools are 0 and 1; null and everything
/// that is no number give `None`. Beyond [`SUM_LIMIT`] the result saturates, so callers check limits first.
pub(crate) fn fixed(value: &Value) -> Option<i64> {
    match value {
        Value::Bool(b) => Some(i64::from(*b) * UNITS),
        Value::Int(i) => Some(i.saturating_mul(UNITS)),
        #[expect(clippy::cast_possible_truncation, reason = "float to int casts saturate")]
        Value::Float(x) => Some((x * 1e6).round() as i64),
        Value::Null | Value::Text(_) | Value::Timestamp(_) | Value::List(_) => None,
    }
}

/// Whether the value may enter totals under `limit`; null and bools always may.
pub(crate) fn within(value: &Value, limit: f64) -> bool {
    match value {
        #[expect(clippy::cast_precision_loss, reason = "limits are far from the edge of precision")]
        Value::Int(i) => (*i as f64).abs() <= limit,
        Value::Float(x) => x.abs() <= limit,
        _ => true,
    }
}

/// What is read from totals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exact {
    Count,
    Sum,
    Mean,
    Std,
}

impl Exact {
    /// Type of the result.
    pub(crate) const fn kind(self) -> ValueType {
        match self {
            Self::Count => ValueType::Int,
            Self::Sum | Self::Mean | Self::Std => ValueType::Float,
        }
    }
}

impl Totals {
    /// The totals of one row.
    pub(crate) fn of(value: &Value, squares: bool) -> Self {
        fixed(value).map_or_else(Self::default, |units| Self {
            count: 1,
            sum: i128::from(units),
            squares: if squares { u128::from(units.unsigned_abs()).pow(2) } else { 0 },
        })
    }

    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            count: self.count.wrapping_add(other.count),
            sum: self.sum.wrapping_add(other.sum),
            squares: self.squares.wrapping_add(other.squares),
        }
    }

    pub(crate) fn minus(self, other: Self) -> Self {
        Self {
            count: self.count.wrapping_sub(other.count),
            sum: self.sum.wrapping_sub(other.sum),
            squares: self.squares.wrapping_sub(other.squares),
        }
    }

    /// The aggregate over the rows these totals hold. Count is an int, all others are floats; mean and standard
    /// deviation of no value are null.
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_wrap, reason = "the exact part ends here")]
    pub(crate) fn finish(self, function: Exact) -> Value {
        let rows = self.count as f64;
        match function {
            Exact::Count => Value::Int(self.count as i64),
            Exact::Sum => Value::Float(self.sum as f64 / 1e6),
            Exact::Mean | Exact::Std if self.count == 0 => Value::Null,
            Exact::Mean => Value::Float(self.sum as f64 / rows / 1e6),
            Exact::Std => {
                // Centre on the whole-number mean `m` before leaving the integers: with sum = n m + r,
                // the sum of (x - m)^2 is squares - m (sum + r), exactly, and r^2 / n is a small correction.
                let count = i128::from(self.count);
                let mean = self.sum.div_euclid(count);
                let rest = self.sum.rem_euclid(count);
                let shift = mean.wrapping_mul(self.sum.wrapping_add(rest)) as u128;
                let centred = self.squares.wrapping_sub(shift) as f64;
                let variance = (centred - rest as f64 * (rest as f64 / rows)) / rows;
                Value::Float(variance.max(0.0).sqrt() / 1e6)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn total(values: &[f64]) -> Totals {
        values.iter().fold(Totals::default(), |sum, x| sum.plus(Totals::of(&Value::Float(*x), true)))
    }

    #[test]
    fn a_tenth_added_ten_times_is_one() {
        assert_eq!(total(&[0.1; 10]).finish(Exact::Sum), Value::Float(1.0));
        assert_eq!(total(&[0.1; 10]).finish(Exact::Std), Value::Float(0.0));
    }

    #[test]
    fn an_empty_window_counts_zero_and_has_no_mean() {
        let none = Totals::default();
        assert_eq!(none.finish(Exact::Count), Value::Int(0));
        assert_eq!(none.finish(Exact::Sum), Value::Float(0.0));
        assert_eq!(none.finish(Exact::Mean), Value::Null);
        assert_eq!(none.finish(Exact::Std), Value::Null);
    }

    #[test]
    fn the_mean_of_a_bool_column_is_its_share_of_true() {
        let sum = [true, false, false, true]
            .iter()
            .fold(Totals::default(), |sum, b| sum.plus(Totals::of(&Value::Bool(*b), false)));
        assert_eq!(sum.finish(Exact::Mean), Value::Float(0.5));
    }

    #[test]
    fn a_small_spread_around_a_large_mean_is_not_lost() {
        let Value::Float(std) = total(&[999_999_999.0, 999_999_998.0]).finish(Exact::Std) else { panic!() };
        assert!((std - 0.5).abs() < 1e-12, "{std}");
    }

    proptest! {
        #[test]
        fn a_window_by_difference_equals_the_window_summed_directly(
            values in prop::collection::vec(-1e9..1e9, 1..60), cut in 0usize..60,
        ) {
            let cut = cut.min(values.len());
            let by_difference = total(&values).minus(total(&values[..cut]));
            prop_assert_eq!(by_difference, total(&values[cut..]));
        }

        #[test]
        fn the_deviation_agrees_with_the_textbook(values in prop::collection::vec(-1e4..1e4, 1..60)) {
            let n = values.len() as f64;
            let mean = values.iter().sum::<f64>() / n;
            let std = (values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n).sqrt();
            let Value::Float(found) = total(&values).finish(Exact::Std) else { panic!() };
            prop_assert!((found - std).abs() < 1e-5, "{} {}", found, std);
        }
    }
}
