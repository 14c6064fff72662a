//! Every kind of bad input: refused with a status, a code, what and where, and how to mend it, and nothing half-written.

mod support;

use std::{
    fs,
    net::TcpListener,
    path::Path,
    process::Command,
    sync::{LazyLock, Mutex, MutexGuard, PoisonError},
};

use serde_json::{Value, json};
use support::{Answer, MILLPOND, Server, millpond, root, shop};
use tempfile::tempdir;

/// A server with a deployed model. Tests that look at what was written take turns.
static WORLD: LazyLock<Server> = LazyLock::new(|| {
    let (server, data) = shop::trained();
    server.leash(data);
    server
});
static TURN: Mutex<()> = Mutex::new(());

fn world() -> (&'static Server, MutexGuard<'static, ()>) {
    // A test that failed leaves nothing behind that would hinder the next.
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    (&WORLD, turn)
}

/// Everything that a refused request must leave as it was.
fn written(server: &Server) -> Value {
    let events = server.get("/api/v1/events?limit=1000").ok();
    json!({
        "definitions": server.get("/api/v1/definitions").ok(),
        "endpoints": server.get("/api/v1/endpoints").ok(),
        "models": server.get("/api/v1/models").ok(),
        "events": events.as_array().map(Vec::len),
    })
}

/// The detail of a problem that also says how to mend it.
#[track_caller]
fn mendable(answer: &Answer, status: u16, code: &str, hint: &str) -> String {
    let detail = answer.clone().problem(status, code);
    assert_eq!(answer.body["status"], status, "the status stands in the body too: {}", answer.body);
    let found = answer.body["hint"].as_str().unwrap_or("");
    assert!(!found.is_empty() && found.contains(hint), "no `{hint}` in the hint of {}", answer.body);
    detail
}

#[track_caller]
fn contains(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "no `{part}` in `{text}`");
    }
}

/// Applies bad YAML after a good document, and checks that neither was written.
#[track_caller]
fn refused_yaml(bad: &str, parts: &[&str]) {
    let (server, _turn) = world();
    let before = written(server);
    let good = "kind: Entity\nname: saucepan\nkey: saucepan\n---\n";
    let answer = server.apply(&format!("{good}{bad}"));
    let detail = mendable(&answer, 400, "invalid_argument", "");
    assert!(!detail.contains(" at line "), "two positions: {detail}");
    // The nearest name stands in either.
    contains(&format!("{detail}; {}", answer.body["hint"]), parts);
    assert_eq!(written(server), before, "something of a refused file was written");
}

#[test]
fn malformed_yaml_is_refused_with_line_and_column() {
    refused_yaml("kind: Source\nname: [unclosed\ntimestamp: at\n", &["line 7, column 10:"]);
}

#[test]
fn an_unknown_key_of_a_definition_names_the_nearest() {
    let yaml = "kind: Entity\nname: pot\nkey: pot\ndescripton: round\n";
    refused_yaml(yaml, &["line 8, column 1", "`descripton`", "did you mean `description`?"]);
}

#[test]
fn an_unknown_kind_of_definition_names_the_nearest() {
    refused_yaml("kind: Entitty\nname: pot\n", &["line 5, column 7", "`Entitty`", "did you mean `Entity`?"]);
}

#[test]
fn a_feature_view_of_an_unknown_entity_is_refused_by_name() {
    let yaml = "kind: FeatureView\nname: steamy\nsource: readings\nentities: [kettel]\nfeatures:\n  - {name: steam}\n";
    refused_yaml(yaml, &["FeatureView", "steamy", "`kettel`", "did you mean `kettle`?"]);
}

#[test]
fn a_pipeline_that_reads_an_unknown_column_is_refused_by_name() {
    let pipeline = shop::DEFINITIONS.rsplit("---\n").next().expect("the pipeline stands last");
    let yaml = pipeline.replace("{column: load, prep: numeric}", "{column: lod, prep: numeric}");
    refused_yaml(&yaml, &["Pipeline", "`leak`", "inputs[0].column", "`lod`", "did you mean `load`?"]);
}

