//! `gc`.

use clap::Args;
use serde_json::{Value, json};

use crate::cli::{Global, client::Client, output, table::Table};

#[derive(Args)]
pub struct Gc {
    /// Only say what would be cleared away.
    #[arg(long)]
    dry_run: bool,
    /// Blobs stored longer ago than this; at least 1h.
    #[arg(long, value_name = "DURATION", default_value = "7d")]
    older_than: domain::Span,
    /// Also delete for good what has been deleted for longer than this: runs, logged models, experiments.
    #[arg(long, value_name = "DURATION")]
    deleted_runs_older_than: Option<domain::Span>,
}

impl Gc {
    pub fn run(&self, global: &Global) -> anyhow::Result<()> {
        let body = json!({
            "dry_run": self.dry_run, "older_than": self.older_than, "deleted_for": self.deleted_runs_older_than,
        });
        let answer = Client::patient(global)?.post("/api/v1/gc", &body)?;
        output::show(global.json, &answer, text);
        Ok(())
    }
}

fn text(answer: &Value) -> String {
    let count = |name: &str| answer[name].as_u64().unwrap_or(0);
    let mut text = String::new();
    let purged = &answer["purged"];
    for (what, name) in [("runs", "runs"), ("logged models", "logged_models"), ("experiments", "experiments")] {
        if let Some(gone) = purged[name].as_array() {
            let done = if answer["dry_run"] == true { "would be" } else { "were" };
            text += &format!("{} deleted {what} {done} deleted for good\n", gone.len());
        }
    }
    if let Some(kept) = purged["kept"].as_array().filter(|kept| !kept.is_empty()) {
        let mut table = Table::new(&["kept", "id", "because"]);
        for one in kept {
            table.row(["what", "id", "why"].map(|name| output::cell(&one[name])));
        }
        text += &table.to_string();
    }
    let (blobs, young) = (count("blobs"), count("young"));
    text += &format!("{blobs} blobs, {young} of them too young to be looked at\n");
    text += &match answer["dry_run"] == true {
        true => format!("{} blobs ({} bytes) would be removed\n", count("garbage"), count("garbage_bytes")),
        false => format!("{} blobs ({} bytes) removed\n", count("removed"), count("removed_bytes")),
    };
    text
}
