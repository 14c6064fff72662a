//! Measurements, kept in memory and rendered as Prometheus text.
//!
//! Every metric stands in the table [`Metric`]. A hot path resolves a handle once and then pays an atomic
//! add or a short lock per observation:
//!
//! ```
//! use std::time::Duration;
//! use runtime::{Metric, Metrics};
//!
//! let metrics = Metrics::new();
//! let infer = metrics.timer(Metric::ModelSeconds, &["flight-delay", "3", "infer"]);
//! infer.observe(Duration::from_micros(420));
//! metrics.inc(Metric::Predictions, &["flight-delay", "3"]);
//! assert!(metrics.render().contains("millpond_predictions_total{endpoint=\"flight-delay\",version=\"3\"} 1"));
//! ```

mod render;
mod series;
mod table;

pub use series::{Counter, Gauge, Running, Timer};
pub use table::{Kind, Metric, reference_markdown};

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

/// All measurements of one process (or of one test). Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Metrics(Arc<RwLock<All>>);

type All = BTreeMap<(Metric, Labels), Series>;
type Labels = Vec<Box<str>>;

#[derive(Debug, Clone)]
enum Series {
    Counter(Arc<Counter>),
    Gauge(Arc<Gauge>),
    Timer(Arc<Timer>),
}

impl Series {
    fn new(kind: Kind) -> Self {
        match kind {
            Kind::Counter => Self::Counter(Arc::default()),
            Kind::Gauge => Self::Gauge(Arc::default()),
            Kind::Summary => Self::Timer(Arc::default()),
        }
    }
}

impl Metrics {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The counter for `labels`, which are the values of [`Metric::labels`] in that order.
    ///
    /// A metric of another kind, or a wrong number of labels, is a bug in the caller: debug builds panic;
    /// release builds count into a handle that is not rendered, so that measuring never breaks the service.
    #[must_use]
    pub fn counter(&self, metric: Metric, labels: &[&str]) -> Arc<Counter> {
        match self.series(metric, labels) {
            Some(Series::Counter(counter)) => counter,
            _ => stray(metric, "counter"),
        }
    }

    /// The gauge for `labels`; wrong use as for [`Metrics::counter`].
    #[must_use]
    pub fn gauge(&self, metric: Metric, labels: &[&str]) -> Arc<Gauge> {
        match self.series(metric, labels) {
            Some(Series::Gauge(gauge)) => gauge,
            _ => stray(metric, "gauge"),
        }
    }

    /// The latency summary for `labels`; wrong use as for [`Metrics::counter`].
    #[must_use]
    pub fn timer(&self, metric: Metric, labels: &[&str]) -> Arc<Timer> {
        match self.series(metric, labels) {
            Some(Series::Timer(timer)) => timer,
            _ => stray(metric, "summary"),
        }
    }

    /// Adds one to a counter.
    pub fn inc(&self, metric: Metric, labels: &[&str]) {
        self.counter(metric, labels).inc();
    }

    /// Adds `count` to a counter.
    pub fn add(&self, metric: Metric, labels: &[&str], count: u64) {
        self.counter(metric, labels).add(count);
    }

    /// Sets a gauge.
    pub fn set(&self, metric: Metric, labels: &[&str], value: f64) {
        self.gauge(metric, labels).set(value);
    }

    /// Records one duration of a summary.
    pub fn observe(&self, metric: Metric, labels: &[&str], took: Duration) {
        self.timer(metric, labels).observe(took);
    }

    /// Everything, in the Prometheus text exposition format 0.0.4
    /// (`Content-Type: text/plain; version=0.0.4; charset=utf-8`).
    #[must_use]
    pub fn render(&self) -> String {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner).clone();
        render::text(&all)
    }

    /// `None` when the number of labels is wrong.
    fn series(&self, metric: Metric, labels: &[&str]) -> Option<Series> {
        if labels.len() != metric.labels().len() {
            return None;
        }
        let key = (metric, labels.iter().map(|value| Box::from(*value)).collect::<Labels>());
        if let Some(found) = self.0.read().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Some(found.clone());
        }
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        Some(all.entry(key).or_insert_with(|| Series::new(metric.kind())).clone())
    }
}

/// A handle nobody renders, for a call that does not fit the table.
fn stray<T: Default>(metric: Metric, wanted: &str) -> Arc<T> {
    debug_assert!(
        false,
        "{} is a {:?} with labels {:?}, not that {wanted}",
        metric.name(),
        metric.kind(),
        metric.labels()
    );
    Arc::default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_and_the_front_door_count_into_the_same_series() {
        let metrics = Metrics::new();
        let handle = metrics.counter(Metric::Alerts, &["flights", "bias"]);
        handle.add(2);
        metrics.clone().inc(Metric::Alerts, &["flights", "bias"]);
        assert_eq!(handle.get(), 3);
        metrics.inc(Metric::Alerts, &["flights", "psi"]);
        assert_eq!(handle.get(), 3);
    }

    #[test]
    fn a_gauge_goes_up_and_down() {
        let metrics = Metrics::new();
        let depth = metrics.gauge(Metric::QueueDepth, &["infer"]);
        depth.add(5.0);
        depth.add(-2.0);
        assert!((depth.get() - 3.0).abs() < f64::EPSILON);
        metrics.set(Metric::QueueDepth, &["infer"], 7.0);
        assert!((depth.get() - 7.0).abs() < f64::EPSILON);
    }

    #[test]
    #[should_panic(expected = "millpond_alerts_total")]
    fn a_wrong_number_of_labels_is_a_bug_shown_in_tests() {
        Metrics::new().inc(Metric::Alerts, &["flights"]);
    }

    #[test]
    #[should_panic(expected = "not that gauge")]
    fn a_metric_of_another_kind_is_a_bug_shown_in_tests() {
        Metrics::new().set(Metric::Alerts, &["flights", "bias"], 1.0);
    }
}
