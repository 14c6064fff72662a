//! SQL as its users ask: ADBC's Flight SQL driver from PyPI, REST and the command line, against a running server.

#[path = "../support/mod.rs"]
mod support;

use std::process::Command;

use serde_json::{Value, json};
use support::{Server, millpond, python::environment, root};

const DEFINITIONS: &str = "\
kind: Entity
name: who
key: who
---
kind: Source
name: events
timestamp: at
row_id: [id]
columns:
  - {name: id, type: int, required: true}
  - {name: who, type: text, required: true}
  - {name: at, type: timestamp, required: true}
  - {name: x, type: float}
  - {name: tags, type: 'text[]'}
---
kind: FeatureView
name: last
source: events
entities: [who]
features:
  - {name: level, column: x}
";

/// Event n happened n hours after 2024 began.
fn event(n: i64, x: f64) -> Value {
    let at = jiff::Timestamp::from_second(1_704_067_200 + n * 3_600).expect("an instant");
    json!({"id": n, "who": format!("w{}", n % 3), "at": at.to_string(), "x": x, "tags": ["a", "b"]})
}

fn send(server: &Server, rows: &[Value]) {
    let body = serde_json::to_vec(rows).expect("JSON");
    server.ingest("events", "application/json", &body).ok();
}

/// Rows 0 to 99, of which ten were corrected; half of them in files of the table, the rest in the log.
fn fill(server: &Server) {
    server.apply(DEFINITIONS).ok();
    let rows: Vec<Value> = (0..60).map(|n| event(n, n as f64)).collect();
    send(server, &rows);
    server.post("/api/v1/sources/events/compact", &json!({})).ok();
    let more: Vec<Value> = (60..100).map(|n| event(n, n as f64)).collect();
    send(server, &more);
    let corrections: Vec<Value> = (55..65).map(|n| event(n, -1.0)).collect();
    send(server, &corrections);
}

/// A run with a parameter and a metric, by MLflow's API; its id.
fn track(server: &Server) -> String {
    let made = server.post("/api/2.0/mlflow/runs/create", &json!({"experiment_id": "0", "run_name": "first"})).ok();
    let id = made["run"]["info"]["run_id"].as_str().expect("an id").to_owned();
    let body = json!({
        "run_id": id,
        "params": [{"key": "depth", "value": "6"}],
        "metrics": (0..5).map(|step| json!({"key": "auc", "value": 0.5 + 0.1 * f64::from(step), "timestamp": 1_700_000_000_000_i64 + i64::from(step), "step": step})).collect::<Vec<_>>(),
    });
    server.post("/api/2.0/mlflow/runs/log-batch", &body).ok();
    id
}

/// What the script of ADBC's driver says.
fn adbc(server: &Server, arguments: &[&str]) -> Value {
    let home = tempfile::tempdir().expect("a temporary directory");
    let output = Command::new(environment("sql"))
        .arg(root().join("tests/sql/client.py"))
        .arg(server.url.replace("http://", "grpc://"))
        .args(arguments)
        .current_dir(home.path())
        .env_clear()
        .env("PATH", std::env::var_os("PATH").expect("a PATH"))
        .env("HOME", home.path())
        .env("LANG", "C.UTF-8")
        .output()
        .expect("python starts");
    let (said, complaint) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}\n{complaint}");
    serde_json::from_str(&said).expect("JSON")
}

fn ask(server: &Server, sql: &str) -> Value {
    server.post("/api/v1/sql", &json!({ "sql": sql })).ok()["rows"].clone()
}

#[test]
fn adbcs_driver_reads_tables_metadata_and_prepared_statements() {
    let (server, _data) = Server::fresh();
    fill(&server);
    let run = track(&server);
    let seen = adbc(&server, &["all"]);
    assert_eq!(seen["count"], json!([[100, 0]]), "rows that stand, and how many of them lack their event time");
    // 10 of -1 stand in the place of 55 to 64.
    assert_eq!(seen["sum"], json!([[f64::from((0..100).sum::<i32>() - (55..65).sum::<i32>() - 10)]]));
    assert_eq!(seen["view"], json!([["w0", "2024-01-05T03:00:00+00:00", 99.0]]));
    assert_eq!(seen["list"], json!([["a", "b"]]));
    assert_eq!(seen["bound"], json!([[2, 98]]), "values bound to a prepared statement");
    assert_eq!(seen["runs"], json!([[run, "first", "depth", "6", 0.9]]));
    assert_eq!(seen["points"], json!([[5, 4]]));
    assert_eq!(seen["chunks"], json!(200_000), "a result of many batches, counted as it is read");
    assert_eq!(seen["schemas"], json!(["features", "public", "sources"]));
    assert_eq!(seen["tables"]["sources"], json!(["events"]));
    assert_eq!(seen["tables"]["features"], json!(["last"]));
    assert_eq!(
        seen["tables"]["public"],
        json!([
            "aliases",
            "experiments",
            "labels",
            "latest_metrics",
            "metrics",
            "models",
            "params",
            "predictions",
            "runs",
            "scores",
            "tags",
            "versions"
        ])
    );
    assert_eq!(seen["columns"], json!(["who", "event_timestamp", "level"]));
    assert_eq!(seen["vendor"], "Millpond");
    for (what, said) in seen["refused"].as_object().expect("an object") {
        assert!(said.as_str().is_some_and(|said| said.starts_with("INVALID_ARGUMENT")), "{what}: {said}");
    }
    assert_eq!(seen["refused"].as_object().expect("an object").len(), 4);
}

