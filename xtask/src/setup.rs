//! What a fresh machine lacks: ONNX Runtime's shared library.

use std::process::Command;

use crate::{ensure, root};

/// Idempotent: does nothing when everything is there.
pub fn run() -> anyhow::Result<()> {
    ensure(Command::new("bash").arg(root().join("scripts/postgres.sh")))?;
    ensure(Command::new("bash").arg(root().join("scripts/fetch-onnxruntime.sh")))
}
