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
mod lateness;
mod leakage;
mod lists;
mod load;
mod naive;
mod offline;
mod quarantine;
mod spark;
#[path = "../../../tests/support/spark_server.rs"]
mod spark_server;
mod stream;
mod windows;
mod world;
