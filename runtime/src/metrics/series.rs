//! What a metric counts into.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;

/// A number that only goes up.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn inc(&self) {
        self.add(1);
    }

    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    pub fn set(&self, value: f64) {
        self.0.store(value.to_bits(), Ordering::Relaxed);
    }

    /// Adds `change`, which may be negative.
    pub fn add(&self, change: f64) {
        // The update always returns a value, so it cannot fail.
        let _ = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |bits| Some((f64::from_bits(bits) + change).to_bits()));
    }

    #[must_use]
    pub fn get(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
    }
}

/// How long a half of the window lasts: quantiles cover the present half and the one before it.
const HALF: Duration = Duration::from_secs(300);
/// Longest duration told apart from longer ones: an hour, in microseconds.
const LONGEST_MICROS: u64 = 3_600_000_000;
/// Significant digits kept: quantiles are right to 1 %, and a series costs some 26 kB.
const DIGITS: u8 = 2;

/// Durations: quantiles over the last 5 to 10 minutes (right to 1 %), sum and count since the start.
#[derive(Debug)]
pub struct Timer(Mutex<Inside>);

#[derive(Debug)]
struct Inside {
    present: Histogram<u32>,
    before: Histogram<u32>,
    since: Instant,
    count: u64,
    sum: Duration,
}

/// What a timer says when asked.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Reading {
    /// One per asked-for quantile; `None` when nothing was observed lately.
    pub(super) quantiles: Vec<Option<Duration>>,
    pub(super) count: u64,
    pub(super) sum: Duration,
}

impl Default for Timer {
    fn default() -> Self {
        let fresh =
            || Histogram::new_with_bounds(1, LONGEST_MICROS, DIGITS).expect("these constants are lawful bounds");
        Self(Mutex::new(Inside {
            present: fresh(),
            before: fresh(),
            since: Instant::now(),
            count: 0,
            sum: Duration::ZERO,
        }))
    }
}

impl Timer {
    /// Records one duration; beyond an hour it counts as an hour in the quantiles.
    pub fn observe(&self, took: Duration) {
        self.observe_at(Instant::now(), took);
    }

    /// Starts measuring; the time until the guard is dropped is observed.
    #[must_use]
    pub fn start(&self) -> Running<'_> {
        Running { timer: self, since: Instant::now() }
    }

    /// How many durations were observed since the start.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.inside(|inside| inside.count)
    }

    fn observe_at(&self, now: Instant, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1);
        self.inside(|inside| {
            inside.turn(now);
            inside.present.saturating_record(micros);
            inside.count += 1;
            inside.sum += took;
        });
    }

    pub(super) fn read(&self, quantiles: &[f64]) -> Reading {
        self.read_at(Instant::now(), quantiles)
    }

    fn read_at(&self, now: Instant, quantiles: &[f64]) -> Reading {
        let (both, count, sum) = self.inside(|inside| {
            inside.turn(now);
            let mut both = inside.before.clone();
            // Both halves have the same bounds.
            let _ = both.add(&inside.present);
            (both, inside.count, inside.sum)
        });
        let at = |q: &f64| (!both.is_empty()).then(|| Duration::from_micros(both.value_at_quantile(*q)));
        Reading { quantiles: quantiles.iter().map(at).collect(), count, sum }
    }

    fn inside<R>(&self, act: impl FnOnce(&mut Inside) -> R) -> R {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Inside {
    /// Forgets what is too old.
    fn turn(&mut self, now: Instant) {
        let age = now.saturating_duration_since(self.since);
        if age < HALF {
            return;
        }
        std::mem::swap(&mut self.present, &mut self.before);
        self.present.reset();
        if age >= 2 * HALF {
            self.before.reset();
        }
        self.since = now;
    }
}

/// Observes the time since [`Timer::start`] when dropped.
#[derive(Debug)]
pub struct Running<'a> {
    timer: &'a Timer,
    since: Instant,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.timer.observe(self.since.elapsed());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn quantiles_are_right_to_one_percent() {
        let timer = Timer::default();
        for n in 1..=1000 {
            timer.observe(n * MS);
        }
        let reading = timer.read(&[0.5, 0.99]);
        for (found, wanted) in reading.quantiles.iter().zip([500 * MS, 990 * MS]) {
            let error = found.expect("observed").as_secs_f64() / wanted.as_secs_f64() - 1.0;
            assert!(error.abs() < 0.01, "{found:?} for {wanted:?}");
        }
        assert_eq!((reading.count, reading.sum), (1000, 500_500 * MS));
    }

    #[test]
    fn quantiles_forget_and_totals_do_not() {
        let timer = Timer::default();
        let start = Instant::now();
        timer.observe_at(start, 100 * MS);
        let soon = timer.read_at(start + HALF, &[0.5]);
        assert!(soon.quantiles[0].is_some(), "still in the half before");
        timer.observe_at(start + HALF, 7 * MS);
        let later = timer.read_at(start + 2 * HALF, &[1.0]);
        assert!(later.quantiles[0].expect("the second is there") < 8 * MS, "the first is forgotten");
        let end = timer.read_at(start + 9 * HALF, &[0.5]);
        assert_eq!((end.quantiles[0], end.count, end.sum), (None, 2, 107 * MS));
    }

    #[test]
    fn a_guard_observes_when_it_goes() {
        let timer = Timer::default();
        drop(timer.start());
        assert_eq!(timer.count(), 1);
    }

    #[test]
    fn more_than_an_hour_counts_as_an_hour() {
        let timer = Timer::default();
        timer.observe(Duration::from_secs(100_000));
        let seen = timer.read(&[0.5]).quantiles[0].expect("observed").as_secs_f64();
        assert!((3_590.0..3_650.0).contains(&seen), "{seen}");
    }
}
