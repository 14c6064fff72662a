//! `apply`, `features`.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{
    loads::{self, Load},
    quarantine::{Discard, Ingestion, Quarantine, Replay},
    streams::Streams,
};
use crate::cli::{
    Global,
    client::{Client, encode},
    output,
};

#[derive(Args)]
pub struct Apply {
    /// YAML files, or folders whose *.yaml files are all applied together.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Only say what would change.
    #[arg(long)]
    dry_run: bool,
}

/// Every YAML file under the given paths, in order of name.
fn yaml_files(paths: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            let entries = std::fs::read_dir(path).with_context(|| format!("could not list `{}`", path.display()))?;
            let mut found: Vec<PathBuf> = entries
                .filter_map(|entry| entry.ok().map(|e| e.path()))
                .filter(|p| matches!(p.extension().and_then(|e| e.to_str()), Some("yaml" | "yml")))
                .collect();
            found.sort();
            anyhow::ensure!(!found.is_empty(), "`{}` holds no *.yaml files", path.display());
            files.extend(found);
        } else {
            files.push(path.clone());
        }
    }
    Ok(files)
}

/// Applies definition files in one request. Each is checked alone first, so that an error names its file.
pub fn apply(client: &Client, paths: &[PathBuf], dry_run: bool) -> anyhow::Result<Value> {
    let mut all = String::new();
    for path in yaml_files(paths)? {
        let text = std::fs::read_to_string(&path).with_context(|| format!("could not read `{}`", path.display()))?;
        ::pipelines::parse(&text).with_context(|| format!("`{}`", path.display()))?;
        all.push_str("---\n");
        all.push_str(&text);
        all.push('\n');
    }
    Ok(client.send(&format!("/api/v1/definitions?dry_run={dry_run}"), "application/yaml", all.as_bytes())?)
}

impl Apply {
    pub fn run(&self, global: &Global) -> anyhow::Result<()> {
        let answer = apply(&Client::new(global)?, &self.paths, self.dry_run)?;
        output::show(global.json, &answer, |answer| {
            output::rows(
                &answer["changes"],
                &[("kind", "kind"), ("name", "name"), ("action", "action"), ("detail", "detail")],
            )
        });
        Ok(())
    }
}

#[derive(Subcommand)]
pub enum Features {
    /// Values as the online store serves them.
    Online(Lookup),
    /// Values as of each row's event_timestamp, from offline history.
    Historical(Lookup),
    /// Where a join would run, and why: here or on Spark.
    #[command(after_help = "Example:\n  millpond features plan pump-fault --questions 1000000")]
    Plan {
        /// Feature service.
        service: String,
        /// How many rows would be asked for.
        #[arg(long, value_name = "N", default_value_t = 1)]
        questions: u64,
    },
    /// All definitions.
    List,
    /// Rows that were set aside, with line and reason.
    #[command(after_help = "Example:\n  millpond features quarantine readings --state waiting --reason wrong_type")]
    Quarantine(Quarantine),
    /// Take rows that were set aside into the store, as they are or mended.
    #[command(after_help = "Example:\n  millpond features replay readings --all --reason late\n  \
                            millpond features replay readings 3f2a... --set vibration=2.5")]
    Replay(Replay),
    /// Mark rows that were set aside as unwanted.
    #[command(after_help = "Example:\n  millpond features discard readings --all --reason malformed")]
    Discard(Discard),
    /// Load files of the server's disk into a source.
    #[command(after_help = "Example:\n  millpond features load readings '/srv/rows/2024-03-*.csv'")]
    Load(Load),
    /// Loads of files, newest first.
    #[command(after_help = "Example:\n  millpond features loads")]
    Loads,
    /// Files that were loaded into a source.
    #[command(after_help = "Example:\n  millpond features files readings")]
    Files { source: String },
    /// Streams that sources read from, with their lag.
    #[command(after_help = "Example:\n  millpond features streams\n  millpond features streams pause readings")]
    Streams(Streams),
    /// How a source's ingestion stands: rows, watermark, rows set aside, columns that drifted.
    #[command(after_help = "Example:\n  millpond features ingestion readings")]
    Ingestion(Ingestion),
    /// Where a source's offline table lies and what is in it.
    #[command(after_help = "Example:\n  millpond features table weather")]
    Table { source: String },
    /// Seal a source's newest rows and join the small files of its offline table.
    #[command(after_help = "Example:\n  millpond features compact weather")]
    Compact { source: String },
    /// Remove files that earlier versions of a source's offline table needed.
    #[command(after_help = "Example:\n  millpond features vacuum weather --keep 7d")]
    Vacuum {
        source: String,
        /// For how long earlier versions stay readable; at most 60d.
        #[arg(long, value_name = "DURATION", default_value = "30d")]
        keep: domain::Span,
    },
    /// Whether what was served online is what history says.
    Consistency(Consistency),
}

