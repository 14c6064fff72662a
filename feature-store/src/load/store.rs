//! Loads and loaded files, in the database.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use domain::{Digest, EventKind, NewEvent, SourceName, Timestamp};
use serde_json::json;
use storage::{Migration, sqlx};
use tokio::sync::watch;

use super::{LoadPhase, LoadProgress, LoadState, LoadedFile};
use crate::{
    Inner,
    error::{Doing as _, FeatureError, unknown},
    report::IngestReport,
};

const DOING: &str = "keep a load";

pub(crate) const MIGRATIONS: &[Migration] = &[Migration {
    name: "loads and their files",
    sql: "CREATE TABLE feature_loads (
              number BIGINT NOT NULL PRIMARY KEY,
              source TEXT NOT NULL,
              path TEXT NOT NULL,
              phase TEXT NOT NULL,
              reason TEXT,
              files BIGINT NOT NULL,
              known BIGINT NOT NULL,
              asked_by TEXT NOT NULL,
              asked_at BIGINT NOT NULL,
              ended_at BIGINT
          );
          CREATE TABLE feature_loaded_files (
              source TEXT NOT NULL,
              digest TEXT NOT NULL,
              path TEXT NOT NULL,
              phase TEXT NOT NULL,
              reason TEXT,
              load_number BIGINT NOT NULL,
              at BIGINT NOT NULL,
              report TEXT NOT NULL,
              PRIMARY KEY (source, digest)
          );
          CREATE INDEX feature_loaded_files_by_load ON feature_loaded_files (load_number);",
}];

/// The files under way.
pub(crate) struct Loads {
    current: Mutex<BTreeMap<u64, LoadProgress>>,
    /// Changes when a load was asked for.
    pub(super) changed: watch::Sender<u64>,
}

impl Default for Loads {
    fn default() -> Self {
        Self { current: Mutex::default(), changed: watch::Sender::new(0) }
    }
}

impl Loads {
    pub(super) fn look_again(&self) {
        self.changed.send_modify(|count| *count += 1);
    }

    pub(super) fn current(&self, number: u64) -> Option<LoadProgress> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).get(&number).cloned()
    }

    pub(super) fn at(&self, number: u64, progress: Option<LoadProgress>) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        match progress {
            Some(progress) => drop(current.insert(number, progress)),
            None => drop(current.remove(&number)),
        }
    }
}

#[derive(sqlx::FromRow)]
struct StoredLoad {
    number: i64,
    source: String,
    path: String,
    phase: String,
    reason: Option<String>,
    files: i64,
    known: i64,
    asked_by: String,
    asked_at: i64,
    ended_at: Option<i64>,
}

#[derive(sqlx::FromRow)]
struct StoredFile {
    digest: String,
    path: String,
    phase: String,
    reason: Option<String>,
    load_number: i64,
    at: i64,
    report: String,
}

fn corrupt(reason: String) -> FeatureError {
    FeatureError::Corrupt { what: "a load", reason }
}

impl StoredLoad {
    fn read(self) -> Result<LoadState, FeatureError> {
        Ok(LoadState {
            number: self.number.unsigned_abs(),
            source: self.source.parse().map_err(|e| corrupt(format!("{e}")))?,
            path: self.path,
            phase: LoadPhase::parse(&self.phase).ok_or_else(|| corrupt(format!("phase `{}`", self.phase)))?,
            reason: self.reason,
            files: self.files.unsigned_abs(),
            done: 0,
            known: self.known.unsigned_abs(),
            failed: 0,
            rows: IngestReport::default(),
            current: None,
            asked_by: self.asked_by,
            asked_at: Timestamp::from_micros(self.asked_at),
            ended_at: self.ended_at.map(Timestamp::from_micros),
        })
    }
}

