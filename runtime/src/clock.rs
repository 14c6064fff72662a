//! The clock that everything asks, so that tests and replays can own time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use domain::{Span, Timestamp};

/// A source of "now". Clones share it: setting a manual clock moves every clone.
#[derive(Debug, Clone)]
pub struct Clock(Source);

#[derive(Debug, Clone)]
enum Source {
    System,
    Manual(Arc<AtomicI64>),
}

impl Clock {
    /// The machine's own clock.
    #[must_use]
    pub const fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that stands still at `start` until it is set or advanced.
    #[must_use]
    pub fn manual(start: Timestamp) -> Self {
        Self(Source::Manual(Arc::new(AtomicI64::new(start.micros()))))
    }

    /// The present instant, UTC.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Source::System => Timestamp::from_micros(system_micros()),
            Source::Manual(micros) => Timestamp::from_micros(micros.load(Ordering::SeqCst)),
        }
    }

    /// Moves a manual clock to `to`, forwards or backwards.
    ///
    /// # Panics
    /// On the system clock, which nobody may set.
    pub fn set(&self, to: Timestamp) {
        self.manual_micros().store(to.micros(), Ordering::SeqCst);
    }

    /// Moves a manual clock forwards by `by` and returns the new instant.
    ///
    /// # Panics
    /// On the system clock, which nobody may set.
    pub fn advance(&self, by: Span) -> Timestamp {
        let before = self.manual_micros().fetch_add(by.micros(), Ordering::SeqCst);
        Timestamp::from_micros(before) + by
    }

    fn manual_micros(&self) -> &AtomicI64 {
        match &self.0 {
            Source::Manual(micros) => micros,
            Source::System => panic!("only a manual clock can be set"),
        }
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::system()
    }
}

/// Microseconds since 1970; negative for a machine whose clock stands before it.
fn system_micros() -> i64 {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_micros()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_micros()).map_or(i64::MIN, |micros| -micros),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_clone_of_a_manual_clock_moves_together() {
        let clock = Clock::manual(Timestamp::from_micros(10));
        let other = clock.clone();
        assert_eq!(other.now(), Timestamp::from_micros(10));
        assert_eq!(clock.advance(Span::HOUR), Timestamp::from_micros(10) + Span::HOUR);
        assert_eq!(other.now(), Timestamp::from_micros(10) + Span::HOUR);
        other.set(Timestamp::from_micros(3));
        assert_eq!(clock.now(), Timestamp::from_micros(3));
    }

    #[test]
    fn the_system_clock_is_past_2024() {
        assert!(Clock::system().now() > "2024-01-01T00:00:00Z".parse().unwrap());
    }

    #[test]
    #[should_panic(expected = "only a manual clock")]
    fn the_system_clock_cannot_be_set() {
        Clock::system().set(Timestamp::from_micros(0));
    }
}
