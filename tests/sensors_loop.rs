//! The whole loop on the sensors example, by the command that plays the flights: what it left behind is looked at from
//! outside, after the server was stopped and started again.

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::LazyLock,
};

use domain::Timestamp;
use serde_json::{Map, Value, json};
use support::{
    Server,
    sensors::{ENDPOINT, folder, items, json_of, number, text},
};

/// The example played to its end, once for all tests.
struct Played {
    /// What `millpond demo sensors --json` said.
    report: Value,
    /// How what was served agreed with history.
    consistency: Value,
    /// Exit code of the server on SIGTERM.
    exit: Option<i32>,
    before: Answers,
    after: Answers,
    /// Started again over the same data.
    server: Server,
}

/// What must not change when a server is stopped and started.
#[derive(Debug, PartialEq)]
struct Answers {
    endpoint: Value,
    quality: Value,
    by_pump: Value,
    aliases: Value,
    alerts: Value,
    runs: Value,
    predictions: Value,
}

impl Answers {
    fn of(server: &Server) -> Self {
        Self {
            endpoint: server.get(&endpoint("")).ok(),
            quality: server.get(&endpoint("/quality?bucket=week")).ok(),
            by_pump: server.get(&endpoint("/quality?slice=pump")).ok(),
            aliases: server.get("/api/v1/models").ok(),
            alerts: server.get("/api/v1/alerts?limit=1000").ok(),
            runs: server.get("/api/v1/pipeline-runs?limit=1000").ok(),
            predictions: server.get(&endpoint("/predictions?limit=200")).ok(),
        }
    }
}

static PLAYED: LazyLock<Played> = LazyLock::new(|| {
    let data = tempfile::tempdir().expect("a temporary directory");
    let server = Server::start_with(data.path(), &["--set", "consistency.share=1", "--set", "consistency.every=1s"]);
    let report = server.demo_sensors(None);
    server.post("/api/v1/features/consistency/check", &json!({})).ok();
    let consistency = server.get("/api/v1/features/consistency").ok();
    let before = Answers::of(&server);
    let exit = server.stop();
    let server = Server::start(data.path());
    server.leash(data);
    let after = Answers::of(&server);
    Played { report, consistency, exit, before, after, server }
});

fn endpoint(rest: &str) -> String {
    format!("/api/v1/endpoints/{ENDPOINT}{rest}")
}

fn versions() -> Vec<Value> {
    items(&PLAYED.server.get(&format!("/api/v1/models/{ENDPOINT}/versions")).ok()).to_vec()
}

/// Pipeline runs that an alert started.
fn retrains() -> Vec<Value> {
    let runs = PLAYED.server.get(&format!("/api/v1/pipeline-runs?pipeline={ENDPOINT}&limit=1000")).ok();
    items(&runs).iter().filter(|run| run["cause"]["kind"] == "alert").cloned().collect()
}

fn journal() -> Vec<Value> {
    let mut all: Vec<Value> = Vec::new();
    loop {
        let after = all.last().map_or(0, |event| event["seq"].as_u64().expect("a sequence number"));
        let more = PLAYED.server.get(&format!("/api/v1/events?after={after}&limit=1000")).ok();
        if items(&more).is_empty() {
            return all;
        }
        all.extend(items(&more).iter().cloned());
    }
}

#[test]
fn applying_the_definitions_again_changes_nothing() {
    let applied = || journal().iter().filter(|event| event["kind"] == "definition.applied").count();
    let before = applied();
    let url = &PLAYED.server.url;
    let answer = json_of(&["apply", "examples/sensors", "--json", "--url", url]);
    let changes = items(&answer["changes"]);
    assert_eq!(changes.len(), before, "every definition was applied once: {changes:?}");
    for change in changes {
        assert_eq!(change["action"], "unchanged", "{change}");
    }
    assert_eq!(applied(), before, "nothing was written");
}

