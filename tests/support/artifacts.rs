//! Artifacts as MLflow's clients send, list and get them, for tests of any store.

use serde_json::{Value, json};

use super::{
    Server,
    raw::{Reply, send},
};

pub const FILES: &str = "/api/2.0/mlflow-artifacts/artifacts";
pub const UPLOADS: &str = "/api/2.0/mlflow-artifacts/mpu";

pub fn post(server: &Server, path: &str, body: &Value) -> Reply {
    send(server, "POST", path, &[("content-type", "application/json")], body.to_string().as_bytes())
}

pub fn put(server: &Server, path: &str, body: &[u8]) -> Reply {
    send(server, "PUT", &format!("{FILES}/{path}"), &[], body)
}

pub fn get(server: &Server, path: &str) -> Reply {
    send(server, "GET", &format!("{FILES}/{path}"), &[], b"")
}

pub fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// What a listing shows: names with lengths, directories with a `/`.
pub fn listed(server: &Server, directory: &str) -> Vec<(String, u64)> {
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
pub fn run(server: &Server) -> (String, String) {
    let run = server.post("/api/v1/runs", &json!({"experiment": "x"})).ok()["id"].as_str().expect("an id").to_owned();
    let listing = server.get(&format!("/api/2.0/mlflow/artifacts/list?run_id={run}")).ok();
    let root = listing["root_uri"].as_str().expect("a root").strip_prefix("mlflow-artifacts:/").expect("it is ours");
    (run, root.to_owned())
}

/// Bytes that no other seed gives.
pub fn noise(length: usize, seed: u32) -> Vec<u8> {
    let mut state = seed;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}
