//! Rows that a source reads from a Redis stream by itself.
//!
//! One reader per stream takes a batch, brings its rows into both stores and only then acknowledges the entries; it reads
//! no further before. A crash anywhere in between makes entries come again, and their rows are duplicates by the source's
//! `row_id`. What does not fit is in the quarantine, under the entry's id, before its entry is acknowledged, and stops
//! nothing.

mod pause;
mod read;
mod row;
mod supervise;

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use domain::{SourceName, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::{
    FeatureStore,
    error::{FeatureError, unknown},
    report::IngestReport,
};

pub(crate) use pause::MIGRATIONS;

/// Told of what became of the rows of each batch.
pub type Told = Arc<dyn Fn(&SourceName, &IngestReport) + Send + Sync>;

/// How streams are read.
#[derive(Clone)]
pub struct StreamSettings {
    /// Addresses of Redis servers by the names that definitions use. They may hold passwords.
    pub connections: BTreeMap<String, String>,
    /// Entries that are read, stored and acknowledged together.
    pub batch: usize,
    /// How long to wait for an entry before looking around.
    pub block: Duration,
    /// Entries that another consumer has had for longer are taken over.
    pub claim_after: Duration,
    /// Waits after something failed: from the first, doubled each time, to the second.
    pub retry: (Duration, Duration),
    pub told: Told,
}

impl StreamSettings {
    /// The usual waits and sizes.
    pub fn new(connections: BTreeMap<String, String>, told: Told) -> Self {
        Self {
            connections,
            batch: 1_000,
            block: Duration::from_secs(1),
            claim_after: Duration::from_secs(60),
            retry: (Duration::from_millis(200), Duration::from_secs(30)),
            told,
        }
    }
}

/// Without the addresses.
impl fmt::Debug for StreamSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&String> = self.connections.keys().collect();
        f.debug_struct("StreamSettings").field("connections", &names).finish_non_exhaustive()
    }
}

/// What a reader is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StreamPhase {
    /// It is about to connect.
    Starting,
    Reading,
    /// Somebody stopped it until it is resumed.
    Paused,
    /// Something failed, and is tried again; `error` says what.
    Failing,
    /// Nobody reads here: this server reads no streams, or another one keeps the source's rows.
    Off,
}

impl StreamPhase {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Reading => "reading",
            Self::Paused => "paused",
            Self::Failing => "failing",
            Self::Off => "off",
        }
    }
}

/// How the stream of a source stands. Counts are those of this process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamState {
    pub source: SourceName,
    /// Name of the connection, and the stream's key and group.
    pub redis: String,
    pub key: String,
    pub group: String,
    pub phase: StreamPhase,
    /// What failed last, while it fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Entries that nobody of the group has had; absent: the server cannot tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag: Option<u64>,
    /// Entries handed out and not acknowledged.
    pub pending: u64,
    /// Entries stored, or set aside, and acknowledged.
    pub acknowledged: u64,
    /// Of these, entries of other consumers that were taken over.
    pub claimed: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_read: Option<Timestamp>,
}

/// What readers say of themselves.
#[derive(Debug, Clone, Default)]
struct Progress {
    phase: Option<StreamPhase>,
    error: Option<String>,
    lag: Option<u64>,
    pending: u64,
    acknowledged: u64,
    claimed: u64,
    last_read: Option<Timestamp>,
}

/// The readers of a store.
pub(crate) struct Streams {
    progress: Mutex<BTreeMap<SourceName, Progress>>,
    /// Changes when definitions do, or what is paused.
    changed: watch::Sender<u64>,
}

impl Default for Streams {
    fn default() -> Self {
        Self { progress: Mutex::default(), changed: watch::Sender::new(0) }
    }
}

impl Streams {
    /// Makes the supervisor look which streams there are.
    pub(crate) fn look_again(&self) {
        self.changed.send_modify(|count| *count += 1);
    }

    fn progress<T>(&self, source: &SourceName, act: impl FnOnce(&mut Progress) -> T) -> T {
        let mut all = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        act(all.entry(source.clone()).or_default())
    }

    fn forget(&self, source: &SourceName) {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner).remove(source);
    }
}

impl FeatureStore {
    /// How the streams of all sources that have one stand, by source.
    #[must_use]
    pub fn streams(&self) -> Vec<StreamState> {
        let catalog = self.0.catalog();
        catalog.sources().filter_map(|plan| self.state_of(&plan.definition)).collect()
    }

    /// How the stream of one source stands.
    ///
    /// # Errors
    /// `Unknown` source, or one without a stream.
    pub fn stream(&self, source: &SourceName) -> Result<StreamState, FeatureError> {
        let plan = self.0.catalog().source(source)?;
        self.state_of(&plan.definition).ok_or_else(|| unknown("stream of source", source.as_str(), []))
    }

    fn state_of(&self, source: &domain::definition::Source) -> Option<StreamState> {
        let input = source.stream.as_ref()?;
        let progress = self.0.streams.progress(&source.name, |progress| progress.clone());
        Some(StreamState {
            source: source.name.clone(),
            redis: input.redis.clone(),
            key: input.key.clone(),
            group: input.group.clone(),
            phase: progress.phase.unwrap_or(StreamPhase::Off),
            error: progress.error,
            lag: progress.lag,
            pending: progress.pending,
            acknowledged: progress.acknowledged,
            claimed: progress.claimed,
            last_read: progress.last_read,
        })
    }
}