/// A source of its own for one test.
fn source(server: &Server, name: &str) {
    let yaml = format!(
        "kind: Source\nname: {name}\ntimestamp: at\nrow_id: [id]\ncolumns:\n  - {{name: id, type: text, required: true}}\n  \
         - {{name: at, type: timestamp, required: true}}\n  - {{name: grams, type: float}}\n"
    );
    server.apply(&yaml).ok();
}

fn counts(report: &Value) -> [u64; 4] {
    ["accepted", "duplicates", "corrections", "quarantined"].map(|name| report[name].as_u64().expect("a count"))
}

#[test]
fn a_row_of_the_wrong_type_is_set_aside_with_line_and_reason_and_the_rest_goes_in() {
    let (server, _turn) = world();
    source(server, "mistyped");
    let csv = "id,at,grams\na,2024-01-01T00:00:00Z,1.5\nb,2024-01-01T00:00:00Z,heavy\nc,2024-01-01T00:00:00Z,2\n";
    let report = server.ingest("mistyped", "text/csv", csv.as_bytes()).ok();
    assert_eq!(counts(&report), [2, 0, 0, 1], "{report}");
    let error = &report["first_errors"][0];
    assert_eq!((&error["line"], &error["column"]), (&json!(3), &json!("grams")), "{report}");
    contains(error["reason"].as_str().unwrap_or(""), &["expected float", "heavy"]);
    let aside = server.get("/api/v1/sources/mistyped/quarantine").ok();
    assert_eq!(aside.as_array().map(Vec::len), Some(1), "{aside}");
    assert_eq!((&aside[0]["line"], &aside[0]["reason"]), (&json!(3), &error["reason"]));
    contains(aside[0]["raw"].as_str().unwrap_or(""), &["\"b\"", "heavy"]);
    // The two good rows are there, the bad one is not: sent again, mended, only it is new.
    let report = server.ingest("mistyped", "text/csv", csv.replace("heavy", "9").as_bytes()).ok();
    assert_eq!(counts(&report), [1, 2, 0, 0], "{report}");
}

#[test]
fn a_column_nobody_declared_refuses_the_whole_file() {
    let (server, _turn) = world();
    source(server, "stray");
    let csv = "id,at,gramms\na,2024-01-01T00:00:00Z,1.5\n";
    let answer = server.ingest("stray", "text/csv", csv.as_bytes());
    contains(&mendable(&answer, 400, "invalid_argument", "`grams`"), &["`stray`", "`gramms`"]);
    let report = server.ingest("stray", "text/csv", csv.replace("gramms", "grams").as_bytes()).ok();
    assert_eq!(counts(&report), [1, 0, 0, 0], "nothing of the refused file had been taken: {report}");
}

#[test]
fn duplicate_rows_are_counted_and_stored_once() {
    let (server, _turn) = world();
    source(server, "doubled");
    let csv = "id,at,grams\na,2024-01-01T00:00:00Z,1\na,2024-01-01T00:00:00Z,1\nb,2024-01-01T00:00:00Z,1\n";
    let report = server.ingest("doubled", "text/csv", csv.as_bytes()).ok();
    assert_eq!(counts(&report), [2, 1, 0, 0], "{report}");
    let report = server.ingest("doubled", "text/csv", csv.as_bytes()).ok();
    assert_eq!(counts(&report), [0, 3, 0, 0], "{report}");
    let other = csv.replace(",1\n", ",2\n");
    let report = server.ingest("doubled", "text/csv", other.as_bytes()).ok();
    assert_eq!(counts(&report), [2, 1, 2, 0], "other values are corrections: {report}");
}

#[test]
fn a_timestamp_without_a_zone_is_set_aside_where_rows_come_in_and_refused_elsewhere() {
    let (server, _turn) = world();
    source(server, "zoneless");
    let csv = "id,at,grams\na,2024-01-01T00:00:00,1\nb,2024-01-01T00:00:00+01:00,1\n";
    let report = server.ingest("zoneless", "text/csv", csv.as_bytes()).ok();
    assert_eq!(counts(&report), [1, 0, 0, 1], "{report}");
    assert_eq!(report["first_errors"][0]["line"], 2);
    contains(report["first_errors"][0]["reason"].as_str().unwrap_or(""), &["has no zone", "2024-01-01T00:00:00Z"]);
    let instance = json!({"kettle": "k1", "load": 0.5, "event_timestamp": "2024-03-01T12:00:00"});
    let answer = server.predict("leak", &json!([instance]));
    let detail = mendable(&answer, 400, "invalid_argument", "with a zone");
    contains(&detail, &["instances[0].event_timestamp", "has no zone"]);
    let answer = server.post("/api/v1/pipelines/leak/runs", &json!({"cutoff": "2024-03-01T12:00:00"}));
    contains(&mendable(&answer, 400, "invalid_argument", ""), &["has no zone"]);
}

