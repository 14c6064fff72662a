//! Reading back what a version's files have become: every byte is held against the digest it was registered under.

use domain::{Digest, EventKind, ModelRef, NewEvent};
use futures::TryStreamExt as _;
use serde::{Deserialize, Serialize};
use serde_json::json;
use storage::StorageError;

use crate::{Registry, RegistryError, artifact::StoredFile, register, version};

/// What became of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FileState {
    /// Its bytes are those that were registered.
    Whole,
    /// There are bytes, and they are others.
    Damaged,
    /// There are none.
    Missing,
}

impl FileState {
    /// The word that stands in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Damaged => "damaged",
            Self::Missing => "missing",
        }
    }
}

/// A file that was read back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifiedFile {
    pub path: String,
    /// As registered.
    pub digest: Digest,
    /// As registered.
    pub bytes: u64,
    pub state: FileState,
    /// What is wrong with it; empty when nothing is.
    pub problem: String,
}

/// A version whose files were read back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verified {
    pub version: ModelRef,
    /// Whether no file is damaged or missing.
    pub whole: bool,
    /// By path; none where the files lie on another server.
    pub files: Vec<VerifiedFile>,
}

impl Registry {
    /// Reads a version's files back, or only the one at the path `only`, piece by piece. The journal tells of damage.
    ///
    /// # Errors
    /// An unknown version or file, or a store that cannot be reached. Damage is no error but part of the answer.
    pub async fn verify_version(
        &self,
        version: &ModelRef,
        only: Option<&str>,
        actor: &str,
    ) -> Result<Verified, RegistryError> {
        let mut wanted = {
            let mut tx = self.meta().reader().begin().await?;
            version::require(&mut tx, version).await?;
            register::files_of(&mut tx, version).await?
        };
        if let Some(path) = only {
            wanted.retain(|file| file.path == path);
            if wanted.is_empty() {
                return Err(RegistryError::NoSuch { what: "file", name: format!("{version}/{path}") });
            }
        }
        let mut files = Vec::with_capacity(wanted.len());
        for file in wanted {
            files.push(self.verify_file(file).await?);
        }
        let whole = files.iter().all(|file| file.state == FileState::Whole);
        let verified = Verified { version: version.clone(), whole, files };
        if !whole {
            self.tell_of_damage(&verified, actor).await?;
        }
        Ok(verified)
    }

    async fn verify_file(&self, file: StoredFile) -> Result<VerifiedFile, RegistryError> {
        let (state, problem) = match self.read_back(&file.digest).await {
            Ok(read) if read == file.bytes => (FileState::Whole, String::new()),
            Ok(read) => (FileState::Damaged, format!("it has {read} bytes where {} were registered", file.bytes)),
            Err(StorageError::NoSuchBlob(_)) => (FileState::Missing, "its bytes are gone".to_owned()),
            Err(StorageError::Corrupt { .. }) => {
                (FileState::Damaged, "its bytes do not match the digest they were registered under".to_owned())
            }
            Err(error) => return Err(error.into()),
        };
        let StoredFile { path, digest, bytes } = file;
        Ok(VerifiedFile { path, digest, bytes, state, problem })
    }

    /// How many bytes were read; they match the digest.
    async fn read_back(&self, digest: &Digest) -> Result<u64, StorageError> {
        let mut pieces = self.blobs().read(digest, 0..u64::MAX).await?;
        let mut read = 0;
        while let Some(piece) = pieces.try_next().await? {
            read += piece.len() as u64;
        }
        Ok(read)
    }

    async fn tell_of_damage(&self, verified: &Verified, actor: &str) -> Result<(), RegistryError> {
        let damaged: Vec<_> = verified.files.iter().filter(|file| file.state != FileState::Whole).collect();
        tracing::error!(version = %verified.version, files = damaged.len(), "a version is damaged");
        let mut tx = self.begin().await?;
        tx.append(NewEvent {
            at: self.now(),
            kind: EventKind::VersionDamaged,
            subject: format!("model/{}", verified.version),
            actor: actor.to_owned(),
            cause: None,
            body: json!({
                "model": verified.version.model, "version": verified.version.version, "files": damaged,
            }),
        })
        .await?;
        Ok(tx.commit().await?)
    }
}
