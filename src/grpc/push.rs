//! Rows as a stream of messages, each answered when its rows are durable.

use feature_store::IngestReport;
use futures::{StreamExt as _, stream, stream::BoxStream};
use proto::features::{IngestRequest, PushResponse};
use tonic::{Code, Status, Streaming};

use super::{Door, features::report};

/// What the next answer needs.
struct Push {
    door: Door,
    messages: Streaming<IngestRequest>,
    total: IngestReport,
    number: u64,
}

impl Door {
    /// Answers each message in turn. The next is read when the answer before was taken by the connection, so a client
    /// that is faster than the store, or does not read its answers, waits; one message is in memory at a time.
    pub(super) fn answer_each(
        &self,
        messages: Streaming<IngestRequest>,
    ) -> BoxStream<'static, Result<PushResponse, Status>> {
        let push = Push { door: self.clone(), messages, total: IngestReport::default(), number: 0 };
        stream::unfold(Some(push), |push| async move {
            let mut push = push?;
            match push.messages.message().await {
                Ok(None) => None,
                Ok(Some(message)) => Some(match push.take(message).await {
                    Ok(answer) => (Ok(answer), Some(push)),
                    Err(status) => (Err(status), None),
                }),
                Err(status) => Some((Err(status), None)),
            }
        })
        .boxed()
    }
}

impl Push {
    async fn take(&mut self, message: IngestRequest) -> Result<PushResponse, Status> {
        self.number += 1;
        let (mut taken, mut error) = (IngestReport::default(), String::new());
        match self.door.ingest_rows(message).await {
            Ok(report) => taken = report,
            // The message is at fault: the others have nothing to do with it.
            Err(status) if matches!(status.code(), Code::InvalidArgument | Code::NotFound) => {
                status.message().clone_into(&mut error);
            }
            Err(status) => return Err(status),
        }
        self.total.add(taken.clone());
        Ok(PushResponse {
            message: self.number,
            error,
            taken: Some(report(taken)?),
            total: Some(report(self.total.clone())?),
        })
    }
}
