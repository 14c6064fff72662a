//! Whose files they are: the run or logged model whose root a path lies under.

use storage::sql::Conn;

use super::{ArtifactPath, range_below};
use crate::{RegistryError, experiment::ARTIFACTS, query::Statement};

/// Files of registered versions. The registry writes them itself, once.
const VERSIONS: &str = "versions";
/// The last name of every root: `<experiment>/<run>/artifacts`, `<experiment>/models/<model>/artifacts`.
const ROOT_NAME: &str = "artifacts";
const OWNER: &str = "run or logged model";

/// Id, artifact location, and whether it is deleted.
type Row = (String, String, Option<i64>);

/// Refuses to write a file where nothing may be written: below `versions/`, below the root of what is deleted, which has
/// to come back as it was when it is restored, and in the place of a root or of what leads to one.
pub(super) async fn writable(conn: &mut Conn, path: &ArtifactPath) -> Result<(), RegistryError> {
    let own_root = match kept(conn, path).await? {
        Some(root) => root == path.as_str(),
        None => root_below(conn, path, false).await?.is_some(),
    };
    if own_root {
        let hint = "choose a path below it";
        return Err(RegistryError::invalid(format!("artifact `{path}`"), "is a directory", hint));
    }
    Ok(())
}

/// Refuses to delete where [`writable`] refuses, and what has the root of something deleted below it. A root may be
/// deleted.
pub(super) async fn erasable(conn: &mut Conn, path: &ArtifactPath) -> Result<(), RegistryError> {
    if kept(conn, path).await?.is_none()
        && let Some(name) = root_below(conn, path, true).await?
    {
        return Err(RegistryError::Deleted { what: OWNER, name });
    }
    Ok(())
}

/// The root that the path lies under, or is; `None` where it belongs to nobody. An error where everything is kept.
async fn kept(conn: &mut Conn, path: &ArtifactPath) -> Result<Option<String>, RegistryError> {
    if path.as_str().split('/').next() == Some(VERSIONS) {
        let hint = "register another version instead";
        return Err(RegistryError::invalid(format!("artifact `{path}`"), "belongs to a registered version", hint));
    }
    let names: Vec<&str> = path.as_str().split('/').collect();
    let candidates = || names.windows(2).filter(|pair| pair[1] == ROOT_NAME).map(|pair| pair[0]);
    if candidates().next().is_none() {
        return Ok(None);
    }
    let mut rows = Statement::new("SELECT id, artifact_uri, deleted_at FROM registry_runs WHERE id IN (");
    rows.bind_all(candidates())
        .push(") UNION ALL SELECT id, artifact_uri, deleted_at FROM registry_logged_models WHERE id IN (");
    rows.bind_all(candidates()).push(")");
    let rows: Vec<Row> = rows.query_as().fetch_all(conn).await?;
    for (name, uri, deleted_at) in rows {
        let Some(root) = root(&uri) else { continue };
        if path.parents().chain([path.as_str()]).any(|parent| parent == root) {
            return match deleted_at {
                None => Ok(Some(root.to_owned())),
                Some(_) => Err(RegistryError::Deleted { what: OWNER, name }),
            };
        }
    }
    Ok(None)
}

/// The id of one whose root lies below a path that belongs to nobody.
async fn root_below(conn: &mut Conn, path: &ArtifactPath, deleted: bool) -> Result<Option<String>, RegistryError> {
    let (from, to) = range_below(&format!("{ARTIFACTS}{path}"));
    let mut rows = Statement::default();
    for table in ["registry_runs", "registry_logged_models"] {
        if !rows.text().is_empty() {
            rows.push(" UNION ALL ");
        }
        rows.push("SELECT id FROM ").push(table).push(" WHERE artifact_uri > ").bind(from.as_str());
        rows.push(" AND artifact_uri < ").bind(to.as_str());
        if deleted {
            rows.push(" AND deleted_at IS NOT NULL");
        }
    }
    rows.push(" LIMIT 1");
    let found: Option<(String,)> = rows.query_as().fetch_optional(conn).await?;
    Ok(found.map(|(id,)| id))
}

/// The path that an artifact location of this server stands for.
fn root(uri: &str) -> Option<&str> {
    uri.strip_prefix(ARTIFACTS).map(|path| path.trim_start_matches('/'))
}

/// A run or a logged model, as the caller names it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Named<'a> {
    Run(&'a str),
    LoggedModel(&'a str),
}

/// The artifact location of what is named, and the path it stands for.
pub(super) async fn root_of(conn: &mut Conn, owner: Named<'_>) -> Result<(String, String), RegistryError> {
    let (what, id, query) = match owner {
        Named::Run(id) => ("run", id, "SELECT artifact_uri FROM registry_runs WHERE id = $1"),
        Named::LoggedModel(id) => {
            ("logged model", id, "SELECT artifact_uri FROM registry_logged_models WHERE id = $1 AND deleted_at IS NULL")
        }
    };
    let uri: Option<String> = sqlx::query_scalar(query).bind(id).fetch_optional(conn).await?;
    let uri = uri.ok_or_else(|| RegistryError::NoSuch { what, name: id.to_owned() })?;
    match root(&uri).map(str::to_owned) {
        Some(path) => Ok((uri, path)),
        None => {
            let hint = "ask the store that its artifact location names";
            Err(RegistryError::invalid(format!("{what} `{id}`"), "keeps its artifacts elsewhere", hint))
        }
    }
}
