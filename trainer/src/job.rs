//! What goes into a job and what comes out.

use std::collections::BTreeMap;

use domain::{
    JobId, ModelFiles, Signature,
    definition::{EstimatorSpec, InputSpec},
};
use serde::{Deserialize, Serialize};

/// One model to fit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainJob {
    pub id: JobId,
    /// Name the files bear; registering is not ours.
    pub model: String,
    pub inputs: Vec<InputSpec>,
    pub estimator: EstimatorSpec,
    /// Bool column of the dataset, never null.
    pub label: String,
    /// Timestamp column of the dataset, never null.
    pub event_time: String,
    /// Same seed, data and threads on the same machine: same model, bit for bit.
    pub seed: u64,
    /// Threads of the matrix products; 0 leaves it to the trainer.
    pub threads: usize,
}

/// What a job says while it runs: one JSON object per line on the child's standard output.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Progress {
    /// The data is read and prepared. `rows` are learned from; the newest tenth beside them only says when to stop.
    Started { rows: usize, valid_rows: usize, holdout_rows: usize },
    /// An epoch is over; losses are mean log losses per row (`train_loss` weighted, with dropout), `seconds` of wall time.
    Epoch { epoch: u32, train_loss: f64, valid_loss: f64, valid_auc: f64, seconds: f64 },
    /// The largest difference between candle's and ONNX Runtime's probabilities.
    Parity { max_abs_diff: f64 },
    /// The result is complete and on disk.
    Finished { best_epoch: u32, holdout_log_loss: f64, holdout_auc: f64 },
}

/// One epoch, as it is logged to the run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct EpochMetrics {
    /// Counts from 1.
    pub epoch: u32,
    /// Mean log loss per training row, weighted and with dropout, while the weights moved.
    pub train_loss: f64,
    /// Mean log loss on the newest tenth of the training rows, after the epoch.
    pub valid_loss: f64,
    /// AUC on the same rows; 0.5 where they have one class only.
    pub valid_auc: f64,
    /// Wall time.
    pub seconds: f64,
}

/// A finished job.
#[derive(Debug, Clone, PartialEq)]
pub struct Trained {
    /// `model.onnx`, `reference.json`, `MLmodel`.
    pub files: ModelFiles,
    pub signature: Signature,
    /// Keys: see [`crate::metric`].
    pub metrics: BTreeMap<String, f64>,
    pub epochs: Vec<EpochMetrics>,
    pub params: BTreeMap<String, String>,
    pub environment: BTreeMap<String, String>,
    /// ONNX Runtime's probability for each holdout row, in the holdout's order.
    pub holdout_scores: Vec<f32>,
    /// Mean increase of the holdout's log loss when the column is shuffled; at least 0.
    pub importance: BTreeMap<String, f64>,
}

/// Names of the metrics of a finished job.
pub mod metric {
    /// Mean log loss on the holdout.
    pub const LOG_LOSS: &str = "holdout_log_loss";
    pub const AUC: &str = "holdout_auc";
    pub const BRIER: &str = "holdout_brier";
    /// Share of positive labels in the holdout.
    pub const RATE: &str = "holdout_rate";
    pub const ROWS: &str = "holdout_rows";
    /// Log loss on the holdout of the constant that the training rows suggest: what a model must beat.
    pub const BASELINE_LOG_LOSS: &str = "holdout_baseline_log_loss";
    pub const TRAIN_ROWS: &str = "train_rows";
    pub const TRAIN_RATE: &str = "train_rate";
    pub const VALID_ROWS: &str = "valid_rows";
    pub const VALID_LOG_LOSS: &str = "valid_log_loss";
    pub const BEST_EPOCH: &str = "best_epoch";
    pub const PARITY: &str = "parity_max_abs_diff";
    /// Wall time of the whole fit and training rows per second within epochs: the two that differ between equal runs.
    pub const FIT_SECONDS: &str = "fit_seconds";
    pub const ROWS_PER_SECOND: &str = "train_rows_per_second";
}
