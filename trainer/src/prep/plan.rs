use std::collections::BTreeSet;

use domain::{
    Field, Frame, ValueType,
    definition::{InputSpec, Learner, Prep},
    error::nearest,
};

use super::{Cycle, Embedding, Preprocessor, Scaled, Vocabulary, encode::floats};
use crate::{TrainerError, error::prep_name};

/// One-hot inputs of one column at most; beyond it an embedding is meant.
const ONE_HOT_MAX: usize = 1_000;
/// Longest embedding vector.
const DIM_MAX: usize = 256;

/// The job's inputs, checked against the dataset's columns.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    specs: Vec<InputSpec>,
    inputs: Vec<Field>,
}

impl Plan {
    /// Checks the inputs: each column exists, has a type its step can take, and each number lies in its range.
    pub(crate) fn new(specs: &[InputSpec], rows: &Frame, taken: &[&str]) -> Result<Self, TrainerError> {
        if specs.is_empty() {
            return Err(TrainerError::NoInputs);
        }
        let mut plan = Self { specs: specs.to_vec(), inputs: Vec::new() };
        let mut seen = BTreeSet::new();
        for spec in specs {
            check_numbers(spec)?;
            // A column may enter as several cycles, by period.
            let period = spec.period.map(f64::to_bits);
            if !seen.insert((&spec.column, prep_name(spec.prep), &spec.minus, period)) {
                return Err(TrainerError::input(&spec.column, format!("`{}` stands twice", prep_name(spec.prep))));
            }
            for column in [Some(&spec.column), spec.minus.as_ref()].into_iter().flatten() {
                plan.mention(column, spec.prep, rows, taken)?;
            }
        }
        Ok(plan)
    }

    fn mention(&mut self, column: &str, prep: Prep, rows: &Frame, taken: &[&str]) -> Result<(), TrainerError> {
        if taken.contains(&column) {
            return Err(TrainerError::input(column, "it is the label or the event time, not an input"));
        }
        let Some(values) = rows.column(column) else {
            let known = rows.names().iter().map(|name| &**name).filter(|name| !taken.contains(name));
            let nearest = nearest(column, known).map(str::to_owned);
            return Err(TrainerError::UnknownColumn { column: column.to_owned(), nearest });
        };
        let fits = match values.kind() {
            ValueType::Bool | ValueType::Int | ValueType::Float => true,
            ValueType::Text => matches!(prep, Prep::OneHot | Prep::Embedding),
            ValueType::Timestamp | ValueType::List(_) => false,
        };
        if !fits {
            return Err(TrainerError::wrong_type(column, values.kind(), prep));
        }
        if !self.inputs.iter().any(|field| &*field.name == column) {
            self.inputs.push(Field::new(column, values.kind()));
        }
        Ok(())
    }

    pub(super) fn fit(&self, learner: Learner, rows: &Frame) -> Result<Preprocessor, TrainerError> {
        let mut fitted = Preprocessor {
            inputs: self.inputs.clone(),
            scaled: Vec::new(),
            cycles: Vec::new(),
            one_hots: Vec::new(),
            embeddings: Vec::new(),
        };
        for spec in &self.specs {
            match spec.prep {
                Prep::Numeric | Prep::Log | Prep::Difference => fitted.scaled.push(Scaled::fit(spec, rows)?),
                Prep::Cycle => {
                    fitted.cycles.push(Cycle { column: spec.column.clone(), period: spec.period.unwrap_or(1.0) as f32 })
                }
                Prep::OneHot => {
                    let vocabulary = Vocabulary::fit(&spec.column, spec.min_count, rows)?;
                    if vocabulary.len() > ONE_HOT_MAX {
                        let many = format!("{} categories are too many for `one_hot`", vocabulary.len());
                        return Err(TrainerError::input(&spec.column, many + "; use `embedding` or raise `min_count`"));
                    }
                    fitted.one_hots.push(vocabulary);
                }
                Prep::Embedding => {
                    let vocabulary = Vocabulary::fit(&spec.column, spec.min_count, rows)?;
                    let dim = match (learner, spec.dim) {
                        (Learner::Logistic, _) => 1,
                        (Learner::Mlp, Some(dim)) => dim,
                        (Learner::Mlp, None) => {
                            return Err(TrainerError::input(&spec.column, "`embedding` needs `dim`"));
                        }
                    };
                    fitted.embeddings.push(Embedding { vocabulary, dim });
                }
            }
        }
        fitted.scaled.sort_by_key(|scaled| scaled.log);
        Ok(fitted)
    }
}

