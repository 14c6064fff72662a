//! Ingestion that survives bad data and crashes: rows of a Redis stream are taken once through `kill -9` of server and
//! Redis, and what does not fit is found, mended and replayed.

mod support;

use std::thread;

use serde_json::{Value, json};
use storage::testing::{Keeps, Redis};
use support::{Server, eventually, millpond};
use tempfile::tempdir;

const DEFINITIONS: &str = "
kind: Entity
name: device
key: device
---
kind: Source
name: ticks
timestamp: at
row_id: [id]
watermark: 1h
allowed_lateness: 1h
max_future: 1d
stream: { redis: main, key: ticks, payload: row }
columns:
  - { name: id, type: int, required: true }
  - { name: device, type: text, required: true }
  - { name: at, type: timestamp }
  - { name: x, type: float }
---
kind: FeatureView
name: last
source: ticks
entities: [device]
features: [{ name: id }, { name: x }]
---
kind: FeatureView
name: hour
source: ticks
entities: [device]
aggregations:
  - { name: sum, column: x, function: sum, window: 1h }
  - { name: count, column: x, function: count, window: 1h }
---
kind: FeatureService
name: device
views: [{ view: last }, { view: hour }]
";
const DEVICES: i64 = 5;
const ROUNDS: i64 = 4;
const ROUND_ROWS: i64 = 600;

fn tick(id: i64) -> Value {
    let (minute, second) = (id / 60 % 60, id % 60);
    let hour = 8 + id / 3_600;
    json!({"id": id, "device": format!("d{}", id % DEVICES), "at": format!("2024-03-01T{hour:02}:{minute:02}:{second:02}Z"), "x": 1})
}

fn add(redis: &Redis, row: &str) {
    redis.run(&["XADD", "ticks", "*", "row", row]);
}

fn start(redis: &Redis, data: &std::path::Path) -> Server {
    Server::start_with(data, &["--set", &format!("ingestion.redis=main={}", redis.url())])
}

fn stream(server: &Server) -> Value {
    server.get("/api/v1/sources/ticks/stream").ok()
}

fn settled(server: &Server, rows: i64) {
    eventually("all entries are taken", || {
        let (stream, state) = (stream(server), server.get("/api/v1/sources/ticks/ingestion").ok());
        let done =
            stream["phase"] == "reading" && stream["lag"] == 0 && stream["pending"] == 0 && state["rows"] == rows;
        done.then_some(())
    });
}

/// Whether every row up to `last` is in history once and online.
fn check(server: &Server, last: i64) {
    let at = tick(last)["at"].clone();
    let rows: Vec<Value> =
        (0..DEVICES).map(|device| json!({"device": format!("d{device}"), "event_timestamp": at})).collect();
    let request = json!({"service": "device", "rows": rows});
    let online = server.post("/api/v1/features/online", &request).ok();
    assert_eq!(online["rows"], server.post("/api/v1/features/historical", &request).ok()["rows"]);
    let count: i64 = (0..5).map(|device| online["rows"][device]["hour__count"].as_i64().expect("a count")).sum();
    assert_eq!(count, last.min(3_600), "{online}");
    let newest = (0..5).filter_map(|device| online["rows"][device]["last__id"].as_i64()).max();
    assert_eq!(newest, Some(last));
}

