//! Uploads in parts: each part a blob of its own, joined into one at the end.

use std::collections::BTreeMap;

use bytes::Bytes;
use domain::{Digest, Span, Timestamp, UploadId};
use futures::{Stream, TryStreamExt as _};
use storage::{require_stored, sql::Conn};

use super::{Artifact, ArtifactPath, file::set};
use crate::{Registry, RegistryError, row};

/// Parts are numbered from 1 to at most this.
const PART_NUMBER_MAX: u32 = 10_000;
/// What is not completed by then is forgotten, and what is completed can be completed again for as long.
pub(super) const KEPT: Span = Span::from_micros(24 * Span::HOUR.micros());

struct Upload {
    path: ArtifactPath,
    parts: u32,
    completed: bool,
    /// Of the place of the blobs, where the parts go there directly.
    ticket: Option<String>,
}

pub(super) struct NewUpload<'a> {
    pub path: &'a ArtifactPath,
    pub parts: u32,
    pub ticket: Option<&'a str>,
}

/// As many parts as an upload may have.
pub(super) fn checked_count(parts: i64) -> Result<u32, RegistryError> {
    let count = u32::try_from(parts).ok().filter(|count| (1..=PART_NUMBER_MAX).contains(count));
    let hint = "cut the file into 1 to 10000 parts";
    count.ok_or_else(|| RegistryError::invalid("num_parts", format!("is {parts}"), hint))
}

impl Registry {
    /// Begins an upload of `parts` parts to a path.
    ///
    /// # Errors
    /// A number of parts that is not 1 to 10,000, and where [`Registry::put_artifact`] would refuse.
    pub async fn create_upload(&self, path: &ArtifactPath, parts: i64) -> Result<UploadId, RegistryError> {
        let parts = checked_count(parts)?;
        self.may_put(path).await?;
        self.record_upload(NewUpload { path, parts, ticket: None }).await
    }

    pub(super) async fn record_upload(&self, new: NewUpload<'_>) -> Result<UploadId, RegistryError> {
        let (id, now) = (UploadId::mint(), self.now());
        let mut tx = self.begin().await?;
        clean(tx.conn(), now).await?;
        sqlx::query("INSERT INTO registry_uploads (id, path, parts, created_at, ticket) VALUES ($1, $2, $3, $4, $5)")
            .bind(id.to_string())
            .bind(new.path.as_str())
            .bind(i64::from(new.parts))
            .bind(now.micros())
            .bind(new.ticket)
            .execute(tx.conn())
            .await?;
        tx.commit().await?;
        Ok(id)
    }

    /// Keeps a part, in place of one of the same number, and gives its digest. Durable when it returns.
    ///
    /// # Errors
    /// An unknown or completed upload, a number beyond it, or the first error of `pieces`.
    pub async fn put_part<E: From<RegistryError>>(
        &self,
        upload: UploadId,
        number: u32,
        pieces: impl Stream<Item = Result<Bytes, E>> + Send,
        expected: Option<Digest>,
    ) -> Result<Digest, E> {
        self.takes_part(upload, number).await?;
        let part = self.store(pieces, expected).await?;
        self.record_part(upload, number, &part).await?;
        Ok(part.digest)
    }

    /// Joins the parts, which the caller names by number and digest in any order, into one file. Completing it again
    /// changes nothing.
    ///
    /// # Errors
    /// An unknown upload, one to another path, or parts that are not those that were stored.
    pub async fn complete_upload(
        &self,
        upload: UploadId,
        path: &ArtifactPath,
        parts: &[(u32, String)],
    ) -> Result<(), RegistryError> {
        // Who gives up waiting and asks again must not have the work done twice at once.
        let _turn = self.completing(upload).lock().await;
        let mut conn = self.meta().reader().acquire().await?;
        let found = find(&mut conn, upload, Some(path)).await?;
        if found.completed {
            return Ok(());
        }
        let stored = stored_parts(&mut conn, upload).await?;
        drop(conn);
        self.may_put(path).await?;
        let file = match &found.ticket {
            Some(ticket) => self.finish_direct(upload, ticket, found.parts, parts).await?,
            None => match agreed(&found, &stored, parts)?.as_slice() {
                [only] => *only,
                many => self.join(many).await?,
            },
        };

        let now = self.now();
        let mut tx = self.begin().await?;
        // It may have been aborted, or a part replaced, while they were joined.
        find(tx.conn(), upload, Some(path)).await?;
        if stored_parts(tx.conn(), upload).await? != stored {
            let problem = "changed while it was completed";
            return Err(RegistryError::invalid(format!("upload `{upload}`"), problem, "complete it again"));
        }
        require_stored(self.blobs(), &[file.digest]).await?;
        set(tx.conn(), path, &file, now).await?;
        sqlx::query("UPDATE registry_uploads SET completed_at = $2 WHERE id = $1")
            .bind(upload.to_string())
            .bind(now.micros())
            .execute(tx.conn())
            .await?;
        delete_parts(tx.conn(), upload).await?;
        tx.commit().await?;
        self.forget_direct(found.ticket.as_deref()).await;
        Ok(())
    }

