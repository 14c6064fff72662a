//! Acknowledged writes survive `kill -9`: the server is killed while everything is being written to it, again and
//! again over one data directory, and every time everything it had said yes to is there.

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::mpsc::{Receiver, Sender, channel},
    thread,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use support::{Server, shop};

const ROUNDS: u32 = 6;
/// Predictions made before each round, to be labelled while it lasts.
const QUESTIONS: u32 = 120;
const SEED: u64 = 20_130_401;

/// Something the server said yes to.
enum Acked {
    Run(String),
    /// Run, step and value.
    Point(String, i64, f64),
    Finished(String),
    /// Number and contents.
    Version(u64, String),
    /// Key and heat.
    Row(String, f64),
    /// Key and value.
    Label(String, bool),
    PipelineRun(String),
    /// Read, not written: the run came to its end before the server was killed.
    Ended(String),
}

/// All that was acknowledged in any round.
#[derive(Default)]
struct Ledger {
    /// Points by run: step and value.
    runs: BTreeMap<String, Vec<(i64, f64)>>,
    finished: BTreeSet<String>,
    versions: BTreeMap<u64, String>,
    rows: BTreeMap<String, f64>,
    labels: BTreeMap<String, bool>,
    pipeline_runs: BTreeSet<String>,
    ended: BTreeSet<String>,
}

impl Ledger {
    fn take(&mut self, acked: Acked) {
        match acked {
            Acked::Run(id) => drop(self.runs.insert(id, Vec::new())),
            Acked::Point(run, step, value) => self.runs.get_mut(&run).expect("a run comes first").push((step, value)),
            Acked::Finished(run) => drop(self.finished.insert(run)),
            Acked::Version(number, text) => {
                assert!(self.versions.insert(number, text).is_none(), "version {number} was given twice");
            }
            Acked::Row(key, heat) => drop(self.rows.insert(key, heat)),
            Acked::Label(key, value) => drop(self.labels.insert(key, value)),
            Acked::PipelineRun(id) => drop(self.pipeline_runs.insert(id)),
            Acked::Ended(id) => drop(self.ended.insert(id)),
        }
    }
}

/// The answer to a write: `None` once the server is dead. A refusal is a failure of the test.
fn write(server: &Server, path: &str, body: &Value) -> Option<Value> {
    Some(server.try_call("POST", path, "application/json", body.to_string().as_bytes()).ok()?.ok())
}

fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}

/// Runs, their metrics, their ends.
fn write_runs(server: &Server, round: u32, acked: &Sender<Acked>) -> Option<()> {
    for turn in 0.. {
        let new =
            json!({"experiment": "kill", "name": format!("{round}-{turn}"), "params": {"turn": turn.to_string()}});
        let run = text(&write(server, "/api/v1/runs", &new)?["id"]);
        acked.send(Acked::Run(run.clone())).ok()?;
        for step in 0..4_i64 {
            let value = 1.0 / f64::from(turn + 1) + step as f64;
            let points = json!({"metrics": [{"key": "loss", "value": value, "step": step}]});
            write(server, &format!("/api/v1/runs/{run}/metrics"), &points)?;
            acked.send(Acked::Point(run.clone(), step, value)).ok()?;
        }
        write(server, &format!("/api/v1/runs/{run}/finish"), &json!({"state": "finished"}))?;
        acked.send(Acked::Finished(run)).ok()?;
    }
    None
}

/// Versions of one model, each with a file of its own.
fn write_versions(server: &Server, round: u32, writer: &str, acked: &Sender<Acked>) -> Option<()> {
    let run = text(&write(server, "/api/v1/runs", &json!({"experiment": "kill"}))?["id"]);
    acked.send(Acked::Run(run.clone())).ok()?;
    for turn in 0.. {
        let contents = format!("not much of a model, {writer} {round}-{turn}");
        let new = json!({
            "run": run,
            "files": {"model.onnx": STANDARD.encode(&contents)},
            "signature": {"inputs": [], "outputs": []},
        });
        let version = write(server, "/api/v1/models/paper/versions", &new)?;
        acked.send(Acked::Version(version["version"].as_u64().expect("a number"), contents)).ok()?;
    }
    None
}

/// When every row of this test was measured: after those the model was trained on.
const MEASURED: &str = "2024-03-02T00:00:00Z";

fn row(key: &str, heat: f64) -> Value {
    json!({"kettle": key, "at": MEASURED, "heat": heat, "steam": 1.0})
}

fn write_rows(server: &Server, round: u32, writer: &str, acked: &Sender<Acked>) -> Option<()> {
    for turn in 0.. {
        let (key, heat) = (format!("{writer}-{round}-{turn}"), f64::from(turn) + 0.25);
        let report = write(server, "/api/v1/sources/readings/rows", &json!([row(&key, heat)]))?;
        assert_eq!(report["accepted"], 1, "{report}");
        acked.send(Acked::Row(key, heat)).ok()?;
    }
    None
}

fn question(round: u32, turn: u32) -> String {
    format!("q-{round}-{turn}")
}

const fn truth(turn: u32) -> bool {
    turn.is_multiple_of(3)
}