#[test]
fn the_evaluator_triggers_retraining_and_the_gate_decides_with_numbers() {
    let retrains = retrains();
    assert!(!retrains.is_empty(), "no alert led to a run: {}", PLAYED.report);
    assert_eq!(PLAYED.report["retrains_triggered"], json!(retrains.len()));
    let decided: Vec<&Value> = retrains.iter().filter(|run| !run["decision"].is_null()).collect();
    assert!(!decided.is_empty(), "no retrain came as far as the gate: {retrains:?}");
    for run in decided {
        let decision = &run["decision"];
        let compared = &decision["comparison"];
        let gain = number(&compared["champion_log_loss"]) - number(&compared["challenger_log_loss"]);
        assert!((number(&compared["gain"]) - gain).abs() < 1e-9, "{decision}");
        let enough = number(&decision["rows"]) >= 150.0;
        assert_eq!(decision["passed"], json!(enough && number(&compared["lower"]) > 0.0), "{decision}");
        assert!(!text(&decision["reason"]).is_empty());
        if decision["passed"] == false {
            assert_eq!(run["state"], "refused", "{run}");
        }
    }
}

#[test]
fn a_better_version_is_promoted_on_its_own_live_results_and_serves() {
    let promoted: Vec<Value> = retrains().into_iter().filter(|run| run["state"] == "promoted").collect();
    assert!(!promoted.is_empty(), "{:?}", retrains());
    for run in &promoted {
        let trial = &run["rollout"]["latest"];
        assert!(number(&trial["challenger_labels"]) >= 100.0, "{run}");
        assert!(number(&trial["lower"]) <= 0.0, "promoted though worse beyond chance: {run}");
    }
    // Runs are listed newest first.
    let view = PLAYED.server.get(&endpoint("")).ok();
    assert_eq!(view["champion"], promoted[0]["challenger"]);
    let models = PLAYED.server.get("/api/v1/models").ok();
    let model = items(&models).iter().find(|model| model["name"] == ENDPOINT).expect("the model");
    assert_eq!(model["aliases"]["champion"], view["champion"]);
}

#[test]
fn what_is_served_at_the_end_ranks_better_than_the_first_version() {
    let lines = items(&PLAYED.report["lines"]);
    let both: Vec<(&str, f64, f64)> = lines
        .iter()
        .filter_map(|line| {
            Some((line["bucket"].as_str()?, line["served"]["auc"].as_f64()?, line["first"]["auc"].as_f64()?))
        })
        .collect();
    let predictions: f64 = lines.iter().filter_map(|line| line["predictions"].as_f64()).sum();
    assert!((predictions - 3_600.0).abs() < 0.5, "120 a day for 30 days: {predictions}");
    let (bucket, served, first) = *both.last().expect("a labelled bucket");
    assert!(served > first + 0.05, "in {bucket} AUC {served} is served and the first version has {first}: {both:?}");
    let since = &PLAYED.report["since_first_promotion"];
    assert!(number(&since["served"]["auc"]) > number(&since["first"]["auc"]), "{since}");
    assert!(number(&since["served"]["log_loss"]) < number(&since["first"]["log_loss"]), "{since}");
}

#[test]
fn every_registered_version_agrees_with_candle_to_a_hundred_thousandth() {
    let versions = versions();
    assert!(versions.len() >= 4, "two candidates for each of at least two runs: {}", versions.len());
    for version in versions {
        let parity = number(&version["metrics"]["parity_max_abs_diff"]);
        assert!((0.0..=1e-5).contains(&parity), "{version}");
    }
}

#[test]
fn every_version_is_traced_to_its_run_and_its_dataset() {
    for version in versions() {
        let path = format!("/api/v1/models/{ENDPOINT}/versions/{}/lineage", version["version"]);
        let lineage = PLAYED.server.get(&path).ok();
        let id = |kind: &str| {
            let found = items(&lineage["nodes"]).iter().find(|node| node["kind"] == kind);
            text(&found.unwrap_or_else(|| panic!("no {kind}: {lineage}"))["id"]).to_owned()
        };
        let edge = |from: &str, to: &str| {
            items(&lineage["edges"])
                .iter()
                .any(|edge| edge["from"] == id(from).as_str() && edge["to"] == id(to).as_str())
        };
        assert!(edge("dataset", "run") && edge("run", "version"), "{lineage}");
        assert_eq!(id("run"), format!("run/{}", text(&version["run"])));
        assert_eq!(id("version"), format!("model/{ENDPOINT}/{}", version["version"]));
    }
}

