//! `ingest`.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;
use clap::Args;
use feature_store::{IngestReport, Pieces, name_matches};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Map, Value, json};

use crate::cli::{
    Global,
    client::{Client, JSON, encode},
    output,
};

#[derive(Args)]
pub struct Ingest {
    /// Source that takes the rows.
    source: String,
    /// Files: .csv, .jsonl, .ndjson, .json or .parquet; folders; names with `*` and `?`, as in 'data/*.csv'.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

fn content_type(path: &Path) -> anyhow::Result<&'static str> {
    match path.extension().and_then(|e| e.to_str()) {
        Some("csv") => Ok("text/csv"),
        Some("jsonl" | "ndjson") => Ok("application/x-ndjson"),
        Some("json") => Ok(JSON),
        Some("parquet") => Ok("application/vnd.apache.parquet"),
        _ => anyhow::bail!("`{}`: rows come in .csv, .jsonl, .ndjson, .json or .parquet files", path.display()),
    }
}

/// The files that are meant, those of one folder in order of name.
fn expand(paths: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let (folder, pattern) = if path.is_dir() {
            (path.as_path(), None)
        } else if !path.exists() && name.contains(['*', '?']) {
            (path.parent().unwrap_or(Path::new("")), Some(name))
        } else {
            files.push(path.clone());
            continue;
        };
        let place = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        let listed = std::fs::read_dir(place).with_context(|| format!("could not list `{}`", place.display()))?;
        let mut found = Vec::new();
        for entry in listed {
            let entry = entry.with_context(|| format!("could not list `{}`", place.display()))?;
            let (name, file) = (entry.file_name(), folder.join(entry.file_name()));
            let wanted = pattern
                .map_or_else(|| content_type(&file).is_ok(), |pattern| name_matches(pattern, &name.to_string_lossy()));
            if wanted && file.is_file() {
                found.push(file);
            }
        }
        anyhow::ensure!(!found.is_empty(), "`{}` names no files of rows", path.display());
        found.sort();
        files.extend(found);
    }
    Ok(files)
}

impl Ingest {
    /// Exit status 2 says that rows were quarantined. Whatever was sent before an error stays: sent again, it is found to
    /// be there.
    pub fn run(&self, global: &Global) -> anyhow::Result<ExitCode> {
        let client = Client::new(global)?;
        let files = expand(&self.files)?;
        let bar = ProgressBar::new(files.len() as u64)
            .with_style(ProgressStyle::with_template("{bar:30} {pos}/{len} files  {msg}")?);
        let mut reports = Vec::new();
        for path in &files {
            let total = self.send(&client, path, &bar).with_context(|| format!("`{}`", path.display()))?;
            let mut report = Map::new();
            report.insert("file".into(), json!(path.display().to_string()));
            report.extend(serde_json::to_value(total)?.as_object().cloned().unwrap_or_default());
            reports.push(Value::Object(report));
            bar.inc(1);
        }
        bar.finish_and_clear();
        let reports = Value::Array(reports);
        output::show(global.json, &reports, text);
        let bad = reports.as_array().into_iter().flatten().any(|r| r["quarantined"].as_u64().unwrap_or(0) > 0);
        Ok(if bad { ExitCode::from(2) } else { ExitCode::SUCCESS })
    }

    fn send(&self, client: &Client, path: &Path, bar: &ProgressBar) -> anyhow::Result<IngestReport> {
        let kind = content_type(path)?;
        let route = format!("/api/v1/sources/{}/rows", encode(&self.source));
        let mut total = IngestReport::default();
        for piece in Pieces::open(path).context("it cannot be read")? {
            let piece = piece.context("it cannot be read")?;
            bar.set_message(format!(
                "{} {} rows",
                path.display(),
                total.accepted + total.duplicates + total.quarantined
            ));
            let mut report: IngestReport = serde_json::from_value(client.send(&route, kind, &piece.bytes)?)?;
            report.first_errors.iter_mut().for_each(|error| error.line += piece.lines_before);
            total.add(report);
        }
        Ok(total)
    }
}

fn text(reports: &Value) -> String {
    let columns = ["file", "accepted", "duplicates", "corrections", "quarantined"].map(|name| (name, name));
    let mut text = output::rows(reports, &columns);
    for report in reports.as_array().into_iter().flatten() {
        let file = output::cell(&report["file"]);
        for error in report["first_errors"].as_array().into_iter().flatten() {
            let part = |name: &str| output::cell(&error[name]);
            text.push_str(&format!("{file}:{} {}: {}\n", part("line"), part("column"), part("reason")));
        }
        for drift in report["drift"].as_array().into_iter().flatten() {
            let part = |name: &str| output::cell(&drift[name]);
            text.push_str(&format!("{file}: column `{}` is not as declared: {}\n", part("column"), part("kind")));
        }
    }
    text
}
