//! Writing, reading and deleting files of the artifact tree.

use std::{ops::Range, pin::pin};

use bytes::Bytes;
use domain::{Digest, Timestamp};
use futures::{Stream, StreamExt as _};
use storage::{BlobStream, StorageError, require_stored, sql::Conn};

use super::{
    ArtifactPath,
    owner::{Named, erasable, root_of, writable},
    range_below,
};
use crate::{Registry, RegistryError, query::Statement, row};

/// The bytes of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Artifact {
    pub digest: Digest,
    pub bytes: u64,
}

impl Registry {
    /// Writes a file, in place of one that stands there, from bytes that come piece by piece. Whole or not at all;
    /// durable when it returns. `expected` is what the bytes must come to, where the caller knows.
    ///
    /// # Errors
    /// A place that may not be written to, a directory there or a file above, or the first error of `pieces`.
    pub async fn put_artifact<E: From<RegistryError>>(
        &self,
        path: &ArtifactPath,
        pieces: impl Stream<Item = Result<Bytes, E>> + Send,
        expected: Option<Digest>,
    ) -> Result<Artifact, E> {
        // Once before the bytes come, which may take hours, and again with the row.
        self.may_put(path).await?;
        let file = self.store(pieces, expected).await?;
        Ok(self.record(path, &file).await.map(|()| file)?)
    }

    /// The file at a path.
    ///
    /// # Errors
    /// An unknown path, or that of a directory.
    pub async fn artifact(&self, path: &ArtifactPath) -> Result<Artifact, RegistryError> {
        let mut conn = self.meta().reader().acquire().await?;
        find(&mut conn, path).await
    }

    /// The file at a path below a run's root.
    ///
    /// # Errors
    /// An unknown run, and as [`Registry::artifact`].
    pub async fn run_artifact(&self, run: &str, path: &ArtifactPath) -> Result<Artifact, RegistryError> {
        let mut conn = self.meta().reader().acquire().await?;
        let (_, root) = root_of(&mut conn, Named::Run(run)).await?;
        find(&mut conn, &path.below(&root)).await
    }

    /// The file at a path below a logged model's root.
    ///
    /// # Errors
    /// An unknown model, and as [`Registry::artifact`].
    pub async fn logged_model_artifact(&self, model: &str, path: &ArtifactPath) -> Result<Artifact, RegistryError> {
        let mut conn = self.meta().reader().acquire().await?;
        let (_, root) = root_of(&mut conn, Named::LoggedModel(model)).await?;
        find(&mut conn, &path.below(&root)).await
    }

    /// A file of a registered version.
    ///
    /// # Errors
    /// A version without such a file, or none at all.
    pub async fn version_file(
        &self,
        model: &str,
        version: u32,
        path: &ArtifactPath,
    ) -> Result<Artifact, RegistryError> {
        let digest: Option<String> = sqlx::query_scalar(
            "SELECT digest FROM registry_version_files WHERE model = $1 AND version = $2 AND path = $3",
        )
        .bind(model)
        .bind(i64::from(version))
        .bind(path.as_str())
        .fetch_optional(self.meta().reader())
        .await?;
        let absent = || RegistryError::NoSuch { what: "file", name: format!("{model}/{version}/{path}") };
        let digest = row::parse(&digest.ok_or_else(absent)?, "version")?;
        Ok(Artifact { digest, bytes: self.blobs().len(&digest).await? })
    }

    /// A file's bytes in `range`, piece by piece. The whole is checked against its digest on the way, and the last
    /// piece is held back until it agrees.
    ///
    /// # Errors
    /// Bytes that are gone or of another length.
    pub async fn read_artifact(&self, file: &Artifact, range: Range<u64>) -> Result<BlobStream, RegistryError> {
        self.check_length(file).await?;
        Ok(self.blobs().read(&file.digest, range).await?)
    }

    /// Whether as many bytes are there as were written.
    pub(super) async fn check_length(&self, file: &Artifact) -> Result<(), RegistryError> {
        let damaged = |detail| Err(RegistryError::Damaged { what: "artifact", detail });
        match self.blobs().len(&file.digest).await {
            Ok(stored) if stored == file.bytes => Ok(()),
            Ok(stored) => {
                let written = file.bytes;
                damaged(format!("blob {} has {stored} bytes where {written} were written", file.digest))
            }
            Err(StorageError::NoSuchBlob(digest)) => damaged(format!("blob {digest} is gone")),
            Err(error) => Err(error.into()),
        }
    }

