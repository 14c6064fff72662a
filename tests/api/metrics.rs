//! The exposition at `/metrics`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use crate::{
    SERVER, instance, page,
    support::{eventually, sensors::ENDPOINT},
};

/// Every sample of the exposition: name with labels -> value.
fn samples(exposition: &str) -> BTreeMap<String, f64> {
    let mut typed = BTreeSet::new();
    let mut samples = BTreeMap::new();
    for line in exposition.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a name and a type");
            assert!(["counter", "gauge", "summary"].contains(&kind) && typed.insert(name), "{line}");
        } else if let Some(rest) = line.strip_prefix("# ") {
            assert!(rest.starts_with("HELP millpond_"), "{line}");
        } else {
            let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no value: {line}"));
            let name = series.split('{').next().unwrap_or("");
            let base = ["_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
            assert!(typed.contains(name) || typed.contains(base), "no type before it: {line}");
            assert!(!series.contains('{') || series.ends_with("\"}"), "{line}");
            let value = value.parse().unwrap_or_else(|_| panic!("no number: {line}"));
            assert!(samples.insert(series.to_owned(), value).is_none(), "twice: {line}");
        }
    }
    samples
}

#[test]
fn metrics_count_requests_errors_and_durations_of_every_route_and_the_stages_of_a_model() {
    SERVER.predict(ENDPOINT, &json!([instance("metrics")])).ok();
    SERVER.predict("nobody", &json!([instance("metrics")])).problem(404, "not_found");
    SERVER.get("/some/scanner").problem(404, "not_found");
    let answer = page("/metrics");
    assert_eq!(answer.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    let samples = samples(&answer.text);
    let at_least_one = |series: &str| {
        let value = samples.get(series).copied().unwrap_or_else(|| panic!("no {series}\n{}", answer.text));
        assert!(value >= 1.0, "{series} {value}");
    };
    let route = "route=\"/api/v1/endpoints/{endpoint}/predict\"";
    at_least_one(&format!("millpond_http_requests_total{{{route},method=\"POST\",status=\"200\"}}"));
    at_least_one(&format!("millpond_http_requests_total{{{route},method=\"POST\",status=\"404\"}}"));
    at_least_one(&format!("millpond_http_request_seconds_count{{{route}}}"));
    assert!(samples[&format!("millpond_http_request_seconds{{{route},quantile=\"0.99\"}}")] > 0.0);
    at_least_one("millpond_http_requests_total{route=\"unmatched\",method=\"GET\",status=\"404\"}");
    assert!(!answer.text.contains("scanner"), "a scanner cannot make series");
    let version = SERVER.get(&format!("/api/v1/endpoints/{ENDPOINT}")).ok()["champion"].clone();
    // Features are looked up once for all versions that score a request.
    for (version, stage) in [("all", "features"), (&*version.to_string(), "queue"), (&*version.to_string(), "infer")] {
        let labels = format!("endpoint=\"{ENDPOINT}\",version=\"{version}\",stage=\"{stage}\"");
        at_least_one(&format!("millpond_model_seconds_count{{{labels}}}"));
    }
    at_least_one(&format!("millpond_predictions_total{{endpoint=\"{ENDPOINT}\",version=\"{version}\"}}"));
    assert!(samples.keys().any(|series| series.starts_with("millpond_queue_depth{")), "queue depths");
    at_least_one("millpond_ingested_rows_total{source=\"readings\",outcome=\"accepted\"}");
    let promoted = format!("millpond_pipeline_runs_total{{pipeline=\"{ENDPOINT}\",outcome=\"promoted\"}} 1\n");
    eventually("the first run is counted", || page("/metrics").text.contains(&promoted).then_some(()));
}
