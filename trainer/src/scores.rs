use stats::{auc, brier, log_loss};

/// Scores beside the labels they were meant to guess; never empty, equally long.
pub(crate) struct Scores<'a> {
    scores: &'a [f32],
    labels: &'a [bool],
}

impl<'a> Scores<'a> {
    pub(crate) fn new(scores: &'a [f32], labels: &'a [bool]) -> Self {
        Self { scores, labels }
    }

    /// Mean per row; NaN where a score is no number.
    pub(crate) fn log_loss(&self) -> f64 {
        log_loss(self.scores, self.labels).unwrap_or(f64::NAN)
    }

    /// 0.5 where there is one class only: no order is better than another.
    pub(crate) fn auc(&self) -> f64 {
        auc(self.scores, self.labels).unwrap_or(0.5)
    }

    pub(crate) fn brier(&self) -> f64 {
        brier(self.scores, self.labels).unwrap_or(f64::NAN)
    }
}