#[test]
fn every_entry_is_taken_once_while_server_and_redis_are_killed() {
    let (redis, data) = (Redis::start(Keeps::Everything), tempdir().expect("a directory"));
    let mut server = start(&redis, data.path());
    server.apply(DEFINITIONS).ok();
    let mut random = 20_240_301_u64;
    for round in 0..ROUNDS {
        let (first, last) = (round * ROUND_ROWS + 1, (round + 1) * ROUND_ROWS);
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let kill_after = first + i64::try_from(random % 500).expect("small");
        thread::scope(|scope| {
            let (killed, server) = (std::sync::mpsc::channel(), &server);
            let redis = &redis;
            scope.spawn(move || {
                killed.1.recv().expect("the moment comes");
                server.kill_now();
            });
            for id in first..=last {
                add(redis, &tick(id).to_string());
                if id % 100 == 0 {
                    add(redis, &format!("no row {id}"));
                }
                if id == kill_after {
                    killed.0.send(()).expect("somebody waits");
                }
            }
        });
        if round == 2 {
            redis.kill();
        }
        server = start(&redis, data.path());
        if round == 2 {
            eventually("the failure is seen", || (stream(&server)["phase"] == "failing").then_some(()));
            assert!(!stream(&server).to_string().contains(Redis::password()));
            redis.up();
        }
        settled(&server, last);
        check(&server, last);
        let aside = server.get("/api/v1/sources/ticks/quarantine?limit=1000").ok();
        assert_eq!(aside.as_array().map(Vec::len), usize::try_from(last / 100).ok(), "each bad entry once: {aside}");
    }
    // All of it again, through another group: nothing new.
    server.apply(&DEFINITIONS.replace("payload: row", "payload: row, group: second")).ok();
    let all = ROUNDS * (ROUND_ROWS + ROUND_ROWS / 100);
    eventually("all is read again", || (stream(&server)["acknowledged"] == all).then_some(()));
    settled(&server, ROUNDS * ROUND_ROWS);
    check(&server, ROUNDS * ROUND_ROWS);
    assert_eq!(server.stop(), Some(0));
}

fn json_of(server: &Server, args: &[&str]) -> Value {
    let args: Vec<&str> = args.iter().copied().chain(["--json", "--url", &server.url]).collect();
    let output = millpond(&args);
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text)
        .unwrap_or_else(|e| panic!("{args:?}: {e}: {text}{}", String::from_utf8_lossy(&output.stderr)))
}

#[test]
fn rows_set_aside_are_found_mended_replayed_and_discarded_on_every_door() {
    let (server, _data) = Server::fresh();
    let definitions = DEFINITIONS.replace("stream: { redis: main, key: ticks, payload: row }\n", "");
    server.apply(&definitions).ok();
    let mut rows: Vec<Value> = (7_201..=7_203).map(tick).collect();
    rows[1]["x"] = json!("fast");
    rows.push(tick(1));
    rows.push(json!({"id": 9, "device": "d1", "at": "2999-01-01T00:00:00Z"}));
    rows.push(json!({"id": 10, "device": "d1", "at": "2024-03-01T10:00:10Z", "battery_level": 3}));
    let report = server.post("/api/v1/sources/ticks/rows", &Value::Array(rows)).ok();
    assert_eq!((&report["accepted"], &report["quarantined"]), (&json!(3), &json!(3)), "{report}");
    assert_eq!(report["reasons"], json!({"wrong_type": 1, "late": 1, "future": 1}));
    assert_eq!(report["drift"], json!([{"column": "battery_level", "kind": "unknown", "rows": 1}]));

    let state = json_of(&server, &["features", "ingestion", "ticks"]);
    assert_eq!((&state["rows"], &state["quarantined"]), (&json!(3), &json!(3)), "{state}");
    assert_eq!(state["event_time"]["watermark"], "2024-03-01T09:00:10Z");
    assert_eq!(state["drift"][0]["column"], "battery_level");
    let metrics = server.page("GET", "/metrics", &[]).text;
    for line in [
        "millpond_quarantined_rows_total{source=\"ticks\",reason=\"late\"} 1",
        "millpond_source_watermark_behind_seconds{source=\"ticks\"}",
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }

    let late = json_of(&server, &["features", "quarantine", "ticks", "--reason", "late"]);
    assert_eq!(
        (late.as_array().map(Vec::len), &late[0]["line"], &late[0]["state"]),
        (Some(1), &json!(4), &json!("waiting"))
    );
    let replayed = json_of(&server, &["features", "replay", "ticks", "--all", "--reason", "late"]);
    assert_eq!((&replayed["replayed"], &replayed["accepted"]), (&json!(1), &json!(1)), "{replayed}");
    let wrong = server.get("/api/v1/sources/ticks/quarantine?reason=wrong_type&state=waiting").ok();
    let id = wrong[0]["id"].as_str().expect("an id");
    let replayed = json_of(&server, &["features", "replay", "ticks", id]);
    assert_eq!((&replayed["replayed"], &replayed["still_bad"]), (&json!(0), &json!(1)), "{replayed}");
    let replayed = json_of(&server, &["features", "replay", "ticks", id, "--set", "x=2.5"]);
    assert_eq!((&replayed["replayed"], &replayed["accepted"]), (&json!(1), &json!(1)), "{replayed}");
    let one = server.get(&format!("/api/v1/sources/ticks/quarantine/{id}")).ok();
    assert_eq!(
        (&one["state"], &one["raw"].as_str().map(|raw| raw.contains("fast"))),
        (&json!("replayed"), &Some(true))
    );
    let discarded = json_of(&server, &["features", "discard", "ticks", "--all"]);
    assert_eq!(discarded["discarded"], 1);
    let left = server.get("/api/v1/sources/ticks/quarantine?state=waiting").ok();
    assert_eq!(left, json!([]));
    let events = server.get("/api/v1/events?limit=100").ok().to_string();
    for kind in ["source.drifted", "quarantine.replayed", "quarantine.discarded"] {
        assert!(events.contains(kind), "{kind}: {events}");
    }

    server.get("/api/v1/sources/ticks/quarantine/none").problem(404, "not_found");
    server.get("/api/v1/sources/tick/quarantine").problem(404, "not_found");
    server.get("/api/v1/sources/ticks/quarantine?reason=bad").problem(400, "invalid_argument");
    let both = json!({"rows": [id], "reason": "late"});
    server.post("/api/v1/sources/ticks/quarantine/replay", &both).problem(400, "invalid_argument");
    let two = json!({"instead": {"id": 1}});
    server.post("/api/v1/sources/ticks/quarantine/replay", &two).problem(400, "invalid_argument");
    server.get("/api/v1/sources/ticks/stream").problem(404, "not_found");
}