impl StoredFile {
    fn read(self) -> Result<LoadedFile, FeatureError> {
        Ok(LoadedFile {
            digest: self.digest.parse().map_err(|e| corrupt(format!("{e}")))?,
            path: self.path,
            phase: LoadPhase::parse(&self.phase).ok_or_else(|| corrupt(format!("phase `{}`", self.phase)))?,
            reason: self.reason,
            load: self.load_number.unsigned_abs(),
            at: Timestamp::from_micros(self.at),
            rows: serde_json::from_str(&self.report).map_err(|e| corrupt(e.to_string()))?,
        })
    }
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

impl Inner {
    pub(super) async fn ask_load(&self, source: &SourceName, path: &str, actor: &str) -> Result<u64, FeatureError> {
        let at = self.clock.now();
        let mut tx = self.meta.begin().await.doing(DOING)?;
        let newest: i64 = sqlx::query_scalar("SELECT COALESCE(MAX(number), 0) FROM feature_loads")
            .fetch_one(tx.conn())
            .await
            .doing(DOING)?;
        sqlx::query(
            "INSERT INTO feature_loads (number, source, path, phase, files, known, asked_by, asked_at)
             VALUES ($1, $2, $3, 'running', 0, 0, $4, $5)",
        )
        .bind(newest + 1)
        .bind(source.as_str())
        .bind(path)
        .bind(actor)
        .bind(at.micros())
        .execute(tx.conn())
        .await
        .doing(DOING)?;
        let (kind, subject, actor) = (EventKind::LoadAsked, format!("source/{source}"), actor.to_owned());
        let body = json!({ "load": newest + 1, "path": path });
        tx.append(NewEvent { at, kind, subject, actor, cause: None, body }).await.doing(DOING)?;
        tx.commit().await.doing(DOING)?;
        Ok((newest + 1).unsigned_abs())
    }

    /// Notes how many files there are, and how many of them an earlier load has done.
    pub(super) async fn count_files(&self, number: u64, files: u64, known: u64) -> Result<(), FeatureError> {
        let mut tx = self.meta.begin().await.doing(DOING)?;
        sqlx::query("UPDATE feature_loads SET files = $2, known = $3, reason = NULL WHERE number = $1")
            .bind(signed(number))
            .bind(signed(files))
            .bind(signed(known))
            .execute(tx.conn())
            .await
            .doing(DOING)?;
        tx.commit().await.doing(DOING)
    }

    /// Notes what keeps a load from going on.
    pub(super) async fn delay_load(&self, number: u64, reason: &str) -> Result<(), FeatureError> {
        let mut tx = self.meta.begin().await.doing(DOING)?;
        sqlx::query("UPDATE feature_loads SET reason = $2 WHERE number = $1")
            .bind(signed(number))
            .bind(reason)
            .execute(tx.conn())
            .await
            .doing(DOING)?;
        tx.commit().await.doing(DOING)
    }

    pub(super) async fn end_load(&self, load: &LoadState, failed: Option<&str>) -> Result<(), FeatureError> {
        let at = self.clock.now();
        let phase = if failed.is_some() { LoadPhase::Failed } else { LoadPhase::Done };
        let ended = self.load_of(load.number).await?;
        let mut tx = self.meta.begin().await.doing(DOING)?;
        sqlx::query("UPDATE feature_loads SET phase = $2, reason = $3, ended_at = $4 WHERE number = $1")
            .bind(signed(load.number))
            .bind(phase.as_str())
            .bind(failed)
            .bind(at.micros())
            .execute(tx.conn())
            .await
            .doing(DOING)?;
        let body = json!({
            "load": load.number, "phase": phase, "files": ended.files, "done": ended.done, "known": ended.known,
            "failed": ended.failed, "accepted": ended.rows.accepted, "quarantined": ended.rows.quarantined,
        });
        let (kind, subject) = (EventKind::LoadFinished, format!("source/{}", load.source));
        let event = NewEvent { at, kind, subject, actor: load.asked_by.clone(), cause: None, body };
        tx.append(event).await.doing(DOING)?;
        tx.commit().await.doing(DOING)
    }

