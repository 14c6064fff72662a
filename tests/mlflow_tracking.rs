//! MLflow's calls for experiments, runs and metrics as its client sends them: JSON in, JSON out.

mod support;

use std::sync::LazyLock;

use serde_json::{Value, json};
use support::{Answer, Server};

static SERVER: LazyLock<Server> = LazyLock::new(|| {
    let (server, data) = Server::fresh();
    server.leash(data);
    server
});

const API: &str = "/api/2.0/mlflow";

fn post(call: &str, body: &Value) -> Answer {
    SERVER.post(&format!("{API}/{call}"), body)
}

fn get(call: &str) -> Answer {
    SERVER.get(&format!("{API}/{call}"))
}

/// Checks that the answer is an error as MLflow's client reads it, and returns its message.
#[track_caller]
fn refused(answer: Answer, status: u16, code: &str) -> String {
    assert_eq!((answer.status, answer.body["error_code"].as_str()), (status, Some(code)), "{}", answer.body);
    answer.body["message"].as_str().expect("an error has a message").to_owned()
}

#[track_caller]
fn invalid(answer: Answer) -> String {
    refused(answer, 400, "INVALID_PARAMETER_VALUE")
}

#[track_caller]
fn missing(answer: Answer) -> String {
    refused(answer, 404, "RESOURCE_DOES_NOT_EXIST")
}

#[track_caller]
fn done(answer: Answer) {
    assert_eq!(answer.ok(), json!({}));
}

fn experiment(name: &str) -> String {
    let made = post("experiments/create", &json!({"name": name})).ok();
    made["experiment_id"].as_str().expect("an id is a text").to_owned()
}

fn run() -> String {
    let made = post("runs/create", &json!({"experiment_id": "0", "start_time": 1_700_000_000_123_i64})).ok();
    made["run"]["info"]["run_id"].as_str().expect("an id").to_owned()
}

fn read(run: &str) -> Value {
    get(&format!("runs/get?run_id={run}")).ok()["run"].clone()
}

/// The value of a key in a list of pairs.
fn value<'a>(list: &'a Value, key: &str) -> &'a Value {
    let pairs = list.as_array().into_iter().flatten();
    pairs.into_iter().find(|pair| pair["key"] == key).map_or(&Value::Null, |pair| &pair["value"])
}

const NOBODY: &str = "00000000000000000000000000000000";

#[test]
fn an_experiment_lives_through_its_calls() {
    let body = json!({"name": "wire/a é", "tags": [{"key": "team", "value": "x"}], "unknown": [1]});
    let id = post("experiments/create", &body).ok()["experiment_id"].as_str().expect("an id").to_owned();
    let found = get(&format!("experiments/get?experiment_id={id}")).ok()["experiment"].clone();
    assert_eq!(found["name"], "wire/a é");
    assert_eq!(found["experiment_id"], id.as_str());
    assert_eq!(found["artifact_location"], format!("mlflow-artifacts:/{id}"));
    assert_eq!(found["lifecycle_stage"], "active");
    assert_eq!(found["tags"], json!([{"key": "team", "value": "x"}]));
    assert!(found["creation_time"].as_i64().is_some_and(|ms| (1_600_000_000_000..10_000_000_000_000).contains(&ms)));
    let by_name = get("experiments/get-by-name?experiment_name=wire%2Fa%20%C3%A9").ok();
    assert_eq!(by_name["experiment"], found);
    let ajax = SERVER.get(&format!("/ajax-api/2.0/mlflow/experiments/get?experiment_id={id}")).ok();
    assert_eq!(ajax["experiment"], found);

    done(post("experiments/set-experiment-tag", &json!({"experiment_id": id, "key": "k", "value": "v"})));
    done(post("experiments/delete-experiment-tag", &json!({"experiment_id": id, "key": "team"})));
    missing(post("experiments/delete-experiment-tag", &json!({"experiment_id": id, "key": "team"})));
    done(post("experiments/update", &json!({"experiment_id": id, "new_name": "wire/b"})));
    refused(post("experiments/create", &json!({"name": "wire/b"})), 400, "RESOURCE_ALREADY_EXISTS");
    done(post("experiments/delete", &json!({"experiment_id": id})));
    let found = get("experiments/get-by-name?experiment_name=wire/b").ok()["experiment"].clone();
    assert_eq!((&found["lifecycle_stage"], &found["tags"][0]["key"]), (&json!("deleted"), &json!("k")));
    invalid(post("experiments/update", &json!({"experiment_id": id, "new_name": "wire/c"})));
    invalid(post("experiments/set-experiment-tag", &json!({"experiment_id": id, "key": "k", "value": "v"})));
    refused(post("experiments/create", &json!({"name": "wire/b"})), 400, "RESOURCE_ALREADY_EXISTS");
    invalid(post("runs/create", &json!({"experiment_id": id})));
    done(post("experiments/restore", &json!({"experiment_id": id})));
    done(post("experiments/restore", &json!({"experiment_id": id})));
}

