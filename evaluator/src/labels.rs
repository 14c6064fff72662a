//! Labels: found their prediction, decided whether they count, told of.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use domain::{
    Coded, ErrorCode,
    prediction::{Label, LabelOrigin, LabelTarget},
};
use serde::Serialize;

use crate::{
    error::EvaluatorError,
    log::LabelRow,
    state::{LabelCell, State},
};

/// Labels by key without a prediction that are remembered, in case the prediction comes later.
const MAX_WAITING: usize = 16_384;

/// What became of the labels of one call.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct LabelReport {
    /// Now count for a prediction, corrections among them.
    pub joined: u64,
    /// Of the joined: replaced another value.
    pub corrected: u64,
    /// Said what is known already.
    pub already: u64,
    /// Differ from a label that outranks them: a reviewer's, or a newer one.
    pub overruled: u64,
    /// Labels by key whose prediction was not sampled, or has not been made.
    pub unmatched: u64,
    /// Labels that could not be taken; the others were.
    pub problems: Vec<LabelProblem>,
}

/// A label that could not be taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LabelProblem {
    /// Position in the call.
    pub index: usize,
    pub code: ErrorCode,
    pub message: String,
    pub hint: String,
}

/// What a label is beside the one that counts now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    First,
    Correction,
    /// The same answer from a reviewer, who outranks the outcome from now on.
    Confirmation,
    Same,
    Outranked,
}

fn standing(new: &LabelCell, known: Option<LabelCell>) -> Standing {
    use LabelOrigin::{Outcome, Reviewer};
    let Some(known) = known else { return Standing::First };
    match (new.value == known.value, new.origin, known.origin) {
        (true, Reviewer, Outcome) => Standing::Confirmation,
        (true, _, _) => Standing::Same,
        (false, Outcome, Reviewer) => Standing::Outranked,
        (false, Reviewer, Outcome) => Standing::Correction,
        (false, _, _) if new.known_at >= known.known_at => Standing::Correction,
        (false, _, _) => Standing::Outranked,
    }
}

/// Labels sorted out, before anything is written.
#[derive(Debug, Default)]
pub(crate) struct Sorted {
    pub report: LabelReport,
    /// Row in memory, and what goes to the log; in order.
    pub accepted: Vec<(usize, LabelRow)>,
    /// By key, without a prediction so far.
    pub unmatched: Vec<(Arc<str>, Label)>,
}

/// Decides what each label means, in order, without changing anything.
pub(crate) fn sort(state: &State, labels: Vec<Label>) -> Sorted {
    let mut sorted = Sorted::default();
    let mut changed: HashMap<usize, LabelCell> = HashMap::new();
    for (index, label) in labels.into_iter().enumerate() {
        let row = match &label.target {
            LabelTarget::Prediction(id) => match state.row_of(*id) {
                Some(row) => row,
                None => {
                    let error = EvaluatorError::UnknownPrediction(*id);
                    let (code, message, hint) = (error.code(), error.to_string(), error.hint());
                    sorted.report.problems.push(LabelProblem { index, code, message, hint });
                    continue;
                }
            },
            LabelTarget::Key(key) => match state.row_of_key(key) {
                Some(row) => row,
                None => {
                    sorted.report.unmatched += 1;
                    sorted.unmatched.push((key.clone(), label));
                    continue;
                }
            },
        };
        let cell = LabelCell { value: label.value, origin: label.origin, known_at: label.known_at };
        let report = &mut sorted.report;
        match standing(&cell, changed.get(&row).copied().or(state.labels[row])) {
            Standing::First => report.joined += 1,
            Standing::Correction => {
                report.joined += 1;
                report.corrected += 1;
            }
            Standing::Confirmation => report.already += 1,
            Standing::Same => {
                report.already += 1;
                continue;
            }
            Standing::Outranked => {
                report.overruled += 1;
                continue;
            }
        }
        changed.insert(row, cell);
        sorted.accepted.push((row, LabelRow { id: state.ids[row], cell, reviewer: label.reviewer }));
    }
    sorted
}

/// Labels by key that found no prediction. Bounded and in memory only: the feature store keeps every label.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    labels: HashMap<Arc<str>, Label>,
    order: VecDeque<Arc<str>>,
}

impl Waiting {
    pub(crate) fn keep(&mut self, key: Arc<str>, label: Label) {
        if self.labels.insert(key.clone(), label).is_none() {
            self.order.push_back(key);
        }
        while self.labels.len() > MAX_WAITING {
            let Some(oldest) = self.order.pop_front() else { break };
            self.labels.remove(&oldest);
        }
    }

    /// Labels that waited for one of these keys.
    pub(crate) fn take<'a>(&mut self, keys: impl Iterator<Item = &'a Arc<str>>) -> Vec<Label> {
        if self.labels.is_empty() {
            return Vec::new();
        }
        let taken: Vec<_> = keys.filter_map(|key| self.labels.remove(key)).collect();
        if !taken.is_empty() {
            self.order.retain(|key| self.labels.contains_key(key));
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use domain::Timestamp;

    use super::*;

    const fn cell(value: bool, origin: LabelOrigin, second: i64) -> LabelCell {
        LabelCell { value, origin, known_at: Timestamp::from_micros(second * 1_000_000) }
    }

    #[test]
    fn a_reviewer_outranks_an_outcome_and_newer_outranks_older() {
        use LabelOrigin::{Outcome, Reviewer};
        let check = |new, known, expected| assert_eq!(standing(&new, Some(known)), expected, "{new:?} after {known:?}");
        check(cell(true, Outcome, 9), cell(true, Outcome, 1), Standing::Same);
        check(cell(true, Outcome, 9), cell(false, Outcome, 1), Standing::Correction);
        check(cell(true, Outcome, 1), cell(false, Outcome, 9), Standing::Outranked);
        check(cell(true, Reviewer, 1), cell(false, Outcome, 9), Standing::Correction);
        check(cell(true, Reviewer, 1), cell(true, Outcome, 9), Standing::Confirmation);
        check(cell(true, Outcome, 9), cell(false, Reviewer, 1), Standing::Outranked);
        check(cell(true, Outcome, 9), cell(true, Reviewer, 1), Standing::Same);
        assert_eq!(standing(&cell(true, Outcome, 1), None), Standing::First);
    }

    #[test]
    fn waiting_labels_are_bounded_and_the_oldest_go_first() {
        let label = |i: usize| {
            let (key, known_at) = (Arc::<str>::from(i.to_string()), Timestamp::MIN);
            let target = LabelTarget::Key(key.clone());
            (key, Label { target, value: true, known_at, origin: LabelOrigin::Outcome, reviewer: None })
        };
        let mut waiting = Waiting::default();
        for i in 0..=MAX_WAITING {
            let (key, label) = label(i);
            waiting.keep(key, label);
        }
        assert!(waiting.take([&"0".into()].into_iter()).is_empty());
        assert_eq!(waiting.take([&"1".into(), &"2".into()].into_iter()).len(), 2);
        assert!(waiting.take([&"1".into()].into_iter()).is_empty());
        assert_eq!(waiting.labels.len(), waiting.order.len());
    }
}
