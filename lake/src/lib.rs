//! Open tables behind a write-ahead log: the sealed rows of a table as a Delta Lake table in the object store.
//!
//! A [`Lake`] is a place for tables, a directory or a part of a bucket. A [`LakeTable`] is one of them and the
//! [`storage::Vault`] of its log: rows that are sealed there become one commit here, together with how far the log is
//! kept, so that a crash between the two loses and doubles nothing. What is here is plain Delta Lake (reader version 1,
//! writer version 2): DuckDB, Polars and Spark read it as it is.
//!
//! Files are partitioned by the UTC day of the event time and sorted within by key columns, then time. One process
//! writes a table. [`LakeTable::compact`] joins the small files of a day and drops rows that later rows replace;
//! [`LakeTable::vacuum`] removes files that no version needs any more. A [`Snapshot`] is one version: it lists its files
//! and reads them, also after a compaction, until a vacuum.
//!
//! Nothing here knows a word of machine learning.

mod commit;
mod compact;
mod day;
mod durable;
mod encode;
mod failure;
mod file;
mod pieces;
mod place;
mod read;
mod s3;
mod schema;
mod snapshot;
mod stage;
mod stats;
mod table;
mod vacuum;

pub use compact::{Bound, Compacted};
pub use encode::Sorted;
pub use file::{LiveFile, ParquetFile};
pub use pieces::{Numbers, Pieces};
pub use place::Lake;
pub use s3::{LakeKeys, LakeS3};
pub use snapshot::Snapshot;
pub use stage::{Staged, Staging};
pub use table::{LakeTable, Layout};
pub use vacuum::{KEPT_MAX, Vacuumed};

/// The column that tables are partitioned by: the UTC day of the event time.
pub const EVENT_DATE: &str = "event_date";

#[cfg(test)]
mod tests;