#[test]
fn what_experiments_refuse() {
    let default = get("experiments/get?experiment_id=0").ok();
    assert_eq!(default["experiment"]["name"], "Default");
    for call in [
        "experiments/get?experiment_id=999",
        "experiments/get?experiment_id=x",
        "experiments/get-by-name?experiment_name=nobody",
    ] {
        missing(get(call));
    }
    for call in ["delete", "restore"] {
        missing(post(&format!("experiments/{call}"), &json!({"experiment_id": "999"})));
    }
    missing(post("experiments/update", &json!({"experiment_id": "999", "new_name": "x"})));
    assert!(invalid(get("experiments/get")).contains("experiment_id"));
    assert!(invalid(post("experiments/create", &json!({}))).contains("name"));
    assert!(invalid(post("experiments/update", &json!({"experiment_id": "0"}))).contains("new_name"));
    invalid(post("experiments/create", &json!({"name": "n".repeat(501)})));
    for location in ["/etc", "file:///etc", "s3://b/../x", "s3://b/%2e%2e/x", "mlflow-artifacts:/a?x", "s3://a#b"] {
        invalid(post("experiments/create", &json!({"name": "bad place", "artifact_location": location})));
    }
    invalid(post(
        "experiments/set-experiment-tag",
        &json!({"experiment_id": "0", "key": "k", "value": "v".repeat(20_001)}),
    ));
    invalid(post("experiments/search", &json!({"max_results": 0})));
    invalid(post("experiments/search", &json!({"max_results": 50_001})));
    invalid(get("experiments/search?view_type=SOME&max_results=1"));
    refused(SERVER.call("POST", &format!("{API}/experiments/create"), "application/json", b"{"), 400, "BAD_REQUEST");
    refused(get("experiments/list"), 404, "ENDPOINT_NOT_FOUND");
}

#[test]
fn a_created_run_answers_whole() {
    let id = experiment("wire runs");
    let tags = json!([{"key": "mlflow.user", "value": "ada"}, {"key": "mlflow.source.name", "value": "train.py"}]);
    let body = json!({"experiment_id": id, "start_time": "1700000000123", "run_name": "first", "tags": tags});
    let run = post("runs/create", &body).ok()["run"].clone();
    let info = &run["info"];
    let run_id = info["run_id"].as_str().expect("an id");
    assert!(run_id.len() == 32 && info["run_uuid"] == run_id, "{info}");
    assert_eq!((&info["status"], &info["lifecycle_stage"]), (&json!("RUNNING"), &json!("active")));
    assert_eq!((&info["run_name"], &info["user_id"]), (&json!("first"), &json!("ada")));
    assert_eq!((&info["experiment_id"], &info["start_time"]), (&json!(id), &json!(1_700_000_000_123_i64)));
    assert_eq!(info["artifact_uri"], format!("mlflow-artifacts:/{id}/{run_id}/artifacts"));
    assert!(info.get("end_time").is_none(), "unset fields are absent");
    assert_eq!(value(&run["data"]["tags"], "mlflow.runName"), "first");
    assert_eq!(read(run_id), run);

    let unnamed = post("runs/create", &json!({"experiment_id": id})).ok()["run"].clone();
    let name = unnamed["info"]["run_name"].as_str().expect("a name");
    assert_eq!(name.split('-').count(), 3, "{name}");
    let two_names = json!({"experiment_id": id, "run_name": "a", "tags": [{"key": "mlflow.runName", "value": "b"}]});
    assert!(invalid(post("runs/create", &two_names)).contains("mlflow.runName"));
    missing(post("runs/create", &json!({"experiment_id": "999"})));
    invalid(post("runs/create", &json!({"experiment_id": id, "start_time": "soon"})));
    invalid(post("runs/create", &json!({"experiment_id": id, "start_time": i64::MAX})));
}

