//! Blobs as files of one directory.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use async_trait::async_trait;
use bytes::Bytes;
use domain::Digest;
use uuid::Uuid;

use super::{BlobList, BlobStream, BlobWriter, Blobs, list, read, write::LocalWriter};
use crate::{StorageError, disk};

/// Blobs as files: `dir/ab/cdef...`, the digest split after two digits.
#[derive(Debug, Clone)]
pub struct LocalBlobs {
    dir: Arc<Path>,
}

impl LocalBlobs {
    /// Opens or creates the directory and clears what interrupted writes left behind.
    pub async fn open(dir: &Path) -> Result<Self, StorageError> {
        let dir: Arc<Path> = dir.into();
        let blobs = Self { dir: dir.clone() };
        blocking(format!("open blobs in {}", dir.display()), move || {
            let scratch = dir.join("tmp");
            disk::create_dir(&scratch)?;
            for entry in fs::read_dir(&scratch)? {
                fs::remove_file(entry?.path())?;
            }
            Ok(())
        })
        .await?;
        Ok(blobs)
    }

    pub(super) fn path(&self, digest: &Digest) -> PathBuf {
        let name = digest.to_string();
        self.dir.join(&name[..2]).join(&name[2..])
    }

    /// A name for a file that is being written; whatever has such a name is cleared at the next start.
    pub(super) fn scratch(&self) -> PathBuf {
        self.dir.join("tmp").join(Uuid::new_v4().simple().to_string())
    }
}

/// Disk work, off the async runtime.
pub(super) async fn blocking<T: Send + 'static>(
    doing: String,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, StorageError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| StorageError::WorkerGone("blobs"))?
        .map_err(StorageError::io(doing))
}

/// Whether the file holds these bytes already; it is made young then. Not one that is being removed at this moment.
fn stands(path: &Path, bytes: &[u8]) -> bool {
    let touched = || {
        let mut file = File::open(path)?;
        let mut found = Vec::with_capacity(bytes.len());
        file.read_to_end(&mut found)?;
        if found != bytes {
            return Ok(false);
        }
        file.set_modified(SystemTime::now())?;
        path.try_exists()
    };
    let found: io::Result<bool> = touched();
    found.unwrap_or(false)
}

#[async_trait]
impl Blobs for LocalBlobs {
    async fn put(&self, bytes: Bytes) -> Result<Digest, StorageError> {
        let blobs = self.clone();
        blocking("write a blob".into(), move || {
            let digest = Digest::of(&bytes);
            let path = blobs.path(&digest);
            let parent = path.parent().unwrap_or(&blobs.dir);
            if stands(&path, &bytes) {
                // Whoever wrote it may not have synced the directory yet.
                disk::sync_dir(parent)?;
            } else {
                // Absent, or damaged on disk: these are the right bytes.
                disk::create_dir(parent)?;
                disk::write_whole(&path, &blobs.scratch(), &bytes)?;
            }
            Ok(digest)
        })
        .await
    }

    async fn writer(&self) -> Result<Box<dyn BlobWriter>, StorageError> {
        Ok(Box::new(LocalWriter::begin(self.clone()).await?))
    }

    async fn get(&self, digest: &Digest) -> Result<Bytes, StorageError> {
        let (path, digest) = (self.path(digest), *digest);
        let read = tokio::task::spawn_blocking(move || match fs::read(&path) {
            Ok(bytes) if Digest::of(&bytes) == digest => Ok(Bytes::from(bytes)),
            Ok(_) => Err(StorageError::corrupt(path.display().to_string(), "its bytes do not match its name")),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Err(StorageError::NoSuchBlob(digest)),
            Err(e) => Err(StorageError::io(format!("read {}", path.display()))(e)),
        });
        read.await.map_err(|_| StorageError::WorkerGone("blobs"))?
    }

    async fn read(&self, digest: &Digest, range: Range<u64>) -> Result<BlobStream, StorageError> {
        read::open(self.path(digest), *digest, range).await
    }

    async fn len(&self, digest: &Digest) -> Result<u64, StorageError> {
        let path = self.path(digest);
        let doing = format!("look for {}", path.display());
        let found = blocking(doing, move || match fs::metadata(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            found => found.map(|file| Some(file.len())),
        });
        found.await?.ok_or(StorageError::NoSuchBlob(*digest))
    }

    async fn exists(&self, digest: &Digest) -> Result<bool, StorageError> {
        let path = self.path(digest);
        blocking(format!("look for {}", path.display()), move || path.try_exists()).await
    }

    async fn delete(&self, digest: &Digest) -> Result<(), StorageError> {
        let path = self.path(digest);
        blocking(format!("delete {}", path.display()), move || match fs::remove_file(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(e),
            Ok(()) => path.parent().map_or(Ok(()), disk::sync_dir),
        })
        .await
    }

    async fn list(&self) -> BlobList {
        list::walk(self.dir.clone())
    }
}
