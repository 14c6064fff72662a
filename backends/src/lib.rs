//! Models that run: ONNX Runtime behind one small trait, and the writing of ONNX graphs.
//!
//! A model version is a set of files; [`load`] turns them into a [`Backend`] that maps rows to probabilities.
//! Queues, routing and batching are not known here.

mod backend;
mod error;
mod input;
mod library;
pub mod onnx;
mod session;

pub use backend::{Backend, MODEL_FILE, OUTPUT, load};
pub use error::BackendError;
pub use library::{OnnxInfo, init, silence_telemetry};
