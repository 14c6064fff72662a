//! An endpoint as it serves: its definition, its split and the versions behind it.

use std::{sync::Arc, time::Duration};

use domain::{
    EndpointName, ModelName, ModelRef, ServiceName, Timestamp,
    definition::Endpoint,
    ports::{Features, ServiceSchema},
};
use runtime::{
    Metric, Metrics,
    metrics::{Counter, Timer},
};
use serde::{Deserialize, Serialize};

use crate::{
    ServingError, Target, batch,
    instance::Form,
    route,
    shelf::{Loaded, Shelf},
};

/// What an endpoint should serve from now on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EndpointState {
    pub definition: Endpoint,
    /// Versions that answer; their percents add up to 100. A target of 0 % is loaded and can be pinned.
    pub targets: Vec<Target>,
    /// Versions that score every logged row beside the answer.
    pub shadow: Vec<u32>,
}

/// An endpoint as it stands.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EndpointStatus {
    pub name: EndpointName,
    pub model: ModelName,
    pub service: ServiceName,
    pub targets: Vec<Target>,
    pub shadow: Vec<u32>,
    pub sample: f64,
    pub threshold: f64,
    /// Rows waiting for a worker, over all versions of the endpoint.
    pub waiting_rows: usize,
    /// When this state was put in place.
    pub since: Timestamp,
}

/// A version behind an endpoint, with its own counters.
pub(crate) struct Slot {
    pub(crate) loaded: Arc<Loaded>,
    predictions: Arc<Counter>,
    queue: Arc<Timer>,
    infer: Arc<Timer>,
}

impl Slot {
    fn new(loaded: Arc<Loaded>, endpoint: &str, metrics: &Metrics) -> Self {
        let version = loaded.version.version.to_string();
        Self {
            predictions: metrics.counter(Metric::Predictions, &[endpoint, &version]),
            queue: metrics.timer(Metric::ModelSeconds, &[endpoint, &version, "queue"]),
            infer: metrics.timer(Metric::ModelSeconds, &[endpoint, &version, "infer"]),
            loaded,
        }
    }

    /// Counts one answered job of `rows` rows.
    pub(crate) fn answered(&self, rows: usize, queued: Duration, inferred: Duration) {
        self.predictions.add(rows as u64);
        self.queue.observe(queued);
        self.infer.observe(inferred);
    }
}

/// Everything a prediction needs, fixed while it runs.
pub(crate) struct Live {
    pub(crate) state: EndpointState,
    pub(crate) form: Form,
    /// In the order of `state.targets`.
    pub(crate) targets: Vec<Slot>,
    /// In the order of `state.shadow`.
    pub(crate) shadows: Vec<Slot>,
    pub(crate) features: Arc<Timer>,
    pub(crate) dropped: Arc<Counter>,
    since: Timestamp,
}

impl Live {
    /// Checks `state`, loads what it names and makes sure that it fits; nothing is visible to callers yet.
    pub(crate) async fn prepare(
        state: EndpointState,
        features: &dyn Features,
        shelf: &Shelf,
        metrics: &Metrics,
        since: Timestamp,
    ) -> Result<Self, ServingError> {
        let definition = &state.definition;
        let name = definition.name.as_str();
        let bad = |problem, hint| ServingError::BadEndpoint { endpoint: definition.name.clone(), problem, hint };
        route::check_split(&state.targets, &state.shadow)
            .map_err(|problem| bad(problem, "give each version once, with whole percents that add up to 100"))?;
        for (what, value) in [("sample", definition.sample), ("threshold", definition.threshold)] {
            if !(0.0..=1.0).contains(&value) {
                return Err(bad(format!("`{what}` is {value}"), "write a number from 0 to 1"));
            }
        }
        let schema = features.schema(&definition.service).await?;
        let form = Form::new(&schema, &definition.label_key).map_err(|problem| {
            bad(problem, "identify an instance by distinct columns of texts, whole numbers or times")
        })?;
        let mut targets = Vec::with_capacity(state.targets.len());
        for target in &state.targets {
            targets.push(slot(&definition.model, target.version, name, &schema, shelf, metrics).await?);
        }
        let mut shadows = Vec::with_capacity(state.shadow.len());
        for version in &state.shadow {
            shadows.push(slot(&definition.model, *version, name, &schema, shelf, metrics).await?);
        }
        // The features of a request are looked up once, whichever versions answer its rows.
        let features = metrics.timer(Metric::ModelSeconds, &[name, "all", "features"]);
        let dropped = metrics.counter(Metric::LogDropped, &[name]);
        Ok(Self { form, targets, shadows, features, dropped, since, state })
    }

    pub(crate) fn status(&self) -> EndpointStatus {
        let definition = &self.state.definition;
        EndpointStatus {
            name: definition.name.clone(),
            model: definition.model.clone(),
            service: definition.service.clone(),
            targets: self.state.targets.clone(),
            shadow: self.state.shadow.clone(),
            sample: definition.sample,
            threshold: definition.threshold,
            waiting_rows: self.slots().map(|slot| slot.loaded.lane.waiting()).sum(),
            since: self.since,
        }
    }

    /// All versions, those that answer first.
    pub(crate) fn slots(&self) -> impl Iterator<Item = &Slot> {
        self.targets.iter().chain(&self.shadows)
    }
}

async fn slot(
    model: &ModelName,
    version: u32,
    endpoint: &str,
    schema: &ServiceSchema,
    shelf: &Shelf,
    metrics: &Metrics,
) -> Result<Slot, ServingError> {
    let loaded = shelf.get(&ModelRef { model: model.clone(), version }).await?;
    batch::check_fit(&loaded.version, &loaded.signature, schema)?;
    Ok(Slot::new(loaded, endpoint, metrics))
}
