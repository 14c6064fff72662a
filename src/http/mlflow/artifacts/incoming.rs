//! A file on its way in: never whole in memory, and allowed to last as long as it moves.

use axum::{
    body::BodyDataStream,
    extract::{FromRequest, Request},
    http::{HeaderMap, header},
};
use bytes::Bytes;
use domain::{Digest, ErrorCode};
use futures::{Stream, StreamExt as _, stream};
use hyper::body::Body as _;

use crate::http::{DoorLimits, mlflow::wire::Refusal, problem::DRAINED_BYTES_MAX};

/// Names the SHA-256 that the body must have.
const EXPECTED_DIGEST: &str = "x-content-sha256";

/// The body of a request, piece by piece.
pub struct Incoming {
    body: BodyDataStream,
    headers: HeaderMap,
    limits: DoorLimits,
    /// As the caller announced it; 0 where it did not.
    announced: u64,
    seen: u64,
    /// Nothing more comes: it ended, broke off or stood still.
    over: bool,
}

impl<S: Send + Sync> FromRequest<S> for Incoming {
    type Rejection = Refusal;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Refusal> {
        let limits = request.extensions().get::<DoorLimits>().copied();
        let limits = limits.ok_or_else(|| Refusal::new(ErrorCode::Internal, "the route has no limits"))?;
        let (parts, body) = request.into_parts();
        let announced = body.size_hint().lower();
        Ok(Self { body: body.into_data_stream(), headers: parts.headers, limits, announced, seen: 0, over: false })
    }
}

impl Incoming {
    /// The digest that the caller says the body has.
    pub fn expected(&self) -> Result<Option<Digest>, Refusal> {
        let Some(digest) = self.headers.get(EXPECTED_DIGEST) else { return Ok(None) };
        let digest = digest.to_str().ok().and_then(|text| text.parse::<Digest>().ok());
        let wrong = || Refusal::invalid(format!("{EXPECTED_DIGEST} is not a digest of 64 hexadecimal digits"));
        digest.map(Some).ok_or_else(wrong)
    }

    /// The body. An error is the last piece.
    pub fn pieces(&mut self) -> impl Stream<Item = Result<Bytes, Refusal>> + Send + '_ {
        stream::unfold(self, |body| async move { body.next().await.map(|piece| (piece, body)) })
    }

    async fn next(&mut self) -> Option<Result<Bytes, Refusal>> {
        let most = self.limits.max_artifact_bytes;
        if self.announced > most {
            return Some(Err(too_large(most)));
        }
        let piece = self.read().await?;
        if self.seen > most { Some(Err(too_large(most))) } else { Some(piece) }
    }

    async fn read(&mut self) -> Option<Result<Bytes, Refusal>> {
        if self.over {
            return None;
        }
        let idle = self.limits.transfer_idle;
        let refusal = match tokio::time::timeout(idle, self.body.next()).await {
            Ok(Some(Ok(piece))) => {
                self.seen = self.seen.saturating_add(piece.len() as u64);
                return Some(Ok(piece));
            }
            Ok(None) => None,
            Ok(Some(Err(error))) => {
                let message = format!("the body broke off after {} bytes: {error}: send the whole body", self.seen);
                Some(Err(Refusal { error_code: "BAD_REQUEST", ..Refusal::invalid(message) }))
            }
            Err(_) => {
                let message = format!("no byte came for {idle:?}: send the body again, or raise server.transfer_idle");
                Some(Err(Refusal { status: 408, error_code: "DEADLINE_EXCEEDED", message }))
            }
        };
        self.over = true;
        refusal
    }

    /// The outcome, once the caller can read it: one that writes its whole body before it reads would otherwise see a
    /// broken connection instead of the refusal.
    pub async fn settle<T>(mut self, outcome: Result<T, Refusal>) -> Result<T, Refusal> {
        let asks_first = self.headers.contains_key(header::EXPECT);
        if outcome.is_err() && !asks_first {
            let until = self.seen.saturating_add(DRAINED_BYTES_MAX as u64);
            while self.seen < until && matches!(self.read().await, Some(Ok(_))) {}
        }
        outcome
    }
}

fn too_large(most: u64) -> Refusal {
    let message = format!(
        "the file is larger than the limit of {most} bytes: upload it in parts, or raise server.max_artifact_bytes"
    );
    Refusal::new(ErrorCode::TooLarge, message)
}
