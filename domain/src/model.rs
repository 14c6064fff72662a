//! What a model version is to everyone who does not own it.

use std::{collections::BTreeMap, fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{BadModelName, Digest, Field, ModelName};

/// A version of a registered model. Versions count from 1 and are never reused.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ModelRef {
    pub model: ModelName,
    pub version: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` does not name a model version: write `name/3`")]
pub struct BadModelRef(pub String);

impl fmt::Display for ModelRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.model, self.version)
    }
}

impl FromStr for ModelRef {
    type Err = BadModelRef;
    fn from_str(raw: &str) -> Result<Self, BadModelRef> {
        let bad = || BadModelRef(raw.to_owned());
        let (model, version) = raw.rsplit_once('/').ok_or_else(bad)?;
        let model = model.parse().map_err(|_: BadModelName| bad())?;
        let version = version.parse().ok().filter(|v| *v > 0).ok_or_else(bad)?;
        Ok(Self { model, version })
    }
}

impl TryFrom<String> for ModelRef {
    type Error = BadModelRef;
    fn try_from(raw: String) -> Result<Self, BadModelRef> {
        raw.parse()
    }
}

impl From<ModelRef> for String {
    fn from(version: ModelRef) -> Self {
        version.to_string()
    }
}

/// Columns a model reads and writes. Inputs are raw values: preprocessing lives inside the model.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Signature {
    pub inputs: Vec<Field>,
    pub outputs: Vec<Field>,
}

/// The files of a version: path inside the version's directory -> bytes.
pub type ModelFiles = BTreeMap<String, Arc<[u8]>>;

/// The names and digests of the same files.
pub type FileDigests = BTreeMap<String, Digest>;
