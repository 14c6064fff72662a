//! A small world: questions with one number `x`, answered yes for `x > 0` except one time in five.
//!
//! A stand-in model has a slope `s` and answers 0.5 + 0.3 s for `x > 0` and 0.5 - 0.3 s below: 1 is the best there
//! is, 0 knows nothing, and when the world turns upside down 1 is worse than anything milder.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use backends::{Backend, BackendError};
use bytes::Bytes;
use domain::{
    Column, EndpointName, ErrorCode, Event, EventKind, Field, Frame, ModelFiles, NewEvent, PipelineName, PipelineRunId,
    Signature, Span, Timestamp, ValueType,
    ports::{OpenedModel, PortError},
    prediction::{Label, LabelOrigin, LabelTarget},
};
use evaluator::{Evaluator, LabelReport};
use feature_store::{FeatureStore, Lake, Settings};
use registry::Registry;
use runtime::{Clock, Cpu, House, Metrics};
use serde_json::{Value as Json, json};
use serving::{Loader, PredictRequest, Serving, ServingConfig};
use storage::{Blobs, EmbeddedKv, Kv, LocalBlobs, Tables};
use tempfile::TempDir;
use tokio::sync::watch;
use trainer::{Progress, TrainJob, Trained, metric};

use crate::{Cause, Conductor, Fit, Listener, PipelineRun, Rooms, parse};

pub(super) const DEFINITIONS: &str = "
kind: Entity
name: unit
key: unit
---
kind: Source
name: readings
timestamp: at
columns: [{name: at, type: timestamp}, {name: unit, type: text}, {name: heat, type: float}]
---
kind: Source
name: questions
timestamp: asked
row_id: [id]
columns:
  - {name: asked, type: timestamp}
  - {name: id, type: text}
  - {name: unit, type: text}
  - {name: x, type: float}
---
kind: Source
name: answers
timestamp: known
row_id: [id]
columns:
  - {name: known, type: timestamp}
  - {name: id, type: text}
  - {name: yes, type: bool}
  - {name: origin, type: text}
---
kind: FeatureView
name: recent
source: readings
entities: [unit]
features: [{name: heat}]
---
kind: FeatureService
name: inputs
views: [{view: recent}]
request: [{name: x, type: float}]
---
kind: Endpoint
name: oracle
model: oracle
service: inputs
label_key: [id]
labels: {source: answers, key: [id], column: yes}
monitor: {window: 1d, every: 1d, label_delay: 2h, min_labels: 1000000}
---
kind: Pipeline
name: retrain
model: oracle
endpoint: oracle
dataset:
  service: inputs
  spine: questions
  label: {source: answers, key: [id], column: yes}
  holdout: 36h
inputs: [{column: x, prep: numeric}]
estimators: [{name: plain, learner: logistic}]
gate: {min_rows: 100, confidence: 0.95}
rollout: {canary_percent: 50, min_labels: 150, max_duration: 3d}
trigger: {autonomy: full_auto, cool_down: 5d, min_new_labels: 100}
";

/// Questions of one day.
pub(super) const PER_DAY: i64 = 400;

pub(super) struct World {
    pub(super) conductor: Conductor,
    pub(super) fit: Arc<FakeFit>,
    pub(super) rooms: Rooms,
    day: i64,
    _dir: Arc<TempDir>,
}

impl World {
    /// Definitions applied, three days of questions and answers in the store, no version yet. The models to come
    /// have these slopes, one per training.
    pub(super) async fn new(slopes: &[f64]) -> Self {
        Self::with(DEFINITIONS, slopes).await
    }

    pub(super) async fn with(definitions: &str, slopes: &[f64]) -> Self {
        let mut world = Self::open(Arc::new(tempfile::tempdir().unwrap()), FakeFit::new(slopes), 0).await;
        world.conductor.apply(parse(definitions).unwrap(), "test", false).await.unwrap();
        for _ in 0..3 {
            world.history().await;
        }
        world
    }

