//! Connections: how they are opened, how they run statements and keep transactions.

use std::{fmt, future, io, str::FromStr, time::Duration};

use futures::{
    FutureExt as _, StreamExt as _, TryFutureExt as _, TryStreamExt as _,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use log::LevelFilter;
use sqlx::{
    ConnectOptions, Connection, Database, Either, Error, Execute, Executor, PgConnection, Postgres, SqlStr, Sqlite,
    SqliteConnection, Transaction, error::BoxDynError, postgres::PgConnectOptions, sqlite::SqliteConnectOptions,
};
use sqlx_core::{Url, transaction::TransactionManager};

use super::{Arguments, Db, Done, Of, Row, Statement, TypeInfo};

/// How long a database server may take to let a connection in.
const CONNECT_WITHIN: Duration = Duration::from_secs(3);

/// What may stand behind the `?` of a database's address. Anything else is refused: the SQL library would log it
/// with its value, and a misspelt password is still a password.
const PARAMETERS: [&str; 16] = [
    "sslmode",
    "ssl-mode",
    "sslrootcert",
    "ssl-root-cert",
    "ssl-ca",
    "sslcert",
    "ssl-cert",
    "sslkey",
    "ssl-key",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
];

/// Which database, and how to open it.
#[derive(Clone)]
pub struct Options(Of<SqliteConnectOptions, PgConnectOptions>);

impl Options {
    pub(crate) const fn sqlite(options: SqliteConnectOptions) -> Self {
        Self(Of::Sqlite(options))
    }

    /// Opened with these session settings.
    pub(crate) fn with(self, settings: &[(&str, &str)]) -> Self {
        match self.0 {
            Of::Postgres(options) => Self(Of::Postgres(options.options(settings.iter().copied()))),
            Of::Sqlite(_) => self,
        }
    }
}

/// Without what is in it: it may hold a password.
impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Of::Sqlite(_) => "Options(SQLite)",
            Of::Postgres(_) => "Options(Postgres)",
        })
    }
}

impl FromStr for Options {
    type Err = Error;

    fn from_str(url: &str) -> Result<Self, Error> {
        // The parser's messages do not repeat the text.
        Self::from_url(&url.parse().map_err(|e| Error::Configuration(format!("it is not a URL: {e}").into()))?)
    }
}

impl ConnectOptions for Options {
    type Connection = Conn;

    fn from_url(url: &Url) -> Result<Self, Error> {
        let unfit = |reason: String| Err(Error::Configuration(reason.into()));
        if !Db::URL_SCHEMES.contains(&url.scheme()) {
            return unfit("expected `postgres://user:password@host/database`".into());
        }
        let known = |key: &str| PARAMETERS.contains(&key) || key.starts_with("options");
        if let Some((key, _)) = url.query_pairs().find(|(key, _)| !known(key)) {
            return unfit(format!("it has an unknown parameter `{key}`"));
        }
        let options = PgConnectOptions::from_url(url)?;
        let named = options.get_application_name().is_some();
        Ok(Self(Of::Postgres(if named { options } else { options.application_name("millpond") })))
    }

    async fn connect(&self) -> Result<Conn, Error> {
        let inner = match &self.0 {
            Of::Sqlite(options) => Of::Sqlite(options.connect().await?),
            Of::Postgres(options) => match tokio::time::timeout(CONNECT_WITHIN, options.connect()).await {
                Ok(connected) => Of::Postgres(connected.map_err(away)?),
                Err(_) => return Err(io::Error::new(io::ErrorKind::TimedOut, "the database did not answer").into()),
            },
        };
        Ok(Conn { inner, broken: false })
    }

    fn log_statements(self, level: LevelFilter) -> Self {
        Self(match self.0 {
            Of::Sqlite(options) => Of::Sqlite(options.log_statements(level)),
            Of::Postgres(options) => Of::Postgres(options.log_statements(level)),
        })
    }

    fn log_slow_statements(self, level: LevelFilter, longer_than: Duration) -> Self {
        Self(match self.0 {
            Of::Sqlite(options) => Of::Sqlite(options.log_slow_statements(level, longer_than)),
            Of::Postgres(options) => Of::Postgres(options.log_slow_statements(level, longer_than)),
        })
    }
}

