//! What the search promises: the grammar and its refusals, and that SQL finds what a plain reading of the rows finds.

mod grammar;
mod naive;
mod paging;
mod plan;
mod world;
