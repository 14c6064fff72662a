//! A small world around `Serving`: features, models and a tap that can be held, broken and looked at.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use backends::{Backend, BackendError};
use domain::{
    Column, EndpointName, ErrorCode, Field, Frame, ModelName, ModelRef, ServiceName, Signature, Timestamp, Value,
    ValueType,
    definition::Endpoint,
    ports::{Features, Models, OpenedModel, PortError, PredictionTap, RequestField, ServiceSchema},
    prediction::PredictionBatch,
};
use runtime::{Clock, House, Metrics};
use serde_json::{Value as Json, json};
use serving::{EndpointState, Loader, PredictRequest, PredictResponse, Serving, ServingConfig, ServingError, Target};

/// Distances with a special effect on a batch that holds one.
pub const BREAKS: f64 = 666.0;
pub const GIVES_NAN: f64 = 777.0;
pub const PANICS: f64 = 888.0;
/// Origin for which the feature store fails.
pub const DOWN: &str = "DOWN";
/// Versions with a flaw.
pub const WANTS_UNKNOWN_COLUMN: u32 = 91;
pub const WANTS_OTHER_TYPE: u32 = 92;
pub const DOES_NOT_LOAD: u32 = 93;
pub const DIES_ON_NULLS: u32 = 94;
pub const BREAKS_ON_ROWS: u32 = 95;

pub struct World {
    pub serving: Serving,
    pub house: House,
    pub metrics: Metrics,
    pub tap: Arc<Tap>,
    pub models: Arc<Shop>,
}

impl World {
    pub fn new() -> Self {
        Self::with(ServingConfig { threads: 2, max_batch_rows: 64, ..ServingConfig::default() })
    }

    pub fn with(config: ServingConfig) -> Self {
        let (house, metrics, tap) = (House::new(), Metrics::new(), Arc::new(Tap::default()));
        let models = Arc::new(Shop::default());
        let clock = Clock::manual("2013-04-01T12:00:00Z".parse().unwrap());
        let serving = Serving::new(
            Arc::new(Weather),
            models.clone(),
            tap.clone(),
            models.clone(),
            clock,
            metrics.clone(),
            &house,
            config,
        );
        Self { serving, house, metrics, tap, models }
    }

    pub async fn deploy(&self, targets: &[(u32, u32)], shadow: &[u32]) -> Result<(), ServingError> {
        self.serving.configure(state(targets, shadow, 1.0)).await
    }

    pub async fn ask(&self, instances: Vec<Json>) -> Result<PredictResponse, ServingError> {
        self.serving.predict(&endpoint(), PredictRequest { instances, ..PredictRequest::default() }).await
    }
}

pub fn endpoint() -> EndpointName {
    "flight-delay".parse().unwrap()
}

pub fn version(number: u32) -> ModelRef {
    ModelRef { model: "delay".parse().unwrap(), version: number }
}

pub fn flight(id: usize) -> Json {
    json!({"flight_id": format!("f{id}"), "origin": "JFK", "distance": id % 500})
}

/// What version `number` answers to a row; `weather` is the length of the origin's name.
#[expect(clippy::cast_possible_truncation, reason = "as the fake model does")]
pub fn expected(number: u32, distance: f64, weather: f64) -> f32 {
    (f64::from(number) / 1_000.0 + distance / 10_000.0 + weather / 100.0) as f32
}

pub fn state(targets: &[(u32, u32)], shadow: &[u32], sample: f64) -> EndpointState {
    let definition: Endpoint = serde_json::from_value(json!({
        "name": "flight-delay", "model": "delay", "service": "flights",
        "label_key": ["flight_id"], "sample": sample, "threshold": 0.06,
        "labels": {"source": "landings", "key": ["flight_id"], "column": "late"},
    }))
    .unwrap();
    let targets = targets.iter().map(|&(version, percent)| Target { version, percent }).collect();
    EndpointState { definition, targets, shadow: shadow.to_vec() }
}

