//! Artifacts through the real binary: what clients send and see, byte by byte, and what is left when they break off.

#[path = "../support/mod.rs"]
mod support;

mod files;
mod hostile;
mod parts;
mod raw;
mod transfers;

use std::{fs, path::Path};

use raw::{Reply, send};
use serde_json::{Value, json};
use support::{Server, eventually};

const FILES: &str = "/api/2.0/mlflow-artifacts/artifacts";
const UPLOADS: &str = "/api/2.0/mlflow-artifacts/mpu";

fn post(server: &Server, path: &str, body: &Value) -> Reply {
    send(server, "POST", path, &[("content-type", "application/json")], body.to_string().as_bytes())
}

fn put(server: &Server, path: &str, body: &[u8]) -> Reply {
    send(server, "PUT", &format!("{FILES}/{path}"), &[], body)
}

fn get(server: &Server, path: &str) -> Reply {
    send(server, "GET", &format!("{FILES}/{path}"), &[], b"")
}

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// What a listing shows: names with lengths, directories with a `/`.
fn listed(server: &Server, directory: &str) -> Vec<(String, u64)> {
    let answer = send(server, "GET", &format!("{FILES}?path={}", encoded(directory)), &[], b"").ok().json();
    let files = answer["files"].as_array().cloned().unwrap_or_default();
    files
        .iter()
        .map(|file| {
            let name = file["path"].as_str().expect("a path");
            let slash = if file["is_dir"].as_bool().expect("a truth value") { "/" } else { "" };
            (format!("{name}{slash}"), file["file_size"].as_u64().unwrap_or(0))
        })
        .collect()
}

/// A new run, and the path of its root.
fn run(server: &Server) -> (String, String) {
    let run = server.post("/api/v1/runs", &json!({"experiment": "x"})).ok()["id"].as_str().expect("an id").to_owned();
    let listing = server.get(&format!("/api/2.0/mlflow/artifacts/list?run_id={run}")).ok();
    let root = listing["root_uri"].as_str().expect("a root").strip_prefix("mlflow-artifacts:/").expect("it is ours");
    (run, root.to_owned())
}

/// Bytes that no other seed gives.
fn noise(length: usize, seed: u32) -> Vec<u8> {
    let mut state = seed;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

/// Waits until nothing half-written is left on disk.
fn no_scratch(data: &Path) {
    let scratch = data.join("blobs").join("tmp");
    eventually("unfinished files to go", || {
        fs::read_dir(&scratch).expect("it is there").next().is_none().then_some(())
    });
}
