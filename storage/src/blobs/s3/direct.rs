//! What clients do with the store by themselves.

use std::{collections::BTreeMap, fmt, str::FromStr, time::Duration};

use async_trait::async_trait;
use aws_sdk_s3::{config::http::HttpResponse, error::SdkError, presigning::PresigningConfig, types::CompletedPart};
use domain::{Digest, Digester};
use futures::TryStreamExt as _;

use super::{S3Blobs, failure::failed, hashed, read};
use crate::{Direct, DirectUpload, Signed, StorageError};

/// S3 puts no smaller ones together, except at the end.
const PART_BYTES_MIN: u64 = 5 << 20;

/// Which upload: the object's name in the staging place, and the store's id of the upload.
struct Ticket {
    name: String,
    id: String,
}

impl fmt::Display for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.id)
    }
}

impl FromStr for Ticket {
    type Err = StorageError;

    fn from_str(text: &str) -> Result<Self, StorageError> {
        let parts = text.split_once(' ').filter(|(name, _)| !name.is_empty() && !name.contains('/'));
        let (name, id) = parts.ok_or_else(|| StorageError::corrupt("an upload's ticket", "it has no name and id"))?;
        Ok(Self { name: name.to_owned(), id: id.to_owned() })
    }
}

fn lasting(valid: Duration) -> Result<PresigningConfig, StorageError> {
    let unsigned = |error: aws_sdk_s3::presigning::PresigningConfigError| StorageError::Objects {
        doing: "sign an address".into(),
        reason: error.to_string(),
    };
    PresigningConfig::expires_in(valid).map_err(unsigned)
}

fn signed<E>(
    request: Result<aws_sdk_s3::presigning::PresignedRequest, SdkError<E, HttpResponse>>,
) -> Result<Signed, StorageError>
where
    E: aws_sdk_s3::error::ProvideErrorMetadata + std::error::Error + 'static,
{
    let request = request.map_err(|error| failed("sign an address", error))?;
    let headers = request.headers().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    Ok(Signed { url: request.uri().to_owned(), headers })
}

/// Bytes of all parts, where those that came are those that are named. Looked at before the store is asked to put them
/// together, which can be asked of it once.
fn fitting(came: &BTreeMap<u32, (Option<String>, u64)>, named: &[(u32, String)]) -> Result<u64, StorageError> {
    let mut bytes = 0;
    for (at, (number, tag)) in named.iter().enumerate() {
        let bad = |problem: String| Err(StorageError::BadParts(format!("part {number} {problem}")));
        match came.get(number) {
            None => return bad("has not come".into()),
            Some((Some(found), _)) if found.trim_matches('"') != tag.trim_matches('"') => {
                return bad("is not what its tag says".into());
            }
            Some((_, length)) if *length < PART_BYTES_MIN && at + 1 < named.len() => {
                return bad(format!("has {length} bytes, and all but the last must have {PART_BYTES_MIN}"));
            }
            Some((_, length)) => bytes += length,
        }
    }
    Ok(bytes)
}

#[async_trait]
impl Direct for S3Blobs {
    async fn download(&self, digest: &Digest, disposition: &str, valid: Duration) -> Result<Signed, StorageError> {
        let request = self
            .place
            .client
            .get_object()
            .bucket(&self.place.bucket)
            .key(self.place.key(digest))
            .response_content_disposition(disposition)
            .response_content_type("application/octet-stream")
            .presigned(lasting(valid)?)
            .await;
        signed(request)
    }

    async fn begin(&self, parts: u32, valid: Duration) -> Result<DirectUpload, StorageError> {
        let key = self.place.staged();
        let id = self.place.create_multipart(&key).await?;
        let mut addresses = Vec::with_capacity(parts as usize);
        for number in 1..=parts {
            let request = self
                .place
                .client
                .upload_part()
                .bucket(&self.place.bucket)
                .key(&key)
                .upload_id(&id)
                .part_number(i32::try_from(number).unwrap_or(i32::MAX))
                .presigned(lasting(valid)?)
                .await;
            addresses.push(signed(request)?);
        }
        let name = key.rsplit('/').next().unwrap_or(&key).to_owned();
        Ok(DirectUpload { ticket: Ticket { name, id }.to_string(), parts: addresses })
    }

    async fn finish(&self, ticket: &str, parts: &[(u32, String)]) -> Result<(Digest, u64), StorageError> {
        let Ticket { name, id } = ticket.parse()?;
        let key = format!("{}{name}", self.place.staging());
        // An earlier call may have come so far.
        if self.place.len(&key).await?.is_none() {
            let part = |(number, tag): &(u32, String)| {
                let number = i32::try_from(*number).unwrap_or(i32::MAX);
                CompletedPart::builder().part_number(number).e_tag(tag).build()
            };
            let bytes = fitting(&self.place.parts_of(&key, &id).await?, parts)?;
            self.place.complete_multipart(&key, &id, parts.iter().map(part).collect(), bytes).await?;
        }
        let (mut digester, mut bytes) = (Digester::default(), 0_u64);
        let mut pieces = read::raw(self.place.clone(), &key).await?;
        while let Some(piece) = pieces.try_next().await? {
            bytes += piece.len() as u64;
            digester = hashed(digester, piece).await?;
        }
        let digest = digester.finish();
        self.place.file(&key, bytes, &digest).await?;
        Ok((digest, bytes))
    }

    async fn forget(&self, ticket: &str) -> Result<(), StorageError> {
        let Ticket { name, id } = ticket.parse()?;
        let key = format!("{}{name}", self.place.staging());
        // An upload that is complete cannot be aborted any more.
        match self.place.len(&key).await? {
            Some(_) => self.place.delete(&key).await,
            None => self.place.abort_multipart(&key, &id).await,
        }
    }
}
