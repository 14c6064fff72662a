//! Rows set aside, in the database.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::Ordering,
};

use domain::{Field, SourceName, Timestamp, Value, ValueType};
use storage::{
    Migration, Tx,
    sqlx::{self, AssertSqlSafe, Row as _},
};

use super::{Aside, QuarantineFilter, Quarantined, Which, id_of};
use crate::{
    FeatureStore, Inner,
    error::{Doing as _, FeatureError, unknown},
    parse::{BadRow, Form},
    report::{Reason, RowError},
    table::SourceTable,
};

const DOING: &str = "keep rows set aside";
const READING: &str = "read rows set aside";
/// Longer rows are cut.
const RAW_BYTES_MAX: usize = 64 << 10;
const REASON_BYTES_MAX: usize = 1_024;
/// Rows that one transaction writes: others wait for their turn meanwhile.
const WRITE_ROWS: usize = 2_000;

pub(crate) const MIGRATIONS: &[Migration] = &[Migration {
    name: "rows set aside",
    sql: "CREATE TABLE feature_quarantine (
              source TEXT NOT NULL,
              id TEXT NOT NULL,
              number BIGINT NOT NULL,
              line BIGINT NOT NULL,
              column_name TEXT,
              code TEXT NOT NULL,
              reason TEXT NOT NULL,
              raw TEXT NOT NULL,
              whole BIGINT NOT NULL,
              cells BIGINT NOT NULL,
              origin TEXT,
              at BIGINT NOT NULL,
              last_seen BIGINT NOT NULL,
              times BIGINT NOT NULL,
              state TEXT NOT NULL,
              settled_at BIGINT,
              settled_by TEXT,
              PRIMARY KEY (source, id)
          );
          CREATE UNIQUE INDEX feature_quarantine_by_number ON feature_quarantine (source, number);
          CREATE INDEX feature_quarantine_by_age ON feature_quarantine (source, last_seen);",
}];

const COLUMNS: &str = "id, number, line, column_name, code, reason, raw, whole, cells, origin, at, last_seen, times, \
                       state, settled_at, settled_by";

/// A row as the database has it.
#[derive(sqlx::FromRow)]
struct Stored {
    id: String,
    number: i64,
    line: i64,
    column_name: Option<String>,
    code: String,
    reason: String,
    raw: String,
    whole: i64,
    cells: i64,
    origin: Option<String>,
    at: i64,
    last_seen: i64,
    times: i64,
    state: String,
    settled_at: Option<i64>,
    settled_by: Option<String>,
}

/// A row with what only we need to know of it.
pub(super) struct Letter {
    pub(super) row: Quarantined,
    pub(super) number: i64,
    pub(super) form: Form,
}

impl Stored {
    fn read(self) -> Result<Letter, FeatureError> {
        let corrupt = |reason: String| FeatureError::Corrupt { what: "a row set aside", reason };
        let code: Reason = self.code.parse().map_err(|e| corrupt(format!("{e}")))?;
        let error = RowError { line: self.line.unsigned_abs(), column: self.column_name, code, reason: self.reason };
        let row = Quarantined {
            id: self.id,
            error,
            raw: self.raw,
            whole: self.whole != 0,
            origin: self.origin,
            at: Timestamp::from_micros(self.at),
            last_seen: Timestamp::from_micros(self.last_seen),
            times: self.times.unsigned_abs(),
            state: self.state.parse().map_err(corrupt)?,
            settled_at: self.settled_at.map(Timestamp::from_micros),
            settled_by: self.settled_by,
        };
        let form = if self.cells != 0 { Form::Cells } else { Form::Json };
        Ok(Letter { row, number: self.number, form })
    }
}

impl FeatureStore {
    /// Rows set aside, newest first.
    ///
    /// # Errors
    /// `Unknown` source; what storage says.
    pub async fn quarantined(&self, source: &SourceName, limit: usize) -> Result<Vec<Quarantined>, FeatureError> {
        self.quarantine(source, &QuarantineFilter::default(), limit).await
    }

    /// The same of those that match.
    ///
    /// # Errors
    /// As `quarantined`.
    pub async fn quarantine(
        &self,
        source: &SourceName,
        filter: &QuarantineFilter,
        limit: usize,
    ) -> Result<Vec<Quarantined>, FeatureError> {
        self.0.catalog().source(source)?;
        let page = Page { filter, after: None, limit, newest_first: true };
        Ok(self.0.letters(source, &page).await?.into_iter().map(|letter| letter.row).collect())
    }

