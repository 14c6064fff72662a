//! The platform with its files in a bucket and its metadata in Postgres: `kill -9`, a store that goes away, damage,
//! addresses for clients, and several servers.

#[path = "../support/mod.rs"]
mod support;

mod away;
mod direct;
mod kill;
mod servers;

use support::{
    artifacts::{FILES, UPLOADS, get, listed, noise, post, put, run},
    bucket, eventually, raw,
};
