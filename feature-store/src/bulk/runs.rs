//! Sorted runs of pairs in temporary files, and their merge.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    fs::File,
    io::{self, BufReader, BufWriter, Read as _, Write as _},
    path::{Path, PathBuf},
};

use storage::{Pair, SortedPairs, StorageError};
use uuid::Uuid;

/// Bytes of pairs that are sorted together; more become another run.
const RUN_BYTES: usize = 64 << 20;
const BUFFER_BYTES: usize = 256 << 10;

/// Pairs on their way into runs.
pub(crate) struct RunWriter {
    dir: PathBuf,
    bytes: Vec<u8>,
    /// Start, length of the key, length of the value.
    pairs: Vec<(usize, u32, u32)>,
    sorted: bool,
    runs: Vec<PathBuf>,
}

impl RunWriter {
    /// Runs are written into `dir`, which is there.
    pub(crate) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), bytes: Vec::new(), pairs: Vec::new(), sorted: true, runs: Vec::new() }
    }

    /// Adds the pair that `write` appends: first the key, whose end it gives, then the value.
    pub(crate) fn push(&mut self, write: impl FnOnce(&mut Vec<u8>) -> usize) -> Result<(), StorageError> {
        let start = self.bytes.len();
        let key_end = write(&mut self.bytes);
        let (key, value) = (key_end - start, self.bytes.len() - key_end);
        let length = |bytes: usize| u32::try_from(bytes).map_err(|_| StorageError::BadKey { length: bytes });
        let pair = (start, length(key)?, length(value)?);
        if let Some(last) = self.pairs.last()
            && self.key(*last) > &self.bytes[start..key_end]
        {
            self.sorted = false;
        }
        self.pairs.push(pair);
        if self.bytes.len() >= RUN_BYTES {
            self.cut()?;
        }
        Ok(())
    }

    fn key(&self, (start, key, _): (usize, u32, u32)) -> &[u8] {
        &self.bytes[start..start + key as usize]
    }

    fn cut(&mut self) -> Result<(), StorageError> {
        if self.pairs.is_empty() {
            return Ok(());
        }
        let mut pairs = std::mem::take(&mut self.pairs);
        if !self.sorted {
            pairs.sort_unstable_by(|a, b| self.key(*a).cmp(self.key(*b)));
        }
        let path = self.dir.join(Uuid::now_v7().to_string());
        let write = || -> io::Result<()> {
            let mut file = BufWriter::with_capacity(BUFFER_BYTES, File::create_new(&path)?);
            for (start, key, value) in &pairs {
                file.write_all(&key.to_le_bytes())?;
                file.write_all(&value.to_le_bytes())?;
                file.write_all(&self.bytes[*start..start + *key as usize + *value as usize])?;
            }
            file.into_inner()?.flush()
        };
        write().map_err(|source| failed("write", source))?;
        self.runs.push(path);
        self.bytes.clear();
        pairs.clear();
        (self.pairs, self.sorted) = (pairs, true);
        Ok(())
    }

    /// The runs that were written.
    pub(crate) fn finish(mut self) -> Result<Vec<PathBuf>, StorageError> {
        self.cut()?;
        Ok(self.runs)
    }
}

fn failed(doing: &str, source: io::Error) -> StorageError {
    StorageError::Io { doing: format!("{doing} a temporary run of online values"), source }
}

/// One run as it is read back.
struct Run(BufReader<File>);

impl Run {
    fn next(&mut self) -> Result<Option<Pair>, StorageError> {
        let mut lengths = [0; 8];
        match self.0.read_exact(&mut lengths) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            other => other.map_err(|source| failed("read", source))?,
        }
        let length = |at: usize| u32::from_le_bytes([lengths[at], lengths[at + 1], lengths[at + 2], lengths[at + 3]]);
        let (mut key, mut value) = (vec![0; length(0) as usize], vec![0; length(4) as usize]);
        self.0.read_exact(&mut key).map_err(|source| failed("read", source))?;
        self.0.read_exact(&mut value).map_err(|source| failed("read", source))?;
        Ok(Some((key, value)))
    }
}

/// A key, the number of its run, and its value: the least of them comes first.
type Waiting = Reverse<(Vec<u8>, usize, Vec<u8>)>;

/// All pairs of the runs in the order of their keys.
struct Merged {
    runs: Vec<Run>,
    /// The next pair of each run that has one.
    next: BinaryHeap<Waiting>,
    broken: Option<StorageError>,
}

/// Merges the runs.
pub(crate) fn merge(runs: &[PathBuf]) -> Result<SortedPairs, StorageError> {
    let mut merged = Merged { runs: Vec::new(), next: BinaryHeap::new(), broken: None };
    for path in runs {
        let file = File::open(path).map_err(|source| failed("open", source))?;
        merged.runs.push(Run(BufReader::with_capacity(BUFFER_BYTES, file)));
        merged.pull(merged.runs.len() - 1)?;
    }
    Ok(Box::new(merged))
}

impl Merged {
    fn pull(&mut self, run: usize) -> Result<(), StorageError> {
        if let Some((key, value)) = self.runs[run].next()? {
            self.next.push(Reverse((key, run, value)));
        }
        Ok(())
    }
}

impl Iterator for Merged {
    type Item = Result<Pair, StorageError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(error) = self.broken.take() {
            self.next.clear();
            return Some(Err(error));
        }
        let Reverse((key, run, value)) = self.next.pop()?;
        self.broken = self.pull(run).err();
        Some(Ok((key, value)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn merged_runs_are_all_pairs_in_order(
            parts in prop::collection::vec(prop::collection::btree_map(".{1,4}", ".{0,5}", 0..20), 0..5),
        ) {
            let dir = tempfile::tempdir().unwrap();
            let mut expected = Vec::new();
            let mut runs = Vec::new();
            for (number, part) in parts.into_iter().enumerate() {
                let mut writer = RunWriter::new(dir.path());
                // Against the order, so that sorting is put to the test.
                for (key, value) in part.into_iter().rev() {
                    let key = format!("{key}{number}");
                    writer.push(|out| {
                        out.extend_from_slice(key.as_bytes());
                        let end = out.len();
                        out.extend_from_slice(value.as_bytes());
                        end
                    }).unwrap();
                    expected.push((key.into_bytes(), value.into_bytes()));
                }
                runs.extend(writer.finish().unwrap());
            }
            expected.sort();
            let merged: Vec<Pair> = merge(&runs).unwrap().collect::<Result<_, _>>().unwrap();
            prop_assert_eq!(merged, expected);
        }
    }
}
