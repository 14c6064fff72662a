//! `kill -9` while rows come in and tables are looked after: what was acknowledged is there once.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use serde_json::json;

use crate::{DEFINITIONS, event, support::Server};

const ROUNDS: i64 = 5;

#[test]
fn killed_in_the_middle_of_upkeep_nothing_is_lost_or_doubled() {
    let data = tempfile::tempdir().expect("a directory");
    let mut acknowledged = BTreeSet::new();
    let mut next = 0;
    for round in 0..ROUNDS {
        let server = Server::start(data.path());
        server.apply(DEFINITIONS).ok();
        let total = server.get("/api/v1/sources/events/table").ok()["rows"].as_u64().expect("a count");
        assert!(total >= acknowledged.len() as u64, "round {round}");
        let url = server.url.clone();
        let runs = Arc::new(AtomicUsize::new(0));
        let done = runs.clone();
        // Upkeep without a pause, until the server is gone.
        let busy = thread::spawn(move || {
            let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
            loop {
                for (what, body) in [("compact", "{}"), ("vacuum", "{\"keep\": \"0s\"}")] {
                    let path = format!("{url}/api/v1/sources/events/{what}");
                    if agent.post(&path).header("content-type", "application/json").send(body).is_err() {
                        return;
                    }
                }
                done.fetch_add(1, Ordering::SeqCst);
            }
        });
        let mut sent = 0;
        // At least so often, and until upkeep went on meanwhile.
        while sent < 12 + round * 7 || runs.load(Ordering::SeqCst) == 0 {
            sent += 1;
            let rows: Vec<_> = (next..next + 5).map(|n| event(n, n as f64)).collect();
            let body = serde_json::to_vec(&rows).expect("JSON");
            server.ingest("events", "application/json", &body).ok();
            acknowledged.extend(next..next + 5);
            next += 5;
        }
        server.kill_now();
        busy.join().expect("it ends");
    }
    let server = Server::start(data.path());
    let again: Vec<_> = (0..next).map(|n| event(n, n as f64)).collect();
    let body = serde_json::to_vec(&again).expect("JSON");
    let report = server.ingest("events", "application/json", &body).ok();
    assert_eq!((&report["accepted"], &report["duplicates"]), (&json!(0), &json!(next)));
    server.post("/api/v1/sources/events/compact", &json!({})).ok();
    let table = server.get("/api/v1/sources/events/table").ok();
    assert_eq!((&table["rows"], &table["file_rows"]), (&json!(next), &json!(next)));
    let found = crate::read(table["location"].as_str().expect("a place"), &json!({}));
    let ids: Vec<i64> = found["polars"].as_array().expect("rows").iter().filter_map(|row| row[1].as_i64()).collect();
    assert_eq!(ids, acknowledged.into_iter().collect::<Vec<_>>());
}
