//! `import mlflow`: a store that MLflow's client wrote is found again at the server, by the same client.

use std::{
    path::Path,
    process::{Command, Stdio},
    sync::LazyLock,
};

use serde_json::{Value, json};
use sqlx::Connection as _;
use tempfile::TempDir;

use crate::{
    json_of, python, run,
    support::{MILLPOND, Server, eventually},
};

/// One store for all tests; none of them writes to it.
static STORE: LazyLock<TempDir> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a temporary directory");
    python("store.py", &["make", text(folder.path())], "");
    python("store.py", &["dump", text(folder.path())], "");
    folder
});

fn text(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

fn arguments() -> [String; 6] {
    let (store, files) =
        (format!("sqlite:///{}/mlflow.db", text(STORE.path())), format!("{}/mlruns", text(STORE.path())));
    ["import", "mlflow", "--store", &store, "--artifacts", &files].map(str::to_owned)
}

#[track_caller]
fn import(server: &Server) -> (bool, Value) {
    let arguments = arguments();
    json_of(server, &arguments.each_ref().map(String::as_str))
}

/// How many of a kind were brought, and how many were here.
fn counts(report: &Value, what: &str) -> (u64, u64) {
    let count = |name: &str| report["counts"][what][name].as_u64().expect("a count");
    (count("made"), count("same"))
}

#[test]
fn mlflows_client_finds_the_whole_store_again_also_after_an_interruption() {
    let (server, _data) = Server::fresh();
    // Interrupted once the first run is there.
    let mut child = Command::new(MILLPOND)
        .args(arguments())
        .args(["--url", &server.url])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    let begun = || !server.get("/api/v1/runs").ok().as_array().expect("runs").is_empty();
    eventually("the first run", || begun().then_some(()));
    child.kill().expect("it runs, or has ended");
    child.wait().expect("it ends");

    let (whole, report) = import(&server);
    assert!(whole, "{report:#}");
    assert_eq!(report["refused"], json!([]));
    let (made, same) = counts(&report, "runs");
    assert_eq!(made + same, 5, "{report:#}");
    assert_eq!(counts(&report, "versions").0 + counts(&report, "versions").1, 2, "{report:#}");
    python("store.py", &["compare", text(STORE.path())], &server.url);
    assert!(run(&server, &["models", "verify"]).status.success());

    let events = |server: &Server| server.get("/api/v1/events?limit=1000").ok().as_array().expect("events").len();
    let before = events(&server);
    let (whole, again) = import(&server);
    assert!(whole && again["files"] == 0, "{again:#}");
    for what in ["experiments", "runs", "logged models", "models", "versions", "aliases"] {
        assert_eq!(counts(&again, what).0, 0, "{what}: {again:#}");
    }
    assert_eq!(events(&server), before, "the second time changes nothing");
    // Numbers go on where they were.
    let new = json!({"name": "iris", "source": "s3://bucket/model"});
    let next = server.post("/api/2.0/mlflow/model-versions/create", &new).ok();
    assert_eq!(next["model_version"]["version"], "4");
}

#[test]
fn a_store_in_postgres_comes_to_a_server_on_postgres() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let (store, own) = runtime.block_on(async {
        let postgres = storage::testing::Postgres::shared();
        let (store, own) = (postgres.database().await, postgres.database().await);
        let statements = std::fs::read_to_string(STORE.path().join("postgres.sql")).expect("it was dumped");
        let mut conn = sqlx::PgConnection::connect(&store).await.expect("it takes connections");
        sqlx::raw_sql(sqlx::AssertSqlSafe(statements)).execute(&mut conn).await.expect("the tables are made");
        (store, own)
    });
    let data = tempfile::tempdir().expect("a temporary directory");
    let server = Server::start_with(data.path(), &["--set", &format!("metadata.url={own}")]);
    let artifacts = format!("{}/mlruns", text(STORE.path()));
    let (whole, report) = json_of(&server, &["import", "mlflow", "--store", &store, "--artifacts", &artifacts]);
    assert!(whole, "{report:#}");
    assert_eq!((counts(&report, "runs"), counts(&report, "versions")), ((5, 0), (2, 0)));
    python("store.py", &["compare", text(STORE.path())], &server.url);
    assert!(run(&server, &["models", "verify"]).status.success());
    let (_, cleared) = json_of(&server, &["gc", "--dry-run", "--older-than", "1h"]);
    assert_eq!(cleared["garbage"], 0);
}

#[test]
fn what_is_here_already_and_differs_is_reported_and_left_alone() {
    let (server, _data) = Server::fresh();
    server.post("/api/2.0/mlflow/experiments/create", &json!({"name": "mine"})).ok();
    server.post("/api/2.0/mlflow/registered-models/create", &json!({"name": "iris", "description": "mine"})).ok();
    let (whole, report) = import(&server);
    assert!(!whole);
    let reasons: Vec<&str> =
        report["refused"].as_array().expect("reasons").iter().filter_map(|r| r["reason"].as_str()).collect();
    assert!(reasons.iter().any(|reason| reason.contains("experiment 1 is called \"mine\" here")), "{reasons:?}");
    assert!(reasons.iter().any(|reason| reason.contains("another model `iris` is here")), "{reasons:?}");
    assert!(reasons.iter().any(|reason| reason.contains("its experiment did not come")), "{reasons:?}");
    let mine = server.get("/api/2.0/mlflow/experiments/get?experiment_id=1").ok();
    assert_eq!(mine["experiment"]["name"], "mine");
    let model = server.get("/api/2.0/mlflow/registered-models/get?name=iris").ok();
    assert_eq!(model["registered_model"]["description"], "mine");
    assert!(model["registered_model"]["latest_versions"].is_null(), "{model}");
}

#[test]
fn a_store_that_is_none_is_said_to_be_none_without_its_password() {
    let (server, data) = Server::fresh();
    let absent = format!("sqlite:///{}/absent.db", text(data.path()));
    for (store, word) in [
        (absent.as_str(), "database"),
        ("postgresql://ada:secret@127.0.0.1:9/mlflow", "database"),
        ("mysql://ada:secret@host/mlflow", "neither sqlite nor postgresql"),
        ("nothing", "expected `sqlite:///"),
    ] {
        let output = run(&server, &["import", "mlflow", "--store", store]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{store}");
        assert!(said.contains(word) && !said.contains("secret") && said.lines().count() == 1, "{store}: {said}");
    }
    let own = format!("sqlite:///{}/meta.db", text(data.path()));
    let output = run(&server, &["import", "mlflow", "--store", &own]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("it is not one of MLflow's"));

    let wrong = |record: Value| server.post("/api/v1/imports", &json!({"records": [record]}));
    wrong(json!({"kind": "nothing"})).problem(400, "invalid_argument");
    let alias = wrong(json!({"kind": "alias", "model": "none", "alias": "a", "version": 1})).ok();
    assert_eq!(alias["outcomes"][0]["outcome"], "refused", "{alias}");
}
