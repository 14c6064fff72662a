//! Tables that wait to be asked about: Feast's older clients send one, ask for a ticket, and fetch.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use arrow::array::RecordBatch;
use bytes::Bytes;
use domain::{ErrorCode, Span, Timestamp};

use crate::feast::{Class, Refusal};

/// How long a table waits before it is dropped.
const WAITS: Span = Span::from_micros(600_000_000);
/// Tables that wait at once, and their size in memory together.
const TABLES_MAX: usize = 64;
const BYTES_MAX: usize = 1 << 30;

struct Waiting {
    table: RecordBatch,
    bytes: usize,
    until: Timestamp,
}

/// By the command they came with, which holds an id of its own.
#[derive(Clone, Default)]
pub struct Uploads(Arc<Mutex<HashMap<Bytes, Waiting>>>);

impl Uploads {
    /// Keeps a table.
    ///
    /// # Errors
    /// `Overloaded` when too many wait; a command that was sent before.
    pub fn put(&self, command: Bytes, table: RecordBatch, now: Timestamp) -> Result<(), Refusal> {
        let bytes = table.get_array_memory_size();
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, waiting| waiting.until > now);
        let full: usize = all.values().map(|waiting| waiting.bytes).sum();
        if all.len() >= TABLES_MAX || full + bytes > BYTES_MAX {
            let message =
                format!("{} tables of {full} bytes wait to be fetched: fetch them, or come again later", all.len());
            return Err(Refusal::new(ErrorCode::Overloaded, Class::General, message));
        }
        if all.contains_key(&command) {
            let message = "a table waits under this command already: send each under a command_id of its own";
            return Err(Refusal::new(ErrorCode::Conflict, Class::General, message));
        }
        all.insert(command, Waiting { table, bytes, until: now + WAITS });
        Ok(())
    }

    /// Whether a table waits.
    #[must_use]
    pub fn waits(&self, command: &Bytes, now: Timestamp) -> bool {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(command).is_some_and(|waiting| waiting.until > now)
    }

    /// Hands a table out; it waits no longer.
    ///
    /// # Errors
    /// There is none, or it waited too long.
    pub fn take(&self, command: &Bytes, now: Timestamp) -> Result<RecordBatch, Refusal> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = all.remove(command).filter(|waiting| waiting.until > now);
        waiting.map(|waiting| waiting.table).ok_or_else(nothing_waits)
    }
}

/// What whoever asks without having sent a table is told.
pub fn nothing_waits() -> Refusal {
    let message = "no table waits under this command: it was never sent, was fetched already, or waited for longer than 10 minutes";
    Refusal::not_found(Class::General, message)
}

#[cfg(test)]
mod tests {
    use arrow::{
        array::Int64Array,
        datatypes::{DataType, Field, Schema},
    };

    use super::*;

    fn table() -> RecordBatch {
        let schema = Schema::new(vec![Field::new("k", DataType::Int64, false)]);
        RecordBatch::try_new(Arc::new(schema), vec![Arc::new(Int64Array::from(vec![1]))]).unwrap()
    }

    #[test]
    fn a_table_is_fetched_once_and_in_time() {
        let (uploads, start) = (Uploads::default(), Timestamp::from_micros(0));
        uploads.put("a".into(), table(), start).unwrap();
        uploads.put("b".into(), table(), start).unwrap();
        assert!(uploads.put("a".into(), table(), start).is_err(), "sent twice");
        assert!(uploads.take(&"a".into(), start).is_ok());
        assert!(uploads.take(&"a".into(), start).is_err(), "fetched already");
        assert!(!uploads.waits(&"b".into(), start + WAITS));
        assert!(uploads.take(&"b".into(), start + WAITS).is_err(), "too late");
    }

    #[test]
    fn tables_that_nobody_fetches_are_bounded_and_make_room_in_time() {
        let (uploads, start) = (Uploads::default(), Timestamp::from_micros(0));
        for number in 0..TABLES_MAX {
            uploads.put(number.to_string().into(), table(), start).unwrap();
        }
        assert!(uploads.put("more".into(), table(), start).is_err());
        uploads.put("more".into(), table(), start + WAITS).unwrap();
    }
}