fn label(key: &str, value: bool) -> Value {
    json!({"key": key, "value": value, "known_at": "2024-03-03T00:00:00Z"})
}

fn write_labels(server: &Server, round: u32, acked: &Sender<Acked>) -> Option<()> {
    for turn in 0..QUESTIONS {
        let (key, value) = (question(round, turn), truth(turn));
        let report = write(server, "/api/v1/endpoints/leak/labels", &json!({"labels": [label(&key, value)]}))?;
        assert_eq!(report["joined"], 1, "{report}");
        acked.send(Acked::Label(key, value)).ok()?;
    }
    None
}

/// Pipeline runs, one after the other.
fn write_pipeline_runs(server: &Server, round: u32, acked: &Sender<Acked>) -> Option<()> {
    for turn in 0.. {
        // Another cutoff is another dataset: nothing can be reused.
        let cutoff = format!("2024-03-01T{:02}:{:02}:00Z", 6 + round % 5, turn % 60);
        let run = text(&write(server, "/api/v1/pipelines/leak/runs", &json!({"cutoff": cutoff}))?["run"]);
        acked.send(Acked::PipelineRun(run.clone())).ok()?;
        loop {
            let view = server.try_call("GET", &format!("/api/v1/pipeline-runs/{run}"), "", b"").ok()?.ok();
            if !matches!(view["state"].as_str(), Some("queued" | "running")) {
                break;
            }
            // Waits on the server's side.
            write(server, "/api/v1/endpoints/leak/settle?wait_ms=500", &Value::Null)?;
        }
        acked.send(Acked::Ended(run)).ok()?;
    }
    None
}

/// Writes from all sides until the server is killed, which happens after `limit` acknowledgements.
fn write_until_killed(server: Server, round: u32, limit: usize, ledger: &mut Ledger) {
    let (sender, acked) = channel();
    let server = &server;
    let kept = thread::scope(|scope| {
        let spawn = |write: fn(&Server, u32, &Sender<Acked>) -> Option<()>| {
            let sender = sender.clone();
            scope.spawn(move || write(server, round, &sender));
        };
        spawn(write_runs);
        spawn(|server, round, acked| write_versions(server, round, "ada", acked));
        spawn(|server, round, acked| write_versions(server, round, "bob", acked));
        spawn(|server, round, acked| write_rows(server, round, "cat", acked));
        spawn(|server, round, acked| write_rows(server, round, "dan", acked));
        spawn(write_labels);
        spawn(write_pipeline_runs);
        drop(sender);
        kill_after(server, limit, &acked)
    });
    let count = kept.len();
    kept.into_iter().for_each(|acked| ledger.take(acked));
    eprintln!("round {round}: killed after {count} acknowledged writes");
}

/// Kills the server once it has acknowledged so many writes; gives those and what else was acknowledged by then.
fn kill_after(server: &Server, limit: usize, acked: &Receiver<Acked>) -> Vec<Acked> {
    let mut kept: Vec<Acked> = acked.iter().take(limit).collect();
    let alive = kept.len() == limit;
    server.kill_now();
    // Ends when every writer has found the server dead.
    kept.extend(acked.iter());
    assert!(alive, "the writers ended by themselves after {} writes", kept.len());
    kept
}

/// Makes the round's predictions and waits until they are logged.
fn ask(server: &Server, round: u32) {
    let instances: Vec<_> = (0..QUESTIONS)
        .map(|turn| {
            let load = f64::from(turn) / f64::from(QUESTIONS);
            json!({"ask_id": question(round, turn), "kettle": "k1", "load": load, "event_timestamp": "2024-03-02T00:00:00Z"})
        })
        .collect();
    server.predict("leak", &Value::from(instances)).ok();
    server.post("/api/v1/endpoints/leak/settle?wait_ms=5000", &Value::Null).ok();
    let logged = predictions(server);
    assert!((0..QUESTIONS).all(|turn| logged.contains_key(&question(round, turn))), "not all were logged");
}

/// Logged predictions by label key.
fn predictions(server: &Server) -> BTreeMap<String, Value> {
    let all = server.get("/api/v1/endpoints/leak/predictions?limit=10000").ok();
    let all = all.as_array().expect("a list");
    let found: BTreeMap<_, _> = all.iter().map(|p| (text(&p["label_key"]), p.clone())).collect();
    assert_eq!(found.len(), all.len(), "a prediction stands twice in the log");
    found
}

fn check_runs(server: &Server, ledger: &Ledger) {
    for (run, points) in &ledger.runs {
        let view = server.get(&format!("/api/v1/runs/{run}")).ok();
        assert_eq!(view["experiment"], "kill");
        if ledger.finished.contains(run) {
            assert_eq!(view["state"], "finished", "{view}");
        }
        let history = server.get(&format!("/api/v1/runs/{run}/metrics/loss")).ok();
        let stored: Vec<_> = history.as_array().expect("a list").iter().map(|p| (&p["step"], &p["value"])).collect();
        for (step, value) in points {
            let count = stored.iter().filter(|found| **found == (&json!(step), &json!(value))).count();
            assert_eq!(count, 1, "run {run}, step {step}: {history}");
        }
    }
}

