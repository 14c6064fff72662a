//! Logged models over the wire, as MLflow's client calls them.

mod support;

use serde_json::{Value, json};
use support::{Answer, Server};
use tempfile::TempDir;

const API: &str = "/api/2.0/mlflow/logged-models";

/// A server of its own, a run on it, and an experiment that models can be logged in.
fn fresh() -> (Server, TempDir, String, String) {
    let (server, data) = Server::fresh();
    let run = server.post("/api/v1/runs", &json!({"experiment": "ponds"})).ok();
    let run = text(&run["id"]).to_owned();
    // The calls of this part do not tell ids of experiments: take the first there is.
    let exists = |id: &String| {
        let made = server.post(API, &json!({"experiment_id": id}));
        if made.status != 200 {
            return false;
        }
        let model = text(&made.body["model"]["info"]["model_id"]).to_owned();
        server.call("DELETE", &format!("{API}/{model}"), "", b"").ok();
        true
    };
    let experiment = (0..9).map(|n| n.to_string()).find(exists).expect("an experiment");
    (server, data, run, experiment)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("a text, not {value}"))
}

/// Checks that this is an error as MLflow's client reads it, and returns its message.
#[track_caller]
fn refused(answer: Answer, status: u16, code: &str) -> String {
    assert_eq!((answer.status, answer.body["error_code"].as_str()), (status, Some(code)), "{}", answer.body);
    text(&answer.body["message"]).to_owned()
}

fn patch(server: &Server, path: &str, body: &Value) -> Answer {
    server.call("PATCH", path, "application/json", body.to_string().as_bytes())
}

#[test]
fn a_model_is_logged_finalized_tagged_and_deleted() {
    let (server, _data, run, experiment) = fresh();
    let new = json!({
        "experiment_id": experiment, "name": "tree", "model_type": "sklearn", "source_run_id": run,
        "params": [{"key": "depth", "value": "3"}], "tags": [{"key": "team", "value": "a"}], "unknown": 1,
    });
    let made = server.post(API, &new).ok()["model"].clone();
    let info = &made["info"];
    let id = text(&info["model_id"]);
    assert!(id.len() == 34 && id.starts_with("m-"), "{id}");
    assert_eq!((&info["status"], &info["name"]), (&json!("LOGGED_MODEL_PENDING"), &json!("tree")));
    assert_eq!((text(&info["experiment_id"]), text(&info["source_run_id"])), (&*experiment, &*run));
    assert!(text(&info["artifact_uri"]).ends_with(&format!("/models/{id}/artifacts")), "{info}");
    assert!(info["creation_timestamp_ms"].as_i64().is_some_and(|ms| ms > 1_600_000_000_000), "{info}");
    assert_eq!(made["data"], json!({"params": [{"key": "depth", "value": "3"}]}));
    assert!(info.get("registrations").is_none() && info.get("status_message").is_none(), "unset is absent: {info}");

    let path = format!("{API}/{id}");
    for _ in 0..2 {
        let body = json!({"params": [{"key": "seed", "value": "7"}, {"key": "depth", "value": "3"}]});
        assert_eq!(server.post(&format!("{path}/params"), &body).ok(), json!({}));
        let ready = patch(&server, &path, &json!({"model_id": id, "status": "LOGGED_MODEL_READY"})).ok();
        assert_eq!(ready["model"]["info"]["status"], "LOGGED_MODEL_READY");
        let tags = json!({"tags": [{"key": "a/b c", "value": "x"}, {"key": "team", "value": "b"}]});
        patch(&server, &format!("{path}/tags"), &tags).ok();
    }
    let found = server.get(&format!("/ajax-api/2.0/mlflow/logged-models/{id}")).ok();
    let tags = json!([{"key": "a/b c", "value": "x"}, {"key": "team", "value": "b"}]);
    assert_eq!(found["model"]["info"]["tags"], tags);
    assert_eq!(found["model"]["data"]["params"].as_array().map(Vec::len), Some(2));
    let removed = server.call("DELETE", &format!("{path}/tags/a/b%20c"), "application/json", b"{}").ok();
    assert_eq!(removed["model"]["info"]["tags"], json!([{"key": "team", "value": "b"}]));
    let again = server.call("DELETE", &format!("{path}/tags/a/b%20c"), "application/json", b"{}");
    assert!(refused(again, 404, "RESOURCE_DOES_NOT_EXIST").contains("a/b c"));

    assert_eq!(server.call("DELETE", &path, "", b"").ok(), json!({}));
    assert!(refused(server.get(&path), 404, "RESOURCE_DOES_NOT_EXIST").contains(id));
    refused(patch(&server, &path, &json!({"status": "LOGGED_MODEL_READY"})), 404, "RESOURCE_DOES_NOT_EXIST");
}