    /// One row set aside.
    ///
    /// # Errors
    /// `Unknown` source or row; what storage says.
    pub async fn quarantined_row(&self, source: &SourceName, id: &str) -> Result<Quarantined, FeatureError> {
        self.0.catalog().source(source)?;
        Ok(self.0.letter(source, id).await?.row)
    }
}

/// A stretch of a quarantine.
pub(super) struct Page<'a> {
    pub(super) filter: &'a QuarantineFilter,
    /// Behind the row of this number; oldest first only.
    pub(super) after: Option<i64>,
    pub(super) limit: usize,
    pub(super) newest_first: bool,
}

impl Inner {
    /// Takes over what an earlier version kept in a table of its own, and learns how much waits.
    pub(crate) async fn open_quarantine(&self, source: &SourceName, table: &SourceTable) -> Result<(), FeatureError> {
        let name = format!("quarantine.{source}");
        if self.tables.keeps(&name).await.doing(READING)? {
            self.move_quarantine(source, &name).await?;
        }
        self.count_waiting(source, table).await
    }

    pub(super) async fn count_waiting(&self, source: &SourceName, table: &SourceTable) -> Result<(), FeatureError> {
        let waiting: i64 =
            sqlx::query_scalar("SELECT COUNT(*) FROM feature_quarantine WHERE source = $1 AND state = 'waiting'")
                .bind(source.as_str())
                .fetch_one(self.meta.reader())
                .await
                .doing(READING)?;
        table.waiting.store(waiting.unsigned_abs(), Ordering::SeqCst);
        Ok(())
    }

    /// How many rows wait, by reason.
    pub(crate) async fn waiting_by_reason(&self, source: &SourceName) -> Result<BTreeMap<Reason, u64>, FeatureError> {
        let rows: Vec<(String, i64)> = sqlx::query_as(
            "SELECT code, COUNT(*) FROM feature_quarantine WHERE source = $1 AND state = 'waiting' GROUP BY code",
        )
        .bind(source.as_str())
        .fetch_all(self.meta.reader())
        .await
        .doing(READING)?;
        let read = |(code, rows): (String, i64)| {
            let unreadable = |e| FeatureError::Corrupt { what: "a row set aside", reason: format!("{e}") };
            Ok((code.parse::<Reason>().map_err(unreadable)?, rows.unsigned_abs()))
        };
        rows.into_iter().map(read).collect()
    }

    /// Doing it again changes nothing: a row's id says what it is.
    async fn move_quarantine(&self, source: &SourceName, name: &str) -> Result<(), FeatureError> {
        let fields = [
            Field::new("line", ValueType::Int),
            Field::new("column", ValueType::Text),
            Field::new("reason", ValueType::Text),
            Field::new("raw", ValueType::Text),
            Field::new("at", ValueType::Timestamp),
        ];
        let schema = storage::schema_of(&fields);
        let old = self.tables.table(name, schema.clone()).await.doing(READING)?;
        if old.here().is_err() {
            // Its keeper moves them.
            return Ok(());
        }
        old.flush().await.doing(READING)?;
        let frame = storage::from_batches(&schema, &old.scan(None).await.doing(READING)?).doing(READING)?;
        let cell = |row: usize, name: &str| Ok::<_, FeatureError>(frame.require(name)?.get(row));
        let text = |value: Value| match value {
            Value::Text(text) => Some(text.to_string()),
            _ => None,
        };
        for row in 0..frame.rows() {
            let line = match cell(row, "line")? {
                Value::Int(line) => line.unsigned_abs(),
                _ => 0,
            };
            let at = match cell(row, "at")? {
                Value::Timestamp(at) => at,
                _ => self.clock.now(),
            };
            let (column, reason) = (text(cell(row, "column")?), text(cell(row, "reason")?).unwrap_or_default());
            // It was not written down in a word; what is at fault in a column is most often its type.
            let code = if column.is_some() { Reason::WrongType } else { Reason::Malformed };
            let error = RowError { line, column, code, reason };
            let raw = text(cell(row, "raw")?).unwrap_or_default();
            let bad = BadRow { error, raw, form: Form::Cells, origin: None };
            self.write_aside(source, std::slice::from_ref(&bad), at).await?;
        }
        self.tables.hand_over(&[name.to_owned()]).await.doing(DOING)
    }

