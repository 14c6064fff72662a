//! The one who loads: load after load, file after file, piece after piece.

use std::{
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use domain::{Coded as _, Digest, ErrorCode};
use runtime::{CancellationToken, House};

use super::{
    LoadPhase, LoadProgress, LoadState, LoadedFile,
    place::{find, format_of},
};
use crate::{
    FeatureStore,
    error::FeatureError,
    parse,
    pieces::{Piece, Pieces},
    report::{Format, IngestReport},
    stream::Told,
    view::SourcePlan,
};

/// Wait before a load that met a store which is not there goes on.
const AGAIN_AFTER: Duration = Duration::from_secs(5);

/// Why a file, or a load, did not come to its end.
enum Halt {
    /// The server stops; it goes on after the next start.
    Stopped,
    /// The file, or the path, is at fault.
    Refused(String),
    /// The store is not there: another time.
    Later(FeatureError),
}

impl From<FeatureError> for Halt {
    fn from(error: FeatureError) -> Self {
        match error.code() {
            ErrorCode::InvalidArgument | ErrorCode::NotFound | ErrorCode::TooLarge => Self::Refused(error.to_string()),
            _ => Self::Later(error),
        }
    }
}

impl FeatureStore {
    /// Does what loads ask for until the house shuts down; `told` hears of every piece.
    pub fn load_files(&self, house: &House, told: Told) {
        let store = self.clone();
        house.spawn("loads", move |stop| async move {
            let mut changed = store.0.loads.changed.subscribe();
            loop {
                changed.mark_unchanged();
                let again = store.load_waiting(&told, &stop).await;
                tokio::select! {
                    () = stop.cancelled() => return,
                    _ = changed.changed() => {}
                    () = tokio::time::sleep(AGAIN_AFTER), if again => {}
                }
            }
        });
    }

    /// Whether something is left that has to be tried again.
    async fn load_waiting(&self, told: &Told, stop: &CancellationToken) -> bool {
        let mut waiting = match self.0.read_loads(Some(LoadPhase::Running), 1_000).await {
            Ok(waiting) => waiting,
            Err(error) => {
                tracing::warn!(%error, "loads cannot be read");
                return true;
            }
        };
        waiting.reverse();
        let mut again = false;
        for load in waiting {
            // Where several servers share a database, the one that keeps the rows loads.
            if stop.is_cancelled() || self.0.source_table(&load.source).is_err() {
                continue;
            }
            let halted = self.do_load(&load, told, stop).await;
            self.0.loads.at(load.number, None);
            let done = match halted {
                Ok(()) => self.0.end_load(&load, None).await,
                Err(Halt::Refused(reason)) => self.0.end_load(&load, Some(&reason)).await,
                Err(Halt::Stopped) => return false,
                Err(Halt::Later(error)) => {
                    tracing::warn!(load = load.number, %error, "a load goes on another time");
                    again = true;
                    self.0.delay_load(load.number, &error.to_string()).await
                }
            };
            if let Err(error) = done {
                tracing::warn!(load = load.number, %error, "how a load ended cannot be written down");
                again = true;
            }
        }
        again
    }

    async fn do_load(&self, load: &LoadState, told: &Told, stop: &CancellationToken) -> Result<(), Halt> {
        let files = find(&self.0.loading.folders, &load.path).await?;
        let mut known = 0;
        self.0.count_files(load.number, files.len() as u64, known).await?;
        for path in &files {
            if stop.is_cancelled() {
                return Err(Halt::Stopped);
            }
            let digest = match digest_of(path.clone()).await {
                Ok(digest) => digest,
                Err(reason) => {
                    // Nothing was read, so there is nothing to know it by but its name.
                    let digest = Digest::of(path.to_string_lossy().as_bytes());
                    self.keep(load, path, digest, IngestReport::default(), Some(reason)).await?;
                    continue;
                }
            };
            let before = self.0.file_of(&load.source, &digest).await?;
            if let Some(done) = before.filter(|file| file.phase == LoadPhase::Done) {
                // What this load did before it was interrupted is its own.
                if done.load != load.number {
                    known += 1;
                    self.0.count_files(load.number, files.len() as u64, known).await?;
                }
                continue;
            }
            let mut taken = IngestReport::default();
            let failed = match self.take_file(load, path, &mut taken, told, stop).await {
                Ok(()) => None,
                Err(Halt::Refused(reason)) => Some(reason),
                Err(other) => return Err(other),
            };
            self.keep(load, path, digest, taken, failed).await?;
        }
        Ok(())
    }

    async fn keep(
        &self,
        load: &LoadState,
        path: &Path,
        digest: Digest,
        rows: IngestReport,
        reason: Option<String>,
    ) -> Result<(), FeatureError> {
        let phase = if reason.is_some() { LoadPhase::Failed } else { LoadPhase::Done };
        let (path, at) = (path.to_string_lossy().into_owned(), self.0.clock.now());
        let file = LoadedFile { path, digest, phase, reason, load: load.number, at, rows };
        self.0.keep_file(&load.source, &file).await
    }

    async fn take_file(
        &self,
        load: &LoadState,
        path: &Path,
        taken: &mut IngestReport,
        told: &Told,
        stop: &CancellationToken,
    ) -> Result<(), Halt> {
        let format = format_of(path).ok_or_else(|| Halt::Refused("its name tells no format".into()))?;
        let unread = |e: std::io::Error| Halt::Refused(format!("it cannot be read: {e}"));
        let bytes = std::fs::metadata(path).map_err(unread)?.len();
        let most = self.0.loading.parquet_bytes_max;
        if format == Format::Parquet && bytes > most {
            return Err(Halt::Refused(format!("it has {bytes} bytes, Parquet files may have {most}")));
        }
        let mut pieces = Some(Pieces::open(path).map_err(unread)?);
        let mut bytes_read = 0;
        loop {
            if stop.is_cancelled() {
                return Err(Halt::Stopped);
            }
            let (next, rest) = next_piece(pieces).await?;
            pieces = rest;
            let Some(Piece { bytes: piece, lines_before }) = next else { return Ok(()) };
            bytes_read += piece.len() as u64;
            let piece = Bytes::from(piece);
            let report = if format == Format::Parquet {
                self.ingest(&load.source, format, piece).await?
            } else {
                let parse = move |plan: &SourcePlan| Ok(parse::body(plan, format, piece)?.behind(lines_before));
                self.0.take_in(&load.source, parse).await?
            };
            told(&load.source, &report);
            taken.add(report);
            let rows = taken.accepted + taken.duplicates + taken.quarantined;
            let path = path.to_string_lossy().into_owned();
            self.0.loads.at(load.number, Some(LoadProgress { path, bytes, bytes_read: bytes_read.min(bytes), rows }));
        }
    }
}

/// Reads a piece where waiting for a disk keeps nobody up.
async fn next_piece(pieces: Option<Pieces>) -> Result<(Option<Piece>, Option<Pieces>), Halt> {
    let Some(mut pieces) = pieces else { return Ok((None, None)) };
    let read = tokio::task::spawn_blocking(move || (pieces.next(), pieces)).await;
    let (piece, pieces) = read.map_err(|_| Halt::Refused("the reader died".into()))?;
    let piece = piece.transpose().map_err(|e| Halt::Refused(format!("it cannot be read: {e}")))?;
    Ok((piece, Some(pieces)))
}

/// The digest of a file's bytes.
async fn digest_of(path: PathBuf) -> Result<Digest, String> {
    let digest = move || -> std::io::Result<Digest> {
        let mut file = File::open(path)?;
        let mut hasher = domain::Digester::default();
        let mut buffer = vec![0; 1 << 20];
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok(hasher.finish()),
                count => hasher.update(&buffer[..count]),
            }
        }
    };
    let done = tokio::task::spawn_blocking(digest).await.map_err(|_| "the reader died".to_owned())?;
    done.map_err(|e| format!("it cannot be read: {e}"))
}
