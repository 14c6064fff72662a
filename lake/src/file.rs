//! Files of a table, as a snapshot lists them and as readers open them.

use std::{
    fs::File,
    io::{self, Read},
    ops::Range,
    os::unix::fs::FileExt as _,
    sync::Arc,
};

use bytes::{Buf as _, Bytes};
use object_store::{ObjectStore, ObjectStoreExt as _, path::Path};
use parquet::{
    errors::ParquetError,
    file::reader::{ChunkReader, Length},
};
use storage::StorageError;
use tokio::runtime::Handle;

use crate::failure;

/// One Parquet file of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveFile {
    /// Below the table's folder.
    pub path: String,
    pub bytes: u64,
    pub rows: u64,
    /// The partition, as `2024-02-29`; `None` where the event time has no such day.
    pub day: Option<String>,
    /// Bounds of the event times in microseconds, both included, the last one up to a millisecond late; `None`: not known.
    pub times: Option<(i64, i64)>,
    /// Least and greatest row number; `None`: not known.
    pub numbers: Option<(i64, i64)>,
    /// Rows that take the place of an earlier one; `None`: not known.
    pub corrections: Option<u64>,
}

/// A Parquet file, opened. Reads block: to be used on threads that compute, never on those that wait.
#[derive(Clone)]
pub enum ParquetFile {
    Local { file: Arc<File>, bytes: u64 },
    Remote { store: Arc<dyn ObjectStore>, path: Path, bytes: u64, runtime: Handle },
    Memory(Bytes),
}

impl ParquetFile {
    /// Length in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        match self {
            Self::Local { bytes, .. } | Self::Remote { bytes, .. } => *bytes,
            Self::Memory(bytes) => bytes.len() as u64,
        }
    }

    /// The bytes in the range, which lies within the file.
    pub fn read(&self, range: Range<u64>) -> Result<Bytes, StorageError> {
        let length = usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(usize::MAX);
        match self {
            Self::Local { file, .. } => {
                let mut bytes = vec![0; length];
                let read = file.read_exact_at(&mut bytes, range.start);
                read.map_err(|source| StorageError::Io { doing: "read a table's file".into(), source })?;
                Ok(bytes.into())
            }
            Self::Remote { store, path, runtime, .. } => {
                runtime.block_on(store.get_range(path, range)).map_err(failure::store(format!("read {path}")))
            }
            Self::Memory(bytes) => {
                let start = usize::try_from(range.start).unwrap_or(usize::MAX);
                let end = start.saturating_add(length);
                if end > bytes.len() {
                    return Err(failure::damaged("a table's file", format!("it ends before byte {end}")));
                }
                Ok(bytes.slice(start..end))
            }
        }
    }
}

impl Length for ParquetFile {
    fn len(&self) -> u64 {
        self.bytes()
    }
}

/// Bytes that are read at once where a reader does not say how many it wants.
const AHEAD_BYTES: u64 = 64 << 10;

/// Reads on from a place.
pub struct Rest {
    file: ParquetFile,
    at: u64,
    ahead: Bytes,
}

impl Read for Rest {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.ahead.is_empty() {
            let end = self.at.saturating_add(AHEAD_BYTES).min(self.file.bytes());
            if end <= self.at {
                return Ok(0);
            }
            self.ahead = self.file.read(self.at..end).map_err(io::Error::other)?;
            self.at = end;
        }
        let count = into.len().min(self.ahead.len());
        self.ahead.copy_to_slice(&mut into[..count]);
        Ok(count)
    }
}

impl ChunkReader for ParquetFile {
    type T = Rest;

    fn get_read(&self, start: u64) -> parquet::errors::Result<Rest> {
        Ok(Rest { file: self.clone(), at: start, ahead: Bytes::new() })
    }

    fn get_bytes(&self, start: u64, length: usize) -> parquet::errors::Result<Bytes> {
        let end = start.saturating_add(length as u64);
        if end > self.bytes() {
            return Err(ParquetError::EOF(format!("the file ends before byte {end}")));
        }
        self.read(start..end).map_err(|e| ParquetError::External(Box::new(e)))
    }
}
