//! Where windows lie. All instants are whole microseconds since 1970, UTC.

use domain::definition::{Aggregation, WindowShape};

use crate::window::Way;

const MINUTE: i64 = 60_000_000;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// The window of an aggregation, as a rule that gives its ends for an instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct WindowSpan {
    window: i64,
    tail: Tail,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Tail {
    /// Sliding: rounded down to a multiple of this; 1 is exact, since no instant is finer than a microsecond.
    Hop(i64),
    /// The whole window is the newest period that has ended.
    Tumbling,
}

/// The ends of a window: rows in `(open, close]` count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Ends {
    pub(crate) open: i64,
    pub(crate) close: i64,
}

impl WindowSpan {
    /// The rule of an aggregation that has been checked.
    pub(crate) fn of(aggregation: &Aggregation) -> Self {
        let window = aggregation.window.micros();
        let tail = match (aggregation.shape, aggregation.hop) {
            (WindowShape::Tumbling, _) => Tail::Tumbling,
            (WindowShape::Sliding, Some(hop)) => Tail::Hop(hop.micros()),
            (WindowShape::Sliding, None) if Way::of(aggregation).is_totals() => Tail::Hop(1),
            (WindowShape::Sliding, None) => Tail::Hop(default_hop(window)),
        };
        Self { window, tail }
    }

    /// The ends of the window for a question at `at`. Both grow with `at`.
    pub(crate) fn ends(self, at: i64) -> Ends {
        match self.tail {
            Tail::Hop(hop) => {
                // The tile that holds the first instant of the exact window counts whole.
                let first = at.saturating_sub(self.window).saturating_add(1);
                Ends { open: floor(first, hop).saturating_sub(1), close: at }
            }
            Tail::Tumbling => {
                let close = floor(at, self.window).saturating_sub(1);
                Ends { open: close.saturating_sub(self.window), close }
            }
        }
    }

    /// The length of tile of which the window is made up: its tail always lies between two of them.
    /// A tumbling window is one tile.
    pub(crate) const fn grain(self) -> i64 {
        match self.tail {
            Tail::Hop(hop) => hop,
            Tail::Tumbling => self.window,
        }
    }

    /// Most tiles that a window touches, the one under way included.
    pub(crate) const fn tiles(self) -> i64 {
        self.window / self.grain() + 2
    }
}

/// Chronon's default resolution (`Resolution.scala`).
const fn default_hop(window: i64) -> i64 {
    if window < 12 * HOUR {
        5 * MINUTE
    } else if window < 12 * DAY {
        HOUR
    } else {
        DAY
    }
}

/// The last multiple of `size` at or before `at`; the earliest instant there is where that lies before it.
pub(crate) const fn floor(at: i64, size: i64) -> i64 {
    at.saturating_sub(at.rem_euclid(size))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn span(window: i64, tail: Tail) -> WindowSpan {
        WindowSpan { window, tail }
    }

    #[test]
    fn the_tail_is_rounded_down_and_the_head_is_exact() {
        let day = span(24 * HOUR, Tail::Hop(HOUR));
        let noon = 12 * HOUR;
        assert_eq!(day.ends(DAY + noon), Ends { open: noon - 1, close: DAY + noon });
        assert_eq!(day.ends(DAY + noon + 1), Ends { open: noon - 1, close: DAY + noon + 1 });
        assert_eq!(day.ends(DAY + noon - 1), Ends { open: noon - 1, close: DAY + noon - 1 });
        assert_eq!(day.ends(DAY + noon - 2).open, noon - HOUR - 1);
    }

    #[test]
    fn a_tumbling_window_is_the_period_that_ended_last() {
        let day = span(DAY, Tail::Tumbling);
        assert_eq!(day.ends(3 * DAY), Ends { open: 2 * DAY - 1, close: 3 * DAY - 1 });
        assert_eq!(day.ends(4 * DAY - 1), Ends { open: 2 * DAY - 1, close: 3 * DAY - 1 });
        assert_eq!(day.ends(-1), Ends { open: -2 * DAY - 1, close: -DAY - 1 });
    }

    proptest! {
        #[test]
        fn a_hop_of_one_microsecond_is_the_exact_tail(window in 1i64..1_000_000, at in -10_000_000i64..10_000_000) {
            prop_assert_eq!(span(window, Tail::Hop(1)).ends(at), Ends { open: at - window, close: at });
        }

        #[test]
        fn a_hopping_window_holds_the_exact_one_and_less_than_a_hop_more(
            window in 1i64..1_000, hop in 1i64..1_000, at in any::<i64>(),
        ) {
            let (exact, wide) = (span(window, Tail::Hop(1)).ends(at), span(window, Tail::Hop(hop)).ends(at));
            prop_assert!(wide.open <= exact.open && exact.open.saturating_sub(wide.open) < hop);
            prop_assert_eq!(wide.close, exact.close);
        }

        #[test]
        fn both_ends_grow_with_the_instant(
            window in 1i64..1_000, hop in 1i64..1_000, at in -5_000i64..5_000, step in 0i64..2_000,
        ) {
            for tail in [Tail::Hop(1), Tail::Hop(hop), Tail::Tumbling] {
                let (a, b) = (span(window, tail).ends(at), span(window, tail).ends(at + step));
                prop_assert!(a.open <= b.open && a.close <= b.close);
            }
        }
    }
}
