//! Definitions: what people write in YAML and apply. Unknown keys are errors.
//!
//! One document defines one thing; `kind` says which. The same types travel as JSON over REST.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    ColumnName, EndpointName, EntityName, ModelName, PipelineName, ServiceName, SourceName, Span, ValueType, ViewName,
};
pub use crate::{
    entity::{Entity, KeyColumn, TypedKey},
    window::{AggregateFunction, Aggregation, WindowShape},
};

/// One document of a definition file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind")]
pub enum Definition {
    Entity(Entity),
    Source(Source),
    FeatureView(FeatureView),
    FeatureService(FeatureService),
    Pipeline(Pipeline),
    Endpoint(Endpoint),
}

impl Definition {
    /// The kind as written in YAML.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Entity(_) => "Entity",
            Self::Source(_) => "Source",
            Self::FeatureView(_) => "FeatureView",
            Self::FeatureService(_) => "FeatureService",
            Self::Pipeline(_) => "Pipeline",
            Self::Endpoint(_) => "Endpoint",
        }
    }

    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Entity(d) => d.name.as_str(),
            Self::Source(d) => d.name.as_str(),
            Self::FeatureView(d) => d.name.as_str(),
            Self::FeatureService(d) => d.name.as_str(),
            Self::Pipeline(d) => d.name.as_str(),
            Self::Endpoint(d) => d.name.as_str(),
        }
    }
}

/// A table of timestamped rows that people ingest into.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    pub name: SourceName,
    /// Column with the event time of the row.
    pub timestamp: ColumnName,
    /// Column with the time the row was written, where there is one; breaks ties between equal event times.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<ColumnName>,
    /// Columns that, with the event time, tell one row from another. A row that repeats them with equal
    /// values is a duplicate and is skipped; with other values it is a correction and the later one counts.
    /// Empty: all columns.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub row_id: Vec<ColumnName>,
    pub columns: Vec<SourceColumn>,
    /// Declared zone of timestamps written without one (IANA name). Absent: such rows are quarantined.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timezone: Option<String>,
    /// How far rows may come out of order: the watermark is the greatest event time less this. Absent: no row is late.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watermark: Option<Span>,
    /// How far behind the watermark a row may still come; absent: not at all. Later rows are quarantined.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_lateness: Option<Span>,
    /// How far ahead of the clock an event time may lie; absent: any. Rows further ahead are quarantined and never
    /// move the watermark.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_future: Option<Span>,
    /// A stream that rows are read from, besides what people send. Absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<StreamInput>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
}

/// A Redis stream, read as one consumer of a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamInput {
    /// Name of a connection in the server's configuration (`ingestion.redis`), which knows address and password.
    pub redis: String,
    /// The stream's key.
    pub key: String,
    /// The consumer group; made, at the stream's beginning, where it is not there.
    #[serde(default = "StreamInput::default_group", skip_serializing_if = "StreamInput::is_default_group")]
    pub group: String,
    /// Field of an entry that holds the row as a JSON object. Absent: the entry's fields are the columns, as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<String>,
    /// Text column that takes the entry's id, where the row has none: with it in `row_id` two entries that say the same
    /// are two rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry_id: Option<ColumnName>,
}

impl StreamInput {
    fn default_group() -> String {
        "millpond".to_owned()
    }

    fn is_default_group(group: &str) -> bool {
        group == "millpond"
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceColumn {
    pub name: ColumnName,
    #[serde(rename = "type")]
    pub kind: ValueType,
    /// Whether a row without this value is quarantined.
    #[serde(default)]
    pub required: bool,
}

/// Features over one source: columns as they are, or aggregations over trailing windows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeatureView {
    pub name: ViewName,
    pub source: SourceName,
    pub entities: Vec<EntityName>,
    /// A row older than this is not served; absent: no limit. Not allowed beside aggregations, whose windows say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<Span>,
    /// Columns of the source, taken from the newest row.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub features: Vec<PlainFeature>,
    /// Aggregations over the entity's rows in windows of event time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aggregations: Vec<Aggregation>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Who answers for the view: a person, a team, an address.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub owner: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// How closely the values are to be kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classification: Option<Classification>,
    /// How far the newest row may lie behind the clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub freshness: Option<Span>,
}

/// Classes of data, from what everybody may see to what hardly anybody may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Classification {
    Public,
    Internal,
    Confidential,
    Restricted,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlainFeature {
    pub name: ColumnName,
    /// Source column; the feature's own name when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<ColumnName>,
    /// Served where no row is known; absent: null.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<serde_json::Value>,
}

/// A named set of features, the values callers send beside them, and nothing else: what a model pins.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeatureService {
    pub name: ServiceName,
    #[serde(default)]
    pub views: Vec<ServiceView>,
    /// Values sent with each request and found in the spine when training.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub request: Vec<RequestValue>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceView {
    pub view: ViewName,
    /// Empty: all features of the view.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub features: Vec<ColumnName>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequestValue {
    pub name: ColumnName,
    #[serde(rename = "type")]
    pub kind: ValueType,
    /// Used where the caller leaves it out; absent: the caller must send it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<serde_json::Value>,
}

