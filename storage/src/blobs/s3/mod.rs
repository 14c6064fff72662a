//! Blobs as objects of a bucket, over S3's protocol.
//!
//! `<prefix>/sha256/ab/cdef...` is the blob of that digest; `<prefix>/staging/...` are objects in the making, which
//! nothing reads, and `<prefix>/owner` names the database they belong to. A blob of one part is written by one request;
//! a larger one grows under a staging name, because its own is known only at its end, and is then copied within the
//! store.

mod claim;
mod client;
mod direct;
mod failure;
mod list;
mod read;
mod staging;
mod write;

use std::{fmt, ops::Range, sync::Arc, time::Duration};

use async_trait::async_trait;
use aws_sdk_s3::{Client, primitives::ByteStream};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::{Bytes, BytesMut};
use domain::{Digest, Digester};
use futures::TryStreamExt as _;

pub use client::{S3Keys, S3Options};

use super::{BlobList, BlobStream, BlobWriter, Blobs, Direct};
use crate::StorageError;
use failure::{absent, failed};

/// Where requests are cut.
#[derive(Debug, Clone, Copy)]
struct Cuts {
    /// Bytes of a part, and of the largest blob that is written in one request. S3 takes no smaller parts than 5 MiB.
    part_bytes: usize,
    /// The largest object that is copied in one request.
    copy_bytes_max: u64,
    /// What of a larger one is copied at once.
    copy_part_bytes: u64,
}

impl Default for Cuts {
    fn default() -> Self {
        Self { part_bytes: 8 << 20, copy_bytes_max: 5 << 30, copy_part_bytes: 1 << 30 }
    }
}

/// S3 knows no more parts of one object.
const PARTS_MAX: usize = 10_000;

/// The bucket, and how it is reached.
struct Place {
    client: Client,
    bucket: String,
    /// Empty, or with a slash at its end.
    prefix: String,
    direct: bool,
    cuts: Cuts,
}

/// Blobs as objects of a bucket. Cheap to clone.
#[derive(Clone)]
pub struct S3Blobs {
    place: Arc<Place>,
}

impl fmt::Debug for S3Blobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "S3Blobs({})", self.place.shown(&self.place.prefix))
    }
}

impl Place {
    fn key(&self, digest: &Digest) -> String {
        let name = digest.to_string();
        format!("{}{}/{}", self.blobs(), &name[..2], &name[2..])
    }

    /// What the keys of all blobs begin with.
    fn blobs(&self) -> String {
        format!("{}sha256/", self.prefix)
    }

    fn staging(&self) -> String {
        format!("{}staging/", self.prefix)
    }

    /// An object's address, as errors name it.
    fn shown(&self, key: &str) -> String {
        format!("s3://{}/{key}", self.bucket)
    }

    /// Bytes of the object; `None` where there is none.
    async fn len(&self, key: &str) -> Result<Option<u64>, StorageError> {
        let asked = self.client.head_object().bucket(&self.bucket).key(key).send().await;
        match asked {
            Ok(found) => Ok(Some(length(found.content_length()))),
            Err(error) if absent(&error) => Ok(None),
            Err(error) => Err(failed(format!("look for {}", self.shown(key)), error)),
        }
    }

    /// Removes the object; an absent one is no error.
    async fn delete(&self, key: &str) -> Result<(), StorageError> {
        match self.client.delete_object().bucket(&self.bucket).key(key).send().await {
            Err(error) if !absent(&error) => Err(failed(format!("delete {}", self.shown(key)), error)),
            _ => Ok(()),
        }
    }

    /// Stores bytes under their digest by one request, whole or not at all, also over damaged ones that may stand there:
    /// looking first would cost another request, and leave what is stored again as old as it was.
    async fn keep(&self, digest: &Digest, bytes: Bytes) -> Result<(), StorageError> {
        let key = self.key(digest);
        let patience = client::patience(bytes.len() as u64, client::SENDING);
        let sent = self
            .client
            .put_object()
            .bucket(&self.bucket)
            .key(&key)
            // The store refuses bytes that changed on their way.
            .checksum_sha256(STANDARD.encode(digest.as_bytes()))
            .body(ByteStream::from(bytes))
            .customize()
            .config_override(patience)
            .send()
            .await;
        sent.map(drop).map_err(|error| failed(format!("write {}", self.shown(&key)), error))
    }

