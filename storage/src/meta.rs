//! Relational state: one database, one writer at a time, many readers.

use std::{borrow::Cow, path::Path, sync::Arc, time::Duration};

use domain::{Digest, NewEvent};
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, Row as _, Transaction,
    pool::PoolOptions,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{
    Journal, StorageError, disk, journal,
    sql::{self, Conn, Db, Options, Pool},
};

/// Connections that read a SQLite file.
const READERS: u32 = 4;
/// Pages that one connection to a file keeps in memory, in KiB as the pragma wants it: negative.
const CACHE_KIB: &str = "-16384";
/// Rows that wait between the thread that reads a file and the one that asked, so that they seldom wait for each other.
const ROWS_WAITING: usize = 1_024;
/// How long a statement waits for another process (a backup, a shell) to let go of the file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a read waits for a free connection to the file.
const READER_TIMEOUT: Duration = Duration::from_secs(30);

/// Connections that read from Postgres; more than for a file, since each waits for the network.
const REMOTE_READERS: u32 = 12;
/// How long a statement waits for a free connection to Postgres. Longer than it may take to connect.
const REMOTE_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection that lay idle this long is tried before it is used.
const TRIED_AFTER: Duration = Duration::from_secs(1);
/// How often the journal is asked for what other servers appended.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// What a session of Postgres is told. A statement ends after 30 seconds, the wait for the turn to write included. A
/// server that stops in the middle of a transaction (its machine froze, its network is gone) loses it after 20, so
/// that the others can write.
const SESSION: [(&str, &str); 5] = [
    ("statement_timeout", "30s"),
    ("idle_in_transaction_session_timeout", "20s"),
    ("tcp_keepalives_idle", "10"),
    ("tcp_keepalives_interval", "5"),
    ("tcp_keepalives_count", "3"),
];

const LEDGER: &str = "CREATE TABLE IF NOT EXISTS migrations (
    room TEXT NOT NULL,
    position INTEGER NOT NULL,
    name TEXT NOT NULL,
    digest TEXT NOT NULL,
    PRIMARY KEY (room, position)
)";

/// Whatever the database's default is: each statement has to see what was committed when the lock was granted, not
/// what was there when it was asked for.
const BEGIN_SHARED: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE";

const IDENTITY: &[Migration] = &[Migration { name: "identity", sql: "CREATE TABLE identity (id TEXT NOT NULL)" }];

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
    readers: Pool,
    writer: Pool,
    /// The turn to write in this process, handed on in the order asked for.
    turn: Arc<Semaphore>,
    /// The turn to write among all servers of one Postgres: the number of its lock. A file has one server.
    shared: Option<i64>,
    journal: Journal,
}

