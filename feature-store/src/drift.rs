//! Schema drift: columns of rows and files that are not as the source declares them. Each is told of once, by an event in
//! the journal, and counted from then on.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use domain::{EventKind, NewEvent, SourceName, Span, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::json;
use storage::{
    Migration,
    sqlx::{self, Row as _},
};

use crate::{
    FeatureStore, Inner, codec,
    error::{Doing as _, FeatureError},
    view::SourcePlan,
};

const DOING: &str = "note columns that are not as declared";
/// Names that one body may bring up, and that are remembered of one source: who sends random names fills no database.
const BODY_MAX: usize = 64;
const SOURCE_MAX: i64 = 1_000;
const NAME_BYTES_MAX: usize = 256;
/// Counts are written down no more often than this once the drift is known.
const WRITE_EVERY: Span = Span::from_micros(30_000_000);
/// A column has changed its type when most of at least this many rows of one body say so; fewer are bad rows.
const MISTYPED_MIN: u64 = 20;

pub(crate) const MIGRATIONS: &[Migration] = &[Migration {
    name: "columns that are not as declared",
    sql: "CREATE TABLE feature_drift (
              source TEXT NOT NULL,
              column_name TEXT NOT NULL,
              kind TEXT NOT NULL,
              first_seen BIGINT NOT NULL,
              last_seen BIGINT NOT NULL,
              row_count BIGINT NOT NULL,
              PRIMARY KEY (source, column_name, kind)
          )",
}];

/// In which way a column is not as declared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DriftKind {
    /// It is not declared. Its values are left out, the rest of the row is taken.
    Unknown,
    /// A file's header lacks it; it is null in the file's rows.
    Missing,
    /// Most rows of a body have a value of another type there. They are quarantined.
    WrongType,
}

impl DriftKind {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Missing => "missing",
            Self::WrongType => "wrong_type",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Unknown, Self::Missing, Self::WrongType].into_iter().find(|kind| kind.as_str() == text)
    }
}

/// A column that is not as declared, in one body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ColumnDrift {
    pub column: String,
    pub kind: DriftKind,
    /// Rows that showed it; of a file's header, files.
    pub rows: u64,
}

/// What is known of such a column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drift {
    #[serde(flatten)]
    pub seen: ColumnDrift,
    pub first_seen: Timestamp,
    pub last_seen: Timestamp,
}

/// What one body brings up.
#[derive(Debug, Default)]
pub(crate) struct Strays(BTreeMap<(String, DriftKind), u64>);

impl Strays {
    pub(crate) fn note(&mut self, column: &str, kind: DriftKind, rows: u64) {
        let cut = &column[..column.floor_char_boundary(NAME_BYTES_MAX)];
        // No database keeps a NUL in a text.
        let name = (cut.replace('\0', "\u{fffd}"), kind);
        if let Some(count) = self.0.get_mut(&name) {
            *count += rows;
        } else if self.0.len() < BODY_MAX {
            self.0.insert(name, rows);
        }
    }

    /// Notes a column of which `wrong` of `rows` values were of another type, where that is no accident.
    pub(crate) fn mistyped(&mut self, column: &str, wrong: u64, rows: u64) {
        if wrong >= MISTYPED_MIN && wrong.saturating_mul(2) > rows {
            self.note(column, DriftKind::WrongType, wrong);
        }
    }

    /// A name that is not declared.
    pub(crate) fn unknown(&self) -> Option<&str> {
        self.0.keys().find(|(_, kind)| *kind == DriftKind::Unknown).map(|(name, _)| name.as_str())
    }

    pub(crate) fn into_report(self) -> Vec<ColumnDrift> {
        self.0.into_iter().map(|((column, kind), rows)| ColumnDrift { column, kind, rows }).collect()
    }
}

/// Counts that are not written down yet.
#[derive(Debug, Clone, Copy)]
struct Waiting {
    rows: u64,
    last_seen: Timestamp,
    written_at: Timestamp,
}

/// What is known, by source, column and kind.
#[derive(Default)]
pub(crate) struct Known(Mutex<BTreeMap<(SourceName, String, DriftKind), Waiting>>);

