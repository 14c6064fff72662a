//! MLflow's own Python client, unmodified, against the real binary: the scripts in `tests/mlflow`, which hold against
//! MLflow's server, too.

mod support;

use std::fs;

use serde_json::{Map, Value, json};
use support::{
    Server,
    python::script,
    root,
    sensors::{items, number},
    shop,
};

/// How many checks there are in the scripts of those names: none may be lost unseen.
fn checks(counts: impl Fn(&str) -> bool) -> usize {
    let files = fs::read_dir(root().join("tests/mlflow")).expect("the scripts are there");
    let paths =
        files.map(|file| file.expect("an entry").path()).filter(|path| path.extension().is_some_and(|e| e == "py"));
    let counted = paths.filter(|path| counts(&path.file_name().expect("a name").to_string_lossy()));
    counted.map(|path| fs::read_to_string(path).expect("UTF-8").lines().filter(|line| *line == "@check").count()).sum()
}

/// The scripts that `run.py` runs: those that hold against MLflow's own server, too.
fn of_run(name: &str) -> bool {
    !matches!(name, "pipeline.py" | "webhooks.py")
}

/// How many checks a script says held; fails when one did not.
#[track_caller]
fn held(said: &str) -> usize {
    let line = said.lines().last().unwrap_or_default();
    let count = line.strip_suffix(" ok, 0 failed").and_then(|count| count.parse().ok());
    count.unwrap_or_else(|| panic!("the script does not say how many checks held:\n{said}"))
}

#[test]
fn mlflows_client_finds_here_what_it_finds_at_mlflows_server() {
    let (server, _data) = Server::fresh();
    assert_eq!(held(&script("run.py", &[], &server.url)), checks(of_run));
    assert_eq!(server.stop(), Some(0), "the server ends in order");
}

#[test]
fn mlflows_client_finds_the_same_where_the_metadata_is_in_postgres() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let url = runtime.block_on(storage::testing::Postgres::shared().database());
    let data = tempfile::tempdir().expect("a temporary directory");
    let server = Server::start_with(data.path(), &["--set", &format!("metadata.url={url}")]);
    assert_eq!(held(&script("run.py", &[], &server.url)), checks(of_run));
}

/// What our own API tells of the trained model, for the script to compare the client's answers with.
fn world(server: &Server) -> Value {
    let asks: Vec<Value> = (0..8)
        .map(|ask| {
            let (load, shift) = (f64::from(ask) / 8.0, if ask % 3 == 0 { "late" } else { "early" });
            json!({"ask_id": format!("q{ask}"), "kettle": format!("k{ask}"), "load": load, "shift": shift,
                   "event_timestamp": shop::CUTOFF})
        })
        .collect();
    server.predict("leak", &json!(asks)).ok();
    server.post("/api/v1/endpoints/leak/settle?wait_ms=5000", &Value::Null).ok();
    let logged = server.get("/api/v1/endpoints/leak/predictions?limit=100").ok();
    let mut columns: Map<String, Value> = Map::new();
    let mut probabilities = Vec::new();
    for prediction in items(&logged) {
        let inputs = prediction["inputs"].as_object().expect("a prediction has its inputs");
        for (name, value) in inputs {
            columns.entry(name).or_insert_with(|| json!([])).as_array_mut().expect("a column").push(value.clone());
        }
        probabilities.push(number(&prediction["scores"][0]["score"]));
    }
    assert_eq!(probabilities.len(), asks.len(), "every prediction is logged: {logged:#}");
    let version = server.get("/api/v1/models/leak/versions/1").ok();
    let run = server.get(&format!("/api/v1/runs/{}", version["run"].as_str().expect("a version has a run"))).ok();
    json!({
        "experiment": run["experiment"], "model": "leak", "version": 1, "dataset": run["dataset"]["digest"],
        "run": {"id": run["id"], "params": run["params"], "metrics": run["metrics"]},
        "rows": columns, "probabilities": probabilities,
    })
}

#[test]
fn a_model_of_our_pipeline_is_one_of_mlflows_to_its_client() {
    let (server, _data) = shop::trained();
    let folder = tempfile::tempdir().expect("a temporary directory");
    let file = folder.path().join("world.json");
    fs::write(&file, world(&server).to_string()).expect("it can be written");
    assert_eq!(held(&script("pipeline.py", &[&file], &server.url)), checks(|name| name == "pipeline.py"));
}

#[test]
fn webhooks_and_protected_aliases_through_mlflows_client() {
    let data = tempfile::tempdir().expect("a temporary directory");
    let server = Server::start_with(data.path(), &["--set", "webhooks.allow_private=true"]);
    assert_eq!(held(&script("webhooks.py", &[], &server.url)), checks(|name| name == "webhooks.py"));
}
