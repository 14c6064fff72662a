//! What is kept and what becomes of it, through the real binary: files read back, garbage cleared away, models and whole
//! stores brought in.

#[path = "../support/mod.rs"]
mod support;

mod garbage;
mod models;
mod store;
mod verify;

use std::process::{Command, Output};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use support::{Server, millpond, root};

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

/// Runs a script with MLflow's unmodified client against the server, with nothing of the caller's environment. What it
/// prints.
#[track_caller]
fn python(script: &str, arguments: &[&str], url: &str) -> String {
    let python = root().join(".tools/mlflow/bin/python");
    assert!(python.exists(), "MLflow's client is missing: run `cargo xtask setup`");
    let home = tempfile::tempdir().expect("a temporary directory");
    let output = Command::new(python)
        .arg(root().join("tests/content").join(script))
        .args(arguments)
        .current_dir(home.path())
        .env_clear()
        .env("PATH", std::env::var_os("PATH").expect("a PATH"))
        .env("HOME", home.path())
        .env("TMPDIR", home.path())
        .env("LANG", "C.UTF-8")
        .env("MLFLOW_TRACKING_URI", url)
        .env("MLFLOW_DISABLE_TELEMETRY", "true")
        .env("DO_NOT_TRACK", "true")
        .env("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        .env("GIT_PYTHON_REFRESH", "quiet")
        .output()
        .expect("python starts");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{script}: {}\n{said}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    said.into_owned()
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
