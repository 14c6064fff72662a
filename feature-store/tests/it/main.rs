//! The feature store from outside: what it promises about definitions, rows, joins and datasets.

mod bulk;
mod chosen;
mod dataset;
mod definitions;
mod durability;
mod engine;
mod guard;
mod ingestion;
mod join;
mod leakage;
mod lists;
mod naive;
mod offline;
mod windows;
mod world;
