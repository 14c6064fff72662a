//! Bytes, rows and the journal: everything that outlives the process stands behind these handles.
//!
//! - [`Blobs`]: immutable bytes by digest. [`Kv`]: ordered keys for online values.
//! - [`Meta`]: relational state with one writer, and the [`Journal`] of what changed, in the same transaction.
//! - [`Collector`]: removes the blobs that nothing names any more.
//! - [`Tables`]: append-only columnar rows, a write-ahead log in front of Parquet segments, or of a [`Vault`].
//!
//! Nothing here knows a word of machine learning. What is durable, atomic or unknown after a failure is
//! said at each method; [`testing`] holds the suites and faulty twins that hold implementations to it.

pub mod sql;
pub mod testing;

mod blobs;
mod caller;
mod disk;
mod error;
mod frame;
mod garbage;
mod journal;
mod kv;
mod list;
mod manifest;
mod meta;
mod recover;
mod redis_stream;
mod segment;
mod table;
mod vault;
mod wal;
mod writer;

pub use blobs::{
    BlobInfo, BlobList, BlobStream, BlobWriter, Blobs, Direct, DirectUpload, LocalBlobs, S3Blobs, S3Keys, S3Options,
    Signed,
};
pub use caller::{Caller, acting, caller_or};
pub use error::StorageError;
pub use frame::{fields_of, from_batches, from_parquet, plain_batch, schema_of, to_batch, to_parquet};
pub use garbage::{Collected, Collector, References, digests_in, require_stored};
pub use journal::{BadHead, Head, Journal};
pub use kv::{EmbeddedKv, Floor, Kv, Pair, SortedPairs};
pub use meta::{Meta, Migration, Tx};
pub use redis_stream::{Entry, Lag, RedisStream, StreamError, StreamPlace};
pub use table::{Table, Tables, TimeRange};
pub use vault::{Kept, Vault};

/// The SQL library whose types stand in [`Meta`]'s signatures, so that rooms use the same one.
pub use sqlx;

#[cfg(test)]
mod tests;
