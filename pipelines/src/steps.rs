//! The computing steps of a run: dataset, training, choice, registration.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use domain::{
    Coded as _, Digest, ErrorCode, Frame, JobId, RunId, Signature, SourceName, Timestamp,
    definition::{Definition, EstimatorSpec},
    state::RunEvent,
};
use registry::{DatasetSnapshot, MetricPoint, NewRun, NewVersion};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::mpsc;
use trainer::{Progress, TrainJob, Trained, metric};

use crate::{
    conductor::Conductor,
    engine::{Outcome, Task},
    error::{Asking as _, ConductorError, During as _, to_json},
    run::{PipelineRun, train_step},
};

/// Columns that every dataset has.
pub(crate) const LABEL: &str = "label";
const EVENT_TIME: &str = "event_timestamp";

/// Progress reports of one job that wait to be logged; a job makes one per epoch.
const REPORTS: usize = 4_096;

/// A dataset, as the registry knows it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Built {
    /// Names the snapshot.
    dataset: Digest,
    train: Digest,
    pub(crate) holdout: Digest,
    train_rows: u64,
    pub(crate) holdout_rows: u64,
    from: Timestamp,
    to: Timestamp,
}

impl Outcome for Built {
    fn blobs(&self) -> Vec<Digest> {
        vec![self.train, self.holdout]
    }
}

/// A trained candidate: its run and its files.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Fitted {
    run: RunId,
    estimator: String,
    files: BTreeMap<String, Digest>,
    signature: Signature,
    pub(crate) metrics: BTreeMap<String, f64>,
}

impl Outcome for Fitted {
    fn blobs(&self) -> Vec<Digest> {
        self.files.values().copied().collect()
    }
}

impl Fitted {
    fn log_loss(&self) -> f64 {
        self.metrics.get(metric::LOG_LOSS).copied().filter(|loss| loss.is_finite()).unwrap_or(f64::INFINITY)
    }
}

/// Which candidate goes on.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Chosen {
    estimator: String,
    /// Mean log loss on the holdout, by estimator.
    log_loss: BTreeMap<String, f64>,
}

impl Outcome for Chosen {}

/// The versions made of the candidates.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Registered {
    challenger: u32,
    /// Version by estimator.
    versions: BTreeMap<String, u32>,
}

impl Outcome for Registered {}

impl Conductor {
    /// Digest of what a step depends on; the program's version is always part of it.
    fn key(&self, step: &str, parts: impl IntoIterator<Item = String>) -> Digest {
        let mut all = vec![step.to_owned(), self.rooms().code_version.clone()];
        all.extend(parts);
        Digest::of_parts(all.iter().map(String::as_bytes))
    }

    pub(crate) async fn build_dataset(&self, run: &PipelineRun) -> Result<Built, ConductorError> {
        let features = &self.rooms().features;
        // Sources only ever grow, so the number of rows tells one content from another.
        let mut sources = BTreeMap::new();
        let definitions = features.definitions();
        for name in definitions.iter().filter_map(source_name) {
            sources.insert(name.to_string(), features.stats(name).asking("look at a source")?.rows);
        }
        let parts = [to_json(&run.spec.dataset), run.cutoff.to_string(), to_json(&definitions), to_json(&sources)];
        let task = Task { run, name: "dataset".into(), key: self.key("dataset", parts) };
        self.step(task, |_| self.make_dataset(run)).await
    }

    async fn make_dataset(&self, run: &PipelineRun) -> Result<Built, ConductorError> {
        let rooms = self.rooms();
        let built = rooms.features.dataset(&run.spec.dataset, run.cutoff).await.asking("build the dataset")?;
        let (train_rows, holdout_rows) = (built.train.rows() as u64, built.holdout.rows() as u64);
        if train_rows == 0 || holdout_rows == 0 {
            let message = format!(
                "by {} there are {train_rows} labelled rows to train on and {holdout_rows} to hold out",
                run.cutoff
            );
            return Err(ConductorError::Step(message));
        }
        let (from, to) = (built.from.unwrap_or(run.cutoff), built.to.unwrap_or(run.cutoff));
        let train = self.keep_frame(built.train).await?;
        let holdout = self.keep_frame(built.holdout).await?;
        let dataset = Digest::of_parts([train.as_bytes().as_slice(), holdout.as_bytes().as_slice()]);
        let snapshot = DatasetSnapshot {
            digest: dataset,
            rows: train_rows + holdout_rows,
            spec: json!(run.spec.dataset),
            from,
            to,
            cutoff: run.cutoff,
            source_snapshots: built.source_snapshots,
            blobs: BTreeMap::from([("train".to_owned(), train), ("holdout".to_owned(), holdout)]),
        };
        rooms.registry.record_dataset(snapshot).await.asking("record the dataset")?;
        Ok(Built { dataset, train, holdout, train_rows, holdout_rows, from, to })
    }

