//! The reader of one stream.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use domain::{SourceName, definition::StreamInput};
use runtime::CancellationToken;
use storage::{Entry, RedisStream, StreamError, StreamPlace};

use super::{Progress, StreamPhase, StreamSettings, row};
use crate::{FeatureStore, error::FeatureError, parse, report::IngestReport};

/// How often the server is asked how far behind the group is.
const LAG_EVERY: Duration = Duration::from_secs(5);

/// Why reading stopped.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("the configuration names no Redis `{0}`: set ingestion.redis")]
    NoConnection(String),
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// The rows could not be stored; their entries stay pending.
    #[error(transparent)]
    Store(#[from] FeatureError),
}

pub(super) struct Reader {
    store: FeatureStore,
    source: SourceName,
    input: StreamInput,
    settings: Arc<StreamSettings>,
    stop: CancellationToken,
}

impl Reader {
    pub(super) const fn new(
        store: FeatureStore,
        source: SourceName,
        input: StreamInput,
        settings: Arc<StreamSettings>,
        stop: CancellationToken,
    ) -> Self {
        Self { store, source, input, settings, stop }
    }

    fn tell<T>(&self, act: impl FnOnce(&mut Progress) -> T) -> T {
        self.store.0.streams.progress(&self.source, act)
    }

    /// Reads until it is told to stop. Whatever fails is tried again, later each time, until something was read.
    pub(super) async fn run(&self) {
        self.tell(|progress| *progress = Progress { phase: Some(StreamPhase::Starting), ..Progress::default() });
        let (first, longest) = self.settings.retry;
        let mut wait = first;
        while !self.stop.is_cancelled() {
            let before = self.tell(|progress| progress.acknowledged);
            let Err(broken) = self.session().await else { return };
            if self.tell(|progress| progress.acknowledged) > before {
                wait = first;
            }
            tracing::warn!(source = %self.source, error = %broken, "a stream cannot be read; it is tried again");
            self.tell(|progress| {
                progress.phase = Some(StreamPhase::Failing);
                progress.error = Some(broken.to_string());
            });
            tokio::select! {
                () = self.stop.cancelled() => {}
                () = tokio::time::sleep(wait) => {}
            }
            wait = (wait * 2).min(longest);
        }
    }

    /// One connection: first what we had before, then what is new, and now and then what others left behind.
    async fn session(&self) -> Result<(), Broken> {
        let name = &self.input.redis;
        let url = self.settings.connections.get(name).ok_or_else(|| Broken::NoConnection(name.clone()))?;
        let place = StreamPlace {
            url: url.clone(),
            key: self.input.key.clone(),
            group: self.input.group.clone(),
            consumer: self.consumer().await?,
        };
        let mut stream = RedisStream::open(place, self.settings.block).await?;
        self.look(&mut stream).await?;
        self.own(&mut stream).await?;
        self.tell(|progress| {
            progress.phase = Some(StreamPhase::Reading);
            progress.error = None;
        });
        let (mut claimed, mut looked) = (None::<Instant>, Instant::now());
        while !self.stop.is_cancelled() {
            if claimed.is_none_or(|at| at.elapsed() >= self.settings.claim_after) {
                self.claim(&mut stream).await?;
                claimed = Some(Instant::now());
            }
            let entries = stream.read(self.settings.batch).await?;
            let idle = entries.is_empty();
            self.take(&mut stream, entries).await?;
            if idle || looked.elapsed() >= LAG_EVERY {
                self.look(&mut stream).await?;
                looked = Instant::now();
            }
        }
        Ok(())
    }

    /// Our name in the group: that of the database, so that a restart finds its own.
    async fn consumer(&self) -> Result<String, Broken> {
        let doing = "name a consumer of a stream";
        let identity = self.store.0.meta.identity().await;
        Ok(identity.map_err(|source| FeatureError::Storage { doing, source })?)
    }

    async fn own(&self, stream: &mut RedisStream) -> Result<(), Broken> {
        let mut behind = "0".to_owned();
        while !self.stop.is_cancelled() {
            let entries = stream.own(&behind, self.settings.batch).await?;
            let Some(last) = entries.last() else { return Ok(()) };
            behind.clone_from(&last.id);
            self.take(stream, entries).await?;
        }
        Ok(())
    }

    async fn claim(&self, stream: &mut RedisStream) -> Result<(), Broken> {
        let mut from = "0-0".to_owned();
        while !self.stop.is_cancelled() {
            let (next, entries) = stream.claim(&from, self.settings.claim_after, self.settings.batch).await?;
            let count = entries.len() as u64;
            self.take(stream, entries).await?;
            self.tell(|progress| progress.claimed += count);
            if next == "0-0" {
                return Ok(());
            }
            from = next;
        }
        Ok(())
    }

    /// Brings a batch into the store and then acknowledges it.
    async fn take(&self, stream: &mut RedisStream, entries: Vec<Entry>) -> Result<(), Broken> {
        if entries.is_empty() {
            return Ok(());
        }
        let report = self.ingest(&entries).await?;
        (self.settings.told)(&self.source, &report);
        let ids: Vec<&str> = entries.iter().map(|entry| entry.id.as_str()).collect();
        stream.acknowledge(&ids).await?;
        let at = self.store.0.clock.now();
        self.tell(|progress| {
            progress.acknowledged += ids.len() as u64;
            progress.last_read = Some(at);
        });
        Ok(())
    }

    async fn ingest(&self, entries: &[Entry]) -> Result<IngestReport, FeatureError> {
        let StreamInput { redis, key, .. } = &self.input;
        let (mut rows, mut origins) = (Vec::with_capacity(entries.len()), Vec::with_capacity(entries.len()));
        for entry in entries {
            if let Some(raw) = row::read(&self.input, entry) {
                rows.push(raw);
                origins.push(format!("{redis}/{key}/{}", entry.id));
            }
        }
        let parse = move |plan: &crate::view::SourcePlan| Ok(parse::Parsed { origins, ..parse::raws(plan, rows)? });
        self.store.0.take_in(&self.source, parse).await
    }

    async fn look(&self, stream: &mut RedisStream) -> Result<(), Broken> {
        let lag = stream.lag().await?;
        self.tell(|progress| {
            progress.lag = lag.waiting;
            progress.pending = lag.pending;
        });
        Ok(())
    }
}