/// An instance that the endpoint takes, with one member replaced (or, with null, taken out).
fn instance(name: &str, value: Value) -> Value {
    let mut all =
        json!({"ask_id": "q1", "kettle": "k1", "load": 0.5, "shift": "late", "event_timestamp": shop::CUTOFF});
    match value {
        Value::Null => drop(all.as_object_mut().expect("an object").remove(name)),
        value => all[name] = value,
    }
    all
}

/// How many predictions are in the log, once all that were made are.
fn logged(server: &Server) -> usize {
    server.post("/api/v1/endpoints/leak/settle", &Value::Null).ok();
    server.get("/api/v1/endpoints/leak/predictions?limit=10000").ok().as_array().expect("a list").len()
}

/// Sends a good instance and a bad one, and checks that the request is refused as a whole.
#[track_caller]
fn refused_instance(bad: Value, hint: &str, parts: &[&str]) {
    let (server, _turn) = world();
    let before = logged(server);
    let answer = server.predict("leak", &json!([instance("ask_id", json!("q0")), bad]));
    contains(&mendable(&answer, 400, "invalid_argument", hint), parts);
    assert_eq!(logged(server), before, "a refused request was answered in part");
}

/// Sends one instance and gives its prediction.
#[track_caller]
fn answered(server: &Server, instance: &Value) -> Value {
    let answer = server.predict("leak", &json!([instance])).ok();
    let prediction = answer["predictions"][0].clone();
    let score = prediction["score"].as_f64().expect("a score");
    assert!((0.0..=1.0).contains(&score), "{answer}");
    assert_eq!(prediction["version"], 1, "{answer}");
    prediction
}

#[test]
fn a_prediction_for_an_unknown_endpoint_names_the_nearest() {
    let (server, _turn) = world();
    let answer = server.predict("leek", &json!([instance("", Value::Null)]));
    contains(&mendable(&answer, 404, "not_found", "did you mean `leak`?"), &["endpoint `leek` does not exist"]);
}

#[test]
fn an_endpoint_without_a_version_says_how_to_deploy_one() {
    let (server, _turn) = world();
    let answer = server.predict("idle", &json!([instance("", Value::Null)]));
    contains(&mendable(&answer, 503, "unavailable", "millpond deploy idle 1"), &["`idle` has no version deployed"]);
}

#[test]
fn a_missing_field_is_named_with_its_row() {
    refused_instance(instance("load", Value::Null), "`load` as float", &["instances[1].load is missing"]);
    refused_instance(instance("kettle", Value::Null), "`kettle` as text", &["instances[1].kettle is missing"]);
}

#[test]
fn a_field_nobody_declared_is_named_with_the_nearest() {
    let mut bad = instance("load", Value::Null);
    bad["laod"] = json!(0.5);
    refused_instance(bad, "`load`", &["instances[1].load is missing"]);
    refused_instance(instance("shfit", json!("late")), "did you mean `shift`?", &["instances[1].shfit is not a field"]);
}

#[test]
fn a_value_of_the_wrong_type_is_named_with_both_types() {
    let parts = ["instances[1].load is wrong", "expected float", "text \"full\""];
    refused_instance(instance("load", json!("full")), "`load` as float", &parts);
    refused_instance(instance("kettle", json!(7)), "as text", &["instances[1].kettle is wrong", "expected text"]);
    refused_instance(json!("k1"), "object", &["instances[1] is not an object"]);
}

