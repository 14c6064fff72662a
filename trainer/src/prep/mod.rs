//! Preprocessing: fitted once on training rows, then the same steps twice: on frames for candle, and as ONNX nodes.
//!
//! All arithmetic on values is in `f32` and in the same order in both, so that the two agree to the last bit or so.
//! The dense row is laid out as `[scaled | null flags | sines | cosines | one-hots]`.

mod encode;
mod graph;
mod plan;
mod vocabulary;

use domain::{Field, Frame, definition::Learner};

pub(crate) use encode::Encoded;
pub(crate) use graph::Prepared;
pub(crate) use plan::Plan;
pub(crate) use vocabulary::Vocabulary;

use crate::TrainerError;

/// A fitted preprocessor.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Preprocessor {
    /// Distinct columns, in the order in which the job first names them: the model's signature.
    pub(crate) inputs: Vec<Field>,
    /// `numeric` and `difference` first, then `log`.
    scaled: Vec<Scaled>,
    cycles: Vec<Cycle>,
    one_hots: Vec<Vocabulary>,
    pub(crate) embeddings: Vec<Embedding>,
}

/// A number that is filled, standardised and clipped.
#[derive(Debug, Clone, PartialEq)]
struct Scaled {
    column: String,
    minus: Option<String>,
    log: bool,
    /// Median of the training values, before the logarithm: what a null becomes.
    median: f32,
    mean: f32,
    /// Above zero.
    std: f32,
    clip: f32,
    /// Whether training saw nulls, and so an extra 0/1 input tells of them.
    flag: bool,
}

#[derive(Debug, Clone, PartialEq)]
struct Cycle {
    column: String,
    period: f32,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Embedding {
    pub(crate) vocabulary: Vocabulary,
    /// Length of the vector of each category; 1 for a logistic learner.
    pub(crate) dim: usize,
}

impl Preprocessor {
    /// Learns medians, scales and categories from `rows`.
    pub(crate) fn fit(plan: &Plan, learner: Learner, rows: &Frame) -> Result<Self, TrainerError> {
        plan.fit(learner, rows)
    }

    /// Whether the column enters as a category and in no other way.
    pub(crate) fn is_category(&self, column: &str) -> bool {
        let scaled = self.scaled.iter().any(|one| one.column == column || one.minus.as_deref() == Some(column));
        !scaled && !self.cycles.iter().any(|cycle| cycle.column == column)
    }

    /// Columns of the dense matrix.
    pub(crate) fn width(&self) -> usize {
        let flags = self.scaled.iter().filter(|scaled| scaled.flag).count();
        let hot: usize = self.one_hots.iter().map(Vocabulary::len).sum();
        self.scaled.len() + flags + 2 * self.cycles.len() + hot
    }
}