#[test]
fn every_training_run_tells_what_it_was_made_of_and_how_it_went() {
    for version in versions() {
        let path = format!("/api/v1/runs/{}", text(&version["run"]));
        let run = PLAYED.server.get(&path).ok();
        assert_eq!(run["state"], "finished", "{run}");
        assert!(text(&run["code_version"]).starts_with("millpond "), "{run}");
        assert!(!run["dataset"].is_null(), "{run}");
        for member in ["os", "arch"] {
            assert!(!text(&run["environment"][member]).is_empty(), "{run}");
        }
        for param in ["seed", "learner", "epochs", "learning_rate", "inputs"] {
            assert!(!text(&run["params"][param]).is_empty(), "{param}: {run}");
        }
        for library in ["environment.candle", "environment.onnxruntime"] {
            assert!(!text(&run["params"][library]).is_empty(), "{library}: {run}");
        }
        let asked: usize = text(&run["params"]["epochs"]).parse().expect("a number");
        let mut lengths = BTreeSet::new();
        for key in ["train_loss", "valid_loss", "valid_auc"] {
            let history = PLAYED.server.get(&format!("{path}/metrics/{key}")).ok();
            let steps: Vec<i64> = items(&history).iter().filter_map(|point| point["step"].as_i64()).collect();
            assert!(steps.windows(2).all(|pair| pair[1] == pair[0] + 1), "a point for each epoch: {steps:?}");
            assert!((2..=asked).contains(&steps.len()), "{key} has {} points in {asked} epochs", steps.len());
            lengths.insert(steps.len());
        }
        assert_eq!(lengths.len(), 1, "as many points of each metric: {lengths:?}");
    }
}

#[test]
fn the_journal_tells_from_the_alert_to_the_promotion_what_led_to_what() {
    let journal = journal();
    let seqs: Vec<u64> = journal.iter().filter_map(|event| event["seq"].as_u64()).collect();
    assert_eq!(seqs, (1..=journal.len() as u64).collect::<Vec<_>>(), "no gaps");
    let promoted = retrains().into_iter().find(|run| run["state"] == "promoted").expect("a promoted retrain");
    let of_run = |kind: &str| {
        let found = journal.iter().find(|event| event["kind"] == kind && event["body"]["run"] == promoted["id"]);
        found.unwrap_or_else(|| panic!("no {kind} of run {}", promoted["id"]))
    };
    let alert = &promoted["cause"]["event"];
    let raised = journal.iter().find(|event| event["seq"] == *alert).expect("the alert's event");
    assert_eq!((&raised["kind"], &raised["body"]["endpoint"]), (&json!("alert.raised"), &json!(ENDPOINT)));
    let mut last = raised["seq"].as_u64();
    for kind in ["pipeline.triggered", "gate.decided", "rollout.promoted", "pipeline.finished"] {
        let event = of_run(kind);
        assert_eq!(event["cause"], *alert, "{event}");
        assert!(event["seq"].as_u64() > last, "{event} comes after what led to it");
        last = event["seq"].as_u64();
    }
    assert_eq!(of_run("gate.decided")["body"]["decision"]["challenger"], promoted["challenger"]);
}

#[test]
fn a_thousand_logged_predictions_are_rebuilt_exactly_from_history_and_online() {
    let logged = PLAYED.server.get(&endpoint("/predictions?limit=1000")).ok();
    let logged = items(&logged);
    assert_eq!(logged.len(), 1_000);
    let rows: Vec<Value> = logged
        .iter()
        .map(|prediction| json!({"pump": prediction["inputs"]["pump"], "event_timestamp": prediction["event_time"]}))
        .collect();
    for way in ["historical", "online"] {
        let request = json!({"service": ENDPOINT, "rows": rows});
        let rebuilt = PLAYED.server.post(&format!("/api/v1/features/{way}"), &request).ok();
        let rebuilt = items(&rebuilt["rows"]);
        assert_eq!(rebuilt.len(), 1_000);
        let mut compared: BTreeMap<&str, usize> = BTreeMap::new();
        for (prediction, row) in logged.iter().zip(rebuilt) {
            for (name, value) in features(row) {
                assert_eq!(prediction["inputs"][name], *value, "{way} {name} of {prediction}");
                *compared.entry(name).or_default() += usize::from(!value.is_null());
            }
        }
        assert_eq!(compared.len(), 12, "{compared:?}");
        assert!(compared.values().all(|known| *known > 900), "values and not nulls were compared: {compared:?}");
    }
}

