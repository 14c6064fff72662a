//! What the registry promises, over real storage in a temporary directory.

mod approvals;
mod artifacts;
mod experiments;
mod garbage;
mod logged_models;
mod metrics;
mod models;
#[path = "../../../tests/support/receiver.rs"]
mod receiver;
mod runs;
mod search;
mod sources;
mod tracking;
mod verify;
mod webhooks;
mod world;
