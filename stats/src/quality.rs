//! How good probabilities of a yes/no outcome are, once the outcomes are known.
//!
//! Scores are probabilities of the positive class, in 0..=1, as `f32` or `f64`.

use serde::{Deserialize, Serialize};

/// Scores are kept this far from 0 and 1 when the logarithm is taken, so that one sure mistake costs 16.1 and
/// not infinity.
pub const LOG_LOSS_EPSILON: f64 = 1e-7;

/// All the figures of one set of scored and labelled rows.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Quality {
    pub rows: u64,
    /// Mean negative log likelihood, in nats; smaller is better.
    pub log_loss: f64,
    /// Absent while all labels are the same.
    pub auc: Option<f64>,
    /// Mean squared error of the score; smaller is better.
    pub brier: f64,
    /// Mean score less `rate`: positive means the model expects too much.
    pub bias: f64,
    pub mean_score: f64,
    /// Share of positive labels.
    pub rate: f64,
}

/// Every figure at once; `None` without rows or with a score that is not a number.
#[must_use]
pub fn quality<S: Copy + Into<f64>>(scores: &[S], labels: &[bool]) -> Option<Quality> {
    let rate = rate(labels)?;
    let bias = bias(scores, labels)?;
    Some(Quality {
        rows: labels.len() as u64,
        log_loss: log_loss(scores, labels)?,
        auc: auc(scores, labels),
        brier: brier(scores, labels)?,
        bias,
        mean_score: bias + rate,
        rate,
    })
}

/// Area under the ROC curve: the chance that a positive row scores above a negative one, ties counting half
/// (Mann and Whitney 1947; Hanley and McNeil, Radiology 143, 1982). Exact: ranks are counted in integers.
///
/// `None` unless both classes are there and every score is a number.
///
/// ```
/// assert_eq!(stats::auc(&[0.1, 0.4, 0.35, 0.8], &[false, false, true, true]), Some(0.75));
/// ```
///
/// # Panics
/// When the lengths differ.
#[must_use]
pub fn auc<S: Copy + Into<f64>>(scores: &[S], labels: &[bool]) -> Option<f64> {
    let mut rows = paired(scores, labels)?;
    rows.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    // Twice the number of (positive, negative) pairs in the right order, so that ties are whole numbers.
    let (mut twice_right, mut negatives_below, mut positives) = (0u128, 0u128, 0u128);
    // Compared by value, not by bits: -0.0 and 0.0 are the same score.
    for tied in rows.chunk_by(|a, b| a.0 == b.0) {
        let up = tied.iter().filter(|(_, label)| *label).count() as u128;
        let down = tied.len() as u128 - up;
        twice_right += up * (2 * negatives_below + down);
        negatives_below += down;
        positives += up;
    }
    let pairs = positives * negatives_below;
    (pairs > 0).then(|| twice_right as f64 / (2 * pairs) as f64)
}

/// Mean of [`row_loss`]; `None` without rows or with a score that is not a number.
///
/// # Panics
/// When the lengths differ.
#[must_use]
pub fn log_loss<S: Copy + Into<f64>>(scores: &[S], labels: &[bool]) -> Option<f64> {
    mean(paired(scores, labels)?.into_iter().map(|(score, label)| row_loss(score, label)))
}

/// What one row costs: -ln of the probability given to what happened (Good 1952), in nats, with the score
/// kept [`LOG_LOSS_EPSILON`] away from 0 and 1.
#[must_use]
pub fn row_loss(score: f64, label: bool) -> f64 {
    let given = if label { score } else { 1.0 - score };
    -given.clamp(LOG_LOSS_EPSILON, 1.0 - LOG_LOSS_EPSILON).ln()
}

/// [`row_loss`] of every row, for paired comparisons.
///
/// # Panics
/// When the lengths differ.
#[must_use]
pub fn row_losses<S: Copy + Into<f64>>(scores: &[S], labels: &[bool]) -> Vec<f64> {
    assert_eq!(scores.len(), labels.len(), "one label per score");
    scores.iter().zip(labels).map(|(score, label)| row_loss((*score).into(), *label)).collect()
}

/// Mean squared difference of score and outcome (Brier 1950); `None` without rows or with a score that is
/// not a number.
///
/// # Panics
/// When the lengths differ.
#[must_use]
pub fn brier<S: Copy + Into<f64>>(scores: &[S], labels: &[bool]) -> Option<f64> {
    mean(paired(scores, labels)?.into_iter().map(|(score, label)| (score - f64::from(u8::from(label))).powi(2)))
}

/// Calibration in the large: mean score less the share of positives; `None` without rows or with a score
/// that is not a number.
///
/// # Panics
/// When the lengths differ.
#[must_use]
pub fn bias<S: Copy + Into<f64>>(scores: &[S], labels: &[bool]) -> Option<f64> {
    mean(paired(scores, labels)?.into_iter().map(|(score, label)| score - f64::from(u8::from(label))))
}

/// Share of positive labels; `None` without any.
#[must_use]
pub fn rate(labels: &[bool]) -> Option<f64> {
    mean(labels.iter().map(|label| f64::from(u8::from(*label))))
}

