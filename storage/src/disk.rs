//! Small durable steps on files: what rename and fsync promise together.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Write as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use crate::StorageError;

/// How long a start waits for a stopping process to let go of its lock.
pub(crate) const LOCK_PATIENCE: Duration = Duration::from_secs(2);
pub(crate) const LOCK_RETRY: Duration = Duration::from_millis(20);

/// Makes names created, renamed or removed in `dir` survive a crash.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Creates `dir` and its missing parents, durably.
pub(crate) fn create_dir(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    let parent = dir.parent().filter(|p| !p.as_os_str().is_empty());
    if let Some(parent) = parent {
        create_dir(parent)?;
    }
    match fs::create_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => {}
        other => other?,
    }
    sync_dir(parent.unwrap_or(Path::new(".")))
}

/// Puts `bytes` at `path` whole or not at all: written beside it as `scratch`, synced, renamed.
pub(crate) fn write_whole(path: &Path, scratch: &Path, bytes: &[u8]) -> io::Result<()> {
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).open(scratch)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(scratch, path)
    })();
    if written.is_err() {
        // The scratch file may not exist; what is left is cleared at the next start.
        let _ = fs::remove_file(scratch);
    }
    written?;
    sync_dir(path.parent().unwrap_or(Path::new(".")))
}

/// A name of the directory that no other has, made at the first call and kept in it.
pub(crate) fn name_of(dir: &Path) -> io::Result<String> {
    let path = dir.join("keeper");
    match fs::read_to_string(&path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let name = uuid::Uuid::now_v7().to_string();
            // Left by a crash before the rename.
            let _ = fs::remove_file(dir.join("keeper.new"));
            write_whole(&path, &dir.join("keeper.new"), name.as_bytes())?;
            Ok(name)
        }
        found => found,
    }
}

/// An exclusive claim on a directory, given up when dropped or when the process ends.
#[derive(Debug)]
pub(crate) struct DirLock {
    _file: File,
}

impl DirLock {
    pub(crate) async fn take(dir: &Path) -> Result<Self, StorageError> {
        let path: PathBuf = dir.join("LOCK");
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(StorageError::io(format!("open {}", path.display())))?;
        let patient_until = Instant::now() + LOCK_PATIENCE;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Self { _file: file }),
                Err(TryLockError::WouldBlock) if Instant::now() < patient_until => {
                    tokio::time::sleep(LOCK_RETRY).await;
                }
                Err(TryLockError::WouldBlock) => return Err(StorageError::Locked(dir.to_owned())),
                Err(TryLockError::Error(e)) => return Err(StorageError::io(format!("lock {}", path.display()))(e)),
            }
        }
    }
}
