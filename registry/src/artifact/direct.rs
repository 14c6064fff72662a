//! Files that clients send to, and take from, the place of the blobs by themselves, where that lets them.

use std::{collections::BTreeMap, time::Duration};

use domain::UploadId;
use storage::{Direct, Signed};

use super::{
    Artifact, ArtifactPath,
    upload::{KEPT, NewUpload, checked_count, once_each},
};
use crate::{Registry, RegistryError};

impl Registry {
    /// Whether clients may be handed addresses of the place where the bytes lie.
    #[must_use]
    pub fn is_direct(&self) -> bool {
        self.blobs().direct().is_some()
    }

    /// An address from which the file can be had for so long, and which gives it that `Content-Disposition`; `None`
    /// where bytes come through this server only. The bytes are not checked against their digest on that way.
    ///
    /// # Errors
    /// Bytes that are gone or of another length.
    pub async fn artifact_address(
        &self,
        file: &Artifact,
        disposition: &str,
        valid: Duration,
    ) -> Result<Option<Signed>, RegistryError> {
        let Some(direct) = self.blobs().direct() else { return Ok(None) };
        self.check_length(file).await?;
        Ok(Some(direct.download(&file.digest, disposition, valid).await?))
    }

    /// Begins an upload whose parts clients send past this server, each to an address of its own; `None` where they
    /// cannot. Completed and aborted as any other upload.
    ///
    /// # Errors
    /// As [`Registry::create_upload`].
    pub async fn create_direct_upload(
        &self,
        path: &ArtifactPath,
        parts: i64,
    ) -> Result<Option<(UploadId, Vec<Signed>)>, RegistryError> {
        let Some(direct) = self.blobs().direct() else { return Ok(None) };
        let count = checked_count(parts)?;
        self.may_put(path).await?;
        let begun = direct.begin(count, Duration::from_micros(KEPT.micros().unsigned_abs())).await?;
        let recorded = self.record_upload(NewUpload { path, parts: count, ticket: Some(&begun.ticket) }).await;
        match recorded {
            Ok(upload) => Ok(Some((upload, begun.parts))),
            Err(error) => {
                self.forget(direct, &begun.ticket).await;
                Err(error)
            }
        }
    }

    /// One blob of the parts that clients sent, in the order of their numbers.
    pub(super) async fn finish_direct(
        &self,
        upload: UploadId,
        ticket: &str,
        parts: u32,
        named: &[(u32, String)],
    ) -> Result<Artifact, RegistryError> {
        let direct = self.direct_of(upload)?;
        let tags: BTreeMap<u32, &str> = once_each(parts, named)?;
        let tags: Vec<_> = tags.into_iter().map(|(number, tag)| (number, tag.to_owned())).collect();
        let (digest, bytes) = direct.finish(ticket, &tags).await?;
        Ok(Artifact { digest, bytes })
    }

    /// Clears what is left of an upload that is over. What cannot be cleared now is at a later start.
    pub(super) async fn forget_direct(&self, ticket: Option<&str>) {
        if let (Some(ticket), Some(direct)) = (ticket, self.blobs().direct()) {
            self.forget(direct, ticket).await;
        }
    }

    async fn forget(&self, direct: &dyn Direct, ticket: &str) {
        if let Err(error) = direct.forget(ticket).await {
            tracing::warn!(%error, "parts of an upload are left for a later start");
        }
    }

    fn direct_of(&self, upload: UploadId) -> Result<&dyn Direct, RegistryError> {
        self.blobs().direct().ok_or_else(|| {
            let problem = "went past the server, which has been told not to look there any more";
            RegistryError::invalid(format!("upload `{upload}`"), problem, "create another upload")
        })
    }
}
