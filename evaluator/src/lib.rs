//! The evaluator: keeps what was predicted, joins what was true, and says when a model has gone bad.
//!
//! Serving offers its predictions through [`domain::ports::PredictionTap`] and never waits. One task writes
//! them to the log, joins labels, and evaluates a window each time event time passes one; so the same
//! messages in the same order give the same reports. It raises alerts; what follows from them is decided
//! elsewhere.
//!
//! Event time only moves with predictions and outcomes ([`Status::watermark`]); a reviewer's label does not
//! move it, since people answer when they like.

mod alerts;
mod canary;
mod drift;
mod error;
mod extent;
mod inputs;
mod labels;
mod log;
mod monitor;
mod predictions;
mod quality;
mod review;
mod rows;
mod rules;
mod schema;
mod state;
mod watch;
mod windows;
mod worker;

use std::sync::Arc;

use domain::{
    EndpointName, PredictionId, TaskId, Timestamp,
    ports::PredictionTap,
    prediction::{Label, PredictionBatch},
    state::TaskState,
};
use runtime::{Clock, House, Metrics};
use serde::Serialize;
use storage::{Meta, Tables};
use tokio::sync::{mpsc, oneshot};

pub use alerts::{Alert, AlertFilter};
pub use canary::{Arm, CanaryResults, Comparison, compare};
pub use drift::ColumnDrift;
pub use error::EvaluatorError;
pub use extent::{Extent, Scored};
pub use labels::{LabelProblem, LabelReport};
pub use predictions::{KnownLabel, LoggedPrediction, PredictionFilter, VersionScore};
pub use quality::{Bucket, Quality, QualityQuery, QualityRow};
pub use review::{Answer, Task};
pub use rows::LogTable;
pub use rules::{Rule, RuleOutcome, Verdict};
pub use stats::Verdict as DriftVerdict;
pub use watch::Watch;
pub use windows::DriftReport;

use crate::worker::{Shared, Work};

/// Messages that wait at once; the rows they carry are bounded by [`QUEUE_ROWS`].
const QUEUE_MESSAGES: usize = 8_192;
/// Predictions that wait to be logged, unless `open_with` says otherwise.
const QUEUE_ROWS: usize = 65_536;

/// The room's front door. Clones share it.
#[derive(Clone)]
pub struct Evaluator {
    shared: Arc<Shared>,
    queue: mpsc::Sender<Work>,
}

/// Where the watching of an endpoint stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Status {
    pub endpoint: EndpointName,
    pub champion: Option<u32>,
    /// Event time reached: of the latest prediction, or the latest outcome known.
    pub watermark: Option<Timestamp>,
    /// End of the last window evaluated.
    pub evaluated_through: Option<Timestamp>,
    /// Predictions in the log.
    pub logged: u64,
    /// Predictions that could not be logged, since the start of the process.
    pub dropped: u64,
    pub labelled: u64,
    /// Labels by key that found no prediction, since the start of the process.
    pub unmatched: u64,
    pub open_alerts: u64,
    pub open_tasks: u64,
}

impl Evaluator {
    /// Opens the logs of all endpoints and starts the task that keeps them.
    ///
    /// Windows are evaluated again once the endpoint is configured, from where the last process stopped.
    pub async fn open(
        meta: Meta,
        tables: Tables,
        clock: Clock,
        house: House,
        metrics: Metrics,
    ) -> Result<Self, EvaluatorError> {
        Self::open_with(meta, tables, clock, house, metrics, QUEUE_ROWS).await
    }

    /// As `open`, with room for `queue_rows` predictions that wait to be logged; those beyond are dropped and counted.
    pub async fn open_with(
        meta: Meta,
        tables: Tables,
        clock: Clock,
        house: House,
        metrics: Metrics,
        queue_rows: usize,
    ) -> Result<Self, EvaluatorError> {
        meta.migrate("evaluator", schema::MIGRATIONS)
            .await
            .map_err(EvaluatorError::storage("migrate the evaluator"))?;
        let shared = Arc::new(Shared::open(meta, tables, clock, metrics, queue_rows).await?);
        let (queue, works) = mpsc::channel(QUEUE_MESSAGES);
        let worker = shared.clone();
        house.spawn("evaluator", move |stop| worker::run(worker, works, stop));
        Ok(Self { shared, queue })
    }

