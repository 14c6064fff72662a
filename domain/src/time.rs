//! Instants: UTC microseconds since 1970, everywhere.

use std::{
    fmt,
    ops::{Add, Sub},
    str::FromStr,
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::Span;

/// An instant in UTC, in microseconds since the Unix epoch. Shown as RFC 3339 with a `Z`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

/// Why a text is not an instant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadTimestamp {
    /// The text is a wall-clock time without an offset, so it names no instant.
    #[error("timestamp `{0}` has no zone: write an offset, as in `{0}Z` or `{0}-05:00`")]
    NoZone(String),
    #[error("`{0}` is not a timestamp: expected RFC 3339, as in `2013-04-01T12:00:00Z`")]
    Malformed(String),
}

impl Timestamp {
    pub const MIN: Self = Self(i64::MIN);
    pub const MAX: Self = Self(i64::MAX);

    #[must_use]
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    #[must_use]
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// The start of the period of length `span`, counted from the epoch, in which this instant lies.
    #[must_use]
    pub fn floor(self, span: Span) -> Self {
        Self(self.0 - self.0.rem_euclid(span.micros().max(1)))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_microsecond(self.0) {
            Ok(instant) => write!(f, "{instant}"),
            Err(_) => write!(f, "{}us", self.0),
        }
    }
}

impl FromStr for Timestamp {
    type Err = BadTimestamp;

    fn from_str(raw: &str) -> Result<Self, BadTimestamp> {
        let text = raw.trim();
        if let Ok(instant) = text.parse::<jiff::Timestamp>() {
            return Ok(Self(instant.as_microsecond()));
        }
        Err(if text.parse::<jiff::civil::DateTime>().is_ok() {
            BadTimestamp::NoZone(text.to_owned())
        } else {
            BadTimestamp::Malformed(text.to_owned())
        })
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

impl Add<Span> for Timestamp {
    type Output = Self;
    fn add(self, span: Span) -> Self {
        Self(self.0.saturating_add(span.micros()))
    }
}

impl Sub<Span> for Timestamp {
    type Output = Self;
    fn sub(self, span: Span) -> Self {
        Self(self.0.saturating_sub(span.micros()))
    }
}

impl Sub for Timestamp {
    type Output = Span;
    fn sub(self, earlier: Self) -> Span {
        Span::from_micros(self.0.saturating_sub(earlier.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_without_zone_is_refused() {
        let bare = "2013-04-01T12:00:00".parse::<Timestamp>();
        assert_eq!(bare, Err(BadTimestamp::NoZone("2013-04-01T12:00:00".into())));
        assert!(matches!("yesterday".parse::<Timestamp>(), Err(BadTimestamp::Malformed(_))));
    }

    #[test]
    fn offsets_are_turned_into_utc_and_shown_with_z() {
        let noon: Timestamp = "2013-04-01T08:00:00-04:00".parse().unwrap();
        assert_eq!(noon.to_string(), "2013-04-01T12:00:00Z");
        assert_eq!(noon.floor("1d".parse().unwrap()).to_string(), "2013-04-01T00:00:00Z");
    }
}
