//! A server whose joins run on Sail with two workers: over files of this machine, and over a bucket.

#[path = "support/spark_server.rs"]
mod spark_server;
mod support;

use serde_json::{Value, json};
use spark_server::SparkServer;
use support::{
    Server,
    bucket::Shared,
    millpond,
    sensors::{folder, json_of},
};
use tempfile::tempdir;

/// History of the sensors as Spark joins it is what is served online, windows included.
fn history_is_what_is_served(server: &Server) {
    let definitions = folder().display().to_string();
    let readings = folder().join("data/readings.csv").display().to_string();
    for args in [
        ["apply", &definitions, "--url", &server.url].as_slice(),
        &["ingest", "readings", &readings, "--url", &server.url],
    ] {
        let output = millpond(args);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let plan = json_of(&["features", "plan", "pump-fault", "--questions", "5", "--json", "--url", &server.url]);
    assert_eq!((&plan["place"], &plan["reason"]), (&json!("spark"), &json!("`joins.place` is `spark`")));
    assert_eq!((&plan["rows"], &plan["questions"]), (&json!(7_200), &json!(5)));
    let rows: Vec<Value> = ["P01", "P02", "P03", "P01", "nobody"]
        .iter()
        .enumerate()
        .map(|(n, pump)| json!({"pump": pump, "event_timestamp": format!("2024-03-{:02}T12:00:00Z", 5 + 2 * n)}))
        .collect();
    let body = json!({"service": "pump-fault", "rows": rows});
    let online = server.post("/api/v1/features/online", &body).ok();
    assert_eq!(server.post("/api/v1/features/historical", &body).ok(), online);
    assert_eq!(online["status"][0]["now__vibration"]["status"], "PRESENT");
}

#[test]
fn joins_run_on_spark_over_files() {
    let data = tempdir().expect("a directory");
    let url = format!("joins.spark_url={}", SparkServer::shared().address);
    history_is_what_is_served(&Server::start_with(data.path(), &["--set", &url, "--set", "joins.place=spark"]));
}

#[test]
fn joins_run_on_spark_over_a_bucket() {
    let shared = Shared::new();
    let bucket = &shared.bucket;
    let keys = bucket.keys.as_ref().expect("it has keys");
    let endpoint = bucket.endpoint.as_deref().expect("it has an address");
    let spark = SparkServer::start(&[
        ("AWS_ENDPOINT", endpoint),
        ("AWS_REGION", "us-east-1"),
        ("AWS_ALLOW_HTTP", "true"),
        ("AWS_VIRTUAL_HOSTED_STYLE_REQUEST", "false"),
        ("AWS_ACCESS_KEY_ID", &keys.access_key),
        ("AWS_SECRET_ACCESS_KEY", &keys.secret_key),
    ]);
    let data = tempdir().expect("a directory");
    let url = format!("joins.spark_url={}", spark.address);
    history_is_what_is_served(&shared.start_with(data.path(), &["--set", &url, "--set", "joins.place=spark"]));
}

#[test]
fn settings_that_cannot_work_are_refused_at_the_start() {
    for (flags, said) in [
        (["joins.place=spark", "log.filter=error"], "joins.place is spark and joins.spark_url is not set"),
        (["joins.spark_url=http://h", "log.filter=error"], "it begins with `sc://`"),
        (["joins.spark_url=sc://h:1/;token=hidden", "log.filter=error"], "add `use_ssl=true`"),
        (["joins.spark_url=sc://localhost:1", "joins.spark_token_file=/nowhere"], "/nowhere"),
    ] {
        let data = tempdir().expect("a directory");
        let data = data.path().display().to_string();
        let output =
            millpond(&["up", "--listen", "127.0.0.1:0", "--data-dir", &data, "--set", flags[0], "--set", flags[1]]);
        let all = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(!output.status.success() && all.contains(said) && !all.contains("hidden"), "{flags:?}: {all}");
    }
}