impl Meta {
    /// Opens or creates the SQLite file and its journal.
    pub async fn open(path: &Path) -> Result<Self, StorageError> {
        if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
            disk::create_dir(parent).map_err(StorageError::io(format!("create {}", parent.display())))?;
        }
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .pragma("cache_size", CACHE_KIB)
            .row_buffer_size(ROWS_WAITING)
            .busy_timeout(BUSY_TIMEOUT);
        let pool = |connections| {
            PoolOptions::<Db>::new()
                .max_connections(connections)
                .acquire_timeout(READER_TIMEOUT)
                .test_before_acquire(false)
                .max_lifetime(None)
                .idle_timeout(None)
        };
        let writer = options.clone().journal_mode(SqliteJournalMode::Wal);
        let writer = pool(1).connect_with(Options::sqlite(writer)).await?;
        // A write that strays here is an error instead of a second writer.
        let readers = pool(READERS).connect_with(Options::sqlite(options.pragma("query_only", "ON"))).await?;
        Self::start(readers, writer, None).await
    }

    /// Opens the Postgres database at `url` (`postgres://user:password@host/database`) and its journal.
    ///
    /// Several servers may open one database: they take turns to write. What goes wrong never repeats the URL, which
    /// may hold a password.
    pub async fn connect(url: &str) -> Result<Self, StorageError> {
        Self::connect_in(url, None).await
    }

    /// As [`Meta::connect`], with everything in the schema of that name, which is created when it is absent: lower-case
    /// letters, digits, `_` and `$`. Schemas of one database know nothing of each other.
    pub async fn connect_in(url: &str, schema: Option<&str>) -> Result<Self, StorageError> {
        let options: Options = url.parse().map_err(StorageError::bad_url)?;
        let mut options = options.with(&SESSION);
        if let Some(schema) = schema {
            create_schema(&options, schema).await?;
            options = options.with(&[("search_path", schema)]);
        }
        let pool = |connections| {
            PoolOptions::<Db>::new()
                .max_connections(connections)
                .acquire_timeout(REMOTE_TIMEOUT)
                .test_before_acquire(false)
                // A connection that died while nobody looked is replaced before a request meets it.
                .before_acquire(|conn: &mut Conn, about| {
                    Box::pin(async move {
                        if about.idle_for > TRIED_AFTER {
                            conn.ping().await?;
                        }
                        Ok(true)
                    })
                })
        };
        let writer = pool(1).connect_with(options.clone()).await?;
        let readers = options.with(&[("default_transaction_read_only", "on")]);
        let readers = pool(REMOTE_READERS).connect_with(readers).await?;
        let schema: Option<String> =
            sqlx::query_scalar("SELECT CAST(current_schema() AS TEXT)").fetch_one(&writer).await?;
        let schema = schema.ok_or(StorageError::NoSchema)?;
        // The database itself is part of every lock's name.
        let lock = Digest::of_parts([b"millpond".as_slice(), schema.as_bytes()]);
        let lock = lock.as_bytes().first_chunk().map_or(0, |head| i64::from_le_bytes(*head));
        Self::start(readers, writer, Some(lock)).await
    }

    async fn start(readers: Pool, writer: Pool, shared: Option<i64>) -> Result<Self, StorageError> {
        let journal = Journal::new(readers.clone());
        let meta = Self { readers, writer, turn: Arc::new(Semaphore::new(1)), shared, journal };
        let mut tx = meta.begin().await?;
        tx.apply(LEDGER).await?;
        tx.commit().await?;
        meta.migrate("journal", journal::MIGRATIONS).await?;
        meta.journal.catch_up().await?;
        Ok(meta)
    }

    /// Whether other servers may write to the same database.
    #[must_use]
    pub const fn is_shared(&self) -> bool {
        self.shared.is_some()
    }

    /// Tells those who watch the journal of events that other servers append, within a quarter of a second. Never
    /// ends; a database of one server needs it not.
    ///
    /// It asks for the newest number instead of listening for a notification: a listener loses what was said while its
    /// connection was broken, so it would have to ask all the same, and poolers do not let it listen.
    pub async fn follow(&self) {
        let mut reached = true;
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            match self.journal.catch_up().await {
                Ok(()) => reached = true,
                Err(e) if reached => {
                    tracing::warn!(error = %e, "the journal cannot be read; events of other servers come later");
                    reached = false;
                }
                Err(_) => {}
            }
        }
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
        if self.is_shared() && applied.len() < steps.len() {
            // A step may rewrite a large table.
            sqlx::raw_sql("SET LOCAL statement_timeout = 0").execute(tx.conn()).await?;
        }
        for (position, step) in steps.iter().enumerate().skip(applied.len()) {
            tx.apply(step.sql).await?;
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
    pub const fn reader(&self) -> &Pool {
        &self.readers
    }

    /// What this database is called, given at random when it is first asked for: a copy keeps it, another has another.
    pub async fn identity(&self) -> Result<String, StorageError> {
        self.migrate("identity", IDENTITY).await?;
        let mut tx = self.begin().await?;
        let known: Option<String> = sqlx::query_scalar("SELECT id FROM identity").fetch_optional(tx.conn()).await?;
        if let Some(id) = known {
            return Ok(id);
        }
        let id = uuid::Uuid::new_v4().simple().to_string();
        sqlx::query("INSERT INTO identity (id) VALUES ($1)").bind(&id).execute(tx.conn()).await?;
        tx.commit().await?;
        Ok(id)
    }

    /// Whether the database answers a question within `limit`.
    pub async fn answers(&self, limit: Duration) -> bool {
        let asked = sqlx::query_scalar::<_, i64>("SELECT CAST(1 AS BIGINT)").fetch_one(&self.readers);
        tokio::time::timeout(limit, asked).await.is_ok_and(|answer| answer.is_ok())
    }

    /// Waits for the turn to write, among all servers of the database, and opens a transaction that holds it.
    pub async fn begin(&self) -> Result<Tx, StorageError> {
        let turn = self.turn.clone().acquire_owned().await.map_err(|_| StorageError::WorkerGone("database"))?;
        let mut inner = self.writer.begin_with(if self.is_shared() { BEGIN_SHARED } else { "BEGIN IMMEDIATE" }).await?;
        if let Some(lock) = self.shared {
            sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(lock).execute(&mut *inner).await?;
        }
        Ok(Tx { inner, shared: self.is_shared(), appended: None, journal: self.journal.clone(), _turn: turn })
    }

    #[must_use]
    pub const fn journal(&self) -> &Journal {
        &self.journal
    }
}

