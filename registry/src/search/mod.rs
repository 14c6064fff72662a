//! Searching: MLflow's filter grammar and orders over any of the registry's listings, page by page.

use storage::sql::Conn;

use crate::{RegistryError, query::{Page, Statement}};

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
pub(crate) async fn page(
    _conn: &mut Conn,
    _kind: Kind,
    _scope: impl FnOnce(&mut Statement),
    _search: &Search,
) -> Result<Page<Vec<String>>, RegistryError> {
    Err(RegistryError::invalid("search", "is not built yet", "wait"))
}
