//! Mismatches in the database: the newest thousand.

use domain::{EventKind, NewEvent, Timestamp};
use serde_json::json;
use storage::{Migration, sqlx};

use super::{Cause, GuardReport, Mismatch};
use crate::{
    Inner,
    error::{Doing as _, FeatureError},
};

/// Mismatches kept.
const KEPT: i64 = 1_000;
/// Mismatches of one check that are written down; the others are counted.
const WRITTEN_MAX: usize = 200;

pub(crate) const MIGRATIONS: &[Migration] = &[Migration {
    name: "mismatches of the consistency guard",
    sql: "CREATE TABLE feature_mismatches (
              id INTEGER NOT NULL PRIMARY KEY,
              service TEXT NOT NULL,
              feature TEXT NOT NULL,
              cause TEXT NOT NULL,
              keys TEXT NOT NULL,
              at BIGINT NOT NULL,
              served_at BIGINT NOT NULL,
              found_at BIGINT NOT NULL,
              online TEXT NOT NULL,
              offline TEXT NOT NULL
          )",
}];

#[derive(sqlx::FromRow)]
struct Row {
    service: String,
    feature: String,
    cause: String,
    keys: String,
    at: i64,
    served_at: i64,
    found_at: i64,
    online: String,
    offline: String,
}

impl Row {
    fn read(self) -> Option<Mismatch> {
        Some(Mismatch {
            service: self.service.parse().ok()?,
            feature: self.feature,
            cause: Cause::parse(&self.cause)?,
            keys: serde_json::from_str(&self.keys).ok()?,
            at: Timestamp::from_micros(self.at),
            served_at: Timestamp::from_micros(self.served_at),
            found_at: Timestamp::from_micros(self.found_at),
            online: serde_json::from_str(&self.online).ok()?,
            offline: serde_json::from_str(&self.offline).ok()?,
        })
    }
}

impl Inner {
    /// Writes mismatches down with one event that counts them; nothing where there are none.
    pub(super) async fn keep_mismatches(
        &self,
        report: &GuardReport,
        mismatches: &[Mismatch],
    ) -> Result<(), FeatureError> {
        let Some(first) = mismatches.first() else { return Ok(()) };
        let mut tx = self.meta.begin().await.doing("keep mismatches")?;
        let newest: i64 = sqlx::query_scalar("SELECT COALESCE(MAX(id), 0) FROM feature_mismatches")
            .fetch_one(tx.conn())
            .await
            .doing("keep mismatches")?;
        let mut id = newest;
        for mismatch in mismatches.iter().take(WRITTEN_MAX) {
            id += 1;
            sqlx::query(
                "INSERT INTO feature_mismatches (id, service, feature, cause, keys, at, served_at, found_at, online, offline)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
            )
            .bind(id)
            .bind(mismatch.service.as_str())
            .bind(&mismatch.feature)
            .bind(mismatch.cause.as_str())
            .bind(json!(mismatch.keys).to_string())
            .bind(mismatch.at.micros())
            .bind(mismatch.served_at.micros())
            .bind(mismatch.found_at.micros())
            .bind(mismatch.online.to_string())
            .bind(mismatch.offline.to_string())
            .execute(tx.conn())
            .await
            .doing("keep mismatches")?;
        }
        sqlx::query("DELETE FROM feature_mismatches WHERE id <= $1")
            .bind(id - KEPT)
            .execute(tx.conn())
            .await
            .doing("keep mismatches")?;
        let body = json!({
            "vectors": report.vectors, "values": report.values, "late_data": report.late_data,
            "definition_change": report.definition_change, "lost_write": report.lost_write,
        });
        let subject = format!("feature_service/{}", first.service);
        let (at, kind) = (self.clock.now(), EventKind::FeaturesInconsistent);
        let event = NewEvent { at, kind, subject, actor: "guard".into(), cause: None, body };
        tx.append(event).await.doing("keep mismatches")?;
        tx.commit().await.doing("keep mismatches")
    }

    pub(super) async fn newest_mismatches(&self, limit: usize) -> Result<Vec<Mismatch>, FeatureError> {
        let rows: Vec<Row> = sqlx::query_as("SELECT * FROM feature_mismatches ORDER BY id DESC LIMIT $1")
            .bind(i64::try_from(limit).unwrap_or(i64::MAX))
            .fetch_all(self.meta.reader())
            .await
            .doing("read mismatches")?;
        let read = |row: Row| {
            row.read().ok_or(FeatureError::Corrupt { what: "a mismatch", reason: "it cannot be read".into() })
        };
        rows.into_iter().map(read).collect()
    }
}
