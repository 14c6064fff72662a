//! Lineage: what a version was made from.

use domain::{Digest, ModelRef, RunId};
use serde::{Deserialize, Serialize};

use crate::{Registry, RegistryError, input, row};

/// A graph from data to model. Ids are the subjects of the journal: `dataset/<digest>`, `run/<id>`, `model/<name>/<version>`;
/// beside them `input/<name>/<digest>` for a dataset that a run only told of, and `logged_model/<id>`.
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
    #[serde(rename = "logged_model")]
    LoggedModel,
    Version,
}

/// `from` came first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edge {
    pub from: String,
    pub to: String,
    /// What joins them, read from `from` to `to`: `read_by`, `made`, `registered_as`.
    pub relation: String,
}

impl Lineage {
    fn node(&mut self, id: &str, kind: NodeKind, label: String) {
        self.nodes.push(Node { id: id.to_owned(), kind, label });
    }

    fn edge(&mut self, from: &str, to: &str, relation: &str) {
        self.edges.push(Edge { from: from.to_owned(), to: to.to_owned(), relation: relation.to_owned() });
    }
}

impl Registry {
    /// What a version was made from: its run and logged model, and the data that run recorded or told of.
    ///
    /// # Errors
    /// An unknown version.
    pub async fn lineage(&self, version: &ModelRef) -> Result<Lineage, RegistryError> {
        let version = self.version(version).await?;
        let mut lineage = Lineage::default();
        if let Some(run) = &version.run {
            self.trace_run(&mut lineage, run).await?;
        }
        let reference = version.reference();
        let id = format!("model/{reference}");
        let run_id = version.run.map(|run| format!("run/{run}"));
        match &version.logged_model {
            Some(logged) => {
                let named: Option<String> = sqlx::query_scalar("SELECT name FROM registry_logged_models WHERE id = $1")
                    .bind(logged)
                    .fetch_optional(self.meta().reader())
                    .await?;
                let logged_id = format!("logged_model/{logged}");
                lineage.node(&logged_id, NodeKind::LoggedModel, named.unwrap_or_default());
                if let Some(run_id) = &run_id {
                    lineage.edge(run_id, &logged_id, "made");
                }
                lineage.edge(&logged_id, &id, "registered_as");
            }
            None => {
                if let Some(run_id) = &run_id {
                    lineage.edge(run_id, &id, "made");
                }
            }
        }
        lineage.node(&id, NodeKind::Version, reference.to_string());
        Ok(lineage)
    }

    /// Adds a run, after the data it read.
    async fn trace_run(&self, lineage: &mut Lineage, run: &RunId) -> Result<(), RegistryError> {
        let run_id = format!("run/{run}");
        let (experiment, name, dataset): (String, String, Option<String>) = sqlx::query_as(
            "SELECT e.name, r.name, r.dataset FROM registry_runs r JOIN registry_experiments e ON e.id = r.experiment
             WHERE r.id = $1",
        )
        .bind(run.to_string())
        .fetch_optional(self.meta().reader())
        .await?
        .ok_or(RegistryError::NoSuchRun(*run))?;
        if let Some(digest) = dataset {
            let digest: Digest = row::parse(&digest, "run")?;
            let snapshot = self.dataset(&digest).await?.snapshot;
            let id = format!("dataset/{digest}");
            let label = format!("{} rows, {} to {}", snapshot.rows, snapshot.from, snapshot.to);
            lineage.node(&id, NodeKind::Dataset, label);
            lineage.edge(&id, &run_id, "read_by");
        }
        let inputs: Vec<(String, String, Option<String>)> = sqlx::query_as(
            "SELECT name, digest, context FROM registry_inputs WHERE run = $1 AND source_type <> $2
             ORDER BY position, name, digest",
        )
        .bind(run.to_string())
        // The dataset above, as MLflow's clients see it.
        .bind(input::OWN_SOURCE)
        .fetch_all(self.meta().reader())
        .await?;
        for (name, digest, context) in inputs {
            let id = format!("input/{name}/{digest}");
            let label = context.filter(|context| !context.is_empty()).map_or(name.clone(), |c| format!("{name} ({c})"));
            lineage.node(&id, NodeKind::Dataset, label);
            lineage.edge(&id, &run_id, "read_by");
        }
        let label = if name.is_empty() { experiment } else { format!("{experiment}: {name}") };
        lineage.node(&run_id, NodeKind::Run, label);
        Ok(())
    }
}
