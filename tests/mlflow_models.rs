//! Registered models over MLflow's API: the same records that our own API and the trainer make.

mod support;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use support::{
    Answer, Server,
    sensors::{ENDPOINT, START},
};

const API: &str = "/api/2.0/mlflow";

fn send(server: &Server, method: &str, path: &str, body: &Value) -> Answer {
    server.call(method, &format!("{API}/{path}"), "application/json", body.to_string().as_bytes())
}

fn get(server: &Server, path: &str) -> Answer {
    server.get(&format!("{API}/{path}"))
}

/// Checks that a call was refused in MLflow's form.
#[track_caller]
fn refused(answer: &Answer, status: u16, code: &str) {
    assert_eq!((answer.status, answer.body["error_code"].as_str()), (status, Some(code)), "{}", answer.body);
    assert!(answer.body["message"].as_str().is_some_and(|message| !message.is_empty()));
}

/// A version registered through our own API; the run that made it.
fn register(server: &Server, model: &str, weights: &str) -> String {
    let run = server.post("/api/v1/runs", &json!({"experiment": "delays"})).ok();
    let run = run["id"].as_str().expect("an id").to_owned();
    let new = json!({
        "run": run,
        "files": {"model.onnx": STANDARD.encode(weights)},
        "signature": {"inputs": [{"name": "x", "type": "float"}], "outputs": [{"name": "probability", "type": "float"}]},
        "tags": {"kind": "line"},
    });
    server.post(&format!("/api/v1/models/{model}/versions"), &new).ok();
    run
}

#[test]
fn a_model_lives_under_its_name() {
    let (server, _data) = Server::fresh();
    let new = json!({"name": "Elastic Net", "tags": [{"key": "team", "value": "ops"}], "description": "for wine"});
    let made = send(&server, "POST", "registered-models/create", &new).ok()["registered_model"].clone();
    assert_eq!((&made["name"], &made["description"]), (&json!("Elastic Net"), &json!("for wine")));
    assert_eq!(made["tags"], json!([{"key": "team", "value": "ops"}]));
    assert!(
        made["creation_timestamp"].is_i64() && made.get("latest_versions").is_none() && made.get("aliases").is_none()
    );
    refused(&send(&server, "POST", "registered-models/create", &new), 400, "RESOURCE_ALREADY_EXISTS");
    for name in ["a/b", "a:b", "", "  "] {
        let answer = send(&server, "POST", "registered-models/create", &json!({"name": name}));
        refused(&answer, 400, "INVALID_PARAMETER_VALUE");
    }
    let found = server.get("/ajax-api/2.0/mlflow/registered-models/get?name=Elastic%20Net").ok();
    assert_eq!(found["registered_model"], made);

    let text = json!({"name": "Elastic Net", "description": "for all drinks"});
    let changed = send(&server, "PATCH", "registered-models/update", &text).ok();
    assert_eq!(changed["registered_model"]["description"], "for all drinks");
    let tag = json!({"name": "Elastic Net", "key": "tier", "value": "1"});
    assert_eq!(send(&server, "POST", "registered-models/set-tag", &tag).ok(), json!({}));
    assert_eq!(
        send(&server, "DELETE", "registered-models/delete-tag", &json!({"name": "Elastic Net", "key": "team"})).ok(),
        json!({})
    );
    let names = json!({"name": "Elastic Net", "new_name": "Drinks"});
    let renamed = send(&server, "POST", "registered-models/rename", &names).ok()["registered_model"].clone();
    assert_eq!((&renamed["name"], &renamed["tags"]), (&json!("Drinks"), &json!([{"key": "tier", "value": "1"}])));
    refused(&send(&server, "POST", "registered-models/rename", &names), 404, "RESOURCE_DOES_NOT_EXIST");
    assert_eq!(send(&server, "DELETE", "registered-models/delete", &json!({"name": "Drinks"})).ok(), json!({}));
    refused(&get(&server, "registered-models/get?name=Drinks"), 404, "RESOURCE_DOES_NOT_EXIST");
    refused(
        &send(&server, "DELETE", "registered-models/delete", &json!({"name": "Drinks"})),
        404,
        "RESOURCE_DOES_NOT_EXIST",
    );
}

