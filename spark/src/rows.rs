//! The answer to a query, as it comes.

use std::{collections::VecDeque, io::Cursor};

use arrow::{array::RecordBatch, error::ArrowError, ipc::reader::StreamReader};
use tonic::Streaming;

use crate::{
    error::SparkError,
    protocol::{self as wire, execute_plan_response::ResponseType},
    session::Session,
};

/// Batches of an answer. Nothing is asked for ahead of [`Rows::next`] but what the connection's window holds.
pub struct Rows<'a> {
    session: &'a Session,
    stream: Streaming<wire::ExecutePlanResponse>,
    waiting: VecDeque<RecordBatch>,
}

impl<'a> Rows<'a> {
    pub(crate) fn new(session: &'a Session, stream: Streaming<wire::ExecutePlanResponse>) -> Self {
        Self { session, stream, waiting: VecDeque::new() }
    }

    /// The next batch; `None` when all have come.
    ///
    /// # Errors
    /// What the server says, `Gone` when it breaks off, `Late` beyond the session's deadline.
    pub async fn next(&mut self) -> Result<Option<RecordBatch>, SparkError> {
        loop {
            if let Some(batch) = self.waiting.pop_front() {
                return Ok(Some(batch));
            }
            // A stream that breaks ends with a status that is not OK. Its last message says nothing more: `ResultComplete`
            // comes only where a call may be taken up again.
            let Some(response) = self.session.in_time(self.stream.message()).await? else { return Ok(None) };
            if let Some(ResponseType::ArrowBatch(batch)) = response.response_type {
                if batch.num_chunks_in_batch.unwrap_or(1) > 1 {
                    return Err(self.session.garbled("a batch in pieces, which nobody asked for"));
                }
                let read = read(&batch.data).map_err(|error| self.session.garbled(&error.to_string()))?;
                self.waiting.extend(read.into_iter().filter(|batch| batch.num_rows() > 0));
            }
        }
    }
}

fn read(data: &[u8]) -> Result<Vec<RecordBatch>, ArrowError> {
    StreamReader::try_new(Cursor::new(data), None)?.collect()
}