/// A database that is down is said to be so at once. Left alone, the pool would try again until its time-out and then
/// report that all connections are taken.
fn away(error: Error) -> Error {
    match error {
        Error::Io(e) if e.kind() == io::ErrorKind::ConnectionRefused => {
            Error::Io(io::Error::new(io::ErrorKind::NotConnected, e))
        }
        Error::Database(e) if e.is_transient_in_connect_phase() => {
            Error::Io(io::Error::new(io::ErrorKind::NotConnected, e.message().to_owned()))
        }
        other => other,
    }
}

/// One connection, inside a transaction or not.
#[derive(Debug)]
pub struct Conn {
    inner: Of<SqliteConnection, PgConnection>,
    /// A statement of the open transaction failed on Postgres, which from then on only takes a rollback, and answers
    /// a commit by one without saying so.
    broken: bool,
}

impl Conn {
    /// Which database it is, for the rare statement that both cannot be told in the same words.
    #[must_use]
    pub const fn dialect(&self) -> super::Dialect {
        match self.inner {
            Of::Sqlite(_) => super::Dialect::Sqlite,
            Of::Postgres(_) => super::Dialect::Postgres,
        }
    }

    /// Whether the open transaction can only be undone.
    pub(crate) const fn is_broken(&self) -> bool {
        self.broken
    }
}

impl Connection for Conn {
    type Database = Db;
    type Options = Options;

    async fn close(self) -> Result<(), Error> {
        match self.inner {
            Of::Sqlite(conn) => conn.close().await,
            Of::Postgres(conn) => conn.close().await,
        }
    }

    async fn close_hard(self) -> Result<(), Error> {
        match self.inner {
            Of::Sqlite(conn) => conn.close_hard().await,
            Of::Postgres(conn) => conn.close_hard().await,
        }
    }

    async fn ping(&mut self) -> Result<(), Error> {
        match &mut self.inner {
            Of::Sqlite(conn) => conn.ping().await,
            Of::Postgres(conn) => conn.ping().await,
        }
    }

    fn begin(&mut self) -> impl Future<Output = Result<Transaction<'_, Db>, Error>> + Send + '_ {
        future::ready(Err(Error::Configuration("transactions begin with `Meta::begin`".into())))
    }

    fn shrink_buffers(&mut self) {
        match &mut self.inner {
            Of::Sqlite(conn) => conn.shrink_buffers(),
            Of::Postgres(conn) => conn.shrink_buffers(),
        }
    }

    async fn flush(&mut self) -> Result<(), Error> {
        match &mut self.inner {
            Of::Sqlite(conn) => conn.flush().await,
            Of::Postgres(conn) => conn.flush().await,
        }
    }

    fn should_flush(&self) -> bool {
        match &self.inner {
            Of::Sqlite(conn) => conn.should_flush(),
            Of::Postgres(conn) => conn.should_flush(),
        }
    }
}

type SqliteTurn = <Sqlite as Database>::TransactionManager;
type PostgresTurn = <Postgres as Database>::TransactionManager;

/// Begins and ends transactions.
#[derive(Debug)]
pub struct Transactions;

impl TransactionManager for Transactions {
    type Database = Db;

    async fn begin(conn: &mut Conn, statement: Option<SqlStr>) -> Result<(), Error> {
        conn.broken = false;
        match &mut conn.inner {
            Of::Sqlite(conn) => SqliteTurn::begin(conn, statement).await,
            Of::Postgres(conn) => PostgresTurn::begin(conn, statement).await,
        }
    }

    async fn commit(conn: &mut Conn) -> Result<(), Error> {
        match &mut conn.inner {
            Of::Sqlite(conn) => SqliteTurn::commit(conn).await,
            Of::Postgres(conn) => PostgresTurn::commit(conn).await,
        }
    }

