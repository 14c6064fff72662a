//! `models`.

use clap::Subcommand;
use serde_json::json;

use super::approvals::Approving;
use crate::cli::{
    Global,
    client::{Client, encode},
    output,
};

#[derive(Subcommand)]
pub enum Models {
    /// Registered models.
    List,
    /// Versions of a model.
    Show { model: String },
    /// What a version came from: dataset, run, files.
    Lineage { model: String, version: u32 },
    /// Point an alias at a version.
    Alias {
        model: String,
        alias: String,
        version: u32,
        /// Why; kept in the journal.
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Tracked runs, newest first.
    Runs {
        #[arg(long)]
        experiment: Option<String>,
    },
    #[command(flatten)]
    Approving(Approving),
}

impl Models {
    pub fn run(&self, global: &Global) -> anyhow::Result<()> {
        let client = Client::new(global)?;
        match self {
            Self::List => output::show(global.json, &client.get("/api/v1/models")?, |all| {
                output::rows(all, &[("model", "name"), ("latest", "latest"), ("aliases", "aliases")])
            }),
            Self::Show { model } => {
                let answer = client.get(&format!("/api/v1/models/{}/versions", encode(model)))?;
                output::show(global.json, &answer, |all| {
                    output::rows(
                        all,
                        &[
                            ("version", "version"),
                            ("run", "run"),
                            ("flavors", "flavors"),
                            ("source", "source"),
                            ("unsafe", "unsafe_reason"),
                            ("auc", "metrics.holdout_auc"),
                            ("log_loss", "metrics.holdout_log_loss"),
                            ("parity", "metrics.parity_max_abs_diff"),
                            ("created", "created_at"),
                        ],
                    )
                });
            }
            Self::Lineage { model, version } => {
                let answer = client.get(&format!("/api/v1/models/{}/versions/{version}/lineage", encode(model)))?;
                output::show(global.json, &answer, |graph| {
                    output::rows(&graph["edges"], &[("from", "from"), ("relation", "relation"), ("to", "to")])
                });
            }
            Self::Alias { model, alias, version, reason } => {
                let path = format!("/api/v1/models/{}/aliases/{}", encode(model), encode(alias));
                let answer = client.put(&path, &json!({"version": version, "reason": reason}))?;
                output::show(global.json, &answer, |_| format!("{alias} now points at {model}/{version}\n"));
            }
            Self::Approving(what) => what.run(global, &client)?,
            Self::Runs { experiment } => {
                let query = experiment.as_ref().map_or_else(String::new, |e| format!("?experiment={}", encode(e)));
                output::show(global.json, &client.get(&format!("/api/v1/runs{query}"))?, |all| {
                    output::rows(
                        all,
                        &[
                            ("run", "id"),
                            ("experiment", "experiment"),
                            ("name", "name"),
                            ("state", "state"),
                            ("log_loss", "metrics.holdout_log_loss"),
                            ("started", "started_at"),
                        ],
                    )
                });
            }
        }
        Ok(())
    }
}
