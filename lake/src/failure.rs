//! What Delta Lake's and the object store's failures amount to.

use std::io;

use deltalake_core::DeltaTableError;
use storage::StorageError;

fn io_of(error: &(dyn std::error::Error + 'static)) -> Option<io::Error> {
    let mut cause = Some(error);
    while let Some(inner) = cause {
        if let Some(io) = inner.downcast_ref::<io::Error>() {
            return Some(io::Error::new(io.kind(), io.to_string()));
        }
        cause = inner.source();
    }
    None
}

/// A failure of the object store.
pub(crate) fn store(doing: impl Into<String>) -> impl FnOnce(object_store::Error) -> StorageError {
    let doing = doing.into();
    move |error| match io_of(&error) {
        Some(source) => StorageError::Io { doing, source },
        None => StorageError::Objects { doing, reason: error.to_string() },
    }
}

/// A failure of the table's log.
pub(crate) fn delta(doing: impl Into<String>) -> impl FnOnce(DeltaTableError) -> StorageError {
    let doing = doing.into();
    move |error| match error {
        DeltaTableError::ObjectStore { source } => store(doing)(source),
        error => match io_of(&error) {
            Some(source) => StorageError::Io { doing, source },
            None => StorageError::Objects { doing, reason: error.to_string() },
        },
    }
}

/// Bytes that are not what was written.
pub(crate) fn damaged(what: impl Into<String>, detail: impl ToString) -> StorageError {
    StorageError::Corrupt { what: what.into(), detail: detail.to_string() }
}

/// A blocking task that did not come back.
pub(crate) fn gone(_: tokio::task::JoinError) -> StorageError {
    StorageError::WorkerGone("a table's files")
}
