//! Serving: endpoints, the split of their traffic, batching, and samples for the prediction log.
//!
//! A prediction takes a seat (or is refused), is read against the form of its endpoint, gets its features,
//! is routed row by row by hash of its label key, waits in the lane of a version and is computed on threads
//! that do nothing else. Everything is in memory: who deploys keeps the state and configures it again after a
//! start. SQL, files and the network are not known here; features and models come through ports.

mod batch;
mod endpoint;
mod error;
mod instance;
mod pool;
mod predict;
mod route;
mod sample;
mod shelf;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, PoisonError, RwLock},
};

use domain::{
    EndpointName, Frame, ModelRef,
    error::nearest,
    ports::{Features, Models, PredictionTap},
};
use runtime::{CancellationToken, Clock, House, Metric, Metrics};
use tokio::sync::{Mutex, Semaphore, TryAcquireError};

pub use endpoint::{EndpointState, EndpointStatus};
pub use error::ServingError;
pub use instance::EVENT_TIME;
pub use predict::{PredictRequest, PredictResponse, Prediction, Timings};
pub use route::{Lot, Target};
pub use shelf::{Loader, OnnxLoader};

use endpoint::Live;
use pool::{Lane, Pool};
use predict::Means;
use sample::Sampler;
use shelf::Shelf;

/// A request may hold this many batches.
const BATCHES_PER_REQUEST: usize = 16;
/// Jobs of one offline scoring in flight at once: one computes while the next is made ready.
const OFFLINE_JOBS: usize = 4;

/// Limits of serving.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServingConfig {
    /// Requests served at once; more are refused as overloaded. At least 1.
    pub max_in_flight: usize,
    /// Rows that may wait per model version; more are refused as overloaded. At least one batch.
    pub queue_rows: usize,
    /// Rows computed in one go; a request may hold 16 times as many. At least 1.
    pub max_batch_rows: usize,
    /// Threads that compute; 0 means one per core.
    pub threads: usize,
}

impl Default for ServingConfig {
    fn default() -> Self {
        Self { max_in_flight: 256, queue_rows: 4_096, max_batch_rows: 256, threads: 0 }
    }
}

/// The room's front door. Clones share everything; the threads end when the house shuts down or the last clone is gone.
#[derive(Clone)]
pub struct Serving(Arc<Inner>);

struct Inner {
    features: Arc<dyn Features>,
    clock: Clock,
    metrics: Metrics,
    shelf: Shelf,
    pool: Arc<Pool>,
    sampler: Sampler,
    seats: Arc<Semaphore>,
    stopping: CancellationToken,
    max_batch_rows: usize,
    endpoints: RwLock<Arc<Endpoints>>,
    /// Held while an endpoint is made ready, so that of two changes the later one wins whole.
    changing: Mutex<()>,
}

type Endpoints = BTreeMap<EndpointName, Arc<Live>>;

impl Serving {
    /// Starts the worker threads and one task in `house`. When the house shuts down, new requests are refused,
    /// those in flight are answered, samples are handed over, and the threads are joined.
    ///
    /// # Panics
    /// Outside a tokio runtime, or when the operating system refuses to start a thread.
    #[must_use]
    #[expect(clippy::too_many_arguments, reason = "each is a part of the house that the binary plugs in")]
    pub fn new(
        features: Arc<dyn Features>,
        models: Arc<dyn Models>,
        tap: Arc<dyn PredictionTap>,
        loader: Arc<dyn Loader>,
        clock: Clock,
        metrics: Metrics,
        house: &House,
        config: ServingConfig,
    ) -> Self {
        let max_batch_rows = config.max_batch_rows.max(1);
        let max_in_flight = u32::try_from(config.max_in_flight.max(1)).unwrap_or(u32::MAX);
        let seats = Arc::new(Semaphore::new((max_in_flight as usize).min(Semaphore::MAX_PERMITS)));
        let pool = Arc::new(Pool::start(config.threads, max_batch_rows));
        let (sampler, mut collector) = sample::channel(tap, metrics.gauge(Metric::QueueDepth, &["shadow"]));
        house.spawn("serving", |stop| {
            let (seats, pool) = (Arc::clone(&seats), Arc::clone(&pool));
            async move {
                let drained = CancellationToken::new();
                let drain = async {
                    stop.cancelled().await;
                    last_seat(&seats, max_in_flight).await;
                    drained.cancel();
                    std::future::pending::<()>().await;
                };
                tokio::select! {
                    () = collector.run(&drained) => {}
                    () = drain => {}
                }
                // Joining threads blocks, so it happens where that is allowed; it can only fail by a panic, already logged.
                let _ = tokio::task::spawn_blocking(move || pool.stop()).await;
            }
        });
        let shelf = Shelf::new(models, loader, metrics.clone(), config.queue_rows.max(max_batch_rows));
        Self(Arc::new(Inner {
            features,
            clock,
            metrics,
            shelf,
            pool,
            sampler,
            seats,
            stopping: house.stopping(),
            max_batch_rows,
            endpoints: RwLock::default(),
            changing: Mutex::default(),
        }))
    }

    /// Puts an endpoint in the given state: loads what is not loaded yet, lets each version answer a row of
    /// nulls, checks that it fits the feature service as it is now, then swaps at once. Requests that began
    /// before are answered by the versions they began with. On an error nothing has changed.
    ///
    /// # Errors
    /// A split that is no split, a version or service that does not exist, a model that does not load, does
    /// not answer or wants columns the service does not give.
    pub async fn configure(&self, state: EndpointState) -> Result<(), ServingError> {
        let inner = &*self.0;
        let _alone = inner.changing.lock().await;
        let name = state.definition.name.clone();
        let live = Live::prepare(state, &*inner.features, &inner.shelf, &inner.metrics, inner.clock.now()).await?;
        inner.swap(|endpoints| endpoints.insert(name, Arc::new(live)));
        Ok(())
    }

