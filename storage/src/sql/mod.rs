//! The database behind [`crate::Meta`]: SQLite or Postgres, chosen when it is opened.
//!
//! Rooms write a statement once, with `$n` places, and use the names of this module and no others, so that which
//! database it is stays the business of this crate. Below them stands a driver for the SQL library that passes
//! every call on to the chosen database's own driver and adds what makes the two behave alike:
//!
//! - An absent value carries its type, whole numbers travel as `BIGINT`, truth values as 0 and 1.
//! - Text with a NUL character is refused before it is sent (Postgres cannot store it), and "not a number" is stored
//!   as NULL (SQLite cannot store it). NULL is never read as 0 or as an empty text.
//! - A transaction in which a statement failed cannot be committed on Postgres; committing one is an error.
//!
//! The library's own `Any` driver is not used because it breaks on absent numbers: Postgres plans a statement for the
//! types of its first use, and `Any` announces an absent `f64` as four bytes wide, so the next present one is refused.
//! It also copies every row once more.

mod conn;
mod dialect;
mod foreign;
mod row;
mod value;

pub use conn::{Conn, Options, Transactions};
pub(crate) use dialect::for_postgres;
pub use foreign::open_foreign;
pub use row::{Column, Done, Row, Statement};
pub use value::{Arguments, TypeInfo, Value, ValueRef};

/// Which database it is, for the rare statement that both cannot be told in the same words: see
/// [`Conn::dialect`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    Sqlite,
    Postgres,
}

/// Connections that read.
pub type Pool = sqlx::Pool<Db>;

/// The driver.
#[derive(Debug)]
pub struct Db;

impl sqlx::Database for Db {
    type Connection = Conn;
    type TransactionManager = Transactions;
    type Row = Row;
    type QueryResult = Done;
    type Column = Column;
    type TypeInfo = TypeInfo;
    type Value = Value;
    type ValueRef<'r> = ValueRef<'r>;
    type Arguments = Arguments;
    type ArgumentBuffer = Vec<value::Argument>;
    type Statement = Statement;
    const NAME: &'static str = "SQLite or Postgres";
    const URL_SCHEMES: &'static [&'static str] = &["postgres", "postgresql"];
}

/// The same thing of the one or the other database.
#[derive(Debug, Clone)]
pub(crate) enum Of<S, P> {
    Sqlite(S),
    Postgres(P),
}
