//! A table as it comes in: a command first, then a schema, then rows. Bounded, and wary of what it is sent.

use std::panic::AssertUnwindSafe;

use arrow::{array::RecordBatch, compute::concat_batches};
use arrow_flight::{FlightData, decode::FlightRecordBatchStream, error::FlightError};
use bytes::Bytes;
use domain::ErrorCode;
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _, stream};
use tonic::{Status, Streaming};

use crate::feast::{Class, Refusal};

/// Largest table that is taken.
pub const TABLE_BYTES_MAX: usize = 512 << 20;

/// A table of which only the command has been read.
pub struct Incoming {
    /// What is to be done with the table.
    pub command: Bytes,
    first: FlightData,
    rest: Streaming<FlightData>,
}

impl Incoming {
    /// Reads the first message.
    ///
    /// # Errors
    /// There is none, or it has no descriptor.
    pub async fn open(mut messages: Streaming<FlightData>) -> Result<Self, Status> {
        let missing = || unfit("the first message must carry a descriptor with a command").to_flight();
        let first = messages.message().await?.ok_or_else(missing)?;
        let command = first.flight_descriptor.as_ref().map(|descriptor| descriptor.cmd.clone()).ok_or_else(missing)?;
        Ok(Self { command, first, rest: messages })
    }

    /// Reads the rest.
    ///
    /// # Errors
    /// No schema came, what came is no lawful Arrow data, or it is larger than [`TABLE_BYTES_MAX`].
    pub async fn table(self) -> Result<RecordBatch, Status> {
        let Self { first, rest, .. } = self;
        let mut seen = 0_usize;
        // In an exchange, clients in C++ and Python send the descriptor alone and the schema behind it.
        let first = (!first.data_header.is_empty()).then_some(Ok(first));
        let messages = stream::iter(first).chain(rest).map(move |message| {
            let message = message?;
            seen = seen.saturating_add(message.data_body.len()).saturating_add(message.data_header.len());
            if seen > TABLE_BYTES_MAX {
                let text = format!("the table is larger than {TABLE_BYTES_MAX} bytes: send it in several");
                return Err(Refusal::new(ErrorCode::TooLarge, Class::General, text).to_flight());
            }
            Ok(message)
        });
        // A decoder that is given lies must not take the connection with it.
        match AssertUnwindSafe(decode(messages)).catch_unwind().await {
            Ok(decoded) => decoded,
            Err(_) => Err(unfit("the table is no lawful Arrow data").to_flight()),
        }
    }
}

async fn decode(
    messages: impl futures::Stream<Item = Result<FlightData, Status>> + Send + 'static,
) -> Result<RecordBatch, Status> {
    let messages = messages.map_err(|status| FlightError::Tonic(Box::new(status)));
    let mut decoder = FlightRecordBatchStream::new_from_flight_data(messages);
    let mut batches = Vec::new();
    while let Some(batch) = decoder.next().await {
        batches.push(batch.map_err(|error| match error {
            FlightError::Tonic(status) => *status,
            other => unfit(format!("the table cannot be read: {other}")).to_flight(),
        })?);
    }
    let schema = decoder.schema().ok_or_else(|| unfit("no schema came").to_flight())?;
    concat_batches(schema, &batches).map_err(|e| unfit(format!("the table cannot be read: {e}")).to_flight())
}

fn unfit(message: impl Into<String>) -> Refusal {
    Refusal::unfit(Class::General, message)
}