/// The members of a row that are features: `view__feature`.
fn features(row: &Value) -> impl Iterator<Item = (&str, &Value)> {
    row.as_object().expect("an object").iter().filter(|(name, _)| name.contains("__")).map(|(k, v)| (k.as_str(), v))
}

/// Asks over the whole range of the request's values, so that some answer lies near the threshold.
fn sweep(server: &Server) {
    let mut instances = Vec::new();
    for pump in 1..=10 {
        for load in 0..8 {
            for (shift, hour) in [("early", 20), ("late", 60), ("night", 100)] {
                instances.push(json!({
                    "check_id": format!("S{pump}-{load}-{shift}"), "pump": format!("P{pump:02}"),
                    "load": 0.3 + 0.1 * f64::from(load), "cycle_hour": hour, "shift": shift,
                    "event_timestamp": "2024-04-15T00:00:00Z",
                }));
            }
        }
    }
    server.predict(ENDPOINT, &Value::Array(instances)).ok();
}

#[test]
fn a_reviewers_answer_becomes_a_label_that_outranks_the_outcome() {
    let server = &PLAYED.server;
    sweep(server);
    while server.post(&endpoint("/settle"), &json!({})).ok()["settled"] != true {}
    let tasks = server.get(&endpoint("/review?limit=1000")).ok();
    let task = items(&tasks).last().expect("a question near the threshold");
    assert!((number(&task["score"]) - 0.5).abs() <= 0.02 + 1e-6, "{task}");
    let path = format!("/api/v1/review/{}/answer", text(&task["id"]));

    let report = server.post(&path, &json!({"value": true, "reviewer": "ada"})).ok();
    assert_eq!((&report["joined"], &report["problems"]), (&json!(1), &json!([])), "{report}");
    let again = server.post(&path, &json!({"value": true, "reviewer": "ada"})).ok();
    assert_eq!((&again["joined"], &again["already"]), (&json!(0), &json!(1)), "{again}");
    server.post(&path, &json!({"value": false, "reviewer": "bob"})).problem(409, "conflict");

    let answered = server.get(&endpoint("/review?state=answered&limit=1000")).ok();
    let answered = items(&answered).iter().find(|known| known["id"] == task["id"]).expect("it is among the answered");
    assert_eq!((&answered["value"], &answered["reviewer"]), (&json!(true), &json!("ada")));

    // The label stands in the source that training reads: the same row is a duplicate there.
    let row = json!([{
        "check_id": task["label_key"], "known_at": answered["answered_at"], "failed": true, "origin": "reviewer"
    }]);
    let report = server.ingest("outcomes", "application/json", row.to_string().as_bytes()).ok();
    assert_eq!((&report["duplicates"], &report["accepted"]), (&json!(1), &json!(0)), "{report}");

    let outcome = json!({"labels": [{"key": task["label_key"], "value": false, "known_at": "2024-04-15T06:00:00Z"}]});
    let report = server.post(&endpoint("/labels"), &outcome).ok();
    assert_eq!(report["overruled"], 1, "{report}");
    let logged = server.get(&endpoint("/predictions?limit=1000")).ok();
    let prediction = items(&logged).iter().find(|known| known["id"] == task["prediction"]).expect("it is logged");
    assert_eq!((&prediction["label"]["origin"], &prediction["label"]["value"]), (&json!("reviewer"), &json!(true)));
}