#[test]
fn a_version_of_our_own_api_is_one_of_mlflows_and_the_other_way_round() {
    let (server, _data) = Server::fresh();
    let run = register(&server, "paper", "weights");
    let found = get(&server, "model-versions/get?name=paper&version=1").ok()["model_version"].clone();
    assert_eq!((&found["version"], &found["run_id"], &found["status"]), (&json!("1"), &json!(run), &json!("READY")));
    assert_eq!((&found["current_stage"], &found["tags"]), (&json!("None"), &json!([{"key": "kind", "value": "line"}])));
    let uri = get(&server, "model-versions/get-download-uri?name=paper&version=1").ok()["artifact_uri"].clone();
    assert!(uri.as_str().is_some_and(|uri| uri.starts_with("mlflow-artifacts:/versions/")), "{uri}");

    let new = json!({
        "name": "paper", "source": "models:/paper/1", "run_id": run, "description": "a copy", "run_link": "https://example.com/r",
        "tags": [{"key": "a", "value": "b"}],
    });
    let copy = send(&server, "POST", "model-versions/create", &new).ok()["model_version"].clone();
    assert_eq!(
        (&copy["version"], &copy["source"], &copy["run_id"]),
        (&json!("2"), &json!("models:/paper/1"), &json!(run))
    );
    assert_eq!(get(&server, "model-versions/get-download-uri?name=paper&version=2").ok()["artifact_uri"], uri);
    let ours = server.get("/api/v1/models/paper/versions/2").ok();
    assert_eq!((&ours["flavors"], &ours["source"]), (&json!(["onnx", "python_function"]), &json!("models:/paper/1")));
    assert_eq!(ours["files"], server.get("/api/v1/models/paper/versions/1").ok()["files"], "nothing is copied");
    assert_eq!(ours["signature"]["inputs"][0], json!({"name": "x", "type": "float"}));

    for (body, status, code) in [
        (json!({"name": "paper"}), 400, "INVALID_PARAMETER_VALUE"),
        (json!({"name": "paper", "source": "/etc/passwd"}), 400, "INVALID_PARAMETER_VALUE"),
        (json!({"name": "paper", "source": "file:///etc"}), 400, "INVALID_PARAMETER_VALUE"),
        (json!({"name": "paper", "source": "s3://b/%252e%252e/x"}), 400, "INVALID_PARAMETER_VALUE"),
        (json!({"name": "paper", "source": "http://127.0.0.1/x"}), 400, "INVALID_PARAMETER_VALUE"),
        (json!({"name": "paper", "source": uri}), 400, "INVALID_PARAMETER_VALUE"),
        (json!({"name": "paper", "source": "s3://b/x", "run_id": "none"}), 404, "RESOURCE_DOES_NOT_EXIST"),
        (json!({"name": "paper", "source": "models:/m-none"}), 404, "RESOURCE_DOES_NOT_EXIST"),
        (json!({"name": "absent", "source": "s3://b/x"}), 404, "RESOURCE_DOES_NOT_EXIST"),
    ] {
        refused(&send(&server, "POST", "model-versions/create", &body), status, code);
    }
    let changed = json!({"name": "paper", "version": "2", "description": "better"});
    assert_eq!(
        send(&server, "PATCH", "model-versions/update", &changed).ok()["model_version"]["description"],
        "better"
    );
    let tag = json!({"name": "paper", "version": 2, "key": "c", "value": "d"});
    send(&server, "POST", "model-versions/set-tag", &tag).ok();
    send(&server, "DELETE", "model-versions/delete-tag", &json!({"name": "paper", "version": "2", "key": "a"})).ok();
    assert_eq!(server.get("/api/v1/models/paper/versions/2").ok()["tags"], json!({"c": "d"}));
    send(&server, "DELETE", "model-versions/delete", &json!({"name": "paper", "version": "1"})).ok();
    refused(&get(&server, "model-versions/get?name=paper&version=1"), 404, "RESOURCE_DOES_NOT_EXIST");
    for (version, status, code) in [
        ("x", 400, "INVALID_PARAMETER_VALUE"),
        ("0", 404, "RESOURCE_DOES_NOT_EXIST"),
        ("-1", 404, "RESOURCE_DOES_NOT_EXIST"),
        ("99999999999999", 404, "RESOURCE_DOES_NOT_EXIST"),
        ("", 400, "INVALID_PARAMETER_VALUE"),
    ] {
        refused(&get(&server, &format!("model-versions/get?name=paper&version={version}")), status, code);
    }
}

