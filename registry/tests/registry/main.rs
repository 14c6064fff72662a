//! What the registry promises, over real storage in a temporary directory.

mod artifacts;
mod experiments;
mod garbage;
mod logged_models;
mod metrics;
mod models;
mod runs;
mod search;
mod sources;
mod tracking;
mod verify;
mod world;