    /// Forgets an upload and its parts. One that is completed, aborted or unknown is left as it is.
    ///
    /// # Errors
    /// An upload to another path.
    pub async fn abort_upload(&self, upload: UploadId, path: &ArtifactPath) -> Result<(), RegistryError> {
        let mut tx = self.begin().await?;
        let ticket = match find(tx.conn(), upload, Some(path)).await {
            Ok(found) if !found.completed => found.ticket,
            Ok(_) | Err(RegistryError::NoSuch { .. }) => return Ok(()),
            Err(error) => return Err(error),
        };
        delete_parts(tx.conn(), upload).await?;
        sqlx::query("DELETE FROM registry_uploads WHERE id = $1").bind(upload.to_string()).execute(tx.conn()).await?;
        tx.commit().await?;
        self.forget_direct(ticket.as_deref()).await;
        Ok(())
    }

    async fn takes_part(&self, upload: UploadId, number: u32) -> Result<(), RegistryError> {
        let mut conn = self.meta().reader().acquire().await?;
        takes_part(&mut conn, upload, number).await
    }

    async fn record_part(&self, upload: UploadId, number: u32, part: &Artifact) -> Result<(), RegistryError> {
        let mut tx = self.begin().await?;
        takes_part(tx.conn(), upload, number).await?;
        require_stored(self.blobs(), &[part.digest]).await?;
        sqlx::query(
            "INSERT INTO registry_upload_parts (upload, part, digest, bytes) VALUES ($1, $2, $3, $4)
             ON CONFLICT (upload, part) DO UPDATE SET digest = excluded.digest, bytes = excluded.bytes",
        )
        .bind(upload.to_string())
        .bind(i64::from(number))
        .bind(part.digest.to_string())
        .bind(row::count(part.bytes))
        .execute(tx.conn())
        .await?;
        Ok(tx.commit().await?)
    }

    /// One blob of many, each checked as it is read.
    async fn join(&self, parts: &[Artifact]) -> Result<Artifact, RegistryError> {
        let mut writer = self.blobs().writer().await?;
        for part in parts {
            let mut pieces = self.read_artifact(part, 0..part.bytes).await?;
            while let Some(piece) = pieces.try_next().await? {
                writer.write(piece).await?;
            }
        }
        let (digest, bytes) = writer.finish().await?;
        Ok(Artifact { digest, bytes })
    }
}

async fn takes_part(conn: &mut Conn, upload: UploadId, number: u32) -> Result<(), RegistryError> {
    let found = find(conn, upload, None).await?;
    let what = || format!("part {number} of upload `{upload}`");
    if found.completed {
        return Err(RegistryError::invalid(what(), "comes after its completion", "create another upload"));
    }
    if found.ticket.is_some() {
        let hint = "send it to the address that was given for it";
        return Err(RegistryError::invalid(what(), "does not go to this server", hint));
    }
    if !(1..=found.parts).contains(&number) {
        let problem = format!("is not one of 1 to {}", found.parts);
        return Err(RegistryError::invalid(what(), problem, "create an upload of as many parts as there are"));
    }
    Ok(())
}

