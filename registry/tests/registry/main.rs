//! What the registry promises, over real storage in a temporary directory.

mod artifacts;
mod models;
mod runs;
mod world;
