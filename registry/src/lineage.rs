//! Lineage: what hangs together with what, as far as the registry knows, and walking along it.

use std::collections::{BTreeMap, HashSet};

use async_trait::async_trait;
use domain::{
    Coded, ModelRef,
    lineage::{Direction, Edge, Lineage, Node, NodeRef, Way},
};
use serde_json::{Value, json};

use crate::{Registry, RegistryError, input, row, version};

/// Neighbours of one node that are read at most.
const NEIGHBOURS_MAX: usize = 2_000;
/// How far back the history of one version is told.
const DEPTH_OF_VERSION: usize = 8;
const NODES_OF_VERSION: usize = 500;

/// What hangs together with what.
#[async_trait]
pub trait Graph: Sync {
    type Error: Coded + Send;

    /// The edges of a node one way.
    async fn edges(&self, node: &NodeRef, way: Way) -> Result<Vec<Edge>, Self::Error>;

    /// The node as people see it. Fails when there is none.
    async fn describe(&self, node: &NodeRef) -> Result<Node, Self::Error>;

    /// Whether the walk goes on beyond a node that it came to. One that joins what does not belong together is shown
    /// and no more.
    fn goes_on(&self, node: &NodeRef) -> bool {
        let _ = node;
        true
    }
}

/// How far to walk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reach {
    /// Steps from the start.
    pub depth: usize,
    pub nodes: usize,
}

/// Walks from a node until nothing is left or the reach ends; the answer says so then.
///
/// # Errors
/// A start that does not exist, or a graph that cannot be read.
pub async fn walk<G: Graph>(
    graph: &G,
    start: &NodeRef,
    direction: Direction,
    reach: Reach,
) -> Result<Lineage, G::Error> {
    // Layer -> nodes in the order found; upstream layers are negative.
    let mut layers: BTreeMap<isize, Vec<Node>> = BTreeMap::from([(0, vec![graph.describe(start).await?])]);
    let mut seen = HashSet::from([start.clone()]);
    let mut edges: BTreeMap<isize, Vec<Edge>> = BTreeMap::new();
    let mut cut = None;
    let ways: &[(Way, isize)] = match direction {
        Direction::Up => &[(Way::Up, -1)],
        Direction::Down => &[(Way::Down, 1)],
        Direction::Both => &[(Way::Up, -1), (Way::Down, 1)],
    };
    for &(way, sign) in ways {
        let mut layer = vec![start.clone()];
        for step in 1.. {
            let mut next = Vec::new();
            for node in layer.iter().filter(|node| *node == start || graph.goes_on(node)) {
                for edge in graph.edges(node, way).await? {
                    let end = edge.end(way);
                    let known = seen.contains(end);
                    if !known && step > reach.depth {
                        cut = cut.or_else(|| Some(format!("there is more beyond {} steps", reach.depth)));
                        continue;
                    }
                    if !known && seen.len() >= reach.nodes {
                        cut = Some(format!("there are more than {} nodes", reach.nodes));
                        continue;
                    }
                    let place = sign * isize::try_from(step).unwrap_or(isize::MAX);
                    if !known {
                        seen.insert(end.clone());
                        layers.entry(place).or_default().push(described(graph, end).await?);
                        next.push(end.clone());
                    }
                    let told = edges.entry(place).or_default();
                    if !told.contains(&edge) {
                        told.push(edge);
                    }
                }
            }
            if next.is_empty() {
                break;
            }
            layer = next;
        }
    }
    let nodes = layers.into_values().flatten().collect();
    Ok(Lineage { nodes, edges: edges.into_values().flatten().collect(), cut })
}

/// A node that others name; it may be gone.
async fn described<G: Graph>(graph: &G, node: &NodeRef) -> Result<Node, G::Error> {
    match graph.describe(node).await {
        Err(error) if error.code() == domain::ErrorCode::NotFound => Ok(shown(node, "deleted".to_owned(), Value::Null)),
        other => other,
    }
}

/// A node with its label.
#[must_use]
pub fn shown(node: &NodeRef, label: String, details: Value) -> Node {
    Node { id: node.clone(), kind: node.kind(), label, details }
}

impl Registry {
    /// What a version was made from: its run and logged model, and the data that run recorded or told of.
    ///
    /// # Errors
    /// An unknown version.
    pub async fn lineage(&self, version: &ModelRef) -> Result<Lineage, RegistryError> {
        let reach = Reach { depth: DEPTH_OF_VERSION, nodes: NODES_OF_VERSION };
        walk(self, &NodeRef::Version(version.clone()), Direction::Up, reach).await
    }

