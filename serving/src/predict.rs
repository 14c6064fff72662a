//! One request: instances in, scores out.

use std::time::{Duration, Instant};

use domain::{
    EndpointName, Frame, PredictionId, Timestamp,
    ports::Features,
    prediction::{PredictionBatch, Scored, TargetRole},
};
use serde::{Deserialize, Serialize};

use crate::{
    ServingError, batch,
    endpoint::{Live, Slot},
    instance::Parsed,
    pool::{Answer, Pending, Pool},
    route::Lot,
    sample::{Sampler, Shadowed},
};

/// What a caller asks.
#[derive(Debug, Clone, Default)]
pub struct PredictRequest {
    /// One JSON object per row: entity keys, request values, label key columns and, if wanted, `event_timestamp`.
    pub instances: Vec<serde_json::Value>,
    /// When the answer is no longer wanted.
    pub deadline: Option<Instant>,
    /// A deployed version that shall answer all rows, whatever the split says.
    pub pin: Option<u32>,
}

/// The answer, one prediction per instance, in their order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PredictResponse {
    pub predictions: Vec<Prediction>,
    pub timings: Timings,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    pub id: PredictionId,
    /// Version that answered.
    pub version: u32,
    /// Probability of the positive class, 0 to 1.
    pub score: f32,
    /// Whether the score reaches the endpoint's threshold.
    pub positive: bool,
    /// Event time the features were looked up at.
    pub event_timestamp: Timestamp,
}

/// Where the time went, in microseconds. Of jobs that ran side by side the longest counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Timings {
    pub features_us: u64,
    /// Waiting for a worker.
    pub queue_us: u64,
    /// The model itself, for the whole batch the rows were part of.
    pub infer_us: u64,
}

/// What a request needs besides its endpoint.
pub(crate) struct Means<'a> {
    pub(crate) features: &'a dyn Features,
    pub(crate) pool: &'a Pool,
    pub(crate) sampler: &'a Sampler,
    pub(crate) max_batch_rows: usize,
    pub(crate) clock: &'a runtime::Clock,
}

/// Rows of the request that one version answers in one job.
struct Part<'a> {
    slot: &'a Slot,
    rows: Vec<usize>,
    pending: Pending,
}

