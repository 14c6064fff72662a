//! Commands that are clients of the REST API, one file for each part of the platform.

mod evaluate;
mod features;
mod gc;
mod import;
mod models;
mod pipelines;
mod serving;
mod verify;

pub use evaluate::{Evaluate, Review};
pub use features::{Apply, Features, Ingest, apply};
pub use gc::Gc;
pub use models::Models;
pub use pipelines::{Pipelines, Train, follow};
pub use serving::{Deploy, Predict};
