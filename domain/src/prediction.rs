//! What serving tells the prediction log, and what comes back as labels.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{EndpointName, Frame, PredictionId, Timestamp};

/// Whether a score was the answer or was computed beside it for comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TargetRole {
    /// Answers a share of the traffic.
    Live,
    /// Scores every logged request, answers none.
    Shadow,
}

/// One version's scores for the rows of a request: `scores[i]` belongs to `PredictionBatch::ids[i]`.
#[derive(Debug, Clone)]
pub struct Scored {
    pub version: u32,
    pub role: TargetRole,
    /// (index into the batch, score). A live target scores only the rows routed to it.
    pub scores: Vec<(usize, f32)>,
}

/// The sampled rows of one request, as the log keeps them.
#[derive(Debug, Clone)]
pub struct PredictionBatch {
    pub endpoint: EndpointName,
    pub ids: Vec<PredictionId>,
    /// Event time of each row.
    pub event_times: Vec<Timestamp>,
    /// When the answer was given.
    pub served_at: Timestamp,
    /// The key under which a label may arrive (endpoint's `label_key` columns joined by `|`), null where absent.
    pub label_keys: Vec<Option<Arc<str>>>,
    /// Everything the model could see: entity keys, request values and features.
    pub inputs: Frame,
    pub scored: Vec<Scored>,
}

/// How a label names what it labels.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum LabelTarget {
    Prediction(PredictionId),
    /// The endpoint's `label_key` values, joined by `|`.
    Key(Arc<str>),
}

/// Where a label came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LabelOrigin {
    /// The world answered (the flight landed).
    Outcome,
    /// A person answered.
    Reviewer,
}

/// One label for one prediction.
#[derive(Debug, Clone)]
pub struct Label {
    pub target: LabelTarget,
    /// True for the positive class.
    pub value: bool,
    /// When the label became known.
    pub known_at: Timestamp,
    pub origin: LabelOrigin,
    pub reviewer: Option<Arc<str>>,
}
