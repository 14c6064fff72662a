//! The conductor: the only room that calls others.
//!
//! It routes definitions to the rooms that own them, remembers which versions answer on which endpoint, and closes
//! the loop: an alert in the journal starts a pipeline run (dataset, training, choice, registration, gate), a passed
//! gate puts the challenger on trial with a share of the traffic, and its own live results promote it or roll it back.
//!
//! Every step is committed before the next starts, so a run that was interrupted goes on where it stood. Every
//! event of a run names the alert (or the trigger) it follows from: [`Conductor::story`] tells it from end to end.

mod apply;
mod check;
mod conductor;
mod definition;
mod endpoint;
mod engine;
mod error;
mod fit;
mod gate;
mod hold;
mod label;
mod lineage;
mod models;
mod overview;
mod policy;
mod references;
mod rollout;
mod run;
mod steps;
mod store;
mod story;
mod tables;
mod trigger;

#[cfg(test)]
mod tests;

pub use check::Problem;
pub use conductor::{Conductor, Rooms};
pub use definition::{DefinitionError, parse};
pub use endpoint::{CHAMPION, Deployment, EndpointView};
pub use error::ConductorError;
pub use feature_store::{Action, Change};
pub use fit::{Fit, Listener};
pub use lineage::{DEPTH_MAX, Impact, NODES_MAX, Reached};
pub use overview::{DriftPoint, EndpointOverview, Overview};
pub use run::{Cause, CauseKind, Compared, Decision, PipelineRun, Rollout, RunFilter, Step, Trial};
