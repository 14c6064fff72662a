//! UTC days of instants, as partitions are named.

use jiff::civil::Date;

const DAY_US: i64 = 86_400_000_000;

/// Days from 1970-01-01 to the day of the instant (microseconds since then).
pub(crate) const fn of(micros: i64) -> i64 {
    micros.div_euclid(DAY_US)
}

/// The day as `2024-02-29`; `None` outside the years 1 to 9999, which no reader can be expected to take.
pub(crate) fn name(day: i64) -> Option<String> {
    let epoch = Date::constant(1970, 1, 1);
    let date = epoch.checked_add(jiff::Span::new().try_days(day).ok()?).ok()?;
    (1..=9999).contains(&date.year()).then(|| date.to_string())
}

/// The day of a name that [`name`] gave.
pub(crate) fn parse(name: &str) -> Option<i64> {
    let date: Date = name.parse().ok()?;
    let span = Date::constant(1970, 1, 1).until((jiff::Unit::Day, date)).ok()?;
    Some(i64::from(span.get_days()))
}

/// First and last microsecond of the day.
pub(crate) const fn span(day: i64) -> (i64, i64) {
    (day.saturating_mul(DAY_US), day.saturating_mul(DAY_US).saturating_add(DAY_US - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_before_1970_and_leap_days_have_their_names() {
        for (micros, expected) in [
            (0, "1970-01-01"),
            (-1, "1969-12-31"),
            (DAY_US - 1, "1970-01-01"),
            (1_709_164_800_000_000, "2024-02-29"),
            (-62_135_596_800_000_000, "0001-01-01"),
            (253_402_300_799_999_999, "9999-12-31"),
        ] {
            assert_eq!(name(of(micros)).as_deref(), Some(expected));
            assert_eq!(parse(expected), Some(of(micros)));
            let (first, last) = span(of(micros));
            assert!(first <= micros && micros <= last);
        }
    }

    #[test]
    fn a_day_no_reader_knows_has_no_name() {
        for micros in [i64::MIN, -62_135_596_800_000_001, 253_402_300_800_000_000, i64::MAX] {
            assert_eq!(name(of(micros)), None, "{micros}");
        }
    }
}