#[test]
fn a_run_is_updated_deleted_and_restored() {
    let run = run();
    let body = json!({"run_uuid": run, "status": "FINISHED", "end_time": 1_700_000_009_999_i64, "run_name": "renamed"});
    let info = post("runs/update", &body).ok()["run_info"].clone();
    assert_eq!((&info["status"], &info["end_time"]), (&json!("FINISHED"), &json!(1_700_000_009_999_i64)));
    assert_eq!(value(&read(&run)["data"]["tags"], "mlflow.runName"), "renamed");
    for status in ["RUNNING", "KILLED", "FAILED", "SCHEDULED", "RUNNING"] {
        let info = post("runs/update", &json!({"run_id": run, "status": status})).ok();
        assert_eq!(info["run_info"]["status"], status);
    }
    invalid(post("runs/update", &json!({"run_id": run, "status": "LOST"})));
    done(post("runs/delete", &json!({"run_id": run})));
    done(post("runs/delete", &json!({"run_id": run})));
    assert_eq!(read(&run)["info"]["lifecycle_stage"], "deleted");
    invalid(post("runs/update", &json!({"run_id": run, "status": "FINISHED"})));
    invalid(post("runs/set-tag", &json!({"run_id": run, "key": "a", "value": "b"})));
    invalid(post("runs/log-metric", &json!({"run_id": run, "key": "a", "value": 1, "timestamp": 1})));
    done(post("runs/restore", &json!({"run_id": run})));
    done(post("runs/set-tag", &json!({"run_id": run, "key": "a", "value": "b"})));
    for id in [NOBODY, "no id at all"] {
        missing(SERVER.get(&format!("{API}/runs/get?run_id={}", id.replace(' ', "%20"))));
        for call in ["update", "delete", "restore", "log-inputs", "outputs", "log-batch"] {
            missing(post(&format!("runs/{call}"), &json!({"run_id": id})));
        }
    }
    assert!(invalid(get("runs/get")).contains("run_id"));
}

#[test]
fn parameters_and_tags_follow_their_rules() {
    let run = run();
    let param =
        |key: &str, value: &str| post("runs/log-parameter", &json!({"run_id": run, "key": key, "value": value}));
    done(param("lr", "0.1"));
    done(param("lr", "0.1"));
    assert!(invalid(param("lr", "0.2")).contains("lr"));
    done(param("long", &"é".repeat(6_001)));
    done(param("empty", ""));
    for key in ["", "a//b", "../x", "a%b", &"k".repeat(251)] {
        invalid(param(key, "v"));
    }
    missing(post("runs/log-parameter", &json!({"run_id": NOBODY, "key": "a", "value": "b"})));
    let tag = |key: &str, value: &str| post("runs/set-tag", &json!({"run_id": run, "key": key, "value": value}));
    done(tag("état", "1"));
    done(tag("état", "2"));
    done(tag("long", &"v".repeat(9_000)));
    done(tag("mlflow.runName", "tagged"));
    done(tag("mlflow.user", "bob"));
    invalid(tag("a\\b", "v"));
    let found = read(&run);
    let (info, data) = (&found["info"], &found["data"]);
    assert_eq!((&info["run_name"], &info["user_id"]), (&json!("tagged"), &json!("bob")));
    assert_eq!((value(&data["tags"], "état"), value(&data["params"], "empty")), (&json!("2"), &json!("")));
    let length = |list: &str| value(&data[list], "long").as_str().map(|text| text.chars().count());
    assert_eq!((length("params"), length("tags")), (Some(6_000), Some(8_000)));
    let delete = |key: &str| post("runs/delete-tag", &json!({"run_id": run, "key": key}));
    done(delete("état"));
    missing(delete("état"));
    invalid(delete("mlflow.runName"));
}

