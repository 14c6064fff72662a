//! Upkeep of the sources' Delta tables: sealing, compaction, vacuum; by hand and by itself.

use std::time::Duration;

use domain::{EventKind, NewEvent, SourceName, Span};
use lake::Bound;
use runtime::House;
use serde::Serialize;

use crate::{
    FeatureStore, Inner,
    error::{Doing as _, FeatureError},
};

/// The longest time for which files of earlier versions can be kept.
const KEEP_MAX: Span = Span::from_micros(60 * Span::DAY.micros());
/// Bytes that one run by itself rewrites in a source's table, so that it does not take the disk for hours.
const RUN_BYTES: u64 = 1 << 30;
/// A vacuum lists all files of a table, so it comes by itself no more often than this.
const VACUUM_EVERY: Duration = Duration::from_secs(86_400);
/// Who is named in the journal where nobody asked for it.
const BY_ITSELF: &str = "upkeep";

/// A source's table as readers of Delta Lake find it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TableInfo {
    /// A path of the server's machine, or `s3://bucket/...`.
    pub location: String,
    /// The newest version.
    pub version: u64,
    /// Rows accepted so far.
    pub rows: u64,
    /// Of these, the ones that are still in the log only.
    pub unsealed_rows: u64,
    /// Rows in the table's files; those that a compaction dropped are not.
    pub file_rows: u64,
    pub files: u64,
    pub bytes: u64,
}

/// What a compaction did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Compaction {
    /// Rows that went from the log into the table first.
    pub rows_sealed: u64,
    /// Files that went, and those that came for them.
    pub files_before: u64,
    pub files_after: u64,
    pub bytes_before: u64,
    pub bytes_after: u64,
    /// Rows that others had replaced.
    pub rows_dropped: u64,
    /// Whether something was left for the next run.
    pub more: bool,
}

/// What a vacuum removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Vacuum {
    pub files: u64,
    pub bytes: u64,
}

impl FeatureStore {
    /// Where the source's table lies and what is in it.
    ///
    /// # Errors
    /// `Unknown` source; what storage says.
    pub async fn table(&self, source: &SourceName) -> Result<TableInfo, FeatureError> {
        self.0.catalog().source(source)?;
        let table = self.0.source_table(source)?;
        let rows = table.rows();
        let snapshot = table.lake.snapshot();
        let files = match &snapshot {
            Some(snapshot) => snapshot.files().await.doing("list a table's files")?,
            None => Vec::new(),
        };
        Ok(TableInfo {
            location: table.lake.location(),
            version: snapshot.as_ref().map_or(0, lake::Snapshot::version),
            rows,
            unsealed_rows: rows.saturating_sub(snapshot.as_ref().map_or(0, lake::Snapshot::rows)),
            file_rows: files.iter().map(|file| file.rows).sum(),
            files: files.len() as u64,
            bytes: files.iter().map(|file| file.bytes).sum(),
        })
    }

    /// Seals the source's newest rows, joins the small files of each day and drops rows that others replaced, so that
    /// readers of the files see every standing row once. Rows may come in meanwhile.
    ///
    /// # Errors
    /// `Unknown` source; what storage says. The table stays readable as it was.
    pub async fn compact(&self, source: &SourceName, actor: &str) -> Result<Compaction, FeatureError> {
        self.0.compact(source, Bound::NONE, actor).await
    }

    /// Removes files that went from the source's table longer than `keep` ago. Training sets of that time cannot be
    /// read again afterwards.
    ///
    /// # Errors
    /// `Unknown` source; `Keep` beyond 60 days; what storage says.
    pub async fn vacuum(&self, source: &SourceName, keep: Span, actor: &str) -> Result<Vacuum, FeatureError> {
        self.0.vacuum(source, keep, actor).await
    }

    /// Seals and compacts all tables `every` so often, and vacuums them once a day, until the house shuts down.
    pub fn keep_up(&self, house: &House, every: Duration, keep: Span) {
        let store = self.clone();
        house.spawn("upkeep of tables", move |stop| async move {
            let mut vacuum_in = Duration::ZERO;
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(every) => {}
                }
                vacuum_in = vacuum_in.saturating_sub(every);
                let due = vacuum_in.is_zero();
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = store.0.run(due.then_some(keep)) => {}
                }
                if due {
                    vacuum_in = VACUUM_EVERY;
                }
            }
        });
    }
}

impl Inner {
    /// One run over all tables that are here. What fails is logged, and done another time.
    async fn run(&self, vacuum: Option<Span>) {
        for plan in self.catalog().sources() {
            let source = &plan.definition.name;
            if self.source_table(source).is_err() {
                continue;
            }
            if let Err(error) = self.compact(source, Bound { bytes: RUN_BYTES }, BY_ITSELF).await {
                tracing::warn!(%source, %error, "a table is compacted another time");
            }
            if let Err(error) = self.trim_quarantine(source, self.clock.now()).await {
                tracing::warn!(%source, %error, "rows set aside are trimmed another time");
            }
            if let Some(keep) = vacuum
                && let Err(error) = self.vacuum(source, keep, BY_ITSELF).await
            {
                tracing::warn!(%source, %error, "a table is vacuumed another time");
            }
        }
    }

    async fn compact(&self, source: &SourceName, bound: Bound, actor: &str) -> Result<Compaction, FeatureError> {
        self.catalog().source(source)?;
        let table = self.source_table(source)?;
        let through = {
            // Whoever brings a row online may need the row that it replaces.
            let _writing = table.writing.lock().await;
            self.catch_up(&self.catalog().source(source)?, &table).await?;
            table.rows()
        };
        let sealed = table.lake.rows();
        table.seal().await?;
        let done = table.lake.compact(bound, through).await.doing("compact a source's table")?;
        let done = Compaction {
            rows_sealed: table.lake.rows().saturating_sub(sealed),
            files_before: done.files_before,
            files_after: done.files_after,
            bytes_before: done.bytes_before,
            bytes_after: done.bytes_after,
            rows_dropped: done.rows_dropped,
            more: done.more,
        };
        if done.files_before > 0 {
            self.tell(source, EventKind::SourceCompacted, actor, serde_json::json!(done)).await?;
        }
        Ok(done)
    }

    async fn vacuum(&self, source: &SourceName, keep: Span, actor: &str) -> Result<Vacuum, FeatureError> {
        self.catalog().source(source)?;
        if keep > KEEP_MAX || keep < Span::ZERO {
            return Err(FeatureError::Keep { keep, keep_max: KEEP_MAX });
        }
        let table = self.source_table(source)?;
        let gone = table.lake.vacuum(keep.to_std(), self.clock.now()).await.doing("vacuum a source's table")?;
        let gone = Vacuum { files: gone.files, bytes: gone.bytes };
        if gone.files > 0 {
            self.tell(source, EventKind::SourceVacuumed, actor, serde_json::json!(gone)).await?;
        }
        Ok(gone)
    }

    async fn tell(
        &self,
        source: &SourceName,
        kind: EventKind,
        actor: &str,
        body: serde_json::Value,
    ) -> Result<(), FeatureError> {
        let mut tx = self.meta.begin().await.doing("note the upkeep of a table")?;
        let (subject, actor) = (format!("source/{source}"), actor.to_owned());
        let event = NewEvent { at: self.clock.now(), kind, subject, actor, cause: None, body };
        tx.append(event).await.doing("note the upkeep of a table")?;
        tx.commit().await.doing("note the upkeep of a table")
    }
}