    async fn texts(&self, sql: &'static str, bind: &str) -> Result<Vec<String>, RegistryError> {
        let found = sqlx::query_scalar(sql).bind(bind).bind(row::count(NEIGHBOURS_MAX as u64));
        Ok(found.fetch_all(self.meta().reader()).await?)
    }

    /// Versions that were made by a run or a logged model.
    async fn versions_of(&self, sql: &'static str, bind: &str) -> Result<Vec<NodeRef>, RegistryError> {
        let found = sqlx::query_as(sql).bind(bind).bind(row::count(NEIGHBOURS_MAX as u64));
        let found: Vec<(String, i64)> = found.fetch_all(self.meta().reader()).await?;
        let read = |(model, number): (String, i64)| {
            let model = row::parse(&model, "version")?;
            Ok(NodeRef::Version(ModelRef { model, version: row::uncount(number, "version")? }))
        };
        found.into_iter().map(read).collect()
    }

    async fn above(&self, node: &NodeRef) -> Result<Vec<Edge>, RegistryError> {
        let edge = |from: NodeRef, relation: &str| Edge::new(from, node.clone(), relation);
        match node {
            NodeRef::Version(reference) => {
                let version = self.version(reference).await?;
                let mut edges = Vec::new();
                let mut made_by = None;
                if let Some(logged) = version.logged_model {
                    made_by = self.source_run(&logged).await?;
                    edges.push(edge(NodeRef::LoggedModel(logged), "registered_as"));
                }
                if let Some(run) = version.run.filter(|run| Some(*run) != made_by) {
                    edges.push(edge(NodeRef::Run(run), "made"));
                }
                Ok(edges)
            }
            NodeRef::LoggedModel(id) => {
                Ok(self.source_run(id).await?.map(|run| edge(NodeRef::Run(run), "made")).into_iter().collect())
            }
            NodeRef::Run(run) => {
                let id = run.to_string();
                let mut edges = Vec::new();
                for digest in self
                    .texts("SELECT dataset FROM registry_runs WHERE id = $1 AND dataset IS NOT NULL LIMIT $2", &id)
                    .await?
                {
                    edges.push(edge(NodeRef::Dataset(row::parse(&digest, "run")?), "read_by"));
                }
                let told: Vec<(String, String)> = sqlx::query_as(
                    "SELECT name, digest FROM registry_inputs WHERE run = $1 AND source_type <> $2
                     ORDER BY position, name, digest LIMIT $3",
                )
                .bind(&id)
                // The dataset above, as MLflow's clients see it.
                .bind(input::OWN_SOURCE)
                .bind(row::count(NEIGHBOURS_MAX as u64))
                .fetch_all(self.meta().reader())
                .await?;
                edges.extend(told.into_iter().map(|(name, digest)| edge(NodeRef::Input { name, digest }, "read_by")));
                let read =
                    "SELECT model FROM registry_run_models WHERE run = $1 AND role = 'input' ORDER BY model LIMIT $2";
                for model in self.texts(read, &id).await? {
                    edges.push(edge(NodeRef::LoggedModel(model), "read_by"));
                }
                Ok(edges)
            }
            _ => Ok(Vec::new()),
        }
    }