    async fn rollback(conn: &mut Conn) -> Result<(), Error> {
        match &mut conn.inner {
            Of::Sqlite(conn) => SqliteTurn::rollback(conn).await,
            Of::Postgres(conn) => PostgresTurn::rollback(conn).await,
        }
    }

    fn start_rollback(conn: &mut Conn) {
        match &mut conn.inner {
            Of::Sqlite(conn) => SqliteTurn::start_rollback(conn),
            Of::Postgres(conn) => PostgresTurn::start_rollback(conn),
        }
    }

    fn get_transaction_depth(conn: &Conn) -> usize {
        match &conn.inner {
            Of::Sqlite(conn) => SqliteTurn::get_transaction_depth(conn),
            Of::Postgres(conn) => PostgresTurn::get_transaction_depth(conn),
        }
    }
}

/// A statement for one database's own driver.
struct Native<DB: Database> {
    sql: SqlStr,
    arguments: Option<DB::Arguments>,
    persistent: bool,
}

impl<DB: Database> Execute<'_, DB> for Native<DB> {
    fn sql(self) -> SqlStr {
        self.sql
    }

    fn statement(&self) -> Option<&DB::Statement> {
        None
    }

    fn take_arguments(&mut self) -> Result<Option<DB::Arguments>, BoxDynError> {
        Ok(self.arguments.take())
    }

    fn persistent(&self) -> bool {
        self.persistent
    }
}

/// The statement in the one or the other driver's form.
fn native<'q, DB: Database>(
    mut query: impl Execute<'q, Db>,
    arguments: impl FnOnce(Arguments) -> Result<DB::Arguments, BoxDynError>,
) -> Result<Native<DB>, Error> {
    let taken = query.take_arguments().map_err(Error::Encode)?;
    let arguments = taken.map(arguments).transpose().map_err(Error::Encode)?;
    let persistent = query.persistent();
    Ok(Native { sql: query.sql(), arguments, persistent })
}

impl<'c> Executor<'c> for &'c mut Conn {
    type Database = Db;

    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, Result<Either<Done, Row>, Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Db>,
    {
        let Conn { inner, broken } = self;
        match inner {
            Of::Sqlite(conn) => match native::<Sqlite>(query, Arguments::native::<Sqlite>) {
                Ok(query) => conn
                    .fetch_many(query)
                    .map_ok(|step| {
                        step.map_left(|done| Done::new(done.rows_affected())).map_right(|row| Row(Of::Sqlite(row)))
                    })
                    .boxed(),
                Err(e) => stream::once(future::ready(Err(e))).boxed(),
            },
            Of::Postgres(conn) => match native::<Postgres>(query, Arguments::native::<Postgres>) {
                Ok(query) => conn
                    .fetch_many(query)
                    .map_ok(|step| {
                        step.map_left(|done| Done::new(done.rows_affected())).map_right(|row| Row(Of::Postgres(row)))
                    })
                    .inspect_err(|_| *broken = true)
                    .boxed(),
                Err(e) => stream::once(future::ready(Err(e))).boxed(),
            },
        }
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Option<Row>, Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Db>,
    {
        let Conn { inner, broken } = self;
        match inner {
            Of::Sqlite(conn) => match native::<Sqlite>(query, Arguments::native::<Sqlite>) {
                Ok(query) => conn.fetch_optional(query).map_ok(|row| row.map(|row| Row(Of::Sqlite(row)))).boxed(),
                Err(e) => future::ready(Err(e)).boxed(),
            },
            Of::Postgres(conn) => match native::<Postgres>(query, Arguments::native::<Postgres>) {
                Ok(query) => conn
                    .fetch_optional(query)
                    .map_ok(|row| row.map(|row| Row(Of::Postgres(row))))
                    .inspect_err(|_| *broken = true)
                    .boxed(),
                Err(e) => future::ready(Err(e)).boxed(),
            },
        }
    }

    fn prepare_with<'e>(self, _: SqlStr, _: &'e [TypeInfo]) -> BoxFuture<'e, Result<Statement, Error>>
    where
        'c: 'e,
    {
        future::ready(Err(Error::Configuration("statements are planned when they are first run".into()))).boxed()
    }
}
