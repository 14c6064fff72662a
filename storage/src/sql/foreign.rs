//! Databases of other programs, opened to be read.

use std::time::Duration;

use sqlx::{pool::PoolOptions, sqlite::SqliteConnectOptions};

use super::{Db, Options, Pool};
use crate::StorageError;

/// How long the database may take to let a connection in.
const WITHIN: Duration = Duration::from_secs(10);

/// Opens the database of another program. Nothing can be written to it, and it is not looked into.
///
/// `address` is as SQLAlchemy writes it: `sqlite:///relative.db`, `sqlite:////absolute.db`, or
/// `postgresql://user:password@host/database`, where a driver's name may follow the first word.
///
/// [`StorageError::BadUrl`], which never repeats the address, or a database that does not answer.
pub async fn open_foreign(address: &str) -> Result<Pool, StorageError> {
    let (scheme, rest) = address
        .split_once("://")
        .ok_or_else(|| StorageError::BadUrl("expected `sqlite:///file.db` or `postgresql://host/database`".into()))?;
    let options = match scheme.split('+').next().unwrap_or_default() {
        "sqlite" => {
            let path = rest.strip_prefix('/').unwrap_or(rest);
            Options::sqlite(SqliteConnectOptions::new().filename(path).read_only(true).create_if_missing(false))
        }
        "postgres" | "postgresql" => {
            let options: Options = format!("postgresql://{rest}").parse().map_err(StorageError::bad_url)?;
            options.with(&[("default_transaction_read_only", "on")])
        }
        other => return Err(StorageError::BadUrl(format!("`{other}` is neither sqlite nor postgresql"))),
    };
    Ok(PoolOptions::<Db>::new().max_connections(2).acquire_timeout(WITHIN).connect_with(options).await?)
}