fn error(code: ErrorCode, message: &str) -> PortError {
    PortError { code, message: message.into(), hint: "ask the fakes".into() }
}

/// One feature: the length of the origin's name, null where the origin is.
struct Weather;

#[async_trait]
impl Features for Weather {
    async fn schema(&self, service: &ServiceName) -> Result<ServiceSchema, PortError> {
        if service.as_str() != "flights" {
            return Err(error(ErrorCode::NotFound, "no such service"));
        }
        Ok(ServiceSchema {
            service: service.clone(),
            keys: vec![Field::new("origin", ValueType::Text)],
            request: vec![
                RequestField { field: Field::new("distance", ValueType::Float), default: None },
                RequestField { field: Field::new("month", ValueType::Int), default: Some(Value::Int(6)) },
            ],
            features: vec![Field::new("weather__temp", ValueType::Int)],
        })
    }

    async fn latest(&self, _: &ServiceName, keys: &Frame, at: &[Timestamp]) -> Result<Frame, PortError> {
        let Some(Column::Text(origins)) = keys.column("origin") else { panic!("keys hold the origin") };
        assert_eq!(at.len(), keys.rows());
        if origins.iter().flatten().any(|origin| &**origin == DOWN) {
            return Err(error(ErrorCode::Unavailable, "the online store is away"));
        }
        let length = |origin: &Option<Arc<str>>| origin.as_ref().map(|origin| i64::try_from(origin.len()).unwrap());
        Ok(Frame::new([("weather__temp".into(), Column::Int(origins.iter().map(length).collect()))]).unwrap())
    }

    async fn as_of(&self, _: &ServiceName, _: &Frame, _: &[Timestamp]) -> Result<Frame, PortError> {
        unreachable!("serving reads online values only")
    }
}

/// Holds models back and notes what they were asked.
#[derive(Default)]
pub struct Gate {
    held: Mutex<bool>,
    changed: Condvar,
    arrived: AtomicUsize,
    largest: AtomicUsize,
    loads: AtomicUsize,
    alive: Mutex<BTreeMap<u32, usize>>,
}

impl Gate {
    /// While held, models wait before they answer.
    pub fn hold(&self, held: bool) {
        *self.held.lock().unwrap() = held;
        self.arrived.store(0, Ordering::SeqCst);
        self.changed.notify_all();
    }

    /// Waits until `count` batches stand before held models.
    pub async fn arrivals(&self, count: usize) {
        while self.arrived.load(Ordering::SeqCst) < count {
            tokio::task::yield_now().await;
        }
    }

    /// Rows of the largest batch so far.
    pub fn largest(&self) -> usize {
        self.largest.load(Ordering::SeqCst)
    }

    /// How often a version was loaded.
    pub fn loads(&self) -> usize {
        self.loads.load(Ordering::SeqCst)
    }

    /// Versions in memory.
    pub fn alive(&self) -> Vec<u32> {
        self.alive.lock().unwrap().iter().filter(|(_, count)| **count > 0).map(|(version, _)| *version).collect()
    }

    /// Waits until exactly these versions are in memory: a thread lets a model go a moment after its last answer.
    pub async fn until_alive(&self, versions: &[u32]) {
        let wait = async {
            while self.alive() != versions {
                tokio::task::yield_now().await;
            }
        };
        let waited = tokio::time::timeout(std::time::Duration::from_secs(20), wait).await;
        waited.unwrap_or_else(|_| panic!("{:?} are in memory, not {versions:?}", self.alive()));
    }

    fn pass(&self, rows: usize) {
        self.largest.fetch_max(rows, Ordering::SeqCst);
        self.arrived.fetch_add(1, Ordering::SeqCst);
        let mut held = self.held.lock().unwrap();
        while *held {
            held = self.changed.wait(held).unwrap();
        }
    }
}

