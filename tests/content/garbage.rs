use std::{
    fs::{self, File},
    path::Path,
    thread,
    time::{Duration, SystemTime},
};

use serde_json::{Value, json};

use crate::{
    FILES, json_of, put_file, register, run, start_run,
    support::{Server, shop},
};

/// Makes every blob `days` old.
fn age(data: &Path, days: u64) {
    let then = SystemTime::now() - Duration::from_secs(days * 86_400);
    for folder in fs::read_dir(data.join("blobs")).expect("blobs").map(|entry| entry.expect("an entry").path()) {
        for file in fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
            File::open(file).expect("a blob").set_modified(then).expect("its age can be set");
        }
    }
}

fn blobs(data: &Path) -> usize {
    let folders = fs::read_dir(data.join("blobs")).expect("blobs").map(|entry| entry.expect("an entry").path());
    folders.map(|folder| fs::read_dir(folder).expect("a folder").count()).sum()
}

fn gc(server: &Server, body: &Value) -> Value {
    server.post("/api/v1/gc", body).ok()
}

#[test]
fn what_was_replaced_or_deleted_goes_and_what_is_needed_stays() {
    let (server, data) = Server::fresh();
    let (id, root) = start_run(&server);
    register(&server, "credit", &id, &[("model.onnx", b"kept by the version")]);
    put_file(&server, &format!("{root}/notes"), b"replaced");
    put_file(&server, &format!("{root}/notes"), b"in its place");
    put_file(&server, &format!("{root}/old/notes"), b"deleted");
    server.call("DELETE", &format!("{FILES}/{root}/old"), "", b"").ok();
    let before = blobs(data.path());

    let young = gc(&server, &json!({"older_than": "7d"}));
    assert_eq!((&young["removed"], &young["young"]), (&json!(0), &young["blobs"]), "{young}");
    age(data.path(), 8);
    let (fine, dry) = json_of(&server, &["gc", "--dry-run", "--older-than", "7d"]);
    assert!(fine && dry["garbage"] == 2 && dry["removed"] == 0 && dry["garbage_bytes"] == 15, "{dry}");
    assert_eq!(blobs(data.path()), before);
    // Stored again it is young, and stays although nothing names it.
    put_file(&server, &format!("{root}/old/notes"), b"deleted");
    server.call("DELETE", &format!("{FILES}/{root}/old"), "", b"").ok();
    let output = run(&server, &["gc"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 blobs (8 bytes) removed"), "{text}");
    assert_eq!(blobs(data.path()), before - 1);
    assert!(run(&server, &["models", "verify"]).status.success());
    let notes = server.get(&format!("{FILES}/{root}/notes"));
    assert_eq!((notes.status, notes.body), (200, json!("in its place")));
    let events = server.get("/api/v1/events?limit=1000").ok();
    assert!(events.as_array().expect("events").iter().any(|event| event["kind"] == "blobs.collected"));
}

#[test]
fn deleted_runs_go_for_good_when_asked() {
    let (server, data) = Server::fresh();
    let (gone, root) = start_run(&server);
    let (kept, _) = start_run(&server);
    put_file(&server, &format!("{root}/weights"), b"of a run that goes");
    register(&server, "credit", &kept, &[("model.onnx", b"kept")]);
    for run in [&gone, &kept] {
        server.post("/api/2.0/mlflow/runs/delete", &json!({"run_id": run})).ok();
    }
    age(data.path(), 8);
    let dry = gc(&server, &json!({"dry_run": true, "deleted_for": "0s"}));
    assert_eq!(dry["purged"]["runs"], json!([gone]), "{dry}");
    server.get(&format!("/api/v1/runs/{gone}")).ok();
    let output = run(&server, &["gc", "--deleted-runs-older-than", "0s"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("1 deleted runs were deleted for good") && text.contains(&kept), "{text}");
    server.get(&format!("/api/v1/runs/{gone}")).problem(404, "not_found");
    server.get(&format!("/api/v1/runs/{kept}")).ok();
    assert!(text.contains("1 blobs (18 bytes) removed"), "{text}");
    assert!(run(&server, &["models", "verify"]).status.success());
}

#[test]
fn a_trained_and_deployed_model_survives_a_collection_of_everything_old() {
    let (server, data) = shop::trained();
    age(data.path(), 30);
    let cleared = gc(&server, &json!({"older_than": "1h"}));
    assert_eq!(cleared["young"], 0, "{cleared}");
    assert!(run(&server, &["models", "verify"]).status.success());
    assert_eq!(server.stop(), Some(0));
    // It starts from what is left: tables, versions, pipelines.
    let server = Server::start(data.path());
    assert!(run(&server, &["models", "verify"]).status.success());
    let ask = json!([{"ask_id": "q", "kettle": "k1", "load": 0.5, "shift": "late", "event_timestamp": shop::CUTOFF}]);
    server.predict("leak", &ask).ok();
    let again = gc(&server, &json!({"older_than": "1h"}));
    assert_eq!(again["garbage"], 0, "{again}");
}

#[test]
fn a_wrong_wish_is_refused_and_says_why() {
    let (server, _data) = Server::fresh();
    let wrong = |body: &Value| server.post("/api/v1/gc", body).problem(400, "invalid_argument");
    assert!(wrong(&json!({"older_than": "59m"})).contains("1h"));
    wrong(&json!({"older_than": "soon"}));
    wrong(&json!({"olderthan": "7d"}));
    let output = run(&server, &["gc", "--older-than", "1s"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("write in flight"));
}

#[test]
fn a_server_killed_in_the_middle_of_a_collection_lost_nothing() {
    let (mut server, data) = Server::fresh();
    let (id, root) = start_run(&server);
    for number in 0..20 {
        register(&server, "credit", &id, &[("model.onnx", format!("version {number}").as_bytes())]);
    }
    for round in 0..4_u64 {
        for number in 0..300 {
            put_file(&server, &format!("{root}/scratch"), format!("garbage {round} {number}").as_bytes());
        }
        age(data.path(), 8);
        let before = blobs(data.path());
        thread::scope(|scope| {
            let asking = scope.spawn(|| server.try_call("POST", "/api/v1/gc", "application/json", b"{}"));
            // Killed once some are gone; a later one each round.
            while !asking.is_finished() && blobs(data.path()) + (round as usize * 60) + 1 > before {
                thread::yield_now();
            }
            server.kill_now();
            drop(asking.join());
        });
        drop(server);
        server = Server::start(data.path());
        let verified = run(&server, &["models", "verify"]);
        assert!(verified.status.success(), "round {round}: {verified:?}");
        let last = server.get(&format!("{FILES}/{root}/scratch"));
        assert_eq!((last.status, last.body), (200, json!(format!("garbage {round} 299"))));
    }
    age(data.path(), 8);
    gc(&server, &json!({}));
    assert_eq!(gc(&server, &json!({}))["garbage"], 0);
}
