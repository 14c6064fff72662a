//! What is kept and what becomes of it, through the real binary: files read back, garbage cleared away, models and whole
//! stores brought in.

#[path = "../support/mod.rs"]
mod support;

mod garbage;
mod models;
mod store;
mod verify;

use std::{ffi::OsStr, process::Output};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use support::{Server, millpond, python::script_with};

const FILES: &str = "/api/2.0/mlflow-artifacts/artifacts";

/// Runs a command against the server.
fn run(server: &Server, args: &[&str]) -> Output {
    millpond(&[args, &["--url", &server.url]].concat())
}

/// The JSON of a command, and whether it ended well.
#[track_caller]
fn json_of(server: &Server, args: &[&str]) -> (bool, Value) {
    let output = run(server, &[args, &["--json"]].concat());
    let value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|e| panic!("{args:?}: {e}: {}", String::from_utf8_lossy(&output.stderr)));
    (output.status.success(), value)
}

/// Runs a script with MLflow's unmodified client against the server. What it prints.
#[track_caller]
fn python(script: &str, arguments: &[&str], url: &str) -> String {
    let arguments: Vec<&OsStr> = arguments.iter().map(OsStr::new).collect();
    script_with(&format!("content/{script}"), &arguments, url, &[])
}

/// A new run, and the path of its root in the artifact tree.
fn start_run(server: &Server) -> (String, String) {
    let run = server.post("/api/v1/runs", &json!({"experiment": "x"})).ok()["id"].as_str().expect("an id").to_owned();
    let listing = server.get(&format!("/api/2.0/mlflow/artifacts/list?run_id={run}")).ok();
    let root = listing["root_uri"].as_str().expect("a root").strip_prefix("mlflow-artifacts:/").expect("it is ours");
    (run, root.to_owned())
}

fn put_file(server: &Server, path: &str, bytes: &[u8]) {
    server.call("PUT", &format!("{FILES}/{path}"), "application/octet-stream", bytes).ok();
}

/// Registers a version with these files.
fn register(server: &Server, model: &str, run: &str, files: &[(&str, &[u8])]) -> Value {
    let files: Value = files.iter().map(|(path, bytes)| ((*path).to_owned(), json!(STANDARD.encode(bytes)))).collect();
    let new = json!({"run": run, "files": files, "signature": {"inputs": [], "outputs": []}});
    server.post(&format!("/api/v1/models/{model}/versions"), &new).ok()
}
