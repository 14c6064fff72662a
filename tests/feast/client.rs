//! Feast's own client.

use std::{fs, path::Path, process::Command};

use serde_json::json;

use crate::{
    DEFINITIONS,
    support::{Server, python::environment, root},
    world,
};

/// How many checks a script has: none may be lost unseen.
fn checks(script: &Path) -> usize {
    fs::read_to_string(script).expect("UTF-8").lines().filter(|line| *line == "@check").count()
}

/// Runs a script of this folder in an empty home, with nothing of the caller's environment; every check holds.
#[track_caller]
fn holds(script: &str, arguments: &[&str], server: &Server, more: &[(&str, &str)]) {
    let home = tempfile::tempdir().expect("a temporary directory");
    let path = root().join("tests/feast").join(script);
    let output = Command::new(environment("feast"))
        .arg(&path)
        .args(arguments)
        .current_dir(home.path())
        .env_clear()
        .env("PATH", std::env::var_os("PATH").expect("a PATH"))
        .env("HOME", home.path())
        .env("TMPDIR", home.path())
        .env("LANG", "C.UTF-8")
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("FEAST_USAGE", "False")
        .env("MILLPOND_URL", &server.url)
        .envs(more.iter().copied())
        .output()
        .expect("python starts");
    let said = String::from_utf8_lossy(&output.stdout);
    let shown = format!("{script}: {}\n{said}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{shown}");
    assert_eq!(said.lines().last(), Some(format!("{} ok, 0 failed", checks(&path)).as_str()), "{shown}");
}

#[test]
fn a_user_moves_the_online_and_the_offline_store_and_keeps_the_registry() {
    let (server, _data) = world();
    holds("client.py", &["local"], &server, &[]);
    assert_eq!(server.stop(), Some(0), "the server ends in order");
}

#[test]
fn a_user_moves_everything_by_three_addresses() {
    let (server, _data) = world();
    holds("client.py", &["remote"], &server, &[]);
}

/// Makes a token by REST, as the holder of another one.
fn token(server: &Server, root: &str, project: &str, role: &str) -> String {
    let headers = [("authorization", format!("Bearer {root}")), ("x-millpond-project", project.to_owned())];
    let body = json!({"name": role, "role": role}).to_string();
    let made = server.call_with("POST", "/api/v1/tokens", &headers, body.as_bytes()).1.ok();
    made["secret"].as_str().expect("a secret").to_owned()
}

#[test]
fn a_token_opens_its_project_and_no_other_and_a_viewer_only_reads() {
    let data = tempfile::tempdir().expect("a temporary directory");
    let server = Server::start_with(data.path(), &["--set", "access.required=true"]);
    let root = fs::read_to_string(data.path().join("first-admin.token")).expect("the first admin's token");
    let root = root.trim();
    let as_root = [("authorization", format!("Bearer {root}"))];
    server.call_with("POST", "/api/v1/projects", &as_root, br#"{"name": "vision"}"#).1.ok();
    let tokens: Vec<String> = ["engineer", "viewer"].map(|role| token(&server, root, "vision", role)).into();
    let elsewhere = token(&server, root, "default", "engineer");
    let apply = [("authorization", format!("Bearer {}", tokens[0])), ("content-type", "application/yaml".to_owned())];
    server.call_with("POST", "/api/v1/definitions", &apply, DEFINITIONS.as_bytes()).1.ok();
    let environment =
        [("ENGINEER", tokens[0].as_str()), ("VIEWER", tokens[1].as_str()), ("ELSEWHERE", elsewhere.as_str())];
    holds("tokens.py", &[], &server, &environment);
    let audit = server.call_with(
        "GET",
        "/api/v1/audit?kind=access.refused",
        &[("authorization", format!("Bearer {root}")), ("x-millpond-project", "vision".into())],
        b"",
    );
    let refused = audit.1.ok().to_string();
    for call in ["POST /push", "POST /arrow.flight.protocol.FlightService/DoPut", "POST /write-to-online-store"] {
        assert!(refused.contains(call), "{call}: {refused}");
    }
}