#[test]
fn the_newest_metric_stands_with_the_run_and_history_has_all() {
    let run = run();
    let log = |value: Value, timestamp: i64, step: i64| {
        let body = json!({"run_id": run, "key": "loss", "value": value, "timestamp": timestamp, "step": step});
        post("runs/log-metric", &body)
    };
    done(log(json!(0.5), 1_000, 1));
    done(log(json!("NaN"), 3_000, 3));
    done(log(json!("Infinity"), 2_000, 2));
    done(log(json!("Infinity"), 2_000, 2));
    let newest = json!({"key": "loss", "value": "NaN", "timestamp": 3_000, "step": 3});
    assert_eq!(read(&run)["data"]["metrics"], json!([newest]));
    let history = |query: &str| get(&format!("metrics/get-history?run_id={run}&metric_key={query}"));
    let all = history("loss").ok();
    let shape: Vec<_> =
        all["metrics"].as_array().expect("points").iter().map(|p| (p["step"].clone(), p["value"].clone())).collect();
    let wanted = [(json!(1), json!(0.5)), (json!(2), json!("Infinity")), (json!(3), json!("NaN"))];
    assert_eq!((shape.as_slice(), all.get("next_page_token")), (wanted.as_slice(), None));
    let first = history("loss&max_results=2").ok();
    let token = first["next_page_token"].as_str().expect("there is more");
    let rest = history(&format!("loss&max_results=2&page_token={token}")).ok();
    assert_eq!((first["metrics"].as_array().map(Vec::len), rest["metrics"][0]["step"].clone()), (Some(2), json!(3)));
    assert!(rest.get("next_page_token").is_none());
    assert_eq!(history("never").ok(), json!({}));
    invalid(history("loss&page_token=nonsense"));
    invalid(history("loss&max_results=0"));
    assert!(invalid(get(&format!("metrics/get-history?run_id={run}"))).contains("metric_key"));
    missing(get(&format!("metrics/get-history?run_id={NOBODY}&metric_key=loss")));

    invalid(log(json!("many"), 1, 1));
    invalid(log(json!(1), -1, 1));
    assert!(invalid(post("runs/log-metric", &json!({"run_id": run, "key": "m", "value": 1}))).contains("timestamp"));
    assert!(invalid(post("runs/log-metric", &json!({"run_id": run, "key": "m", "timestamp": 1}))).contains("value"));
    missing(post("runs/log-metric", &json!({"run_id": NOBODY, "key": "m", "value": 1, "timestamp": 1})));
    let body = json!({"run_id": run, "key": "m", "value": 1, "timestamp": 1, "model_id": "m-none"});
    missing(post("runs/log-metric", &body));
    post("runs/update", &json!({"run_id": run, "status": "FINISHED"})).ok();
    done(log(json!(1), 4_000, 4));

    let chart = SERVER.get(&format!("/api/v1/runs/{run}/metrics/loss/chart?points=5")).ok();
    assert_eq!((&chart["total"], &chart["points"][3]["value"]), (&json!(4), &json!(1.0)));
    SERVER.get(&format!("/api/v1/runs/{run}/metrics/loss/chart?points=1")).problem(400, "invalid_argument");
    SERVER.get(&format!("/api/v1/runs/{NOBODY}/metrics/loss/chart")).problem(404, "not_found");
}