#[test]
fn predictions_scores_labels_and_versions_are_asked_in_sql() {
    let ask = |sql: &str| PLAYED.server.post("/api/v1/sql", &json!({ "sql": sql })).ok()["rows"].clone();
    let logged = PLAYED.server.get(&endpoint("/predictions?limit=5")).ok();
    let first = &items(&logged)[0];
    let found = ask(&format!(
        "SELECT p.endpoint, p.label_key, json_get_float(p.inputs, 'load') AS load, s.version, s.score
         FROM predictions p JOIN scores s USING (id) WHERE p.id = '{}' ORDER BY s.version",
        text(&first["id"])
    ));
    let scores = items(&first["scores"]);
    assert_eq!(items(&found).len(), scores.len());
    for row in items(&found) {
        assert_eq!((&row["endpoint"], &row["label_key"]), (&json!(ENDPOINT), &first["label_key"]));
        assert_eq!(row["load"], first["inputs"]["load"]);
        let told = scores.iter().find(|score| score["version"] == row["version"]).expect("the same versions");
        assert!((number(&told["score"]) - number(&row["score"])).abs() < 1e-6);
    }
    // What arrived in an hour, by the bounds of the time column and by looking at every row.
    let day = "event_time >= TIMESTAMP '2024-03-20T00:00:00Z' AND event_time < TIMESTAMP '2024-03-21T00:00:00Z'";
    let narrowed = ask(&format!("SELECT count(*) AS n FROM predictions WHERE {day}"));
    let looked =
        ask("SELECT count(*) AS n FROM predictions WHERE substr(CAST(event_time AS VARCHAR), 1, 10) = '2024-03-20'");
    assert!(number(&narrowed[0]["n"]) > 0.0);
    assert_eq!(narrowed, looked);
    let labelled = ask("SELECT count(DISTINCT id) AS n FROM labels WHERE value");
    assert!(number(&labelled[0]["n"]) > 0.0);
    let versions = ask("SELECT version FROM versions v JOIN models m ON m.name = v.model ORDER BY version");
    assert_eq!(items(&versions).len(), items(&ask("SELECT * FROM versions")).len());
    let auc = ask("SELECT r.run_id, l.value FROM runs r JOIN latest_metrics l USING (run_id) WHERE l.key LIKE '%auc%'");
    assert!(!items(&auc).is_empty());
}

/// What a ticket of Arrow Flight brings: the rows of every part.
fn fetch(ticket: &Value) -> Vec<arrow::array::RecordBatch> {
    use futures::TryStreamExt as _;
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let address = tonic::transport::Channel::from_shared(PLAYED.server.url.clone()).expect("an address");
        let mut client = arrow_flight::FlightClient::new(address.connect().await.expect("it is there"));
        let described = arrow_flight::FlightDescriptor::new_cmd(ticket.to_string());
        let info = client.get_flight_info(described).await.expect("the ticket holds");
        let mut batches = Vec::new();
        for endpoint in info.endpoint {
            let stream = client.do_get(endpoint.ticket.expect("a ticket")).await.expect("a stream");
            batches.extend(stream.try_collect::<Vec<_>>().await.expect("rows"));
        }
        batches
    })
}

#[test]
fn a_training_set_is_built_again_from_its_digest() {
    let champion = &PLAYED.after.endpoint["champion"];
    let graph = trace(&format!("model/{ENDPOINT}/{champion}"), "up");
    let node = items(&graph["nodes"]).iter().find(|node| node["kind"] == "dataset").expect("one");
    let digest = text(&node["id"]).strip_prefix("dataset/").expect("a digest");
    let batches = fetch(&json!({ "dataset": digest }));
    let rows: usize = batches.iter().map(arrow::array::RecordBatch::num_rows).sum();
    assert!(text(&node["label"]).starts_with(&format!("{rows} rows,")), "{node}");
    let holdout: usize =
        fetch(&json!({"dataset": digest, "slice": "holdout"})).iter().map(|batch| batch.num_rows()).sum();
    assert!(holdout > 0 && holdout < rows, "{holdout} of {rows}");
    let schema = batches[0].schema();
    assert!(schema.field_with_name("label").is_ok() && schema.field_with_name("event_timestamp").is_ok());
}

