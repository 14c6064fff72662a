//! Rows, and what a statement that gives none has done.

use sqlx::{
    ColumnIndex, Decode, Error, Row as _, Type,
    postgres::PgRow,
    query::{Query, QueryAs, QueryScalar},
    sqlite::SqliteRow,
};

use super::{Arguments, Db, Of, TypeInfo, ValueRef};

/// A row that was read.
#[derive(Debug)]
pub struct Row(pub(super) Of<SqliteRow, PgRow>);

impl sqlx::Row for Row {
    type Database = Db;

    fn len(&self) -> usize {
        match &self.0 {
            Of::Sqlite(row) => row.len(),
            Of::Postgres(row) => row.len(),
        }
    }

    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// None: columns are asked for by name or position and never listed.
    fn columns(&self) -> &[Column] {
        &[]
    }

    fn try_column<I: ColumnIndex<Self>>(&self, index: I) -> Result<&Column, Error> {
        Err(Error::ColumnNotFound(format!("{index:?}")))
    }

    /// The value's own reader checks its type.
    fn try_get<'r, T, I>(&'r self, index: I) -> Result<T, Error>
    where
        I: ColumnIndex<Self>,
        T: Decode<'r, Db> + Type<Db>,
    {
        self.try_get_unchecked(index)
    }

    fn try_get_raw<I: ColumnIndex<Self>>(&self, index: I) -> Result<ValueRef<'_>, Error> {
        let index = index.index(self)?;
        Ok(ValueRef(match &self.0 {
            Of::Sqlite(row) => Of::Sqlite(row.try_get_raw(index)?),
            Of::Postgres(row) => Of::Postgres(row.try_get_raw(index)?),
        }))
    }
}

impl ColumnIndex<Row> for usize {
    fn index(&self, row: &Row) -> Result<usize, Error> {
        let len = row.len();
        if *self < len { Ok(*self) } else { Err(Error::ColumnIndexOutOfBounds { index: *self, len }) }
    }
}

impl ColumnIndex<Row> for &'_ str {
    fn index(&self, row: &Row) -> Result<usize, Error> {
        match &row.0 {
            Of::Sqlite(row) => self.index(row),
            Of::Postgres(row) => self.index(row),
        }
    }
}

/// A listed column; there are none.
#[derive(Debug)]
pub enum Column {}

impl sqlx::Column for Column {
    type Database = Db;

    fn ordinal(&self) -> usize {
        match *self {}
    }

    fn name(&self) -> &str {
        match *self {}
    }

    fn type_info(&self) -> &TypeInfo {
        match *self {}
    }
}

/// What a statement did.
#[derive(Debug, Clone, Copy, Default)]
pub struct Done {
    rows: u64,
}

impl Done {
    pub(super) const fn new(rows: u64) -> Self {
        Self { rows }
    }

    /// Rows that were inserted, updated or deleted.
    #[must_use]
    pub const fn rows_affected(&self) -> u64 {
        self.rows
    }
}

impl Extend<Self> for Done {
    fn extend<T: IntoIterator<Item = Self>>(&mut self, more: T) {
        self.rows += more.into_iter().map(|done| done.rows).sum::<u64>();
    }
}

/// A statement held by hand; there are none, since connections keep the statements they have planned.
#[derive(Debug, Clone)]
pub enum Statement {}

impl sqlx::Statement for Statement {
    type Database = Db;

    fn into_sql(self) -> sqlx::SqlStr {
        match self {}
    }

    fn sql(&self) -> &sqlx::SqlStr {
        match *self {}
    }

    fn parameters(&self) -> Option<sqlx::Either<&[TypeInfo], usize>> {
        match *self {}
    }

    fn columns(&self) -> &[Column] {
        match *self {}
    }

    fn query(&self) -> Query<'_, Db, Arguments> {
        match *self {}
    }

    fn query_with<A: sqlx::IntoArguments<Db>>(&self, _: A) -> Query<'_, Db, A> {
        match *self {}
    }

    fn query_as<O: for<'r> sqlx::FromRow<'r, Row>>(&self) -> QueryAs<'_, Db, O, Arguments> {
        match *self {}
    }

    fn query_as_with<'s, O, A>(&'s self, _: A) -> QueryAs<'s, Db, O, A>
    where
        O: for<'r> sqlx::FromRow<'r, Row>,
        A: sqlx::IntoArguments<Db>,
    {
        match *self {}
    }

    fn query_scalar<O>(&self) -> QueryScalar<'_, Db, O, Arguments>
    where
        (O,): for<'r> sqlx::FromRow<'r, Row>,
    {
        match *self {}
    }

    fn query_scalar_with<'s, O, A>(&'s self, _: A) -> QueryScalar<'s, Db, O, A>
    where
        (O,): for<'r> sqlx::FromRow<'r, Row>,
        A: sqlx::IntoArguments<Db>,
    {
        match *self {}
    }
}
