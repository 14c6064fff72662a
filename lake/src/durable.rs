//! The file system as an object store whose puts survive a crash of the machine.
//!
//! `object_store`'s own local store does not sync. Here a put writes beside the tables, syncs, gives the file its name and
//! syncs the folder: a name that is seen stands for bytes that are on disk, all of them.

use std::{
    fmt,
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    ops::Range,
    path::{Path as FilePath, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result, UploadPart, local::LocalFileSystem,
    path::Path,
};
use uuid::Uuid;

/// Its name begins like those that readers of Delta Lake pass over.
const STAGING: &str = "_staging";
const STORE: &str = "local files";

#[derive(Debug, Clone)]
pub(crate) struct Durable {
    inner: Arc<LocalFileSystem>,
    staging: Arc<FilePath>,
}

impl fmt::Display for Durable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Durable({})", self.inner)
    }
}

impl Durable {
    /// Tables lie below `dir`. What interrupted puts left is cleared.
    pub(crate) async fn open(inner: LocalFileSystem, dir: &FilePath) -> io::Result<Self> {
        let staging = dir.join(STAGING);
        let made = staging.clone();
        let make = move || {
            match fs::remove_dir_all(&made) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
            fs::create_dir_all(&made)
        };
        tokio::task::spawn_blocking(make).await.map_err(io::Error::other)??;
        Ok(Self { inner: Arc::new(inner), staging: staging.into() })
    }

    async fn blocking<T: Send + 'static>(
        path: &Path,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> Result<T> {
        let done = tokio::task::spawn_blocking(work).await.map_err(io::Error::other).flatten();
        done.map_err(|source| {
            let path = path.to_string();
            match source.kind() {
                io::ErrorKind::AlreadyExists => Error::AlreadyExists { path, source: source.into() },
                io::ErrorKind::NotFound => Error::NotFound { path, source: source.into() },
                _ => Error::Generic { store: STORE, source: source.into() },
            }
        })
    }
}

/// Makes the folder and its missing parents, durably.
fn make_folder(folder: &FilePath) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let parent = folder.parent().ok_or_else(|| io::Error::other("a folder without parent"))?;
    make_folder(parent)?;
    match fs::create_dir(folder) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
        other => other?,
    }
    File::open(parent)?.sync_all()
}

fn write(scratch: &FilePath, target: &FilePath, payload: &PutPayload, replace: bool) -> io::Result<()> {
    let folder = target.parent().ok_or_else(|| io::Error::other("a file without folder"))?;
    make_folder(folder)?;
    let mut file = OpenOptions::new().write(true).create_new(true).open(scratch)?;
    for piece in payload {
        file.write_all(piece)?;
    }
    file.sync_all()?;
    if replace {
        fs::rename(scratch, target)?;
    } else {
        // Fails when the name is taken, which a rename would not.
        fs::hard_link(scratch, target)?;
    }
    File::open(folder)?.sync_all()
}

/// A put in parts, which come together in memory: large checkpoints of a table's log are written so.
#[derive(Debug)]
struct Parts {
    store: Durable,
    location: Path,
    pieces: Vec<Bytes>,
}

#[async_trait]
impl MultipartUpload for Parts {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        self.pieces.extend(data.iter().cloned());
        Box::pin(std::future::ready(Ok(())))
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let whole = std::mem::take(&mut self.pieces).into_iter().collect();
        self.store.put_opts(&self.location, whole, PutOptions::default()).await
    }

    async fn abort(&mut self) -> Result<()> {
        self.pieces.clear();
        Ok(())
    }
}

#[async_trait]
impl ObjectStore for Durable {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let replace = match options.mode {
            PutMode::Overwrite => true,
            PutMode::Create => false,
            PutMode::Update(_) => {
                return Err(Error::NotImplemented {
                    operation: "put_opts with Update".into(),
                    implementer: STORE.into(),
                });
            }
        };
        let target: PathBuf = self.inner.path_to_filesystem(location)?;
        let scratch = self.staging.join(Uuid::now_v7().to_string());
        let put = move || {
            let written = write(&scratch, &target, &payload, replace);
            // Gone already where it was renamed.
            let _ = fs::remove_file(&scratch);
            written
        };
        Self::blocking(location, put).await?;
        Ok(PutResult { e_tag: None, version: None })
    }

    async fn put_multipart_opts(&self, location: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        Ok(Box::new(Parts { store: self.clone(), location: location.clone(), pieces: Vec::new() }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.inner.rename_opts(from, to, options).await
    }
}

#[cfg(test)]
mod tests {
    use object_store::ObjectStoreExt as _;

    use super::*;

    #[tokio::test]
    async fn a_name_is_given_once_and_replaced_only_when_asked() {
        let dir = tempfile::tempdir().unwrap();
        let store = Durable::open(LocalFileSystem::new(), dir.path()).await.unwrap();
        let name = Path::from_absolute_path(dir.path().join("a/b/c")).unwrap();
        let create = || PutOptions::from(PutMode::Create);
        store.put_opts(&name, "one".into(), create()).await.unwrap();
        let taken = store.put_opts(&name, "two".into(), create()).await.unwrap_err();
        assert!(matches!(taken, Error::AlreadyExists { .. }), "{taken:?}");
        assert_eq!(&store.get(&name).await.unwrap().bytes().await.unwrap()[..], b"one");
        store.put(&name, "two".into()).await.unwrap();
        let mut parts = store.put_multipart(&Path::from_absolute_path(dir.path().join("d")).unwrap()).await.unwrap();
        parts.put_part("thr".into()).await.unwrap();
        parts.put_part("ee".into()).await.unwrap();
        parts.complete().await.unwrap();
        assert_eq!(fs::read(dir.path().join("a/b/c")).unwrap(), b"two");
        assert_eq!(fs::read(dir.path().join("d")).unwrap(), b"three");
        assert_eq!(fs::read_dir(dir.path().join(STAGING)).unwrap().count(), 0, "nothing is left beside");
    }
}
