//! `features load`, `features loads`, `features files`.

use std::{thread, time::Duration};

use clap::Args;
use indicatif::ProgressBar;
use serde_json::{Value, json};

use crate::cli::{
    Global,
    client::{Client, encode},
    output,
};

/// How often the server is asked how far it is.
const ASK_EVERY: Duration = Duration::from_millis(500);

#[derive(Args)]
pub struct Load {
    /// Source that takes the rows.
    source: String,
    /// A file, a folder or a pattern of the server's machine, below a folder of its setting ingestion.paths.
    path: String,
    /// Do not wait for the end.
    #[arg(long)]
    detach: bool,
}

impl Load {
    pub fn run(&self, global: &Global) -> anyhow::Result<()> {
        let client = Client::new(global)?;
        let route = format!("/api/v1/sources/{}/load", encode(&self.source));
        let mut load = client.post(&route, &json!({"path": self.path}))?;
        let bar = ProgressBar::new_spinner();
        while !self.detach && load["phase"] == "running" {
            let part = |name: &str| output::cell(&load[name]);
            bar.set_message(format!(
                "{} of {} files, {} rows of {}",
                part("done"),
                part("files"),
                output::cell(output::at(&load, "current.rows")),
                output::cell(output::at(&load, "current.path"))
            ));
            thread::sleep(ASK_EVERY);
            load = client.get(&format!("/api/v1/loads/{}", output::cell(&load["number"])))?;
        }
        bar.finish_and_clear();
        output::show(global.json, &load, |load| shown(&Value::Array(vec![load.clone()])));
        anyhow::ensure!(load["phase"] != "failed", "the load failed: {}", output::cell(&load["reason"]));
        Ok(())
    }
}

/// Loads as a table.
pub fn shown(loads: &Value) -> String {
    let columns = [
        ("load", "number"),
        ("source", "source"),
        ("path", "path"),
        ("phase", "phase"),
        ("files", "files"),
        ("done", "done"),
        ("known", "known"),
        ("failed", "failed"),
        ("accepted", "rows.accepted"),
        ("quarantined", "rows.quarantined"),
        ("reason", "reason"),
    ];
    output::rows(loads, &columns)
}

/// Loaded files as a table.
pub fn files(files: &Value) -> String {
    let columns = [
        ("path", "path"),
        ("phase", "phase"),
        ("load", "load"),
        ("accepted", "rows.accepted"),
        ("duplicates", "rows.duplicates"),
        ("quarantined", "rows.quarantined"),
        ("reason", "reason"),
    ];
    output::rows(files, &columns)
}
