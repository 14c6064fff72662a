//! The learners: logistic regression and the multilayer perceptron, in candle.

mod dropout;
mod graph;
mod loss;
mod train;

use candle_core::{D, Device, Result as CandleResult, Tensor, Var};
use domain::definition::{EstimatorSpec, Learner};
use rand::RngExt as _;
use runtime::seeded;

pub(crate) use train::{Rows, train};

use self::dropout::Dropout;
use crate::{
    TrainerError,
    prep::{Encoded, Preprocessor},
};

/// Rows per step when only predicting.
const PREDICT_ROWS: usize = 4_096;
/// Embeddings start uniform within plus and minus this; the unknown category starts at zero.
const EMBEDDING_SPREAD: f32 = 0.1;

/// The weights of one learner.
pub(crate) struct Net {
    learner: Learner,
    /// Per embedding `[categories + 1, dim]`; row 0 is the unknown category.
    tables: Vec<Var>,
    layers: Vec<Layer>,
}

struct Layer {
    /// `[inputs, outputs]`; absent where there are no inputs (a logistic learner of categories only).
    weight: Option<Var>,
    /// `[outputs]`
    bias: Var,
}

impl Net {
    /// Fresh weights. The last bias starts at the log odds of `rate`, so that training starts at the constant.
    pub(crate) fn new(prep: &Preprocessor, spec: &EstimatorSpec, rate: f64, seed: u64) -> Result<Self, TrainerError> {
        Self::fresh(prep, spec, rate, seed).map_err(TrainerError::candle("make the weights"))
    }

    fn fresh(prep: &Preprocessor, spec: &EstimatorSpec, rate: f64, seed: u64) -> CandleResult<Self> {
        let mut random = seeded(seed, "weights");
        let mut uniform = |count: usize, spread: f32| -> Vec<f32> {
            (0..count).map(|_| random.random_range(-spread..=spread)).collect()
        };
        let linear = spec.learner == Learner::Logistic;
        let mut tables = Vec::new();
        for embedding in &prep.embeddings {
            let (rows, dim) = (embedding.vocabulary.len() + 1, embedding.dim);
            let mut values = uniform(rows * dim, if linear { 0.0 } else { EMBEDDING_SPREAD });
            values[..dim].fill(0.0);
            tables.push(Var::from_vec(values, (rows, dim), &Device::Cpu)?);
        }
        let mut inputs = prep.width();
        let mut widths = Vec::new();
        if !linear {
            inputs += prep.embeddings.iter().map(|embedding| embedding.dim).sum::<usize>();
            widths.extend(&spec.hidden);
        }
        let mut layers = Vec::new();
        for &outputs in &widths {
            let spread = (6.0 / inputs.max(1) as f32).sqrt();
            layers.push(Layer::new(inputs, outputs, uniform(inputs * outputs, spread), 0.0)?);
            inputs = outputs;
        }
        let spread = if linear { 0.0 } else { (3.0 / inputs as f32).sqrt() * 0.1 };
        let odds = (rate / (1.0 - rate)).ln() as f32;
        layers.push(Layer::new(inputs, 1, uniform(inputs, spread), odds)?);
        Ok(Self { learner: spec.learner, tables, layers })
    }

    /// Logits, `[N]`. `tracked` keeps the graph for the backward pass.
    fn logits(
        &self,
        dense: &Tensor,
        categories: &[Tensor],
        mut dropout: Option<&mut Dropout>,
        tracked: bool,
    ) -> CandleResult<Tensor> {
        let weights = |var: &Var| if tracked { var.as_tensor().clone() } else { var.as_detached_tensor() };
        let vectors =
            self.tables.iter().zip(categories).map(|(table, numbers)| weights(table).index_select(numbers, 0));
        let mut x = match self.learner {
            Learner::Mlp => {
                let mut parts = if dense.dim(1)? == 0 { Vec::new() } else { vec![dense.clone()] };
                vectors.into_iter().try_for_each(|part| part.map(|part| parts.push(part)))?;
                Tensor::cat(&parts, 1)?
            }
            Learner::Logistic => {
                let layer = &self.layers[0];
                let mut z = weights(&layer.bias).broadcast_as((dense.dim(0)?, 1))?;
                if let Some(weight) = &layer.weight {
                    z = (z + dense.matmul(&weights(weight))?)?;
                }
                for part in vectors {
                    z = (z + part?)?;
                }
                return z.squeeze(D::Minus1);
            }
        };
        let last = self.layers.len() - 1;
        for (at, layer) in self.layers.iter().enumerate() {
            let weight = layer.weight.as_ref().expect("every layer of a perceptron has inputs");
            x = x.matmul(&weights(weight))?.broadcast_add(&weights(&layer.bias))?;
            if at < last {
                x = x.relu()?;
                if let Some(dropout) = dropout.as_deref_mut() {
                    x = dropout.apply(&x)?;
                }
            }
        }
        x.squeeze(D::Minus1)
    }

    /// Probabilities of the positive class.
    pub(crate) fn predict(&self, rows: &Encoded) -> Result<Vec<f32>, TrainerError> {
        self.scores(rows).map_err(TrainerError::candle("predict"))
    }

    fn scores(&self, rows: &Encoded) -> CandleResult<Vec<f32>> {
        let mut scores = Vec::with_capacity(rows.rows);
        for from in (0..rows.rows).step_by(PREDICT_ROWS) {
            let to = rows.rows.min(from + PREDICT_ROWS);
            let dense = &rows.dense[from * rows.width..to * rows.width];
            let dense = Tensor::from_slice(dense, (to - from, rows.width), &Device::Cpu)?;
            let categories = rows.categories.iter().map(|numbers| Tensor::new(&numbers[from..to], &Device::Cpu));
            let categories = categories.collect::<CandleResult<Vec<_>>>()?;
            let logits = self.logits(&dense, &categories, None, false)?.to_vec1::<f32>()?;
            scores.extend(logits.into_iter().map(loss::sigmoid));
        }
        Ok(scores)
    }

    /// All weights, decayed ones (matrices and tables) first.
    fn vars(&self) -> (Vec<Var>, Vec<Var>) {
        let weights = self.layers.iter().filter_map(|layer| layer.weight.clone());
        let decayed = self.tables.iter().cloned().chain(weights).collect();
        (decayed, self.layers.iter().map(|layer| layer.bias.clone()).collect())
    }

    /// A copy of all weights.
    fn snapshot(&self) -> CandleResult<Vec<Tensor>> {
        let (decayed, biases) = self.vars();
        decayed.iter().chain(&biases).map(|var| var.as_detached_tensor().copy()).collect()
    }

    fn restore(&self, snapshot: &[Tensor]) -> CandleResult<()> {
        let (decayed, biases) = self.vars();
        decayed.iter().chain(&biases).zip(snapshot).try_for_each(|(var, kept)| var.set(kept))
    }
}

impl Layer {
    fn new(inputs: usize, outputs: usize, weight: Vec<f32>, bias: f32) -> CandleResult<Self> {
        let weight = if inputs == 0 { None } else { Some(Var::from_vec(weight, (inputs, outputs), &Device::Cpu)?) };
        Ok(Self { weight, bias: Var::from_vec(vec![bias; outputs], outputs, &Device::Cpu)? })
    }
}
