//! Lengths of time as people write them in definitions: `90s`, `15m`, `24h`, `7d`, `250ms`.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// A length of time in microseconds; a day is 24 hours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Span(i64);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a duration: write a whole number and a unit, as in `250ms`, `90s`, `15m`, `24h` or `7d`")]
pub struct BadSpan(pub String);

const UNITS: [(&str, i64); 6] =
    [("ms", 1_000), ("us", 1), ("d", 86_400_000_000), ("h", 3_600_000_000), ("m", 60_000_000), ("s", 1_000_000)];

impl Span {
    pub const ZERO: Self = Self(0);
    pub const DAY: Self = Self(86_400_000_000);
    pub const HOUR: Self = Self(3_600_000_000);

    #[must_use]
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    #[must_use]
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// As the standard library's unsigned duration; negative lengths become zero.
    #[must_use]
    pub fn to_std(self) -> std::time::Duration {
        std::time::Duration::from_micros(u64::try_from(self.0).unwrap_or(0))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, size) in [UNITS[2], UNITS[3], UNITS[4], UNITS[5], UNITS[0]] {
            if self.0 != 0 && self.0 % size == 0 {
                return write!(f, "{}{unit}", self.0 / size);
            }
        }
        if self.0 == 0 { f.write_str("0s") } else { write!(f, "{}us", self.0) }
    }
}

impl FromStr for Span {
    type Err = BadSpan;

    fn from_str(raw: &str) -> Result<Self, BadSpan> {
        let text = raw.trim();
        UNITS
            .iter()
            .find_map(|(unit, size)| {
                let count: i64 = text.strip_suffix(unit)?.trim_end().parse().ok()?;
                (count >= 0).then(|| count.checked_mul(*size)).flatten().map(Self)
            })
            .ok_or_else(|| BadSpan(raw.to_owned()))
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_as_they_are_written() {
        for text in ["250ms", "90s", "15m", "25h", "7d", "0s", "3us"] {
            assert_eq!(text.parse::<Span>().unwrap().to_string(), text);
        }
        assert_eq!("24h".parse::<Span>().unwrap(), Span::DAY);
        for bad in ["", "7", "d", "-1d", "1.5h", "99999999999999d"] {
            assert!(bad.parse::<Span>().is_err(), "{bad}");
        }
    }
}
