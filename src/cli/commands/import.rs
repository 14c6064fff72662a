//! `models import`: files of any tool, checked here, uploaded, checked there, and registered.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use registry::format::{self, Format, FormatError, LocalFile, ReadAt, Recognised};
use serde_json::{Value, json};

use crate::cli::{
    Global,
    client::{Client, encode},
    files::{below, upload},
    output,
};

/// The directory of the model among the artifacts of its run.
const DIRECTORY: &str = "model";

#[derive(Args)]
pub struct Import {
    /// The model; made if there is none of that name.
    name: String,
    /// A file, or the directory of a model.
    path: PathBuf,
    /// The experiment of the run that the files are kept with; made if there is none of that name.
    #[arg(long, default_value = "imports")]
    experiment: String,
    /// For people.
    #[arg(long, default_value = "")]
    description: String,
    /// A tag of the version; may be given more than once.
    #[arg(long = "tag", value_name = "KEY=VALUE", value_parser = pair)]
    tags: Vec<(String, String)>,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').ok_or_else(|| format!("`{text}` is not KEY=VALUE"))?;
    Ok((pair.0.to_owned(), pair.1.to_owned()))
}

impl Import {
    pub fn run(&self, global: &Global) -> anyhow::Result<()> {
        let files = found(&self.path)?;
        let recognised = recognised(&files)?;
        let client = Client::patient(global)?;
        let tags = json!({"millpond.import": self.path.file_name().map(|name| name.to_string_lossy())});
        let params = json!({"format": recognised.format.as_str()});
        let started = json!({"experiment": self.experiment, "name": self.name, "tags": tags, "params": params});
        let run = client.post("/api/v1/runs", &started)?;
        let run = run["id"].as_str().context("the server started a run without an id")?.to_owned();
        let registered = self.register(&client, &run, &files, &recognised);
        let state = if registered.is_ok() { "finished" } else { "failed" };
        let ended = client.post(&format!("/api/v1/runs/{run}/finish"), &json!({"state": state}));
        let version = registered?;
        ended?;
        output::show(global.json, &version, |version| {
            let mut text = format!("{}/{} registered as {}", self.name, version["version"], recognised.format.as_str());
            if let Some(reason) = version["unsafe_reason"].as_str() {
                text += &format!("; it is unsafe and never loaded by the server: {reason}");
            }
            text + "\n"
        });
        Ok(())
    }

    fn register(
        &self,
        client: &Client,
        run: &str,
        files: &BTreeMap<String, PathBuf>,
        recognised: &Recognised,
    ) -> anyhow::Result<Value> {
        let listing = client.get(&format!("/api/2.0/mlflow/artifacts/list?run_id={run}"))?;
        let root = listing["root_uri"].as_str().and_then(|uri| uri.strip_prefix("mlflow-artifacts:/"));
        let root =
            root.context("the server keeps artifacts of this experiment elsewhere: choose another --experiment")?;
        let bar = ProgressBar::new(files.len() as u64);
        bar.set_style(
            ProgressStyle::with_template("{pos}/{len} {bar:30} {msg}").unwrap_or(ProgressStyle::default_bar()),
        );
        for (path, local) in files {
            bar.set_message(path.clone());
            let target = format!("{root}/{DIRECTORY}/{}", called(path, files.len(), recognised));
            upload(client, local, &target)?;
            bar.inc(1);
        }
        bar.finish_and_clear();
        let tags: BTreeMap<&str, &str> = self.tags.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        let body = json!({"run": run, "directory": DIRECTORY, "tags": tags, "description": self.description});
        Ok(client.post(&format!("/api/v1/models/{}/import", encode(&self.name)), &body)?)
    }
}

/// What a file is called on the server: a file that stands alone, and the graph that is served, as their format calls them.
fn called<'a>(path: &'a str, count: usize, recognised: &Recognised) -> &'a str {
    let main = path == recognised.main && !path.contains('/');
    match recognised.format.file_name() {
        Some(name) if main && (count == 1 || recognised.format == Format::Onnx) => name,
        _ => path,
    }
}

fn recognised(files: &BTreeMap<String, PathBuf>) -> anyhow::Result<Recognised> {
    let mut open: BTreeMap<String, Box<dyn ReadAt>> = BTreeMap::new();
    for (path, local) in files {
        let file = File::open(local).and_then(LocalFile::new);
        let file = file.with_context(|| format!("could not open `{}`", local.display()))?;
        open.insert(path.clone(), Box::new(file));
    }
    match format::recognise(&open) {
        Ok(recognised) => Ok(recognised),
        Err(error @ FormatError::Io { .. }) => Err(error.into()),
        Err(error) => bail!("{error} ({})", FormatError::HINT),
    }
}

/// The files of a model by their path in it: one, or all of a directory. Links, and what is no file, are refused.
fn found(path: &Path) -> anyhow::Result<BTreeMap<String, PathBuf>> {
    let mut files = BTreeMap::new();
    let about = fs::metadata(path).with_context(|| format!("could not look at `{}`", path.display()))?;
    if about.is_dir() {
        files = below(path)?;
        ensure!(!files.is_empty(), "`{}` has no files", path.display());
    } else {
        ensure!(about.is_file(), "`{}` is neither a file nor a directory", path.display());
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.with_context(|| format!("`{}` has a name that is not UTF-8", path.display()))?;
        files.insert(name.to_owned(), path.to_owned());
    }
    Ok(files)
}
