//! The conductor with real rooms over temporary directories; only the trainer and the models are stand-ins.

mod approving;
mod deploying;
mod loop_closes;
mod triggers;
mod world;
