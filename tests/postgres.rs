//! The same platform with its metadata in Postgres: the whole loop, `kill -9`, and two servers on one database.

mod support;

use std::{
    collections::BTreeSet,
    path::Path,
    process::{Command, Stdio},
    sync::LazyLock,
    thread,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use storage::{Meta, testing::Postgres};
use support::{MILLPOND, Server, millpond, root, shop};
use tokio::runtime::Runtime;

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().expect("a runtime"));

/// The address of a new database.
fn database() -> String {
    RUNTIME.block_on(Postgres::shared().database())
}

fn start(data: &Path, url: &str) -> Server {
    Server::start_with(data, &["--set", &format!("metadata.url={url}")])
}

/// Checks the journal's chain; its length.
fn verified(url: &str) -> u64 {
    RUNTIME.block_on(async {
        let meta = Meta::connect(url).await.expect("open");
        meta.journal().verify(None).await.expect("the chain holds").seq
    })
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("not a text: {value}")).to_owned()
}

/// Registers a version with one file.
fn register(server: &Server, run: &str, contents: &str) -> u64 {
    let new = json!({
        "run": run,
        "files": {"model.onnx": STANDARD.encode(contents)},
        "signature": {"inputs": [], "outputs": []},
    });
    server.post("/api/v1/models/paper/versions", &new).ok()["version"].as_u64().expect("a number")
}

#[test]
fn the_loop_runs_on_postgres_and_everything_survives_kill_9() {
    let (url, data) = (database(), tempfile::tempdir().unwrap());
    let server = start(data.path(), &url);
    let sensors = std::fs::read_dir(root().join("examples/sensors")).unwrap().flatten().map(|entry| entry.path());
    let definitions = sensors.filter(|path| path.extension().is_some_and(|e| e == "yaml"));
    let definitions: Vec<_> = definitions.map(|path| std::fs::read_to_string(path).unwrap()).collect();
    server.apply(&definitions.join("\n---\n")).ok();

    shop::fill(&server);
    let run = shop::train(&server);
    let run = shop::computed(&server, &run);
    assert_eq!(run["state"], "promoted", "{run:#}");
    let ask = json!([{"ask_id": "q1", "kettle": "k1", "load": 0.9, "event_timestamp": "2024-03-02T00:00:00Z"}]);
    let answer = server.predict("leak", &ask).ok();
    server.post("/api/v1/endpoints/leak/settle?wait_ms=5000", &Value::Null).ok();
    let label = json!({"labels": [{"key": "q1", "value": true, "known_at": "2024-03-03T00:00:00Z"}]});
    assert_eq!(server.post("/api/v1/endpoints/leak/labels", &label).ok()["joined"], 1);
    let tracked = text(&server.post("/api/v1/runs", &json!({"experiment": "paper", "params": {"k": "v"}})).ok()["id"]);
    let points = json!({"metrics": [{"key": "loss", "value": 0.25, "step": 3}]});
    server.post(&format!("/api/v1/runs/{tracked}/metrics"), &points).ok();
    assert_eq!(register(&server, &tracked, "one"), 1);
    let refused = server.post("/api/v1/runs", &json!({"experiment": "nul", "name": "a\u{0}b"}));
    assert_eq!(refused.status, 400, "{}", refused.body);
    let pages: Vec<_> = ["/api/v1/pipeline-runs", "/api/v1/definitions", "/api/v1/models", "/api/v1/endpoints/leak"]
        .into_iter()
        .map(|path| (path, server.get(path)))
        .collect();
    server.kill();

    let events = verified(&url);
    assert!(events > 10, "{events} events");
    let server = start(data.path(), &url);
    for (path, before) in pages {
        assert_eq!((server.get(path).status, server.get(path).body), (before.status, before.body), "{path}");
    }
    let again = server.predict("leak", &ask).ok();
    let said =
        |answer: &Value| (answer["predictions"][0]["version"].clone(), answer["predictions"][0]["score"].clone());
    assert_eq!(said(&again), said(&answer), "the same model answers the same");
    let logged = server.get("/api/v1/endpoints/leak/predictions?limit=10").ok();
    let logged = logged.as_array().unwrap().iter().find(|p| p["label_key"] == "q1").expect("it was logged");
    assert_eq!(logged["label"]["value"], true, "{logged}");
    let history = server.get(&format!("/api/v1/runs/{tracked}/metrics/loss")).ok();
    assert_eq!((&history[0]["value"], &history[0]["step"]), (&json!(0.25), &json!(3)), "{history}");
    let file = server.get("/api/v1/models/paper/versions/1/files/model.onnx").ok();
    assert_eq!(file, "one");
    assert_eq!(register(&server, &tracked, "two"), 2);
    assert_eq!(server.stop(), Some(0));
    verified(&url);
}

