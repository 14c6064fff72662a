//! What the registry promises, over real storage in a temporary directory.

mod experiments;
mod metrics;
mod models;
mod runs;
mod tracking;
mod world;