    async fn get(self: &Arc<Self>, digest: &Digest) -> Result<Bytes, StorageError> {
        let joined = |mut all: BytesMut, piece: Bytes| {
            all.extend_from_slice(&piece);
            std::future::ready(Ok(all))
        };
        let pieces = read::open(self.clone(), *digest, 0..u64::MAX).await?;
        Ok(pieces.try_fold(BytesMut::new(), joined).await?.freeze())
    }
}

/// A length as the protocol has it, which is never negative.
fn length(found: Option<i64>) -> u64 {
    found.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(0)
}

/// Takes a piece into the digest, off the async runtime.
async fn hashed(mut digester: Digester, piece: Bytes) -> Result<Digester, StorageError> {
    let hashing = tokio::task::spawn_blocking(move || {
        digester.update(&piece);
        digester
    });
    hashing.await.map_err(|_| StorageError::WorkerGone("a blob's digest"))
}

impl S3Blobs {
    /// Checks that the bucket answers, and removes what processes that died more than a day ago left half-made.
    ///
    /// # Errors
    /// A bucket that is not there, is elsewhere, refuses the credentials, or does not answer.
    pub async fn open(options: &S3Options) -> Result<Self, StorageError> {
        Self::with(options, Cuts::default()).await
    }

    async fn with(options: &S3Options, cuts: Cuts) -> Result<Self, StorageError> {
        let client = client::connect(options).await;
        let prefix = if options.prefix.is_empty() { String::new() } else { format!("{}/", options.prefix) };
        let place = Arc::new(Place { client, bucket: options.bucket.clone(), prefix, direct: options.direct, cuts });
        client::check(&place).await?;
        // Whoever cannot list can still serve.
        if let Err(error) = staging::clean(&place, Duration::from_secs(24 * 60 * 60)).await {
            tracing::warn!(%error, "could not look for what interrupted uploads left in the bucket");
        }
        Ok(Self { place })
    }
}

#[async_trait]
impl Blobs for S3Blobs {
    async fn put(&self, bytes: Bytes) -> Result<Digest, StorageError> {
        let mut writer = write::S3Writer::begin(self.place.clone());
        writer.write(bytes).await?;
        Box::new(writer).finish().await.map(|(digest, _)| digest)
    }

    async fn writer(&self) -> Result<Box<dyn BlobWriter>, StorageError> {
        Ok(Box::new(write::S3Writer::begin(self.place.clone())))
    }

    async fn get(&self, digest: &Digest) -> Result<Bytes, StorageError> {
        self.place.get(digest).await
    }

    async fn read(&self, digest: &Digest, range: Range<u64>) -> Result<BlobStream, StorageError> {
        read::open(self.place.clone(), *digest, range).await
    }

    async fn len(&self, digest: &Digest) -> Result<u64, StorageError> {
        self.place.len(&self.place.key(digest)).await?.ok_or(StorageError::NoSuchBlob(*digest))
    }

    async fn exists(&self, digest: &Digest) -> Result<bool, StorageError> {
        Ok(self.place.len(&self.place.key(digest)).await?.is_some())
    }

    async fn delete(&self, digest: &Digest) -> Result<(), StorageError> {
        self.place.delete(&self.place.key(digest)).await
    }

    async fn claim(&self, owner: &str) -> Result<(), StorageError> {
        claim::claim(&self.place, owner).await
    }

    async fn list(&self) -> BlobList {
        list::walk(self.place.clone())
    }

    fn direct(&self) -> Option<&dyn Direct> {
        self.place.direct.then_some(self as &dyn Direct)
    }
}

#[cfg(test)]
mod tests;
