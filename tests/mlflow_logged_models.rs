//! Logged models over the wire, as MLflow's client calls them.

mod support;

use std::sync::LazyLock;

use serde_json::{Value, json};
use support::{Answer, Server};

static SERVER: LazyLock<Server> = LazyLock::new(|| {
    let (server, data) = Server::fresh();
    server.leash(data);
    server
});

const API: &str = "/api/2.0/mlflow/logged-models";

/// A run in an experiment of its own, and that experiment's id.
fn run_in(experiment: &str) -> (String, String) {
    let run = SERVER.post("/api/v1/runs", &json!({"experiment": experiment})).ok();
    // No call of this test's part tells ids of experiments, but artifact locations hold them: try until one fits.
    let id = run["id"].as_str().expect("an id").to_owned();
    let tried = (0..100).map(|n| n.to_string());
    let found = tried.into_iter().find(|n| {
        let made = SERVER.post(API, &json!({"experiment_id": n, "name": "probe", "source_run_id": id}));
        let Answer { status: 200, body } = made else { return false };
        SERVER.call("DELETE", &format!("{API}/{}", text(&body["model"]["info"]["model_id"])), "", b"").ok();
        true
    });
    (id, found.expect("an experiment"))
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

fn patch(path: &str, body: &Value) -> Answer {
    SERVER.call("PATCH", path, "application/json", body.to_string().as_bytes())
}

#[test]
fn a_model_is_logged_finalized_tagged_and_deleted() {
    let (run, experiment) = run_in("life");
    let new = json!({
        "experiment_id": experiment, "name": "tree", "model_type": "sklearn", "source_run_id": run,
        "params": [{"key": "depth", "value": "3"}], "tags": [{"key": "team", "value": "a"}], "unknown": 1,
    });
    let made = SERVER.post(API, &new).ok()["model"].clone();
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
        assert_eq!(SERVER.post(&format!("{path}/params"), &body).ok(), json!({}));
        let ready = patch(&path, &json!({"model_id": id, "status": "LOGGED_MODEL_READY"})).ok();
        assert_eq!(ready["model"]["info"]["status"], "LOGGED_MODEL_READY");
        let tags = json!({"tags": [{"key": "a/b c", "value": "x"}, {"key": "team", "value": "b"}]});
        patch(&format!("{path}/tags"), &tags).ok();
    }
    let found = SERVER.get(&format!("/ajax-api/2.0/mlflow/logged-models/{id}")).ok();
    let tags = json!([{"key": "a/b c", "value": "x"}, {"key": "team", "value": "b"}]);
    assert_eq!(found["model"]["info"]["tags"], tags);
    assert_eq!(found["model"]["data"]["params"].as_array().map(Vec::len), Some(2));
    let removed = SERVER.call("DELETE", &format!("{path}/tags/a/b%20c"), "application/json", b"{}").ok();
    assert_eq!(removed["model"]["info"]["tags"], json!([{"key": "team", "value": "b"}]));
    let again = SERVER.call("DELETE", &format!("{path}/tags/a/b%20c"), "application/json", b"{}");
    assert!(refused(again, 404, "RESOURCE_DOES_NOT_EXIST").contains("a/b c"));

    assert_eq!(SERVER.call("DELETE", &path, "", b"").ok(), json!({}));
    assert!(refused(SERVER.get(&path), 404, "RESOURCE_DOES_NOT_EXIST").contains(id));
    refused(patch(&path, &json!({"status": "LOGGED_MODEL_READY"})), 404, "RESOURCE_DOES_NOT_EXIST");
}

#[test]
fn wrong_calls_are_refused_with_what_is_wrong() {
    let (_, experiment) = run_in("wrong");
    let create = |body: Value| SERVER.post(API, &body);
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
    assert!(refused(patch(&path, &json!({"status": "DONE"})), 400, invalid).contains("LOGGED_MODEL_READY"));
    refused(patch(&path, &json!({"status": "LOGGED_MODEL_STATUS_UNSPECIFIED"})), 400, invalid);
    refused(SERVER.get(&format!("{API}/m-%00")), 404, "RESOURCE_DOES_NOT_EXIST");

    let search = |more: Value| {
        let mut body = json!({"experiment_ids": [experiment]});
        body.as_object_mut().expect("an object").extend(more.as_object().cloned().expect("an object"));
        SERVER.post(&format!("{API}/search"), &body)
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
    let (_, experiment) = run_in("many");
    for i in 0..5 {
        let kind = if i % 2 == 0 { "even" } else { "odd" };
        let tags = json!([{"key": "kind", "value": kind}]);
        SERVER.post(API, &json!({"experiment_id": experiment, "name": format!("n{i}"), "tags": tags})).ok();
    }
    let names = |more: Value| {
        let mut body = json!({"experiment_ids": [experiment], "max_results": 2});
        body.as_object_mut().expect("an object").extend(more.as_object().cloned().expect("an object"));
        let (mut names, mut pages) = (Vec::new(), 0);
        loop {
            let page = SERVER.post(&format!("{API}/search"), &body).ok();
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
    assert_eq!(names(json!({"filter": "tags.kind = 'odd' AND status = 'PENDING'"})), ("n3 n1".into(), 1), "a full last page");
    assert_eq!(names(json!({"filter": "metrics.loss < 1"})), (String::new(), 1));
    assert_eq!(names(json!({"datasets": [{"dataset_name": "d"}]})), (String::new(), 1));
}
