//! The handle, what it holds, and how it starts.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
};

use domain::{
    EndpointName, NewEvent, PipelineName, PipelineRunId, Timestamp,
    definition::{Endpoint, Pipeline},
    error::nearest,
    state::PipelineRunState,
};
use evaluator::Evaluator;
use feature_store::FeatureStore;
use registry::Registry;
use runtime::{Clock, House};
use serving::Serving;
use storage::{Meta, Tx};
use tokio::{
    sync::{Mutex, watch},
    time::Instant,
};

use crate::{
    error::{ConductorError, During as _},
    fit::Fit,
    run::{PipelineRun, RunFilter},
    store, tables,
};

/// The rooms that are conducted, and the house they stand in.
#[derive(Clone)]
pub struct Rooms {
    pub meta: Meta,
    pub registry: Registry,
    pub features: FeatureStore,
    /// `trainer::Trainer`, or what stands in for it in tests.
    pub trainer: Arc<dyn Fit>,
    pub serving: Serving,
    pub evaluator: Evaluator,
    pub clock: Clock,
    pub house: House,
    /// Recorded on every run, and part of every step's key: a new program computes anew.
    pub code_version: String,
    /// The data directory whose server conducts, where several share a database and it is not this one.
    pub conducted_by: Option<String>,
}

/// The conductor's front door. Clones share it.
#[derive(Clone)]
pub struct Conductor(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) rooms: Rooms,
    /// Applied pipelines and endpoints, as they stand in the tables.
    known: RwLock<Known>,
    /// Grows whenever a run or a step changes.
    pub(crate) changes: watch::Sender<u64>,
    /// Held while definitions are applied or an endpoint changes: of two changes the later one wins whole.
    pub(crate) changing: Mutex<()>,
    /// Held while the journal is followed and trials are judged.
    pub(crate) following: Mutex<()>,
    /// When somebody last settled.
    pub(crate) settled: std::sync::Mutex<Option<Instant>>,
}

/// What was applied.
#[derive(Debug, Default, Clone)]
pub(crate) struct Known {
    pub(crate) pipelines: BTreeMap<PipelineName, Pipeline>,
    pub(crate) endpoints: BTreeMap<EndpointName, Endpoint>,
}

impl Conductor {
    /// Opens the conductor's tables, puts every endpoint back in service as it was left, goes on with the runs that
    /// were under way and starts to follow the journal; where another server conducts, it only shows. An endpoint whose versions cannot be loaded is logged and
    /// answers as one without a version; it does not keep the others from starting.
    ///
    /// # Errors
    /// Tables that cannot be read or were written by a newer program.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn open(rooms: Rooms) -> Result<Self, ConductorError> {
        rooms.meta.migrate(tables::ROOM, tables::MIGRATIONS).await.during("open the conductor's tables")?;
        let conductor = Self(Arc::new(Inner {
            rooms,
            known: RwLock::default(),
            changes: watch::Sender::new(0),
            changing: Mutex::default(),
            following: Mutex::default(),
            settled: std::sync::Mutex::default(),
        }));
        conductor.reload().await?;
        if let Some(keeper) = &conductor.rooms().conducted_by {
            tracing::info!(%keeper, "pipelines and endpoints are kept by another server of this database");
            return Ok(conductor);
        }
        conductor.restore_endpoints().await?;
        let unfinished = [PipelineRunState::Queued, PipelineRunState::Running];
        for run in store::in_states(conductor.rooms().meta.reader(), unfinished).await? {
            tracing::info!(run = %run.id, pipeline = %run.pipeline, "going on with a pipeline run");
            conductor.launch(run.id);
        }
        conductor.follow();
        Ok(conductor)
    }

    pub(crate) fn rooms(&self) -> &Rooms {
        &self.0.rooms
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.0.rooms.clock.now()
    }

    /// A pipeline run with its steps.
    ///
    /// # Errors
    /// `NoSuchRun`.
    pub async fn run(&self, id: &PipelineRunId) -> Result<PipelineRun, ConductorError> {
        store::run(self.rooms().meta.reader(), *id).await
    }

    /// Pipeline runs, newest first.
    ///
    /// # Errors
    /// Rows that cannot be read.
    pub async fn runs(&self, filter: &RunFilter) -> Result<Vec<PipelineRun>, ConductorError> {
        store::runs(self.rooms().meta.reader(), filter).await
    }

    /// Applied pipelines, by name.
    #[must_use]
    pub fn pipelines(&self) -> Vec<Pipeline> {
        self.known(|known| known.pipelines.values().cloned().collect())
    }

    pub(crate) fn known<T>(&self, read: impl FnOnce(&Known) -> T) -> T {
        read(&self.0.known.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the applied definitions from the table again.
    pub(crate) async fn reload(&self) -> Result<(), ConductorError> {
        let known = crate::apply::load(self.rooms().meta.reader()).await?;
        *self.0.known.write().unwrap_or_else(PoisonError::into_inner) = known;
        Ok(())
    }

    pub(crate) fn pipeline(&self, name: &PipelineName) -> Result<Pipeline, ConductorError> {
        self.known(|known| {
            known.pipelines.get(name).cloned().ok_or_else(|| {
                let near = nearest(name.as_str(), known.pipelines.keys().map(PipelineName::as_str));
                ConductorError::NoSuchPipeline { name: name.clone(), nearest: near.map(str::to_owned) }
            })
        })
    }

    pub(crate) fn definition(&self, name: &EndpointName) -> Result<Endpoint, ConductorError> {
        self.known(|known| {
            known.endpoints.get(name).cloned().ok_or_else(|| {
                let near = nearest(name.as_str(), known.endpoints.keys().map(EndpointName::as_str));
                ConductorError::NoSuchEndpoint { name: name.clone(), nearest: near.map(str::to_owned) }
            })
        })
    }

    /// Whether this is the server that conducts; only that one writes.
    pub(crate) fn conducts(&self) -> Result<(), ConductorError> {
        match &self.rooms().conducted_by {
            Some(keeper) => Err(ConductorError::Elsewhere { keeper: keeper.clone() }),
            None => Ok(()),
        }
    }

    pub(crate) async fn begin(&self) -> Result<Tx, ConductorError> {
        self.conducts()?;
        self.rooms().meta.begin().await.during("begin a write")
    }

    /// Tells those who wait for runs that something changed.
    pub(crate) fn changed(&self) {
        self.0.changes.send_modify(|n| *n += 1);
    }
}

/// Appends an event to the transaction of the change it tells of.
pub(crate) async fn append(tx: &mut Tx, event: NewEvent) -> Result<u64, ConductorError> {
    tx.append(event).await.during("append to the journal")
}

pub(crate) async fn commit(tx: Tx) -> Result<(), ConductorError> {
    tx.commit().await.during("commit a change")
}

/// Who the conductor is in the journal.
pub(crate) const ACTOR: &str = "pipelines";
