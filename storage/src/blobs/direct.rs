//! Bytes that need not pass through us: addresses that are signed for one purpose and a limited time.

use std::time::Duration;

use async_trait::async_trait;
use domain::Digest;

use crate::StorageError;

/// An address that carries its own permission. Whoever has it may use it until it expires.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    pub url: String,
    /// To be sent along, as they are.
    pub headers: Vec<(String, String)>,
}

/// An upload that clients make part by part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectUpload {
    /// What finishes or forgets it. Not for clients.
    pub ticket: String,
    /// Where the parts go, each with a PUT whose answer has its tag in the header `ETag`.
    pub parts: Vec<Signed>,
}

/// What a place of blobs lets clients do by themselves.
///
/// An upload is seen by nobody before it is finished, and then under its digest only. One that is neither finished nor
/// forgotten is cleared after a day.
#[async_trait]
pub trait Direct: Send + Sync {
    /// The address of a blob's bytes, which come with this `Content-Disposition`. They are not checked against the
    /// name on their way, and whether they are there is not looked at.
    async fn download(&self, digest: &Digest, disposition: &str, valid: Duration) -> Result<Signed, StorageError>;

    /// Begins an upload of so many parts, 1 to 10,000. All but the last must have 5 MiB at least.
    async fn begin(&self, parts: u32, valid: Duration) -> Result<DirectUpload, StorageError>;

    /// Makes a blob of the parts, given by number and tag in their order: reads it once for its digest and gives that
    /// and the length. Finishing again gives the same. [`StorageError::BadParts`] where they are not what was sent.
    async fn finish(&self, ticket: &str, parts: &[(u32, String)]) -> Result<(Digest, u64), StorageError>;

    /// Clears the upload, finished or not; the blob stays. An unknown one is no error.
    async fn forget(&self, ticket: &str) -> Result<(), StorageError>;
}
