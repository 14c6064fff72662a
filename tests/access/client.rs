//! MLflow's own client where tokens are wanted.

use std::ffi::OsStr;

use crate::{
    As, Guarded,
    support::{python::script_with, sensors::text},
};

/// The last line of a script that ran every check.
fn all_held(said: &str) -> bool {
    said.lines().last().is_some_and(|line| line.ends_with(" ok, 0 failed"))
}

#[test]
fn mlflows_client_works_with_a_token_in_its_own_project_files_in_parts_included() {
    let guarded = Guarded::fresh();
    guarded.create_project("vision");
    let token = guarded.token("vision", "ann", "engineer", &[]);
    let scripts = ["runs", "registry", "artifacts"].map(OsStr::new);
    let said = script_with("mlflow/run.py", &scripts, &guarded.server.url, &[("MLFLOW_TRACKING_TOKEN", &token)]);
    assert!(all_held(&said), "{said}");
    let models = "/api/2.0/mlflow/registered-models/search?max_results=10";
    let root = As::token(&guarded.root);
    assert!(guarded.get(&root, models).ok()["registered_models"].is_null(), "nothing of it is in the first project");
    assert!(guarded.get(&root.within("vision"), models).ok()["registered_models"][0]["name"].is_string());
}

#[test]
fn mlflows_client_sends_a_token_as_a_password_and_finds_projects_as_workspaces() {
    let guarded = Guarded::fresh();
    guarded.create_project("vision");
    let environment = [("MLFLOW_TRACKING_USERNAME", "ann"), ("MLFLOW_TRACKING_PASSWORD", guarded.root.as_str())];
    let said = script_with("mlflow/workspaces.py", &[], &guarded.server.url, &environment);
    assert_eq!(said.lines().last(), Some("ok"), "{said}");
    let root = As::token(&guarded.root);
    let found = |project: &'static str| {
        let path = "/api/2.0/mlflow/experiments/get-by-name?experiment_name=from-the-client";
        guarded.get(&root.clone().within(project), path)
    };
    assert_eq!(text(&found("sound").ok()["experiment"]["name"]), "from-the-client");
    assert_eq!(found("default").status, 404);
}

#[test]
fn mlflows_client_says_so_when_it_may_not() {
    let guarded = Guarded::fresh();
    let viewer = guarded.token("default", "bob", "viewer", &[]);
    let said = script_with("mlflow/refused.py", &[], &guarded.server.url, &[("MLFLOW_TRACKING_TOKEN", &viewer)]);
    assert_eq!(said.lines().last(), Some("ok"), "{said}");
}
