//! Samples for the prediction log: built when the answer is ready, never in anybody's way.

use std::sync::Arc;

use domain::{
    ports::PredictionTap,
    prediction::{PredictionBatch, Scored, TargetRole},
};
use runtime::{
    CancellationToken,
    metrics::{Counter, Gauge},
};
use tokio::sync::mpsc;

use crate::pool::Pending;

/// Samples that may wait for their shadows.
const WAITING: usize = 1_024;

/// A shadow's scores still to come: for each job, the rows of the batch it scores.
pub(crate) struct Shadowed {
    pub(crate) version: u32,
    pub(crate) jobs: Vec<(Vec<usize>, Pending)>,
}

struct Sample {
    batch: PredictionBatch,
    shadows: Vec<Shadowed>,
    dropped: Arc<Counter>,
}

/// Where requests leave their samples.
pub(crate) struct Sampler {
    tap: Arc<dyn PredictionTap>,
    waiting: mpsc::Sender<Sample>,
}

/// The other end: waits for shadows, then offers.
pub(crate) struct Collector {
    tap: Arc<dyn PredictionTap>,
    waiting: mpsc::Receiver<Sample>,
    depth: Arc<Gauge>,
}

pub(crate) fn channel(tap: Arc<dyn PredictionTap>, depth: Arc<Gauge>) -> (Sampler, Collector) {
    let (sender, receiver) = mpsc::channel(WAITING);
    (Sampler { tap: Arc::clone(&tap), waiting: sender }, Collector { tap, waiting: receiver, depth })
}

impl Sampler {
    /// Hands a sample on. Never waits: what the log cannot take is counted into `dropped`, row by row.
    pub(crate) fn give(&self, batch: PredictionBatch, shadows: Vec<Shadowed>, dropped: &Arc<Counter>) {
        let rows = batch.ids.len() as u64;
        let taken = if shadows.is_empty() {
            self.tap.offer(batch)
        } else {
            self.waiting.try_send(Sample { batch, shadows, dropped: Arc::clone(dropped) }).is_ok()
        };
        if !taken {
            dropped.add(rows);
        }
    }
}

impl Collector {
    /// Offers samples until every `Sampler` is gone, or until `drained` is cancelled and those waiting are handed over.
    #[expect(clippy::cast_precision_loss, reason = "the queue is short")]
    pub(crate) async fn run(&mut self, drained: &CancellationToken) {
        loop {
            let sample = tokio::select! {
                biased;
                sample = self.waiting.recv() => sample,
                () = drained.cancelled(), if !self.waiting.is_closed() => {
                    self.waiting.close();
                    continue;
                }
            };
            let Some(Sample { mut batch, shadows, dropped }) = sample else { return };
            self.depth.set(self.waiting.len() as f64);
            for shadow in shadows {
                batch.scored.extend(scored(shadow).await);
            }
            let rows = batch.ids.len() as u64;
            if !self.tap.offer(batch) {
                dropped.add(rows);
            }
        }
    }
}

/// A shadow that failed is left out: it answers nobody, and a half-scored batch would mislead.
async fn scored(shadow: Shadowed) -> Option<Scored> {
    let mut scores = Vec::new();
    for (rows, pending) in shadow.jobs {
        match pending.await {
            Ok(Ok(answer)) => scores.extend(rows.into_iter().zip(answer.scores)),
            Ok(Err(error)) => {
                tracing::warn!(version = shadow.version, %error, "a shadow could not score a sample");
                return None;
            }
            Err(_) => return None,
        }
    }
    Some(Scored { version: shadow.version, role: TargetRole::Shadow, scores })
}