#[test]
fn nan_is_refused_as_text_and_as_a_bare_token() {
    refused_instance(instance("load", json!("NaN")), "finite number", &["instances[1].load", "NaN is not a finite"]);
    let (server, _turn) = world();
    let body = b"{\"instances\": [\n  {\"kettle\": \"k1\", \"load\": NaN}]}";
    let answer = server.call("POST", "/api/v1/endpoints/leak/predict", "application/json", body);
    contains(&mendable(&answer, 400, "invalid_argument", "JSON"), &["line 2 column"]);
}

#[test]
fn a_category_never_seen_in_training_is_answered() {
    let (server, _turn) = world();
    let unseen = answered(server, &instance("shift", json!("at noon")));
    let seen = answered(server, &instance("shift", json!("late")));
    assert_ne!(unseen["id"], seen["id"]);
    // All zeros where the category stood: the same answer whatever the unknown word is.
    let other = answered(server, &instance("shift", json!("Mitternacht")));
    assert_eq!(unseen["score"], other["score"]);
}

#[test]
fn an_entity_without_features_gets_the_views_default_or_null_and_is_answered() {
    let (server, _turn) = world();
    let rows = json!({"service": "kettle", "rows": [{"kettle": "nobody", "event_timestamp": shop::CUTOFF}]});
    for route in ["online", "historical"] {
        let answer = server.post(&format!("/api/v1/features/{route}"), &rows).ok();
        let (values, status) = (&answer["rows"][0], &answer["status"][0]);
        assert_eq!(values["now__heat"], 20.5, "the view declares a default: {answer}");
        assert_eq!(values["now__steam"], Value::Null, "the view declares none: {answer}");
        assert_eq!(values["lately__heat_1d"], Value::Null, "{answer}");
        assert_eq!(status["now__steam"]["status"], "NOT_FOUND", "{answer}");
    }
    answered(server, &instance("kettle", json!("nobody")));
    let mut unnamed = instance("", Value::Null);
    unnamed["kettle"] = Value::Null;
    answered(server, &unnamed);
}

#[test]
fn an_empty_batch_is_refused() {
    let (server, _turn) = world();
    let answer = server.predict("leak", &json!([]));
    contains(&mendable(&answer, 400, "invalid_argument", "at least one"), &["instances is empty"]);
    let answer = server.post("/api/v1/features/online", &json!({"service": "kettle", "rows": []}));
    contains(&mendable(&answer, 400, "invalid_argument", "at least one"), &["rows is empty"]);
}

#[test]
fn a_body_of_fifty_megabytes_is_refused_and_the_server_goes_on() {
    let (server, _turn) = world();
    source(server, "heavy");
    let mut csv = "id,at,grams\n".to_owned();
    while csv.len() < 50 << 20 {
        csv.push_str("a,2024-01-01T00:00:00Z,1\n");
    }
    let answer = server.ingest("heavy", "text/csv", csv.as_bytes());
    contains(&mendable(&answer, 413, "too_large", "server.max_body_bytes"), &["larger than the limit"]);
    let padded = format!("{{\"instances\": [{}]{}}}", instance("", Value::Null), " ".repeat(50 << 20));
    let answer = server.call("POST", "/api/v1/endpoints/leak/predict", "application/json", padded.as_bytes());
    mendable(&answer, 413, "too_large", "server.max_body_bytes");
    let report = server.ingest("heavy", "text/csv", b"id,at,grams\na,2024-01-01T00:00:00Z,1\n").ok();
    assert_eq!(counts(&report), [1, 0, 0, 0], "nothing of the refused body had been taken: {report}");
}

#[test]
fn a_label_for_an_unknown_prediction_is_refused() {
    let (server, _turn) = world();
    let label = json!({"labels": [{"prediction_id": "018f0000000070008000000000000000", "value": true}]});
    let answer = server.post("/api/v1/endpoints/leak/labels", &label);
    let detail = mendable(&answer, 404, "not_found", "key");
    contains(&detail, &["018f0000000070008000000000000000", "is not in the log"]);
    let malformed = json!({"labels": [{"prediction_id": "p-1", "value": true}]});
    contains(
        &mendable(&server.post("/api/v1/endpoints/leak/labels", &malformed), 400, "invalid_argument", ""),
        &["p-1"],
    );
    let neither = json!({"labels": [{"value": true}]});
    let answer = server.post("/api/v1/endpoints/leak/labels", &neither);
    contains(&mendable(&answer, 400, "invalid_argument", "`prediction_id` or `key`"), &["labels[0]"]);
    let answer = server.post("/api/v1/endpoints/leek/labels", &json!({"labels": [{"key": "q1", "value": true}]}));
    mendable(&answer, 404, "not_found", "`leak`");
}

