//! The consistency guard's rounds: from time to time, what was served is compared with history, and counted.

use std::time::Duration;

use feature_store::{Cause, FeatureError, FeatureStore, GuardReport};
use runtime::{House, Metrics, metrics::Metric};

use crate::http::problem::chain;

/// Compares everything that waits, now.
pub async fn check(features: &FeatureStore, metrics: &Metrics) -> Result<GuardReport, FeatureError> {
    let report = features.check_consistency().await?;
    metrics.add(Metric::VectorsChecked, &[], report.vectors);
    for cause in Cause::ALL {
        metrics.add(Metric::FeatureMismatches, &[cause.as_str()], report.of(cause));
    }
    if report.mismatches() > 0 {
        tracing::warn!(
            vectors = report.vectors,
            late_data = report.late_data,
            definition_change = report.definition_change,
            lost_write = report.lost_write,
            "features were served that are not what history says; see `millpond features consistency`"
        );
    }
    Ok(report)
}

/// Compares `every` so often, until the house shuts down.
pub fn go_on(house: &House, features: &FeatureStore, metrics: &Metrics, every: Duration) {
    let (features, metrics) = (features.clone(), metrics.clone());
    house.spawn("consistency guard", move |stop| async move {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(every) => {}
            }
            let checked = tokio::select! {
                () = stop.cancelled() => return,
                checked = check(&features, &metrics) => checked,
            };
            if let Err(error) = checked {
                tracing::warn!(error = %chain(&error), "what was served could not be compared with history; it is tried again");
            }
        }
    });
}