    /// Deletes a file, or a directory with all that is below it; what is not there is no error. Reading that has
    /// begun goes on to its end.
    ///
    /// # Errors
    /// A place that may not be written to.
    pub async fn delete_artifacts(&self, path: &ArtifactPath) -> Result<(), RegistryError> {
        let (from, to) = range_below(path.as_str());
        let mut tx = self.begin().await?;
        erasable(tx.conn(), path).await?;
        sqlx::query("DELETE FROM registry_artifacts WHERE path = $1").bind(path.as_str()).execute(tx.conn()).await?;
        sqlx::query("DELETE FROM registry_artifacts WHERE path > $1 AND path < $2")
            .bind(from)
            .bind(to)
            .execute(tx.conn())
            .await?;
        Ok(tx.commit().await?)
    }

    /// Whether a file may be written at a path, as things stand.
    pub(super) async fn may_put(&self, path: &ArtifactPath) -> Result<(), RegistryError> {
        let mut conn = self.meta().reader().acquire().await?;
        writable(&mut conn, path).await?;
        vacant(&mut conn, path).await
    }

    /// Stores bytes under no path yet.
    pub(super) async fn store<E: From<RegistryError>>(
        &self,
        pieces: impl Stream<Item = Result<Bytes, E>> + Send,
        expected: Option<Digest>,
    ) -> Result<Artifact, E> {
        let mut pieces = pin!(pieces);
        let mut writer = self.blobs().writer().await.map_err(RegistryError::from)?;
        while let Some(piece) = pieces.next().await {
            writer.write(piece?).await.map_err(RegistryError::from)?;
        }
        let (digest, bytes) = writer.finish().await.map_err(RegistryError::from)?;
        match expected {
            Some(expected) if expected != digest => {
                let what = format!("the body of {bytes} bytes");
                let problem = format!("has the digest {digest} where {expected} was announced");
                Err(RegistryError::invalid(what, problem, "send it again").into())
            }
            _ => Ok(Artifact { digest, bytes }),
        }
    }

    async fn record(&self, path: &ArtifactPath, file: &Artifact) -> Result<(), RegistryError> {
        let now = self.now();
        let mut tx = self.begin().await?;
        require_stored(self.blobs(), &[file.digest]).await?;
        set(tx.conn(), path, file, now).await?;
        Ok(tx.commit().await?)
    }
}

/// Puts the file at the path, if it may stand there.
pub(super) async fn set(
    conn: &mut Conn,
    path: &ArtifactPath,
    file: &Artifact,
    now: Timestamp,
) -> Result<(), RegistryError> {
    writable(conn, path).await?;
    vacant(conn, path).await?;
    sqlx::query(
        "INSERT INTO registry_artifacts (path, digest, bytes, written_at) VALUES ($1, $2, $3, $4)
         ON CONFLICT (path) DO UPDATE
         SET digest = excluded.digest, bytes = excluded.bytes, written_at = excluded.written_at",
    )
    .bind(path.as_str())
    .bind(file.digest.to_string())
    .bind(row::count(file.bytes))
    .bind(now.micros())
    .execute(conn)
    .await?;
    Ok(())
}

/// Refuses where a directory stands, or where a file stands in the place of a directory above.
async fn vacant(conn: &mut Conn, path: &ArtifactPath) -> Result<(), RegistryError> {
    let what = || format!("artifact `{path}`");
    let hint = "delete it first, or choose another path";
    if is_directory(conn, path).await? {
        return Err(RegistryError::invalid(what(), "is a directory", hint));
    }
    let mut above = Statement::new("SELECT path FROM registry_artifacts WHERE path IN (");
    above.bind_all(path.parents()).push(")");
    let above: Option<(String,)> = above.query_as().fetch_optional(conn).await?;
    match above {
        None => Ok(()),
        Some((file,)) => Err(RegistryError::invalid(what(), format!("would lie inside the file `{file}`"), hint)),
    }
}

async fn is_directory(conn: &mut Conn, path: &ArtifactPath) -> Result<bool, RegistryError> {
    let (from, to) = range_below(path.as_str());
    let inside: Option<String> =
        sqlx::query_scalar("SELECT path FROM registry_artifacts WHERE path > $1 AND path < $2 LIMIT 1")
            .bind(from)
            .bind(to)
            .fetch_optional(conn)
            .await?;
    Ok(inside.is_some())
}

async fn find(conn: &mut Conn, path: &ArtifactPath) -> Result<Artifact, RegistryError> {
    let found: Option<(String, i64)> = sqlx::query_as("SELECT digest, bytes FROM registry_artifacts WHERE path = $1")
        .bind(path.as_str())
        .fetch_optional(&mut *conn)
        .await?;
    match found {
        Some((digest, bytes)) => {
            Ok(Artifact { digest: row::parse(&digest, "artifact")?, bytes: row::uncount(bytes, "artifact")? })
        }
        None if is_directory(conn, path).await? => {
            let hint = "name one of the files in it";
            Err(RegistryError::invalid(format!("artifact `{path}`"), "is a directory", hint))
        }
        None => Err(RegistryError::NoSuch { what: "artifact", name: path.to_string() }),
    }
}
