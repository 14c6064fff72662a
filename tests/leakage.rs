//! No leakage, over the wire: what is read as of an instant does not depend on anything that became known after it.

mod support;

use serde_json::{Value, json};
use support::{
    Server,
    sensors::{START, folder, items, json_of, text},
};

const DEFINITIONS: &str = "\
kind: Entity
name: tank
key: tank
---
kind: Source
name: levels
timestamp: at
row_id: [tank]
columns:
  - {name: tank, type: text, required: true}
  - {name: at, type: timestamp, required: true}
  - {name: level, type: float}
  - {name: alarm, type: bool}
---
kind: FeatureView
name: newest
source: levels
entities: [tank]
ttl: 2h
features:
  - {name: level}
  - {name: alarm}
---
kind: FeatureView
name: trailing
source: levels
entities: [tank]
aggregations:
  - {name: rows_1h, column: level, function: count, window: 1h}
  - {name: sum_1h, column: level, function: sum, window: 1h}
  - {name: mean_1d, column: level, function: mean, window: 1d}
  - {name: std_1d, column: level, function: std, window: 1d}
  - {name: alarms_1d, column: alarm, function: mean, window: 1d}
---
kind: FeatureService
name: tanks
views:
  - {view: newest}
  - {view: trailing}
";

/// The instants asked about; the last one lies on a row.
const ASKED: [&str; 4] =
    ["2024-05-01T06:10:00Z", "2024-05-01T09:59:59.999999Z", "2024-05-01T11:30:00Z", "2024-05-01T12:00:00Z"];

/// A row every half hour from midnight to `T` = noon, for two tanks.
fn past() -> Vec<Value> {
    let mut rows = Vec::new();
    for step in 0..=24 {
        for (tank, scale) in [("a", 1.0), ("b", -0.25)] {
            let at = format!("2024-05-01T{:02}:{:02}:00Z", step / 2, step % 2 * 30);
            let wave = f64::from((step * 37) % 11) + 0.125;
            rows.push(json!({"tank": tank, "at": at, "level": wave * scale, "alarm": step % 5 == 0}));
        }
    }
    rows
}

fn ingest(server: &Server, rows: &[Value]) -> u64 {
    let report = server.ingest("levels", "application/json", json!(rows).to_string().as_bytes()).ok();
    assert_eq!(report["quarantined"], 0, "{report}");
    report["accepted"].as_u64().expect("a count")
}

/// Everything the platform says about the tanks at the instants asked about: values, status and event times.
fn read(server: &Server, way: &str) -> Value {
    let rows: Vec<Value> = ASKED
        .iter()
        .flat_map(|at| ["a", "b", "unseen"].map(|tank| json!({"tank": tank, "event_timestamp": at})))
        .collect();
    server.post(&format!("/api/v1/features/{way}"), &json!({"service": "tanks", "rows": rows})).ok()
}

#[test]
fn nothing_that_comes_later_changes_what_was_known_then() {
    let (server, _data) = Server::fresh();
    server.apply(DEFINITIONS).ok();
    assert_eq!(ingest(&server, &past()), 50);
    let known = read(&server, "historical");
    assert_eq!(known, read(&server, "online"), "both ways agree");
    let last = &items(&known["rows"])[9];
    assert_eq!((&last["event_timestamp"], &last["trailing__rows_1h"]), (&json!("2024-05-01T12:00:00Z"), &json!(2)));
    assert_eq!(last["newest__level"], past()[48]["level"], "a row at the very instant is known");

    let row = |tank: &str, at: &str, level: f64| json!({"tank": tank, "at": at, "level": level, "alarm": true});
    let futures: [Vec<Value>; 4] = [
        // A microsecond later, and far later, and out of all proportion.
        vec![row("a", "2024-05-01T12:00:00.000001Z", 1e9), row("b", "2024-05-01T12:00:00.000001Z", -1e9)],
        (0..200).map(|n| row("a", &format!("2024-05-{:02}T{:02}:15:00Z", 2 + n / 24, n % 24), 1e6)).collect(),
        // The same future told otherwise: corrections of what stands there.
        vec![row("a", "2024-05-01T12:00:00.000001Z", -7.0), row("a", "2024-05-02T00:15:00Z", 0.0)],
        // Somebody who was not there before, and a null.
        vec![
            row("unseen", "2024-05-01T12:00:00.000001Z", 3.0),
            json!({"tank": "b", "at": "2024-05-01T12:30:00Z", "level": null, "alarm": null}),
        ],
    ];
    for (number, future) in futures.iter().enumerate() {
        assert_eq!(ingest(&server, future), future.len() as u64);
        for way in ["historical", "online"] {
            assert_eq!(read(&server, way), known, "{way} after future {number}");
        }
    }

    // The same reads do see a change of the past, or they would prove nothing.
    assert_eq!(ingest(&server, &[row("a", "2024-05-01T11:45:00Z", 100.0)]), 1);
    for way in ["historical", "online"] {
        let moved = read(&server, way);
        let changed: Vec<usize> = (0..12).filter(|i| items(&moved["rows"])[*i] != items(&known["rows"])[*i]).collect();
        assert_eq!(changed, [9], "{way}: tank a at noon, and nobody else and nothing earlier");
        assert_eq!(items(&moved["rows"])[9]["trailing__rows_1h"], 3);
    }
}

#[test]
fn a_training_set_as_of_an_instant_stays_the_same_when_the_future_is_ingested() {
    let (server, _data) = Server::fresh();
    server.demo_sensors(Some(START));
    let first = items(&server.get("/api/v1/pipeline-runs").ok())[0].clone();
    let dataset = |run: &Value| {
        let step = items(&run["steps"]).iter().find(|step| step["name"] == "dataset").expect("a dataset step").clone();
        assert_eq!(step["state"], "done", "built and not remembered: {step}");
        step["result"].clone()
    };
    let known = dataset(&first);

    // All forty-five days of readings, questions and answers: what lies before the cutoff is there already.
    for source in ["readings", "checks", "outcomes"] {
        let file = folder().join(format!("data/{source}.csv"));
        let report = json_of(&["ingest", source, text(&json!(file)), "--json", "--url", &server.url]);
        let report = &items(&report)[0];
        for count in ["accepted", "duplicates"] {
            assert!(report[count].as_u64() > Some(1_000), "{source}: {report}");
        }
        assert_eq!(report["corrections"], 0, "{source}: {report}");
    }
    let again = server.train_sensors(START);
    assert_eq!(dataset(&again), known, "same rows, same bytes");

    // A later cutoff does take the later rows.
    let later = server.train_sensors("2024-03-18T00:00:00Z");
    assert_ne!(dataset(&later)["dataset"], known["dataset"]);
}
