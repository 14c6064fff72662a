//! A client of Spark Connect: SQL over tables and rows of ours on a cluster that somebody else runs.
//!
//! [`Spark`] is a server; a [`Session`] on it has views (files that the server reads, rows that are sent along) and answers
//! queries over them, batch by batch. A session that is dropped interrupts what it runs and gives its views back.
//!
//! Nothing here knows a word of machine learning.

mod address;
mod error;
mod relation;
mod rows;
mod session;

/// The protocol, as far as it is used; its server half is for tests.
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod protocol {
    tonic::include_proto!("spark.connect");
}

pub use address::{Address, BadAddress};
pub use error::SparkError;
pub use relation::Relation;
pub use rows::Rows;
pub use session::{Session, Spark};
