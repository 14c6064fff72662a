//! SQL put together at run time: text with numbered places, and the values that stand in them.

use sqlx::{
    AssertSqlSafe,
    query::{Query, QueryAs},
};
use storage::sql::Db;

/// Keys that one statement names. SQLite takes each place's name from a list that it walks from the start, so the cost
/// grows with the square.
pub(crate) const KEYS_AT_ONCE: usize = 200;
/// Rows that one statement writes.
pub(crate) const ROWS_AT_ONCE: usize = 100;

/// A value of a statement.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Bind {
    Text(String),
    Int(i64),
    Float(f64),
    /// A float that is not there, as NaN is stored.
    NoFloat,
}

impl From<Option<f64>> for Bind {
    fn from(number: Option<f64>) -> Self {
        number.map_or(Self::NoFloat, Self::Float)
    }
}

impl From<&str> for Bind {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Bind {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<i64> for Bind {
    fn from(number: i64) -> Self {
        Self::Int(number)
    }
}

impl From<f64> for Bind {
    fn from(number: f64) -> Self {
        Self::Float(number)
    }
}

/// A statement in the making. What callers send goes through [`Statement::bind`], never through [`Statement::push`].
#[derive(Debug, Clone, Default)]
pub(crate) struct Statement {
    text: String,
    binds: Vec<Bind>,
}

impl Statement {
    pub(crate) fn new(text: &str) -> Self {
        Self { text: text.to_owned(), binds: Vec::new() }
    }

    /// Adds text of ours.
    pub(crate) fn push(&mut self, text: &str) -> &mut Self {
        self.text.push_str(text);
        self
    }

    /// Adds a place and the value that stands in it.
    pub(crate) fn bind(&mut self, value: impl Into<Bind>) -> &mut Self {
        self.binds.push(value.into());
        self.text.push('$');
        self.text.push_str(&self.binds.len().to_string());
        self
    }

    /// Adds places for all of them, separated by commas; `NULL`, which equals nothing, where there are none.
    pub(crate) fn bind_all<T: Into<Bind>>(&mut self, values: impl IntoIterator<Item = T>) -> &mut Self {
        let mut first = true;
        for value in values {
            if !std::mem::take(&mut first) {
                self.push(", ");
            }
            self.bind(value);
        }
        if first {
            self.push("NULL");
        }
        self
    }

    /// The text so far, for tests and logs; values are not in it.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The statement with its values, for rows of a tuple or of a type that reads itself from a row.
    pub(crate) fn query_as<T: for<'r> sqlx::FromRow<'r, storage::sql::Row>>(
        &self,
    ) -> QueryAs<'static, Db, T, <Db as sqlx::Database>::Arguments> {
        // The text is ours from end to end: see `push`.
        let query = sqlx::query_as(AssertSqlSafe(self.text.clone()));
        self.binds.iter().fold(query, |query, bind| match bind.clone() {
            Bind::Text(text) => query.bind(text),
            Bind::Int(number) => query.bind(number),
            Bind::Float(number) => query.bind(number),
            Bind::NoFloat => query.bind(None::<f64>),
        })
    }

    /// The statement with its values.
    pub(crate) fn query(&self) -> Query<'static, Db, <Db as sqlx::Database>::Arguments> {
        let query = sqlx::query(AssertSqlSafe(self.text.clone()));
        self.binds.iter().fold(query, |query, bind| match bind.clone() {
            Bind::Text(text) => query.bind(text),
            Bind::Int(number) => query.bind(number),
            Bind::Float(number) => query.bind(number),
            Bind::NoFloat => query.bind(None::<f64>),
        })
    }
}

/// One page of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    pub items: Vec<T>,
    /// Ask with this for the next page; `None` on the last one.
    pub next: Option<String>,
}
