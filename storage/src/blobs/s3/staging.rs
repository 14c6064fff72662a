//! Objects in the making: under names of their own until their digest is known.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use aws_sdk_s3::{
    error::ProvideErrorMetadata as _,
    primitives::ByteStream,
    types::{CompletedMultipartUpload, CompletedPart},
};
use bytes::Bytes;
use domain::Digest;
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::{
    PARTS_MAX, Place, client,
    failure::{absent, failed, refused},
    length,
};
use crate::StorageError;

/// What the protocol calls parts that cannot be put together.
const BAD_PARTS: [&str; 3] = ["InvalidPart", "InvalidPartOrder", "EntityTooSmall"];

/// An upload in parts. Dropped before it is complete, it is aborted; what cannot be aborted now is found at a later
/// start.
pub(super) struct Multipart {
    place: Arc<Place>,
    key: String,
    id: String,
    sent: Vec<CompletedPart>,
    /// The part that is on its way.
    flying: Option<JoinHandle<Result<CompletedPart, StorageError>>>,
    complete: bool,
}

/// A whole object under a staging name. Dropped, it is removed.
pub(super) struct Staged {
    place: Arc<Place>,
    key: String,
    bytes: u64,
}

impl Place {
    /// A name that nobody else has.
    pub(super) fn staged(&self) -> String {
        format!("{}{}", self.staging(), Uuid::now_v7().simple())
    }

    pub(super) async fn create_multipart(&self, key: &str) -> Result<String, StorageError> {
        let begun = self.client.create_multipart_upload().bucket(&self.bucket).key(key).send().await;
        let begun = begun.map_err(|error| failed(format!("begin {}", self.shown(key)), error))?;
        begun.upload_id.ok_or_else(|| StorageError::Objects {
            doing: format!("begin {}", self.shown(key)),
            reason: "the object store gave the upload no id".into(),
        })
    }

    /// Makes one object of the parts, of so many bytes. Done already is no error, since an answer may have been lost.
    pub(super) async fn complete_multipart(
        &self,
        key: &str,
        id: &str,
        parts: Vec<CompletedPart>,
        bytes: u64,
    ) -> Result<(), StorageError> {
        let patience = client::patience(bytes, client::COPYING);
        let completed = self
            .client
            .complete_multipart_upload()
            .bucket(&self.bucket)
            .key(key)
            .upload_id(id)
            .multipart_upload(CompletedMultipartUpload::builder().set_parts(Some(parts)).build())
            .customize()
            .config_override(patience)
            .send()
            .await;
        let Err(error) = completed else { return Ok(()) };
        match self.len(key).await? {
            Some(found) if found == bytes => Ok(()),
            _ if BAD_PARTS.contains(&error.code().unwrap_or_default()) => {
                Err(StorageError::BadParts(error.message().unwrap_or_default().to_owned()))
            }
            _ => Err(failed(format!("complete {}", self.shown(key)), error)),
        }
    }

    /// Tag and length of the parts that have come, by number. Some stores keep the tags to themselves.
    pub(super) async fn parts_of(
        &self,
        key: &str,
        id: &str,
    ) -> Result<BTreeMap<u32, (Option<String>, u64)>, StorageError> {
        let listing = self.client.list_parts().bucket(&self.bucket).key(key).upload_id(id);
        let mut pages = listing.into_paginator().send();
        let mut found = BTreeMap::new();
        while let Some(page) = pages.next().await {
            let page = match page {
                Err(error) if absent(&error) => break,
                other => other.map_err(|error| failed(format!("list the parts of {}", self.shown(key)), error))?,
            };
            for part in page.parts.unwrap_or_default() {
                let number = part.part_number.and_then(|number| u32::try_from(number).ok()).unwrap_or_default();
                found.insert(number, (part.e_tag, length(part.size)));
            }
        }
        Ok(found)
    }

    /// Forgets an upload in parts; one that is unknown or complete is no error.
    pub(super) async fn abort_multipart(&self, key: &str, id: &str) -> Result<(), StorageError> {
        match self.client.abort_multipart_upload().bucket(&self.bucket).key(key).upload_id(id).send().await {
            Err(error) if !absent(&error) => Err(failed(format!("abort the upload of {}", self.shown(key)), error)),
            _ => Ok(()),
        }
    }