    async fn keep_frame(&self, frame: Frame) -> Result<Digest, ConductorError> {
        let bytes = tokio::task::spawn_blocking(move || storage::to_parquet(&frame))
            .await
            .map_err(|e| ConductorError::Step(format!("writing the dataset broke off: {e}")))?
            .during("write the dataset")?;
        self.rooms().registry.put_blob(bytes).await.asking("store the dataset")
    }

    pub(crate) async fn fit(
        &self,
        run: &PipelineRun,
        data: &Built,
        estimator: &EstimatorSpec,
    ) -> Result<Fitted, ConductorError> {
        let spec = &run.spec;
        let parts = [
            data.train.to_string(),
            data.holdout.to_string(),
            to_json(&spec.inputs),
            to_json(estimator),
            spec.seed.to_string(),
            spec.model.to_string(),
        ];
        let name = train_step(&estimator.name);
        let task = Task { run, name: name.clone(), key: self.key("train", parts) };
        self.step(task, |noted| async move {
            // A run that an interruption left open will never end by itself.
            let left = noted.and_then(|note| serde_json::from_value::<RunId>(note["run"].clone()).ok());
            if let Some(left) = left
                && let Err(error) = self.rooms().registry.finish_run(&left, RunEvent::Stop).await
            {
                tracing::debug!(run = %left, %error, "the interrupted run was ended already");
            }
            let tracked = self.start_tracking(run, data, estimator).await?;
            self.note(run, &name, json!({ "run": tracked })).await?;
            let fitted = self.fit_tracked(run, data, estimator, tracked).await;
            let end = if fitted.is_ok() { RunEvent::Finish } else { RunEvent::Break };
            self.rooms().registry.finish_run(&tracked, end).await.asking("end a training run")?;
            fitted
        })
        .await
    }

    async fn start_tracking(
        &self,
        run: &PipelineRun,
        data: &Built,
        estimator: &EstimatorSpec,
    ) -> Result<RunId, ConductorError> {
        let spec = &run.spec;
        let new = NewRun {
            experiment: spec.model.to_string(),
            name: format!("{}/{}", spec.name, estimator.name),
            params: params(estimator, spec.seed, &to_json(&spec.inputs)),
            tags: BTreeMap::from([
                ("pipeline".to_owned(), spec.name.to_string()),
                ("pipeline_run".to_owned(), run.id.to_string()),
                ("estimator".to_owned(), estimator.name.clone()),
            ]),
            dataset: Some(data.dataset.into()),
            code_version: self.rooms().code_version.clone(),
            environment: BTreeMap::from([
                ("os".to_owned(), std::env::consts::OS.to_owned()),
                ("arch".to_owned(), std::env::consts::ARCH.to_owned()),
            ]),
            cause: Some(run.story),
        };
        Ok(self.rooms().registry.start_run(new).await.asking("start a training run")?.id)
    }

    async fn fit_tracked(
        &self,
        run: &PipelineRun,
        data: &Built,
        estimator: &EstimatorSpec,
        tracked: RunId,
    ) -> Result<Fitted, ConductorError> {
        let rooms = self.rooms();
        let train = rooms.registry.get_blob(&data.train).await.asking("read the training rows")?;
        let holdout = rooms.registry.get_blob(&data.holdout).await.asking("read the holdout")?;
        let job = TrainJob {
            id: JobId::mint(),
            model: run.spec.model.to_string(),
            inputs: run.spec.inputs.clone(),
            estimator: estimator.clone(),
            label: LABEL.to_owned(),
            event_time: EVENT_TIME.to_owned(),
            seed: run.spec.seed,
            threads: 0,
        };
        let trained = self.train_and_log(job, train, holdout, tracked).await?;
        let mut points: Vec<MetricPoint> =
            trained.metrics.iter().map(|(key, value)| self.point(key, *value, 0)).collect();
        points.retain(|point| point.value.is_finite());
        rooms.registry.log_metrics(&tracked, points).await.asking("log metrics")?;
        let known = params(estimator, run.spec.seed, "");
        let mut learned = trained.params;
        learned.retain(|key, _| !known.contains_key(key));
        learned.extend(trained.environment.into_iter().map(|(key, value)| (format!("environment.{key}"), value)));
        rooms.registry.log_params(&tracked, learned).await.asking("log parameters")?;
        let mut files = BTreeMap::new();
        for (path, bytes) in trained.files {
            let stored = rooms.registry.put_blob(Bytes::from_owner(bytes)).await.asking("store a model file")?;
            files.insert(path, stored);
        }
        Ok(Fitted {
            run: tracked,
            estimator: estimator.name.clone(),
            files,
            signature: trained.signature,
            metrics: trained.metrics,
        })
    }

