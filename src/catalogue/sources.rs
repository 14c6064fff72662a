//! Rows of sources, and of feature views over plain columns.

use std::sync::Arc;

use arrow::{
    array::RecordBatch,
    datatypes::{Field, Schema, SchemaRef},
};
use async_trait::async_trait;
use domain::{SourceName, ViewName};
use feature_store::{FeatureStore, Stretch};
use futures::StreamExt as _;
use sql::{Batches, Fault, Rows, Scan};

use super::made::{broken, fault, span};

/// What a view calls its rows' event time.
const EVENT_TIME: &str = "event_timestamp";

/// Columns of a source, maybe under other names.
struct Columns {
    features: FeatureStore,
    source: SourceName,
    /// Names in the source, beside the fields of `schema`.
    names: Vec<String>,
    schema: SchemaRef,
    time: String,
}

/// All columns of a source.
pub(super) fn of_source(features: &FeatureStore, name: &SourceName) -> Result<Arc<dyn Rows>, Fault> {
    let source = features.source(name).map_err(fault)?;
    let schema = features.scan_schema(name).map_err(fault)?;
    Ok(Arc::new(Columns {
        features: features.clone(),
        source: name.clone(),
        names: schema.fields().iter().map(|field| field.name().clone()).collect(),
        schema,
        time: source.timestamp.to_string(),
    }))
}

/// A view's keys, the event time and the features.
pub(super) fn of_view(features: &FeatureStore, name: &ViewName) -> Result<Arc<dyn Rows>, Fault> {
    let view = features.view(name).map_err(fault)?;
    let source = features.source(&view.source).map_err(fault)?;
    let stored = features.scan_schema(&view.source).map_err(fault)?;
    let mut shown: Vec<(String, String)> = Vec::new();
    for entity in &view.entities {
        let entity = features.entity(entity).map_err(fault)?;
        shown.extend(entity.columns().map(|(key, _)| (key.to_string(), key.to_string())));
    }
    shown.push((EVENT_TIME.to_owned(), source.timestamp.to_string()));
    for feature in &view.features {
        let column = feature.column.as_ref().unwrap_or(&feature.name);
        shown.push((feature.name.to_string(), column.to_string()));
    }
    let mut fields: Vec<Field> = Vec::with_capacity(shown.len());
    let mut names = Vec::with_capacity(shown.len());
    for (name, column) in shown {
        // A feature may be a key, too, and stands once then.
        if fields.iter().any(|known| *known.name() == name) {
            continue;
        }
        fields.push(stored.field_with_name(&column).map_err(broken)?.clone().with_name(name));
        names.push(column);
    }
    Ok(Arc::new(Columns {
        features: features.clone(),
        source: view.source.clone(),
        names,
        schema: Arc::new(Schema::new(fields)),
        time: EVENT_TIME.to_owned(),
    }))
}

#[async_trait]
impl Rows for Columns {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn time(&self) -> Option<&str> {
        Some(&self.time)
    }

    async fn scan(&self, scan: Scan) -> Result<Batches, Fault> {
        let (from, to) = span(&scan);
        let stretch = Stretch { from: Some(from), to: Some(to) };
        // A column that stands twice is read once.
        let mut wanted: Vec<String> = Vec::with_capacity(scan.columns.len());
        let mut places = Vec::with_capacity(scan.columns.len());
        for &column in &scan.columns {
            let name = &self.names[column];
            let known = wanted.iter().position(|wanted| wanted == name);
            places.push(known.unwrap_or(wanted.len()));
            if known.is_none() {
                wanted.push(name.clone());
            }
        }
        let read = self.features.scan(&self.source, &wanted, stretch).await.map_err(fault)?;
        let project = move |batch: RecordBatch| batch.project(&places).map_err(broken);
        Ok(read.map(move |batch| batch.map_err(fault).and_then(&project)).boxed())
    }
}
