//! Streams that somebody stopped until further notice; it survives a restart.

use domain::{EventKind, NewEvent, SourceName};
use serde_json::json;
use storage::{Migration, sqlx};

use super::StreamState;
use crate::{
    FeatureStore, Inner,
    error::{Doing as _, FeatureError},
};

const DOING: &str = "pause or resume a stream";

pub(crate) const MIGRATIONS: &[Migration] = &[Migration {
    name: "streams that are paused",
    sql: "CREATE TABLE feature_streams_paused (source TEXT NOT NULL PRIMARY KEY)",
}];

impl FeatureStore {
    /// Stops reading the source's stream once the batch at hand is stored and acknowledged. Entries wait in the stream.
    ///
    /// # Errors
    /// `Unknown` source, or one without a stream; what storage says.
    pub async fn pause_stream(&self, source: &SourceName, actor: &str) -> Result<StreamState, FeatureError> {
        self.stream(source)?;
        self.0.set_paused(source, true, actor).await?;
        self.stream(source)
    }

    /// Goes on reading where it was left.
    ///
    /// # Errors
    /// As `pause_stream`.
    pub async fn resume_stream(&self, source: &SourceName, actor: &str) -> Result<StreamState, FeatureError> {
        self.stream(source)?;
        self.0.set_paused(source, false, actor).await?;
        self.stream(source)
    }
}

impl Inner {
    async fn set_paused(&self, source: &SourceName, paused: bool, actor: &str) -> Result<(), FeatureError> {
        let mut tx = self.meta.begin().await.doing(DOING)?;
        let statement = if paused {
            "INSERT INTO feature_streams_paused (source) VALUES ($1) ON CONFLICT (source) DO NOTHING"
        } else {
            "DELETE FROM feature_streams_paused WHERE source = $1"
        };
        let done = sqlx::query(statement).bind(source.as_str()).execute(tx.conn()).await.doing(DOING)?;
        if done.rows_affected() > 0 {
            let kind = if paused { EventKind::StreamPaused } else { EventKind::StreamResumed };
            let (at, subject) = (self.clock.now(), format!("source/{source}"));
            let event = NewEvent { at, kind, subject, actor: actor.to_owned(), cause: None, body: json!({}) };
            tx.append(event).await.doing(DOING)?;
        }
        tx.commit().await.doing(DOING)?;
        self.streams.look_again();
        Ok(())
    }

    /// The sources whose streams are paused.
    pub(super) async fn paused(&self) -> Result<Vec<String>, FeatureError> {
        let names = sqlx::query_scalar("SELECT source FROM feature_streams_paused ORDER BY source");
        names.fetch_all(self.meta.reader()).await.doing("read which streams are paused")
    }
}
