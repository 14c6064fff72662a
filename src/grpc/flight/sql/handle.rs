//! Handles of statements: everything that is needed to answer them.

use std::panic::{AssertUnwindSafe, catch_unwind};

use arrow::{
    array::RecordBatch,
    ipc::{reader::StreamReader, writer::StreamWriter},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use domain::ErrorCode;
use serde::{Deserialize, Serialize};
use tonic::Status;

use crate::grpc::status;

/// Bound values above this are refused: every fetch sends them back.
const VALUES_BYTES_MAX: usize = 1 << 20;

/// A statement's text and its values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Handle {
    pub query: String,
    /// An Arrow IPC stream of one row in base 64; absent: nothing is bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    values: Option<String>,
}

impl Handle {
    pub const fn of(query: String) -> Self {
        Self { query, values: None }
    }

    /// # Errors
    /// The bytes are no handle of ours.
    pub fn read(bytes: &[u8]) -> Result<Self, Status> {
        serde_json::from_slice(bytes)
            .map_err(|_| refused("the handle is none that was given here: prepare the statement anew"))
    }

    pub fn bytes(&self) -> Result<Bytes, Status> {
        let written = serde_json::to_vec(self).map_err(|e| status(ErrorCode::Internal, e.to_string()))?;
        Ok(written.into())
    }

    /// The statement with these values.
    ///
    /// # Errors
    /// Not exactly one row, or too large a one.
    pub fn bind(mut self, values: &RecordBatch) -> Result<Self, Status> {
        if values.num_rows() != 1 {
            let text = format!("{} rows of parameters came: run the statement once for each row", values.num_rows());
            return Err(refused(text));
        }
        let broken =
            |e: arrow::error::ArrowError| status(ErrorCode::Internal, format!("could not keep parameters: {e}"));
        let mut bytes = Vec::new();
        let mut writer = StreamWriter::try_new(&mut bytes, values.schema_ref()).map_err(broken)?;
        writer.write(values).and_then(|()| writer.finish()).map_err(broken)?;
        drop(writer);
        if bytes.len() > VALUES_BYTES_MAX {
            let text = format!("the parameters have {} bytes, and at most {VALUES_BYTES_MAX} are taken", bytes.len());
            return Err(status(ErrorCode::TooLarge, text));
        }
        self.values = Some(STANDARD.encode(bytes));
        Ok(self)
    }

    /// The bound values.
    ///
    /// # Errors
    /// They were changed on the way.
    pub fn values(&self) -> Result<Option<RecordBatch>, Status> {
        let Some(text) = &self.values else { return Ok(None) };
        let broken = || refused("the handle's parameters are none that were bound here");
        let bytes = STANDARD.decode(text).map_err(|_| broken())?;
        // A decoder that is given lies may panic.
        let read = catch_unwind(AssertUnwindSafe(|| StreamReader::try_new(bytes.as_slice(), None)?.next().transpose()));
        match read {
            Ok(Ok(batch)) => Ok(batch),
            Ok(Err(_)) | Err(_) => Err(broken()),
        }
    }
}

fn refused(message: impl Into<String>) -> Status {
    status(ErrorCode::InvalidArgument, message)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::Int64Array;

    use super::*;

    #[test]
    fn values_come_back_as_they_were_bound_and_lies_are_refused() {
        let values = RecordBatch::try_from_iter([("$1", Arc::new(Int64Array::from(vec![7])) as _)]).unwrap();
        let bound = Handle::of("select $1".into()).bind(&values).unwrap();
        let read = Handle::read(&bound.bytes().unwrap()).unwrap();
        assert_eq!((&read, read.values().unwrap().unwrap()), (&bound, values.clone()));
        let lied = Handle { values: Some(STANDARD.encode([0xFF; 40])), ..bound };
        assert_eq!(lied.values().unwrap_err().code(), tonic::Code::InvalidArgument);
        assert!(Handle::read(b"\x0a\x03abc").is_err());
        assert!(Handle::of(String::new()).bind(&values.slice(0, 0)).is_err());
    }
}
