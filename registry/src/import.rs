//! Registering files whatever tool made them: recognised by what is in them, described for MLflow's client, and then a
//! version like any other.

use std::{collections::BTreeMap, io, sync::Arc};

use bytes::Bytes;
use domain::{Digest, ModelName, RunId};
use futures::{TryStreamExt as _, stream};
use storage::{Blobs, StorageError};
use tokio::runtime::Handle;
use uuid::Uuid;

use crate::{
    ArtifactPath, ModelVersion, NewModel, Registry, RegistryError, SourcedVersion,
    artifact::{self, StoredFile},
    experiment::ARTIFACTS,
    format::{self, FormatError, ReadAt, Recognised},
    mlmodel::{self, Description},
    register, source,
};

/// Files among a run's artifacts that are to become a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewImport {
    pub run: RunId,
    /// The directory below the run's root, as in `model`.
    pub directory: ArtifactPath,
    pub tags: BTreeMap<String, String>,
    pub description: String,
    pub user_id: String,
}

impl Registry {
    /// Registers the files of a directory as the next version of a model, which is made if there is none of that name.
    /// What MLflow's client needs to list and, where it can, load them is written beside them, unless it is there.
    ///
    /// # Errors
    /// Files that are no model of a known format or lie about themselves, and as [`Registry::register_source`].
    pub async fn import_version(&self, model: &ModelName, new: NewImport) -> Result<ModelVersion, RegistryError> {
        let directory = self.directory_of(&new).await?;
        let files = {
            let mut conn = self.meta().reader().acquire().await?;
            artifact::below(&mut conn, directory.as_str()).await?
        };
        if files.is_empty() {
            let hint = "upload the files of the model first";
            return Err(RegistryError::invalid(format!("directory `{}`", new.directory), "has no files", hint));
        }
        let recognised = self.recognise(&files).await?;
        if !recognised.flavors.is_empty() {
            self.describe(&directory, &files, recognised, new.run).await?;
        }
        let named =
            NewModel { name: model.clone(), description: String::new(), tags: BTreeMap::new(), user_id: String::new() };
        match self.create_model(named).await {
            Ok(_) | Err(RegistryError::Exists { .. }) => {}
            Err(error) => return Err(error),
        }
        let sourced = SourcedVersion {
            source: format!("{ARTIFACTS}{directory}"),
            run: Some(new.run),
            tags: new.tags,
            description: new.description,
            user_id: new.user_id,
            ..SourcedVersion::default()
        };
        self.register_source(model, sourced).await
    }

    async fn directory_of(&self, new: &NewImport) -> Result<ArtifactPath, RegistryError> {
        let mut conn = self.meta().reader().acquire().await?;
        let root = register::run_artifacts(&mut conn, &new.run).await?;
        match source::kept(&root) {
            Some(root) => Ok(new.directory.below(root)),
            None => {
                let hint = "import into a run of an experiment whose artifacts this server keeps";
                Err(RegistryError::invalid(format!("run `{}`", new.run), "keeps its artifacts elsewhere", hint))
            }
        }
    }

    async fn recognise(&self, files: &[StoredFile]) -> Result<Recognised, RegistryError> {
        let stored = |file: &StoredFile| {
            let blob =
                Stored { runtime: Handle::current(), blobs: self.shared_blobs(), digest: file.digest, len: file.bytes };
            (file.path.clone(), Box::new(blob) as Box<dyn ReadAt + Send>)
        };
        let files: BTreeMap<String, Box<dyn ReadAt + Send>> = files.iter().map(stored).collect();
        let recognised = tokio::task::spawn_blocking(move || {
            format::recognise(&files.into_iter().map(|(path, file)| (path, file as Box<dyn ReadAt>)).collect())
        });
        let recognised = recognised.await.map_err(|_| StorageError::WorkerGone("the reader of model files"))?;
        recognised.map_err(|error| match error {
            FormatError::Bad { file, problem } => {
                RegistryError::invalid(format!("`{file}`"), problem, FormatError::HINT)
            }
            FormatError::Unfit(problem) => RegistryError::invalid("the files", problem, FormatError::HINT),
            FormatError::Io { source, .. } => RegistryError::damaged("artifact")(source),
        })
    }

    /// Writes what MLflow's client reads, beside files that have none of it.
    async fn describe(
        &self,
        directory: &ArtifactPath,
        files: &[StoredFile],
        recognised: Recognised,
        run: RunId,
    ) -> Result<(), RegistryError> {
        let Recognised { flavors, packages, inputs, outputs, .. } = recognised;
        let model_uuid = Uuid::new_v4().simple().to_string();
        let (packages, now) = (&packages[..], self.now());
        let description =
            Description { flavors, packages, inputs, outputs, model_uuid: &model_uuid, run: Some(run), now };
        for (name, text) in mlmodel::files(description) {
            if files.iter().all(|file| file.path != name) {
                let path = directory.join(name).map_err(RegistryError::damaged("artifact path"))?;
                let pieces = stream::iter([Ok::<_, RegistryError>(Bytes::from(text))]);
                self.put_artifact(&path, pieces, None).await?;
            }
        }
        Ok(())
    }
}

/// A stored file for readers that block.
struct Stored {
    runtime: Handle,
    blobs: Arc<dyn Blobs>,
    digest: Digest,
    len: u64,
}

impl ReadAt for Stored {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let mut filled = 0;
        self.runtime
            .block_on(async {
                let mut pieces = self.blobs.read(&self.digest, offset..offset + buffer.len() as u64).await?;
                while let Some(piece) = pieces.try_next().await? {
                    let count = piece.len().min(buffer.len() - filled);
                    buffer[filled..filled + count].copy_from_slice(&piece[..count]);
                    filled += count;
                }
                Ok(())
            })
            .map_err(|error: StorageError| io::Error::other(error))?;
        if filled < buffer.len() { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }
}
