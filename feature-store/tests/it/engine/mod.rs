//! The point-in-time join engine from outside, against a reference that looks at every row for every question.

mod cases;
mod columns;
mod files;
pub mod property;
pub mod reference;
