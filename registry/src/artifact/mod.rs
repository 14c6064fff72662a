//! Artifacts: files of runs and models by path, their bytes in `Blobs` by digest.
//!
//! A file's bytes are stored before its row: what is listed is whole, and what breaks off leaves a blob that nothing
//! names. Replacing or deleting a file changes rows only, since other files may be of the same bytes.

mod direct;
mod file;
mod list;
mod owner;
mod path;
mod upload;

use domain::Digest;
use storage::sql::Conn;

pub use file::Artifact;
pub use list::{ArtifactEntry, ArtifactListing};
pub use path::{ArtifactPath, BadPath};

pub(crate) use upload::clean;

use crate::{RegistryError, row};

/// A file of the artifact tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoredFile {
    /// Relative to the directory asked for.
    pub path: String,
    pub digest: Digest,
    pub bytes: u64,
}

/// What lies below a directory, as a half-open range of paths. `0` follows `/`: a range instead of LIKE, so that the
/// index serves it and no character has to be escaped.
fn range_below(directory: &str) -> (String, String) {
    (format!("{directory}/"), format!("{directory}0"))
}

/// Deletes all files below a directory of the artifact tree, whoever's they are.
pub(crate) async fn forget_below(conn: &mut Conn, directory: &str) -> Result<(), RegistryError> {
    let (from, to) = range_below(directory);
    sqlx::query("DELETE FROM registry_artifacts WHERE path > $1 AND path < $2")
        .bind(from)
        .bind(to)
        .execute(conn)
        .await?;
    Ok(())
}

/// All files below a directory of the artifact tree (`1/<run>/artifacts/model`), sorted by path.
pub(crate) async fn below(conn: &mut Conn, directory: &str) -> Result<Vec<StoredFile>, RegistryError> {
    let (from, to) = range_below(directory);
    let rows: Vec<(String, String, i64)> = sqlx::query_as(
        "SELECT path, digest, bytes FROM registry_artifacts WHERE path > $1 AND path < $2 ORDER BY path",
    )
    .bind(&from)
    .bind(&to)
    .fetch_all(conn)
    .await?;
    rows.into_iter()
        .map(|(path, digest, bytes)| {
            Ok(StoredFile {
                path: path[from.len()..].to_owned(),
                digest: row::parse(&digest, "artifact")?,
                bytes: row::uncount(bytes, "artifact")?,
            })
        })
        .collect()
}
