//! The one task that writes: predictions to the log, labels to predictions, windows to reports.

use std::{
    collections::{BTreeMap, HashMap},
    mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock as StdRwLock,
        atomic::{AtomicUsize, Ordering},
    },
};

use domain::{
    EndpointName, PredictionId, TaskId,
    error::nearest,
    prediction::{Label, PredictionBatch},
    state::TaskState,
};
use runtime::{CancellationToken, Clock, Metric, Metrics};
use storage::{Meta, Tables};
use tokio::sync::{RwLock, mpsc, oneshot};

use crate::{
    error::EvaluatorError,
    labels::{LabelReport, Waiting, sort},
    log::Log,
    monitor,
    review::{self, Task},
    state::State,
    watch::Watch,
};

/// Messages taken at once; neighbouring predictions among them are logged together.
const TAKE_MAX: usize = 256;

/// What the task is asked to do, in the order in which it does it.
pub(crate) enum Work {
    Predictions(PredictionBatch),
    Labels(EndpointName, Vec<Label>, oneshot::Sender<Result<LabelReport, EvaluatorError>>),
    Configure(Box<Watch>, oneshot::Sender<Result<(), EvaluatorError>>),
    Settle(EndpointName, oneshot::Sender<Result<(), EvaluatorError>>),
}

/// What the task shares with those who read.
pub(crate) struct Shared {
    pub meta: Meta,
    pub clock: Clock,
    pub metrics: Metrics,
    tables: Tables,
    endpoints: StdRwLock<BTreeMap<EndpointName, Arc<Watched>>>,
    dropped_elsewhere: Mutex<HashMap<EndpointName, u64>>,
    queued_rows: AtomicUsize,
    queue_rows_max: usize,
}

/// One endpoint's log and memory.
pub(crate) struct Watched {
    pub name: EndpointName,
    pub log: Log,
    /// Written by the task only.
    pub state: Arc<RwLock<State>>,
    counts: Mutex<Counts>,
    open_tasks: Mutex<HashMap<PredictionId, TaskId>>,
    waiting: Mutex<Waiting>,
}

/// Counted since the start of the process.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counts {
    pub dropped: u64,
    pub unmatched: u64,
}

/// Whether the parts of a batch fit together and all scores are numbers.
pub(crate) fn is_sound(batch: &PredictionBatch) -> bool {
    let rows = batch.ids.len();
    batch.event_times.len() == rows
        && batch.label_keys.len() == rows
        && batch.inputs.rows() == rows
        && batch.scored.iter().flat_map(|scored| &scored.scores).all(|(row, score)| *row < rows && score.is_finite())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing under these locks panics half-way, so a poisoned one still holds good data.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Watched {
    pub(crate) fn new(name: EndpointName, log: Log, state: State, open_tasks: HashMap<PredictionId, TaskId>) -> Self {
        Self {
            name,
            log,
            state: Arc::new(RwLock::new(state)),
            counts: Mutex::default(),
            open_tasks: Mutex::new(open_tasks),
            waiting: Mutex::default(),
        }
    }

    pub(crate) fn counts(&self) -> Counts {
        *lock(&self.counts)
    }

    pub(crate) fn open_tasks(&self) -> MutexGuard<'_, HashMap<PredictionId, TaskId>> {
        lock(&self.open_tasks)
    }
}

impl Shared {
    pub(crate) async fn open(
        meta: Meta,
        tables: Tables,
        clock: Clock,
        metrics: Metrics,
        queue_rows_max: usize,
    ) -> Result<Self, EvaluatorError> {
        let endpoints = monitor::restore_all(&meta, &tables).await?;
        Ok(Self {
            meta,
            clock,
            metrics,
            tables,
            endpoints: StdRwLock::new(endpoints.into_iter().map(|w| (w.name.clone(), Arc::new(w))).collect()),
            dropped_elsewhere: Mutex::default(),
            queued_rows: AtomicUsize::new(0),
            queue_rows_max,
        })
    }

    pub(crate) fn names(&self) -> Vec<EndpointName> {
        self.endpoints.read().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }

    pub(crate) fn watched(&self, endpoint: &EndpointName) -> Option<Arc<Watched>> {
        self.endpoints.read().unwrap_or_else(PoisonError::into_inner).get(endpoint).cloned()
    }

    /// The endpoint's log, or an error that names the nearest endpoint.
    pub(crate) fn known(&self, endpoint: &EndpointName) -> Result<Arc<Watched>, EvaluatorError> {
        self.watched(endpoint).ok_or_else(|| {
            let names = self.names();
            let near = nearest(endpoint.as_str(), names.iter().map(EndpointName::as_str)).map(str::to_owned);
            EvaluatorError::UnknownEndpoint { name: endpoint.clone(), nearest: near }
        })
    }

