//! Lineage over all rooms: from the data to the predictions and back. Here the rooms meet.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use async_trait::async_trait;
use domain::{
    Digest, EndpointName, EventKind, ModelRef, PredictionId,
    definition::Endpoint,
    lineage::{Direction, Edge, Lineage, Node, NodeRef, Way},
    prediction::TargetRole,
};
use evaluator::Scored;
use registry::{Graph, Reach, shown, walk};
use serde::Serialize;
use serde_json::json;
use tokio::sync::Mutex;

use crate::{
    conductor::Conductor,
    endpoint::Deployed,
    error::{Asking as _, ConductorError, During as _},
};

/// The most nodes and steps of one answer.
pub const NODES_MAX: usize = 1_000;
pub const DEPTH_MAX: usize = 20;
/// Changes of an endpoint's split that are looked at, newest first.
const CHANGES: usize = 1_000;

/// What a dataset reached.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Impact {
    pub dataset: Digest,
    /// Versions that learned from it.
    pub versions: Vec<ModelRef>,
    pub endpoints: Vec<Reached>,
    /// Why there is more than is shown; absent when this is all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cut: Option<String>,
}

/// An endpoint that a dataset reached.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Reached {
    pub endpoint: EndpointName,
    /// Versions that learned from the data and were behind the endpoint.
    pub versions: Vec<u32>,
    /// Those of them that answer now.
    pub now: Vec<u32>,
    /// Predictions in the log that they scored.
    pub predictions: u64,
}

impl Conductor {
    /// What a node came from and what came from it, over all rooms.
    ///
    /// # Errors
    /// A node that does not exist.
    pub async fn lineage(&self, node: &NodeRef, direction: Direction, reach: Reach) -> Result<Lineage, ConductorError> {
        let reach = Reach { depth: reach.depth.min(DEPTH_MAX), nodes: reach.nodes.min(NODES_MAX) };
        walk(&House::new(self), node, direction, reach).await
    }

    /// Which versions and endpoints a dataset reached.
    ///
    /// # Errors
    /// An unknown dataset.
    pub async fn impact(&self, dataset: &Digest) -> Result<Impact, ConductorError> {
        let reach = Reach { depth: DEPTH_MAX, nodes: NODES_MAX };
        let house = House::new(self);
        let found = walk(&house, &NodeRef::Dataset(*dataset), Direction::Down, reach).await?;
        let mut reached: BTreeMap<EndpointName, BTreeSet<u32>> = BTreeMap::new();
        let mut versions = Vec::new();
        for node in &found.nodes {
            if let NodeRef::Version(version) = &node.id {
                versions.push(version.clone());
            }
        }
        for edge in &found.edges {
            if let (NodeRef::Version(version), NodeRef::Endpoint(endpoint)) = (&edge.from, &edge.to) {
                reached.entry(endpoint.clone()).or_default().insert(version.version);
            }
        }
        let mut endpoints = Vec::with_capacity(reached.len());
        for (endpoint, versions) in reached {
            let behind = house.behind(&endpoint).await?;
            endpoints.push(Reached {
                now: versions.iter().copied().filter(|version| behind.answers(*version)).collect(),
                predictions: versions
                    .iter()
                    .filter_map(|version| behind.scored(*version))
                    .map(|s| s.all.predictions)
                    .sum(),
                versions: versions.into_iter().collect(),
                endpoint,
            });
        }
        Ok(Impact { dataset: *dataset, versions, endpoints, cut: found.cut })
    }
}

/// All that was ever behind an endpoint.
struct Behind {
    definition: Endpoint,
    deployed: Option<Deployed>,
    /// Versions that were deployed, shadows included.
    ever: BTreeSet<u32>,
    scored: Vec<Scored>,
}

impl Behind {
    fn versions(&self) -> BTreeSet<u32> {
        self.ever.iter().copied().chain(self.scored.iter().map(|scored| scored.version)).collect()
    }

