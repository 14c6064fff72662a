//! What the registry promises, over real storage in a temporary directory.

mod logged_models;
mod models;
mod runs;
mod search;
mod world;
