//! The journal: every change of state in order, each row sealed to the one before.

use std::{fmt, str::FromStr};

use domain::{Digest, Event, EventKind, NewEvent, Timestamp};
use sqlx::Row as _;
use tokio::sync::watch;

use crate::{
    Migration, StorageError, caller,
    sql::{Conn, Pool, Row},
};

pub(crate) const MIGRATIONS: &[Migration] = &[
    Migration {
        name: "journal",
        sql: "CREATE TABLE journal (
            seq INTEGER NOT NULL PRIMARY KEY,
            at BIGINT NOT NULL,
            kind TEXT NOT NULL,
            subject TEXT NOT NULL,
            actor TEXT NOT NULL,
            cause BIGINT,
            body TEXT NOT NULL,
            previous TEXT NOT NULL,
            hash TEXT NOT NULL
          );
          CREATE INDEX journal_by_subject ON journal (subject, seq);",
    },
    Migration { name: "the request behind an event", sql: "ALTER TABLE journal ADD COLUMN request TEXT" },
];

const VERIFY_STEP: i64 = 1_000;

/// The newest event of a journal, sealed with every one before it. Written `SEQ:SEAL`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// 0 while the journal is empty.
    pub seq: u64,
    /// 64 hexadecimal digits.
    pub seal: String,
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.seq, self.seal)
    }
}

impl FromStr for Head {
    type Err = BadHead;

    fn from_str(text: &str) -> Result<Self, BadHead> {
        let read = |text: &str| {
            let (seq, seal) = text.split_once(':')?;
            let seal: Digest = seal.parse().ok()?;
            Some(Self { seq: seq.parse().ok()?, seal: seal.to_string() })
        };
        read(text.trim()).ok_or_else(|| BadHead(text.to_owned()))
    }
}

/// A text that is not a [`Head`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not the head of a journal: expected a number, a colon and 64 hexadecimal digits")]
pub struct BadHead(pub String);

/// Reads events and follows new ones. They are appended through [`crate::Tx::append`].
#[derive(Debug, Clone)]
pub struct Journal {
    readers: Pool,
    newest: watch::Sender<u64>,
}

impl Journal {
    pub(crate) fn new(readers: Pool) -> Self {
        Self { readers, newest: watch::Sender::new(0) }
    }

    /// Learns the newest number from the database.
    pub(crate) async fn catch_up(&self) -> Result<(), StorageError> {
        let newest: i64 =
            sqlx::query_scalar("SELECT COALESCE(MAX(seq), 0) FROM journal").fetch_one(&self.readers).await?;
        self.announce(newest.unsigned_abs());
        Ok(())
    }

    pub(crate) fn announce(&self, seq: u64) {
        self.newest.send_if_modified(|newest| {
            let later = seq > *newest;
            *newest = seq.max(*newest);
            later
        });
    }

    /// At most `limit` events with a number above `after`, oldest first.
    pub async fn read(&self, after: u64, limit: usize) -> Result<Vec<Event>, StorageError> {
        let rows = sqlx::query("SELECT * FROM journal WHERE seq > $1 ORDER BY seq LIMIT $2")
            .bind(signed(after))
            .bind(count(limit))
            .fetch_all(&self.readers)
            .await?;
        rows.iter().map(event).collect()
    }

    /// The newest `limit` events, newest first.
    pub async fn recent(&self, limit: usize) -> Result<Vec<Event>, StorageError> {
        let rows = sqlx::query("SELECT * FROM journal ORDER BY seq DESC LIMIT $1")
            .bind(count(limit))
            .fetch_all(&self.readers)
            .await?;
        rows.iter().map(event).collect()
    }

    /// The newest `limit` events about exactly this subject, newest first.
    pub async fn about(&self, subject: &str, limit: usize) -> Result<Vec<Event>, StorageError> {
        let rows = sqlx::query("SELECT * FROM journal WHERE subject = $1 ORDER BY seq DESC LIMIT $2")
            .bind(subject)
            .bind(count(limit))
            .fetch_all(&self.readers)
            .await?;
        rows.iter().map(event).collect()
    }

