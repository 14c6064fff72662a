//! Listing directories, which exist as long as a file is below them.

use storage::sql::Conn;

use super::{
    ArtifactPath,
    owner::{Named, root_of},
    range_below,
};
use crate::{
    Registry, RegistryError,
    query::{Page, Statement},
    row,
};

/// Entries of one page.
const PAGE_ENTRIES: usize = 10_000;
/// Rows read at once. A directory with more files than that is stepped over by one more read.
const ROWS_READ: usize = 500;

/// What stands in a directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ArtifactEntry {
    pub name: String,
    /// `None`: a directory.
    pub bytes: Option<u64>,
}

impl ArtifactEntry {
    #[must_use]
    pub const fn is_dir(&self) -> bool {
        self.bytes.is_none()
    }
}

/// A directory of a run or a logged model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArtifactListing {
    /// The root's address.
    pub root_uri: String,
    /// A page of entries sorted by name. Over several pages a directory stands where its files do.
    pub entries: Page<ArtifactEntry>,
}

impl Registry {
    /// All that stands in a directory, or in the root, by name; nothing where there is no directory.
    pub async fn list_directory(&self, directory: Option<&ArtifactPath>) -> Result<Vec<ArtifactEntry>, RegistryError> {
        let mut conn = self.meta().reader().acquire().await?;
        let directory = directory.map_or("", ArtifactPath::as_str);
        Ok(children(&mut conn, directory, "", usize::MAX).await?.items)
    }

    /// A page of a directory below a run's root.
    ///
    /// # Errors
    /// An unknown run, one that keeps its artifacts elsewhere, or a token that no page gave.
    pub async fn list_artifacts(
        &self,
        run: &str,
        directory: Option<&ArtifactPath>,
        page_token: &str,
    ) -> Result<ArtifactListing, RegistryError> {
        self.list_owned(Named::Run(run), directory, page_token).await
    }

    /// A page of a directory below a logged model's root.
    ///
    /// # Errors
    /// As [`Registry::list_artifacts`].
    pub async fn list_logged_model_artifacts(
        &self,
        model: &str,
        directory: Option<&ArtifactPath>,
        page_token: &str,
    ) -> Result<ArtifactListing, RegistryError> {
        self.list_owned(Named::LoggedModel(model), directory, page_token).await
    }

    async fn list_owned(
        &self,
        owner: Named<'_>,
        directory: Option<&ArtifactPath>,
        page_token: &str,
    ) -> Result<ArtifactListing, RegistryError> {
        let mut conn = self.meta().reader().acquire().await?;
        let (root_uri, root) = root_of(&mut conn, owner).await?;
        let directory = directory.map_or_else(|| root.clone(), |path| path.below(&root).to_string());
        let entries = children(&mut conn, &directory, page_token, PAGE_ENTRIES).await?;
        Ok(ArtifactListing { root_uri, entries })
    }
}

/// The last entry of the page before: its name, with a `/` at the end if it is a directory.
fn token_of(entry: &ArtifactEntry) -> String {
    format!("{}{}", entry.name, if entry.is_dir() { "/" } else { "" })
}

fn entry_of(token: &str) -> Result<Option<ArtifactEntry>, RegistryError> {
    let name = token.strip_suffix('/').unwrap_or(token);
    if name.contains('/') || name.chars().any(char::is_control) || (name.is_empty() && !token.is_empty()) {
        let hint = "give the token of the page before, or none for the first page";
        return Err(RegistryError::invalid(format!("page token {token:?}"), "is none of this listing", hint));
    }
    let entry = || ArtifactEntry { name: name.to_owned(), bytes: (name == token).then_some(0) };
    Ok((!token.is_empty()).then(entry))
}

async fn children(
    conn: &mut Conn,
    directory: &str,
    page_token: &str,
    limit: usize,
) -> Result<Page<ArtifactEntry>, RegistryError> {
    let mut last = entry_of(page_token)?;
    let mut items: Vec<ArtifactEntry> = Vec::new();
    loop {
        let rows = rows_after(conn, directory, last.as_ref()).await?;
        let complete = rows.len() < ROWS_READ;
        for (path, bytes) in rows {
            let entry = match path.split_once('/') {
                None => ArtifactEntry { name: path, bytes: Some(row::uncount(bytes, "artifact")?) },
                Some((name, _)) if last.as_ref().is_some_and(|last| last.is_dir() && last.name == name) => continue,
                Some((name, _)) => ArtifactEntry { name: name.to_owned(), bytes: None },
            };
            if items.len() == limit {
                let next = items.last().map(token_of);
                items.sort_unstable();
                return Ok(Page { items, next });
            }
            last = Some(entry.clone());
            items.push(entry);
        }
        if complete {
            items.sort_unstable();
            return Ok(Page { items, next: None });
        }
    }
}

/// Paths relative to the directory, in order, and lengths of the files that follow an entry of it.
async fn rows_after(
    conn: &mut Conn,
    directory: &str,
    last: Option<&ArtifactEntry>,
) -> Result<Vec<(String, i64)>, RegistryError> {
    let mut rows = Statement::new("SELECT path, bytes FROM registry_artifacts WHERE path ");
    let prefix = if directory.is_empty() { String::new() } else { format!("{directory}/") };
    match last {
        None => rows.push("> ").bind(prefix.as_str()),
        Some(file) if !file.is_dir() => rows.push("> ").bind(format!("{prefix}{}", file.name)),
        // Past everything below it.
        Some(dir) => rows.push(">= ").bind(range_below(&format!("{prefix}{}", dir.name)).1),
    };
    if !directory.is_empty() {
        rows.push(" AND path < ").bind(range_below(directory).1);
    }
    rows.push(" ORDER BY path LIMIT ").bind(row::count(ROWS_READ as u64));
    let found: Vec<(String, i64)> = rows.query_as().fetch_all(conn).await?;
    Ok(found.into_iter().map(|(path, bytes)| (path[prefix.len()..].to_owned(), bytes)).collect())
}
