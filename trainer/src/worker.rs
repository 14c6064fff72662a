use std::{fs, io::Write as _, path::Path};

use bytes::Bytes;
use domain::Frame;

use crate::{
    Progress, TrainerError, fit,
    record::{self, HOLDOUT, JOB, Order, TRAIN},
};

/// What the child process runs: reads the job in `dir`, fits it and leaves the completion record there. Progress goes
/// to standard output, one JSON object per line. The caller must have silenced ONNX Runtime's telemetry.
///
/// # Errors
/// When there is no readable job in `dir`, and when the job fails; then the record says why, too.
pub fn worker(dir: &Path) -> Result<(), TrainerError> {
    let order: Order = record::read_json(&dir.join(JOB), "order")?;
    let result = run(dir, &order);
    match result {
        Ok(()) => Ok(()),
        Err(error) => {
            record::fail(dir, order.job.id, &error)?;
            Err(error)
        }
    }
}

fn run(dir: &Path, order: &Order) -> Result<(), TrainerError> {
    backends::init(order.onnx_library.as_deref())?;
    let (train, holdout) = (table(&dir.join(TRAIN))?, table(&dir.join(HOLDOUT))?);
    let trained = fit(&order.job, &train, &holdout, tell)?;
    record::finish(dir, order.job.id, &trained)
}

fn table(path: &Path) -> Result<Frame, TrainerError> {
    let bytes = fs::read(path).map_err(TrainerError::io("read the dataset"))?;
    storage::from_parquet(Bytes::from(bytes))
        .map_err(|source| TrainerError::Storage { doing: "read the dataset", source })
}

/// A parent that is gone is no reason to fail: the record counts, not the talk.
fn tell(progress: Progress) {
    let mut out = std::io::stdout().lock();
    let told =
        serde_json::to_writer(&mut out, &progress).is_ok() && out.write_all(b"\n").is_ok() && out.flush().is_ok();
    if !told {
        tracing::debug!("nobody reads the progress");
    }
}
