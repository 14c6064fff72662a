//! Offline tables as others read them: DuckDB and Polars, from PyPI, over the tables of a running server.

#[path = "../support/mod.rs"]
mod support;

mod crash;

use std::process::Command;

use serde_json::{Value, json};
use support::{Server, bucket::Shared, millpond, python::environment, root};

pub const DEFINITIONS: &str = "\
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
---
kind: FeatureView
name: last
source: events
entities: [who]
features:
  - {name: x}
";

/// Event n happened n hours after 2024 began.
pub fn event(n: i64, x: f64) -> Value {
    let at = jiff::Timestamp::from_second(1_704_067_200 + n * 3_600).expect("an instant");
    json!({"id": n, "who": format!("w{}", n % 3), "at": at.to_string(), "x": x})
}

pub fn send(server: &Server, rows: &[Value]) -> Value {
    let body = serde_json::to_vec(rows).expect("JSON");
    server.ingest("events", "application/json", &body).ok()
}

pub fn upkeep(server: &Server, what: &str) -> Value {
    server.post(&format!("/api/v1/sources/events/{what}"), &json!({})).ok()
}

fn table(server: &Server) -> Value {
    server.get("/api/v1/sources/events/table").ok()
}

/// What DuckDB and Polars see.
fn read(location: &str, options: &Value) -> Value {
    let home = tempfile::tempdir().expect("a temporary directory");
    let output = Command::new(environment("lake"))
        .arg(root().join("tests/lake/read.py"))
        .args([location, &options.to_string()])
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

/// Rows as the readers give them: `_row`, `id`, `who`, `x`, `_replaces`.
fn seen(number: i64, n: i64, x: f64, replaces: Option<i64>) -> Value {
    json!([number, n, format!("w{}", n % 3), x, replaces])
}

#[test]
fn duckdb_and_polars_see_the_rows_of_a_running_server() {
    let (server, data) = Server::fresh();
    server.apply(DEFINITIONS).ok();
    let before = table(&server);
    let location = before["location"].as_str().expect("a place").to_owned();
    assert!(location.ends_with("blobs/tables/events") && location.starts_with('/'), "{location}");
    assert_eq!((&before["rows"], &before["files"]), (&json!(0), &json!(0)));
    assert_eq!(read(&location, &json!({}))["polars"], json!([]), "an empty table is a table");

    send(&server, &(0..40).map(|n| event(n, n as f64)).collect::<Vec<_>>());
    assert_eq!(table(&server)["unsealed_rows"], 40);
    let done = upkeep(&server, "compact");
    assert_eq!((&done["rows_sealed"], &done["rows_dropped"]), (&json!(40), &json!(0)));
    let all: Vec<Value> = (0..40).map(|n| seen(n, n, n as f64, None)).collect();
    let found = read(&location, &json!({}));
    assert_eq!((&found["polars"], &found["duckdb"]), (&json!(all), &json!(all)));
    assert_eq!(found["days"], json!(["2024-01-01", "2024-01-02"]));
    assert_eq!(found["partitions"], json!(["event_date"]));
    assert_eq!(found["first_day"], 24);

    // A correction: sealed, it stands beside what it replaces until a compaction.
    let corrected = send(&server, &[event(3, -3.0)]);
    assert_eq!(corrected["corrections"], 1);
    server.stop();
    let server = Server::start(data.path());
    let found = read(&location, &json!({}));
    let beside: Vec<Value> = all.iter().cloned().chain([seen(40, 3, -3.0, Some(3))]).collect();
    assert_eq!((&found["polars"], &found["duckdb"]), (&json!(beside), &json!(beside)));
    let done = upkeep(&server, "compact");
    assert_eq!((&done["rows_dropped"], &done["more"]), (&json!(1), &json!(false)));
    let standing: Vec<Value> = beside.into_iter().filter(|row| row[0] != 3).collect();
    let found = read(&location, &json!({}));
    assert_eq!((&found["polars"], &found["duckdb"]), (&json!(standing), &json!(standing)));

    // A column more.
    let wider = DEFINITIONS
        .replace("  - {name: x, type: float}\n", "  - {name: x, type: float}\n  - {name: note, type: text}\n");
    server.apply(&wider).ok();
    let mut noted = event(41, 1.0);
    noted["note"] = json!("new");
    send(&server, &[noted]);
    upkeep(&server, "compact");
    let found = read(&location, &json!({}));
    assert_eq!(found["polars"], found["duckdb"]);
    let rows = found["polars"].as_array().expect("rows");
    assert_eq!(rows.last(), Some(&json!([41, 41, "w2", 1.0, "new", null])));
    assert!(rows[..rows.len() - 1].iter().all(|row| row[4].is_null()));

    let gone = server.post("/api/v1/sources/events/vacuum", &json!({"keep": "0s"})).ok();
    assert!(gone["files"].as_u64().expect("a count") > 0, "{gone}");
    assert_eq!(read(&location, &json!({}))["polars"], found["polars"]);
}

#[test]
fn the_command_line_looks_after_tables() {
    let (server, _data) = Server::fresh();
    server.apply(DEFINITIONS).ok();
    send(&server, &[event(0, 1.0)]);
    let run = |args: &[&str]| {
        let output = millpond(&[&["--url", server.url.as_str(), "--json"][..], args].concat());
        (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    let (done, said) = run(&["features", "compact", "events"]);
    let said: Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!((done, &said["rows_sealed"]), (true, &json!(1)));
    let (_, said) = run(&["features", "table", "events"]);
    let said: Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!((&said["file_rows"], &said["unsealed_rows"]), (&json!(1), &json!(0)));
    assert!(run(&["features", "vacuum", "events", "--keep", "7d"]).0);
    let (done, said) = run(&["features", "vacuum", "events", "--keep", "90d"]);
    assert!(!done && said.contains("at most 60d"), "{said}");
    let (done, said) = run(&["features", "compact", "event"]);
    assert!(!done && said.contains("events"), "{said}");
}

#[test]
fn polars_sees_the_rows_in_a_bucket() {
    let shared = Shared::new();
    let data = tempfile::tempdir().expect("a directory");
    let server = shared.start(data.path());
    server.apply(DEFINITIONS).ok();
    send(&server, &(0..30).map(|n| event(n, n as f64)).collect::<Vec<_>>());
    upkeep(&server, "compact");
    send(&server, &[event(5, 0.5)]);
    upkeep(&server, "compact");
    let place = table(&server);
    let location = place["location"].as_str().expect("a place");
    assert_eq!(location, format!("s3://{}/{}/tables/events", shared.bucket.bucket, shared.bucket.prefix));
    let keys = shared.bucket.keys.as_ref().expect("it has keys");
    let options = json!({
        "aws_endpoint_url": shared.bucket.endpoint,
        "aws_access_key_id": keys.access_key,
        "aws_secret_access_key": keys.secret_key,
        "aws_region": "us-east-1",
        "aws_allow_http": "true",
    });
    let expected: Vec<Value> =
        (0..30).filter(|n| *n != 5).map(|n| seen(n, n, n as f64, None)).chain([seen(30, 5, 0.5, Some(5))]).collect();
    assert_eq!(read(location, &options)["polars"], json!(expected));
    assert!(shared.folder().join("tables/events/_delta_log").is_dir());

    // Blobs are collected beside it, and none of its files is one.
    server.post("/api/v1/gc", &json!({"dry_run": false, "older_than": "1h"})).ok();
    server.stop();
    let server = shared.start(data.path());
    send(&server, &[event(30, 30.0)]);
    upkeep(&server, "compact");
    assert_eq!(read(location, &options)["polars"].as_array().map(Vec::len), Some(31));
}