#[test]
fn labels_sent_together_are_judged_one_by_one() {
    let (server, _turn) = world();
    let known = answered(server, &instance("ask_id", json!("judged")));
    logged(server);
    let labels = json!({"labels": [
        {"prediction_id": "018f0000000070008000000000000000", "value": true},
        {"prediction_id": known["id"], "value": true},
    ]});
    let report = server.post("/api/v1/endpoints/leak/labels", &labels).ok();
    assert_eq!(report["joined"], 1, "{report}");
    assert_eq!((&report["problems"][0]["index"], &report["problems"][0]["code"]), (&json!(0), &json!("not_found")));
}

/// Asks for a deployment that is refused, and checks that the endpoint stands as it stood.
#[track_caller]
fn refused_deployment(endpoint: &str, targets: &Value, status: u16, code: &str, parts: &[&str]) {
    let (server, _turn) = world();
    let before = written(server);
    let answer = server.put(&format!("/api/v1/endpoints/{endpoint}/deployment"), &json!({"targets": targets}));
    contains(&mendable(&answer, status, code, ""), parts);
    assert_eq!(written(server), before);
    answered(server, &instance("", Value::Null));
}

#[test]
fn deploying_a_version_that_does_not_exist_is_refused_and_the_endpoint_stays() {
    refused_deployment("leak", &json!([{"version": 99, "percent": 100}]), 404, "not_found", &["leak", "99"]);
    refused_deployment("idle", &json!([{"version": 1, "percent": 100}]), 404, "not_found", &["idle"]);
    refused_deployment("leek", &json!([{"version": 1, "percent": 100}]), 404, "not_found", &["`leek`"]);
}

#[test]
fn weights_that_do_not_sum_to_a_hundred_are_refused_and_the_endpoint_stays() {
    let short = json!([{"version": 1, "percent": 90}]);
    refused_deployment("leak", &short, 400, "invalid_argument", &["`leak`", "add up to 90", "100"]);
    let long = json!([{"version": 1, "percent": 4_294_967_295_u32}, {"version": 2, "percent": 101}]);
    refused_deployment("leak", &long, 400, "invalid_argument", &["add up to 4294967396"]);
    refused_deployment("leak", &json!([]), 400, "invalid_argument", &["add up to 0"]);
    let twice = json!([{"version": 1, "percent": 50}, {"version": 1, "percent": 50}]);
    refused_deployment("leak", &twice, 400, "invalid_argument", &["version 1 stands twice"]);
}

#[test]
fn rows_of_an_unknown_content_type_are_refused() {
    let (server, _turn) = world();
    source(server, "untyped");
    let body = b"id,at,grams\na,2024-01-01T00:00:00Z,1\n";
    let answer = server.ingest("untyped", "application/x-www-form-urlencoded", body);
    let detail = mendable(&answer, 415, "invalid_argument", "text/csv");
    contains(&detail, &["application/x-www-form-urlencoded"]);
    assert_eq!(counts(&server.ingest("untyped", "text/csv; charset=utf-8", body).ok()), [1, 0, 0, 0]);
}

#[test]
fn an_unknown_route_source_or_method_is_a_problem_too() {
    let (server, _turn) = world();
    let answer = server.get("/api/v1/modells");
    contains(&mendable(&answer, 404, "not_found", "/docs"), &["GET /api/v1/modells"]);
    let answer = server.call("DELETE", "/api/v1/models", "", b"");
    contains(&mendable(&answer, 405, "invalid_argument", "/docs"), &["DELETE", "/api/v1/models"]);
    let answer = server.ingest("reading", "text/csv", b"kettle,at\n");
    contains(&mendable(&answer, 404, "not_found", "`readings`"), &["`reading` does not exist"]);
    let answer = server.get("/api/v1/runs?limt=3");
    contains(&mendable(&answer, 400, "invalid_argument", ""), &["`limt`"]);
}