#[test]
fn wrong_calls_are_refused_with_what_is_wrong() {
    let (server, _data, _, experiment) = fresh();
    let create = |body: Value| server.post(API, &body);
    let invalid = "INVALID_PARAMETER_VALUE";
    assert!(refused(create(json!({})), 400, invalid).contains("experiment_id"));
    refused(create(json!({"experiment_id": "x"})), 400, invalid);
    refused(create(json!({"experiment_id": "987654"})), 404, "RESOURCE_DOES_NOT_EXIST");
    let body = json!({"experiment_id": experiment, "name": "a/b"});
    assert!(refused(create(body), 400, invalid).contains("without / : . %"));
    let nobody = "0".repeat(32);
    for run in [nobody.as_str(), "no-id"] {
        let body = json!({"experiment_id": experiment, "source_run_id": run});
        refused(create(body), 404, "RESOURCE_DOES_NOT_EXIST");
    }
    let made = create(json!({"experiment_id": experiment})).ok();
    let path = format!("{API}/{}", text(&made["model"]["info"]["model_id"]));
    assert_eq!(text(&made["model"]["info"]["name"]).split('-').count(), 3, "a name is made up: {made}");
    assert!(refused(patch(&server, &path, &json!({"status": "DONE"})), 400, invalid).contains("LOGGED_MODEL_READY"));
    refused(patch(&server, &path, &json!({"status": "LOGGED_MODEL_STATUS_UNSPECIFIED"})), 400, invalid);
    assert!(refused(server.get(&format!("{API}/m-%00")), 400, invalid).contains("NUL character"));

    let search = |more: Value| {
        let mut body = json!({"experiment_ids": [experiment]});
        body.as_object_mut().expect("an object").extend(more.as_object().cloned().expect("an object"));
        server.post(&format!("{API}/search"), &body)
    };
    let message = refused(search(json!({"filter": "metrik.a > 1"})), 400, invalid);
    assert!(message.contains("`metrik` at column 1") && message.contains("did you mean `metrics`?"), "{message}");
    refused(search(json!({"order_by": [{"field_name": "nme"}]})), 400, invalid);
    refused(search(json!({"order_by": ["name"]})), 400, invalid);
    refused(search(json!({"max_results": 0})), 400, invalid);
    refused(search(json!({"page_token": "abc"})), 400, invalid);
}

#[test]
fn models_are_searched_page_by_page() {
    let (server, _data, _, experiment) = fresh();
    for i in 0..5 {
        let kind = if i % 2 == 0 { "even" } else { "odd" };
        let tags = json!([{"key": "kind", "value": kind}]);
        server.post(API, &json!({"experiment_id": experiment, "name": format!("n{i}"), "tags": tags})).ok();
    }
    let names = |more: Value| {
        let mut body = json!({"experiment_ids": [experiment], "max_results": 2});
        body.as_object_mut().expect("an object").extend(more.as_object().cloned().expect("an object"));
        let (mut names, mut pages) = (Vec::new(), 0);
        loop {
            let page = server.post(&format!("{API}/search"), &body).ok();
            pages += 1;
            let models = page["models"].as_array().cloned().unwrap_or_default();
            names.extend(models.iter().map(|model| text(&model["info"]["name"]).to_owned()));
            match page.get("next_page_token") {
                Some(token) => body["page_token"] = token.clone(),
                None => return (names.join(" "), pages),
            }
        }
    };
    assert_eq!(names(json!({})), ("n4 n3 n2 n1 n0".into(), 3), "newest first");
    assert_eq!(names(json!({"order_by": [{"field_name": "name"}]})), ("n0 n1 n2 n3 n4".into(), 3));
    let order = json!([{"field_name": "tags.kind", "ascending": false}, {"field_name": "name", "ascending": true}]);
    assert_eq!(names(json!({"order_by": order})), ("n1 n3 n0 n2 n4".into(), 3));
    assert_eq!(
        names(json!({"filter": "tags.kind = 'odd' AND status = 'PENDING'"})),
        ("n3 n1".into(), 1),
        "a full last page"
    );
    assert_eq!(names(json!({"filter": "metrics.loss < 1"})), (String::new(), 1));
    assert_eq!(names(json!({"datasets": [{"dataset_name": "d"}]})), (String::new(), 1));
}
