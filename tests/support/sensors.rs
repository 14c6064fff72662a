//! The sensors example, played against a server by the command that plays it for people.

use std::{path::PathBuf, time::Duration};

use serde_json::{Value, json};
use ureq::{
    Agent,
    http::{HeaderMap, Request},
};

use super::{Server, eventually, millpond, root};

/// The example's endpoint; its model, pipeline and service have the same name.
pub const ENDPOINT: &str = "pump-fault";

/// Event time at which history ends, the first model is trained and the replay begins.
pub const START: &str = "2024-03-16T00:00:00Z";

pub fn folder() -> PathBuf {
    root().join("examples/sensors")
}

/// An answer with its headers and its text; bytes that are no text (an icon's) are replaced.
pub struct Page {
    pub status: u16,
    pub headers: HeaderMap,
    pub text: String,
}

impl Page {
    /// The text of a header; empty when it is absent.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
    }
}

impl Server {
    /// Runs `millpond demo sensors --json` against this server to the plan's end, or to `until`; its report.
    #[track_caller]
    pub fn demo_sensors(&self, until: Option<&str>) -> Value {
        let mut args = vec!["demo", "sensors", "--json", "--url", &self.url];
        args.extend(until.into_iter().flat_map(|until| ["--until", until]));
        json_of(&args)
    }

    /// Sends a request with headers of its own and keeps the answer's.
    pub fn page(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Page {
        let config = Agent::config_builder().http_status_as_error(false).timeout_global(Some(Duration::from_secs(60)));
        let agent: Agent = config.build().into();
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = agent.run(request.body(()).expect("a request")).expect("the server answers");
        let (parts, body) = response.into_parts();
        let bytes = body.into_with_config().limit(1 << 26).read_to_vec().expect("a body");
        let text = String::from_utf8_lossy(&bytes).into_owned();
        Page { status: parts.status.as_u16(), headers: parts.headers, text }
    }

    /// Runs the example's pipeline on what was known by `cutoff`, to its end.
    #[track_caller]
    pub fn train_sensors(&self, cutoff: &str) -> Value {
        let answer = self.post(&format!("/api/v1/pipelines/{ENDPOINT}/runs"), &json!({"cutoff": cutoff})).ok();
        let path = format!("/api/v1/pipeline-runs/{}", answer["run"].as_str().expect("a run"));
        eventually("the pipeline run ends", || {
            let run = self.get(&path).ok();
            let going = ["queued", "running", "canary"].iter().any(|state| run["state"] == *state);
            (!going).then_some(run)
        })
    }
}

/// Runs a command that prints JSON.
#[track_caller]
pub fn json_of(args: &[&str]) -> Value {
    let output = millpond(args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// The items of an array.
#[track_caller]
pub fn items(value: &Value) -> &[Value] {
    value.as_array().unwrap_or_else(|| panic!("not an array: {value}"))
}

/// The number a value holds.
#[track_caller]
pub fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("not a number: {value}"))
}

/// The text a value holds.
#[track_caller]
pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("not a text: {value}"))
}