#[test]
fn two_servers_share_a_database_and_no_number_is_given_twice() {
    const EACH: usize = 15;
    let (url, one, two) = (database(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    // Started together on an empty database: the schema is made once.
    let servers: Vec<Server> = thread::scope(|scope| {
        let starting: Vec<_> =
            [one.path(), two.path()].into_iter().map(|data| scope.spawn(|| start(data, &url))).collect();
        starting.into_iter().map(|server| server.join().expect("it starts")).collect()
    });
    let made: Vec<(u64, String)> = thread::scope(|scope| {
        let writers: Vec<_> = servers
            .iter()
            .flat_map(|server| [server, server])
            .map(|server| {
                scope.spawn(move || {
                    let turns = (0..EACH).map(|turn| {
                        let run = server.post("/api/v1/runs", &json!({"experiment": "shared"})).ok();
                        let run = text(&run["id"]);
                        (register(server, &run, &format!("{run} {turn}")), run)
                    });
                    turns.collect::<Vec<_>>()
                })
            })
            .collect();
        writers.into_iter().flat_map(|writer| writer.join().expect("it writes")).collect()
    });
    let versions: BTreeSet<_> = made.iter().map(|(version, _)| *version).collect();
    assert_eq!(versions, (1..=4 * EACH as u64).collect(), "every number once and none left out");
    for server in &servers {
        let all = server.get("/api/v1/models/paper/versions").ok();
        assert_eq!(all.as_array().map(Vec::len), Some(4 * EACH), "both show all versions");
        for (_, run) in &made {
            assert_eq!(server.get(&format!("/api/v1/runs/{run}")).ok()["experiment"], "shared");
        }
    }
    let ready = servers.iter().map(|server| server.get("/readyz").status).collect::<Vec<_>>();
    assert_eq!(ready, [200, 200]);
    drop(servers);
    verified(&url);
}

#[test]
fn rows_and_pipelines_stay_with_the_server_that_has_them() {
    let (url, one, two) = (database(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let keeper = start(one.path(), &url);
    shop::fill(&keeper);
    let run = shop::train(&keeper);
    assert_eq!(shop::computed(&keeper, &run)["state"], "promoted");
    let other = start(two.path(), &url);
    let row = json!([{"kettle": "k1", "at": "2024-03-02T00:00:00Z", "heat": 1.0, "steam": 1.0}]);
    other.post("/api/v1/sources/readings/rows", &row).problem(409, "conflict");
    other.post("/api/v1/pipelines/leak/runs", &json!({"cutoff": shop::CUTOFF})).problem(409, "conflict");
    other.apply(shop::DEFINITIONS).problem(409, "conflict");
    // What lies in the database alone is there on both.
    assert_eq!(other.get("/api/v1/models/leak/versions").ok().as_array().map(Vec::len), Some(1));
    let tracked = text(&other.post("/api/v1/runs", &json!({"experiment": "elsewhere"})).ok()["id"]);
    assert_eq!(keeper.get(&format!("/api/v1/runs/{tracked}")).ok()["experiment"], "elsewhere");
    drop(other);
    assert_eq!(keeper.post("/api/v1/sources/readings/rows", &row).ok()["accepted"], 1);
}

#[test]
fn the_password_is_shown_nowhere() {
    let url = database();
    let shown = millpond(&["config", "show", "--set", &format!("metadata.url={url}")]);
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("millpond:***@127.0.0.1") && !shown.contains(Postgres::password()), "{shown}");
    let refused = [
        url.replacen("postgres", "mysql", 1),
        format!("{url}?passwrod={}", Postgres::password()),
        url.replacen("127.0.0.1:", "127.0.0.1:1", 1),
        format!("{url}_absent"),
    ];
    for url in refused {
        let data = tempfile::tempdir().unwrap();
        let output = Command::new(MILLPOND)
            .args(["up", "--listen", "127.0.0.1:0", "--set", "log.filter=debug", "--data-dir"])
            .arg(data.path())
            .env("MILLPOND_METADATA_URL", &url)
            .stdin(Stdio::null())
            .output()
            .expect("the binary starts");
        assert!(!output.status.success());
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        assert!(!said.is_empty() && !said.contains(Postgres::password()), "{said}");
    }
}
