//! Our own tickets: JSON that says which table to make, for any Flight client.
//!
//! - `{"source": "readings"}`: a source's rows, with `columns`, `from` and `to` when wanted.
//! - `{"service": "pump-fault", "spine": "asks"}`: the spine's rows with the service's features as of each row's time;
//!   `from` and `to` bound the spine's event time. A descriptor of this kind may ask for several `streams`: each is a
//!   stretch of event time of its own, so that together they are the whole set whatever is ingested meanwhile.
//! - `{"dataset": {...}, "cutoff": "..."}`: a training set as pipelines build it; `slice` is `train` or `holdout`. With `sources`
//!   (name -> digest) from those states of its sources.
//! - `{"dataset": "<digest>"}`: a recorded training set, built once more from the states of its sources then.

use std::{collections::BTreeMap, sync::Arc};

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use domain::{
    Digest, Field, SourceName, Timestamp, ValueType,
    definition::{DatasetSpec, Source},
};
use feature_store::{FeatureStore, Stretch};
use registry::Registry;
use serde::{Deserialize, Serialize};

use super::join;
use crate::feast::{Class, Refusal};

/// More streams than this help nobody.
const STREAMS_MAX: usize = 64;

#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub enum Wanted {
    Dataset(Dataset),
    Recorded(Recorded),
    Joined(Joined),
    Rows(Rows),
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rows {
    source: SourceName,
    /// Absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    columns: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    from: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    to: Option<Timestamp>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Joined {
    service: String,
    spine: SourceName,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    from: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    to: Option<Timestamp>,
    /// Of a descriptor: in how many streams to send it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    streams: Option<usize>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dataset {
    dataset: DatasetSpec,
    cutoff: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    slice: Option<Slice>,
    /// Absent: as they are now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sources: Option<BTreeMap<String, Digest>>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recorded {
    dataset: Digest,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    slice: Option<Slice>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Slice {
    Train,
    Holdout,
}

impl Wanted {
    /// # Errors
    /// Says how a ticket is written.
    pub fn read(bytes: &[u8]) -> Result<Self, Refusal> {
        let given: serde_json::Value = serde_json::from_slice(bytes)
            .map_err(|e| unfit(format!("the ticket or command is no JSON object: {e}")))?;
        let has = |name: &str| given.get(name).is_some();
        // By hand, so that the error is about the shape that was meant.
        let read = if given.get("dataset").is_some_and(serde_json::Value::is_string) {
            serde_json::from_value(given).map(Self::Recorded)
        } else if has("dataset") {
            serde_json::from_value(given).map(Self::Dataset)
        } else if has("service") {
            serde_json::from_value(given).map(Self::Joined)
        } else if has("source") {
            serde_json::from_value(given).map(Self::Rows)
        } else {
            return Err(unfit("a ticket or command has a member `source`, `service` or `dataset`, or Feast's `api`"));
        };
        read.map_err(|e| unfit(format!("the ticket or command does not fit: {e}")))
    }

    /// Everything of a source.
    #[must_use]
    pub fn all_of(source: &SourceName) -> Self {
        Self::Rows(Rows { source: source.clone(), columns: None, from: None, to: None })
    }

    /// The same with everything said that stands in the record of a dataset.
    ///
    /// # Errors
    /// No such record, or one of another kind of dataset.
    pub async fn settled(self, registry: &Registry) -> Result<Self, Refusal> {
        let Self::Recorded(Recorded { dataset, slice }) = self else { return Ok(self) };
        let missing = |error: &dyn domain::Coded| Refusal::new(error.code(), Class::General, error.to_string());
        let snapshot = registry.dataset(&dataset).await.map_err(|error| missing(&error))?.snapshot;
        let spec: DatasetSpec = serde_json::from_value(snapshot.spec)
            .map_err(|e| unfit(format!("dataset {dataset} was not made by a pipeline: {e}")))?;
        let sources = Some(snapshot.source_snapshots);
        Ok(Self::Dataset(Dataset { dataset: spec, cutoff: snapshot.cutoff, slice, sources }))
    }

    /// What its tables look like.
    ///
    /// # Errors
    /// It names something that does not exist.
    pub async fn schema(&self, features: &FeatureStore) -> Result<SchemaRef, Refusal> {
        match self {
            Self::Rows(rows) => {
                let source = features.source(&rows.source)?;
                let wanted = rows.columns(&source);
                let fields: Vec<Field> = wanted.iter().map(|name| field_of(&source, name)).collect::<Result<_, _>>()?;
                Ok(storage::schema_of(&fields))
            }
            Self::Joined(joined) => {
                let source = features.source(&joined.spine)?;
                let selection = features.select_service(&joined.service)?;
                let spine = source.columns.iter().map(|column| Field::new(column.name.as_str(), column.kind));
                let made = selection.schema().features.clone();
                Ok(storage::schema_of(&spine.chain(made).collect::<Vec<_>>()))
            }
            // Its columns are known when it is built.
            Self::Dataset(_) | Self::Recorded(_) => Ok(self.table(features).await?.schema()),
        }
    }

    /// The tickets that together are the whole.
    ///
    /// # Errors
    /// It names something that does not exist, or asks for too many streams.
    pub async fn parts(self, features: &FeatureStore, now: Timestamp) -> Result<Vec<Self>, Refusal> {
        match self {
            Self::Dataset(dataset) if dataset.slice.is_none() => {
                let slice = |slice| Self::Dataset(Dataset { slice: Some(slice), ..dataset.clone() });
                Ok(vec![slice(Slice::Train), slice(Slice::Holdout)])
            }
            Self::Joined(joined) => joined.parts(features, now).await,
            whole => Ok(vec![whole]),
        }
    }

    /// The table.
    ///
    /// # Errors
    /// It names something that does not exist or does not fit together.
    pub async fn table(&self, features: &FeatureStore) -> Result<RecordBatch, Refusal> {
        match self {
            Self::Rows(rows) => {
                let source = features.source(&rows.source)?;
                let stretch = Stretch { from: rows.from, to: rows.to };
                super::batch(&features.rows(&rows.source, &rows.columns(&source), stretch).await?)
            }
            Self::Joined(joined) => joined.table(features).await,
            Self::Dataset(wanted) => {
                let built = match &wanted.sources {
                    Some(sources) => features.dataset_again(&wanted.dataset, wanted.cutoff, sources).await?,
                    None => features.dataset(&wanted.dataset, wanted.cutoff).await?,
                };
                super::batch(if wanted.slice == Some(Slice::Holdout) { &built.holdout } else { &built.train })
            }
            Self::Recorded(recorded) => Err(unfit(format!("dataset {} was not looked up", recorded.dataset))),
        }
    }
}

impl Rows {
    fn columns(&self, source: &Source) -> Vec<String> {
        let all = || source.columns.iter().map(|column| column.name.to_string()).collect();
        self.columns.clone().unwrap_or_else(all)
    }
}

impl Joined {
    /// Stretches of event time with about as many rows each.
    async fn parts(self, features: &FeatureStore, now: Timestamp) -> Result<Vec<Wanted>, Refusal> {
        let streams = self.streams.unwrap_or(1);
        if !(1..=STREAMS_MAX).contains(&streams) {
            return Err(unfit(format!("streams is {streams}: ask for 1 to {STREAMS_MAX}")));
        }
        let source = features.source(&self.spine)?;
        let time = source.timestamp.to_string();
        let whole = Stretch { from: self.from, to: Some(self.to.unwrap_or(now)) };
        let rows = features.rows(&self.spine, std::slice::from_ref(&time), whole).await?;
        let times: Vec<Timestamp> =
            rows.timestamps(&time).map_err(feature_store::FeatureError::from)?.iter().flatten().copied().collect();
        // The first instant of every stretch but the first; rows of one instant stay together.
        let mut begins: Vec<Timestamp> =
            (1..streams).filter_map(|part| times.get(part * times.len() / streams).copied()).collect();
        begins.dedup();
        begins.retain(|at| times.first().is_some_and(|first| at > first));
        let mut parts = Vec::with_capacity(begins.len() + 1);
        let mut from = whole.from;
        for begin in begins {
            let to = Timestamp::from_micros(begin.micros() - 1);
            parts.push(Wanted::Joined(Self { from, to: Some(to), streams: None, ..self.clone() }));
            from = Some(begin);
        }
        parts.push(Wanted::Joined(Self { from, to: whole.to, streams: None, ..self }));
        Ok(parts)
    }

    async fn table(&self, features: &FeatureStore) -> Result<RecordBatch, Refusal> {
        let source = features.source(&self.spine)?;
        let selection = features.select_service(&self.service)?;
        let columns: Vec<String> = source.columns.iter().map(|column| column.name.to_string()).collect();
        let stretch = Stretch { from: self.from, to: self.to };
        let spine = super::batch(&features.rows(&self.spine, &columns, stretch).await?)?;
        let names: Vec<String> = selection.schema().features.iter().map(|field| field.name.to_string()).collect();
        join::join_at(features, &selection, &spine, source.timestamp.as_str(), &names).await
    }
}

fn field_of(source: &Source, name: &str) -> Result<Field, Refusal> {
    let column = source.columns.iter().find(|column| column.name.as_str() == name);
    let kind: Option<ValueType> = column.map(|column| column.kind);
    let known = || source.columns.iter().map(|column| column.name.as_str()).collect::<Vec<_>>().join(", ");
    let missing = || unfit(format!("source `{}` has no column `{name}`: it has {}", source.name, known()));
    kind.map(|kind| Field::new(Arc::<str>::from(name), kind)).ok_or_else(missing)
}

fn unfit(message: impl Into<String>) -> Refusal {
    Refusal::unfit(Class::General, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_says_what_it_wants_and_errors_are_about_that() {
        let read = |text: &str| Wanted::read(text.as_bytes()).map_err(|e| e.to_string());
        assert!(matches!(read(r#"{"source": "readings"}"#), Ok(Wanted::Rows(_))));
        assert!(matches!(read(r#"{"service": "s", "spine": "asks", "streams": 4}"#), Ok(Wanted::Joined(_))));
        assert!(read(r#"{"service": "s"}"#).unwrap_err().contains("spine"));
        assert!(read(r#"{"source": "../etc"}"#).unwrap_err().contains("lawful name"));
        assert!(read(r#"{"source": "a", "colums": []}"#).unwrap_err().contains("colums"));
        assert!(read("[]").unwrap_err().contains("`source`, `service` or `dataset`"));
        assert!(read("\u{0}").unwrap_err().contains("no JSON object"));
    }
}
