//! `train` and `pipelines`.

use std::{process::ExitCode, time::Duration};

use clap::{Args, Subcommand};
use indicatif::ProgressBar;
use serde_json::{Value, json};

use crate::cli::{
    Global,
    client::{Client, encode},
    output,
};

#[derive(Args)]
pub struct Train {
    pipeline: String,
    /// Train on what was known by this instant (RFC 3339 with a zone); now when left out.
    #[arg(long)]
    cutoff: Option<String>,
    /// Why; kept with the run.
    #[arg(long, default_value = "")]
    reason: String,
    /// Do not wait for the end.
    #[arg(long)]
    detach: bool,
}

/// Polls a pipeline run until it computes no more, showing the step it is at. Returns the run.
pub fn follow(client: &Client, run: &str) -> anyhow::Result<Value> {
    let spinner = ProgressBar::new_spinner();
    spinner.enable_steady_tick(Duration::from_millis(120));
    loop {
        let view = client.get(&format!("/api/v1/pipeline-runs/{}", encode(run)))?;
        let state = view["state"].as_str().unwrap_or("");
        if !matches!(state, "queued" | "running") {
            spinner.finish_and_clear();
            return Ok(view);
        }
        let step = view["steps"].as_array().into_iter().flatten().find(|s| s["state"] == "running");
        spinner.set_message(format!("{state}: {}", step.map_or("...".to_owned(), |s| output::cell(&s["name"]))));
        std::thread::sleep(Duration::from_millis(200));
    }
}

impl Train {
    /// Exit status 2 says that the gate refused the new version.
    pub fn run(&self, global: &Global) -> anyhow::Result<ExitCode> {
        let client = Client::new(global)?;
        let mut body = json!({"reason": self.reason});
        if let Some(cutoff) = &self.cutoff {
            body["cutoff"] = json!(cutoff);
        }
        let answer = client.post(&format!("/api/v1/pipelines/{}/runs", encode(&self.pipeline)), &body)?;
        if self.detach {
            output::show(global.json, &answer, |a| format!("{}\n", output::cell(&a["run"])));
            return Ok(ExitCode::SUCCESS);
        }
        let view = follow(&client, answer["run"].as_str().unwrap_or(""))?;
        output::show(global.json, &view, story);
        Ok(match view["state"].as_str() {
            Some("failed") => ExitCode::FAILURE,
            Some("refused" | "rolled_back") => ExitCode::from(2),
            _ => ExitCode::SUCCESS,
        })
    }
}

/// A run as a few lines of text.
fn story(run: &Value) -> String {
    let steps = output::rows(
        &run["steps"],
        &[("step", "name"), ("state", "state"), ("started", "started"), ("finished", "finished"), ("error", "error")],
    );
    format!(
        "{steps}\nrun {} is {}: {}\n",
        output::cell(&run["id"]),
        output::cell(&run["state"]),
        output::cell(&run["decision"]["reason"])
    )
}

#[derive(Subcommand)]
pub enum Pipelines {
    /// Pipeline runs, newest first.
    List,
    /// One run: steps and decision.
    Show { run: String },
    /// Run a pipeline and follow it (the same as `millpond train`).
    Run(Train),
    /// The journal: every change of state, each with its cause.
    Events {
        #[arg(long, default_value_t = 0)]
        after: u64,
    },
}

impl Pipelines {
    pub fn run(&self, global: &Global) -> anyhow::Result<ExitCode> {
        let client = Client::new(global)?;
        match self {
            Self::List => output::show(global.json, &client.get("/api/v1/pipeline-runs")?, |all| {
                output::rows(
                    all,
                    &[
                        ("run", "id"),
                        ("pipeline", "pipeline"),
                        ("state", "state"),
                        ("cutoff", "cutoff"),
                        ("challenger", "challenger"),
                        ("decision", "decision.reason"),
                    ],
                )
            }),
            Self::Show { run } => {
                output::show(global.json, &client.get(&format!("/api/v1/pipeline-runs/{}", encode(run)))?, story);
            }
            Self::Run(train) => return train.run(global),
            Self::Events { after } => {
                output::show(global.json, &client.get(&format!("/api/v1/events?after={after}"))?, |all| {
                    output::rows(
                        all,
                        &[
                            ("seq", "seq"),
                            ("at", "at"),
                            ("kind", "kind"),
                            ("subject", "subject"),
                            ("actor", "actor"),
                            ("cause", "cause"),
                        ],
                    )
                });
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}