fn check_versions(server: &Server, ledger: &Ledger) {
    let all = server.get("/api/v1/models/paper/versions").ok();
    let numbers: Vec<_> = all.as_array().expect("a list").iter().filter_map(|v| v["version"].as_u64()).collect();
    let unique: BTreeSet<_> = numbers.iter().copied().collect();
    assert_eq!(unique.len(), numbers.len(), "a number stands twice: {numbers:?}");
    for (number, contents) in &ledger.versions {
        assert!(unique.contains(number), "version {number} is gone");
        let file = server.get(&format!("/api/v1/models/paper/versions/{number}/files/model.onnx")).ok();
        assert_eq!(file, Value::from(contents.as_str()));
    }
}

fn check_rows(server: &Server, ledger: &Ledger) {
    let keys: Vec<_> = ledger.rows.keys().map(|key| json!({"kettle": key, "event_timestamp": MEASURED})).collect();
    let request = json!({"service": "kettle", "rows": keys});
    for route in ["online", "historical"] {
        let answer = server.post(&format!("/api/v1/features/{route}"), &request).ok();
        for (at, (key, heat)) in ledger.rows.iter().enumerate() {
            let found = &answer["rows"][at];
            assert_eq!((&found["kettle"], &found["now__heat"]), (&json!(key), &json!(heat)), "{route}: {found}");
            assert_eq!(found["lately__heat_1d"], json!(heat), "{route}, one row in the window: {found}");
        }
    }
    let again: Vec<_> = ledger.rows.iter().map(|(key, heat)| row(key, *heat)).collect();
    let report = server.post("/api/v1/sources/readings/rows", &Value::from(again)).ok();
    let counts = [&report["accepted"], &report["duplicates"], &report["quarantined"]];
    assert_eq!(counts, [&json!(0), &json!(ledger.rows.len()), &json!(0)], "{report}");
}

fn check_labels(server: &Server, ledger: &Ledger) {
    let logged = predictions(server);
    for (key, value) in &ledger.labels {
        let prediction = logged.get(key).unwrap_or_else(|| panic!("prediction {key} is gone"));
        assert_eq!(prediction["label"]["value"], json!(value), "{prediction}");
    }
    let again: Vec<_> = ledger.labels.iter().map(|(key, value)| label(key, *value)).collect();
    let report = server.post("/api/v1/endpoints/leak/labels", &json!({"labels": again})).ok();
    assert_eq!((&report["already"], &report["joined"]), (&json!(ledger.labels.len()), &json!(0)), "{report}");
    // The label source has them too, so that the next training set does.
    let rows: Vec<_> = ledger
        .labels
        .iter()
        .map(|(key, value)| {
            json!({"ask_id": key, "known_at": "2024-03-03T00:00:00Z", "leaks": value, "origin": "outcome"})
        })
        .collect();
    let report = server.post("/api/v1/sources/answers/rows", &Value::from(rows)).ok();
    assert_eq!((&report["accepted"], &report["duplicates"]), (&json!(0), &json!(ledger.labels.len())), "{report}");
}

/// Every run that was promised reaches an end that is no failure, however often it was interrupted.
fn check_pipeline_runs(server: &Server, ledger: &Ledger) {
    for run in &ledger.pipeline_runs {
        let view = shop::computed(server, run);
        assert_eq!(view["state"], "refused", "{view:#}");
        let unfinished = view["steps"].as_array().expect("steps").iter().find(|s| s["name"] == "gate");
        assert!(unfinished.is_some_and(|s| matches!(s["state"].as_str(), Some("done" | "reused"))), "{view:#}");
    }
}

#[test]
fn whatever_was_acknowledged_survives_being_killed_while_writing() {
    let (mut server, data) = shop::trained();
    let mut ledger = Ledger::default();
    let mut random = SEED;
    for round in 0..ROUNDS {
        ask(&server, round);
        // xorshift64: any spread of moments will do, as long as it is the same each time.
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let limit = 40 + (random % 160) as usize;
        write_until_killed(server, round, limit, &mut ledger);
        server = Server::start(data.path());
        check_runs(&server, &ledger);
        check_versions(&server, &ledger);
        check_rows(&server, &ledger);
        check_labels(&server, &ledger);
        check_pipeline_runs(&server, &ledger);
        let endpoint = server.get("/api/v1/endpoints/leak").ok();
        assert_eq!((&endpoint["champion"], &endpoint["in_service"]), (&json!(1), &json!(true)), "{endpoint}");
    }
    // The rounds were not empty talk: every kind of write was acknowledged.
    let counts = [ledger.runs.len(), ledger.versions.len(), ledger.rows.len(), ledger.labels.len()];
    assert!(counts.iter().all(|count| *count >= 10), "runs, versions, rows, labels: {counts:?}");
    assert!(ledger.ended.len() < ledger.pipeline_runs.len(), "no pipeline run was ever interrupted");
    assert!(ledger.runs.values().any(|points| !points.is_empty()));
}