#[test]
fn a_batch_is_taken_whole_or_refused_with_the_place() {
    let run = run();
    let metric = |step: i64| json!({"key": "acc", "value": 0.5, "timestamp": 1_000 + step, "step": step});
    let batch = json!({
        "run_id": run,
        "metrics": (0..700).map(metric).collect::<Vec<_>>(),
        "params": [{"key": "a", "value": "1"}, {"key": "a", "value": "1"}],
        "tags": [{"key": "t", "value": "1"}, {"key": "t", "value": "2"}],
    });
    done(post("runs/log-batch", &batch));
    done(post("runs/log-batch", &batch));
    let data = read(&run)["data"].clone();
    assert_eq!(data["metrics"], json!([metric(699)]));
    assert_eq!((value(&data["params"], "a"), value(&data["tags"], "t")), (&json!("1"), &json!("2")));
    let history = get(&format!("metrics/get-history?run_id={run}&metric_key=acc")).ok();
    assert_eq!(history["metrics"].as_array().map(Vec::len), Some(700));

    let pairs = |count: usize| (0..count).map(|i| json!({"key": format!("k{i}"), "value": "v"})).collect::<Vec<_>>();
    let one = json!([{"key": "new", "value": 1, "timestamp": 1}]);
    let bad = [
        (json!({"metrics": one, "params": [{"key": "a", "value": "2"}]}), "`a`"),
        (json!({"metrics": one, "params": [{"key": "b", "value": "1"}, {"key": "b", "value": "2"}]}), "`b`"),
        (json!({"metrics": [one[0], {"key": "x", "value": 1}]}), "metrics[1]"),
        (json!({"metrics": [one[0], {"key": "x", "timestamp": 1}]}), "value"),
        (json!({"metrics": one, "tags": [{"key": "", "value": "1"}]}), "tags[0]"),
        (json!({"metrics": one, "params": pairs(101)}), "100"),
        (json!({"metrics": one, "tags": pairs(101)}), "100"),
        (json!({"metrics": (0..1_001).map(metric).collect::<Vec<_>>()}), "1000"),
        (json!({"metrics": (0..901).map(metric).collect::<Vec<_>>(), "params": pairs(50), "tags": pairs(50)}), "1000"),
        (json!({"metrics": one, "tags": [{"key": "x", "value": "v".repeat(1_000_001)}]}), "1000000"),
        (json!({"metrics": one, "tags": "x"}), "tags"),
    ];
    for (mut body, named) in bad {
        body["run_id"] = json!(run);
        let message = invalid(post("runs/log-batch", &body));
        assert!(message.contains(named), "{named}: {message}");
    }
    assert_eq!(read(&run)["data"], data, "nothing is half-written");
    assert_eq!(get(&format!("metrics/get-history?run_id={run}&metric_key=new")).ok(), json!({}));
}

#[test]
fn series_of_several_runs_are_compared() {
    let runs = [run(), run()];
    for run in &runs {
        let metric = |step: i64| json!({"key": "m", "value": step, "timestamp": step, "step": step});
        done(post("runs/log-batch", &json!({"run_id": run, "metrics": (0..100).map(metric).collect::<Vec<_>>()})));
    }
    let names = |name: &str| runs.iter().map(|run| format!("{name}={run}")).collect::<Vec<_>>().join("&");
    let call = |rest: &str| get(&format!("metrics/get-history-bulk-interval?{}&metric_key=m{rest}", names("run_ids")));
    let steps = |answer: Value, run: &str| {
        let points = answer["metrics"].as_array().cloned().unwrap_or_default();
        points.iter().filter(|p| p["run_id"] == run).filter_map(|p| p["step"].as_i64()).collect::<Vec<_>>()
    };
    assert_eq!(steps(call("").ok(), &runs[0]).len(), 100);
    let sampled = steps(call("&max_results=5").ok(), &runs[1]);
    assert_eq!((sampled.first(), sampled.last(), sampled.len()), (Some(&0), Some(&99), 5));
    assert_eq!(steps(call("&start_step=10&end_step=12").ok(), &runs[0]), [10, 11, 12]);
    let ajax =
        format!("/ajax-api/2.0/mlflow/metrics/get-history-bulk?{}&metric_key=m&max_results=150", names("run_id"));
    let bulk = SERVER.get(&ajax).ok();
    assert_eq!((steps(bulk.clone(), &runs[0]).len(), steps(bulk, &runs[1]).len()), (100, 50));
    invalid(call("&start_step=10"));
    invalid(call("&start_step=10&end_step=9"));
    invalid(call("&max_results=2501"));
    invalid(get("metrics/get-history-bulk-interval?metric_key=m"));
    invalid(get(&format!("metrics/get-history-bulk?{}", names("run_id"))));
    let many = (0..101).map(|_| format!("run_id={NOBODY}")).collect::<Vec<_>>().join("&");
    assert!(invalid(get(&format!("metrics/get-history-bulk?metric_key=m&{many}"))).contains("100"));
}

