//! `import mlflow`: reads an MLflow store on this machine and brings it to a server that may be elsewhere.
//!
//! Everything keeps its id. Whatever was brought whole is passed over the next time, so an import that was interrupted is
//! run again, and one that is run again changes nothing.

mod places;
mod rows;
mod source;
mod tally;

use std::{
    collections::{HashMap, HashSet},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::Context as _;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use registry::{Brought, BroughtVersion, Record, Stage};
use serde_json::{Value, json};

use self::{
    places::Places,
    rows::{SourceModel, SourceRun, SourceVersion, instant},
    source::Source,
    tally::Tally,
};
use super::{
    Global,
    client::{CallError, Client},
    files, output,
};

/// The tag of the registered models that are prompts.
const PROMPT_TAG: &str = "mlflow.prompt.is_prompt";

#[derive(Args)]
pub struct Mlflow {
    /// The store's database: sqlite:///mlflow.db, sqlite:////srv/mlflow.db or postgresql://user:password@host/mlflow.
    #[arg(long, env = "MLFLOW_BACKEND_STORE_URI", value_name = "URL")]
    store: String,
    /// The folder that holds its artifacts; without it no files are brought, and no versions made from them.
    #[arg(long, value_name = "DIR")]
    artifacts: Option<PathBuf>,
}

impl Mlflow {
    pub fn run(&self, global: &Global) -> anyhow::Result<ExitCode> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.context("could not start the async runtime")?;
        let places = match &self.artifacts {
            None => None,
            Some(folder) => {
                let places = Places::new(folder);
                Some(places.with_context(|| format!("could not look at `{}`", folder.display()))?)
            }
        };
        let bar = ProgressBar::no_length();
        bar.set_style(ProgressStyle::with_template("{pos} {msg}").unwrap_or(ProgressStyle::default_bar()));
        let client = Client::patient(global)?;
        let mut import = Import { client, places, tally: Tally::default(), experiments: HashMap::new(), bar };
        runtime.block_on(async { import.all(&Source::open(&self.store).await?).await })?;
        import.bar.finish_and_clear();
        let report = import.tally.to_json();
        output::show(global.json, &report, |_| import.tally.to_string());
        Ok(if import.tally.is_whole() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// An import under way.
struct Import {
    client: Client,
    places: Option<Places>,
    tally: Tally,
    /// Run -> its experiment, of all runs that are on the server now.
    experiments: HashMap<String, i64>,
    bar: ProgressBar,
}

impl Import {
    async fn all(&mut self, store: &Source) -> anyhow::Result<()> {
        let experiments = store.experiments().await?;
        for experiment in experiments {
            let (id, name) = (experiment.id, experiment.name.clone());
            let brought = self.bring("experiments", &name, Record::Experiment(experiment))?;
            for run in store.runs(id).await? {
                match run {
                    Err((run, reason)) => self.tally.refused("runs", &run, &reason),
                    Ok(run) if matches!(brought, Brought::Refused(_)) => {
                        self.tally.refused("runs", &run.record.id.to_string(), "its experiment did not come");
                    }
                    Ok(run) => self.run(store, run).await?,
                }
            }
        }
        for model in store.logged_models().await? {
            self.logged_model(model)?;
        }
        let mut models = HashSet::new();
        for model in store.models().await? {
            match model {
                Err(name) => self.tally.refused("models", &name, "its name is none that this server takes"),
                Ok(model) if model.tags.contains_key(PROMPT_TAG) => {
                    self.tally.refused(
                        "models",
                        model.name.as_str(),
                        "it is a prompt, and prompts are not served here",
                    );
                }
                Ok(model) => {
                    let name = model.name.to_string();
                    if !matches!(self.bring("models", &name, Record::Model(model))?, Brought::Refused(_)) {
                        models.insert(name);
                    }
                }
            }
        }
        for version in store.versions().await? {
            if models.contains(&version.name) {
                self.version(store, version).await?;
            }
        }
        for (model, alias, version) in store.aliases().await? {
            let number = u32::try_from(version).context("a version's number does not fit")?;
            if models.contains(&model) {
                let record = Record::Alias { model: model.parse()?, alias: alias.clone(), version: number };
                self.bring("aliases", &format!("{model}@{alias}"), record)?;
            }
        }
        Ok(())
    }

    /// Sends a record and counts what became of it.
    fn bring(&mut self, what: &'static str, name: &str, record: Record) -> anyhow::Result<Brought> {
        self.bar.set_message(format!("{what}: {name}"));
        let brought = self.send(record)?;
        self.bar.inc(1);
        self.tally.count(what, name, &brought);
        Ok(brought)
    }

    fn send(&self, record: Record) -> anyhow::Result<Brought> {
        let answer = self.client.post("/api/v1/imports", &json!({"records": [record]}))?;
        let outcome: Value = answer["outcomes"][0].clone();
        serde_json::from_value(outcome).context("the server answered without an outcome")
    }

    async fn run(&mut self, store: &Source, run: SourceRun) -> anyhow::Result<()> {
        let SourceRun { record, artifact_uri, deleted_at } = run;
        let (id, experiment) = (record.id, record.experiment);
        let name = id.to_string();
        let brought = self.bring("runs", &name, Record::Run(record))?;
        if matches!(brought, Brought::Refused(_)) {
            return Ok(());
        }
        self.experiments.insert(name.clone(), experiment);
        if brought == Brought::Done {
            return Ok(());
        }
        let mut points = Vec::new();
        {
            let import = &*self;
            let send = async |record: Record| {
                points.push(import.send(record)?);
                Ok(())
            };
            store.points(id, send).await?;
        }
        if let Some(inputs) = store.inputs(id).await? {
            points.push(self.send(inputs)?);
        }
        for brought in points {
            if let Brought::Refused(reason) = brought {
                self.tally.refused("runs", &name, &reason);
            }
        }
        if self.files(&name, &artifact_uri, &places::of_run(experiment, &name))? {
            self.send(Record::RunDone { run: id, deleted_at })?;
        }
        Ok(())
    }

    fn logged_model(&mut self, model: SourceModel) -> anyhow::Result<()> {
        let SourceModel { record, artifact_uri, deleted_at } = model;
        let (id, experiment) = (record.id.clone(), record.experiment);
        let brought = self.bring("logged models", &id, Record::LoggedModel(record))?;
        if matches!(brought, Brought::Refused(_) | Brought::Done) {
            return Ok(());
        }
        if self.files(&id, &artifact_uri, &places::of_logged_model(experiment, &id))? {
            self.send(Record::LoggedModelDone { id, deleted_at })?;
        }
        Ok(())
    }

    /// Uploads what lies below an artifact location. False: some of it did not come, and may another time.
    fn files(&mut self, owner: &str, uri: &str, target: &str) -> anyhow::Result<bool> {
        let Some(places) = &self.places else { return Ok(true) };
        let folder = match places.local(uri) {
            Ok(folder) => folder,
            Err(reason) => {
                // A run that logged no files has no folder; one whose files are elsewhere is told of.
                if uri.contains("://") && !uri.starts_with("file:") && !uri.starts_with("mlflow-artifacts:") {
                    self.tally.refused("files", owner, &reason);
                }
                return Ok(true);
            }
        };
        let found = match files::below(&folder) {
            Ok(found) => found,
            Err(error) => {
                self.tally.refused("files", owner, &error.to_string());
                return Ok(false);
            }
        };
        let mut whole = true;
        for (path, local) in found {
            self.bar.set_message(format!("files: {owner}/{path}"));
            let uploaded = files::upload(&self.client, &local, &format!("{target}/{path}"));
            match uploaded {
                Ok(()) => self.tally.file(local.metadata().map_or(0, |file| file.len())),
                // What the server refuses it refuses every time; anything else ends the import.
                Err(error) => match error.downcast_ref::<CallError>() {
                    Some(CallError::Refused { status: 400..=499, .. }) => {
                        whole = false;
                        self.tally.refused("files", &format!("{owner}/{path}"), &error.to_string());
                    }
                    _ => return Err(error),
                },
            }
        }
        Ok(whole)
    }

    async fn version(&mut self, store: &Source, version: SourceVersion) -> anyhow::Result<()> {
        let name = format!("{}/{}", version.name, version.version);
        let known = |run: &str| self.experiments.get(run).copied();
        let source = places::source([version.source.as_deref(), version.storage_location.as_deref()], known);
        let (Some(source), Ok(number)) = (source, u32::try_from(version.version)) else {
            self.tally.refused("versions", &name, "where its files lie is not known here");
            return Ok(());
        };
        let run = version.run.filter(|run| self.experiments.contains_key(run)).and_then(|run| run.parse().ok());
        let record = BroughtVersion {
            model: version.name.parse()?,
            version: number,
            logged_model: source.strip_prefix("models:/").filter(|id| id.starts_with("m-")).map(str::to_owned),
            source,
            run,
            stage: version.stage.map_or(Stage::None, |stage| Stage::parse(&stage).unwrap_or(Stage::None)),
            description: version.description.unwrap_or_default(),
            user_id: version.user_id.unwrap_or_default(),
            run_link: version.run_link.unwrap_or_default(),
            created_at: instant(version.created.unwrap_or(0)),
            updated_at: instant(version.updated.or(version.created).unwrap_or(0)),
            tags: store.version_tags(&version.name, version.version).await?,
        };
        self.bring("versions", &name, Record::Version(record))?;
        Ok(())
    }
}
