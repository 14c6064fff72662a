//! Where tables lie.

use std::{fmt, path::Path, sync::Arc};

use object_store::{ObjectStore, local::LocalFileSystem};
use storage::StorageError;
use url::Url;

use crate::{
    durable::Durable,
    failure,
    s3::{self, LakeS3},
    table::{LakeTable, Layout},
};

/// A place for tables, each in a folder of its name. Clones share it.
#[derive(Clone)]
pub struct Lake {
    /// Sees the whole file system, or the whole bucket.
    pub(crate) store: Arc<dyn ObjectStore>,
    /// Of the folder of all tables; ends in a slash.
    pub(crate) base: Url,
    /// Whether paths of the store are files of this machine.
    pub(crate) local: bool,
}

impl fmt::Debug for Lake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lake").field("base", &self.base.as_str()).finish_non_exhaustive()
    }
}

impl Lake {
    /// Tables in a directory, which is made if need be. What interrupted writes left behind is cleared away, so only one
    /// process may have it open.
    pub async fn local(dir: &Path) -> Result<Self, StorageError> {
        Self::local_with(dir, |store| Arc::new(store)).await
    }

    /// The same with something put before the file system.
    pub(crate) async fn local_with(
        dir: &Path,
        wrap: impl FnOnce(Durable) -> Arc<dyn ObjectStore>,
    ) -> Result<Self, StorageError> {
        let io = |source| StorageError::Io { doing: format!("open tables in {}", dir.display()), source };
        tokio::fs::create_dir_all(dir).await.map_err(io)?;
        let dir = tokio::fs::canonicalize(dir).await.map_err(io)?;
        let store = Durable::open(LocalFileSystem::new(), &dir).await.map_err(io)?;
        let base = Url::from_directory_path(&dir)
            .map_err(|()| failure::damaged(dir.display().to_string(), "it is no absolute path"))?;
        Ok(Self { store: wrap(store), base, local: true })
    }

    /// Tables in a bucket.
    pub fn s3(options: &LakeS3) -> Result<Self, StorageError> {
        let (store, base) = s3::open(options)?;
        Ok(Self { store: Arc::new(store), base, local: false })
    }

    /// The table of this name, which is made when its first rows come ([`LakeTable::ensure`] makes it empty).
    pub async fn table(&self, name: &str, layout: Layout) -> Result<LakeTable, StorageError> {
        LakeTable::open(self, name, layout).await
    }
}