#[test]
fn files_are_sent_by_pattern_or_loaded_by_the_server_and_taken_once_either_way() {
    let (data, files) = (tempdir().expect("a directory"), tempdir().expect("a directory"));
    let definitions = DEFINITIONS.replace("stream: { redis: main, key: ticks, payload: row }\n", "");
    let lines = |ids: std::ops::Range<i64>| -> String { ids.map(|id| tick(id).to_string() + "\n").collect() };
    std::fs::write(files.path().join("a.jsonl"), lines(1..301)).expect("written");
    std::fs::write(files.path().join("b.jsonl"), lines(250..401) + "no row\n").expect("written");
    let shut = Server::start_with(data.path(), &[]);
    shut.apply(&definitions).ok();
    let folder = files.path().to_str().expect("a plain path");
    let off = shut.post("/api/v1/sources/ticks/load", &json!({"path": folder})).problem(400, "invalid_argument");
    assert!(off.contains("ingestion.paths"), "{off}");
    drop(shut);

    let server = Server::start_with(data.path(), &["--set", &format!("ingestion.paths={folder}")]);
    let load = json_of(&server, &["features", "load", "ticks", &format!("{folder}/*.jsonl")]);
    assert_eq!((&load["phase"], &load["files"], &load["done"]), (&json!("done"), &json!(2), &json!(2)), "{load}");
    assert_eq!((&load["rows"]["accepted"], &load["rows"]["duplicates"]), (&json!(400), &json!(51)), "{load}");
    assert_eq!(load["rows"]["first_errors"][0]["line"], 152);
    let again = json_of(&server, &["features", "load", "ticks", folder]);
    assert_eq!((&again["known"], &again["rows"]["accepted"]), (&json!(2), &json!(0)), "{again}");
    assert_eq!(json_of(&server, &["features", "loads"]).as_array().map(Vec::len), Some(2));
    assert_eq!(json_of(&server, &["features", "files", "ticks"]).as_array().map(Vec::len), Some(2));
    check(&server, 400);
    let outside = json!({"path": "/etc/passwd"});
    server.post("/api/v1/sources/ticks/load", &outside).problem(400, "invalid_argument");
    server.get("/api/v1/loads/99").problem(404, "not_found");

    // The same files, sent by the client.
    let output = millpond(&["ingest", "ticks", &format!("{folder}/?.jsonl"), "--json", "--url", &server.url]);
    assert_eq!(output.status.code(), Some(2), "a row was set aside: {}", String::from_utf8_lossy(&output.stderr));
    let reports: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((&reports[0]["duplicates"], &reports[1]["duplicates"]), (&json!(300), &json!(151)), "{reports}");
}
