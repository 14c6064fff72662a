//! `deploy` and `predict`.

use anyhow::Context as _;
use clap::Args;
use serde_json::{Value, json};

use crate::cli::{
    Global,
    client::{Client, encode},
    output,
};

#[derive(Args)]
pub struct Deploy {
    endpoint: String,
    /// Shares of the traffic, as VERSION=PERCENT; they add up to 100. A bare VERSION takes all.
    #[arg(required = true, value_name = "VERSION=PERCENT")]
    targets: Vec<String>,
    /// Versions that score beside the answer for comparison.
    #[arg(long, value_name = "VERSION")]
    shadow: Vec<u32>,
    /// Why; kept in the journal.
    #[arg(long, default_value = "")]
    reason: String,
}

fn share(text: &str) -> anyhow::Result<Value> {
    let (version, percent) = text.split_once('=').unwrap_or((text, "100"));
    let version: u32 = version.parse().with_context(|| format!("`{text}` is not VERSION=PERCENT"))?;
    let percent: u32 = percent.parse().with_context(|| format!("`{text}` is not VERSION=PERCENT"))?;
    Ok(json!({"version": version, "percent": percent}))
}

impl Deploy {
    pub fn run(&self, global: &Global) -> anyhow::Result<()> {
        let targets = self.targets.iter().map(|t| share(t)).collect::<anyhow::Result<Vec<_>>>()?;
        let body = json!({"targets": targets, "shadow": self.shadow, "reason": self.reason});
        let path = format!("/api/v1/endpoints/{}/deployment", encode(&self.endpoint));
        let answer = Client::new(global)?.put(&path, &body)?;
        output::show(global.json, &answer, |endpoint| {
            output::rows(&endpoint["targets"], &[("version", "version"), ("percent", "percent")])
        });
        Ok(())
    }
}

#[derive(Args)]
pub struct Predict {
    endpoint: String,
    /// A JSON object for each row, or @FILE with an object, an array or {"instances": [...]}.
    #[arg(required = true, value_name = "JSON")]
    instances: Vec<String>,
    /// Answer with this version, whatever the split says.
    #[arg(long)]
    version: Option<u32>,
}

fn instances(text: &str) -> anyhow::Result<Vec<Value>> {
    let (text, name) = match text.strip_prefix('@') {
        Some(path) => (std::fs::read_to_string(path).with_context(|| format!("could not read `{path}`"))?, path),
        None => (text.to_owned(), text),
    };
    let mut value: Value = serde_json::from_str(&text).with_context(|| format!("`{name}` is not JSON"))?;
    if value["instances"].is_array() {
        value = value["instances"].take();
    }
    Ok(match value {
        Value::Array(rows) => rows,
        row => vec![row],
    })
}

impl Predict {
    pub fn run(&self, global: &Global) -> anyhow::Result<()> {
        let mut rows = Vec::new();
        for text in &self.instances {
            rows.extend(instances(text)?);
        }
        let mut body = json!({"instances": rows});
        if let Some(version) = self.version {
            body["version"] = json!(version);
        }
        let path = format!("/api/v1/endpoints/{}/predict", encode(&self.endpoint));
        let answer = Client::new(global)?.post(&path, &body)?;
        output::show(global.json, &answer, |answer| {
            output::rows(
                &answer["predictions"],
                &[
                    ("prediction", "id"),
                    ("version", "version"),
                    ("score", "score"),
                    ("positive", "positive"),
                    ("event time", "event_timestamp"),
                ],
            )
        });
        Ok(())
    }
}