#[test]
fn a_token_is_asked_for_and_opens_what_it_opens() {
    let data = tempfile::tempdir().expect("a directory");
    let server = Server::start_with(data.path(), &["--set", "access.required=true"]);
    let token = std::fs::read_to_string(data.path().join("first-admin.token")).expect("the first admin's token");
    let seen = adbc(&server, &["guarded", token.trim()]);
    assert_eq!(seen["with"], json!([[1]]));
    for who in ["without", "wrong"] {
        assert!(seen[who].as_str().is_some_and(|said| said.starts_with("UNAUTHENTICATED")), "{seen}");
    }
}

#[test]
fn rest_and_the_command_line_answer_with_rows_and_readable_refusals() {
    let (server, _data) = Server::fresh();
    fill(&server);
    assert_eq!(
        ask(&server, "SELECT who, count(*) AS n FROM sources.events GROUP BY who ORDER BY who LIMIT 1"),
        json!([{"who": "w0", "n": 34}])
    );
    assert_eq!(ask(&server, "SELECT * FROM predictions"), json!([]));
    let limited =
        server.post("/api/v1/sql", &json!({"sql": "SELECT id FROM sources.events ORDER BY id", "limit": 2})).ok();
    assert_eq!(
        limited,
        json!({"columns": [{"name": "id", "type": "Int64"}], "rows": [{"id": 0}, {"id": 1}], "truncated": true})
    );
    let exact = json!({"sql": "SELECT ? + 0 AS big, ? AS t, ? AS n, ?::DOUBLE AS f", "parameters": [9_007_199_254_740_993_i64, "x'y", null, 0.5]});
    assert_eq!(
        server.post("/api/v1/sql", &exact).ok()["rows"],
        json!([{"big": 9_007_199_254_740_993_i64, "t": "x'y", "n": null, "f": 0.5}])
    );

    for (body, part) in [
        (json!({"sql": "SELECT * FROM sources.evnts"}), "evnts"),
        (json!({"sql": "DROP TABLE sources.events"}), "only queries"),
        (json!({"sql": "INSERT INTO sources.events SELECT * FROM sources.events"}), "only queries"),
        (json!({"sql": "SELECT * FROM '/etc/passwd'"}), "passwd"),
        (json!({"sql": "SELECT 1", "limit": 0}), "limit is 0"),
        (json!({"sql": "SELECT ?", "parameters": [[1]]}), "parameters[0]"),
        (json!({"sql": "SELECT ?"}), "no values"),
        (json!({"sql": "SELECT 1", "parameters": [1]}), "0 places"),
    ] {
        let said = server.post("/api/v1/sql", &body).problem(400, "invalid_argument");
        assert!(said.contains(part), "{body}: {said}");
    }
    let long = format!("SELECT '{}'", "x".repeat(2 << 20));
    server.post("/api/v1/sql", &json!({ "sql": long })).problem(413, "too_large");
    let deep = format!("SELECT {}1{}", "(".repeat(100_000), ")".repeat(100_000));
    server.post("/api/v1/sql", &json!({ "sql": deep })).problem(400, "invalid_argument");

    let printed = millpond(&[
        "sql",
        "SELECT id, x FROM sources.events WHERE who = ? ORDER BY id",
        "--param",
        "w1",
        "--limit",
        "2",
        "--url",
        &server.url,
    ]);
    assert_eq!(
        String::from_utf8_lossy(&printed.stdout),
        "id       x\n 1  1.0000\n 4  4.0000\nonly the first 2 rows: raise --limit for more\n"
    );
    let refused = millpond(&["sql", "SELECT nope FROM sources.events", "--url", &server.url]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && said.lines().count() == 1 && said.contains("nope"), "{said}");
}