fn paired<S: Copy + Into<f64>>(scores: &[S], labels: &[bool]) -> Option<Vec<(f64, bool)>> {
    assert_eq!(scores.len(), labels.len(), "one label per score");
    let rows: Vec<(f64, bool)> = scores.iter().map(|score| (*score).into()).zip(labels.iter().copied()).collect();
    rows.iter().all(|(score, _)| !score.is_nan()).then_some(rows)
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> Option<f64> {
    let count = values.len();
    (count > 0).then(|| values.sum::<f64>() / count as f64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn near(found: Option<f64>, wanted: f64) {
        let found = found.expect("a figure");
        assert!((found - wanted).abs() < 1e-12, "{found} is not {wanted}");
    }

    #[test]
    fn four_rows_worked_by_hand() {
        let (scores, labels) = ([0.1, 0.4, 0.35, 0.8], [false, false, true, true]);
        // Of the four pairs only (0.35, 0.4) is in the wrong order.
        near(auc(&scores, &labels), 0.75);
        near(brier(&scores, &labels), (0.01 + 0.16 + 0.4225 + 0.04) / 4.0);
        near(log_loss(&scores, &labels), -(0.9f64.ln() + 0.6f64.ln() + 0.35f64.ln() + 0.8f64.ln()) / 4.0);
        near(bias(&scores, &labels), 0.4125 - 0.5);
        let all = quality(&scores, &labels).expect("rows");
        near(Some(all.mean_score), 0.4125);
        assert_eq!((all.rows, all.rate, all.auc), (4, 0.5, Some(0.75)));
    }

    #[test]
    fn ties_count_half() {
        near(auc(&[0.5, 0.5], &[true, false]), 0.5);
        // Pairs: (0.5, 0.5) half, (0.5, 0.2) right, (0.9, both) right.
        near(auc(&[0.5, 0.9, 0.5, 0.2], &[true, true, false, false]), 3.5 / 4.0);
        near(auc(&[0.0, -0.0], &[true, false]), 0.5);
        near(auc(&[0.5f32; 1000], &(0..1000).map(|n| n % 3 == 0).collect::<Vec<_>>()), 0.5);
    }

    #[test]
    fn without_an_answer_there_is_none() {
        let none: [f64; 0] = [];
        assert_eq!(
            (auc(&none, &[]), log_loss(&none, &[]), brier(&none, &[]), bias(&none, &[])),
            (None, None, None, None)
        );
        assert_eq!(auc(&[0.1, 0.9], &[true, true]), None);
        assert_eq!(quality(&[0.1, f64::NAN], &[true, false]), None);
        assert_eq!(quality(&[0.1, 0.9], &[true, true]).expect("rows").auc, None);
    }

    #[test]
    fn a_sure_mistake_costs_a_bounded_loss() {
        near(log_loss(&[0.0], &[true]), -(1e-7f64).ln());
        near(log_loss(&[1.0], &[false]), -(1e-7f64).ln());
        near(log_loss(&[1.0f32], &[true]), -(1.0 - 1e-7f64).ln());
    }

    #[test]
    #[should_panic(expected = "one label per score")]
    fn lengths_must_agree() {
        let _ = auc(&[0.1], &[]);
    }

    /// Every pair of a positive and a negative, one by one.
    fn auc_by_pairs(rows: &[(f64, bool)]) -> Option<f64> {
        let of = |class| rows.iter().filter(move |row| row.1 == class).map(|row| row.0);
        let (mut right, mut pairs) = (0.0, 0.0);
        for up in of(true) {
            for down in of(false) {
                pairs += 1.0;
                right += if up > down {
                    1.0
                } else if up == down {
                    0.5
                } else {
                    0.0
                };
            }
        }
        (pairs > 0.0).then(|| right / pairs)
    }

    fn rows_with_ties() -> impl Strategy<Value = Vec<(f64, bool)>> {
        prop::collection::vec(((0u8..12).prop_map(|score| f64::from(score) / 11.0), any::<bool>()), 0..80)
    }

    proptest! {
        #![proptest_config(crate::testing::fixed())]

        #[test]
        fn auc_is_the_share_of_pairs_in_order(rows in rows_with_ties()) {
            let (scores, labels): (Vec<f64>, Vec<bool>) = rows.iter().copied().unzip();
            prop_assert_eq!(auc(&scores, &labels), auc_by_pairs(&rows));
        }

        #[test]
        fn auc_ignores_a_rising_map_and_flips_with_the_labels(rows in rows_with_ties()) {
            let (scores, labels): (Vec<f64>, Vec<bool>) = rows.iter().copied().unzip();
            let risen: Vec<f64> = scores.iter().map(|s| s * 8.0).collect();
            prop_assert_eq!(auc(&scores, &labels), auc(&risen, &labels));
            let flipped: Vec<bool> = labels.iter().map(|label| !label).collect();
            match (auc(&scores, &labels), auc(&scores, &flipped)) {
                (Some(up), Some(down)) => prop_assert!((up + down - 1.0).abs() < 1e-12),
                (up, down) => prop_assert_eq!(up, down),
            }
        }

        #[test]
        fn no_constant_score_beats_the_rate(
            labels in prop::collection::vec(any::<bool>(), 1..60),
            guess in 0.01f64..0.99,
        ) {
            let rate = rate(&labels).expect("labels");
            let (best, other) = (vec![rate; labels.len()], vec![guess; labels.len()]);
            let least = log_loss(&best, &labels).expect("rows");
            prop_assert!(log_loss(&other, &labels).expect("rows") >= least - 1e-6);
            prop_assert!((brier(&best, &labels).expect("rows") - rate * (1.0 - rate)).abs() < 1e-12);
        }
    }
}
