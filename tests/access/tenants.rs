//! Projects share nothing.

use serde_json::{Value, json};

use crate::{
    As, Guarded, millpond_as,
    support::sensors::{items, text},
    text as utf8,
};

/// A project with a run, a model and a file in it, and what they are called.
fn furnish(guarded: &Guarded, who: &As) -> (String, String) {
    let run = guarded.ask(who, "POST", "/api/v1/runs", &json!({"experiment": "secret plans"})).ok();
    let run = text(&run["id"]).to_owned();
    let mlflow = |path: &str, body: Value| guarded.ask(who, "POST", &format!("/api/2.0/mlflow/{path}"), &body).ok();
    mlflow("registered-models/create", json!({"name": "secret model"}));
    let experiment = mlflow("experiments/create", json!({"name": "files"}));
    let file = format!("/api/2.0/mlflow-artifacts/artifacts/{}/notes.txt", text(&experiment["experiment_id"]));
    guarded.server.call_with("PUT", &file, &crate::headers(who, "text/plain"), b"for our eyes only").1.ok();
    (run, file)
}

fn share_nothing(guarded: &Guarded) {
    guarded.create_project("vision");
    let ours = As::token(&guarded.token("vision", "ann", "admin", &[]));
    let theirs = As::token(&guarded.token("default", "bob", "admin", &[]));
    let (run, file) = furnish(guarded, &ours);
    for (who, sees) in [(&ours, true), (&theirs, false)] {
        let status = |path: &str| guarded.get(who, path).status;
        let expected = if sees { 200 } else { 404 };
        assert_eq!(status(&format!("/api/v1/runs/{run}")), expected);
        assert_eq!(status(&format!("/api/2.0/mlflow/runs/get?run_id={run}")), expected);
        assert_eq!(status(&file), expected);
        assert_eq!(
            status("/api/v1/models/secret%20model/versions"),
            200 + 204 * u16::from(!sees),
            "an empty list, or nothing"
        );
        let models = guarded.get(who, "/api/2.0/mlflow/registered-models/search?max_results=100").ok();
        assert_eq!(models.to_string().contains("secret"), sees, "{models}");
        let runs = guarded.get(who, "/api/v1/runs").ok();
        assert_eq!(items(&runs).len(), usize::from(sees), "{runs}");
        for journal in ["/api/v1/events", "/api/v1/audit"] {
            assert_eq!(guarded.get(who, journal).ok().to_string().contains("secret"), sees, "{journal}");
        }
        let metrics = guarded.get(who, "/metrics").ok();
        assert!(text(&metrics).contains("millpond_build_info"));
    }
    // The same names on both sides are two things.
    let theirs_run = guarded.ask(&theirs, "POST", "/api/v1/runs", &json!({"experiment": "secret plans"})).ok();
    assert_ne!(theirs_run["id"], run.as_str());
    guarded.ask(&theirs, "POST", "/api/2.0/mlflow/registered-models/create", &json!({"name": "secret model"})).ok();
}

#[test]
fn projects_in_files_share_nothing_and_are_there_after_a_restart() {
    let guarded = Guarded::fresh();
    share_nothing(&guarded);
    let guarded = guarded.again(|server| server.kill());
    let all = guarded.get(&As::token(&guarded.root), "/api/v1/projects").ok();
    assert_eq!(items(&all).iter().map(|project| text(&project["name"])).collect::<Vec<_>>(), ["default", "vision"]);
    let runs = guarded.get(&As::token(&guarded.root).within("vision"), "/api/v1/runs").ok();
    assert_eq!(items(&runs).len(), 1, "what was acknowledged is there: {runs}");
}