    /// Events about a subject, newest first, before the event numbered `before`; with `below`, also about what lies
    /// under it: `a/b` and `a/b/c` under `a`.
    pub async fn history(
        &self,
        subject: &str,
        below: bool,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<Event>, StorageError> {
        // Two ranges of the index; `0` comes right after `/`.
        let (from, to) = if below { (format!("{subject}/"), format!("{subject}0")) } else { <_>::default() };
        let rows = sqlx::query(
            "SELECT * FROM journal WHERE (subject = $1 OR (subject > $2 AND subject < $3)) AND seq < $4
             ORDER BY seq DESC LIMIT $5",
        )
        .bind(subject)
        .bind(from)
        .bind(to)
        .bind(before.map_or(i64::MAX, signed))
        .bind(count(limit))
        .fetch_all(&self.readers)
        .await?;
        rows.iter().map(event).collect()
    }

    /// The newest committed number (0 while empty), and a wake-up whenever it grows. Several commits may
    /// wake once: read everything after the last number you handled.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }

    /// Walks the chain from the first event to the last and gives that one's number and seal.
    ///
    /// The chain alone cannot tell that its newest events were taken away: `remembered`, a head that was given earlier
    /// and kept elsewhere, can.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`] names the first event that does not fit.
    pub async fn verify(&self, remembered: Option<&Head>) -> Result<Head, StorageError> {
        let (mut seen, mut previous) = (0_i64, Digest::of(&[]).to_string());
        loop {
            let rows = sqlx::query("SELECT * FROM journal WHERE seq > $1 ORDER BY seq LIMIT $2")
                .bind(seen)
                .bind(VERIFY_STEP)
                .fetch_all(&self.readers)
                .await?;
            if rows.is_empty() {
                return match remembered {
                    Some(head) if head.seq > seen.unsigned_abs() => {
                        let missing = format!("events {} to {} are missing at its end", seen + 1, head.seq);
                        Err(StorageError::corrupt("journal", missing))
                    }
                    _ => Ok(Head { seq: seen.unsigned_abs(), seal: previous }),
                };
            }
            for row in &rows {
                let row = Sealed::read(row)?;
                let broken = |detail: &str| StorageError::corrupt(format!("journal at {}", row.seq), detail);
                if row.seq != seen + 1 {
                    return Err(broken("numbers are missing before it"));
                }
                if row.previous != previous {
                    return Err(broken("it does not follow the event before it"));
                }
                if row.hash != row.seal() {
                    return Err(broken("it was changed after it was written"));
                }
                (seen, previous) = (row.seq, row.hash);
                if remembered.is_some_and(|head| head.seq == seen.unsigned_abs() && head.seal != previous) {
                    return Err(StorageError::corrupt(
                        format!("journal at {seen}"),
                        "it is not the event that was remembered: the journal was written anew",
                    ));
                }
            }
        }
    }
}

/// A row with what seals it.
struct Sealed {
    seq: i64,
    at: i64,
    kind: String,
    subject: String,
    actor: String,
    cause: Option<i64>,
    body: String,
    request: Option<String>,
    previous: String,
    hash: String,
}

impl Sealed {
    fn read(row: &Row) -> Result<Self, StorageError> {
        Ok(Self {
            seq: row.try_get("seq")?,
            at: row.try_get("at")?,
            kind: row.try_get("kind")?,
            subject: row.try_get("subject")?,
            actor: row.try_get("actor")?,
            cause: row.try_get("cause")?,
            body: row.try_get("body")?,
            request: row.try_get("request")?,
            previous: row.try_get("previous")?,
            hash: row.try_get("hash")?,
        })
    }

    /// Digest of the hash before and of every field, lengths mixed in.
    fn seal(&self) -> String {
        let cause = self.cause.map_or_else(String::new, |c| c.to_string());
        let (seq, at) = (self.seq.to_string(), self.at.to_string());
        let parts = [&self.previous, &seq, &at, &self.kind, &self.subject, &self.actor, &cause, &self.body];
        // Rows from before requests were kept are sealed without one.
        Digest::of_parts(parts.into_iter().chain(&self.request).map(String::as_bytes)).to_string()
    }
}

pub(crate) async fn append(conn: &mut Conn, event: &NewEvent) -> Result<u64, StorageError> {
    let last =
        sqlx::query("SELECT seq, hash FROM journal ORDER BY seq DESC LIMIT 1").fetch_optional(&mut *conn).await?;
    let (seq, previous) = match last {
        Some(row) => (row.try_get::<i64, _>(0)? + 1, row.try_get(1)?),
        None => (1, Digest::of(&[]).to_string()),
    };
    let mut row = Sealed {
        seq,
        at: event.at.micros(),
        kind: event.kind.as_str().to_owned(),
        subject: event.subject.clone(),
        actor: caller::caller_or(&event.actor),
        cause: event.cause.map(signed),
        body: event.body.to_string(),
        request: caller::request(),
        previous,
        hash: String::new(),
    };
    row.hash = row.seal();
    sqlx::query(
        "INSERT INTO journal (seq, at, kind, subject, actor, cause, body, previous, hash, request)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
    )
    .bind(row.seq)
    .bind(row.at)
    .bind(&row.kind)
    .bind(&row.subject)
    .bind(&row.actor)
    .bind(row.cause)
    .bind(&row.body)
    .bind(&row.previous)
    .bind(&row.hash)
    .bind(&row.request)
    .execute(conn)
    .await?;
    Ok(seq.unsigned_abs())
}

fn event(row: &Row) -> Result<Event, StorageError> {
    let row = Sealed::read(row)?;
    let damaged = |what: &str| StorageError::corrupt(format!("journal at {}", row.seq), format!("its {what}"));
    Ok(Event {
        seq: row.seq.unsigned_abs(),
        at: Timestamp::from_micros(row.at),
        kind: serde_json::from_value::<EventKind>(row.kind.clone().into())
            .map_err(|_| damaged(&format!("kind `{}` is not known", row.kind)))?,
        body: serde_json::from_str(&row.body).map_err(|_| damaged("body is not JSON"))?,
        subject: row.subject,
        actor: row.actor,
        cause: row.cause.map(i64::unsigned_abs),
        request: row.request,
    })
}

/// Numbers start at 1 and never come near the limit.
fn signed(seq: u64) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX)
}

fn count(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}