#[derive(Args)]
pub struct Lookup {
    /// Feature service.
    service: String,
    /// One JSON object per row: entity keys and, if wanted, event_timestamp.
    #[arg(required = true, value_name = "JSON")]
    rows: Vec<String>,
}

impl Lookup {
    fn run(&self, global: &Global, route: &str) -> anyhow::Result<()> {
        let rows = self
            .rows
            .iter()
            .map(|row| serde_json::from_str::<Value>(row).with_context(|| format!("`{row}` is not JSON")))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let body = json!({"service": self.service, "rows": rows});
        let answer = Client::new(global)?.post(&format!("/api/v1/features/{route}"), &body)?;
        output::show(global.json, &answer, |answer| {
            let mut text = String::new();
            let statuses = answer["status"].as_array().cloned().unwrap_or_default();
            for (row, status) in answer["rows"].as_array().into_iter().flatten().zip(statuses) {
                for (name, value) in row.as_object().into_iter().flatten() {
                    let state = status[name]["status"].as_str().unwrap_or("");
                    text.push_str(&format!("{name:40} {:24} {state}\n", output::cell(value)));
                }
                text.push('\n');
            }
            text
        });
        Ok(())
    }
}

#[derive(Args)]
pub struct Consistency {
    /// Compare what was served since the last check, now.
    #[arg(long)]
    check: bool,
    /// Mismatches to show, newest first.
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: usize,
}

impl Consistency {
    fn run(&self, global: &Global) -> anyhow::Result<()> {
        if self.check {
            Client::patient(global)?.post("/api/v1/features/consistency/check", &json!({}))?;
        }
        let answer = Client::new(global)?.get(&format!("/api/v1/features/consistency?limit={}", self.limit))?;
        output::show(global.json, &answer, |answer| {
            let count = |name: &str| output::cell(&answer["total"][name]);
            let mut text = format!(
                "{} vectors compared with history since the start, {} wait, {} let go\n\
                 {} values: {} differ by late data, {} by a changed definition, {} by a lost write\n",
                count("vectors"),
                output::cell(&answer["waiting"]),
                output::cell(&answer["dropped"]),
                count("values"),
                count("late_data"),
                count("definition_change"),
                count("lost_write"),
            );
            let columns = ["service", "feature", "cause", "keys", "at", "online", "offline"].map(|name| (name, name));
            if answer["mismatches"].as_array().is_some_and(|all| !all.is_empty()) {
                text += &output::rows(&answer["mismatches"], &columns);
            }
            text
        });
        Ok(())
    }
}

impl Features {
    pub fn run(&self, global: &Global) -> anyhow::Result<()> {
        let client = Client::new(global)?;
        match self {
            Self::Online(lookup) => lookup.run(global, "online")?,
            Self::Historical(lookup) => lookup.run(global, "historical")?,
            Self::Plan { service, questions } => {
                let path = format!("/api/v1/features/plan?service={}&questions={questions}", encode(service));
                output::show(global.json, &client.get(&path)?, pairs);
            }
            Self::List => {
                let answer = client.get("/api/v1/definitions")?;
                output::show(global.json, &answer["definitions"], |all| {
                    output::rows(all, &[("kind", "kind"), ("name", "name"), ("description", "description")])
                });
            }
            Self::Quarantine(quarantine) => quarantine.run(global)?,
            Self::Replay(replay) => replay.run(global)?,
            Self::Discard(discard) => discard.run(global)?,
            Self::Ingestion(ingestion) => ingestion.run(global)?,
            Self::Streams(streams) => streams.run(global)?,
            Self::Load(load) => load.run(global)?,
            Self::Loads => output::show(global.json, &client.get("/api/v1/loads")?, loads::shown),
            Self::Files { source } => {
                let answer = client.get(&format!("/api/v1/sources/{}/files", encode(source)))?;
                output::show(global.json, &answer, loads::files);
            }
            Self::Table { source } => {
                let answer = client.get(&format!("/api/v1/sources/{}/table", encode(source)))?;
                output::show(global.json, &answer, pairs);
            }
            Self::Compact { source } => {
                let path = format!("/api/v1/sources/{}/compact", encode(source));
                output::show(global.json, &Client::patient(global)?.post(&path, &json!({}))?, pairs);
            }
            Self::Vacuum { source, keep } => {
                let path = format!("/api/v1/sources/{}/vacuum", encode(source));
                output::show(global.json, &Client::patient(global)?.post(&path, &json!({"keep": keep}))?, pairs);
            }
            Self::Consistency(consistency) => consistency.run(global)?,
        }
        Ok(())
    }
}

/// An object's fields, one a line.
fn pairs(answer: &Value) -> String {
    let fields = answer.as_object().into_iter().flatten();
    fields.map(|(name, value)| format!("{:14} {}\n", name.replace('_', " "), output::cell(value))).collect()
}