    /// Keeps rows that do not fit; durable when it returns. Gives how many waiting ones had to go for it. The caller holds
    /// the table's `writing`.
    pub(crate) async fn set_aside(
        &self,
        source: &SourceName,
        table: &SourceTable,
        mut bad: Vec<BadRow>,
        at: Timestamp,
    ) -> Result<u64, FeatureError> {
        if bad.is_empty() {
            return Ok(0);
        }
        let most = usize::try_from(self.quarantine.rows_max).unwrap_or(usize::MAX);
        let beyond = bad.len().saturating_sub(most);
        bad.truncate(most);
        for some in bad.chunks(WRITE_ROWS) {
            self.write_aside(source, some, at).await?;
        }
        let dropped = self.trim_quarantine(source, at).await? + beyond as u64;
        if dropped > 0 {
            tracing::warn!(%source, rows = dropped, "the quarantine is full: rows were let go unseen");
        }
        self.count_waiting(source, table).await?;
        Ok(dropped)
    }

    async fn write_aside(&self, source: &SourceName, bad: &[BadRow], at: Timestamp) -> Result<(), FeatureError> {
        let mut tx = self.meta.begin().await.doing(DOING)?;
        let newest: i64 =
            sqlx::query_scalar("SELECT COALESCE(MAX(number), 0) FROM feature_quarantine WHERE source = $1")
                .bind(source.as_str())
                .fetch_one(tx.conn())
                .await
                .doing(DOING)?;
        for (number, row) in (newest + 1..).zip(bad) {
            let raw = &row.raw[..row.raw.floor_char_boundary(RAW_BYTES_MAX)];
            sqlx::query(
                "INSERT INTO feature_quarantine
                     (source, id, number, line, column_name, code, reason, raw, whole, cells, origin, at, last_seen, times, state)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $12, 1, 'waiting')
                 ON CONFLICT (source, id) DO UPDATE SET times = feature_quarantine.times + 1, last_seen = excluded.last_seen",
            )
            .bind(source.as_str())
            .bind(id_of(row))
            .bind(number)
            .bind(i64::try_from(row.error.line).unwrap_or(i64::MAX))
            .bind(row.error.column.as_deref().map(plain))
            .bind(row.error.code.as_str())
            .bind(plain(&row.error.reason))
            .bind(raw)
            .bind(i64::from(raw.len() == row.raw.len()))
            .bind(i64::from(row.form == Form::Cells))
            .bind(row.origin.as_deref())
            .bind(at.micros())
            .execute(tx.conn())
            .await
            .doing(DOING)?;
        }
        tx.commit().await.doing(DOING)
    }

    /// Removes what is too old, and what is too much: settled rows first, then the oldest. Gives how many of these waited.
    pub(crate) async fn trim_quarantine(&self, source: &SourceName, now: Timestamp) -> Result<u64, FeatureError> {
        let mut tx = self.meta.begin().await.doing(DOING)?;
        sqlx::query("DELETE FROM feature_quarantine WHERE source = $1 AND last_seen < $2")
            .bind(source.as_str())
            .bind((now - self.quarantine.keep).micros())
            .execute(tx.conn())
            .await
            .doing(DOING)?;
        let all = count(&mut tx, source, "SELECT COUNT(*) FROM feature_quarantine WHERE source = $1").await?;
        let beyond = all.saturating_sub(self.quarantine.rows_max);
        let mut dropped = 0;
        if beyond > 0 {
            let settled = "SELECT COUNT(*) FROM feature_quarantine WHERE source = $1 AND state <> 'waiting'";
            dropped = beyond.saturating_sub(count(&mut tx, source, settled).await?);
            sqlx::query(
                "DELETE FROM feature_quarantine WHERE source = $1 AND number IN (
                     SELECT number FROM feature_quarantine WHERE source = $1
                     ORDER BY CASE state WHEN 'waiting' THEN 1 ELSE 0 END, number LIMIT $2)",
            )
            .bind(source.as_str())
            .bind(i64::try_from(beyond).unwrap_or(i64::MAX))
            .execute(tx.conn())
            .await
            .doing(DOING)?;
        }
        tx.commit().await.doing(DOING)?;
        Ok(dropped)
    }

    pub(super) async fn letters(&self, source: &SourceName, page: &Page<'_>) -> Result<Vec<Letter>, FeatureError> {
        let QuarantineFilter { state, reason, from, to } = page.filter;
        let order = if page.newest_first { "DESC" } else { "ASC" };
        // The text is the program's own.
        let statement = AssertSqlSafe(format!(
            "SELECT {COLUMNS} FROM feature_quarantine
             WHERE source = $1 AND number > $2 AND at >= $3 AND at < $4
               AND ($5 = '' OR state = $5) AND ($6 = '' OR code = $6)
             ORDER BY number {order} LIMIT $7"
        ));
        let rows: Vec<Stored> = sqlx::query_as(statement)
            .bind(source.as_str())
            .bind(page.after.unwrap_or(i64::MIN))
            .bind(from.unwrap_or(Timestamp::MIN).micros())
            .bind(to.unwrap_or(Timestamp::MAX).micros())
            .bind(state.map_or("", Aside::as_str))
            .bind(reason.map_or("", Reason::as_str))
            .bind(i64::try_from(page.limit).unwrap_or(i64::MAX))
            .fetch_all(self.meta.reader())
            .await
            .doing(READING)?;
        rows.into_iter().map(Stored::read).collect()
    }

    pub(super) async fn letter(&self, source: &SourceName, id: &str) -> Result<Letter, FeatureError> {
        let statement = format!("SELECT {COLUMNS} FROM feature_quarantine WHERE source = $1 AND id = $2");
        // The text is the program's own.
        let row: Option<Stored> = sqlx::query_as(AssertSqlSafe(statement))
            .bind(source.as_str())
            .bind(id)
            .fetch_optional(self.meta.reader())
            .await
            .doing(READING)?;
        row.ok_or_else(|| unknown("quarantined row", id, []))?.read()
    }

    /// The next rows to act on, oldest first; of rows named by id those that wait.
    pub(super) async fn next_letters(
        &self,
        source: &SourceName,
        which: &Which,
        after: Option<i64>,
        limit: usize,
    ) -> Result<Vec<Letter>, FeatureError> {
        match which {
            Which::Waiting(filter) => {
                let filter = QuarantineFilter { state: Some(Aside::Waiting), ..filter.clone() };
                self.letters(source, &Page { filter: &filter, after, limit, newest_first: false }).await
            }
            Which::Rows(ids) => {
                let mut found = self.named(source, ids).await?;
                found.retain(|letter| letter.row.state == Aside::Waiting);
                found.retain(|letter| after.is_none_or(|after| letter.number > after));
                found.truncate(limit);
                Ok(found)
            }
        }
    }

    /// The rows of these ids, oldest first.
    async fn named(&self, source: &SourceName, ids: &BTreeSet<String>) -> Result<Vec<Letter>, FeatureError> {
        let mut found = Vec::with_capacity(ids.len());
        for id in ids {
            found.push(self.letter(source, id).await?);
        }
        found.sort_by_key(|letter| letter.number);
        Ok(found)
    }
}