#[test]
fn a_project_that_is_damaged_keeps_nobody_else_out() {
    let guarded = Guarded::fresh();
    guarded.create_project("vision");
    let vision = guarded.data().join("projects/vision");
    let guarded = guarded.again(|server| {
        assert_eq!(server.stop(), Some(0));
        // Whatever is left of the log beside it could heal the file.
        for file in
            ["meta.db", "meta.db-wal", "meta.db-shm"].map(|name| vision.join(name)).iter().filter(|f| f.exists())
        {
            std::fs::write(file, b"this was a database once, and is none now".repeat(200)).expect("written");
        }
    });
    let root = As::token(&guarded.root);
    guarded.get(&root, "/api/v1/runs").ok();
    let refused = guarded.get(&root.within("vision"), "/api/v1/runs").problem(503, "unavailable");
    assert!(!refused.contains("meta.db"), "{refused}");
}

#[test]
fn projects_in_postgres_share_nothing() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let url = runtime.block_on(storage::testing::Postgres::shared().database());
    share_nothing(&Guarded::with(&["--set", &format!("metadata.url={url}")]));
}

#[test]
fn only_the_master_of_the_house_makes_projects_and_enters_all_of_them() {
    let guarded = Guarded::fresh();
    guarded.create_project("vision");
    let admin = As::token(&guarded.token("default", "ann", "admin", &[]));
    let new = json!({"name": "mine"});
    guarded.ask(&admin, "POST", "/api/v1/projects", &new).problem(403, "permission_denied");
    let house = json!({"name": "x", "role": "admin", "house": true});
    guarded.ask(&admin, "POST", "/api/v1/tokens", &house).problem(403, "permission_denied");
    let root_id = guarded.root.split('.').nth(1).expect("an id");
    let refused = guarded.ask(&admin, "DELETE", &format!("/api/v1/tokens/{root_id}"), &Value::Null);
    refused.problem(403, "permission_denied");
    assert_eq!(items(&guarded.get(&admin, "/api/v1/projects").ok()).len(), 1);
    for (project, known) in [("vision", false), ("nowhere", false)] {
        let refused = guarded.get(&admin.clone().within(project), "/api/v1/whoami").problem(404, "not_found");
        assert!(refused.contains(project) && !known, "one that exists and one that does not read the same: {refused}");
    }
    let root = As::token(&guarded.root);
    assert_eq!(guarded.get(&root.clone().within("vision"), "/api/v1/whoami").ok()["project"], "vision");
    guarded.get(&root.within("nowhere"), "/api/v1/whoami").problem(404, "not_found");
    guarded
        .ask(&As::token(&guarded.root), "POST", "/api/v1/projects", &json!({"name": "vision"}))
        .problem(409, "already_exists");
    let bad = guarded.ask(&As::token(&guarded.root), "POST", "/api/v1/projects", &json!({"name": "../etc"}));
    bad.problem(400, "invalid_argument");
}

#[test]
fn the_command_line_makes_projects_and_tokens() {
    let guarded = Guarded::fresh();
    let run = |token: &str, args: &[&str]| {
        let output = millpond_as(&guarded.server, token, args);
        assert!(output.status.success(), "{args:?}: {}", utf8(&output.stderr));
        utf8(&output.stdout)
    };
    run(&guarded.root, &["projects", "create", "vision"]);
    let secret = run(&guarded.root, &["--project", "vision", "tokens", "create", "ann", "--role", "admin"]);
    let secret = secret.trim();
    assert!(secret.starts_with("mpt_vision."), "the secret alone, to be piped");
    assert!(run(secret, &["tokens", "whoami"]).starts_with("ann, in project vision: read predict"));
    let listed: Value = serde_json::from_str(&run(secret, &["tokens", "list", "--json"])).expect("JSON");
    let id = text(&items(&listed)[0]["id"]).to_owned();
    let fresh = run(secret, &["tokens", "rotate", &id, "--overlap", "1h"]);
    run(fresh.trim(), &["tokens", "revoke", &id]);
    let refused = millpond_as(&guarded.server, secret, &["tokens", "list"]);
    assert!(!refused.status.success());
    let why = utf8(&refused.stderr);
    assert!(why.contains("was revoked") && why.lines().count() == 1, "{why}");
}
