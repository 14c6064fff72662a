//! Lineage: what a version was made from.

use domain::ModelRef;
use serde::{Deserialize, Serialize};

use crate::{Registry, RegistryError};

/// A graph from data to model. Ids are the subjects of the journal: `dataset/<digest>`, `run/<id>`, `model/<name>/<version>`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Lineage {
    pub nodes: Vec<Node>,
    pub edges: Vec<Edge>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    pub id: String,
    pub kind: NodeKind,
    /// For people.
    pub label: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeKind {
    Dataset,
    Run,
    Version,
}

/// `from` came first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edge {
    pub from: String,
    pub to: String,
    /// What joins them, read from `from` to `to`: `read_by`, `made`.
    pub relation: String,
}

impl Registry {
    /// What a version was made from: its run, and the dataset that run read, if it recorded one.
    ///
    /// # Errors
    /// An unknown version.
    pub async fn lineage(&self, version: &ModelRef) -> Result<Lineage, RegistryError> {
        let version = self.version(version).await?;
        let run = self.run(&version.run).await?;
        let mut lineage = Lineage::default();
        let run_id = format!("run/{}", run.id);
        if let Some(dataset) = run.dataset {
            let snapshot = self.dataset(&dataset.digest).await?.snapshot;
            let label = format!("{} rows, {} to {}", snapshot.rows, snapshot.from, snapshot.to);
            let id = format!("dataset/{}", snapshot.digest);
            lineage.nodes.push(Node { id: id.clone(), kind: NodeKind::Dataset, label });
            lineage.edges.push(Edge { from: id, to: run_id.clone(), relation: "read_by".into() });
        }
        let label = if run.name.is_empty() { run.experiment } else { format!("{}: {}", run.experiment, run.name) };
        lineage.nodes.push(Node { id: run_id.clone(), kind: NodeKind::Run, label });
        let reference = version.reference();
        let id = format!("model/{reference}");
        lineage.nodes.push(Node { id: id.clone(), kind: NodeKind::Version, label: reference.to_string() });
        lineage.edges.push(Edge { from: run_id, to: id, relation: "made".into() });
        Ok(lineage)
    }
}
