//! Artifacts through the real binary: what clients send and see, byte by byte, and what is left when they break off.

#[path = "../support/mod.rs"]
mod support;

mod files;
mod hostile;
mod parts;
mod transfers;

use std::{fs, path::Path};

use support::{
    artifacts::{FILES, UPLOADS, encoded, get, listed, noise, post, put, run},
    eventually, raw,
};

/// Waits until nothing half-written is left on disk.
fn no_scratch(data: &Path) {
    let scratch = data.join("blobs").join("tmp");
    eventually("unfinished files to go", || {
        fs::read_dir(&scratch).expect("it is there").next().is_none().then_some(())
    });
}
