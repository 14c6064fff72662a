//! What the registry promises, over real storage in a temporary directory.

mod artifacts;
mod experiments;
mod metrics;
mod models;
mod runs;
mod tracking;
mod world;
