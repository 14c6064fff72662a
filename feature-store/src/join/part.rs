//! Where rows lie: batches in memory, or Parquet files behind a narrow reader.

use std::{
    fmt,
    fs::File,
    io::{self, BufReader, Read},
    ops::Range,
    os::unix::fs::FileExt as _,
    path::Path,
    sync::Arc,
};

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use bytes::Bytes;
use parquet::{
    arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions},
    errors::ParquetError,
    file::{
        metadata::{PageIndexPolicy, ParquetMetaData},
        reader::{ChunkReader, Length},
    },
};

use super::error::JoinError;

/// Bytes that do not change while they are read, from anywhere: a file, memory, an object store.
///
/// Many threads read at once.
pub trait ReadAt: Send + Sync {
    /// How many bytes there are.
    fn len(&self) -> u64;

    /// Exactly the bytes in `range`, which lies within [`ReadAt::len`].
    ///
    /// # Errors
    /// When they cannot be had, or end before the range does.
    fn read(&self, range: Range<u64>) -> io::Result<Bytes>;

    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl ReadAt for Bytes {
    fn len(&self) -> u64 {
        Self::len(self) as u64
    }

    fn read(&self, range: Range<u64>) -> io::Result<Bytes> {
        let place = |at: u64| usize::try_from(at).ok().filter(|at| *at <= Self::len(self));
        match (place(range.start), place(range.end)) {
            (Some(start), Some(end)) if start <= end => Ok(self.slice(start..end)),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

/// A file of this machine.
#[derive(Debug)]
pub struct LocalFile {
    file: File,
    len: u64,
}

impl LocalFile {
    /// Opens the file; its length is taken now.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let len = file.metadata()?.len();
        Ok(Self { file, len })
    }
}

impl ReadAt for LocalFile {
    fn len(&self) -> u64 {
        self.len
    }

    fn read(&self, range: Range<u64>) -> io::Result<Bytes> {
        if range.start > range.end || range.end > self.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let length = usize::try_from(range.end - range.start).map_err(io::Error::other)?;
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, range.start)?;
        Ok(bytes.into())
    }
}

/// Some rows of a table. Clones share them.
#[derive(Clone)]
pub struct Part(pub(super) Kind);

#[derive(Clone)]
pub(super) enum Kind {
    Rows(RecordBatch),
    Parquet { name: Arc<str>, source: Source, meta: ArrowReaderMetadata },
}

impl Part {
    /// A Parquet file; its footer is read now. `name` is for messages.
    ///
    /// # Errors
    /// `Read` when the footer cannot be read.
    pub fn parquet(name: impl Into<Arc<str>>, source: Arc<dyn ReadAt>) -> Result<Self, JoinError> {
        let (name, source) = (name.into(), Source(source));
        // Where pages begin is worth knowing: those without a wanted row are not even read.
        let options = ArrowReaderOptions::new()
            .with_offset_index_policy(PageIndexPolicy::Optional)
            .with_column_index_policy(PageIndexPolicy::Skip);
        let meta = ArrowReaderMetadata::load(&source, options)
            .map_err(|source| JoinError::Read { place: name.to_string(), source })?;
        Ok(Self(Kind::Parquet { name, source, meta }))
    }

    /// The columns, by their names in the file.
    #[must_use]
    pub fn schema(&self) -> SchemaRef {
        match &self.0 {
            Kind::Rows(batch) => batch.schema(),
            Kind::Parquet { meta, .. } => meta.schema().clone(),
        }
    }

    /// How many rows there are, as the footer says.
    #[must_use]
    pub fn rows(&self) -> u64 {
        match &self.0 {
            Kind::Rows(batch) => batch.num_rows() as u64,
            Kind::Parquet { meta, .. } => group_rows(meta.metadata()).sum(),
        }
    }
}

/// Rows of each row group; a negative count is none.
pub(super) fn group_rows(meta: &ParquetMetaData) -> impl Iterator<Item = u64> + '_ {
    meta.row_groups().iter().map(|group| u64::try_from(group.num_rows()).unwrap_or(0))
}

impl From<RecordBatch> for Part {
    fn from(batch: RecordBatch) -> Self {
        Self(Kind::Rows(batch))
    }
}

impl fmt::Debug for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match &self.0 {
            Kind::Rows(_) => "memory",
            Kind::Parquet { name, .. } => name,
        };
        f.debug_struct("Part").field("name", &name).field("rows", &self.rows()).finish()
    }
}

/// A reader as the `parquet` crate wants it.
#[derive(Clone)]
pub(super) struct Source(Arc<dyn ReadAt>);

impl Length for Source {
    fn len(&self) -> u64 {
        self.0.len()
    }
}

impl ChunkReader for Source {
    type T = BufReader<Cursor>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        Ok(BufReader::new(Cursor { source: self.0.clone(), at: start }))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        let end = start.checked_add(length as u64).filter(|end| *end <= self.0.len());
        let end = end.ok_or_else(|| ParquetError::EOF(format!("{length} bytes from byte {start} on")))?;
        self.0.read(start..end).map_err(|error| ParquetError::External(Box::new(error)))
    }
}

/// Reads on from a place.
pub(super) struct Cursor {
    source: Arc<dyn ReadAt>,
    at: u64,
}

impl Read for Cursor {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let end = self.source.len().min(self.at.saturating_add(buffer.len() as u64));
        if end <= self.at {
            return Ok(0);
        }
        let bytes = self.source.read(self.at..end)?;
        buffer[..bytes.len()].copy_from_slice(&bytes);
        self.at = end;
        Ok(bytes.len())
    }
}