    /// Puts a staged object among the blobs, within the store, in place of a damaged one that may stand there.
    pub(super) async fn file(self: &Arc<Self>, staged: &str, bytes: u64, digest: &Digest) -> Result<(), StorageError> {
        let (source, key) = (format!("{}/{staged}", self.bucket), self.key(digest));
        if bytes > self.cuts.copy_bytes_max {
            return self.copy_in_parts(&source, bytes, key).await;
        }
        let patience = client::patience(bytes, client::COPYING);
        let copied = self
            .client
            .copy_object()
            .bucket(&self.bucket)
            .key(&key)
            .copy_source(source)
            .customize()
            .config_override(patience)
            .send()
            .await;
        copied.map(drop).map_err(|error| failed(format!("copy {} to {}", self.shown(staged), self.shown(&key)), error))
    }

    async fn copy_in_parts(self: &Arc<Self>, source: &str, bytes: u64, key: String) -> Result<(), StorageError> {
        let mut upload = Multipart::begin(self.clone(), key).await?;
        let mut from = 0;
        while from < bytes {
            let to = bytes.min(from + self.cuts.copy_part_bytes);
            upload.copy(source, from, to).await?;
            from = to;
        }
        upload.completed(bytes).await
    }
}

impl Multipart {
    pub(super) async fn begin(place: Arc<Place>, key: String) -> Result<Self, StorageError> {
        let id = place.create_multipart(&key).await?;
        Ok(Self { place, key, id, sent: Vec::new(), flying: None, complete: false })
    }

    fn next_number(&self) -> Result<i32, StorageError> {
        let number = self.sent.len() + usize::from(self.flying.is_some()) + 1;
        let number = i32::try_from(number).ok().filter(|_| number <= PARTS_MAX);
        number.ok_or_else(|| StorageError::TooLarge {
            what: format!("what is written to bucket `{}`", self.place.bucket),
            bytes_max: (PARTS_MAX * self.place.cuts.part_bytes) as u64,
        })
    }

    /// Waits until the part before has come, and sends this one on its way.
    pub(super) async fn send(&mut self, part: Bytes) -> Result<(), StorageError> {
        let number = self.next_number()?;
        self.land().await?;
        let (place, key, id) = (self.place.clone(), self.key.clone(), self.id.clone());
        self.flying = Some(tokio::spawn(async move { place.send_part(&key, &id, number, part).await }));
        Ok(())
    }

    async fn land(&mut self) -> Result<(), StorageError> {
        if let Some(flying) = &mut self.flying {
            let landed = flying.await.map_err(|_| StorageError::WorkerGone("an upload's part"))?;
            self.flying = None;
            self.sent.push(landed?);
        }
        Ok(())
    }

    /// A part that the store takes from another object of its own.
    async fn copy(&mut self, source: &str, from: u64, to: u64) -> Result<(), StorageError> {
        let number = self.next_number()?;
        let doing = || format!("copy to {}", self.place.shown(&self.key));
        let copied = self
            .place
            .client
            .upload_part_copy()
            .bucket(&self.place.bucket)
            .key(&self.key)
            .upload_id(&self.id)
            .part_number(number)
            .copy_source(source)
            .copy_source_range(format!("bytes={from}-{}", to - 1))
            .customize()
            .config_override(client::patience(to - from, client::COPYING))
            .send()
            .await
            .map_err(|error| failed(doing(), error))?;
        let part = copied.copy_part_result.unwrap_or_else(|| aws_sdk_s3::types::CopyPartResult::builder().build());
        self.sent.push(
            CompletedPart::builder()
                .part_number(number)
                .set_e_tag(part.e_tag)
                .set_checksum_crc32(part.checksum_crc32)
                .build(),
        );
        Ok(())
    }

    async fn completed(mut self, bytes: u64) -> Result<(), StorageError> {
        self.land().await?;
        let parts = std::mem::take(&mut self.sent);
        self.place.complete_multipart(&self.key, &self.id, parts, bytes).await?;
        self.complete = true;
        Ok(())
    }

