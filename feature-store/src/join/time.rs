//! Instants of any unit, compared exactly.

use arrow::{
    array::{Array as _, ArrayRef, AsArray as _},
    buffer::{NullBuffer, ScalarBuffer},
    datatypes::{
        DataType, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
        TimestampSecondType,
    },
};

/// Nanoseconds of one tick.
pub(super) const fn tick(unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::Second => 1_000_000_000,
        TimeUnit::Millisecond => 1_000_000,
        TimeUnit::Microsecond => 1_000,
        TimeUnit::Nanosecond => 1,
    }
}

/// The unit of a timestamp type; a zone says how people read it, the number counts from 1970 in UTC either way.
pub(super) const fn unit_of(data_type: &DataType) -> Option<TimeUnit> {
    match data_type {
        DataType::Timestamp(unit, _) => Some(*unit),
        _ => None,
    }
}

/// The finer of the two.
pub(super) fn finer(a: TimeUnit, b: TimeUnit) -> TimeUnit {
    if tick(a) <= tick(b) { a } else { b }
}

/// A column of instants in one unit. What does not fit the finer unit is the first or last instant that does.
pub(super) struct Times {
    pub(super) values: ScalarBuffer<i64>,
    pub(super) nulls: Option<NullBuffer>,
}

impl Times {
    /// `None` when the column is no timestamp, or finer than `unit`.
    pub(super) fn of(array: &ArrayRef, unit: TimeUnit) -> Option<Self> {
        let from = unit_of(array.data_type())?;
        let values = ticks(array, from);
        let factor = tick(from) / tick(unit);
        let values = match factor {
            0 => return None,
            1 => values,
            factor => values.iter().map(|t| t.saturating_mul(factor)).collect(),
        };
        Some(Self { values, nulls: array.nulls().cloned() })
    }

    pub(super) fn get(&self, row: usize) -> Option<i64> {
        self.nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row)).then(|| self.values[row])
    }
}

/// The numbers of a timestamp column, without copying.
pub(super) fn ticks(array: &ArrayRef, unit: TimeUnit) -> ScalarBuffer<i64> {
    match unit {
        TimeUnit::Second => array.as_primitive::<TimestampSecondType>().values().clone(),
        TimeUnit::Millisecond => array.as_primitive::<TimestampMillisecondType>().values().clone(),
        TimeUnit::Microsecond => array.as_primitive::<TimestampMicrosecondType>().values().clone(),
        TimeUnit::Nanosecond => array.as_primitive::<TimestampNanosecondType>().values().clone(),
    }
}

/// From the unit of a view to the unit of the spine.
#[derive(Debug, Clone, Copy)]
pub(super) enum Ratio {
    Same,
    /// One tick of the spine is this many of the view's.
    Coarser(i64),
    /// One tick of the view is this many of the spine's.
    Finer(i64),
}

impl Ratio {
    pub(super) fn new(view: TimeUnit, spine: TimeUnit) -> Self {
        match (tick(view), tick(spine)) {
            (view, spine) if view == spine => Self::Same,
            (view, spine) if view < spine => Self::Coarser(spine / view),
            (view, spine) => Self::Finer(view / spine),
        }
    }

    /// The first instant of the spine's unit that is not before `t`; `None` when it lies behind all of them.
    pub(super) fn first_at(self, t: i64) -> Option<i64> {
        match self {
            Self::Same => Some(t),
            Self::Coarser(factor) => Some(t.div_euclid(factor) + i64::from(t.rem_euclid(factor) > 0)),
            Self::Finer(factor) => match t.checked_mul(factor) {
                None if t > 0 => None,
                product => Some(product.unwrap_or(i64::MIN)),
            },
        }
    }
}

/// Whether a row is still young enough to count.
#[derive(Debug, Clone, Copy)]
pub(super) struct Age {
    limit: Option<Limit>,
}

#[derive(Debug, Clone, Copy)]
enum Limit {
    /// Both in one unit: at most this many ticks.
    Ticks(i64),
    /// In nanoseconds, with the nanoseconds of a tick of each.
    Nanos { view: i128, spine: i128, ttl: i128 },
}

impl Age {
    /// `ttl` in microseconds; 0 or less: no limit.
    pub(super) fn new(ttl: i64, view: TimeUnit, spine: TimeUnit) -> Self {
        let nanos = i128::from(ttl) * 1_000;
        let limit = if ttl <= 0 {
            None
        } else if view == spine {
            // Ages are whole ticks, so a limit between two ticks may be rounded down.
            Some(Limit::Ticks(i64::try_from(nanos / i128::from(tick(view))).unwrap_or(i64::MAX)))
        } else {
            Some(Limit::Nanos { view: tick(view).into(), spine: tick(spine).into(), ttl: nanos })
        };
        Self { limit }
    }

    /// Whether a row of instant `t` counts at `at`, which is not before it.
    pub(super) fn within(self, t: i64, at: i64) -> bool {
        match self.limit {
            None => true,
            Some(Limit::Ticks(ttl)) => at.saturating_sub(t) <= ttl,
            Some(Limit::Nanos { view, spine, ttl }) => i128::from(at) * spine - i128::from(t) * view <= ttl,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNITS: [TimeUnit; 4] = [TimeUnit::Second, TimeUnit::Millisecond, TimeUnit::Microsecond, TimeUnit::Nanosecond];

    #[test]
    fn a_view_is_at_or_before_the_spine_exactly_when_its_nanoseconds_are() {
        let near: Vec<i64> = (-3..=3).flat_map(|n| [n, n * 1_000, n * 1_000 + 1, n * 1_000_000 - 1]).collect();
        for (view, spine) in UNITS.iter().flat_map(|view| UNITS.map(|spine| (*view, spine))) {
            let ratio = Ratio::new(view, spine);
            for (t, at) in near.iter().flat_map(|t| near.iter().map(move |at| (*t, *at))) {
                let exact = i128::from(t) * i128::from(tick(view)) <= i128::from(at) * i128::from(tick(spine));
                assert_eq!(ratio.first_at(t).is_some_and(|first| first <= at), exact, "{t} {view:?} {at} {spine:?}");
            }
        }
    }

    #[test]
    fn instants_beyond_the_finer_unit_are_never_and_always() {
        let ratio = Ratio::new(TimeUnit::Second, TimeUnit::Nanosecond);
        assert_eq!(ratio.first_at(i64::MAX), None);
        assert_eq!(ratio.first_at(i64::MIN), Some(i64::MIN));
    }

    #[test]
    fn exactly_the_time_to_live_counts_and_one_tick_more_does_not() {
        for (view, spine) in UNITS.iter().flat_map(|view| UNITS.map(|spine| (*view, spine))) {
            let age = Age::new(2_000_000, view, spine);
            let two_seconds = 2_000_000_000 / tick(spine);
            assert!(age.within(0, two_seconds), "{view:?} {spine:?}");
            assert!(!age.within(0, two_seconds + 1), "{view:?} {spine:?}");
        }
        assert!(Age::new(0, TimeUnit::Second, TimeUnit::Second).within(i64::MIN, i64::MAX));
        assert!(!Age::new(1, TimeUnit::Second, TimeUnit::Second).within(i64::MIN, i64::MAX));
    }
}