#[test]
fn inputs_outputs_and_old_models_are_recorded() {
    let id = experiment("wire inputs");
    let made = post("runs/create", &json!({"experiment_id": id})).ok();
    let run = made["run"]["info"]["run_id"].as_str().expect("an id");
    assert_eq!((&made["run"]["inputs"], &made["run"]["outputs"]), (&json!({}), &json!({})));
    let dataset = json!({"name": "wine", "digest": "abc", "source_type": "http", "source": "{}", "schema": "{}"});
    let tags = json!([{"key": "mlflow.data.context", "value": "train"}]);
    let inputs =
        json!({"run_id": run, "datasets": [{"dataset": dataset, "tags": tags}], "models": [{"model_id": "m-1"}]});
    let outputs = json!({"run_id": run, "models": [{"model_id": "m-2", "step": 4}]});
    for _ in 0..2 {
        done(post("runs/log-inputs", &inputs));
        done(post("runs/outputs", &outputs));
    }
    let found = read(run);
    let wanted = json!({"dataset_inputs": [{"tags": tags, "dataset": dataset}], "model_inputs": [{"model_id": "m-1"}]});
    assert_eq!(found["inputs"], wanted);
    assert_eq!(found["outputs"], json!({"model_outputs": [{"model_id": "m-2", "step": 4}]}));
    let summaries = post("experiments/search-datasets", &json!({"experiment_ids": [id]})).ok();
    let wanted = json!([{"experiment_id": id, "name": "wine", "digest": "abc", "context": "train"}]);
    assert_eq!(summaries["dataset_summaries"], wanted);
    assert_eq!(post("experiments/search-datasets", &json!({"experiment_ids": []})).ok(), json!({}));
    for field in ["name", "digest", "source_type", "source"] {
        let mut bad = dataset.clone();
        bad[field] = Value::Null;
        let message = invalid(post("runs/log-inputs", &json!({"run_id": run, "datasets": [{"dataset": bad}]})));
        assert!(message.contains(field) && message.contains("datasets[0]"), "{message}");
    }
    let mut bad = dataset;
    bad["digest"] = json!("d".repeat(37));
    invalid(post("runs/log-inputs", &json!({"run_id": run, "datasets": [{"dataset": bad}]})));
    invalid(post("runs/outputs", &json!({"run_id": run, "models": [{"step": 1}]})));

    let model = json!({"artifact_path": "model", "flavors": {}, "utc_time_created": "now", "run_id": run}).to_string();
    done(post("runs/log-model", &json!({"run_id": run, "model_json": model})));
    let listed = read(run);
    let history = value(&listed["data"]["tags"], "mlflow.log-model.history").as_str().expect("the tag");
    assert!(history.starts_with('[') && history.contains("artifact_path"), "{history}");
    invalid(post("runs/log-model", &json!({"run_id": run, "model_json": "{}"})));
}

#[test]
fn a_search_that_names_no_experiment_finds_none() {
    assert_eq!(post("runs/search", &json!({"filter": ""})).ok(), json!({}));
    invalid(post("runs/search", &json!({"experiment_ids": ["0"], "max_results": 50_001})));
    invalid(post("runs/search", &json!({"experiment_ids": ["0"], "run_view_type": "SOME"})));
}