    /// Takes an endpoint away; requests that began before are answered.
    ///
    /// # Errors
    /// `NoSuchEndpoint`.
    pub async fn remove(&self, endpoint: &EndpointName) -> Result<(), ServingError> {
        let _alone = self.0.changing.lock().await;
        self.0.live(endpoint)?;
        self.0.swap(|endpoints| endpoints.remove(endpoint));
        Ok(())
    }

    /// All endpoints, by name.
    #[must_use]
    pub fn endpoints(&self) -> Vec<EndpointStatus> {
        self.0.all().values().map(|live| live.status()).collect()
    }

    /// Answers every instance or none. Dropping the future withdraws what has not been computed yet.
    ///
    /// # Errors
    /// An unknown endpoint or pinned version, a bad instance (named by its path), too many rows, too much
    /// traffic, a deadline that passed, or a model that failed.
    pub async fn predict(
        &self,
        endpoint: &EndpointName,
        request: PredictRequest,
    ) -> Result<PredictResponse, ServingError> {
        let Some(deadline) = request.deadline else { return self.0.predict(endpoint, request).await };
        let late = |_| ServingError::DeadlineExceeded { doing: "before the answer was ready" };
        tokio::time::timeout_at(deadline.into(), self.0.predict(endpoint, request)).await.map_err(late)?
    }

    /// Scores rows offline on the same threads, in batches that take turns with traffic. The rows hold at least
    /// the model's inputs; the version need not be deployed.
    ///
    /// # Errors
    /// A version that does not exist or does not load, rows that lack its columns, or a model that failed.
    pub async fn score(&self, version: &ModelRef, rows: Frame) -> Result<Vec<f32>, ServingError> {
        let inner = &*self.0;
        let loaded = inner.shelf.get(version).await?;
        let gauge = inner.metrics.gauge(Metric::QueueDepth, &["offline"]);
        // A lane of its own: offline rows never fill the queue of live ones.
        let lane = Lane::new(version.clone(), Arc::clone(&loaded.backend), usize::MAX, gauge);
        let mut scores = Vec::with_capacity(rows.rows());
        let mut pending = VecDeque::with_capacity(OFFLINE_JOBS);
        let mut next = 0;
        while next < rows.rows() || !pending.is_empty() {
            if next < rows.rows() && pending.len() < OFFLINE_JOBS {
                let end = rows.rows().min(next + inner.max_batch_rows);
                let indices: Vec<_> = (next..end).collect();
                let shaped = batch::shape(&loaded.signature, &rows, &indices);
                let shaped = shaped.map_err(|source| ServingError::BadRows { version: version.clone(), source })?;
                pending.push_back(inner.pool.submit(&lane, shaped, None)?);
                next = end;
            } else if let Some(first) = pending.pop_front() {
                scores.extend(first.await.map_err(|_| ServingError::Stopping)??.scores);
            }
        }
        Ok(scores)
    }
}

impl Inner {
    async fn predict(&self, endpoint: &EndpointName, request: PredictRequest) -> Result<PredictResponse, ServingError> {
        if self.stopping.is_cancelled() {
            return Err(ServingError::Stopping);
        }
        let _seat = self.seats.try_acquire().map_err(|refused| match refused {
            TryAcquireError::NoPermits => ServingError::Overloaded { what: "the room for requests in flight" },
            TryAcquireError::Closed => ServingError::Stopping,
        })?;
        let live = self.live(endpoint)?;
        let (found, limit) = (request.instances.len(), self.max_batch_rows.saturating_mul(BATCHES_PER_REQUEST));
        if found > limit {
            return Err(ServingError::TooManyRows { found, limit });
        }
        let means = Means {
            features: &*self.features,
            pool: &self.pool,
            sampler: &self.sampler,
            max_batch_rows: self.max_batch_rows,
            clock: &self.clock,
        };
        means.predict(&live, request).await
    }

    fn all(&self) -> Arc<Endpoints> {
        Arc::clone(&self.endpoints.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn live(&self, name: &EndpointName) -> Result<Arc<Live>, ServingError> {
        let all = self.all();
        all.get(name).cloned().ok_or_else(|| {
            let near = nearest(name.as_str(), all.keys().map(EndpointName::as_str));
            let nearest = near.and_then(|near| near.parse().ok());
            ServingError::NoSuchEndpoint { name: name.clone(), nearest }
        })
    }

    /// Replaces the map of endpoints by a changed copy; readers see the old or the new one, never between.
    fn swap<T>(&self, change: impl FnOnce(&mut Endpoints) -> T) {
        let mut all = Endpoints::clone(&self.all());
        change(&mut all);
        let before =
            std::mem::replace(&mut *self.endpoints.write().unwrap_or_else(PoisonError::into_inner), Arc::new(all));
        // Dropped here, outside the lock: it may be the last holder of an unloaded model.
        drop(before);
    }
}

/// Waits until no request is in flight and closes the door behind the last.
async fn last_seat(seats: &Semaphore, all: u32) {
    // The acquisition takes free seats at once and the others as they are given back.
    if let Ok(every) = seats.acquire_many(all).await {
        every.forget();
    }
    seats.close();
}
