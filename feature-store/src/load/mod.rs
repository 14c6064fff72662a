//! Files on the server's own disk, taken in by the server itself, one after the other.
//!
//! A load is written down before anything is read, and goes on after a restart. A file that is done is remembered by the
//! digest of its bytes: another load that meets it, under whatever name, passes it over. A file that was interrupted is read
//! again from its beginning, and the rows that were taken are duplicates.

mod place;
mod run;
mod store;

use std::path::PathBuf;

use domain::{Digest, SourceName, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{FeatureStore, error::FeatureError, report::IngestReport};

pub(crate) use store::{Loads, MIGRATIONS};

/// What may be loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadSettings {
    /// Folders from which files may be taken; none: loading is off.
    pub folders: Vec<PathBuf>,
    /// Larger Parquet files, of which the whole is held in memory, are refused.
    pub parquet_bytes_max: u64,
}

impl Default for LoadSettings {
    fn default() -> Self {
        Self { folders: Vec::new(), parquet_bytes_max: 1 << 30 }
    }
}

/// What a load, or a file of one, is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LoadPhase {
    /// It waits for its turn, or is under way.
    Running,
    /// Everything that could be taken was taken.
    Done,
    /// Nothing can be done; `reason` says why.
    Failed,
}

impl LoadPhase {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        [Self::Running, Self::Done, Self::Failed].into_iter().find(|phase| phase.as_str() == text)
    }
}

/// A load.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadState {
    pub number: u64,
    pub source: SourceName,
    pub path: String,
    pub phase: LoadPhase,
    /// Why it failed, or what it waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Files that were found; 0 before it began.
    pub files: u64,
    /// Of these, those that are done, passed over because an earlier load had done them, and failed.
    pub done: u64,
    pub known: u64,
    pub failed: u64,
    /// What became of the rows of the files that are done.
    pub rows: IngestReport,
    /// The file under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<LoadProgress>,
    pub asked_by: String,
    pub asked_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
}

/// How far a file is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadProgress {
    pub path: String,
    pub bytes: u64,
    pub bytes_read: u64,
    pub rows: u64,
}

/// What became of one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadedFile {
    pub path: String,
    pub digest: Digest,
    pub phase: LoadPhase,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The load that took it.
    pub load: u64,
    pub at: Timestamp,
    pub rows: IngestReport,
}

impl FeatureStore {
    /// Begins to load files of this server's disk into a source: one file, all of a folder, or those that a pattern with
    /// `*` and `?` in its last part names. It goes on by itself, in the order in which loads were asked for.
    ///
    /// # Errors
    /// `Unknown` source; `Load` when loading is off, or nothing that may be loaded is named; what storage says.
    pub async fn load(&self, source: &SourceName, path: &str, actor: &str) -> Result<LoadState, FeatureError> {
        self.0.catalog().source(source)?;
        self.0.source_table(source)?;
        // Only to tell whoever asks at once; what is there counts when it is read.
        place::find(&self.0.loading.folders, path).await?;
        let number = self.0.ask_load(source, path, actor).await?;
        self.0.loads.look_again();
        self.load_state(number).await
    }

    /// The newest loads, newest first.
    ///
    /// # Errors
    /// What storage says.
    pub async fn loads(&self, limit: usize) -> Result<Vec<LoadState>, FeatureError> {
        let mut loads = self.0.read_loads(None, limit).await?;
        for load in &mut loads {
            load.current = self.0.loads.current(load.number);
        }
        Ok(loads)
    }

    /// One load.
    ///
    /// # Errors
    /// `Unknown` load; what storage says.
    pub async fn load_state(&self, number: u64) -> Result<LoadState, FeatureError> {
        let mut load = self.0.load_of(number).await?;
        load.current = self.0.loads.current(number);
        Ok(load)
    }

    /// The files that were loaded into a source, newest first.
    ///
    /// # Errors
    /// `Unknown` source; what storage says.
    pub async fn loaded_files(&self, source: &SourceName, limit: usize) -> Result<Vec<LoadedFile>, FeatureError> {
        self.0.catalog().source(source)?;
        self.0.read_files(source, limit).await
    }
}