#[test]
fn a_stopped_server_starts_again_with_the_same_champion_and_the_same_numbers() {
    assert_eq!(PLAYED.exit, Some(0), "SIGTERM ends it in order");
    assert!(!items(&PLAYED.before.quality).is_empty() && !items(&PLAYED.before.predictions).is_empty());
    assert_eq!(PLAYED.before.endpoint["champion"], PLAYED.after.endpoint["champion"]);
    assert_eq!(PLAYED.before, PLAYED.after);
    let answer = PLAYED.server.predict(
        ENDPOINT,
        &json!([{
            "check_id": "again", "pump": "P01", "load": 0.7, "cycle_hour": 12, "shift": "late",
            "event_timestamp": "2024-04-14T23:00:00Z"
        }]),
    );
    assert_eq!(answer.ok()["predictions"][0]["version"], PLAYED.after.endpoint["champion"]);
}

#[test]
fn the_example_is_what_its_generator_makes() {
    let made = tempfile::tempdir().expect("a temporary directory");
    let script = made.path().join("generate.py");
    std::fs::copy(folder().join("generate.py"), &script).expect("the generator");
    let ran = std::process::Command::new("python3").arg(&script).output().expect("python3 runs");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let read = |folder: &Path, name: &str| std::fs::read(folder.join("data").join(name)).expect("a file");
    for name in ["readings.csv", "checks.csv", "outcomes.csv"] {
        assert!(read(made.path(), name) == read(&folder(), name), "{name} differs");
    }
}

#[test]
fn labels_never_come_before_what_they_label() {
    let logged = PLAYED.server.get(&endpoint("/predictions?limit=1000&to=2024-04-14T00:00:00Z")).ok();
    let at = |value: &Value| text(value).parse::<Timestamp>().expect("an instant");
    let labelled: Vec<&Map<String, Value>> =
        items(&logged).iter().filter(|p| !p["label"].is_null()).filter_map(Value::as_object).collect();
    assert_eq!(labelled.len(), 1_000, "a day before the end every answer is known");
    for prediction in labelled {
        assert!(at(&prediction["label"]["known_at"]) > at(&prediction["event_time"]), "{prediction:?}");
    }
}

/// Ids of the nodes of a graph, by kind.
fn nodes(graph: &Value, kind: &str) -> BTreeSet<String> {
    let of_kind = items(&graph["nodes"]).iter().filter(|node| node["kind"] == kind);
    of_kind.map(|node| text(&node["id"]).to_owned()).collect()
}

fn trace(node: &str, direction: &str) -> Value {
    PLAYED.server.get(&format!("/api/v1/lineage?node={node}&direction={direction}")).ok()
}

#[test]
fn lineage_leads_from_each_dataset_to_the_predictions_and_back() {
    for version in versions() {
        let number = &version["version"];
        let id = format!("model/{ENDPOINT}/{number}");
        let up = trace(&id, "up");
        let [dataset] = &nodes(&up, "dataset").into_iter().collect::<Vec<_>>()[..] else { panic!("one dataset: {up}") };
        assert_eq!(nodes(&up, "run"), [format!("run/{}", text(&version["run"]))].into());
        assert!(nodes(&up, "endpoint").is_empty() && up.get("cut").is_none(), "{up}");

        let down = trace(dataset, "down");
        assert!(nodes(&down, "version").contains(&id), "{down}");
        let log = format!("predictions/{ENDPOINT}/{number}");
        let counted = |quality: &Value| -> u64 {
            let of_version = items(quality).iter().filter(|row| row["version"] == *number.to_string());
            of_version.map(|row| row["predictions"].as_u64().expect("a count")).sum()
        };
        let predictions = counted(&PLAYED.after.quality);
        // A challenger that the gate refused scored nothing.
        assert_eq!(nodes(&down, "predictions").contains(&log), predictions > 0, "{number}: {down}");
        if predictions == 0 {
            continue;
        }
        assert_eq!(nodes(&down, "endpoint"), [format!("endpoint/{ENDPOINT}")].into());
        let node = items(&down["nodes"]).iter().find(|node| node["id"] == *log).expect("it is there");
        // Other tests ask for predictions meanwhile.
        let by_now = counted(&PLAYED.server.get(&endpoint("/quality?bucket=week")).ok());
        let told = node["details"]["predictions"].as_u64().expect("a count");
        assert!((predictions..=by_now).contains(&told), "{predictions} to {by_now}: {node}");
        let back = trace(&log, "up");
        assert_eq!(nodes(&back, "version"), [id].into(), "the endpoint's other versions are not its origin");
        assert_eq!(nodes(&back, "dataset"), [dataset.clone()].into());
    }
    let both = trace(&format!("endpoint/{ENDPOINT}"), "both");
    let deployed = nodes(&both, "version").len();
    assert!(deployed >= 2 && nodes(&both, "predictions").len() == deployed, "{both}");
}

