//! SQL over named tables: questions in, Arrow record batches out, read only.
//!
//! Whoever has rows gives a [`Catalogue`] of [`Rows`]; an [`Engine`] answers questions over it. The planner and the
//! operators are DataFusion's; what stands here is the narrow door to it: which tables there are, what a question may
//! cost, and how errors are said.
//!
//! - Only queries are taken (`SELECT`, `WITH`, `VALUES`, `EXPLAIN`, `SHOW`, `DESCRIBE`): nothing is written, no setting changed, no
//!   file read.
//! - Operators compute on threads of the engine's own, tables are read on the runtime that the catalogue came from. A
//!   question has a share of the memory, spills to disk beyond it, and ends at its deadline or when its answer is dropped.
//! - Names that are not quoted are lower case, as in Postgres.

#![forbid(unsafe_code)]

mod catalogue;
mod engine;
mod error;
mod functions;
mod parameters;
mod table;

pub use catalogue::Catalogue;
pub use engine::{Answer, Described, Engine, Limits};
pub use error::SqlError;
pub use table::{Batches, Fault, Rows, Scan};

/// The one catalogue, as clients see it named.
pub const CATALOG: &str = "millpond";
/// Where names without a schema are looked up.
pub const DEFAULT_SCHEMA: &str = "public";