    async fn open(dir: Arc<TempDir>, fit: Arc<FakeFit>, day: i64) -> Self {
        let (clock, house) = (Clock::manual(day_start(day)), House::new());
        let metrics = Metrics::new();
        let meta = storage::testing::meta_in(dir.path()).await;
        let blobs: Arc<dyn Blobs> = Arc::new(LocalBlobs::open(&dir.path().join("blobs")).await.unwrap());
        let kv: Arc<dyn Kv> = Arc::new(EmbeddedKv::open(&dir.path().join("kv")).await.unwrap());
        let tables = Tables::open(meta.clone(), blobs.clone(), &dir.path().join("wal")).await.unwrap();
        let registry = Registry::open(meta.clone(), blobs, tables.clone(), clock.clone()).await.unwrap();
        let lake = Lake::local(&dir.path().join("blobs/tables")).await.unwrap();
        let (meta_, settings) = (meta.clone(), Settings::default());
        let opened = FeatureStore::open(meta_, tables.clone(), lake, kv, clock.clone(), Cpu::new(1), settings);
        let features = opened.await.unwrap();
        let evaluator =
            Evaluator::open(meta.clone(), tables, clock.clone(), house.clone(), metrics.clone()).await.unwrap();
        let serving = Serving::new(
            Arc::new(features.clone()),
            Arc::new(registry.clone()),
            Arc::new(evaluator.clone()),
            Arc::new(SlopeLoader),
            clock.clone(),
            metrics,
            &house,
            ServingConfig { threads: 1, ..ServingConfig::default() },
        );
        let rooms = Rooms {
            meta,
            registry,
            features,
            trainer: fit.clone(),
            serving,
            evaluator,
            clock,
            house,
            code_version: "test".into(),
            conducted_by: None,
        };
        let conductor = Conductor::open(rooms.clone()).await.unwrap();
        Self { conductor, fit, rooms, day, _dir: dir }
    }

    /// Stops everything and opens the same directory again.
    pub(super) async fn restart(self) -> Self {
        let Self { conductor, fit, rooms, day, _dir: dir } = self;
        assert!(rooms.house.shutdown(Duration::from_secs(20)).await.is_empty(), "everybody came home");
        drop((conductor, rooms));
        Self::open(dir, fit, day).await
    }

    /// A day of questions and answers that nobody predicted.
    async fn history(&mut self) {
        let rows = self.next_day(false);
        self.ask(&rows).await;
        let answers: Vec<_> = rows
            .iter()
            .map(|q| object(json!({"known": q.at + Span::HOUR, "id": q.id, "yes": q.yes, "origin": "outcome"})))
            .collect();
        let report = self.rooms.features.ingest_rows(&"answers".parse().unwrap(), answers).await.unwrap();
        assert_eq!(report.accepted, PER_DAY as u64, "{report:?}");
    }

    /// A day of questions, predicted and then labelled through the front door, until everything settled. Upside down:
    /// the answers are the opposite of what they were.
    pub(super) async fn live(&mut self, upside_down: bool) {
        let rows = self.next_day(upside_down);
        self.ask(&rows).await;
        for chunk in rows.chunks(200) {
            let instances =
                chunk.iter().map(|q| json!({"unit": "a", "x": q.x, "id": q.id, "event_timestamp": q.at})).collect();
            let request = PredictRequest { instances, deadline: None, pin: None };
            self.conductor.predict(&endpoint(), request).await.unwrap();
        }
        let report = self.label(rows.iter().map(Question::label).collect()).await;
        assert_eq!(report.joined, PER_DAY as u64, "{report:?}");
        self.conductor.settle(&endpoint()).await.unwrap();
    }

    pub(super) async fn label(&self, labels: Vec<Label>) -> LabelReport {
        self.conductor.label(&endpoint(), labels).await.unwrap()
    }

    async fn ask(&self, rows: &[Question]) {
        let questions =
            rows.iter().map(|q| object(json!({"asked": q.at, "id": q.id, "unit": "a", "x": q.x}))).collect();
        let report = self.rooms.features.ingest_rows(&"questions".parse().unwrap(), questions).await.unwrap();
        assert_eq!(report.accepted, PER_DAY as u64, "{report:?}");
    }

