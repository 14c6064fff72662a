//! ONNX files: the protobuf we read and write, a typed builder of graphs, and the check of files we did not write.

mod check;
mod graph;
pub mod proto;

pub(crate) use check::check;
pub use graph::{Element, Flag, GraphBuilder, IR_VERSION, ML_OPSET, OPSET, Wire};
