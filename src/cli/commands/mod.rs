//! Commands that are clients of the REST API, one file for each part of the platform.

mod access;
mod approvals;
mod evaluate;
mod features;
mod lineage;
mod models;
mod pipelines;
mod serving;

pub use access::{Audit, Projects, Tokens};
pub use evaluate::{Evaluate, Review};
pub use features::{Apply, Features, Ingest, apply};
pub use lineage::Lineage;
pub use models::Models;
pub use pipelines::{Pipelines, Train, follow};
pub use serving::{Deploy, Predict};
