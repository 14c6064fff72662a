//! Two versions compared: live, each on its own share of the traffic, or on the same held-out rows.

use domain::{EndpointName, Timestamp, prediction::TargetRole};
use serde::{Deserialize, Serialize};
use stats::welch;

use crate::{error::EvaluatorError, quality::Pile, state::State};

/// Resamples of the paired bootstrap.
const RESAMPLES: usize = 2_000;
/// Two-sided confidence of a trial's interval.
const CONFIDENCE: f64 = 0.95;

/// A trial's results so far: labelled answers with event time after `since`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CanaryResults {
    pub endpoint: EndpointName,
    pub since: Timestamp,
    pub champion: Arm,
    pub challenger: Arm,
    /// Challenger's mean log loss less the champion's: negative is better. Absent until both have two labels.
    pub diff: Option<f64>,
    /// Ends of the 95 % interval of `diff` (Welch).
    pub lower: Option<f64>,
    pub upper: Option<f64>,
    /// Event time reached.
    pub watermark: Option<Timestamp>,
}

/// One version's live answers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Arm {
    pub version: u32,
    pub predictions: u64,
    /// Of the predictions: labelled.
    pub n: u64,
    pub log_loss: Option<f64>,
    /// Sample standard deviation of the log loss of a row; absent below two labels.
    pub sd: Option<f64>,
    pub auc: Option<f64>,
}

fn traffic(state: &State, version: u32, since: Timestamp) -> Pile {
    let mut pile = Pile::default();
    for row in (0..state.len()).filter(|&row| state.event_times[row] > since) {
        if let Some(answer) = state.served(row).filter(|score| score.version == version) {
            pile.add(answer.score, TargetRole::Live, state.labels[row].map(|label| label.value));
        }
    }
    pile
}

fn arm(version: u32, pile: &Pile) -> Arm {
    let (quality, losses) = (pile.measure(), pile.losses());
    Arm {
        version,
        predictions: quality.predictions,
        n: quality.labelled,
        log_loss: quality.log_loss,
        sd: losses.sd(),
        auc: quality.auc,
    }
}

/// The two shares of the traffic side by side.
pub(crate) fn canary(state: &State, champion: u32, challenger: u32, since: Timestamp) -> CanaryResults {
    let (mine, theirs) = (traffic(state, champion, since), traffic(state, challenger, since));
    let welch = welch(&theirs.losses(), &mine.losses(), CONFIDENCE);
    CanaryResults {
        endpoint: state.name.clone(),
        since,
        champion: arm(champion, &mine),
        challenger: arm(challenger, &theirs),
        diff: welch.map(|w| w.diff),
        lower: welch.map(|w| w.interval.lower),
        upper: welch.map(|w| w.interval.upper),
        watermark: state.watermark,
    }
}

/// Two versions on the same labelled rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    pub rows: u64,
    pub champion_log_loss: f64,
    pub challenger_log_loss: f64,
    /// Champion's mean log loss less the challenger's: positive is better.
    pub gain: f64,
    /// The gain exceeds this with the one-sided `confidence` (paired bootstrap).
    pub lower: f64,
    pub confidence: f64,
    /// One-sided: how likely such a gain would be if the challenger were no better.
    pub p: f64,
    /// Absent while only one class is seen.
    pub champion_auc: Option<f64>,
    pub challenger_auc: Option<f64>,
    pub champion_brier: f64,
    pub challenger_brier: f64,
    /// Share of positive labels.
    pub rate: f64,
}

/// Compares two versions' scores of the same rows, by paired bootstrap of the log loss of each row. The same
/// seed gives the same answer. `confidence` is one-sided, 0.5 to 0.999.
///
/// An error without rows, with lists of different lengths, with a score that is not a number, or with a
/// confidence out of range.
pub fn compare(
    labels: &[bool],
    champion: &[f32],
    challenger: &[f32],
    confidence: f64,
    seed: u64,
) -> Result<Comparison, EvaluatorError> {
    let bad = |what: String, hint| Err(EvaluatorError::BadArgument { what, hint });
    if labels.len() != champion.len() || labels.len() != challenger.len() {
        let (n, a, b) = (labels.len(), champion.len(), challenger.len());
        return bad(format!("{n} labels for {a} champion and {b} challenger scores"), "score the same rows with both");
    }
    if !(0.5..=0.999).contains(&confidence) {
        return bad(format!("confidence {confidence} is out of range"), "choose it from 0.5 to 0.999");
    }
    let measured = (stats::quality(champion, labels), stats::quality(challenger, labels));
    let (Some(mine), Some(theirs)) = measured else {
        return bad("there is nothing to compare".to_owned(), "give at least one labelled row with finite scores");
    };
    let losses = (stats::row_losses(champion, labels), stats::row_losses(challenger, labels));
    let Some(bootstrap) = stats::paired_bootstrap(&losses.0, &losses.1, RESAMPLES, seed) else {
        return bad("the losses are not finite".to_owned(), "give scores from 0 to 1");
    };
    Ok(Comparison {
        rows: mine.rows,
        champion_log_loss: mine.log_loss,
        challenger_log_loss: theirs.log_loss,
        gain: bootstrap.mean_diff,
        lower: bootstrap.lower_bound(confidence),
        confidence,
        p: bootstrap.p,
        champion_auc: mine.auc,
        challenger_auc: theirs.auc,
        champion_brier: mine.brier,
        challenger_brier: theirs.brier,
        rate: mine.rate,
    })
}