    /// Starts to watch an endpoint, or changes how it is watched. A new champion clears open alerts and
    /// restarts the detectors: rules then look at rows after the event time reached here.
    pub async fn configure(&self, watch: Watch) -> Result<(), EvaluatorError> {
        self.ask(|reply| Work::Configure(Box::new(watch), reply)).await?
    }

    /// Joins labels to predictions; durable when it returns. Labels that cannot be taken are listed in the
    /// report and do not hinder the others.
    pub async fn labels(&self, endpoint: &EndpointName, labels: Vec<Label>) -> Result<LabelReport, EvaluatorError> {
        self.ask(|reply| Work::Labels(endpoint.clone(), labels, reply)).await?
    }

    /// Waits until everything offered and labelled before this call is logged and every window due is evaluated.
    pub async fn settle(&self, endpoint: &EndpointName) -> Result<Status, EvaluatorError> {
        self.ask(|reply| Work::Settle(endpoint.clone(), reply)).await??;
        self.status(endpoint).await
    }

    /// Endpoints with a log.
    #[must_use]
    pub fn endpoints(&self) -> Vec<EndpointName> {
        self.shared.names()
    }

    pub async fn status(&self, endpoint: &EndpointName) -> Result<Status, EvaluatorError> {
        let watched = self.shared.known(endpoint)?;
        let state = watched.state.read().await;
        let counts = watched.counts();
        Ok(Status {
            endpoint: endpoint.clone(),
            champion: state.watching.champion.as_ref().map(|champion| champion.version),
            watermark: state.watermark,
            evaluated_through: state.watching.evaluated_through,
            logged: state.len() as u64,
            dropped: counts.dropped,
            labelled: state.labelled,
            unmatched: counts.unmatched,
            open_alerts: state.watching.alerts.len() as u64,
            open_tasks: watched.open_tasks().len() as u64,
        })
    }

    /// Logged predictions in order of arrival.
    pub async fn predictions(
        &self,
        endpoint: &EndpointName,
        filter: PredictionFilter,
    ) -> Result<Vec<LoggedPrediction>, EvaluatorError> {
        predictions::list(&*self.shared.known(endpoint)?, filter).await
    }

    /// One logged prediction, of whatever endpoint.
    pub async fn prediction(&self, id: &PredictionId) -> Result<LoggedPrediction, EvaluatorError> {
        for name in self.shared.names() {
            if let Some(found) = predictions::find(&*self.shared.known(&name)?, *id).await? {
                return Ok(found);
            }
        }
        Err(EvaluatorError::UnknownPrediction(*id))
    }

    /// Endpoint and label key of a logged prediction, from memory; `None` when it is not in the log.
    pub async fn locate(&self, id: &PredictionId) -> Option<(EndpointName, Option<Arc<str>>)> {
        for name in self.shared.names() {
            let Some(watched) = self.shared.watched(&name) else { continue };
            let state = watched.state.read().await;
            if let Some(row) = state.row_of(*id) {
                return Some((name, state.label_keys[row].clone()));
            }
        }
        None
    }

    /// How much each version scored, by version.
    pub async fn scored(&self, endpoint: &EndpointName) -> Result<Vec<Scored>, EvaluatorError> {
        let state = self.shared.known(endpoint)?.state.clone().read_owned().await;
        compute(move || extent::of(&state)).await
    }

    /// Exact quality over event time; see [`QualityRow`] for the order of rows.
    pub async fn quality(
        &self,
        endpoint: &EndpointName,
        query: QualityQuery,
    ) -> Result<Vec<QualityRow>, EvaluatorError> {
        let state = self.shared.known(endpoint)?.state.clone().read_owned().await;
        compute(move || {
            let gathered = quality::gather(&state, &query)?;
            drop(state);
            Ok(gathered.measure())
        })
        .await?
    }

