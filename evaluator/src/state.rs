//! What is known of an endpoint's predictions, in memory and by column: about 150 bytes a prediction.

use std::{collections::HashMap, sync::Arc};

use domain::{
    EndpointName, Frame, PredictionId, Timestamp,
    prediction::{LabelOrigin, PredictionBatch, TargetRole},
};

use crate::{inputs::Recent, watch::Watching};

/// Distinct values kept per slice column; later ones count as `(other)`.
const MAX_SLICE_VALUES: usize = 1_000;
/// How null is shown among slice values.
const NULL_SLICE: &str = "(null)";
const OTHER_SLICE: &str = "(other)";

/// One version's score of one prediction.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Score {
    pub version: u32,
    pub role: TargetRole,
    pub score: f32,
}

/// The label that counts for a prediction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LabelCell {
    pub value: bool,
    pub origin: LabelOrigin,
    pub known_at: Timestamp,
}

/// A prediction about to be added.
#[derive(Debug, Clone)]
pub(crate) struct NewRow {
    pub id: PredictionId,
    pub event_time: Timestamp,
    pub label_key: Option<Arc<str>>,
    pub scores: Vec<Score>,
}

/// Values of one slice column, as codes into `values`.
#[derive(Debug, Default)]
pub(crate) struct Slice {
    pub values: Vec<Arc<str>>,
    pub codes: Vec<u32>,
    index: HashMap<Arc<str>, u32>,
}

impl Slice {
    fn push(&mut self, value: Option<&str>) {
        let value = value.unwrap_or(NULL_SLICE);
        let code = match self.index.get(value) {
            Some(code) => *code,
            None if self.values.len() < MAX_SLICE_VALUES => self.intern(value),
            None => self.index.get(OTHER_SLICE).copied().unwrap_or_else(|| self.intern(OTHER_SLICE)),
        };
        self.codes.push(code);
    }

    fn intern(&mut self, value: &str) -> u32 {
        let (code, value) = (index_of(self.values.len()), Arc::<str>::from(value));
        self.values.push(value.clone());
        self.index.insert(value, code);
        code
    }
}

/// Row numbers are 32 bits wide: a log of four thousand million predictions outgrows memory first.
pub(crate) fn index_of(row: usize) -> u32 {
    u32::try_from(row).expect("fewer than 2^32 rows fit in memory")
}

/// Everything an endpoint's log says, in order of arrival.
#[derive(Debug)]
pub(crate) struct State {
    pub name: EndpointName,
    pub ids: Vec<PredictionId>,
    pub event_times: Vec<Timestamp>,
    pub label_keys: Vec<Option<Arc<str>>>,
    pub labels: Vec<Option<LabelCell>>,
    pub slices: Vec<(String, Slice)>,
    score_ends: Vec<u32>,
    scores: Vec<Score>,
    by_id: HashMap<PredictionId, u32>,
    by_key: HashMap<Arc<str>, u32>,
    pub recent: Recent,
    pub labelled: u64,
    /// Latest event time seen; `None` before the first prediction.
    pub watermark: Option<Timestamp>,
    pub watching: Watching,
}

impl State {
    pub(crate) fn new(name: EndpointName) -> Self {
        Self {
            name,
            ids: Vec::new(),
            event_times: Vec::new(),
            label_keys: Vec::new(),
            labels: Vec::new(),
            slices: Vec::new(),
            score_ends: Vec::new(),
            scores: Vec::new(),
            by_id: HashMap::new(),
            by_key: HashMap::new(),
            recent: Recent::default(),
            labelled: 0,
            watermark: None,
            watching: Watching::default(),
        }
    }

    /// Number of predictions.
    pub(crate) fn len(&self) -> usize {
        self.ids.len()
    }

    pub(crate) fn row_of(&self, id: PredictionId) -> Option<usize> {
        self.by_id.get(&id).map(|row| *row as usize)
    }

    /// The latest prediction under this label key.
    pub(crate) fn row_of_key(&self, key: &str) -> Option<usize> {
        self.by_key.get(key).map(|row| *row as usize)
    }

    pub(crate) fn scores(&self, row: usize) -> &[Score] {
        let start = if row == 0 { 0 } else { self.score_ends[row - 1] as usize };
        &self.scores[start..self.score_ends[row] as usize]
    }

