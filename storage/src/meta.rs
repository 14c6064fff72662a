//! Relational state: one SQLite file, one writer, many readers.

use std::{path::Path, sync::Arc, time::Duration};

use domain::{Digest, NewEvent};
use sqlx::{
    Row as _, Sqlite, SqliteConnection, SqlitePool, Transaction,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{Journal, StorageError, disk, journal};

const READERS: u32 = 4;
/// How long a statement waits for another process (a backup, a shell) to let go of the file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a read waits for a free connection.
const READER_TIMEOUT: Duration = Duration::from_secs(30);

const LEDGER: &str = "CREATE TABLE IF NOT EXISTS migrations (
    room TEXT NOT NULL,
    position INTEGER NOT NULL,
    name TEXT NOT NULL,
    digest TEXT NOT NULL,
    PRIMARY KEY (room, position)
)";

/// One step of a room's schema. Never changed once released; corrections are new steps.
#[derive(Debug, Clone, Copy)]
pub struct Migration {
    pub name: &'static str,
    /// May hold several statements.
    pub sql: &'static str,
}

/// The relational database. Clones share it.
#[derive(Debug, Clone)]
pub struct Meta {
    readers: SqlitePool,
    writer: SqlitePool,
    /// The turn to write, handed on in the order asked for.
    turn: Arc<Semaphore>,
    journal: Journal,
}

impl Meta {
    /// Opens or creates the database file and its journal.
    pub async fn open(path: &Path) -> Result<Self, StorageError> {
        if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
            disk::create_dir(parent).map_err(StorageError::io(format!("create {}", parent.display())))?;
        }
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY_TIMEOUT);
        let writer = SqlitePoolOptions::new()
            .max_connections(1)
            .test_before_acquire(false)
            .max_lifetime(None)
            .idle_timeout(None)
            .connect_with(options.clone().journal_mode(SqliteJournalMode::Wal))
            .await?;
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS)
            .acquire_timeout(READER_TIMEOUT)
            .test_before_acquire(false)
            .max_lifetime(None)
            .idle_timeout(None)
            // A write that strays here is an error instead of a second writer.
            .connect_with(options.pragma("query_only", "ON"))
            .await?;
        sqlx::query(LEDGER).execute(&writer).await?;
        let journal = Journal::new(readers.clone());
        let meta = Self { readers, writer, turn: Arc::new(Semaphore::new(1)), journal };
        meta.migrate("journal", journal::MIGRATIONS).await?;
        meta.journal.catch_up().await?;
        Ok(meta)
    }

    /// Applies the steps of `room` that were not applied yet, each once, in order, all or none.
    ///
    /// [`StorageError::NewerData`] when more steps were applied than are known here, and
    /// [`StorageError::ChangedMigration`] when an applied one differs from the one known here.
    pub async fn migrate(&self, room: &'static str, steps: &[Migration]) -> Result<(), StorageError> {
        let mut tx = self.begin().await?;
        let applied = sqlx::query("SELECT name, digest FROM migrations WHERE room = $1 ORDER BY position")
            .bind(room)
            .fetch_all(tx.conn())
            .await?;
        if applied.len() > steps.len() {
            return Err(StorageError::NewerData { room: room.into(), found: applied.len(), known: steps.len() });
        }
        for (position, (row, step)) in applied.iter().zip(steps).enumerate() {
            let (name, digest): (String, String) = (row.try_get(0)?, row.try_get(1)?);
            if name != step.name || digest != Digest::of(step.sql.as_bytes()).to_string() {
                let expected = step.name.to_owned();
                return Err(StorageError::ChangedMigration { room: room.into(), position, found: name, expected });
            }
        }
        for (position, step) in steps.iter().enumerate().skip(applied.len()) {
            sqlx::raw_sql(step.sql).execute(tx.conn()).await?;
            sqlx::query("INSERT INTO migrations (room, position, name, digest) VALUES ($1, $2, $3, $4)")
                .bind(room)
                .bind(i64::try_from(position).unwrap_or(i64::MAX))
                .bind(step.name)
                .bind(Digest::of(step.sql.as_bytes()).to_string())
                .execute(tx.conn())
                .await?;
        }
        tx.commit().await
    }

    /// Connections that see what is committed and cannot write.
    #[must_use]
    pub const fn reader(&self) -> &SqlitePool {
        &self.readers
    }

    /// Waits for the turn to write and opens a transaction that holds it.
    pub async fn begin(&self) -> Result<Tx, StorageError> {
        let turn = self.turn.clone().acquire_owned().await.map_err(|_| StorageError::WorkerGone("database"))?;
        let inner = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        Ok(Tx { inner, appended: None, journal: self.journal.clone(), _turn: turn })
    }

    #[must_use]
    pub const fn journal(&self) -> &Journal {
        &self.journal
    }
}

/// A write transaction: nothing of it is seen until `commit`, and dropping it undoes it all.
///
/// It holds the only turn to write, so hold it briefly and never across waiting for another writer.
#[derive(Debug)]
pub struct Tx {
    inner: Transaction<'static, Sqlite>,
    appended: Option<u64>,
    journal: Journal,
    /// Dropped after `inner`, so that the next writer queues behind the rollback.
    _turn: OwnedSemaphorePermit,
}

impl Tx {
    /// The connection, for statements of this transaction.
    pub fn conn(&mut self) -> &mut SqliteConnection {
        &mut self.inner
    }

    /// Appends an event to the journal and gives its number, which stands once this transaction commits.
    pub async fn append(&mut self, event: NewEvent) -> Result<u64, StorageError> {
        let seq = journal::append(&mut self.inner, &event).await?;
        self.appended = Some(seq);
        Ok(seq)
    }

    /// Makes everything durable and visible, then tells those who watch the journal.
    ///
    /// [`StorageError::Unknown`]: it may have happened; read the state to learn whether.
    pub async fn commit(self) -> Result<(), StorageError> {
        let Self { inner, appended, journal, _turn } = self;
        match inner.commit().await {
            Ok(()) => {
                if let Some(seq) = appended {
                    journal.announce(seq);
                }
                Ok(())
            }
            // SQLite refused the content (a deferred constraint); nothing was written.
            Err(sqlx::Error::Database(e)) if e.kind() != sqlx::error::ErrorKind::Other => {
                Err(StorageError::Database(sqlx::Error::Database(e)))
            }
            Err(e) => Err(StorageError::Unknown { doing: "commit", reason: e.to_string() }),
        }
    }
}