    pub(super) async fn complete(self, bytes: u64) -> Result<Staged, StorageError> {
        let staged = Staged { place: self.place.clone(), key: self.key.clone(), bytes };
        self.completed(bytes).await?;
        Ok(staged)
    }
}

impl Drop for Multipart {
    fn drop(&mut self) {
        let flying = self.flying.take();
        if let Some(flying) = &flying {
            flying.abort();
        }
        if self.complete {
            return;
        }
        let (place, key, id) = (self.place.clone(), std::mem::take(&mut self.key), std::mem::take(&mut self.id));
        later(async move {
            if let Some(flying) = flying {
                // A part that arrives after the abortion would stay.
                let _ = flying.await;
            }
            place.abort_multipart(&key, &id).await
        });
    }
}

impl Place {
    async fn send_part(&self, key: &str, id: &str, number: i32, part: Bytes) -> Result<CompletedPart, StorageError> {
        let patience = client::patience(part.len() as u64, client::SENDING);
        let sent = self
            .client
            .upload_part()
            .bucket(&self.bucket)
            .key(key)
            .upload_id(id)
            .part_number(number)
            .body(ByteStream::from(part))
            .customize()
            .config_override(patience)
            .send()
            .await
            .map_err(|error| failed(format!("write part {number} of {}", self.shown(key)), error))?;
        Ok(CompletedPart::builder()
            .part_number(number)
            .set_e_tag(sent.e_tag)
            .set_checksum_crc32(sent.checksum_crc32)
            .build())
    }
}

impl Staged {
    pub(super) async fn file(self, digest: &Digest) -> Result<(), StorageError> {
        self.place.file(&self.key, self.bytes, digest).await
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        let (place, key) = (self.place.clone(), std::mem::take(&mut self.key));
        later(async move { place.delete(&key).await });
    }
}

/// Clears up while nobody waits; what fails is done at a later start.
fn later(clearing: impl Future<Output = Result<(), StorageError>> + Send + 'static) {
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        runtime.spawn(async move {
            if let Err(error) = clearing.await {
                tracing::debug!(%error, "left for a later start");
            }
        });
    }
}

/// Removes what has stood half-made for longer than `age`.
pub(super) async fn clean(place: &Place, age: Duration) -> Result<(), StorageError> {
    let limit = SystemTime::now().checked_sub(age).and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok());
    let limit = limit.map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX));
    clean_objects(place, limit).await?;
    clean_uploads(place, limit).await
}

async fn clean_objects(place: &Place, limit: i64) -> Result<(), StorageError> {
    let doing = || format!("list {}", place.shown(&place.staging()));
    let mut pages =
        place.client.list_objects_v2().bucket(&place.bucket).prefix(place.staging()).into_paginator().send();
    while let Some(page) = pages.next().await {
        for object in page.map_err(|error| failed(doing(), error))?.contents.unwrap_or_default() {
            let old = object.last_modified().is_some_and(|at| at.secs() < limit);
            if let (true, Some(key)) = (old, object.key()) {
                place.delete(key).await?;
            }
        }
    }
    Ok(())
}

async fn clean_uploads(place: &Place, limit: i64) -> Result<(), StorageError> {
    let doing = || format!("list uploads of {}", place.shown(&place.staging()));
    let (mut key_marker, mut id_marker) = (None, None);
    loop {
        let page = place
            .client
            .list_multipart_uploads()
            .bucket(&place.bucket)
            .prefix(&place.prefix)
            .set_key_marker(key_marker)
            .set_upload_id_marker(id_marker)
            .send()
            .await;
        let page = match page {
            Ok(page) => page,
            // Some stores cannot list them: the bucket's own rules must clear such leftovers.
            Err(error) if refused(&error, &[501]) || error.code() == Some("NotImplemented") => return Ok(()),
            Err(error) => return Err(failed(doing(), error)),
        };
        for upload in page.uploads() {
            let old = upload.initiated().is_some_and(|at| at.secs() < limit);
            if let (true, Some(key), Some(id)) = (old, upload.key(), upload.upload_id()) {
                place.abort_multipart(key, id).await?;
            }
        }
        if page.is_truncated() != Some(true) {
            return Ok(());
        }
        (key_marker, id_marker) = (page.next_key_marker, page.next_upload_id_marker);
    }
}
