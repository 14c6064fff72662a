use std::time::Instant;

use candle_core::{Device, Result as CandleResult, Tensor};
use candle_nn::{AdamW, Optimizer as _, ParamsAdamW};
use domain::definition::EstimatorSpec;
use rand::seq::SliceRandom as _;
use runtime::seeded;

use super::{Dropout, Net, loss::LogLoss};
use crate::{
    EpochMetrics, TrainerError,
    prep::{Encoded, Preprocessor},
    rows,
    scores::Scores,
};

/// Rows with their labels.
pub(crate) struct Rows {
    pub(crate) encoded: Encoded,
    pub(crate) labels: Vec<bool>,
    /// How much each row counts; the mean is 1.
    pub(crate) weights: Vec<f32>,
}

/// What training found.
pub(crate) struct Learned {
    pub(crate) net: Net,
    pub(crate) epochs: Vec<EpochMetrics>,
    /// Index into `epochs` of the one whose weights were kept.
    pub(crate) best: usize,
}

/// Fits a learner; keeps the weights of the epoch with the least loss on `valid`.
pub(crate) fn train(
    prep: &Preprocessor,
    spec: &EstimatorSpec,
    seed: u64,
    rows: &Rows,
    valid: &Rows,
    mut told: impl FnMut(&EpochMetrics),
) -> Result<Learned, TrainerError> {
    let doing = "train";
    let net = Net::new(prep, spec, rows::rate(&rows.labels), seed)?;
    let mut epochs: Vec<EpochMetrics> = Vec::new();
    let mut best: Option<(usize, Vec<Tensor>)> = None;
    let mut steps = Steps::new(&net, spec, seed, rows).map_err(TrainerError::candle(doing))?;
    for epoch in 1..=spec.epochs {
        let start = Instant::now();
        let train_loss = steps.epoch().map_err(TrainerError::candle(doing))?;
        let seconds = start.elapsed().as_secs_f64();
        let scores = net.predict(&valid.encoded)?;
        if !train_loss.is_finite() || scores.iter().any(|p| !p.is_finite()) {
            return Err(TrainerError::Diverged { epoch });
        }
        let scores = Scores::new(&scores, &valid.labels);
        let metrics =
            EpochMetrics { epoch, train_loss, valid_loss: scores.log_loss(), valid_auc: scores.auc(), seconds };
        told(&metrics);
        let better = best.as_ref().is_none_or(|(best, _)| metrics.valid_loss < epochs[*best].valid_loss);
        epochs.push(metrics);
        let at = epochs.len() - 1;
        if better {
            best = Some((at, net.snapshot().map_err(TrainerError::candle(doing))?));
        } else if best.as_ref().is_some_and(|(best, _)| at - best >= spec.patience.max(1) as usize) {
            break;
        }
    }
    drop(steps);
    let (best, kept) = best.expect("there is at least one epoch");
    net.restore(&kept).map_err(TrainerError::candle(doing))?;
    Ok(Learned { net, epochs, best })
}

/// The loop's state: optimisers, order of rows, dropout.
struct Steps<'a> {
    net: &'a Net,
    rows: &'a Rows,
    batch: usize,
    order: Vec<u32>,
    random: rand_chacha::ChaCha8Rng,
    dropout: Option<Dropout>,
    decayed: AdamW,
    biases: AdamW,
}

impl<'a> Steps<'a> {
    fn new(net: &'a Net, spec: &EstimatorSpec, seed: u64, rows: &'a Rows) -> CandleResult<Self> {
        let params = ParamsAdamW { lr: spec.learning_rate, weight_decay: spec.weight_decay, ..ParamsAdamW::default() };
        let (decayed, biases) = net.vars();
        Ok(Self {
            net,
            rows,
            batch: spec.batch_size,
            order: (0..).take(rows.labels.len()).collect(),
            random: seeded(seed, "order"),
            dropout: Dropout::new(spec.dropout, seeded(seed, "dropout")),
            decayed: AdamW::new(decayed, params.clone())?,
            // Biases shift, they do not bend: decaying them only moves the mean answer.
            biases: AdamW::new(biases, ParamsAdamW { weight_decay: 0.0, ..params })?,
        })
    }

    /// Goes once over all rows, in a new order; the mean loss while at it.
    fn epoch(&mut self) -> CandleResult<f64> {
        self.order.shuffle(&mut self.random);
        let order = std::mem::take(&mut self.order);
        let mut sum = 0.0;
        for batch in order.chunks(self.batch) {
            sum += self.step(batch)? * batch.len() as f64;
        }
        self.order = order;
        Ok(sum / self.rows.labels.len() as f64)
    }

    fn step(&mut self, batch: &[u32]) -> CandleResult<f64> {
        let Rows { encoded, labels, weights } = self.rows;
        let mut dense = Vec::with_capacity(batch.len() * encoded.width);
        for &row in batch {
            let from = row as usize * encoded.width;
            dense.extend_from_slice(&encoded.dense[from..from + encoded.width]);
        }
        let dense = Tensor::from_vec(dense, (batch.len(), encoded.width), &Device::Cpu)?;
        let pick = |numbers: &Vec<u32>| -> CandleResult<Tensor> {
            let picked: Vec<u32> = batch.iter().map(|&row| numbers[row as usize]).collect();
            Tensor::from_vec(picked, batch.len(), &Device::Cpu)
        };
        let categories = encoded.categories.iter().map(pick).collect::<CandleResult<Vec<_>>>()?;
        let logits = self.net.logits(&dense, &categories, self.dropout.as_mut(), true)?;
        let loss = logits.apply_op1(LogLoss {
            labels: batch.iter().map(|&row| f32::from(u8::from(labels[row as usize]))).collect(),
            weights: batch.iter().map(|&row| weights[row as usize]).collect(),
        })?;
        let gradients = loss.backward()?;
        self.decayed.step(&gradients)?;
        self.biases.step(&gradients)?;
        Ok(f64::from(loss.to_scalar::<f32>()?))
    }
}