/// Versions 1 to 99 of one model.
#[derive(Default)]
pub struct Shop {
    pub gate: Arc<Gate>,
}

#[async_trait]
impl Models for Shop {
    async fn resolve(&self, _: &ModelName, _: &str) -> Result<ModelRef, PortError> {
        unreachable!("serving is told numbers")
    }

    async fn open(&self, version: &ModelRef) -> Result<OpenedModel, PortError> {
        if version.version >= 100 {
            return Err(error(ErrorCode::NotFound, &format!("version {version} does not exist")));
        }
        let mut inputs = vec![
            Field::new("weather__temp", ValueType::Float),
            Field::new("distance", ValueType::Float),
            Field::new("origin", ValueType::Text),
        ];
        match version.version {
            WANTS_UNKNOWN_COLUMN => inputs.push(Field::new("weather__tempo", ValueType::Float)),
            WANTS_OTHER_TYPE => inputs.push(Field::new("month", ValueType::Text)),
            _ => {}
        }
        let signature = Signature { inputs, outputs: vec![Field::new("probability", ValueType::Float)] };
        Ok(OpenedModel { version: version.clone(), signature, files: BTreeMap::new() })
    }
}

impl Loader for Shop {
    fn load(&self, model: &OpenedModel) -> Result<Arc<dyn Backend>, BackendError> {
        let version = model.version.version;
        if version == DOES_NOT_LOAD {
            return Err(BackendError::Malformed("not a model at all".into()));
        }
        self.gate.loads.fetch_add(1, Ordering::SeqCst);
        *self.gate.alive.lock().unwrap().entry(version).or_default() += 1;
        Ok(Arc::new(Toy { version, signature: model.signature.clone(), gate: self.gate.clone() }))
    }
}

struct Toy {
    version: u32,
    signature: Signature,
    gate: Arc<Gate>,
}

impl Drop for Toy {
    fn drop(&mut self) {
        *self.gate.alive.lock().unwrap().entry(self.version).or_default() -= 1;
    }
}

impl Backend for Toy {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn predict(&self, inputs: &Frame) -> Result<Vec<f32>, BackendError> {
        self.gate.pass(inputs.rows());
        let floats = |name: &str| match inputs.require(name)? {
            Column::Float(values) => Ok::<_, BackendError>(values.clone()),
            _ => Err(BackendError::Signature(format!("{name} is not float"))),
        };
        let (weather, distances) = (floats("weather__temp")?, floats("distance")?);
        let any = |wanted: f64| distances.iter().flatten().any(|x| x.to_bits() == wanted.to_bits());
        assert!(!any(PANICS), "the model fell over");
        let unwell = self.version == BREAKS_ON_ROWS && distances.iter().any(Option::is_some);
        if any(BREAKS) || unwell || (self.version == DIES_ON_NULLS && distances.contains(&None)) {
            return Err(BackendError::Runtime { doing: "run", reason: "a bad row".into() });
        }
        let score = |(distance, weather): (&Option<f64>, &Option<f64>)| match distance {
            Some(x) if x.to_bits() == GIVES_NAN.to_bits() => f32::NAN,
            _ => expected(self.version, distance.unwrap_or(0.0), weather.unwrap_or(0.0)),
        };
        Ok(distances.iter().zip(&weather).map(score).collect())
    }
}

/// Keeps what it is offered, or refuses it.
#[derive(Default)]
pub struct Tap {
    pub refuse: AtomicBool,
    pub batches: Mutex<Vec<PredictionBatch>>,
}

impl Tap {
    pub fn take(&self) -> Vec<PredictionBatch> {
        std::mem::take(&mut self.batches.lock().unwrap())
    }
}

impl PredictionTap for Tap {
    fn offer(&self, batch: PredictionBatch) -> bool {
        let taken = !self.refuse.load(Ordering::SeqCst);
        if taken {
            self.batches.lock().unwrap().push(batch);
        }
        taken
    }
}
