//! `millpond demo`: replays an example's history in event time against a running server.
//!
//! A client like any other: it knows the REST API and the files of the example, nothing else.

mod data;
mod plan;
mod replay;
mod report;

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use serde_json::json;

use super::{
    Global,
    client::{Client, encode},
    commands::follow,
    output,
};
use plan::Plan;
use replay::Replay;

#[derive(Args)]
pub struct Demo {
    /// Example to replay: a folder under `examples/` with a `replay.yaml`.
    #[arg(default_value = "flights")]
    example: String,
    /// The folder itself, when it lies elsewhere.
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
    /// Stop the replay at this instant instead of the plan's end.
    #[arg(long, value_name = "INSTANT")]
    until: Option<domain::Timestamp>,
}

impl Demo {
    pub fn run(&self, global: &Global) -> anyhow::Result<()> {
        let folder = self.folder.clone().unwrap_or_else(|| PathBuf::from("examples").join(&self.example));
        let mut plan = Plan::read(&folder)?;
        if let Some(until) = self.until {
            plan.end = plan.end.min(until);
        }
        let client = Client::new(global)?;
        let say = |text: &str| {
            if !global.json {
                println!("{text}");
            }
        };

        say(&format!("1. apply the definitions of {}", folder.display()));
        let first = super::commands::apply(&client, std::slice::from_ref(&folder), false)?;
        let again = super::commands::apply(&client, std::slice::from_ref(&folder), false)?;
        say(&format!("   {} definitions; applied again: {}", count(&first), actions(&again)));

        say("2. ingest the history");
        let mut replay = Replay::open(&client, &folder, &plan)?;
        for (source, report) in replay.ingest_history(plan.start)? {
            say(&format!("   {source:12} {report}"));
        }

        say("3. train the first model and deploy it");
        let body = json!({"cutoff": plan.start, "reason": "first model"});
        let answer = client.post(&format!("/api/v1/pipelines/{}/runs", encode(&plan.pipeline)), &body)?;
        let run = follow(&client, answer["run"].as_str().unwrap_or(""))?;
        anyhow::ensure!(
            run["state"] == "promoted",
            "the first training run ended as {}: {} {}",
            run["state"],
            output::cell(&run["decision"]["reason"]),
            output::rows(&run["steps"], &[("step", "name"), ("state", "state"), ("error", "error")])
        );
        let first = run["challenger"].as_u64().context("the first run names no version")?;
        report::candidates(&client, &plan, &say)?;
        // The first version goes on scoring in the shadow of its successors: that is the yardstick.
        let body = json!({"targets": [{"version": first, "percent": 100}], "shadow": [first], "reason": "first version, kept as yardstick"});
        client.put(&format!("/api/v1/endpoints/{}/deployment", encode(&plan.endpoint)), &body)?;

        say(&format!("4. replay {} to {} in event time", plan.start, plan.end));
        let tally = replay.run(&plan, global.json)?;

        let report = report::Report::gather(&client, &plan, tally, first)?;
        if global.json {
            println!("{:#}", report.to_json());
        } else {
            println!("\n{report}");
        }
        Ok(())
    }
}

fn count(applied: &serde_json::Value) -> usize {
    applied["changes"].as_array().map_or(0, Vec::len)
}

fn actions(applied: &serde_json::Value) -> String {
    let changes = applied["changes"].as_array().cloned().unwrap_or_default();
    let changed = changes.iter().filter(|c| c["action"] != "unchanged").count();
    if changed == 0 { "nothing changes".to_owned() } else { format!("{changed} changed") }
}
