//! What the registry promises, over real storage in a temporary directory.

mod approvals;
mod artifacts;
mod experiments;
mod logged_models;
mod metrics;
mod models;
mod runs;
mod search;
mod sources;
mod tracking;
mod world;
