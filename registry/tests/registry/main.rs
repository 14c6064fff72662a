//! What the registry promises, over real storage in a temporary directory.

mod models;
mod runs;
mod sources;
mod world;