impl Known {
    fn with<T>(&self, act: impl FnOnce(&mut BTreeMap<(SourceName, String, DriftKind), Waiting>) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl FeatureStore {
    /// Columns that came otherwise than the source now declares them, by name. Counts may be half a minute old.
    ///
    /// # Errors
    /// `Unknown` source; what storage says.
    pub async fn drift(&self, source: &SourceName) -> Result<Vec<Drift>, FeatureError> {
        let plan = self.0.catalog().source(source)?;
        let mut known = self.0.drift_of(source).await?;
        known.retain(|drift| holds(&plan, &drift.seen));
        self.0.drifted.with(|waiting| {
            for drift in &mut known {
                let name = (source.clone(), drift.seen.column.clone(), drift.seen.kind);
                if let Some(waiting) = waiting.get(&name) {
                    drift.seen.rows += waiting.rows;
                    drift.last_seen = drift.last_seen.max(waiting.last_seen);
                }
            }
        });
        Ok(known)
    }
}

/// Whether the source still declares the column as it did when it drifted.
fn holds(plan: &SourcePlan, drift: &ColumnDrift) -> bool {
    let declared = plan.names.iter().any(|name| **name == *drift.column);
    declared != (drift.kind == DriftKind::Unknown)
}

impl Inner {
    /// Takes in what a body brought up: what is new is written down at once with an event, the rest is counted.
    pub(crate) async fn note_drift(
        &self,
        source: &SourceName,
        strays: &[ColumnDrift],
        at: Timestamp,
    ) -> Result<(), FeatureError> {
        if strays.is_empty() {
            return Ok(());
        }
        let due: Vec<ColumnDrift> = self.drifted.with(|known| {
            let mut due = Vec::new();
            for drift in strays {
                let name = (source.clone(), drift.column.clone(), drift.kind);
                match known.get_mut(&name) {
                    Some(waiting) if at - waiting.written_at < WRITE_EVERY => {
                        waiting.rows += drift.rows;
                        waiting.last_seen = at;
                    }
                    Some(waiting) => due.push(ColumnDrift { rows: drift.rows + waiting.rows, ..drift.clone() }),
                    None => due.push(drift.clone()),
                }
            }
            due
        });
        if due.is_empty() {
            return Ok(());
        }
        self.write_drift(source, &due, at).await?;
        self.drifted.with(|known| {
            for drift in due {
                let written = Waiting { rows: 0, last_seen: at, written_at: at };
                known.insert((source.clone(), drift.column, drift.kind), written);
            }
        });
        Ok(())
    }

    async fn write_drift(&self, source: &SourceName, due: &[ColumnDrift], at: Timestamp) -> Result<(), FeatureError> {
        let mut tx = self.meta.begin().await.doing(DOING)?;
        let mut known: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM feature_drift WHERE source = $1")
            .bind(source.as_str())
            .fetch_one(tx.conn())
            .await
            .doing(DOING)?;
        let mut new = Vec::new();
        for drift in due {
            let rows = i64::try_from(drift.rows).unwrap_or(i64::MAX);
            let done = sqlx::query(
                "UPDATE feature_drift SET row_count = row_count + $4, last_seen = $5
                 WHERE source = $1 AND column_name = $2 AND kind = $3",
            )
            .bind(source.as_str())
            .bind(&drift.column)
            .bind(drift.kind.as_str())
            .bind(rows)
            .bind(at.micros())
            .execute(tx.conn())
            .await
            .doing(DOING)?;
            if done.rows_affected() > 0 || known >= SOURCE_MAX {
                continue;
            }
            sqlx::query(
                "INSERT INTO feature_drift (source, column_name, kind, first_seen, last_seen, row_count)
                 VALUES ($1, $2, $3, $5, $5, $4)",
            )
            .bind(source.as_str())
            .bind(&drift.column)
            .bind(drift.kind.as_str())
            .bind(rows)
            .bind(at.micros())
            .execute(tx.conn())
            .await
            .doing(DOING)?;
            known += 1;
            new.push(drift);
        }
        if !new.is_empty() {
            let event = NewEvent {
                at,
                kind: EventKind::SourceDrifted,
                subject: format!("source/{source}"),
                actor: "ingestion".into(),
                cause: None,
                body: json!({ "columns": new }),
            };
            tx.append(event).await.doing(DOING)?;
        }
        tx.commit().await.doing(DOING)
    }

    async fn drift_of(&self, source: &SourceName) -> Result<Vec<Drift>, FeatureError> {
        let rows = sqlx::query(
            "SELECT column_name, kind, first_seen, last_seen, row_count FROM feature_drift
             WHERE source = $1 ORDER BY column_name, kind",
        )
        .bind(source.as_str())
        .fetch_all(self.meta.reader())
        .await
        .doing(DOING)?;
        rows.iter()
            .map(|row| {
                let kind: String = row.try_get(1).doing(DOING)?;
                let kind = DriftKind::parse(&kind).ok_or_else(|| codec::corrupt(format!("drift of kind `{kind}`")))?;
                let instant = |at: usize| row.try_get(at).map(Timestamp::from_micros).doing(DOING);
                let rows: i64 = row.try_get(4).doing(DOING)?;
                let seen = ColumnDrift { column: row.try_get(0).doing(DOING)?, kind, rows: rows.unsigned_abs() };
                Ok(Drift { seen, first_seen: instant(2)?, last_seen: instant(3)? })
            })
            .collect()
    }
}