    pub(super) async fn keep_file(&self, source: &SourceName, file: &LoadedFile) -> Result<(), FeatureError> {
        let report = serde_json::to_string(&file.rows).map_err(|e| corrupt(e.to_string()))?;
        let mut tx = self.meta.begin().await.doing(DOING)?;
        sqlx::query(
            "INSERT INTO feature_loaded_files (source, digest, path, phase, reason, load_number, at, report)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
             ON CONFLICT (source, digest) DO UPDATE SET
                 path = excluded.path, phase = excluded.phase, reason = excluded.reason,
                 load_number = excluded.load_number, at = excluded.at, report = excluded.report",
        )
        .bind(source.as_str())
        .bind(file.digest.to_string())
        .bind(&file.path)
        .bind(file.phase.as_str())
        .bind(file.reason.as_deref())
        .bind(signed(file.load))
        .bind(file.at.micros())
        .bind(report)
        .execute(tx.conn())
        .await
        .doing(DOING)?;
        tx.commit().await.doing(DOING)
    }

    /// The file of these bytes, if any load has met it.
    pub(super) async fn file_of(
        &self,
        source: &SourceName,
        digest: &Digest,
    ) -> Result<Option<LoadedFile>, FeatureError> {
        let row: Option<StoredFile> = sqlx::query_as(
            "SELECT digest, path, phase, reason, load_number, at, report FROM feature_loaded_files
             WHERE source = $1 AND digest = $2",
        )
        .bind(source.as_str())
        .bind(digest.to_string())
        .fetch_optional(self.meta.reader())
        .await
        .doing(DOING)?;
        row.map(StoredFile::read).transpose()
    }

    pub(super) async fn read_files(&self, source: &SourceName, limit: usize) -> Result<Vec<LoadedFile>, FeatureError> {
        let rows: Vec<StoredFile> = sqlx::query_as(
            "SELECT digest, path, phase, reason, load_number, at, report FROM feature_loaded_files
             WHERE source = $1 ORDER BY at DESC, path LIMIT $2",
        )
        .bind(source.as_str())
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .fetch_all(self.meta.reader())
        .await
        .doing(DOING)?;
        rows.into_iter().map(StoredFile::read).collect()
    }

    /// Loads with what became of their files, newest first: all, or those in a phase.
    pub(super) async fn read_loads(
        &self,
        phase: Option<LoadPhase>,
        limit: usize,
    ) -> Result<Vec<LoadState>, FeatureError> {
        let rows: Vec<StoredLoad> = sqlx::query_as(
            "SELECT number, source, path, phase, reason, files, known, asked_by, asked_at, ended_at FROM feature_loads
             WHERE $1 = '' OR phase = $1 ORDER BY number DESC LIMIT $2",
        )
        .bind(phase.map_or("", LoadPhase::as_str))
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .fetch_all(self.meta.reader())
        .await
        .doing(DOING)?;
        let mut loads = Vec::with_capacity(rows.len());
        for row in rows {
            loads.push(self.with_files(row.read()?).await?);
        }
        Ok(loads)
    }

    pub(super) async fn load_of(&self, number: u64) -> Result<LoadState, FeatureError> {
        let row: Option<StoredLoad> = sqlx::query_as(
            "SELECT number, source, path, phase, reason, files, known, asked_by, asked_at, ended_at FROM feature_loads
             WHERE number = $1",
        )
        .bind(signed(number))
        .fetch_optional(self.meta.reader())
        .await
        .doing(DOING)?;
        let load = row.ok_or_else(|| unknown("load", &number.to_string(), []))?.read()?;
        self.with_files(load).await
    }

    /// Adds what became of the load's files.
    async fn with_files(&self, mut load: LoadState) -> Result<LoadState, FeatureError> {
        let files: Vec<(String, String)> =
            sqlx::query_as("SELECT phase, report FROM feature_loaded_files WHERE load_number = $1 ORDER BY path")
                .bind(signed(load.number))
                .fetch_all(self.meta.reader())
                .await
                .doing(DOING)?;
        for (phase, report) in files {
            match LoadPhase::parse(&phase) {
                Some(LoadPhase::Done) => load.done += 1,
                Some(LoadPhase::Failed) => load.failed += 1,
                Some(LoadPhase::Running) | None => {}
            }
            load.rows.add(serde_json::from_str(&report).map_err(|e| corrupt(e.to_string()))?);
        }
        Ok(load)
    }
}
