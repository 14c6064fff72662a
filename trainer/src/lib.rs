//! Training: a job goes to a child process, which fits a model with candle, writes it as ONNX with its preprocessing
//! inside, proves that ONNX Runtime computes the same, measures it on the holdout and leaves a completion record.
//!
//! Registering what comes out is a separate act and somebody else's.

mod error;
mod fit;
mod handle;
mod importance;
mod job;
mod mlmodel;
mod net;
mod parity;
mod prep;
mod record;
mod reference;
mod rows;
mod scores;
mod worker;

pub use error::TrainerError;
pub use fit::fit;
pub use handle::{Trainer, TrainerConfig};
pub use job::{EpochMetrics, Progress, TrainJob, Trained, metric};
pub use worker::worker;
