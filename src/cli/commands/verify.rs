//! `models verify`: every file of every version, read back by the server and held against its digest.

use std::process::ExitCode;

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use crate::cli::{
    Global,
    client::{Client, encode},
    output,
    table::Table,
};

/// A file of a version that is to be read back.
struct Wanted {
    model: String,
    version: u64,
    path: String,
}

/// Reads back the files of all models, of one, or of one version. Fails when a file is damaged or missing.
pub fn verify(global: &Global, which: Option<&str>) -> anyhow::Result<ExitCode> {
    let client = Client::patient(global)?;
    let wanted = wanted(&client, which)?;
    let bar = ProgressBar::new(wanted.len() as u64);
    bar.set_style(ProgressStyle::with_template("{pos}/{len} {bar:30} {msg}").unwrap_or(ProgressStyle::default_bar()));
    let mut files = Vec::with_capacity(wanted.len());
    for Wanted { model, version, path } in wanted {
        bar.set_message(format!("{model}/{version} {path}"));
        let call = format!("/api/v1/models/{}/versions/{version}/verify?file={}", encode(&model), encode(&path));
        // Without a body: the server would not read one, and might hang up on it.
        let answer = client.send(&call, "", b"")?;
        for file in answer["files"].as_array().context("the server answered without files")? {
            let mut file = file.clone();
            (file["model"], file["version"]) = (json!(model), json!(version));
            files.push(file);
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    let bad: Vec<Value> = files.iter().filter(|file| file["state"] != "whole").cloned().collect();
    let report = json!({"whole": bad.is_empty(), "files": files});
    output::show(global.json, &report, |_| text(files.len(), &bad));
    Ok(if bad.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn text(count: usize, bad: &[Value]) -> String {
    if bad.is_empty() {
        return format!("{count} files read back, all whole\n");
    }
    let mut table = Table::new(&["version", "file", "state", "problem"]);
    for file in bad {
        let cell = |name: &str| output::cell(&file[name]);
        table.row([format!("{}/{}", cell("model"), cell("version")), cell("path"), cell("state"), cell("problem")]);
    }
    format!("{table}{count} files read back, {} not whole\n", bad.len())
}

/// The files of what was asked for, oldest version first.
fn wanted(client: &Client, which: Option<&str>) -> anyhow::Result<Vec<Wanted>> {
    let (model, number) = match which {
        None => (None, None),
        Some(text) => match text.split_once('/') {
            None => (Some(text), None),
            Some((model, number)) => {
                let number: u64 = number.parse().with_context(|| format!("`{number}` is not a version number"))?;
                (Some(model), Some(number))
            }
        },
    };
    let models: Vec<String> = match model {
        Some(model) => vec![model.to_owned()],
        None => names(&client.get("/api/v1/models")?),
    };
    let mut wanted = Vec::new();
    for model in models {
        let versions = match number {
            Some(number) => json!([client.get(&format!("/api/v1/models/{}/versions/{number}", encode(&model)))?]),
            None => client.get(&format!("/api/v1/models/{}/versions", encode(&model)))?,
        };
        for version in versions.as_array().into_iter().flatten().rev() {
            let number = version["version"].as_u64().context("a version without a number")?;
            let paths = version["files"].as_object().into_iter().flat_map(|files| files.keys());
            wanted.extend(paths.map(|path| Wanted { model: model.clone(), version: number, path: path.clone() }));
        }
    }
    Ok(wanted)
}

fn names(models: &Value) -> Vec<String> {
    models.as_array().into_iter().flatten().filter_map(|model| model["name"].as_str().map(str::to_owned)).collect()
}