impl Means<'_> {
    pub(crate) async fn predict(&self, live: &Live, request: PredictRequest) -> Result<PredictResponse, ServingError> {
        let endpoint = &live.state.definition.name;
        let pinned = request.pin.map(|version| pinned(live, version)).transpose()?;
        let parsed = live.form.read(&request.instances, self.clock.now())?;
        drop(request.instances);
        let start = Instant::now();
        let inputs = self.look_up(live, &parsed).await?;
        let features = start.elapsed();
        live.features.observe(features);

        let Parsed { event_times, label_keys, .. } = parsed;
        let rows = event_times.len();
        let ids: Vec<_> = (0..rows).map(|_| PredictionId::mint()).collect();
        let lots: Vec<_> = ids.iter().zip(&label_keys).map(|(id, key)| draw(endpoint, id, key.as_deref())).collect();
        let groups = match pinned {
            Some(slot) => vec![(slot, (0..rows).collect())],
            None => split(live, &lots)?,
        };
        let mut parts = Vec::with_capacity(groups.len());
        for (slot, rows) in groups {
            for rows in rows.chunks(self.max_batch_rows) {
                let pending = self.submit(slot, &inputs, rows, request.deadline)?;
                parts.push(Part { slot, rows: rows.to_vec(), pending });
            }
        }
        let mut answers = vec![(0u32, 0f32); rows];
        let mut timings = Timings { features_us: micros(features), ..Timings::default() };
        for Part { slot, rows, pending } in parts {
            let Answer { scores, queued, inferred } = pending.await.map_err(|_| ServingError::Stopping)??;
            slot.answered(rows.len(), queued, inferred);
            timings.queue_us = timings.queue_us.max(micros(queued));
            timings.infer_us = timings.infer_us.max(micros(inferred));
            for (row, score) in rows.into_iter().zip(scores) {
                answers[row] = (slot.loaded.version.version, score);
            }
        }
        let threshold = live.state.definition.threshold;
        let predictions = (0..rows).map(|row| {
            let (version, score) = answers[row];
            let positive = f64::from(score) >= threshold;
            Prediction { id: ids[row], version, score, positive, event_timestamp: event_times[row] }
        });
        let predictions: Vec<_> = predictions.collect();
        let sampled: Vec<_> = (0..rows).filter(|row| lots[*row].sampled(live.state.definition.sample)).collect();
        if !sampled.is_empty() {
            let inputs = if sampled.len() == rows { inputs } else { inputs.take(&sampled) };
            let batch = PredictionBatch {
                endpoint: endpoint.clone(),
                ids: sampled.iter().map(|&row| ids[row]).collect(),
                event_times: sampled.iter().map(|&row| event_times[row]).collect(),
                served_at: self.clock.now(),
                label_keys: sampled.iter().map(|&row| label_keys[row].clone()).collect(),
                scored: live_scores(sampled.iter().map(|&row| answers[row])),
                inputs,
            };
            let shadows = self.shadow(live, &batch);
            self.sampler.give(batch, shadows, &live.dropped);
        }
        Ok(PredictResponse { predictions, timings })
    }

    /// Keys, request values and features of every row.
    async fn look_up(&self, live: &Live, parsed: &Parsed) -> Result<Frame, ServingError> {
        let service = &live.state.definition.service;
        let features = self.features.latest(service, &parsed.keys, &parsed.event_times).await?;
        let rows = parsed.event_times.len();
        if features.rows() != rows {
            let problem = format!("{} rows for {rows} keys", features.rows());
            return Err(ServingError::BadFeatures { problem });
        }
        let mut inputs = Frame::of_rows(rows);
        for (name, column) in parsed.keys.iter().chain(parsed.request.iter()).chain(features.iter()) {
            inputs.add(name.clone(), column.clone()).map_err(bad_features)?;
        }
        Ok(inputs)
    }

    fn submit(
        &self,
        slot: &Slot,
        inputs: &Frame,
        rows: &[usize],
        deadline: Option<Instant>,
    ) -> Result<Pending, ServingError> {
        let rows = batch::shape(&slot.loaded.signature, inputs, rows).map_err(bad_features)?;
        self.pool.submit(&slot.loaded.lane, rows, deadline)
    }

    /// Lets the shadows score the logged rows that they did not answer. A shadow that cannot keep up is left out.
    fn shadow(&self, live: &Live, batch: &PredictionBatch) -> Vec<Shadowed> {
        let score = |slot: &Slot| {
            let mut open = vec![true; batch.ids.len()];
            let own = batch.scored.iter().filter(|scored| scored.version == slot.loaded.version.version);
            own.flat_map(|scored| &scored.scores).for_each(|(row, _)| open[*row] = false);
            let rows: Vec<_> = (0..open.len()).filter(|row| open[*row]).collect();
            if rows.is_empty() {
                return None;
            }
            let jobs = rows.chunks(self.max_batch_rows);
            let jobs = jobs.map(|rows| Ok((rows.to_vec(), self.submit(slot, &batch.inputs, rows, None)?)));
            match jobs.collect::<Result<_, ServingError>>() {
                Ok(jobs) => Some(Shadowed { version: slot.loaded.version.version, jobs }),
                Err(error) => {
                    tracing::debug!(version = %slot.loaded.version, %error, "a shadow was left out");
                    None
                }
            }
        };
        live.shadows.iter().filter_map(score).collect()
    }
}

/// The deployed version that the caller insists on.
fn pinned(live: &Live, version: u32) -> Result<&Slot, ServingError> {
    live.slots().find(|slot| slot.loaded.version.version == version).ok_or_else(|| ServingError::NotDeployed {
        endpoint: live.state.definition.name.clone(),
        version,
        deployed: live.slots().map(|slot| slot.loaded.version.version).collect(),
    })
}

fn draw(endpoint: &EndpointName, id: &PredictionId, key: Option<&str>) -> Lot {
    match key {
        Some(key) => Lot::draw(endpoint, key),
        None => Lot::draw(endpoint, &id.to_string()),
    }
}

/// The rows of each target that got any.
fn split<'a>(live: &'a Live, lots: &[Lot]) -> Result<Vec<(&'a Slot, Vec<usize>)>, ServingError> {
    let mut groups: Vec<_> = live.targets.iter().map(|slot| (slot, Vec::new())).collect();
    for (row, lot) in lots.iter().enumerate() {
        let target = lot.target(&live.state.targets).ok_or_else(|| ServingError::BadEndpoint {
            endpoint: live.state.definition.name.clone(),
            problem: "its split leaves rows without a version".into(),
            hint: "deploy it again with percents that add up to 100",
        })?;
        groups[target].1.push(row);
    }
    groups.retain(|(_, rows)| !rows.is_empty());
    Ok(groups)
}

/// Scores of the logged rows, by the version that answered each; `answers` is in the order of the batch.
fn live_scores(answers: impl Iterator<Item = (u32, f32)>) -> Vec<Scored> {
    let mut scored: Vec<Scored> = Vec::new();
    for (index, (version, score)) in answers.enumerate() {
        match scored.iter_mut().find(|scored| scored.version == version) {
            Some(known) => known.scores.push((index, score)),
            None => scored.push(Scored { version, role: TargetRole::Live, scores: vec![(index, score)] }),
        }
    }
    scored
}

fn bad_features(error: domain::FrameError) -> ServingError {
    ServingError::BadFeatures { problem: error.to_string() }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