/// How a model is made, judged and rolled out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pipeline {
    pub name: PipelineName,
    pub model: ModelName,
    /// Endpoint on which better versions are rolled out.
    pub endpoint: EndpointName,
    pub dataset: DatasetSpec,
    /// How each input column enters the model.
    pub inputs: Vec<InputSpec>,
    /// Candidates trained side by side; the best on the holdout goes on.
    pub estimators: Vec<EstimatorSpec>,
    #[serde(default)]
    pub gate: GateSpec,
    #[serde(default)]
    pub rollout: RolloutSpec,
    #[serde(default)]
    pub trigger: TriggerSpec,
    #[serde(default)]
    pub seed: u64,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
}

/// Which rows a training set has: the spine's rows whose label is known by the cutoff, joined to the service's features.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatasetSpec {
    pub service: ServiceName,
    /// Source whose rows are the questions: event time, entity keys and request values.
    pub spine: SourceName,
    pub label: LabelSpec,
    /// Rows with event time in `(cutoff - window, cutoff]`; absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Span>,
    /// Newest slice by event time, kept out of training and used to choose and to gate.
    pub holdout: Span,
}

/// Where labels are found: the row of `source` with the same `key` columns whose event time (when it became known) is not after the cutoff.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabelSpec {
    pub source: SourceName,
    pub key: Vec<ColumnName>,
    /// Bool column; the newest row counts, a reviewer's over an outcome's.
    pub column: ColumnName,
}

/// How one column enters the model. The steps become part of the ONNX graph.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputSpec {
    /// An entity key, a request value or `view__feature`.
    pub column: String,
    pub prep: Prep,
    /// `difference`: the column taken away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minus: Option<String>,
    /// `cycle`: the period, in the column's own unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub period: Option<f64>,
    /// `embedding`: length of the learned vector.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dim: Option<usize>,
    /// `numeric`, `log`, `difference`: standardised values are cut at plus and minus this.
    #[serde(default = "default_clip")]
    pub clip: f64,
    /// `one_hot`, `embedding`: categories seen less often in training count as unknown.
    #[serde(default = "default_min_count")]
    pub min_count: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Prep {
    /// Null becomes the training median (and sets an extra 0/1 input where training saw nulls), then (x - mean) / std, clipped.
    Numeric,
    /// ln(1 + max(x, 0)), then as `numeric`.
    Log,
    /// x less the column `minus`, then as `numeric`; null where either is null.
    Difference,
    /// sin and cos of 2 pi x / `period`; null becomes (0, 0).
    Cycle,
    /// One 0/1 input per known category; anything else, null too, is all zeros.
    OneHot,
    /// A learned vector of length `dim` per known category; anything else, null too, shares one vector.
    /// A logistic learner uses one input per category instead.
    Embedding,
}

const fn default_clip() -> f64 {
    5.0
}

const fn default_min_count() -> u32 {
    20
}

/// A learner and its training loop. The weights kept are those of the epoch with the least loss on the
/// newest tenth of the training rows (by event time).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EstimatorSpec {
    pub name: String,
    pub learner: Learner,
    /// `mlp`: widths of the hidden layers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hidden: Vec<usize>,
    /// `mlp`: share of hidden units dropped while training, 0 to below 1.
    #[serde(default)]
    pub dropout: f64,
    #[serde(default = "EstimatorSpec::default_epochs")]
    pub epochs: u32,
    #[serde(default = "EstimatorSpec::default_batch_size")]
    pub batch_size: usize,
    #[serde(default = "EstimatorSpec::default_learning_rate")]
    pub learning_rate: f64,
    /// AdamW's decoupled weight decay.
    #[serde(default)]
    pub weight_decay: f64,
    /// Epochs without improvement before training stops.
    #[serde(default = "EstimatorSpec::default_patience")]
    pub patience: u32,
    /// Rows count half as much every `half_life` before the newest; absent: all the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub half_life: Option<Span>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Learner {
    /// Logistic regression.
    Logistic,
    /// Multilayer perceptron: linear + ReLU layers, then one logit.
    Mlp,
}