    /// Trains, and logs every epoch as it ends.
    async fn train_and_log(
        &self,
        job: TrainJob,
        train: Bytes,
        holdout: Bytes,
        tracked: RunId,
    ) -> Result<Trained, ConductorError> {
        let (report, mut reports) = mpsc::channel(REPORTS);
        let listener = Arc::new(move |progress| {
            // A report that finds the queue full is lost to the chart only.
            let _ = report.try_send(progress);
        });
        let training = self.rooms().trainer.fit(job, train, holdout, listener);
        let logging = async {
            while let Some(progress) = reports.recv().await {
                let Progress::Epoch { epoch, train_loss, valid_loss, valid_auc, .. } = progress else { continue };
                let points = [("train_loss", train_loss), ("valid_loss", valid_loss), ("valid_auc", valid_auc)];
                let points = points.map(|(key, value)| self.point(key, value, i64::from(epoch))).into_iter();
                let points = points.filter(|point| point.value.is_finite()).collect();
                self.rooms().registry.log_metrics(&tracked, points).await.asking("log metrics")?;
            }
            Ok(())
        };
        let (trained, logged) = tokio::join!(training, logging);
        let trained = trained.asking("train")?;
        logged.map(|()| trained)
    }

    fn point(&self, key: &str, value: f64, step: i64) -> MetricPoint {
        MetricPoint { key: key.to_owned(), value, step, at: self.now() }
    }

    /// The index of the candidate with the least log loss on the holdout; the first among equals.
    pub(crate) async fn choose(&self, run: &PipelineRun, fitted: &[Fitted]) -> Result<usize, ConductorError> {
        let runs = fitted.iter().map(|f| f.run.to_string());
        let task = Task { run, name: "choose".into(), key: self.key("choose", runs) };
        let chosen = self
            .step(task, |_| async {
                let best = fitted.iter().min_by(|a, b| a.log_loss().total_cmp(&b.log_loss()));
                let best = best.filter(|best| best.log_loss().is_finite());
                let best = best.ok_or_else(|| ConductorError::Step("no candidate has a log loss".into()))?;
                let log_loss = fitted.iter().filter(|f| f.log_loss().is_finite());
                Ok(Chosen {
                    estimator: best.estimator.clone(),
                    log_loss: log_loss.map(|f| (f.estimator.clone(), f.log_loss())).collect(),
                })
            })
            .await?;
        let index = fitted.iter().position(|f| f.estimator == chosen.estimator);
        index.ok_or_else(|| ConductorError::Step(format!("candidate `{}` is gone", chosen.estimator)))
    }

    /// Makes every candidate a version and gives the chosen one's number.
    pub(crate) async fn register(
        &self,
        run: &PipelineRun,
        fitted: &[Fitted],
        chosen: usize,
    ) -> Result<u32, ConductorError> {
        let runs = fitted.iter().map(|f| f.run.to_string()).chain([run.spec.model.to_string(), chosen.to_string()]);
        let task = Task { run, name: "register".into(), key: self.key("register", runs) };
        let registered = self
            .step(task, |_| async {
                let mut versions = BTreeMap::new();
                for candidate in fitted {
                    versions.insert(candidate.estimator.clone(), self.register_one(run, candidate).await?);
                }
                let challenger = versions.get(&fitted[chosen].estimator).copied().unwrap_or_default();
                Ok(Registered { challenger, versions })
            })
            .await?;
        Ok(registered.challenger)
    }

    async fn register_one(&self, run: &PipelineRun, candidate: &Fitted) -> Result<u32, ConductorError> {
        let registry = &self.rooms().registry;
        let model = &run.spec.model;
        // An interrupted attempt may have registered it already.
        if let Ok(known) = registry.versions(model).await
            && let Some(version) = known.iter().find(|version| version.run == Some(candidate.run))
        {
            return Ok(version.version);
        }
        let mut files = domain::ModelFiles::new();
        for (path, digest) in &candidate.files {
            let bytes = registry.get_blob(digest).await.asking("read a model file")?;
            files.insert(path.clone(), Arc::from(bytes.as_ref()));
        }
        let new = NewVersion {
            model: model.clone(),
            run: candidate.run,
            files,
            signature: candidate.signature.clone(),
            metrics: candidate.metrics.clone(),
            tags: BTreeMap::from([
                ("estimator".to_owned(), candidate.estimator.clone()),
                ("pipeline_run".to_owned(), run.id.to_string()),
            ]),
        };
        Ok(registry.register(new).await.asking("register a version")?.version)
    }

    pub(crate) async fn has_blob(&self, digest: &Digest) -> Result<bool, ConductorError> {
        match self.rooms().registry.get_blob(digest).await {
            Ok(_) => Ok(true),
            Err(e) if matches!(e.code(), ErrorCode::NotFound | ErrorCode::DataLoss) => Ok(false),
            Err(e) => Err(e).asking("look for a file"),
        }
    }
}

fn source_name(definition: &Definition) -> Option<&SourceName> {
    match definition {
        Definition::Source(source) => Some(&source.name),
        _ => None,
    }
}

/// The estimator's settings as they stand in the definition, flat.
fn params(estimator: &EstimatorSpec, seed: u64, inputs: &str) -> BTreeMap<String, String> {
    let mut params = BTreeMap::from([("seed".to_owned(), seed.to_string()), ("inputs".to_owned(), inputs.to_owned())]);
    if let serde_json::Value::Object(settings) = json!(estimator) {
        for (key, value) in settings {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            params.insert(key, text);
        }
    }
    params
}
