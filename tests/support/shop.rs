//! A small world of its own for tests that need definitions, rows and perhaps a trained model: kettles that leak.

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Server, eventually};

/// One of everything, and endpoint `idle`, which never gets a version.
pub const DEFINITIONS: &str = "\
kind: Entity
name: kettle
key: kettle
---
kind: Source
name: readings
timestamp: at
row_id: [kettle]
columns:
  - {name: kettle, type: text, required: true}
  - {name: at, type: timestamp, required: true}
  - {name: heat, type: float}
  - {name: steam, type: float}
---
kind: Source
name: asks
timestamp: asked_at
row_id: [ask_id]
columns:
  - {name: ask_id, type: text, required: true}
  - {name: kettle, type: text, required: true}
  - {name: asked_at, type: timestamp, required: true}
  - {name: load, type: float}
  - {name: shift, type: text}
---
kind: Source
name: answers
timestamp: known_at
row_id: [ask_id, origin]
columns:
  - {name: ask_id, type: text, required: true}
  - {name: known_at, type: timestamp, required: true}
  - {name: leaks, type: bool, required: true}
  - {name: origin, type: text}
---
kind: FeatureView
name: now
source: readings
entities: [kettle]
features:
  - {name: heat, default: 20.5}
  - {name: steam}
---
kind: FeatureView
name: lately
source: readings
entities: [kettle]
aggregations:
  - {name: heat_1d, column: heat, function: mean, window: 1d}
---
kind: FeatureService
name: kettle
views:
  - {view: now}
  - {view: lately}
request:
  - {name: load, type: float}
  - {name: shift, type: text, default: early}
---
kind: Endpoint
name: leak
model: leak
service: kettle
label_key: [ask_id]
labels: {source: answers, key: [ask_id], column: leaks}
review: {band: 0.0}
---
kind: Endpoint
name: idle
model: idle
service: kettle
label_key: [ask_id]
labels: {source: answers, key: [ask_id], column: leaks}
---
kind: Pipeline
name: leak
model: leak
endpoint: leak
dataset:
  service: kettle
  spine: asks
  label: {source: answers, key: [ask_id], column: leaks}
  holdout: 2h
inputs:
  - {column: load, prep: numeric}
  - {column: shift, prep: one_hot}
  - {column: now__heat, prep: numeric}
  - {column: lately__heat_1d, prep: numeric}
estimators:
  - {name: logistic, learner: logistic, epochs: 2, batch_size: 32, learning_rate: 0.05}
# No later version can have so many rows: each further run is computed to its end and refused.
gate: {min_rows: 1000000}
seed: 7
";

/// Rows per source; one a minute.
const ROWS: u32 = 600;

/// By when every row of [`fill`] and its label is known.
pub const CUTOFF: &str = "2024-03-01T12:00:00Z";

/// A fixed, cheap hash of the row's number: 0 to 1.
fn noise(row: u32, salt: u32) -> f64 {
    let mut x = row.wrapping_mul(0x9E37_79B9) ^ salt.wrapping_mul(0x85EB_CA6B);
    for _ in 0..3 {
        x ^= x >> 15;
        x = x.wrapping_mul(0x2C1B_3C6D);
    }
    f64::from(x >> 8) / f64::from(1_u32 << 24)
}

fn minute(row: u32) -> String {
    format!("2024-03-01T{:02}:{:02}:00Z", row / 60, row % 60)
}

/// Applies the definitions and ingests rows whose labels follow from heat and load.
pub fn fill(server: &Server) {
    server.apply(DEFINITIONS).ok();
    let (mut readings, mut asks, mut answers) = (vec![], vec![], vec![]);
    for row in 0..ROWS {
        let (heat, load) = (20.0 + 60.0 * noise(row, 1), noise(row, 2));
        let shift = if row % 3 == 0 { "late" } else { "early" };
        let leaks = heat / 80.0 + load + 0.4 * noise(row, 3) > 1.4;
        let (kettle, id, at) = (format!("k{}", row % 20), format!("a{row}"), minute(row));
        readings.push(json!({"kettle": kettle, "at": at, "heat": heat, "steam": heat * 0.5}));
        asks.push(json!({"ask_id": id, "kettle": kettle, "asked_at": at, "load": load, "shift": shift}));
        answers.push(json!({"ask_id": id, "known_at": minute(row + 1), "leaks": leaks, "origin": "outcome"}));
    }
    for (source, rows) in [("readings", readings), ("asks", asks), ("answers", answers)] {
        let report = server.post(&format!("/api/v1/sources/{source}/rows"), &Value::from(rows)).ok();
        assert_eq!(report["accepted"], ROWS, "{source}: {report}");
    }
}

/// Asks for a run of the pipeline over all rows; its id.
pub fn train(server: &Server) -> String {
    let run = server.post("/api/v1/pipelines/leak/runs", &json!({"cutoff": CUTOFF, "reason": "test"})).ok();
    run["run"].as_str().expect("a run has an id").to_owned()
}

/// Waits until the pipeline run computes no more; the run.
#[track_caller]
pub fn computed(server: &Server, run: &str) -> Value {
    eventually(&format!("the end of pipeline run {run}"), || {
        // Waits on the server's side, so that the computing is not disturbed.
        server.post("/api/v1/endpoints/leak/settle?wait_ms=2000", &Value::Null).ok();
        let view = server.get(&format!("/api/v1/pipeline-runs/{run}")).ok();
        (!matches!(view["state"].as_str(), Some("queued" | "running"))).then_some(view)
    })
}

/// A server over a fresh directory with version 1 of `leak` in service.
pub fn trained() -> (Server, TempDir) {
    let (server, data) = Server::fresh();
    fill(&server);
    let run = train(&server);
    let run = computed(&server, &run);
    assert_eq!(run["state"], "promoted", "{run:#}");
    (server, data)
}
