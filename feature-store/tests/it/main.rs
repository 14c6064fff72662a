//! The feature store from outside: what it promises about definitions, rows, joins and datasets.

mod chosen;
mod dataset;
mod definitions;
mod durability;
mod ingestion;
mod join;
mod leakage;
mod naive;
mod world;