#[test]
fn a_prediction_is_traced_to_its_version_run_and_data() {
    let logged = &items(&PLAYED.after.predictions)[0];
    let answered = items(&logged["scores"]).iter().find(|score| score["role"] == "live").expect("an answer");
    let graph = trace(&format!("prediction/{}", text(&logged["id"])), "up");
    let version = format!("model/{ENDPOINT}/{}", answered["version"]);
    let edges = items(&graph["edges"]);
    assert!(edges.iter().any(|edge| edge["from"] == *version && edge["relation"] == "answered"), "{graph}");
    for kind in ["dataset", "run", "version", "endpoint"] {
        assert!(!nodes(&graph, kind).is_empty(), "{kind}: {graph}");
    }
    let shown = items(&graph["nodes"]).iter().find(|node| node["kind"] == "prediction").expect("the start");
    assert!(shown["details"].get("inputs").is_none(), "rows stay in the log");
}

#[test]
fn the_impact_of_a_dataset_is_what_learned_from_it_and_served() {
    let champion = &PLAYED.after.endpoint["champion"];
    let dataset = nodes(&trace(&format!("model/{ENDPOINT}/{champion}"), "up"), "dataset").pop_first().expect("one");
    let digest = dataset.strip_prefix("dataset/").expect("a dataset");
    let impact = PLAYED.server.get(&format!("/api/v1/datasets/{digest}/impact")).ok();
    assert!(items(&impact["versions"]).contains(&json!(format!("{ENDPOINT}/{champion}"))), "{impact}");
    let [reached] = items(&impact["endpoints"]) else { panic!("one endpoint: {impact}") };
    assert_eq!((&reached["endpoint"], &reached["now"]), (&json!(ENDPOINT), &json!([champion])));
    assert!(reached["predictions"].as_u64().is_some_and(|count| count > 0));

    let said = |args: &[&str]| {
        let output = support::millpond(&[&["--url", &PLAYED.server.url, "lineage"], args].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    assert!(said(&[&dataset, "--impact"]).contains(ENDPOINT));
    let down = said(&[&dataset, "--direction", "down"]);
    assert!(down.contains("served_by") && down.contains("predictions/"), "{down}");
    assert!(said(&[&dataset, "--depth", "1"]).contains("there is more beyond 1 steps"));
}

#[test]
fn what_cannot_be_traced_says_why() {
    let ask = |query: &str| PLAYED.server.get(&format!("/api/v1/lineage?{query}"));
    let detail = ask("node=row/1").problem(400, "invalid_argument");
    assert!(detail.contains("write dataset/DIGEST"), "{detail}");
    ask("").problem(400, "invalid_argument");
    ask("node=endpoint/x&direction=sideways").problem(400, "invalid_argument");
    for unknown in [
        "endpoint/none",
        "model/none/1",
        "model/none/99",
        "run/00000000000000000000000000000000",
        "prediction/00000000000000000000000000000000",
        "logged_model/none",
        "input/a/b",
        "predictions/none/1",
        "dataset/0000000000000000000000000000000000000000000000000000000000000000",
    ] {
        ask(&format!("node={unknown}")).problem(404, "not_found");
    }
    ask(&format!("node=predictions/{ENDPOINT}/99")).problem(404, "not_found");
}

#[test]
fn every_vector_that_was_served_is_what_history_says() {
    let Value::Object(total) = &PLAYED.consistency["total"] else { panic!("{}", PLAYED.consistency) };
    assert!(total["vectors"].as_u64().is_some_and(|vectors| vectors > 1_000), "{total:?}");
    let differing = ["gone", "late_data", "definition_change", "lost_write"].map(|name| total[name].clone());
    assert_eq!(differing, [json!(0), json!(0), json!(0), json!(0)], "{}", PLAYED.consistency);
}
