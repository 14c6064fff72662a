//! The files of a write-ahead log: frames `[length u32][crc32 u32][Arrow IPC stream]`, little-endian.
//!
//! A file is named by its index. Only the newest is written to; every older one was synced before the next began,
//! so only the newest may end in a torn frame.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Cursor, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use arrow::{
    array::RecordBatch,
    ipc::{reader::StreamReader, writer::StreamWriter},
};
use domain::Digest;

use crate::{StorageError, disk};

pub(crate) const HEADER_BYTES: usize = 8;
/// A frame's payload is not longer than this.
const PAYLOAD_BYTES_MAX: usize = 1 << 30;

/// The newest file of a log, as its writer needs it.
pub(crate) trait LogFile: Send {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Makes everything appended so far durable.
    fn sync(&mut self) -> io::Result<()>;
}

impl LogFile for File {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }
}

/// Opens a log file for appending; tests put faulty ones here.
pub(crate) type OpenLog = Arc<dyn Fn(&Path) -> io::Result<Box<dyn LogFile>> + Send + Sync>;

pub(crate) fn open_log(path: &Path) -> io::Result<Box<dyn LogFile>> {
    let file = OpenOptions::new().append(true).create(true).open(path)?;
    disk::sync_dir(path.parent().unwrap_or(Path::new(".")))?;
    Ok(Box::new(file))
}

pub(crate) fn path_of(dir: &Path, index: u64) -> PathBuf {
    dir.join(format!("{index:016}.wal"))
}

/// The log files in `dir`, oldest first.
pub(crate) fn list(dir: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let is_log = path.extension().is_some_and(|e| e == "wal");
        if let Some(index) = path.file_stem().and_then(|s| s.to_str()?.parse().ok()).filter(|_| is_log) {
            files.push((index, path));
        }
    }
    files.sort_unstable();
    Ok(files)
}

/// Removes the files whose rows stand in segments.
pub(crate) fn drop_covered(dir: &Path, covered: u64) -> io::Result<()> {
    for (_, path) in list(dir)?.into_iter().filter(|(index, _)| *index <= covered) {
        fs::remove_file(path)?;
    }
    disk::sync_dir(dir)
}

/// The chain after one more frame.
pub(crate) fn link(chain: Digest, payload: &[u8]) -> Digest {
    Digest::of_parts([chain.as_bytes().as_slice(), payload])
}

/// The batch as a whole frame, header included. `None`: it is too long for one.
pub(crate) fn frame(batch: &RecordBatch) -> Result<Option<Vec<u8>>, StorageError> {
    let mut writer = StreamWriter::try_new(vec![0; HEADER_BYTES], &batch.schema())?;
    writer.write(batch)?;
    writer.finish()?;
    let mut frame = writer.into_inner()?;
    let payload = &frame[HEADER_BYTES..];
    let Some(length) = u32::try_from(payload.len()).ok().filter(|_| payload.len() <= PAYLOAD_BYTES_MAX) else {
        return Ok(None);
    };
    let crc = crc32fast::hash(payload);
    frame[..4].copy_from_slice(&length.to_le_bytes());
    frame[4..HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
    Ok(Some(frame))
}

/// The payload of the first frame of `bytes`; `None` where it is torn. An empty payload is torn too: a file
/// system may leave zeros behind a crash, and zero is the checksum of nothing.
fn payload(bytes: &[u8]) -> Option<&[u8]> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (crc, rest) = rest.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok().filter(|&n| n > 0)?;
    let payload = rest.get(..length)?;
    (crc32fast::hash(payload) == u32::from_le_bytes(*crc)).then_some(payload)
}

/// What a log file holds.
#[derive(Debug)]
pub(crate) struct Replayed {
    pub batches: Vec<RecordBatch>,
    /// The chain after the last frame.
    pub chain: Digest,
    /// Length of the whole frames in bytes.
    pub bytes: u64,
}

/// Reads a file. In the newest one a torn tail is cut off (and kept beside it as `.torn`): it was never
/// acknowledged. Anywhere else a torn frame is damage.
pub(crate) fn replay(path: &Path, newest: bool, mut chain: Digest) -> Result<Replayed, StorageError> {
    let bytes = fs::read(path).map_err(StorageError::io(format!("read {}", path.display())))?;
    let (mut rest, mut batches) = (bytes.as_slice(), Vec::new());
    while let Some(payload) = payload(rest) {
        let unreadable = |e: arrow::error::ArrowError| StorageError::corrupt(path.display().to_string(), e);
        for batch in StreamReader::try_new(Cursor::new(payload), None).map_err(unreadable)? {
            batches.push(batch.map_err(unreadable)?);
        }
        chain = link(chain, payload);
        rest = &rest[HEADER_BYTES + payload.len()..];
    }
    let whole = bytes.len() - rest.len();
    if !rest.is_empty() {
        if !newest {
            return Err(StorageError::corrupt(path.display().to_string(), format!("no whole frame at byte {whole}")));
        }
        tracing::warn!(file = %path.display(), at = whole, cut = rest.len(), "cut a torn tail off the log");
        cut(path, whole, rest).map_err(StorageError::io(format!("cut {}", path.display())))?;
    }
    Ok(Replayed { batches, chain, bytes: whole as u64 })
}

fn cut(path: &Path, whole: usize, tail: &[u8]) -> io::Result<()> {
    fs::write(path.with_extension("torn"), tail)?;
    let file = OpenOptions::new().write(true).open(path)?;
    file.set_len(whole as u64)?;
    file.sync_all()
}
