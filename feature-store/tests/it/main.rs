//! The feature store from outside: what it promises about definitions, rows, joins and datasets.

mod chosen;
mod dataset;
mod definitions;
mod durability;
mod engine;
mod guard;
mod ingestion;
mod join;
mod lateness;
mod leakage;
mod lists;
mod load;
mod naive;
mod offline;
mod quarantine;
mod stream;
mod windows;
mod world;
