//! Searching: MLflow's filter grammar and orders over any of the registry's listings, page by page.
//!
//! A filter is read into a tree ([`filter`]) whose names mean fields ([`fields`]); the tree and the orders become one
//! statement ([`sql`]). A page starts behind the last row of the one before, wherever that row would stand by now
//! ([`token`]), so rows that come and go elsewhere neither repeat nor hide others.

mod fault;
mod fields;
mod filter;
mod lex;
mod order;
mod sql;
#[cfg(test)]
mod tests;
mod token;

use sqlx::Row as _;
use storage::sql::{Conn, Row};

pub(crate) use order::{OnDataset, Order, of_logged_models};

use self::{
    sql::{Cell, Plan, Slot},
    token::Mark,
};
use crate::{
    RegistryError,
    query::{Page, Statement},
};

/// What is searched. The name of its table in SQL stands behind each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `r`; keys are `[id]`.
    Runs,
    /// `e`; keys are `[id]`.
    Experiments,
    /// `m`; keys are `[name]`.
    Models,
    /// `v`; keys are `[model, version]`.
    Versions,
    /// `l`; keys are `[id]`.
    LoggedModels,
}

/// What to find, in which order, and where to go on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Search {
    /// As MLflow's clients write it; empty finds all.
    pub filter: String,
    /// `key [ASC|DESC]` each; after these comes the order every listing has of its own.
    pub order_by: Vec<String>,
    /// Items of one page, at least 1.
    pub limit: usize,
    /// Of the page before; empty for the first.
    pub page_token: String,
}

/// The keys of one page. `scope` adds a condition on the searched table that holds besides the filter, such as
/// `r.deleted_at IS NULL`.
///
/// # Errors
/// A filter, order or token that is not one, saying where; a token of another query.
pub(crate) async fn page(
    conn: &mut Conn,
    kind: Kind,
    scope: impl FnOnce(&mut Statement),
    search: &Search,
) -> Result<Page<Vec<String>>, RegistryError> {
    let orders = order::parse(kind, &search.order_by)?;
    page_of(conn, Query { kind, search, orders, datasets: &[], also: "" }, scope).await
}

/// A search with its orders read.
pub(crate) struct Query<'a> {
    pub kind: Kind,
    /// Whose own `order_by` is not looked at.
    pub search: &'a Search,
    pub orders: Vec<Order>,
    /// Metrics of logged models count only if they were measured on one of these; empty: on any.
    pub datasets: &'a [OnDataset],
    /// What else tells this query's tokens from those of others.
    pub also: &'a str,
}

/// As [`page`], with orders and datasets that its texts cannot say.
pub(crate) async fn page_of(
    conn: &mut Conn,
    query: Query<'_>,
    scope: impl FnOnce(&mut Statement),
) -> Result<Page<Vec<String>>, RegistryError> {
    let Query { kind, search, orders, datasets, also } = query;
    let filter = filter::parse(kind, &search.filter)?;
    let orders = order::complete(kind, orders)?;
    let slots = sql::slots(&orders);
    let name = token::name_of(&[
        &format!("{kind:?}"),
        search.filter.trim(),
        &format!("{orders:?}"),
        &format!("{datasets:?}"),
        also,
    ]);
    let after = match search.page_token.as_str() {
        "" => None,
        token => Some(token::read(token, &name, &slots)?),
    };
    let limit = search.limit.max(1);
    let plan = Plan {
        dialect: conn.dialect(),
        kind,
        filter: filter.as_ref(),
        orders: &orders,
        slots: &slots,
        datasets,
        after: after.as_deref(),
        // One more tells whether there is a next page.
        limit: limit.saturating_add(1),
    };
    let mut rows = plan.statement(scope).query().fetch_all(conn).await?;
    let more = rows.len() > limit;
    rows.truncate(limit);
    let keys = sql::keys(kind);
    let next = match rows.last().filter(|_| more) {
        Some(last) => Some(token::write(&name, marks(last, keys.len(), &slots)?)),
        None => None,
    };
    let items = rows.iter().map(|row| read_keys(row, keys)).collect::<Result<_, _>>()?;
    Ok(Page { items, next })
}

fn read_keys(row: &Row, keys: &[(&str, Cell)]) -> Result<Vec<String>, RegistryError> {
    let read = |(i, (_, cell)): (usize, &(&str, Cell))| match cell {
        Cell::Int => Ok(row.try_get::<i64, _>(i)?.to_string()),
        _ => Ok(row.try_get(i)?),
    };
    keys.iter().enumerate().map(read).collect()
}

fn marks(row: &Row, first: usize, slots: &[Slot]) -> Result<Vec<Mark>, RegistryError> {
    let read = |(i, slot): (usize, &Slot)| {
        let i = first + i;
        let mark = match slot.cell {
            Cell::Text => row.try_get::<Option<_>, _>(i)?.map(Mark::Text),
            Cell::Int => row.try_get::<Option<_>, _>(i)?.map(Mark::Int),
            Cell::Float => row.try_get::<Option<_>, _>(i)?.map(Mark::Float),
        };
        Ok(mark.unwrap_or(Mark::Nothing))
    };
    slots.iter().enumerate().map(read).collect()
}