    fn scored(&self, version: u32) -> Option<&Scored> {
        self.scored.iter().find(|scored| scored.version == version)
    }

    fn answers(&self, version: u32) -> bool {
        let targets = self.deployed.iter().flat_map(|deployed| &deployed.targets);
        targets.into_iter().any(|target| target.version == version && target.percent > 0)
    }

    /// How a version and the endpoint hang together.
    fn edge(&self, version: u32) -> Edge {
        let shadows = self.deployed.as_ref().is_some_and(|deployed| deployed.shadow.contains(&version));
        let relation = match (self.answers(version), shadows) {
            (true, _) => "served_by",
            (false, true) => "compared_by",
            (false, false) => "was_served_by",
        };
        let (model, name) = (self.definition.model.clone(), self.definition.name.clone());
        Edge::new(NodeRef::Version(ModelRef { model, version }), NodeRef::Endpoint(name), relation)
    }

    fn log_of(&self, version: u32) -> NodeRef {
        NodeRef::Predictions { endpoint: self.definition.name.clone(), version }
    }

    /// The endpoint's log of a version, and that the version made it.
    fn logged(&self, version: u32) -> [Edge; 2] {
        let (model, name) = (self.definition.model.clone(), self.definition.name.clone());
        [
            Edge::new(NodeRef::Version(ModelRef { model, version }), self.log_of(version), "scored"),
            Edge::new(NodeRef::Endpoint(name), self.log_of(version), "logged"),
        ]
    }
}

/// The rooms as one graph; what was looked up of an endpoint is kept for the length of a walk.
struct House<'a> {
    conductor: &'a Conductor,
    known: Mutex<BTreeMap<EndpointName, Arc<Behind>>>,
}

impl<'a> House<'a> {
    fn new(conductor: &'a Conductor) -> Self {
        Self { conductor, known: Mutex::default() }
    }

    async fn behind(&self, name: &EndpointName) -> Result<Arc<Behind>, ConductorError> {
        let mut known = self.known.lock().await;
        if let Some(found) = known.get(name) {
            return Ok(found.clone());
        }
        let definition = self.conductor.definition(name)?;
        let rooms = self.conductor.rooms();
        let deployed = self.conductor.deployed(name).await?;
        let changes = rooms.meta.journal().history(&format!("endpoint/{name}"), false, None, CHANGES).await;
        let changes = changes.during("read the journal")?;
        let number = |value: &serde_json::Value| value.as_u64().and_then(|number| u32::try_from(number).ok());
        let mut ever = BTreeSet::new();
        for change in changes.iter().filter(|event| event.kind == EventKind::EndpointChanged) {
            let list = |member: &str| change.body[member].as_array().cloned().unwrap_or_default();
            ever.extend(list("targets").iter().filter_map(|target| number(&target["version"])));
            ever.extend(list("shadow").iter().filter_map(number));
        }
        let scored = match rooms.evaluator.endpoints().contains(name) {
            true => rooms.evaluator.scored(name).await.asking("read the prediction log")?,
            false => Vec::new(),
        };
        let found = Arc::new(Behind { definition, deployed, ever, scored });
        known.insert(name.clone(), found.clone());
        Ok(found)
    }

    async fn above_prediction(&self, node: &NodeRef, id: &PredictionId) -> Result<Vec<Edge>, ConductorError> {
        let logged = self.conductor.rooms().evaluator.prediction(id).await.asking("find the prediction")?;
        let model = self.behind(&logged.endpoint).await?.definition.model.clone();
        let by_version = logged.scores.iter().map(|score| {
            let relation = if score.role == TargetRole::Live { "answered" } else { "scored" };
            let version = ModelRef { model: model.clone(), version: score.version };
            Edge::new(NodeRef::Version(version), node.clone(), relation)
        });
        let mut edges: Vec<Edge> = by_version.collect();
        edges.push(Edge::new(NodeRef::Endpoint(logged.endpoint.clone()), node.clone(), "logged"));
        Ok(edges)
    }

