//! `evaluate` and `review`.

use clap::{ArgAction, Subcommand};
use serde_json::json;

use crate::cli::{
    Global,
    client::{Client, encode},
    output,
};

#[derive(Subcommand)]
pub enum Evaluate {
    /// Quality by version over event time.
    Quality {
        endpoint: String,
        /// day, week, month or all.
        #[arg(long, default_value = "month")]
        bucket: String,
        /// A column by whose values to slice.
        #[arg(long)]
        slice: Option<String>,
    },
    /// Drift reports, one for each window.
    Drift { endpoint: String },
    /// Alerts, newest first.
    Alerts {
        #[arg(long)]
        endpoint: Option<String>,
    },
    /// Post a label under a label key.
    Label {
        endpoint: String,
        /// The values of the endpoint's label key, joined by `|`.
        key: String,
        #[arg(action = ArgAction::Set)]
        value: bool,
        /// When it became known (RFC 3339 with a zone); now when left out.
        #[arg(long)]
        known_at: Option<String>,
    },
    /// Logged predictions, newest first.
    Predictions {
        endpoint: String,
        #[arg(long, default_value_t = 20)]
        limit: usize,
    },
}

impl Evaluate {
    pub fn run(&self, global: &Global) -> anyhow::Result<()> {
        let client = Client::new(global)?;
        let base = |endpoint: &str| format!("/api/v1/endpoints/{}", encode(endpoint));
        match self {
            Self::Quality { endpoint, bucket, slice } => {
                let slice = slice.as_ref().map_or_else(String::new, |s| format!("&slice={}", encode(s)));
                let path = format!("{}/quality?bucket={}{slice}", base(endpoint), encode(bucket));
                output::show(global.json, &client.get(&path)?, |all| {
                    output::rows(
                        all,
                        &[
                            ("from", "bucket_start"),
                            ("version", "version"),
                            ("slice", "slice"),
                            ("predictions", "predictions"),
                            ("labelled", "labelled"),
                            ("auc", "auc"),
                            ("log_loss", "log_loss"),
                            ("brier", "brier"),
                            ("mean score", "mean_score"),
                            ("rate", "rate"),
                        ],
                    )
                });
            }
            Self::Drift { endpoint } => {
                output::show(global.json, &client.get(&format!("{}/reports", base(endpoint)))?, |all| {
                    output::rows(
                        all,
                        &[
                            ("window from", "window_start"),
                            ("to", "window_end"),
                            ("champion", "champion"),
                            ("weighted psi", "weighted_psi"),
                            ("fired", "fired"),
                        ],
                    )
                });
            }
            Self::Alerts { endpoint } => {
                let query = endpoint.as_ref().map_or_else(String::new, |e| format!("?endpoint={}", encode(e)));
                output::show(global.json, &client.get(&format!("/api/v1/alerts{query}"))?, |all| {
                    output::rows(
                        all,
                        &[
                            ("alert", "id"),
                            ("endpoint", "endpoint"),
                            ("rule", "rule"),
                            ("state", "state"),
                            ("raised", "raised_at"),
                            ("value", "value"),
                            ("limit", "limit"),
                        ],
                    )
                });
            }
            Self::Label { endpoint, key, value, known_at } => {
                let mut label = json!({"key": key, "value": value});
                if let Some(at) = known_at {
                    label["known_at"] = json!(at);
                }
                let answer = client.post(&format!("{}/labels", base(endpoint)), &json!({"labels": [label]}))?;
                output::show(global.json, &answer, |r| {
                    format!("joined {}, unmatched {}, already known {}\n", r["joined"], r["unmatched"], r["already"])
                });
            }
            Self::Predictions { endpoint, limit } => {
                let path = format!("{}/predictions?limit={limit}", base(endpoint));
                output::show(global.json, &client.get(&path)?, |all| {
                    output::rows(
                        all,
                        &[("prediction", "id"), ("key", "label_key"), ("event time", "event_time"), ("label", "label")],
                    )
                });
            }
        }
        Ok(())
    }
}

#[derive(Subcommand)]
pub enum Review {
    /// Tasks that wait for a person.
    List { endpoint: String },
    /// Answer a task.
    Answer {
        task: String,
        #[arg(action = ArgAction::Set)]
        value: bool,
        /// Who answers.
        #[arg(long)]
        reviewer: String,
    },
}

impl Review {
    pub fn run(&self, global: &Global) -> anyhow::Result<()> {
        let client = Client::new(global)?;
        match self {
            Self::List { endpoint } => {
                let path = format!("/api/v1/endpoints/{}/review", encode(endpoint));
                output::show(global.json, &client.get(&path)?, |all| {
                    output::rows(
                        all,
                        &[("task", "id"), ("key", "label_key"), ("event time", "event_time"), ("why", "why")],
                    )
                });
            }
            Self::Answer { task, value, reviewer } => {
                let path = format!("/api/v1/review/{}/answer", encode(task));
                let answer = client.post(&path, &json!({"value": value, "reviewer": reviewer}))?;
                output::show(global.json, &answer, |_| format!("task {task} is answered: {value}\n"));
            }
        }
        Ok(())
    }
}