#[test]
fn aliases_and_stages_name_versions() {
    let (server, _data) = Server::fresh();
    for weights in ["1", "2"] {
        register(&server, "paper", weights);
    }
    let alias = |alias: &str, version: &str| json!({"name": "paper", "alias": alias, "version": version});
    send(&server, "POST", "registered-models/alias", &alias("Best_1", "1")).ok();
    let found = get(&server, "registered-models/alias?name=paper&alias=Best_1").ok()["model_version"].clone();
    assert_eq!((&found["version"], &found["aliases"]), (&json!("1"), &json!(["Best_1"])));
    let model = get(&server, "registered-models/get?name=paper").ok()["registered_model"].clone();
    assert_eq!(model["aliases"], json!([{"alias": "Best_1", "version": "1"}]));
    for bad in ["latest", "LATEST", "v3", "3", "a b", "é"] {
        refused(&send(&server, "POST", "registered-models/alias", &alias(bad, "1")), 400, "INVALID_PARAMETER_VALUE");
    }
    refused(&send(&server, "POST", "registered-models/alias", &alias("x", "9")), 404, "RESOURCE_DOES_NOT_EXIST");
    for _ in 0..2 {
        send(&server, "DELETE", "registered-models/alias", &json!({"name": "paper", "alias": "Best_1"})).ok();
    }
    refused(&get(&server, "registered-models/alias?name=paper&alias=Best_1"), 400, "INVALID_PARAMETER_VALUE");
    refused(&get(&server, "registered-models/alias?name=absent&alias=x"), 404, "RESOURCE_DOES_NOT_EXIST");
    assert_eq!(server.put("/api/v1/models/paper/aliases/champion", &json!({"version": 9})).status, 404);

    let stage = |version: &str, stage: &str, archive: bool| {
        let body = json!({"name": "paper", "version": version, "stage": stage, "archive_existing_versions": archive});
        send(&server, "POST", "model-versions/transition-stage", &body)
    };
    assert_eq!(stage("1", "production", false).ok()["model_version"]["current_stage"], "Production");
    stage("2", "Production", true).ok();
    refused(&stage("2", "Archived", true), 400, "INVALID_PARAMETER_VALUE");
    refused(&stage("2", "live", false), 400, "INVALID_PARAMETER_VALUE");
    let latest = send(
        &server,
        "POST",
        "registered-models/get-latest-versions",
        &json!({"name": "paper", "stages": ["production"]}),
    )
    .ok();
    assert_eq!(latest["model_versions"][0]["version"], "2");
    let all = get(&server, "registered-models/get-latest-versions?name=paper").ok();
    assert_eq!(all["model_versions"].as_array().map(Vec::len), Some(2));
}

#[test]
fn what_an_endpoint_serves_is_neither_deleted_nor_renamed() {
    let (server, _data) = Server::fresh();
    server.demo_sensors(Some(START));
    let champion =
        get(&server, &format!("registered-models/alias?name={ENDPOINT}&alias=champion")).ok()["model_version"].clone();
    let version = json!({"name": ENDPOINT, "version": champion["version"]});
    for (method, path, body) in [
        ("DELETE", "model-versions/delete", version),
        ("DELETE", "registered-models/delete", json!({"name": ENDPOINT})),
        ("POST", "registered-models/rename", json!({"name": ENDPOINT, "new_name": "another"})),
    ] {
        let answer = send(&server, method, path, &body);
        refused(&answer, 400, "INVALID_PARAMETER_VALUE");
        assert!(
            answer.body["message"].as_str().is_some_and(|text| text.contains("served by endpoint")),
            "{}",
            answer.body
        );
    }
    let again = get(&server, &format!("registered-models/alias?name={ENDPOINT}&alias=champion")).ok();
    assert_eq!(again["model_version"], champion, "a refused change changes nothing");
}