    fn next_day(&mut self, upside_down: bool) -> Vec<Question> {
        let (day, start) = (self.day, day_start(self.day));
        self.day += 1;
        self.rooms.clock.set(day_start(self.day));
        let step = Span::from_micros(20 * 60_000_000 / 10);
        (0..PER_DAY)
            .map(|i| {
                let positive = (i / 5) % 2 == 0;
                let exception = i % 5 == 0;
                Question {
                    id: format!("d{day}q{i}"),
                    at: start + Span::from_micros(i * step.micros()),
                    x: if positive { 1.0 } else { -1.0 },
                    yes: positive ^ exception ^ upside_down,
                }
            })
            .collect()
    }

    /// Event time after everything asked so far was answered.
    pub(super) fn now(&self) -> Timestamp {
        day_start(self.day)
    }

    /// Starts the pipeline by hand as of now and waits until it computed.
    pub(super) async fn retrain(&self) -> PipelineRun {
        let id = self.trigger().await;
        self.computed(id).await
    }

    pub(super) async fn trigger(&self) -> PipelineRunId {
        self.conductor.trigger(&pipeline(), Cause::manual("test"), Some(self.now())).await.unwrap()
    }

    pub(super) async fn computed(&self, id: PipelineRunId) -> PipelineRun {
        self.conductor.settle(&endpoint()).await.unwrap();
        self.conductor.run(&id).await.unwrap()
    }

    pub(super) async fn runs(&self) -> Vec<PipelineRun> {
        self.conductor.runs(&crate::RunFilter::default()).await.unwrap()
    }

    /// What the evaluator would say of the version in charge; gives the event's number.
    pub(super) async fn alarm(&self) -> u64 {
        let champion = self.conductor.endpoint(&endpoint()).await.unwrap().champion;
        let mut tx = self.rooms.meta.begin().await.unwrap();
        let event = NewEvent {
            at: self.now(),
            kind: EventKind::AlertRaised,
            subject: "alert/test".into(),
            actor: "evaluator".into(),
            cause: None,
            body: json!({"endpoint": "oracle", "rule": "bias", "champion": champion, "watermark": self.now()}),
        };
        let seq = tx.append(event).await.unwrap();
        tx.commit().await.unwrap();
        seq
    }

    pub(super) async fn journal(&self) -> Vec<Event> {
        self.rooms.meta.journal().read(0, 10_000).await.unwrap()
    }
}

struct Question {
    id: String,
    at: Timestamp,
    x: f64,
    yes: bool,
}

impl Question {
    fn label(&self) -> Label {
        label(&self.id, self.yes, self.at + Span::HOUR)
    }
}

pub(super) fn label(key: &str, value: bool, known_at: Timestamp) -> Label {
    let target = LabelTarget::Key(key.into());
    Label { target, value, known_at, origin: LabelOrigin::Outcome, reviewer: None }
}

pub(super) fn endpoint() -> EndpointName {
    "oracle".parse().unwrap()
}

pub(super) fn pipeline() -> PipelineName {
    "retrain".parse().unwrap()
}

pub(super) fn day_start(day: i64) -> Timestamp {
    "2020-01-01T00:00:00Z".parse::<Timestamp>().unwrap() + Span::from_micros(day * Span::DAY.micros())
}

fn object(json: Json) -> serde_json::Map<String, Json> {
    match json {
        Json::Object(map) => map,
        other => panic!("{other} is no object"),
    }
}

/// Fits nothing: hands out the slopes it was given, one per job, and waits while it is held.
pub(super) struct FakeFit {
    slopes: Mutex<VecDeque<f64>>,
    held: watch::Sender<bool>,
    started: watch::Sender<usize>,
}

impl FakeFit {
    fn new(slopes: &[f64]) -> Arc<Self> {
        Arc::new(Self {
            slopes: Mutex::new(slopes.iter().copied().collect()),
            held: watch::Sender::new(false),
            started: watch::Sender::new(0),
        })
    }

    /// While held, jobs start and do not end.
    pub(super) fn hold(&self, held: bool) {
        self.held.send_replace(held);
    }