    /// The score that was the answer.
    pub(crate) fn served(&self, row: usize) -> Option<Score> {
        self.scores(row).iter().copied().find(|score| score.role == TargetRole::Live)
    }

    /// The score a version gave, as answer or beside it.
    pub(crate) fn score_by(&self, row: usize, version: u32) -> Option<f32> {
        self.scores(row).iter().find(|score| score.version == version).map(|score| score.score)
    }

    pub(crate) fn slice(&self, name: &str) -> Option<&Slice> {
        self.slices.iter().find(|(known, _)| known == name).map(|(_, slice)| slice)
    }

    /// Replaces the slice columns; their codes are filled by `push_slices`, row by row from the first.
    pub(crate) fn reset_slices(&mut self, names: &[String]) {
        self.slices = names.iter().map(|name| (name.clone(), Slice::default())).collect();
    }

    /// Adds a row without its slices and inputs. False when the id is known already; nothing is added then.
    pub(crate) fn push(&mut self, row: NewRow) -> bool {
        let at = index_of(self.len());
        if self.by_id.contains_key(&row.id) {
            return false;
        }
        self.by_id.insert(row.id, at);
        if let Some(key) = &row.label_key {
            self.by_key.insert(key.clone(), at);
        }
        self.ids.push(row.id);
        self.event_times.push(row.event_time);
        self.label_keys.push(row.label_key);
        self.labels.push(None);
        self.scores.extend(row.scores);
        self.score_ends.push(index_of(self.scores.len()));
        self.advance(row.event_time);
        true
    }

    /// The slice values of the next row that has none yet.
    pub(crate) fn push_slices<'a>(&mut self, value_of: impl Fn(&str) -> Option<std::borrow::Cow<'a, str>>) {
        for (name, slice) in &mut self.slices {
            slice.push(value_of(name).as_deref());
        }
    }

    /// Adds the rows of a batch; returns the numbers of those that are new.
    pub(crate) fn push_batch(&mut self, batch: &PredictionBatch) -> Vec<usize> {
        let mut scores = vec![Vec::new(); batch.ids.len()];
        for scored in &batch.scored {
            for (row, score) in &scored.scores {
                scores[*row].push(Score { version: scored.version, role: scored.role, score: *score });
            }
        }
        let mut added = Vec::with_capacity(batch.ids.len());
        for (i, scores) in scores.into_iter().enumerate() {
            let row = NewRow {
                id: batch.ids[i],
                event_time: batch.event_times[i],
                label_key: batch.label_keys[i].clone(),
                scores,
            };
            if self.push(row) {
                self.push_slices(|name| slice_text(&batch.inputs, name, i));
                self.recent.push(&batch.inputs, i);
                added.push(self.len() - 1);
            }
        }
        self.trim();
        added
    }

    /// Event time has reached `to`.
    pub(crate) fn advance(&mut self, to: Timestamp) {
        self.watermark = self.watermark.max(Some(to));
    }

    /// Sets the label that counts; returns what it replaces.
    pub(crate) fn set_label(&mut self, row: usize, label: LabelCell) -> Option<LabelCell> {
        let before = self.labels[row].replace(label);
        self.labelled += u64::from(before.is_none());
        if label.origin == LabelOrigin::Outcome {
            self.advance(label.known_at);
        }
        before
    }

    /// Forgets inputs that no coming window can contain.
    pub(crate) fn trim(&mut self) {
        if let (Some(watermark), Some(horizon)) = (self.watermark, self.watching.input_horizon()) {
            let first = self.len() - self.recent.rows();
            let old = self.event_times[first..].iter().take_while(|t| **t <= watermark - horizon).count();
            self.recent.forget(old);
        }
    }
}

/// The value of a column as slice text; `None` for null or an absent column.
fn slice_text<'a>(inputs: &Frame, name: &str, row: usize) -> Option<std::borrow::Cow<'a, str>> {
    json_text(&inputs.column(name)?.get(row).to_json())
}

/// A JSON value as slice text.
pub(crate) fn json_text<'a>(value: &serde_json::Value) -> Option<std::borrow::Cow<'a, str>> {
    match value {
        serde_json::Value::Null => None,
        serde_json::Value::String(text) => Some(text.clone().into()),
        other => Some(other.to_string().into()),
    }
}
