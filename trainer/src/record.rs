//! The job's folder: what the parent puts in, and the completion record the child leaves last.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
};

use domain::{Coded, Digest, ErrorCode, JobId, ModelFiles, Signature};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{EpochMetrics, TrainJob, Trained, TrainerError};

pub(crate) const JOB: &str = "job.json";
pub(crate) const TRAIN: &str = "train.parquet";
pub(crate) const HOLDOUT: &str = "holdout.parquet";
const RESULT: &str = "result.json";
/// Folder of the model's files.
const FILES: &str = "files";
/// Holdout scores: little-endian `f32`, in the holdout's order.
const SCORES: &str = "holdout_scores.f32";

/// What the child is asked to do.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) job: TrainJob,
    pub(crate) onnx_library: Option<PathBuf>,
}

/// The completion record. Its presence, with digests that fit, is what success means.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    job: JobId,
    #[serde(flatten)]
    outcome: Outcome,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
enum Outcome {
    Finished(Box<Finished>),
    Failed { code: ErrorCode, message: String, hint: String },
}

#[derive(Debug, Serialize, Deserialize)]
struct Finished {
    files: BTreeMap<String, Digest>,
    scores: Digest,
    signature: Signature,
    metrics: BTreeMap<String, f64>,
    epochs: Vec<EpochMetrics>,
    params: BTreeMap<String, String>,
    environment: BTreeMap<String, String>,
    importance: BTreeMap<String, f64>,
}

/// Writes a finished job: its files, durably, then the record, by rename.
pub(crate) fn finish(dir: &Path, job: JobId, trained: &Trained) -> Result<(), TrainerError> {
    let files = dir.join(FILES);
    fs::create_dir_all(&files).map_err(TrainerError::io("make the folder of the model's files"))?;
    for (name, bytes) in &trained.files {
        write(&files.join(name), bytes)?;
    }
    let scores: Vec<u8> = trained.holdout_scores.iter().flat_map(|score| score.to_le_bytes()).collect();
    write(&dir.join(SCORES), &scores)?;
    let finished = Finished {
        files: trained.files.iter().map(|(name, bytes)| (name.clone(), Digest::of(bytes))).collect(),
        scores: Digest::of(&scores),
        signature: trained.signature.clone(),
        metrics: trained.metrics.clone(),
        epochs: trained.epochs.clone(),
        params: trained.params.clone(),
        environment: trained.environment.clone(),
        importance: trained.importance.clone(),
    };
    leave(dir, Record { job, outcome: Outcome::Finished(Box::new(finished)) })
}

/// Writes why a job made nothing.
pub(crate) fn fail(dir: &Path, job: JobId, error: &TrainerError) -> Result<(), TrainerError> {
    let outcome = Outcome::Failed { code: error.code(), message: error.to_string(), hint: error.hint() };
    leave(dir, Record { job, outcome })
}

fn leave(dir: &Path, record: Record) -> Result<(), TrainerError> {
    let bytes = serde_json::to_vec_pretty(&record).map_err(|error| unreadable("result", error))?;
    let draft = dir.join("result.json.tmp");
    write(&draft, &bytes)?;
    fs::rename(&draft, dir.join(RESULT)).map_err(TrainerError::io("publish the result"))?;
    sync(dir)
}

/// Reads the record of `job`; `None` where the child left none.
pub(crate) fn collect(dir: &Path, job: JobId) -> Result<Option<Trained>, TrainerError> {
    if !dir.join(RESULT).exists() {
        return Ok(None);
    }
    let record: Record = read_json(&dir.join(RESULT), "result")?;
    if record.job != job {
        return Err(unreadable("result", format!("it belongs to job {}", record.job)));
    }
    let finished = match record.outcome {
        Outcome::Finished(finished) => finished,
        Outcome::Failed { code, message, hint } => return Err(TrainerError::Failed { code, message, hint }),
    };
    let mut files = ModelFiles::new();
    for (name, digest) in &finished.files {
        // The child is ours, but its folder could be anybody's: a name is a name, never a path.
        if name.contains('/') || name.starts_with('.') {
            return Err(unreadable("result", format!("`{name}` is no file name")));
        }
        files.insert(name.clone(), checked(&dir.join(FILES).join(name), digest)?.into());
    }
    let scores = checked(&dir.join(SCORES), &finished.scores)?;
    let holdout_scores =
        scores.chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().expect("chunks of four"))).collect();
    Ok(Some(Trained {
        files,
        signature: finished.signature,
        metrics: finished.metrics,
        epochs: finished.epochs,
        params: finished.params,
        environment: finished.environment,
        holdout_scores,
        importance: finished.importance,
    }))
}

fn checked(path: &Path, digest: &Digest) -> Result<Vec<u8>, TrainerError> {
    let bytes = fs::read(path).map_err(TrainerError::io("read a file of the result"))?;
    if Digest::of(&bytes) == *digest {
        return Ok(bytes);
    }
    Err(unreadable("result", format!("`{}` does not match its digest", path.display())))
}

pub(crate) fn read_json<T: DeserializeOwned>(path: &Path, what: &'static str) -> Result<T, TrainerError> {
    let bytes = fs::read(path).map_err(TrainerError::io("read the job's folder"))?;
    serde_json::from_slice(&bytes).map_err(|error| unreadable(what, error))
}

/// Writes a file and waits until it is on disk.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), TrainerError> {
    let doing = "write into the job's folder";
    let mut file = File::create(path).map_err(TrainerError::io(doing))?;
    file.write_all(bytes).map_err(TrainerError::io(doing))?;
    file.sync_all().map_err(TrainerError::io(doing))
}

fn sync(dir: &Path) -> Result<(), TrainerError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(TrainerError::io("make the result durable"))
}

fn unreadable(what: &'static str, reason: impl ToString) -> TrainerError {
    TrainerError::Record { what, reason: reason.to_string() }
}