/// Settles rows that wait. Gives how many did.
pub(super) async fn settle(
    tx: &mut Tx,
    source: &SourceName,
    numbers: &[i64],
    state: Aside,
    at: Timestamp,
    actor: &str,
) -> Result<u64, FeatureError> {
    let mut settled = 0;
    for number in numbers {
        let done = sqlx::query(
            "UPDATE feature_quarantine SET state = $3, settled_at = $4, settled_by = $5
             WHERE source = $1 AND number = $2 AND state = 'waiting'",
        )
        .bind(source.as_str())
        .bind(number)
        .bind(state.as_str())
        .bind(at.micros())
        .bind(actor)
        .execute(tx.conn())
        .await
        .doing(DOING)?;
        settled += done.rows_affected();
    }
    Ok(settled)
}

/// Writes down why a row that was replayed still does not fit.
pub(super) async fn blame(tx: &mut Tx, source: &SourceName, number: i64, error: &RowError) -> Result<(), FeatureError> {
    sqlx::query(
        "UPDATE feature_quarantine SET column_name = $3, code = $4, reason = $5 WHERE source = $1 AND number = $2",
    )
    .bind(source.as_str())
    .bind(number)
    .bind(error.column.as_deref().map(plain))
    .bind(error.code.as_str())
    .bind(plain(&error.reason))
    .execute(tx.conn())
    .await
    .doing(DOING)?;
    Ok(())
}

async fn count(tx: &mut Tx, source: &SourceName, statement: &'static str) -> Result<u64, FeatureError> {
    let rows = sqlx::query(statement).bind(source.as_str()).fetch_one(tx.conn()).await.doing(READING)?;
    Ok(rows.try_get::<i64, _>(0).doing(READING)?.unsigned_abs())
}

/// A text that every database keeps: without NUL, and not endless.
fn plain(text: &str) -> String {
    text[..text.floor_char_boundary(REASON_BYTES_MAX)].replace('\0', "\u{fffd}")
}