fn check_numbers(spec: &InputSpec) -> Result<(), TrainerError> {
    let bad = |reason: &str| Err(TrainerError::input(&spec.column, reason));
    match (spec.prep, &spec.minus, spec.period) {
        (Prep::Difference, None, _) => return bad("`difference` needs `minus`"),
        (Prep::Difference, Some(minus), _) if *minus == spec.column => return bad("`minus` is the column itself"),
        (Prep::Cycle, _, None) => return bad("`cycle` needs `period`"),
        (Prep::Cycle, _, Some(period)) if !(1e-6..=1e12).contains(&period) => {
            return bad("`period` must lie between 1e-6 and 1e12");
        }
        (prep, Some(_), _) if prep != Prep::Difference => return bad("`minus` belongs to `difference`"),
        (prep, _, Some(_)) if prep != Prep::Cycle => return bad("`period` belongs to `cycle`"),
        _ => {}
    }
    if spec.dim.is_some_and(|dim| !(1..=DIM_MAX).contains(&dim)) {
        return bad("`dim` must lie between 1 and 256");
    }
    if !(0.1..=1e6).contains(&spec.clip) {
        return bad("`clip` must lie between 0.1 and 1e6");
    }
    Ok(())
}

impl Scaled {
    fn fit(spec: &InputSpec, rows: &Frame) -> Result<Self, TrainerError> {
        let mut scaled = Self {
            column: spec.column.clone(),
            minus: spec.minus.clone(),
            log: spec.prep == Prep::Log,
            median: 0.0,
            mean: 0.0,
            std: 1.0,
            clip: spec.clip as f32,
            flag: false,
        };
        let mut values = scaled.raw(rows)?;
        let mut known: Vec<f32> = values.iter().copied().filter(|x| x.is_finite()).collect();
        scaled.flag = values.iter().any(|x| x.is_nan());
        if !known.is_empty() {
            let middle = known.len() / 2;
            scaled.median = *known.select_nth_unstable_by(middle, f32::total_cmp).1;
        }
        values.iter_mut().for_each(|x| *x = scaled.filled(*x));
        let finite = || values.iter().copied().filter(|x| x.is_finite()).map(f64::from);
        let count = finite().count().max(1) as f64;
        let mean = finite().sum::<f64>() / count;
        let std = (finite().map(|x| (x - mean).powi(2)).sum::<f64>() / count).sqrt();
        scaled.mean = mean as f32;
        // A spread below what `f32` resolves at this magnitude is rounding, not signal: such a column is constant.
        if std > 1e-6 * mean.abs().max(1e-30) && std as f32 > f32::MIN_POSITIVE {
            scaled.std = std as f32;
        }
        Ok(scaled)
    }

    /// The value as it is found; NaN is null.
    pub(super) fn raw(&self, rows: &Frame) -> Result<Vec<f32>, TrainerError> {
        let mut values = floats(rows, &self.column)?;
        if let Some(minus) = &self.minus {
            for (value, minus) in values.iter_mut().zip(floats(rows, minus)?) {
                *value -= minus;
            }
        }
        Ok(values)
    }

    /// Null replaced, logarithm taken.
    pub(super) fn filled(&self, raw: f32) -> f32 {
        let x = if raw.is_nan() { self.median } else { raw };
        if self.log { (x.max(0.0) + 1.0).ln() } else { x }
    }
}