    async fn below(&self, node: &NodeRef) -> Result<Vec<Edge>, RegistryError> {
        let edge = |to: NodeRef, relation: &str| Edge::new(node.clone(), to, relation);
        let runs = |ids: Vec<String>| {
            let read = |id: &String| Ok(edge(NodeRef::Run(row::parse(id, "run")?), "read_by"));
            ids.iter().map(read).collect::<Result<Vec<_>, RegistryError>>()
        };
        match node {
            NodeRef::Dataset(digest) => {
                let of = "SELECT id FROM registry_runs WHERE dataset = $1 ORDER BY started_at, id LIMIT $2";
                runs(self.texts(of, &digest.to_string()).await?)
            }
            NodeRef::Input { name, digest } => {
                let of = "SELECT run FROM registry_inputs WHERE name = $1 AND digest = $2 ORDER BY run LIMIT $3";
                let found = sqlx::query_scalar(of).bind(name).bind(digest).bind(row::count(NEIGHBOURS_MAX as u64));
                runs(found.fetch_all(self.meta().reader()).await?)
            }
            NodeRef::Run(run) => {
                let id = run.to_string();
                let made = "SELECT id FROM registry_logged_models WHERE source_run = $1 AND deleted_at IS NULL ORDER BY created_at, id LIMIT $2";
                let made = self.texts(made, &id).await?.into_iter().map(|id| edge(NodeRef::LoggedModel(id), "made"));
                let mut edges: Vec<Edge> = made.collect();
                // Those of its logged models come behind these.
                let own = "SELECT v.model, v.version FROM registry_versions v
                           LEFT JOIN registry_logged_models l ON l.id = v.logged_model
                           WHERE v.run = $1 AND (l.source_run IS NULL OR l.source_run <> v.run)
                           ORDER BY v.model, v.version LIMIT $2";
                edges.extend(self.versions_of(own, &id).await?.into_iter().map(|version| edge(version, "made")));
                Ok(edges)
            }
            NodeRef::LoggedModel(id) => {
                let of = "SELECT model, version FROM registry_versions WHERE logged_model = $1 ORDER BY model, version LIMIT $2";
                let versions =
                    self.versions_of(of, id).await?.into_iter().map(|version| edge(version, "registered_as"));
                let mut edges: Vec<Edge> = versions.collect();
                let read =
                    "SELECT run FROM registry_run_models WHERE model = $1 AND role = 'input' ORDER BY run LIMIT $2";
                edges.extend(runs(self.texts(read, id).await?)?);
                Ok(edges)
            }
            _ => Ok(Vec::new()),
        }
    }

    /// The run that made a logged model.
    async fn source_run(&self, id: &str) -> Result<Option<domain::RunId>, RegistryError> {
        let of = "SELECT source_run FROM registry_logged_models WHERE id = $1 AND source_run IS NOT NULL LIMIT $2";
        self.texts(of, id).await?.first().map(|run| row::parse(run, "logged model")).transpose()
    }

    async fn label_of_run(&self, run: &domain::RunId) -> Result<String, RegistryError> {
        let named: Option<(String, String)> = sqlx::query_as(
            "SELECT e.name, r.name FROM registry_runs r JOIN registry_experiments e ON e.id = r.experiment WHERE r.id = $1",
        )
        .bind(run.to_string())
        .fetch_optional(self.meta().reader())
        .await?;
        let (experiment, name) = named.ok_or(RegistryError::NoSuchRun(*run))?;
        Ok(if name.is_empty() { experiment } else { format!("{experiment}: {name}") })
    }
}

#[async_trait]
impl Graph for Registry {
    type Error = RegistryError;

    async fn edges(&self, node: &NodeRef, way: Way) -> Result<Vec<Edge>, RegistryError> {
        match way {
            Way::Up => self.above(node).await,
            Way::Down => self.below(node).await,
        }
    }

    async fn describe(&self, node: &NodeRef) -> Result<Node, RegistryError> {
        let missing = |what| RegistryError::NoSuch { what, name: node.to_string() };
        match node {
            NodeRef::Dataset(digest) => {
                let data = self.dataset(digest).await?.snapshot;
                Ok(shown(node, format!("{} rows, {} to {}", data.rows, data.from, data.to), Value::Null))
            }
            NodeRef::Input { name, digest } => {
                let context: Option<Option<String>> = sqlx::query_scalar(
                    "SELECT context FROM registry_inputs WHERE name = $1 AND digest = $2 ORDER BY run LIMIT 1",
                )
                .bind(name)
                .bind(digest)
                .fetch_optional(self.meta().reader())
                .await?;
                let context = context.ok_or_else(|| missing("dataset"))?.filter(|context| !context.is_empty());
                Ok(shown(node, context.map_or_else(|| name.clone(), |told| format!("{name} ({told})")), Value::Null))
            }
            NodeRef::Run(run) => Ok(shown(node, self.label_of_run(run).await?, Value::Null)),
            NodeRef::LoggedModel(id) => {
                let named = self.texts("SELECT name FROM registry_logged_models WHERE id = $1 LIMIT $2", id).await?;
                Ok(shown(node, named.into_iter().next().ok_or_else(|| missing("logged model"))?, Value::Null))
            }
            NodeRef::Version(reference) => {
                let found = version::one(&mut *self.meta().reader().begin().await?, reference).await?;
                let details = if found.aliases.is_empty() { Value::Null } else { json!({"aliases": found.aliases}) };
                Ok(shown(node, reference.to_string(), details))
            }
            NodeRef::Endpoint(_) | NodeRef::Predictions { .. } | NodeRef::Prediction(_) => Err(missing("node")),
        }
    }
}
