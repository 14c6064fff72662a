//! Immutable bytes, named by their digest.

mod direct;
mod list;
mod local;
mod read;
mod s3;
mod write;

use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;
use domain::{Digest, Timestamp};
use futures::stream::BoxStream;

pub use direct::{Direct, DirectUpload, Signed};
pub use local::LocalBlobs;
pub use s3::{S3Blobs, S3Keys, S3Options};

use crate::StorageError;

/// The bytes of a blob in order, piece by piece; each piece is at most a few hundred kilobytes. Dropping it ends the
/// reading.
pub type BlobStream = BoxStream<'static, Result<Bytes, StorageError>>;

/// A blob as a listing shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlobInfo {
    pub digest: Digest,
    /// Length as stored; the bytes are not looked at.
    pub bytes: u64,
    /// When it was last stored, by the clock of the store: storing the same bytes again makes it young again.
    pub written_at: Timestamp,
}

/// Blobs in no particular order.
pub type BlobList = BoxStream<'static, Result<BlobInfo, StorageError>>;

/// Bytes that never change, found by their SHA-256.
///
/// A call that is cancelled may still take effect; since bytes and name belong together, doing it again is harmless.
#[async_trait]
pub trait Blobs: Send + Sync + 'static {
    /// Keeps `bytes` and gives their name. Durable when it returns; storing the same bytes again changes nothing but
    /// their age.
    async fn put(&self, bytes: Bytes) -> Result<Digest, StorageError>;

    /// Begins a blob that comes in pieces, whose name is not known before its end.
    async fn writer(&self) -> Result<Box<dyn BlobWriter>, StorageError>;

    /// The bytes, checked against the name: [`StorageError::NoSuchBlob`], or [`StorageError::Corrupt`] when they differ.
    async fn get(&self, digest: &Digest) -> Result<Bytes, StorageError>;

    /// The bytes in `range`, as far as the blob has them, for blobs that memory must not hold whole.
    ///
    /// A range that covers the whole blob is checked against the name on its way, and its last piece comes only after
    /// that: a reader of damaged bytes gets [`StorageError::Corrupt`] in place of their end. A smaller range is not
    /// checked. Who has begun to read reads to the end, also when the blob is deleted meanwhile, unless a connection
    /// to the place of the blobs breaks after that.
    async fn read(&self, digest: &Digest, range: Range<u64>) -> Result<BlobStream, StorageError>;

    /// How many bytes stand under this name; they are not checked. [`StorageError::NoSuchBlob`].
    async fn len(&self, digest: &Digest) -> Result<u64, StorageError>;

    /// Whether bytes stand under this name; they are not checked.
    async fn exists(&self, digest: &Digest) -> Result<bool, StorageError>;

    /// Removes the bytes; absent ones are no error.
    async fn delete(&self, digest: &Digest) -> Result<(), StorageError>;

    /// For what clients may do without us, where the place of the blobs lets them.
    fn direct(&self) -> Option<&dyn Direct> {
        None
    }

    /// Every blob that is whole, page by page as the store gives them, never all in memory. One that is stored or
    /// removed meanwhile may be listed or not.
    async fn list(&self) -> BlobList;
}

/// A blob in the making. Nothing of it is seen before [`BlobWriter::finish`], and nothing of it stays when it is
/// dropped, when the process ends, or after an error: begin another then.
#[async_trait]
pub trait BlobWriter: Send {
    /// Adds bytes at the end. Keeps a few hundred kilobytes in memory where they go to disk, and two parts of 8 MiB
    /// where they go over the network; never more.
    async fn write(&mut self, bytes: Bytes) -> Result<(), StorageError>;

    /// Ends the blob and gives its name and length. As durable as [`Blobs::put`] when it returns; bytes that are
    /// stored already, or stand there damaged, are replaced by these.
    async fn finish(self: Box<Self>) -> Result<(Digest, u64), StorageError>;
}