#[test]
fn malformed_json_is_refused_with_its_position_and_an_unknown_member_by_name() {
    let (server, _turn) = world();
    let before = written(server);
    let answer = server.call("POST", "/api/v1/runs", "application/json", b"{\"experiment\": \"x\",\n \"name\": }");
    contains(&mendable(&answer, 400, "invalid_argument", "JSON"), &["line 2 column 10"]);
    let answer = server.post("/api/v1/runs", &json!({"experiment": "x", "parms": {}}));
    contains(&mendable(&answer, 400, "invalid_argument", "/docs"), &["unknown field `parms`", "`params`"]);
    assert_eq!(written(server), before);
}

/// The one line of a command that fails before it does anything.
#[track_caller]
fn complaint(args: &[&str]) -> String {
    let output = millpond(args);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "{out}{err}");
    assert_eq!((out.as_ref(), err.lines().count()), ("", 1), "{out}{err}");
    assert!(err.starts_with("error: "), "{err}");
    err.into_owned()
}

fn path(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

const QUIET: [&str; 2] = ["--set", "log.filter=warn"];

#[test]
fn starting_on_a_port_in_use_says_so_and_makes_no_data_directory() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("bound").to_string();
    let (dir, [set, quiet]) = (tempdir().expect("a directory"), QUIET);
    let data = dir.path().join("data");
    let error = complaint(&["up", "--listen", &address, "--data-dir", path(&data), set, quiet]);
    contains(&error, &[&address, "in use", "--listen"]);
    assert!(!data.exists());
}

#[test]
fn a_data_directory_of_a_newer_version_is_left_alone() {
    let (server, data) = Server::fresh();
    assert_eq!(server.stop(), Some(0));
    let database = data.path().join("meta.db");
    let later = "import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
(last,) = db.execute(\"SELECT max(position) FROM migrations WHERE room = 'registry'\").fetchone()
db.execute(\"INSERT INTO migrations VALUES ('registry', ?, 'from the future', 'x')\", (last + 1,))
db.commit()";
    let done = Command::new("python3").args(["-c", later, path(&database)]).status().expect("python3 exists");
    assert!(done.success());
    let [set, quiet] = QUIET;
    let error = complaint(&["up", "--listen", "127.0.0.1:0", "--data-dir", path(data.path()), set, quiet]);
    contains(&error, &["registry", "migrations", "newer millpond", "another data directory"]);
}

#[test]
fn a_data_directory_in_use_by_another_process_is_left_alone() {
    let (server, data) = Server::fresh();
    let [set, quiet] = QUIET;
    let error = complaint(&["up", "--listen", "127.0.0.1:0", "--data-dir", path(data.path()), set, quiet]);
    contains(&error, &[path(data.path()), "in use by another millpond", "--data-dir"]);
    assert_eq!(server.get("/readyz").status, 200, "the one that holds it goes on");
}

#[test]
fn an_unknown_setting_names_the_nearest_in_every_layer() {
    let dir = tempdir().expect("a directory");
    let file = dir.path().join("millpond.toml");
    fs::write(&file, "[server]\n\nlisen = \"127.0.0.1:1\"\n").expect("written");
    let error = complaint(&["config", "show", "--config", path(&file)]);
    contains(&error, &["millpond.toml:3", "`server.lisen`", "did you mean `server.listen`?"]);
    let error = complaint(&["up", "--set", "data.dirs=x"]);
    contains(&error, &["`data.dirs`", "did you mean `data.dir`?"]);
    let mut command = Command::new(MILLPOND);
    let output = command.args(["config", "show"]).env("MILLPOND_SERVER_LISTN", "x").current_dir(root()).output();
    let output = output.expect("the binary starts");
    assert_eq!(output.status.code(), Some(1));
    contains(
        &String::from_utf8_lossy(&output.stderr),
        &["MILLPOND_SERVER_LISTN", "did you mean `MILLPOND_SERVER_LISTEN`?"],
    );
}

#[test]
fn an_address_that_others_can_reach_is_refused() {
    let error = complaint(&["up", "--listen", "0.0.0.0:0", "--set", "log.filter=warn"]);
    contains(&error, &["0.0.0.0:0", "loopback"]);
}