    /// The endpoint's log, begun now if there is none.
    async fn begin(&self, endpoint: &EndpointName) -> Result<Arc<Watched>, EvaluatorError> {
        if let Some(watched) = self.watched(endpoint) {
            return Ok(watched);
        }
        let watched = Arc::new(monitor::begin(&self.meta, &self.tables, endpoint).await?);
        lock(&watched.counts).dropped = lock(&self.dropped_elsewhere).remove(endpoint).unwrap_or_default();
        let mut endpoints = self.endpoints.write().unwrap_or_else(PoisonError::into_inner);
        endpoints.insert(endpoint.clone(), watched.clone());
        Ok(watched)
    }

    /// Takes room for rows in the queue; false when there is none.
    pub(crate) fn reserve(&self, rows: usize) -> bool {
        let room = |queued: usize| Some(queued + rows).filter(|queued| *queued <= self.queue_rows_max);
        let taken = self.queued_rows.try_update(Ordering::Relaxed, Ordering::Relaxed, room);
        if let Ok(before) = taken {
            self.show_depth(before + rows);
        }
        taken.is_ok()
    }

    pub(crate) fn release(&self, rows: usize) {
        let before = self.queued_rows.fetch_sub(rows, Ordering::Relaxed);
        self.show_depth(before.saturating_sub(rows));
    }

    #[expect(clippy::cast_precision_loss, reason = "a gauge")]
    fn show_depth(&self, rows: usize) {
        self.metrics.set(Metric::QueueDepth, &["prediction_log"], rows as f64);
    }

    pub(crate) fn count_dropped(&self, endpoint: &EndpointName, rows: usize) {
        self.metrics.add(Metric::LogDropped, &[endpoint.as_str()], rows as u64);
        match self.watched(endpoint) {
            Some(watched) => lock(&watched.counts).dropped += rows as u64,
            None => *lock(&self.dropped_elsewhere).entry(endpoint.clone()).or_default() += rows as u64,
        }
    }

    async fn process(&self, works: Vec<Work>) {
        let mut batches = Vec::new();
        for work in works {
            if let Work::Predictions(batch) = work {
                batches.push(batch);
                continue;
            }
            self.log(mem::take(&mut batches)).await;
            // An asker that went away needs no answer.
            match work {
                Work::Predictions(_) => {}
                Work::Labels(endpoint, labels, reply) => drop(reply.send(self.labels(&endpoint, labels).await)),
                Work::Configure(watch, reply) => drop(reply.send(self.configure(*watch).await)),
                Work::Settle(endpoint, reply) => drop(reply.send(self.settle(&endpoint).await)),
            }
        }
        self.log(batches).await;
    }

    /// Logs batches, each endpoint's with one write, then takes them in one by one.
    async fn log(&self, batches: Vec<PredictionBatch>) {
        let mut by_endpoint: BTreeMap<EndpointName, Vec<PredictionBatch>> = BTreeMap::new();
        for batch in batches {
            by_endpoint.entry(batch.endpoint.clone()).or_default().push(batch);
        }
        for (endpoint, batches) in by_endpoint {
            let rows = batches.iter().map(|batch| batch.ids.len()).sum();
            let logged = async {
                let watched = self.begin(&endpoint).await?;
                watched.log.append(&batches).await?;
                Ok::<_, EvaluatorError>(watched)
            };
            match logged.await {
                Ok(watched) => {
                    for batch in batches {
                        if let Err(error) = self.take_in(&watched, &batch).await {
                            tracing::error!(%endpoint, error = report_of(&error), "logged predictions await a window");
                        }
                    }
                }
                Err(error) => {
                    self.count_dropped(&endpoint, rows);
                    tracing::error!(%endpoint, rows, error = report_of(&error), "predictions were not logged");
                }
            }
            self.release(rows);
        }
    }

    /// A logged batch enters memory: labels that waited for it, tasks for people, windows it closes.
    async fn take_in(&self, watched: &Watched, batch: &PredictionBatch) -> Result<(), EvaluatorError> {
        let added = watched.state.write().await.push_batch(batch);
        let early = lock(&watched.waiting).take(batch.label_keys.iter().flatten());
        if !early.is_empty() {
            self.join(watched, early).await?;
        }
        self.ask_people(watched, batch, &added).await?;
        self.evaluate(watched).await
    }

    /// Makes review tasks of answers near the threshold, as long as few are open.
    async fn ask_people(
        &self,
        watched: &Watched,
        batch: &PredictionBatch,
        added: &[usize],
    ) -> Result<(), EvaluatorError> {
        let mut tasks = Vec::new();
        {
            let state = watched.state.read().await;
            let Some(definition) = &state.watching.definition else { return Ok(()) };
            let (review, threshold) = (&definition.review, definition.threshold);
            let open = watched.open_tasks().len() as u64;
            let at: HashMap<_, _> = batch.ids.iter().enumerate().map(|(i, id)| (*id, i)).collect();
            for &row in added {
                if open + tasks.len() as u64 >= review.max_open {
                    break;
                }
                let Some(served) = state.served(row).filter(|_| state.labels[row].is_none()) else { continue };
                let Some(why) = Task::why(served.score, threshold, review.band) else { continue };
                tasks.push(Task {
                    id: TaskId::mint(),
                    endpoint: watched.name.clone(),
                    prediction: state.ids[row],
                    event_time: state.event_times[row],
                    label_key: state.label_keys[row].clone(),
                    version: served.version,
                    score: served.score,
                    inputs: batch.inputs.row_json(at[&state.ids[row]]),
                    why,
                    state: TaskState::Queued,
                    value: None,
                    reviewer: None,
                    answered_at: None,
                });
            }
        }
        if !tasks.is_empty() {
            review::create(&self.meta, &tasks).await?;
            watched.open_tasks().extend(tasks.iter().map(|task| (task.prediction, task.id)));
        }
        Ok(())
    }

