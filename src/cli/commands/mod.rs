//! Commands that are clients of the REST API, one file for each part of the platform.

mod access;
mod approvals;
mod evaluate;
mod features;
mod gc;
mod import;
mod ingest;
mod lineage;
mod loads;
mod models;
mod pipelines;
mod quarantine;
mod serving;
mod sql;
mod streams;
mod verify;

pub use access::{Audit, Projects, Tokens};
pub use evaluate::{Evaluate, Review};
pub use features::{Apply, Features, apply};
pub use gc::Gc;
pub use ingest::Ingest;
pub use lineage::Lineage;
pub use models::Models;
pub use pipelines::{Pipelines, Train, follow};
pub use serving::{Deploy, Predict};
pub use sql::Sql;