    /// Jobs started so far.
    pub(super) fn started(&self) -> usize {
        *self.started.borrow()
    }

    pub(super) async fn until_started(&self, jobs: usize) {
        self.started.subscribe().wait_for(|started| *started >= jobs).await.unwrap();
    }
}

#[async_trait]
impl Fit for FakeFit {
    async fn fit(
        &self,
        job: TrainJob,
        _train: Bytes,
        holdout: Bytes,
        listener: Listener,
    ) -> Result<Trained, PortError> {
        self.started.send_modify(|n| *n += 1);
        self.held.subscribe().wait_for(|held| !*held).await.unwrap();
        let Some(slope) = self.slopes.lock().unwrap().pop_front() else {
            let message = "out of slopes".to_owned();
            return Err(PortError { code: ErrorCode::InvalidArgument, message, hint: String::new() });
        };
        listener(Progress::Epoch { epoch: 1, train_loss: 0.6, valid_loss: 0.6, valid_auc: 0.7, seconds: 0.0 });
        let holdout = storage::from_parquet(holdout).unwrap();
        let scores = answers(slope, &holdout);
        let loss = log_loss(&scores, &holdout, &job.label);
        let reference = json!({
            "columns": {"x": {"kind": "numeric", "edges": [0.0], "counts": [50, 50], "nulls": 0}},
            "prediction": {"kind": "numeric", "edges": [0.5], "counts": [50, 50], "nulls": 0},
            "importance": {"x": 0.1},
            "holdout": {"rows": scores.len(), "log_loss": loss, "auc": 0.8, "brier": 0.2, "rate": 0.5},
        });
        let files = ModelFiles::from([
            ("model.onnx".to_owned(), Arc::from(slope.to_string().into_bytes())),
            ("reference.json".to_owned(), Arc::from(reference.to_string().into_bytes())),
        ]);
        Ok(Trained {
            files,
            signature: signature(),
            metrics: BTreeMap::from([
                (metric::LOG_LOSS.to_owned(), loss),
                (metric::BASELINE_LOG_LOSS.to_owned(), std::f64::consts::LN_2),
            ]),
            epochs: Vec::new(),
            params: BTreeMap::from([("slope".to_owned(), slope.to_string())]),
            environment: BTreeMap::new(),
            holdout_scores: scores,
            importance: BTreeMap::new(),
        })
    }
}

fn signature() -> Signature {
    Signature {
        inputs: vec![Field::new("x", ValueType::Float)],
        outputs: vec![Field::new("probability", ValueType::Float)],
    }
}

fn answers(slope: f64, rows: &Frame) -> Vec<f32> {
    let x = rows.column("x").unwrap().to_floats().unwrap();
    let side = |x: f64| if x > 0.0 { 1.0 } else { -1.0 };
    x.into_iter().map(|x| x.map_or(0.5, |x| (0.5 + 0.3 * slope * side(x)) as f32)).collect()
}

fn log_loss(scores: &[f32], rows: &Frame, label: &str) -> f64 {
    let Some(Column::Bool(labels)) = rows.column(label) else { panic!("labels are bool") };
    let loss = |(score, label): (&f32, &Option<bool>)| {
        let p = f64::from(*score);
        -(if label.unwrap() { p } else { 1.0 - p }).ln()
    };
    scores.iter().zip(labels).map(loss).sum::<f64>() / scores.len() as f64
}

struct SlopeLoader;

struct Slope(f64, Signature);

impl Loader for SlopeLoader {
    fn load(&self, model: &OpenedModel) -> Result<Arc<dyn Backend>, BackendError> {
        let file = model.files.get("model.onnx").ok_or(BackendError::NoFile("model.onnx"))?;
        let slope = String::from_utf8_lossy(file).parse().map_err(|_| BackendError::Malformed("no slope".into()))?;
        Ok(Arc::new(Slope(slope, model.signature.clone())))
    }
}

impl Backend for Slope {
    fn signature(&self) -> &Signature {
        &self.1
    }

    fn predict(&self, inputs: &Frame) -> Result<Vec<f32>, BackendError> {
        Ok(answers(self.0, inputs))
    }
}
