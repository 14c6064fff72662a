//! The promises of this crate, one file per noun.

mod blobs;
mod crash;
mod faults;
mod frame;
mod garbage;
mod journal;
mod kv;
mod meta;
mod postgres;
mod redis;
mod redis_stream;
mod rig;
mod table;
mod vault;
