//! The one table of metric names.

use std::fmt::Write as _;

/// How a metric behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only goes up.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Durations: quantiles over the last minutes, sum and count since the start.
    Summary,
}

impl Kind {
    /// The word after `# TYPE`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Summary => "summary",
        }
    }
}

macro_rules! metrics {
    ($($metric:ident = $kind:ident $name:literal [$($label:literal),*] in $unit:literal: $help:literal;)+) => {
        /// Every metric Millpond has.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Metric {
            $(#[doc = $help] $metric,)+
        }

        impl Metric {
            pub const ALL: &'static [Self] = &[$(Self::$metric),+];

            /// Name in the exposition.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$metric => $name,)+ }
            }

            /// One sentence for people.
            #[must_use]
            pub const fn help(self) -> &'static str {
                match self { $(Self::$metric => $help,)+ }
            }

            #[must_use]
            pub const fn kind(self) -> Kind {
                match self { $(Self::$metric => Kind::$kind,)+ }
            }

            /// What the number counts.
            #[must_use]
            pub const fn unit(self) -> &'static str {
                match self { $(Self::$metric => $unit,)+ }
            }

            /// Names of the labels, in the order in which values are given.
            #[must_use]
            pub const fn labels(self) -> &'static [&'static str] {
                match self { $(Self::$metric => &[$($label),*],)+ }
            }
        }
    };
}

metrics! {
    HttpRequests = Counter "millpond_http_requests_total" ["route", "method", "status"] in "requests":
        "HTTP requests answered, by route pattern, method and status.";
    HttpRequestSeconds = Summary "millpond_http_request_seconds" ["route"] in "seconds":
        "Time from the arrival of an HTTP request to its answer, by route pattern.";
    GrpcRequests = Counter "millpond_grpc_requests_total" ["method", "code"] in "requests":
        "gRPC calls answered, by full method name and numeric status code.";
    GrpcRequestSeconds = Summary "millpond_grpc_request_seconds" ["method"] in "seconds":
        "Time from the arrival of a gRPC call to its answer, by full method name.";
    QueueDepth = Gauge "millpond_queue_depth" ["queue"] in "items":
        "Items waiting in a bounded queue.";
    ModelSeconds = Summary "millpond_model_seconds" ["endpoint", "version", "stage"] in "seconds":
        "Time a prediction request spends in a stage (features, queue, infer), by endpoint and version.";
    Predictions = Counter "millpond_predictions_total" ["endpoint", "version"] in "rows":
        "Rows answered, by endpoint and the version that answered.";
    IngestedRows = Counter "millpond_ingested_rows_total" ["source", "outcome"] in "rows":
        "Rows offered to a source, by outcome (accepted, duplicate, correction, quarantined).";
    QuarantinedRows = Counter "millpond_quarantined_rows_total" ["source", "reason"] in "rows":
        "Rows set aside, by source and reason; a row that comes again counts again.";
    QuarantineDropped = Counter "millpond_quarantine_dropped_rows_total" ["source"] in "rows":
        "Rows let go unseen from a quarantine that is full.";
    StreamLag = Gauge "millpond_stream_lag_entries" ["source"] in "entries":
        "Entries of a source's stream that were not read yet.";
    StreamPending = Gauge "millpond_stream_pending_entries" ["source"] in "entries":
        "Entries of a source's stream that were read and are not acknowledged.";
    WatermarkBehindSeconds = Gauge "millpond_source_watermark_behind_seconds" ["source"] in "seconds":
        "From a source's watermark to now; sources without one are left out.";
    ViewBehindSeconds = Gauge "millpond_view_behind_seconds" ["view"] in "seconds":
        "From the greatest event time of a feature view's rows to now; views without rows are left out.";
    ViewTargetSeconds = Gauge "millpond_view_freshness_target_seconds" ["view"] in "seconds":
        "How far a feature view may be behind, by its definition; views without a target are left out.";
    VectorsChecked = Counter "millpond_feature_vectors_checked_total" [] in "vectors":
        "Served feature vectors that were derived again from history.";
    FeatureMismatches = Counter "millpond_feature_mismatches_total" ["cause"] in "values":
        "Served feature values that are not what history says, by cause (late_data, definition_change, lost_write).";
    LogDropped = Counter "millpond_log_dropped_total" ["endpoint"] in "rows":
        "Rows the prediction log could not take because its queue was full.";
    Labels = Counter "millpond_labels_total" ["endpoint", "outcome"] in "labels":
        "Labels received, by outcome (joined, unmatched, already).";
    Alerts = Counter "millpond_alerts_total" ["endpoint", "rule"] in "alerts":
        "Alerts raised, by endpoint and rule.";
    PipelineRuns = Counter "millpond_pipeline_runs_total" ["pipeline", "outcome"] in "runs":
        "Pipeline runs that ended, by outcome (promoted, refused, rolled_back, failed).";
    BuildInfo = Gauge "millpond_build_info" ["version"] in "1":
        "Always 1; the label says which version runs.";
}

/// The table as a Markdown page, for the documentation.
#[must_use]
pub fn reference_markdown() -> String {
    let mut page = String::from(
        "# Metrics\n\n\
         Served at `/metrics` in the Prometheus text format. This page is generated from `runtime::Metric`.\n\n\
         Quantiles (0.5, 0.9, 0.99, 0.999) cover the last 5 to 10 minutes; `_sum` and `_count` cover the process's life.\n\n\
         | name | type | labels | unit | meaning |\n|---|---|---|---|---|\n",
    );
    for metric in Metric::ALL {
        let labels = metric.labels().iter().map(|label| format!("`{label}`")).collect::<Vec<_>>().join(", ");
        let (name, kind, unit) = (metric.name(), metric.kind().as_str(), metric.unit());
        // Writing to a String cannot fail.
        let _ = writeln!(page, "| `{name}` | {kind} | {labels} | {unit} | {} |", metric.help());
    }
    page
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_metric_has_a_lawful_name_of_its_own() {
        let names: BTreeSet<_> = Metric::ALL.iter().map(|metric| metric.name()).collect();
        assert_eq!(names.len(), Metric::ALL.len());
        for metric in Metric::ALL {
            let name = metric.name();
            assert!(name.starts_with("millpond_"), "{name}");
            assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{name}");
            assert_eq!(name.ends_with("_total"), metric.kind() == Kind::Counter, "{name}");
            assert!(metric.kind() != Kind::Summary || name.ends_with("_seconds"), "{name}");
            assert!(metric.unit() != "seconds" || name.ends_with("_seconds"), "{name}");
            assert!(metric.help().ends_with('.') && !metric.help().contains('\n'), "{name}");
            assert!(!metric.labels().contains(&"quantile"), "{name}: Prometheus keeps that label for itself");
        }
    }

    #[test]
    fn the_table_lists_each_variant_once() {
        for (position, metric) in Metric::ALL.iter().enumerate() {
            assert_eq!(*metric as usize, position);
            assert!(reference_markdown().contains(metric.name()));
        }
    }
}
