//! The thread that writes a table's log: it takes what waits, writes it at once and syncs once for all.

use std::{
    path::PathBuf,
    sync::{
        Arc, PoisonError, RwLock,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

use arrow::{array::RecordBatch, compute::concat_batches};
use domain::Digest;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::{
    StorageError,
    segment::Segment,
    wal::{self, LogFile, OpenLog},
};

/// Rows appended with `append_soon` are on disk after at most this.
pub(crate) const SYNC_WITHIN: Duration = Duration::from_millis(100);
/// One write is not prolonged beyond this.
const GROUP_BYTES_MAX: usize = 8 << 20;
/// Small neighbouring batches are merged up to this many rows, so that a scan does not meet thousands.
const MERGED_ROWS_MAX: usize = 8_192;

/// Everything a scan needs, behind one lock that is held only to copy handles.
#[derive(Debug)]
pub(crate) struct State {
    pub segments: Vec<Arc<Segment>>,
    /// Rows that the table's vault keeps; 0 where there is none.
    pub vaulted: u64,
    /// Rows on their way into a segment or the vault.
    pub sealed: Option<Arc<Sealed>>,
    pub tail: Tail,
    /// Digest of the schema and of every frame appended so far.
    pub chain: Digest,
    /// Why the log takes no more rows.
    pub broken: Option<String>,
}

/// Rows that stand only in the log.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    pub batches: Vec<RecordBatch>,
    pub rows: u64,
    /// Length of their frames.
    pub bytes: u64,
}

/// Rows of finished log files.
#[derive(Debug)]
pub(crate) struct Sealed {
    pub batches: Vec<RecordBatch>,
    pub rows: u64,
    /// Index of the newest file they stand in.
    pub through: u64,
    pub chain: Digest,
}

impl State {
    /// Rows that stand outside the log.
    pub(crate) fn stored(&self) -> u64 {
        self.vaulted + self.segments.iter().map(|s| s.rows).sum::<u64>()
    }

    pub(crate) fn rows(&self) -> u64 {
        self.stored() + self.sealed.as_ref().map_or(0, |s| s.rows) + self.tail.rows
    }
}

impl Tail {
    /// Adds a batch, merging equals like the digits of a binary counter: each row is copied a few times at most.
    pub(crate) fn push(&mut self, batch: RecordBatch, bytes: u64) {
        self.rows += batch.num_rows() as u64;
        self.bytes += bytes;
        self.batches.push(batch);
        while let [.., before, last] = self.batches.as_slice() {
            if before.num_rows() > last.num_rows() || before.num_rows() + last.num_rows() > MERGED_ROWS_MAX {
                break;
            }
            let Ok(merged) = concat_batches(&last.schema(), [before, last]) else { break };
            self.batches.truncate(self.batches.len() - 2);
            self.batches.push(merged);
        }
    }
}

pub(crate) struct Append {
    pub batch: RecordBatch,
    pub frame: Vec<u8>,
    /// Whether the answer waits for the disk.
    pub durable: bool,
    pub done: oneshot::Sender<Result<(), StorageError>>,
    /// A place among those who may wait at once.
    pub _seat: OwnedSemaphorePermit,
}

pub(crate) enum Command {
    Append(Append),
    /// Syncs, seals what stands in the log and begins a new file; answers false when there was nothing.
    Rotate(oneshot::Sender<Result<bool, StorageError>>),
}

pub(crate) struct Writer {
    pub table: String,
    pub dir: PathBuf,
    pub index: u64,
    pub file: Box<dyn LogFile>,
    pub open_log: OpenLog,
    pub state: Arc<RwLock<State>>,
    /// When written bytes must be on disk.
    pub sync_by: Option<Instant>,
}

impl Writer {
    /// Serves until every sender is gone, then syncs what is left.
    pub(crate) fn run(mut self, commands: &Receiver<Command>) {
        loop {
            let next = match self.sync_by {
                None => commands.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(by) => commands.recv_timeout(by.saturating_duration_since(Instant::now())),
            };
            match next {
                Ok(Command::Rotate(done)) => {
                    let _ = done.send(self.rotate());
                }
                Ok(Command::Append(first)) => {
                    let mut bytes = first.frame.len();
                    let (mut group, mut rotate) = (vec![first], None);
                    while bytes < GROUP_BYTES_MAX && rotate.is_none() {
                        match commands.try_recv() {
                            Ok(Command::Append(append)) => {
                                bytes += append.frame.len();
                                group.push(append);
                            }
                            Ok(Command::Rotate(done)) => rotate = Some(done),
                            Err(_) => break,
                        }
                    }
                    self.write(group);
                    if let Some(done) = rotate {
                        let _ = done.send(self.rotate());
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if self.sync_by.is_some_and(|by| by <= Instant::now()) {
                self.sync_late();
            }
        }
        if self.sync_by.is_some() {
            self.sync_late();
        }
    }

    fn refusal(&self) -> Option<StorageError> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let reason = state.broken.clone()?;
        let doing = format!("append to table {}", self.table);
        Some(StorageError::Io { doing, source: std::io::Error::other(reason) })
    }

    /// After a failed write or sync nobody knows what the file holds, so it takes no more.
    fn give_up(&self, e: &std::io::Error) {
        let reason = format!("its log failed earlier ({e}); restart to read back what is on disk");
        tracing::error!(table = self.table, error = %e, "the log of a table failed; it takes no more rows");
        self.state.write().unwrap_or_else(PoisonError::into_inner).broken = Some(reason);
    }

    fn write(&mut self, group: Vec<Append>) {
        if self.refusal().is_none() {
            let bytes = group.iter().map(|a| a.frame.as_slice()).collect::<Vec<_>>().concat();
            let durable = group.iter().any(|a| a.durable);
            let written = self.file.append(&bytes).and_then(|()| if durable { self.file.sync() } else { Ok(()) });
            match written {
                Ok(()) => {
                    let by = || Instant::now() + SYNC_WITHIN;
                    self.sync_by = if durable { None } else { Some(self.sync_by.unwrap_or_else(by)) };
                    self.publish(&group);
                }
                Err(e) => self.give_up(&e),
            }
        }
        for append in group {
            // Nobody may be waiting any more; the rows stand all the same.
            let _ = append.done.send(self.refusal().map_or(Ok(()), Err));
        }
    }

    fn publish(&self, group: &[Append]) {
        let chain = self.state.read().unwrap_or_else(PoisonError::into_inner).chain;
        // Only this thread moves the chain.
        let chain = group.iter().fold(chain, |chain, a| wal::link(chain, &a.frame[wal::HEADER_BYTES..]));
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        state.chain = chain;
        for append in group {
            state.tail.push(append.batch.clone(), append.frame.len() as u64);
        }
    }

    fn sync_late(&mut self) {
        self.sync_by = None;
        if self.refusal().is_none()
            && let Err(e) = self.file.sync()
        {
            self.give_up(&e);
        }
    }

    fn rotate(&mut self) -> Result<bool, StorageError> {
        if self.state.read().unwrap_or_else(PoisonError::into_inner).tail.rows == 0 {
            return Ok(false);
        }
        self.sync_late();
        if let Some(refusal) = self.refusal() {
            return Err(refusal);
        }
        let path = wal::path_of(&self.dir, self.index + 1);
        self.file = (self.open_log)(&path).map_err(StorageError::io(format!("create {}", path.display())))?;
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let Tail { batches, rows, .. } = std::mem::take(&mut state.tail);
        state.sealed = Some(Arc::new(Sealed { batches, rows, through: self.index, chain: state.chain }));
        self.index += 1;
        Ok(true)
    }
}
