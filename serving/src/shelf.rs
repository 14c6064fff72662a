//! Loaded model versions: each is loaded once, shared while anybody uses it, and gone with its last user.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use backends::{Backend, BackendError};
use domain::{
    ModelRef, Signature,
    ports::{Models, OpenedModel},
};
use runtime::{Metric, Metrics};

use crate::{
    ServingError, batch,
    pool::{self, Lane},
};

/// Turns the files of a version into something that predicts.
pub trait Loader: Send + Sync + 'static {
    /// Called on a thread that may block.
    ///
    /// # Errors
    /// When the files are no model, or not one of the version's signature.
    fn load(&self, model: &OpenedModel) -> Result<Arc<dyn Backend>, BackendError>;
}

/// The real loader: ONNX Runtime, through `backends::load`.
#[derive(Debug, Clone, Copy, Default)]
pub struct OnnxLoader;

impl Loader for OnnxLoader {
    fn load(&self, model: &OpenedModel) -> Result<Arc<dyn Backend>, BackendError> {
        backends::load(&model.signature, &model.files)
    }
}

/// A version that has answered its first row.
pub(crate) struct Loaded {
    pub(crate) version: ModelRef,
    pub(crate) signature: Signature,
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) lane: Arc<Lane>,
}

/// Everything loaded now.
pub(crate) struct Shelf {
    models: Arc<dyn Models>,
    loader: Arc<dyn Loader>,
    metrics: Metrics,
    /// Rows that may wait per version.
    queue_rows: usize,
    loaded: Mutex<HashMap<ModelRef, Weak<Loaded>>>,
}

impl Shelf {
    pub(crate) fn new(models: Arc<dyn Models>, loader: Arc<dyn Loader>, metrics: Metrics, queue_rows: usize) -> Self {
        Self { models, loader, metrics, queue_rows, loaded: Mutex::default() }
    }

    /// The version, loaded and warmed up if nobody uses it yet.
    pub(crate) async fn get(&self, version: &ModelRef) -> Result<Arc<Loaded>, ServingError> {
        if let Some(found) = self.loaded(|all| all.get(version).and_then(Weak::upgrade)) {
            return Ok(found);
        }
        let opened = self.models.open(version).await?;
        let loader = Arc::clone(&self.loader);
        let task = tokio::task::spawn_blocking(move || {
            let backend = ready(&*loader, &opened)?;
            Ok::<_, ServingError>((opened, backend))
        });
        let (opened, backend) = task.await.map_err(|error| ServingError::Panicked {
            version: version.clone(),
            message: format!("while it was loaded: {error}"),
        })??;
        let depth = self.metrics.gauge(Metric::QueueDepth, &[&format!("infer/{version}")]);
        let lane = Lane::new(version.clone(), Arc::clone(&backend), self.queue_rows, depth);
        let fresh = Arc::new(Loaded { version: version.clone(), signature: opened.signature, backend, lane });
        self.loaded(|all| {
            all.retain(|_, loaded| loaded.strong_count() > 0);
            all.insert(version.clone(), Arc::downgrade(&fresh));
        });
        tracing::info!(%version, "model version loaded");
        Ok(fresh)
    }

    fn loaded<T>(&self, act: impl FnOnce(&mut HashMap<ModelRef, Weak<Loaded>>) -> T) -> T {
        // Nothing under this lock panics half-way, so a poisoned one still holds good data.
        act(&mut self.loaded.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Loads a version and lets it answer one row of nulls, so that the first caller does not pay for its first run.
fn ready(loader: &dyn Loader, opened: &OpenedModel) -> Result<Arc<dyn Backend>, ServingError> {
    let version = &opened.version;
    let failed = |source: BackendError| ServingError::Model {
        version: version.clone(),
        doing: "loaded",
        source: Arc::new(source),
    };
    let backend = loader.load(opened).map_err(failed)?;
    let row = batch::null_row(&opened.signature).map_err(|error| failed(error.into()))?;
    pool::compute(version, &*backend, &row)?;
    Ok(backend)
}