    /// Reports of windows that end in `[from, to]`, oldest first.
    pub async fn reports(
        &self,
        endpoint: &EndpointName,
        from: Option<Timestamp>,
        to: Option<Timestamp>,
    ) -> Result<Vec<DriftReport>, EvaluatorError> {
        self.shared.known(endpoint)?;
        windows::list(&self.shared.meta, endpoint, from, to).await
    }

    /// Alerts, newest first.
    pub async fn alerts(&self, filter: AlertFilter) -> Result<Vec<Alert>, EvaluatorError> {
        alerts::list(&self.shared.meta, &filter).await
    }

    /// Review tasks, oldest first; `state` absent: all.
    pub async fn tasks(
        &self,
        endpoint: &EndpointName,
        state: Option<TaskState>,
        limit: usize,
    ) -> Result<Vec<Task>, EvaluatorError> {
        self.shared.known(endpoint)?;
        review::list(&self.shared.meta, endpoint, state, limit).await
    }

    /// One review task.
    pub async fn task(&self, id: &TaskId) -> Result<Task, EvaluatorError> {
        review::get(&self.shared.meta, *id).await
    }

    /// Answers a review task, durably. The caller then stores the label and sends it to `labels`: a repeated
    /// answer gives the same label again, so a caller that was interrupted can go on.
    ///
    /// The label is known at the event time reached, not at the time on the wall: in a replay those differ.
    pub async fn answer(&self, id: &TaskId, value: bool, reviewer: &str) -> Result<Answer, EvaluatorError> {
        let watched = self.shared.known(&self.task(id).await?.endpoint)?;
        let event_now = watched.state.read().await.watermark.unwrap_or(Timestamp::MIN);
        let answer =
            review::answer(&self.shared.meta, *id, value, reviewer, self.shared.clock.now(), event_now).await?;
        watched.open_tasks().remove(&answer.task.prediction);
        Ok(answer)
    }

    /// Results of a trial: labelled live answers of both versions with event time after `since`.
    pub async fn canary(
        &self,
        endpoint: &EndpointName,
        champion: u32,
        challenger: u32,
        since: Timestamp,
    ) -> Result<CanaryResults, EvaluatorError> {
        let state = self.shared.known(endpoint)?.state.clone().read_owned().await;
        compute(move || canary::canary(&state, champion, challenger, since)).await
    }

    /// The same as [`compare`].
    pub fn compare(
        labels: &[bool],
        champion: &[f32],
        challenger: &[f32],
        confidence: f64,
        seed: u64,
    ) -> Result<Comparison, EvaluatorError> {
        compare(labels, champion, challenger, confidence, seed)
    }

    /// Sends work behind everything sent before and waits for its answer.
    async fn ask<T>(&self, work: impl FnOnce(oneshot::Sender<T>) -> Work) -> Result<T, EvaluatorError> {
        let (reply, answer) = oneshot::channel();
        self.queue.send(work(reply)).await.map_err(|_| EvaluatorError::Stopping)?;
        answer.await.map_err(|_| EvaluatorError::Stopping)
    }
}

impl PredictionTap for Evaluator {
    fn offer(&self, batch: PredictionBatch) -> bool {
        let (rows, endpoint) = (batch.ids.len(), batch.endpoint.clone());
        if rows == 0 {
            return true;
        }
        let taken = worker::is_sound(&batch)
            && self.shared.reserve(rows)
            && self.queue.try_send(Work::Predictions(batch)).inspect_err(|_| self.shared.release(rows)).is_ok();
        if !taken {
            self.shared.count_dropped(&endpoint, rows);
        }
        taken
    }
}

/// Runs maths off the runtime's threads.
async fn compute<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, EvaluatorError> {
    tokio::task::spawn_blocking(work).await.map_err(|e| EvaluatorError::Computation(e.to_string()))
}
