//! The seam to the trainer, so that the conductor's own logic can be tested without child processes.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use domain::ports::PortError;
use trainer::{Progress, TrainJob, Trained, Trainer};

/// Hears how a job gets on, from whichever thread tells it; never blocks.
pub type Listener = Arc<dyn Fn(Progress) + Send + Sync>;

/// What fits models.
#[async_trait]
pub trait Fit: Send + Sync + 'static {
    /// Fits one model. `train` and `holdout` are Parquet files with the same columns. Dropping the future ends the job;
    /// nothing is kept of a job that did not return.
    async fn fit(&self, job: TrainJob, train: Bytes, holdout: Bytes, listener: Listener) -> Result<Trained, PortError>;
}

#[async_trait]
impl Fit for Trainer {
    async fn fit(&self, job: TrainJob, train: Bytes, holdout: Bytes, listener: Listener) -> Result<Trained, PortError> {
        self.train(job, train, holdout, |progress| listener(progress)).await.map_err(|e| PortError::from_coded(&e))
    }
}
