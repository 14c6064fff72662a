//! Reading a blob's file, piece by piece.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom},
    ops::Range,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use domain::{Digest, Digester};
use futures::stream;

use super::BlobStream;
use crate::StorageError;

const PIECE_BYTES: u64 = 256 << 10;

/// A file on its way out.
struct Reading {
    file: File,
    path: PathBuf,
    left: u64,
    /// What the bytes must come to, where all of them are read.
    check: Option<(Digester, Digest)>,
}

/// Opens the file now, so that an absent one is an error of the call and not of the stream.
pub(super) async fn open(path: PathBuf, digest: Digest, range: Range<u64>) -> Result<BlobStream, StorageError> {
    let reading = blocking(move || begin(path, digest, range)).await?;
    Ok(Box::pin(stream::try_unfold(reading, |reading: Option<Reading>| async move {
        match reading {
            None => Ok(None),
            Some(reading) => blocking(move || reading.next()).await.map(Some),
        }
    })))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StorageError> + Send + 'static,
) -> Result<T, StorageError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| StorageError::WorkerGone("blobs"))?
}

/// `None` where there is nothing to read.
fn begin(path: PathBuf, digest: Digest, range: Range<u64>) -> Result<Option<Reading>, StorageError> {
    let mut file = match File::open(&path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(StorageError::NoSuchBlob(digest)),
        other => other.map_err(StorageError::io(format!("open {}", path.display())))?,
    };
    let prepared = (|| {
        let len = file.metadata()?.len();
        file.seek(SeekFrom::Start(range.start))?;
        Ok(len)
    })();
    let len = prepared.map_err(StorageError::io(format!("read {}", path.display())))?;
    let whole = range.start == 0 && range.end >= len;
    let left = range.end.min(len).saturating_sub(range.start);
    let check = whole.then(|| (Digester::default(), digest));
    if left > 0 {
        return Ok(Some(Reading { file, path, left, check }));
    }
    agreed(check, &path).map(|()| None)
}

impl Reading {
    /// The next piece, and what is left.
    fn next(mut self) -> Result<(Bytes, Option<Self>), StorageError> {
        let piece_bytes = self.left.min(PIECE_BYTES);
        let mut piece = vec![0; usize::try_from(piece_bytes).unwrap_or(usize::MAX)];
        match self.file.read_exact(&mut piece) {
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Err(damaged(&self.path)),
            other => other.map_err(StorageError::io(format!("read {}", self.path.display())))?,
        }
        self.left -= piece_bytes;
        if let Some((digester, _)) = &mut self.check {
            digester.update(&piece);
        }
        if self.left > 0 {
            return Ok((piece.into(), Some(self)));
        }
        // Checked before the last piece is given: whoever counts bytes never has them all of a damaged blob.
        agreed(self.check, &self.path)?;
        Ok((piece.into(), None))
    }
}

fn agreed(check: Option<(Digester, Digest)>, path: &Path) -> Result<(), StorageError> {
    match check.map(|(digester, digest)| digester.finish() == digest) {
        Some(false) => Err(damaged(path)),
        Some(true) | None => Ok(()),
    }
}

fn damaged(path: &Path) -> StorageError {
    StorageError::corrupt(path.display().to_string(), "its bytes do not match its name")
}
