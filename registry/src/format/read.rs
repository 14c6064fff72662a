//! Reading files here and there, never whole.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::FileExt as _,
};

use super::Fault;

/// Bytes read ahead of what is asked for.
const WINDOW_BYTES: u64 = 64 << 10;
/// Fields, entries or values that one file may make its reader look at.
const STEPS_MAX: u64 = 4_000_000;
/// All names and texts of one file that are kept while it is read, in bytes.
const KEPT_BYTES_MAX: usize = 8 << 20;

/// A file that is read where it is asked to be.
pub trait ReadAt {
    /// Its length in bytes.
    fn len(&self) -> u64;

    /// Whether there is nothing in it.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills the buffer with what stands from `offset` on.
    ///
    /// # Errors
    /// A file that ends before, or that cannot be read.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
}

/// A file of this machine; its length is that when it was opened.
#[derive(Debug)]
pub struct LocalFile {
    file: File,
    len: u64,
}

impl LocalFile {
    /// # Errors
    /// A file whose length cannot be told.
    pub fn new(file: File) -> io::Result<Self> {
        let len = file.metadata()?.len();
        Ok(Self { file, len })
    }
}

impl ReadAt for LocalFile {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }
}

impl ReadAt for Vec<u8> {
    fn len(&self) -> u64 {
        self.as_slice().len() as u64
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        let found = from.checked_add(buffer.len()).and_then(|to| self.get(from..to));
        buffer.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

/// A place in a file that moves on, and how much it may still do.
pub(super) struct Cursor<'a> {
    file: &'a dyn ReadAt,
    at: u64,
    window: Vec<u8>,
    window_at: u64,
    steps: u64,
    kept: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(file: &'a dyn ReadAt, at: u64) -> Self {
        Self { file, at, window: Vec::new(), window_at: 0, steps: 0, kept: 0 }
    }

    pub(super) const fn at(&self) -> u64 {
        self.at
    }

    pub(super) fn end(&self) -> u64 {
        self.file.len()
    }

    pub(super) fn left(&self) -> u64 {
        self.end().saturating_sub(self.at)
    }

    /// Counts one thing looked at.
    pub(super) fn step(&mut self) -> Result<(), Fault> {
        self.steps += 1;
        if self.steps > STEPS_MAX {
            return Err(Fault::bad(format!("is made of more than {STEPS_MAX} parts")));
        }
        Ok(())
    }

    pub(super) fn byte(&mut self) -> Result<u8, Fault> {
        let mut one = [0];
        self.fill(&mut one)?;
        Ok(one[0])
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let mut all = [0; N];
        self.fill(&mut all)?;
        Ok(all)
    }

    /// A text of `length` bytes that its reader keeps.
    pub(super) fn text(&mut self, length: u64, most: usize) -> Result<String, Fault> {
        let bytes = usize::try_from(length).ok().filter(|bytes| *bytes <= most);
        let bytes = bytes.ok_or_else(|| Fault::bad(format!("has a name of {length} bytes at byte {}", self.at)))?;
        self.kept += bytes;
        if self.kept > KEPT_BYTES_MAX {
            return Err(Fault::bad(format!("has more than {KEPT_BYTES_MAX} bytes of names")));
        }
        if length > self.left() {
            return Err(self.too_short());
        }
        let mut text = vec![0; bytes];
        self.fill(&mut text)?;
        String::from_utf8(text).map_err(|_| Fault::bad(format!("has a name that is not UTF-8 before byte {}", self.at)))
    }

    /// Passes over bytes without reading them.
    pub(super) fn skip(&mut self, length: u64) -> Result<(), Fault> {
        if length > self.left() {
            return Err(self.too_short());
        }
        self.at += length;
        Ok(())
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<(), Fault> {
        if buffer.len() as u64 > self.left() {
            return Err(self.too_short());
        }
        let end = self.at + buffer.len() as u64;
        if self.at < self.window_at || end > self.window_at + self.window.len() as u64 {
            let ahead = WINDOW_BYTES.max(buffer.len() as u64).min(self.left());
            self.window.resize(usize::try_from(ahead).unwrap_or(usize::MAX), 0);
            self.file.read_exact_at(&mut self.window, self.at)?;
            self.window_at = self.at;
        }
        let from = usize::try_from(self.at - self.window_at).unwrap_or(usize::MAX);
        buffer.copy_from_slice(&self.window[from..from + buffer.len()]);
        self.at = end;
        Ok(())
    }

    fn too_short(&self) -> Fault {
        Fault::bad(format!("says more at byte {} than its {} bytes hold", self.at, self.end()))
    }
}

/// The file from its beginning, for readers of streams.
pub(super) struct Stream<'a> {
    file: &'a dyn ReadAt,
    at: u64,
}

impl<'a> Stream<'a> {
    pub(super) const fn new(file: &'a dyn ReadAt) -> Self {
        Self { file, at: 0 }
    }
}

impl Read for Stream<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.file.len() - self.at).unwrap_or(usize::MAX);
        let count = buffer.len().min(left);
        self.file.read_exact_at(&mut buffer[..count], self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

/// The first bytes, at most so many.
pub(super) fn head(file: &dyn ReadAt, most: u64) -> Result<Vec<u8>, Fault> {
    let length = usize::try_from(file.len().min(most)).unwrap_or(usize::MAX);
    let mut head = vec![0; length];
    file.read_exact_at(&mut head, 0)?;
    Ok(head)
}

/// The last bytes, at most so many, and where they begin.
pub(super) fn tail(file: &dyn ReadAt, most: u64) -> Result<(Vec<u8>, u64), Fault> {
    let length = file.len().min(most);
    let from = file.len() - length;
    let mut tail = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
    file.read_exact_at(&mut tail, from)?;
    Ok((tail, from))
}
