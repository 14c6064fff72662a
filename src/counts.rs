//! Metrics of rooms that measure nothing themselves: counted at the doors, or from the journal.

use domain::{EventKind, SourceName, Span};
use feature_store::{FeatureStore, IngestReport};
use runtime::{House, Metrics, metrics::Metric};
use storage::Journal;

/// Events read at once.
const BATCH: usize = 256;

/// Counts what became of the rows of one call.
pub fn ingested(metrics: &Metrics, source: &SourceName, report: &IngestReport) {
    let outcomes = [
        ("accepted", report.accepted.saturating_sub(report.corrections)),
        ("correction", report.corrections),
        ("duplicate", report.duplicates),
        ("quarantined", report.quarantined),
    ];
    for (outcome, rows) in outcomes.into_iter().filter(|(_, rows)| *rows > 0) {
        metrics.add(Metric::IngestedRows, &[source.as_str(), outcome], rows);
    }
    for (reason, rows) in &report.reasons {
        metrics.add(Metric::QuarantinedRows, &[source.as_str(), reason.as_str()], *rows);
    }
    if report.dropped > 0 {
        metrics.add(Metric::QuarantineDropped, &[source.as_str()], report.dropped);
    }
}

/// Measures how far behind each feature view is, now.
pub fn freshness(metrics: &Metrics, features: &FeatureStore) {
    #[expect(clippy::cast_precision_loss, reason = "microseconds of centuries fit a float")]
    let seconds = |span: Span| span.micros() as f64 / 1e6;
    for view in features.freshness() {
        if let Some(behind) = view.behind {
            metrics.set(Metric::ViewBehindSeconds, &[view.view.as_str()], seconds(behind));
        }
        if let Some(target) = view.target {
            metrics.set(Metric::ViewTargetSeconds, &[view.view.as_str()], seconds(target));
        }
    }
    for stream in features.streams() {
        let label = [stream.source.as_str()];
        #[expect(clippy::cast_precision_loss, reason = "a count of entries")]
        metrics.set(Metric::StreamPending, &label, stream.pending as f64);
        if let Some(lag) = stream.lag {
            #[expect(clippy::cast_precision_loss, reason = "a count of entries")]
            metrics.set(Metric::StreamLag, &label, lag as f64);
        }
    }
    for (source, behind) in features.watermarks() {
        metrics.set(Metric::WatermarkBehindSeconds, &[source.as_str()], seconds(behind));
    }
}

/// Counts pipeline runs as the journal tells of their end, from now until the house shuts down.
pub fn follow(house: &House, journal: &Journal, metrics: Metrics) {
    let mut newest = journal.watch();
    let mut after = *newest.borrow_and_update();
    let journal = journal.clone();
    house.spawn("metrics of the journal", |stop| async move {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                changed = newest.changed() => if changed.is_err() { return },
            }
            let last = *newest.borrow_and_update();
            while after < last {
                let events = match journal.read(after, BATCH).await {
                    Ok(events) => events,
                    Err(error) => {
                        // They are counted with the next event.
                        tracing::warn!(%error, "could not read the journal for its metrics");
                        break;
                    }
                };
                let Some(read) = events.last().map(|event| event.seq) else { break };
                after = read;
                for event in events.iter().filter(|event| event.kind == EventKind::PipelineFinished) {
                    let text = |member: &str| event.body[member].as_str().unwrap_or("unknown");
                    metrics.inc(Metric::PipelineRuns, &[text("pipeline"), text("state")]);
                }
            }
        }
    });
}
