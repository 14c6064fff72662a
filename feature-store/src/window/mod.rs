//! Windows of event time: where they lie, and what is kept for functions that cannot be taken back.
//!
//! Counts, sums, means and deviations are differences of running totals (`exact`); for them a window is only two
//! instants ([`WindowSpan`]). The least value, the number of different ones or a quantile cannot be subtracted:
//! they are merged from tiles. A tile `[n g, (n + 1) g)` has the length `g` to which the window's tail is
//! rounded, so a window is whole tiles and the part of the last one up to the question. One [`State`] stands
//! behind all paths: [`answer`] computes it from history, [`write`] keeps it online row by row, [`read`] merges
//! it back. It depends on the values alone, never on the order in which they came or were merged.

mod newest;
mod plan;
pub(crate) mod read;
mod slide;
mod span;
mod state;
mod way;
pub(crate) mod write;

pub(crate) use plan::{Chain, TileRule, Tiles};
pub(crate) use slide::{Entity, answer};
pub(crate) use span::{Ends, WindowSpan, floor};
pub(crate) use state::{Fold, Rank, State};
pub(crate) use way::Way;
