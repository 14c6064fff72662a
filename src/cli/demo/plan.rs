//! `replay.yaml`: which files hold an example's history and how they are played back.

use std::path::Path;

use anyhow::Context as _;
use domain::{Span, Timestamp};
use serde::Deserialize;

/// The plan of a replay.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    pub endpoint: String,
    pub pipeline: String,
    /// What lies before is history: it is ingested at once and the first model is trained on it.
    pub start: Timestamp,
    /// Exclusive.
    pub end: Timestamp,
    /// Event time played in one go: rows, questions and labels of `(t, t + step]`.
    pub step: Span,
    /// Event time after which the replay waits for the platform to catch up.
    pub settle: Span,
    /// Most instances in one request.
    pub batch: usize,
    /// Length of a row of the closing table: `month`, `week` or `day`.
    pub bucket: String,
    /// Files whose rows flow into sources.
    pub streams: Vec<Stream>,
    pub questions: Questions,
    pub labels: Labels,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stream {
    pub source: String,
    pub file: String,
}

/// Rows that are asked about: every column named becomes a member of the instance.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Questions {
    pub source: String,
    pub file: String,
    pub columns: Vec<String>,
}

/// Rows that say what happened.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Labels {
    /// Source whose schema the file has; labels are posted, never ingested, after `start`.
    pub source: String,
    pub file: String,
    pub key: Vec<String>,
    pub value: String,
}

/// Name of the plan's file. It is no definition, so `apply` must not find it among the `*.yaml` of the folder.
const FILE: &str = "replay/plan.yaml";

impl Plan {
    pub fn read(folder: &Path) -> anyhow::Result<Self> {
        let path = folder.join(FILE);
        let text = std::fs::read_to_string(&path).with_context(|| {
            format!(
                "`{}` holds no example: could not read {FILE}; run this from the repository's root",
                folder.display()
            )
        })?;
        let plan: Self = serde_yaml_ng::from_str(&text).with_context(|| format!("`{}`", path.display()))?;
        anyhow::ensure!(
            plan.step > Span::ZERO && plan.batch > 0,
            "`{}`: step and batch must be above zero",
            path.display()
        );
        Ok(plan)
    }
}