async fn find(conn: &mut Conn, upload: UploadId, path: Option<&ArtifactPath>) -> Result<Upload, RegistryError> {
    let found: Option<(String, i64, Option<i64>, Option<String>)> =
        sqlx::query_as("SELECT path, parts, completed_at, ticket FROM registry_uploads WHERE id = $1")
            .bind(upload.to_string())
            .fetch_optional(conn)
            .await?;
    let (to, parts, completed_at, ticket) =
        found.ok_or_else(|| RegistryError::NoSuch { what: "upload", name: upload.to_string() })?;
    let found = Upload {
        path: row::parse(&to, "upload")?,
        parts: row::uncount(parts, "upload")?,
        completed: completed_at.is_some(),
        ticket,
    };
    match path {
        Some(path) if *path != found.path => {
            let problem = format!("goes to `{}` and not to `{path}`", found.path);
            Err(RegistryError::invalid(format!("upload `{upload}`"), problem, "give the path it was created with"))
        }
        _ => Ok(found),
    }
}

/// By number.
async fn stored_parts(conn: &mut Conn, upload: UploadId) -> Result<BTreeMap<u32, Artifact>, RegistryError> {
    let rows: Vec<(i64, String, i64)> =
        sqlx::query_as("SELECT part, digest, bytes FROM registry_upload_parts WHERE upload = $1")
            .bind(upload.to_string())
            .fetch_all(conn)
            .await?;
    let read = |(part, digest, bytes): (i64, String, i64)| {
        let file = Artifact { digest: row::parse(&digest, "upload")?, bytes: row::uncount(bytes, "upload")? };
        Ok((row::uncount(part, "upload")?, file))
    };
    rows.into_iter().map(read).collect()
}

/// The tags of parts 1 to `parts` by number, where the caller names each of them once.
pub(super) fn once_each(parts: u32, named: &[(u32, String)]) -> Result<BTreeMap<u32, &str>, RegistryError> {
    let mut tags: BTreeMap<u32, &str> = BTreeMap::new();
    for (number, tag) in named {
        if tags.insert(*number, tag.trim_matches('"')).is_some() {
            return refused(*number, "is named twice");
        }
    }
    if let Some(number) = tags.keys().find(|number| !(1..=parts).contains(*number)) {
        return refused(*number, "does not belong to the upload");
    }
    match (1..=parts).find(|number| !tags.contains_key(number)) {
        Some(number) => refused(number, "is not named"),
        None => Ok(tags),
    }
}

fn refused<T>(number: u32, problem: &str) -> Result<T, RegistryError> {
    Err(RegistryError::invalid(format!("part {number}"), problem, "send the part, and name each part once"))
}

/// The parts in order, where the caller names each of them once, and as it was stored.
fn agreed(
    upload: &Upload,
    stored: &BTreeMap<u32, Artifact>,
    named: &[(u32, String)],
) -> Result<Vec<Artifact>, RegistryError> {
    if let Some(number) = (1..=upload.parts).find(|number| !stored.contains_key(number)) {
        return refused(number, "has not come");
    }
    let tags = once_each(upload.parts, named)?;
    let same = |number: &u32, part: &Artifact| tags.get(number).is_some_and(|tag| *tag == part.digest.to_string());
    match stored.iter().find(|(number, part)| !same(number, part)) {
        Some((number, _)) => refused(*number, "is not what its tag says"),
        None => Ok(stored.values().copied().collect()),
    }
}

async fn delete_parts(conn: &mut Conn, upload: UploadId) -> Result<(), RegistryError> {
    sqlx::query("DELETE FROM registry_upload_parts WHERE upload = $1").bind(upload.to_string()).execute(conn).await?;
    Ok(())
}

/// Forgets uploads that began more than a day ago.
pub(crate) async fn clean(conn: &mut Conn, now: Timestamp) -> Result<(), RegistryError> {
    let limit = (now - KEPT).micros();
    let parts =
        "DELETE FROM registry_upload_parts WHERE upload IN (SELECT id FROM registry_uploads WHERE created_at < $1)";
    sqlx::query(parts).bind(limit).execute(&mut *conn).await?;
    sqlx::query("DELETE FROM registry_uploads WHERE created_at < $1").bind(limit).execute(conn).await?;
    Ok(())
}