    async fn labels(&self, endpoint: &EndpointName, labels: Vec<Label>) -> Result<LabelReport, EvaluatorError> {
        let watched = self.known(endpoint)?;
        let report = self.join(&watched, labels).await?;
        for (outcome, count) in [
            ("joined", report.joined),
            ("unmatched", report.unmatched),
            ("already", report.already),
            ("overruled", report.overruled),
        ] {
            if count > 0 {
                self.metrics.add(Metric::Labels, &[endpoint.as_str(), outcome], count);
            }
        }
        // The labels are safe: trouble with a window is not the caller's, and the next message tries again.
        if let Err(error) = self.evaluate(&watched).await {
            tracing::error!(%endpoint, error = report_of(&error), "could not evaluate a window");
        }
        Ok(report)
    }

    async fn join(&self, watched: &Watched, labels: Vec<Label>) -> Result<LabelReport, EvaluatorError> {
        use domain::prediction::LabelOrigin;
        let sorted = sort(&*watched.state.read().await, labels);
        let rows: Vec<_> = sorted.accepted.iter().map(|(_, label)| label.clone()).collect();
        if !rows.is_empty() {
            watched.log.append_labels(&rows).await?;
        }
        let mut done = Vec::new();
        {
            let mut state = watched.state.write().await;
            let open = watched.open_tasks();
            for (row, label) in sorted.accepted {
                state.set_label(row, label.cell);
                done.extend(open.get(&label.id).map(|task| (label.id, *task)));
            }
            for (_, label) in sorted.unmatched.iter().filter(|(_, label)| label.origin == LabelOrigin::Outcome) {
                state.advance(label.known_at);
            }
            state.trim();
        }
        lock(&watched.counts).unmatched += sorted.unmatched.len() as u64;
        {
            let mut waiting = lock(&watched.waiting);
            sorted.unmatched.into_iter().for_each(|(key, label)| waiting.keep(key, label));
        }
        if !done.is_empty() {
            let ids: Vec<_> = done.iter().map(|(_, task)| *task).collect();
            match review::withdraw(&self.meta, &ids).await {
                Ok(()) => watched.open_tasks().retain(|prediction, _| !done.iter().any(|(id, _)| id == prediction)),
                // The labels are safe; the next start withdraws what stayed behind.
                Err(error) => tracing::error!(endpoint = %watched.name, error = report_of(&error), "tasks stay queued"),
            }
        }
        Ok(sorted.report)
    }

    async fn configure(&self, watch: Watch) -> Result<(), EvaluatorError> {
        if !watch.references.contains_key(&watch.champion) {
            return Err(EvaluatorError::NoReference { endpoint: watch.definition.name, champion: watch.champion });
        }
        let watched = self.begin(&watch.definition.name).await?;
        monitor::configure(&self.meta, self.clock.now(), &watched, watch).await?;
        self.evaluate(&watched).await
    }

    async fn settle(&self, endpoint: &EndpointName) -> Result<(), EvaluatorError> {
        self.evaluate(&*self.known(endpoint)?).await
    }

    /// Evaluates every window that is due.
    async fn evaluate(&self, watched: &Watched) -> Result<(), EvaluatorError> {
        while let Some(raised) = monitor::evaluate_next(&self.meta, self.clock.now(), watched).await? {
            for rule in raised {
                self.metrics.inc(Metric::Alerts, &[watched.name.as_str(), rule.as_str()]);
            }
        }
        Ok(())
    }
}

/// An error with what caused it, for the log.
fn report_of(error: &EvaluatorError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// Works until the house shuts down or every handle is gone, and then finishes what waits.
pub(crate) async fn run(shared: Arc<Shared>, mut queue: mpsc::Receiver<Work>, stop: CancellationToken) {
    let mut works = Vec::with_capacity(TAKE_MAX);
    loop {
        let taken = tokio::select! {
            biased;
            () = stop.cancelled(), if !queue.is_closed() => {
                queue.close();
                continue;
            }
            taken = queue.recv_many(&mut works, TAKE_MAX) => taken,
        };
        if taken == 0 {
            return;
        }
        shared.process(mem::take(&mut works)).await;
    }
}