/// Makes a schema unless it is there.
async fn create_schema(options: &Options, schema: &str) -> Result<(), StorageError> {
    let lawful = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'$');
    if !(1..=63).contains(&schema.len()) || !schema.bytes().all(lawful) {
        return Err(StorageError::BadSchema(schema.to_owned()));
    }
    let mut conn = options.connect().await?;
    let there = "SELECT COUNT(*) FROM information_schema.schemata WHERE schema_name = $1";
    let there: i64 = sqlx::query_scalar(there).bind(schema).fetch_one(&mut conn).await?;
    if there == 0 {
        // Checked above to be a plain word.
        let create = AssertSqlSafe(format!("CREATE SCHEMA IF NOT EXISTS {schema}"));
        match sqlx::raw_sql(create).execute(&mut conn).await {
            // Another server made it at the same moment.
            Err(sqlx::Error::Database(e)) if e.is_unique_violation() => {}
            done => drop(done?),
        }
    }
    Ok(conn.close().await?)
}

/// A write transaction: nothing of it is seen until `commit`, and dropping it undoes it all.
///
/// It holds the only turn to write, so hold it briefly and never across waiting for another writer.
#[derive(Debug)]
pub struct Tx {
    inner: Transaction<'static, Db>,
    shared: bool,
    appended: Option<u64>,
    journal: Journal,
    /// Dropped after `inner`, so that the next writer queues behind the rollback.
    _turn: OwnedSemaphorePermit,
}

impl Tx {
    /// The connection, for statements of this transaction.
    pub fn conn(&mut self) -> &mut Conn {
        &mut self.inner
    }

    /// Runs the statements of a schema.
    async fn apply(&mut self, schema: &'static str) -> Result<(), StorageError> {
        // The text is the program's own in either wording.
        let schema = if self.shared { Cow::Owned(sql::for_postgres(schema)) } else { Cow::Borrowed(schema) };
        sqlx::raw_sql(AssertSqlSafe(schema)).execute(self.conn()).await?;
        Ok(())
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
        let Self { inner, shared: _, appended, journal, _turn } = self;
        if inner.is_broken() {
            inner.rollback().await?;
            return Err(StorageError::Undone);
        }
        match inner.commit().await {
            Ok(()) => {
                if let Some(seq) = appended {
                    journal.announce(seq);
                }
                Ok(())
            }
            // The database refused the content (a deferred constraint); nothing was written.
            Err(sqlx::Error::Database(e)) if e.kind() != sqlx::error::ErrorKind::Other => {
                Err(StorageError::Database(sqlx::Error::Database(e)))
            }
            Err(e) => Err(StorageError::Unknown { doing: "commit", reason: e.to_string() }),
        }
    }
}
