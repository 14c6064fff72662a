//! Writing an object, piece by piece.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::{Buf as _, Bytes};
use domain::{Digest, Digester};

use super::{Place, hashed, staging::Multipart};
use crate::{BlobWriter, StorageError};

/// Up to this the buffer grows as it likes; beyond, it takes a whole part's memory at once.
const SMALL_BYTES: usize = 1 << 20;

/// Keeps one part in memory while the one before is on its way.
pub(super) struct S3Writer {
    /// Absent after a failure, and after a call that nobody waited for.
    half: Option<Half>,
}

/// An object that is not a blob yet. Dropped, nothing stays of it.
struct Half {
    place: Arc<Place>,
    digester: Digester,
    bytes: u64,
    pending: Vec<u8>,
    /// Once there is more than one part.
    upload: Option<Multipart>,
}

impl S3Writer {
    pub(super) fn begin(place: Arc<Place>) -> Self {
        let half = Half { place, digester: Digester::default(), bytes: 0, pending: Vec::new(), upload: None };
        Self { half: Some(half) }
    }

    fn take(&mut self) -> Result<Half, StorageError> {
        self.half.take().ok_or(StorageError::WorkerGone("a blob's writer"))
    }
}

impl Half {
    /// A full part goes only when more follows, so that a blob of one part is one request.
    async fn write(mut self, mut bytes: Bytes) -> Result<Self, StorageError> {
        let part_bytes = self.place.cuts.part_bytes;
        while bytes.has_remaining() {
            if self.pending.len() == part_bytes {
                self = self.send().await?;
            }
            let piece = bytes.split_to(bytes.len().min(part_bytes - self.pending.len()));
            if self.pending.len() + piece.len() > SMALL_BYTES {
                self.pending.reserve_exact(part_bytes - self.pending.len());
            }
            self.pending.extend_from_slice(&piece);
        }
        Ok(self)
    }

    async fn hash(mut self) -> Result<(Self, Bytes), StorageError> {
        let part = Bytes::from(std::mem::take(&mut self.pending));
        self.bytes += part.len() as u64;
        self.digester = hashed(self.digester, part.clone()).await?;
        Ok((self, part))
    }

    async fn send(self) -> Result<Self, StorageError> {
        let (mut half, part) = self.hash().await?;
        let mut upload = match half.upload.take() {
            Some(upload) => upload,
            None => Multipart::begin(half.place.clone(), half.place.staged()).await?,
        };
        upload.send(part).await?;
        half.upload = Some(upload);
        Ok(half)
    }

    async fn finish(self) -> Result<(Digest, u64), StorageError> {
        let (half, rest) = self.hash().await?;
        let Self { place, digester, bytes, upload, .. } = half;
        let digest = digester.finish();
        match upload {
            None => place.keep(&digest, rest).await?,
            Some(mut upload) => {
                upload.send(rest).await?;
                upload.complete(bytes).await?.file(&digest).await?;
            }
        }
        Ok((digest, bytes))
    }
}

#[async_trait]
impl BlobWriter for S3Writer {
    async fn write(&mut self, bytes: Bytes) -> Result<(), StorageError> {
        let half = self.take()?;
        self.half = Some(half.write(bytes).await?);
        Ok(())
    }

    async fn finish(mut self: Box<Self>) -> Result<(Digest, u64), StorageError> {
        self.take()?.finish().await
    }
}