    async fn above(&self, node: &NodeRef) -> Result<Vec<Edge>, ConductorError> {
        match node {
            NodeRef::Endpoint(name) => {
                let behind = self.behind(name).await?;
                Ok(behind.versions().into_iter().map(|version| behind.edge(version)).collect())
            }
            NodeRef::Predictions { endpoint, version } => Ok(self.behind(endpoint).await?.logged(*version).into()),
            NodeRef::Prediction(id) => self.above_prediction(node, id).await,
            _ => self.conductor.rooms().registry.edges(node, Way::Up).await.asking("read lineage"),
        }
    }

    async fn below(&self, node: &NodeRef) -> Result<Vec<Edge>, ConductorError> {
        match node {
            NodeRef::Version(ModelRef { model, version }) => {
                let of_model = self.conductor.known(|known| {
                    let endpoints = known.endpoints.values().filter(|endpoint| endpoint.model == *model);
                    endpoints.map(|endpoint| endpoint.name.clone()).collect::<Vec<_>>()
                });
                let mut edges = Vec::new();
                for name in of_model {
                    let behind = self.behind(&name).await?;
                    if behind.versions().contains(version) {
                        edges.push(behind.edge(*version));
                    }
                    if behind.scored(*version).is_some() {
                        edges.extend(behind.logged(*version));
                    }
                }
                Ok(edges)
            }
            NodeRef::Endpoint(name) => {
                let behind = self.behind(name).await?;
                let logged = behind.scored.iter().map(|scored| behind.logged(scored.version));
                Ok(logged.map(|[_, by_endpoint]| by_endpoint).collect())
            }
            NodeRef::Predictions { .. } | NodeRef::Prediction(_) => Ok(Vec::new()),
            _ => self.conductor.rooms().registry.edges(node, Way::Down).await.asking("read lineage"),
        }
    }
}

#[async_trait]
impl Graph for House<'_> {
    type Error = ConductorError;

    async fn edges(&self, node: &NodeRef, way: Way) -> Result<Vec<Edge>, ConductorError> {
        match way {
            Way::Up => self.above(node).await,
            Way::Down => self.below(node).await,
        }
    }

    async fn describe(&self, node: &NodeRef) -> Result<Node, ConductorError> {
        match node {
            NodeRef::Endpoint(name) => {
                let behind = self.behind(name).await?;
                let deployed = behind.deployed.as_ref();
                let details =
                    deployed.map(|d| json!({"targets": d.targets, "shadow": d.shadow, "champion": d.champion}));
                Ok(shown(node, format!("serves {}", behind.definition.model), details.unwrap_or_default()))
            }
            NodeRef::Predictions { endpoint, version } => {
                let behind = self.behind(endpoint).await?;
                let scored = behind.scored(*version).ok_or_else(|| ConductorError::NoSuchNode(node.clone()))?;
                let label = format!("{} predictions, {} to {}", scored.all.predictions, scored.all.from, scored.all.to);
                Ok(shown(node, label, json!(scored)))
            }
            NodeRef::Prediction(id) => {
                let logged = self.conductor.rooms().evaluator.prediction(id).await.asking("find the prediction")?;
                let details = json!({
                    "endpoint": logged.endpoint, "event_time": logged.event_time, "served_at": logged.served_at,
                    "scores": logged.scores, "label": logged.label,
                });
                Ok(shown(node, format!("{} at {}", logged.endpoint, logged.event_time), details))
            }
            _ => self.conductor.rooms().registry.describe(node).await.asking("read lineage"),
        }
    }

    /// An endpoint joins versions that have nothing to do with each other.
    fn goes_on(&self, node: &NodeRef) -> bool {
        !matches!(node, NodeRef::Endpoint(_))
    }
}
