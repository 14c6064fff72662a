//! Reading an object, piece by piece.

use std::{ops::Range, sync::Arc, time::Duration};

use aws_sdk_s3::primitives::ByteStream;
use bytes::{Bytes, BytesMut};
use domain::{Digest, Digester};
use futures::{StreamExt as _, stream};

use super::{
    Place,
    failure::{absent, failed, refused},
    hashed, length,
};
use crate::{BlobStream, StorageError};

/// What comes in smaller bits is put together to so many bytes, unless the end comes first.
const PIECE_BYTES: usize = 256 << 10;
/// How long the next bytes may take.
const NEXT: Duration = Duration::from_secs(5);
/// How often a reading that broke off is taken up again where it was.
const RESUMED_MAX: u32 = 3;

/// An object on its way out.
struct Reading {
    place: Arc<Place>,
    key: String,
    body: ByteStream,
    at: u64,
    end: u64,
    resumed: u32,
    /// What the bytes must come to, where all of them are read.
    check: Option<(Digester, Digest)>,
}

/// Asks for the object now, so that an absent one is an error of the call and not of the stream.
pub(super) async fn open(place: Arc<Place>, digest: Digest, range: Range<u64>) -> Result<BlobStream, StorageError> {
    let key = place.key(&digest);
    let reading = match ask(&place, &key, &range).await? {
        Found::Absent => return Err(StorageError::NoSuchBlob(digest)),
        Found::Nothing { of } => {
            if range.start == 0 && of == 0 {
                agreed(&place, &key, Digester::default(), digest)?;
            }
            None
        }
        Found::Bytes { body, end, of } => {
            let check = (range.start == 0 && range.end >= of).then(|| (Digester::default(), digest));
            Some(Reading { place, key, body, at: range.start, end, resumed: 0, check })
        }
    };
    Ok(pieces(reading))
}

/// A whole object that has no digest yet.
pub(super) async fn raw(place: Arc<Place>, key: &str) -> Result<BlobStream, StorageError> {
    let reading = match ask(&place, key, &(0..u64::MAX)).await? {
        Found::Absent => return Err(StorageError::corrupt(place.shown(key), "it is gone")),
        Found::Nothing { .. } => None,
        Found::Bytes { body, end, .. } => {
            Some(Reading { place, key: key.to_owned(), body, at: 0, end, resumed: 0, check: None })
        }
    };
    Ok(pieces(reading))
}

fn pieces(reading: Option<Reading>) -> BlobStream {
    stream::try_unfold(reading, |reading: Option<Reading>| async move {
        match reading {
            None => Ok(None),
            Some(reading) => reading.next().await.map(Some),
        }
    })
    .boxed()
}

/// What there is of a range.
enum Found {
    Absent,
    Nothing { of: u64 },
    Bytes { body: ByteStream, end: u64, of: u64 },
}

async fn ask(place: &Place, key: &str, range: &Range<u64>) -> Result<Found, StorageError> {
    let nothing = async || Ok(place.len(key).await?.map_or(Found::Absent, |of| Found::Nothing { of }));
    if range.is_empty() {
        return nothing().await;
    }
    let part = match range {
        Range { start: 0, end: u64::MAX } => None,
        // The protocol's last byte is the last one wanted; lengths are signed there.
        Range { start, end } if *end > i64::MAX.unsigned_abs() => Some(format!("bytes={start}-")),
        Range { start, end } => Some(format!("bytes={start}-{}", end - 1)),
    };
    match place.client.get_object().bucket(&place.bucket).key(key).set_range(part).send().await {
        Ok(found) => {
            let bytes = length(found.content_length());
            let of = found.content_range().and_then(|range| range.rsplit_once('/')?.1.parse().ok());
            let of: u64 = of.unwrap_or(bytes);
            match bytes {
                0 => Ok(Found::Nothing { of }),
                _ => Ok(Found::Bytes { body: found.body, end: range.end.min(of), of }),
            }
        }
        Err(error) if absent(&error) => Ok(Found::Absent),
        // The range lies behind the end.
        Err(error) if refused(&error, &[416]) => nothing().await,
        Err(error) => Err(failed(format!("read {}", place.shown(key)), error)),
    }
}

fn agreed(place: &Place, key: &str, digester: Digester, digest: Digest) -> Result<(), StorageError> {
    if digester.finish() == digest { Ok(()) } else { Err(damaged(place, key)) }
}

fn damaged(place: &Place, key: &str) -> StorageError {
    StorageError::corrupt(place.shown(key), "its bytes do not match its name")
}

impl Reading {
    /// The next piece, and what is left.
    async fn next(mut self) -> Result<(Bytes, Option<Self>), StorageError> {
        let mut piece = self.some().await?;
        if piece.len() < PIECE_BYTES && self.at < self.end {
            let mut more = BytesMut::with_capacity(PIECE_BYTES);
            more.extend_from_slice(&piece);
            while more.len() < PIECE_BYTES && self.at < self.end {
                more.extend_from_slice(&self.some().await?);
            }
            piece = more.freeze();
        }
        if let Some((digester, digest)) = self.check.take() {
            self.check = Some((hashed(digester, piece.clone()).await?, digest));
        }
        if self.at < self.end {
            return Ok((piece, Some(self)));
        }
        // Checked before the last piece is given: whoever counts bytes never has them all of a damaged blob.
        if let Some((digester, digest)) = self.check {
            agreed(&self.place, &self.key, digester, digest)?;
        }
        Ok((piece, None))
    }

    /// Bytes of the store; where they break off, they are asked for again from there.
    async fn some(&mut self) -> Result<Bytes, StorageError> {
        loop {
            let reason = match tokio::time::timeout(NEXT, self.body.next()).await {
                Ok(Some(Ok(piece))) if piece.is_empty() => continue,
                Ok(Some(Ok(piece))) if piece.len() as u64 <= self.end - self.at => {
                    self.at += piece.len() as u64;
                    return Ok(piece);
                }
                Ok(Some(Ok(_))) => return Err(damaged(&self.place, &self.key)),
                Ok(Some(Err(error))) => error.to_string(),
                Ok(None) => "it ended early".to_owned(),
                Err(_) => "nothing more came".to_owned(),
            };
            if self.resumed == RESUMED_MAX {
                let doing = format!("read {} from byte {}", self.place.shown(&self.key), self.at);
                return Err(StorageError::Objects { doing, reason });
            }
            self.resumed += 1;
            match ask(&self.place, &self.key, &(self.at..self.end)).await? {
                Found::Bytes { body, end, .. } if end == self.end => self.body = body,
                _ => return Err(damaged(&self.place, &self.key)),
            }
        }
    }
}
