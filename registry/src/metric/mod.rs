//! Metric points: every one in a columnar table, the newest of each key in SQL beside its run.

mod chart;
pub(crate) mod columns;
mod history;
mod interval;
pub(crate) mod latest;
mod log;
mod rows;

use domain::Timestamp;
use serde::{Deserialize, Serialize};

use crate::number;

pub use chart::MetricChart;
pub use history::RunPoint;
pub use interval::StepRange;
pub use log::{Batch, MetricEntry};

/// One value of one metric. Run, key, step, time and value together identify a point: logging it again adds nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MetricPoint {
    pub key: String,
    /// Any float; `NaN` and infinities travel as texts.
    #[serde(with = "number")]
    pub value: f64,
    /// Epoch, batch or whatever the run counts; may be negative.
    #[serde(default)]
    pub step: i64,
    pub at: Timestamp,
}
