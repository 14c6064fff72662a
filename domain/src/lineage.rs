//! Lineage: what came from what, from the data over runs and versions to predictions. The words only.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{Digest, EndpointName, ModelRef, PredictionId, RunId};

/// A thing that comes from others or that others come from. Written as the journal's subjects are:
/// `dataset/<digest>`, `run/<id>`, `model/<name>/<version>`, `endpoint/<name>`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum NodeRef {
    /// A dataset that this platform built.
    Dataset(Digest),
    /// `input/<name>/<digest>`: a dataset that a run only told of.
    Input {
        name: String,
        digest: String,
    },
    Run(RunId),
    /// `logged_model/<id>`.
    LoggedModel(String),
    Version(ModelRef),
    Endpoint(EndpointName),
    /// `predictions/<endpoint>/<version>`: all predictions that a version scored on an endpoint.
    Predictions {
        endpoint: EndpointName,
        version: u32,
    },
    /// `prediction/<id>`.
    Prediction(PredictionId),
}

/// A text that names no node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` names no node: write dataset/DIGEST, input/NAME/DIGEST, run/ID, logged_model/ID, model/NAME/VERSION, \
     endpoint/NAME, predictions/ENDPOINT/VERSION or prediction/ID"
)]
pub struct BadNodeRef(pub String);

/// The sort of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeKind {
    Dataset,
    Run,
    LoggedModel,
    Version,
    Endpoint,
    Predictions,
    Prediction,
}

impl NodeRef {
    #[must_use]
    pub const fn kind(&self) -> NodeKind {
        match self {
            Self::Dataset(_) | Self::Input { .. } => NodeKind::Dataset,
            Self::Run(_) => NodeKind::Run,
            Self::LoggedModel(_) => NodeKind::LoggedModel,
            Self::Version(_) => NodeKind::Version,
            Self::Endpoint(_) => NodeKind::Endpoint,
            Self::Predictions { .. } => NodeKind::Predictions,
            Self::Prediction(_) => NodeKind::Prediction,
        }
    }
}

impl fmt::Display for NodeRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dataset(digest) => write!(f, "dataset/{digest}"),
            Self::Input { name, digest } => write!(f, "input/{name}/{digest}"),
            Self::Run(run) => write!(f, "run/{run}"),
            Self::LoggedModel(id) => write!(f, "logged_model/{id}"),
            Self::Version(version) => write!(f, "model/{version}"),
            Self::Endpoint(name) => write!(f, "endpoint/{name}"),
            Self::Predictions { endpoint, version } => write!(f, "predictions/{endpoint}/{version}"),
            Self::Prediction(id) => write!(f, "prediction/{id}"),
        }
    }
}

impl FromStr for NodeRef {
    type Err = BadNodeRef;
    fn from_str(raw: &str) -> Result<Self, BadNodeRef> {
        let read = || {
            let (kind, rest) = raw.split_once('/')?;
            match kind {
                "dataset" => rest.parse().ok().map(Self::Dataset),
                "input" => {
                    // The name may hold slashes, the digest does not.
                    let (name, digest) =
                        rest.rsplit_once('/').filter(|(name, digest)| !name.is_empty() && !digest.is_empty())?;
                    Some(Self::Input { name: name.to_owned(), digest: digest.to_owned() })
                }
                "run" => rest.parse().ok().map(Self::Run),
                "logged_model" => Some(rest).filter(|id| !id.is_empty()).map(|id| Self::LoggedModel(id.to_owned())),
                "model" => rest.parse().ok().map(Self::Version),
                "endpoint" => rest.parse().ok().map(Self::Endpoint),
                "predictions" => {
                    let (endpoint, version) = rest.split_once('/')?;
                    Some(Self::Predictions { endpoint: endpoint.parse().ok()?, version: version.parse().ok()? })
                }
                "prediction" => rest.parse().ok().map(Self::Prediction),
                _ => None,
            }
        };
        read().ok_or_else(|| BadNodeRef(raw.to_owned()))
    }
}

impl TryFrom<String> for NodeRef {
    type Error = BadNodeRef;
    fn try_from(raw: String) -> Result<Self, BadNodeRef> {
        raw.parse()
    }
}

impl From<NodeRef> for String {
    fn from(node: NodeRef) -> Self {
        node.to_string()
    }
}

/// Which way to look from a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// What it came from.
    Up,
    /// What came from it.
    Down,
    #[default]
    Both,
}

impl Direction {
    /// Reads the form written in JSON.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "up" => Some(Self::Up),
            "down" => Some(Self::Down),
            "both" => Some(Self::Both),
            _ => None,
        }
    }
}

/// One way from a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Way {
    Up,
    Down,
}

/// Two nodes that hang together; `from` came first.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Edge {
    pub from: NodeRef,
    pub to: NodeRef,
    /// What joins them, read from `from` to `to`: `read_by`, `made`, `registered_as`, `served_by`, `scored`.
    pub relation: String,
}

impl Edge {
    #[must_use]
    pub fn new(from: NodeRef, to: NodeRef, relation: &str) -> Self {
        Self { from, to, relation: relation.to_owned() }
    }

    /// The end that lies this way.
    #[must_use]
    pub const fn end(&self, way: Way) -> &NodeRef {
        match way {
            Way::Up => &self.from,
            Way::Down => &self.to,
        }
    }
}

/// A node as people see it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Node {
    pub id: NodeRef,
    pub kind: NodeKind,
    /// For people.
    pub label: String,
    /// More of it, where there is: counts and time span of predictions, the split of an endpoint.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub details: serde_json::Value,
}

/// A graph, from what came first to what came last.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Lineage {
    pub nodes: Vec<Node>,
    pub edges: Vec<Edge>,
    /// Why there is more than is shown; absent when this is all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_read_back_as_they_are_written() {
        let digest = Digest::of(b"x");
        for text in [
            &format!("dataset/{digest}"),
            "input/a/b/c0ffee",
            "run/0123456789abcdef0123456789abcdef",
            "logged_model/m-1",
            "model/Elastic Net/3",
            "endpoint/flight-delay",
            "predictions/flight-delay/3",
            "prediction/0123456789abcdef0123456789abcdef",
        ] {
            assert_eq!(text.parse::<NodeRef>().map(|node| node.to_string()).as_deref(), Ok(text));
        }
        for bad in [
            "",
            "model",
            "model/x",
            "model/x/0",
            "dataset/x",
            "endpoint/",
            "predictions/x",
            "input/a",
            "input//x",
            "row/1",
        ] {
            assert!(bad.parse::<NodeRef>().is_err(), "{bad}");
        }
    }
}