impl EstimatorSpec {
    const fn default_epochs() -> u32 {
        8
    }
    const fn default_batch_size() -> usize {
        512
    }
    const fn default_learning_rate() -> f64 {
        1e-3
    }
    const fn default_patience() -> u32 {
        2
    }
}

/// When a challenger may go to canary: its log loss on the holdout is lower than the champion's, with this confidence (paired bootstrap).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GateSpec {
    /// Least labelled rows in the holdout; fewer is a refusal.
    pub min_rows: u64,
    /// One-sided confidence of the paired bootstrap, 0.5 to 0.999.
    pub confidence: f64,
    /// Least improvement of mean log loss.
    pub min_gain: f64,
}

impl Default for GateSpec {
    fn default() -> Self {
        Self { min_rows: 1_000, confidence: 0.95, min_gain: 0.0 }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RolloutSpec {
    /// Share of traffic given to the challenger while it is on trial, 1 to 50.
    pub canary_percent: u32,
    /// Labelled canary predictions after which its own live results decide.
    pub min_labels: u64,
    /// Event time after which the trial is decided with what there is; with fewer labels than `min_labels` it is rolled back.
    pub max_duration: Span,
}

impl Default for RolloutSpec {
    fn default() -> Self {
        Self { canary_percent: 20, min_labels: 1_000, max_duration: Span::from_micros(14 * Span::DAY.micros()) }
    }
}

/// How much the platform may do by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum Autonomy {
    AlertOnly,
    #[default]
    TrainOnly,
    FullAuto,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TriggerSpec {
    /// What an alert of the endpoint's monitor may set in motion.
    pub autonomy: Autonomy,
    /// Event time after a finished run in which alerts start nothing.
    pub cool_down: Span,
    /// Least labels that arrived since the last training cutoff.
    pub min_new_labels: u64,
}

impl Default for TriggerSpec {
    fn default() -> Self {
        Self {
            autonomy: Autonomy::default(),
            cool_down: Span::from_micros(14 * Span::DAY.micros()),
            min_new_labels: 1_000,
        }
    }
}

/// One URL, its versions' traffic, and what is watched there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    pub name: EndpointName,
    pub model: ModelName,
    pub service: ServiceName,
    /// Columns of an instance that identify it: labels arrive under them, and the same key always gets the same version.
    pub label_key: Vec<ColumnName>,
    /// Source into which labels posted for this endpoint are written, so that they reach the next training set.
    pub labels: LabelSpec,
    /// Share of predictions that are logged, 0 to 1, chosen by hash of the label key.
    #[serde(default = "one")]
    pub sample: f64,
    /// Score at and above which the answer is positive.
    #[serde(default = "half")]
    pub threshold: f64,
    #[serde(default)]
    pub review: ReviewSpec,
    #[serde(default)]
    pub monitor: MonitorSpec,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
}

const fn one() -> f64 {
    1.0
}

const fn half() -> f64 {
    0.5
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReviewSpec {
    /// Predictions with |score - threshold| at most this become review tasks.
    pub band: f64,
    /// Tasks open at once; further ones are not made.
    pub max_open: u64,
}

impl Default for ReviewSpec {
    fn default() -> Self {
        Self { band: 0.01, max_open: 100 }
    }
}

/// What the evaluator looks at, over event time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MonitorSpec {
    /// Length of the current window.
    pub window: Span,
    /// A report is made each time event time passes a multiple of this.
    pub every: Span,
    /// Wait this long after a window's end for its labels.
    pub label_delay: Span,
    /// Columns by whose values quality is also shown.
    pub slices: Vec<String>,
    /// Least labelled predictions in a window for a verdict.
    pub min_labels: u64,
    /// Alert when log loss exceeds that on the training holdout by more than this, beyond chance at 1 %.
    pub max_log_loss_rise: f64,
    /// Alert when |mean score - observed rate| exceeds this, beyond chance at 1 %.
    pub max_bias: f64,
    /// Alert when the importance-weighted drift of the model's inputs exceeds this (mean PSI weighted by importance); absent: drift is reported, never alerted.
    pub max_weighted_psi: Option<f64>,
    /// Of how many consecutive windows how many must fire (2 of 3 by default).
    pub persistence: Persistence,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Persistence {
    pub fired: u32,
    pub of: u32,
}

impl Default for Persistence {
    fn default() -> Self {
        Self { fired: 2, of: 3 }
    }
}

impl Default for MonitorSpec {
    fn default() -> Self {
        Self {
            window: Span::from_micros(7 * Span::DAY.micros()),
            every: Span::DAY,
            label_delay: Span::DAY,
            slices: Vec::new(),
            min_labels: 200,
            max_log_loss_rise: 0.02,
            max_bias: 0.03,
            max_weighted_psi: None,
            persistence: Persistence::default(),
        }
    }
}
