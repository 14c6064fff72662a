//! Listing the files of a directory of blobs, one of its folders at a time.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use domain::{Digest, Timestamp};
use futures::{StreamExt as _, TryStreamExt as _, stream};

use super::{BlobInfo, BlobList, local::blocking};
use crate::StorageError;

/// Every file whose place is that of a blob; others are passed over.
pub(super) fn walk(dir: Arc<Path>) -> BlobList {
    let folders = stream::once(async move {
        let doing = format!("list {}", dir.display());
        let found = blocking(doing, move || folders(&dir)).await?;
        Ok::<_, StorageError>(stream::iter(found.into_iter().map(Ok)))
    });
    let blobs = folders.try_flatten().and_then(|folder: PathBuf| async move {
        let doing = format!("list {}", folder.display());
        let found = blocking(doing, move || blobs_of(&folder)).await?;
        Ok::<_, StorageError>(stream::iter(found.into_iter().map(Ok)))
    });
    blobs.try_flatten().boxed()
}

fn folders(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let named = |path: &PathBuf| path.file_name().is_some_and(|name| name.len() == 2) && path.is_dir();
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        found.push(entry?.path());
    }
    found.retain(named);
    found.sort_unstable();
    Ok(found)
}

fn blobs_of(folder: &Path) -> io::Result<Vec<BlobInfo>> {
    let head = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(digest) = name.to_str().and_then(|rest| format!("{head}{rest}").parse::<Digest>().ok()) else {
            continue;
        };
        match entry.metadata() {
            // Removed since the folder was read.
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
            Ok(file) if !file.is_file() => {}
            Ok(file) => {
                found.push(BlobInfo { digest, bytes: file.len(), written_at: instant(file.modified()?) });
            }
        }
    }
    Ok(found)
}

fn instant(time: SystemTime) -> Timestamp {
    let micros = |span: std::time::Duration| i64::try_from(span.as_micros()).unwrap_or(i64::MAX);
    Timestamp::from_micros(match time.duration_since(UNIX_EPOCH) {
        Ok(after) => micros(after),
        Err(before) => -micros(before.duration()),
    })
}
