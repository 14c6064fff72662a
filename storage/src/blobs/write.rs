//! Writing a blob as a file, piece by piece.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    path::PathBuf,
};

use async_trait::async_trait;
use bytes::Bytes;
use domain::{Digest, Digester};

use super::{
    BlobWriter,
    local::{LocalBlobs, blocking},
};
use crate::{StorageError, disk};

/// Small pieces wait until there are so many bytes, so that one trip to a disk thread pays.
const PENDING_BYTES_MAX: usize = 256 << 10;

/// Writes beside the blobs and moves the file among them at the end.
pub(super) struct LocalWriter {
    blobs: LocalBlobs,
    /// Absent after a failure.
    half: Option<Half>,
    /// Copies: a small piece may hold on to a large buffer.
    pending: Vec<u8>,
}

/// A file that is not a blob yet.
struct Half {
    file: File,
    scratch: Scratch,
    digester: Digester,
    bytes: u64,
}

impl Half {
    fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        self.file.write_all(piece)?;
        self.digester.update(piece);
        self.bytes += piece.len() as u64;
        Ok(())
    }

    fn finish(self, blobs: &LocalBlobs) -> io::Result<(Digest, u64)> {
        let Self { file, mut scratch, digester, bytes } = self;
        // Never tried again: after a failed sync nobody knows what is on disk.
        file.sync_all()?;
        let digest = digester.finish();
        let path = blobs.path(&digest);
        let parent = path.parent().map(PathBuf::from).unwrap_or_default();
        disk::create_dir(&parent)?;
        // Also over a blob of the same name, which may be damaged; these are the right bytes.
        fs::rename(&scratch.0, &path)?;
        scratch.0 = PathBuf::new();
        disk::sync_dir(&parent)?;
        Ok((digest, bytes))
    }
}

/// A file that is removed unless it found its place, which empties the path.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        if self.0.as_os_str().is_empty() {
            return;
        }
        let path = std::mem::take(&mut self.0);
        // What cannot be removed now is cleared at the next start.
        let remove = move || drop(fs::remove_file(path));
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(remove)),
            Err(_) => remove(),
        }
    }
}

impl LocalWriter {
    pub(super) async fn begin(blobs: LocalBlobs) -> Result<Self, StorageError> {
        let path = blobs.scratch();
        let half = blocking("begin a blob".into(), move || {
            let file = OpenOptions::new().write(true).create_new(true).open(&path)?;
            Ok(Half { file, scratch: Scratch(path), digester: Digester::default(), bytes: 0 })
        });
        Ok(Self { blobs, half: Some(half.await?), pending: Vec::new() })
    }

    /// The half is on a disk thread while this waits; when that fails, or nobody waits any more, it is dropped there.
    async fn write_through<P: AsRef<[u8]> + Send + 'static>(&mut self, piece: P) -> Result<P, StorageError> {
        let mut half = self.half.take().ok_or(StorageError::WorkerGone("a blob's writer"))?;
        let written = blocking("write a blob".into(), move || half.write(piece.as_ref()).map(|()| (half, piece)));
        let (half, piece) = written.await?;
        self.half = Some(half);
        Ok(piece)
    }

    async fn flush(&mut self) -> Result<(), StorageError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let pending = std::mem::take(&mut self.pending);
        self.pending = self.write_through(pending).await?;
        self.pending.clear();
        Ok(())
    }
}

#[async_trait]
impl BlobWriter for LocalWriter {
    async fn write(&mut self, bytes: Bytes) -> Result<(), StorageError> {
        if self.pending.len() + bytes.len() > PENDING_BYTES_MAX {
            self.flush().await?;
        }
        if bytes.len() > PENDING_BYTES_MAX {
            self.write_through(bytes).await?;
        } else {
            self.pending.extend_from_slice(&bytes);
        }
        Ok(())
    }

    async fn finish(mut self: Box<Self>) -> Result<(Digest, u64), StorageError> {
        self.flush().await?;
        let half = self.half.take().ok_or(StorageError::WorkerGone("a blob's writer"))?;
        let blobs = self.blobs.clone();
        blocking("finish a blob".into(), move || half.finish(&blobs)).await
    }
}
