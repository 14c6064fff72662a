//! What a fresh machine lacks: ONNX Runtime's shared library and, for tests and benches, Postgres, Redis, an S3 server and the
//! Python clients of MLflow, of Feast, of open tables, of SQL and of Spark.

use std::process::Command;

use crate::{ensure, root};

/// All of it. Idempotent: does nothing when everything is there.
pub fn run() -> anyhow::Result<()> {
    runtime()?;
    ensure(Command::new("bash").arg(root().join("scripts/postgres.sh")))?;
    ensure(Command::new("bash").arg(root().join("scripts/redis.sh")))?;
    // Builds on its own: not with the flags and folders of the cargo that runs this.
    ensure(Command::new("sh").arg(root().join("scripts/fetch-s3s.sh")).env_remove("CARGO_TARGET_DIR"))?;
    python("mlflow")?;
    python("feast")?;
    python("lake")?;
    python("sql")?;
    python("spark")
}

/// What only `make test-extra` needs. Idempotent, too.
pub fn extra() -> anyhow::Result<()> {
    python("apache_spark")
}

/// What only benches need: the peers they measure beside. Idempotent, too.
pub fn bench() -> anyhow::Result<()> {
    python("join")
}

/// A virtual environment with the packages that `tests/NAME/requirements.txt` names.
fn python(name: &str) -> anyhow::Result<()> {
    ensure(Command::new("python3").arg(root().join("scripts/fetch-python.py")).arg(name))
}

/// What the program itself needs. Idempotent, too.
pub fn runtime() -> anyhow::Result<()> {
    ensure(Command::new("bash").arg(root().join("scripts/fetch-onnxruntime.sh")))
}
