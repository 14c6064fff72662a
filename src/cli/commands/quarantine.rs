//! `features quarantine`, `features replay`, `features discard`, `features ingestion`.

use anyhow::Context as _;
use clap::Args;
use serde_json::{Map, Value, json};

use crate::cli::{
    Global,
    client::{Client, encode},
    output,
};

#[derive(Args)]
pub struct Quarantine {
    source: String,
    /// waiting, replayed or discarded.
    #[arg(long, value_name = "STATE")]
    state: Option<feature_store::Aside>,
    /// As in wrong_type, bad_time or late.
    #[arg(long, value_name = "REASON")]
    reason: Option<feature_store::Reason>,
    /// Rows to show, newest first.
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: usize,
}

impl Quarantine {
    pub fn run(&self, global: &Global) -> anyhow::Result<()> {
        let mut path = format!("/api/v1/sources/{}/quarantine?limit={}", encode(&self.source), self.limit);
        if let Some(state) = self.state {
            path.push_str(&format!("&state={state}"));
        }
        if let Some(reason) = self.reason {
            path.push_str(&format!("&reason={reason}"));
        }
        let answer = Client::new(global)?.get(&path)?;
        output::show(global.json, &answer, |all| {
            output::rows(
                all,
                &[
                    ("id", "id"),
                    ("state", "state"),
                    ("times", "times"),
                    ("line", "line"),
                    ("column", "column"),
                    ("why", "code"),
                    ("reason", "reason"),
                    ("row", "raw"),
                ],
            )
        });
        Ok(())
    }
}

/// Rows by id, or all that wait.
#[derive(Args)]
struct Chosen {
    source: String,
    /// Ids of rows, as `millpond features quarantine` shows them.
    #[arg(value_name = "ID", required_unless_present = "all")]
    rows: Vec<String>,
    /// All rows that wait.
    #[arg(long, conflicts_with = "rows")]
    all: bool,
    /// Of all rows that wait those of one reason, as in wrong_type or late.
    #[arg(long, value_name = "REASON", requires = "all")]
    reason: Option<feature_store::Reason>,
}

impl Chosen {
    fn body(&self) -> Map<String, Value> {
        let mut body = Map::new();
        if !self.all {
            body.insert("rows".into(), json!(self.rows));
        }
        if let Some(reason) = self.reason {
            body.insert("reason".into(), json!(reason));
        }
        body
    }

    fn post(&self, global: &Global, verb: &str, body: Map<String, Value>) -> anyhow::Result<Value> {
        let path = format!("/api/v1/sources/{}/quarantine/{verb}", encode(&self.source));
        Ok(Client::patient(global)?.post(&path, &Value::Object(body))?)
    }
}

#[derive(Args)]
pub struct Replay {
    #[command(flatten)]
    chosen: Chosen,
    /// Set a column first, in every row; the value is JSON, or else a text.
    #[arg(long = "set", value_name = "COLUMN=VALUE")]
    sets: Vec<String>,
    /// A JSON object to take in the place of the row; for one row.
    #[arg(long, value_name = "JSON", conflicts_with = "sets")]
    row: Option<String>,
}

impl Replay {
    pub fn run(&self, global: &Global) -> anyhow::Result<()> {
        let mut body = self.chosen.body();
        let mut patch = Map::new();
        for set in &self.sets {
            let (column, value) = set.split_once('=').with_context(|| format!("`{set}`: expected COLUMN=VALUE"))?;
            let value = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
            patch.insert(column.to_owned(), value);
        }
        body.insert("patch".into(), Value::Object(patch));
        if let Some(row) = &self.row {
            let row: Map<String, Value> =
                serde_json::from_str(row).with_context(|| format!("`{row}` is not a JSON object"))?;
            body.insert("instead".into(), Value::Object(row));
        }
        let answer = self.chosen.post(global, "replay", body)?;
        output::show(global.json, &answer, |answer| {
            let count = |name: &str| output::cell(&answer[name]);
            let mut text = format!(
                "{} rows replayed: {} accepted ({} corrections), {} were there already; {} still do not fit\n",
                count("replayed"),
                count("accepted"),
                count("corrections"),
                count("duplicates"),
                count("still_bad"),
            );
            for error in answer["first_errors"].as_array().into_iter().flatten() {
                let part = |name: &str| output::cell(&error[name]);
                text.push_str(&format!("{} {}: {}\n", part("id"), part("column"), part("reason")));
            }
            text
        });
        Ok(())
    }
}

#[derive(Args)]
pub struct Discard {
    #[command(flatten)]
    chosen: Chosen,
}

impl Discard {
    pub fn run(&self, global: &Global) -> anyhow::Result<()> {
        let answer = self.chosen.post(global, "discard", self.chosen.body())?;
        output::show(global.json, &answer, |answer| format!("{} rows discarded\n", output::cell(&answer["discarded"])));
        Ok(())
    }
}

#[derive(Args)]
pub struct Ingestion {
    source: String,
}

impl Ingestion {
    pub fn run(&self, global: &Global) -> anyhow::Result<()> {
        let answer = Client::new(global)?.get(&format!("/api/v1/sources/{}/ingestion", encode(&self.source)))?;
        output::show(global.json, &answer, |answer| {
            let line = |name: &str, value: &Value| format!("{name:14} {}\n", output::cell(value));
            let mut text = line("rows", &answer["rows"]) + &line("quarantined", &answer["quarantined"]);
            for (reason, rows) in answer["reasons"].as_object().into_iter().flatten() {
                text += &line(&format!("  {reason}"), rows);
            }
            for name in ["newest", "watermark", "late_before", "future_after"] {
                text += &line(&name.replace('_', " "), &answer["event_time"][name]);
            }
            if answer["drift"].as_array().is_some_and(|all| !all.is_empty()) {
                let columns = ["column", "kind", "rows", "first_seen", "last_seen"].map(|name| (name, name));
                text += &output::rows(&answer["drift"], &columns);
            }
            text
        });
        Ok(())
    }
}
