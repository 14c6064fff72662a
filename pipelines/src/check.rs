//! What is wrong with definitions, looked at together with everything already applied, before anything is written.

use std::{collections::BTreeMap, fmt};

use domain::{
    Field, ModelName, ValueType,
    definition::{Definition, Endpoint, Entity, FeatureService, FeatureView, Source},
    error::nearest,
};
use serde::Serialize;

mod endpoint;
mod pipeline;

pub(crate) use endpoint::ORIGIN;

/// One mistake in one definition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    pub kind: &'static str,
    /// Empty where the feature store's message names the definition itself.
    pub name: String,
    /// As in `inputs[2].minus`.
    pub field: String,
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.name.is_empty() {
            return f.write_str(&self.message);
        }
        write!(f, "{} `{}`: {}: {}", self.kind, self.name, self.field, self.message)
    }
}

/// Everything that will be known once `batch` is applied: the batch over what was known before.
pub(crate) struct Catalog<'a> {
    entities: BTreeMap<&'a str, &'a Entity>,
    sources: BTreeMap<&'a str, &'a Source>,
    views: BTreeMap<&'a str, &'a FeatureView>,
    services: BTreeMap<&'a str, &'a FeatureService>,
    endpoints: BTreeMap<&'a str, &'a Endpoint>,
}

impl<'a> Catalog<'a> {
    /// Later definitions of the same kind and name replace earlier ones.
    pub(crate) fn new(definitions: impl IntoIterator<Item = &'a Definition>) -> Self {
        let mut catalog = Self {
            entities: BTreeMap::new(),
            sources: BTreeMap::new(),
            views: BTreeMap::new(),
            services: BTreeMap::new(),
            endpoints: BTreeMap::new(),
        };
        for definition in definitions {
            let name = definition.name();
            match definition {
                Definition::Entity(d) => drop(catalog.entities.insert(name, d)),
                Definition::Source(d) => drop(catalog.sources.insert(name, d)),
                Definition::FeatureView(d) => drop(catalog.views.insert(name, d)),
                Definition::FeatureService(d) => drop(catalog.services.insert(name, d)),
                Definition::Endpoint(d) => drop(catalog.endpoints.insert(name, d)),
                Definition::Pipeline(_) => {}
            }
        }
        catalog
    }

    /// The model of an endpoint and the columns it can see.
    pub(crate) fn served(&self, endpoint: &str) -> Option<(&'a ModelName, Vec<Field>)> {
        let endpoint = self.endpoints.get(endpoint)?;
        let service = self.services.get(endpoint.service.as_str())?;
        Some((&endpoint.model, self.columns(service)))
    }

    /// Columns a model of `service` can see: entity keys, request values and `view__feature`. Views or entities that
    /// are missing are the feature store's to complain about; here they only give no columns.
    fn columns(&self, service: &FeatureService) -> Vec<Field> {
        let mut columns = self.keys(service);
        columns.extend(service.request.iter().map(|r| Field::new(r.name.as_str(), r.kind)));
        for picked in &service.views {
            let Some(view) = self.views.get(picked.view.as_str()) else { continue };
            let source = self.sources.get(view.source.as_str());
            let wanted = |name: &str| picked.features.is_empty() || picked.features.iter().any(|f| f.as_str() == name);
            let named = |name: &str, kind| Field::new(format!("{}__{name}", view.name), kind);
            for feature in view.features.iter().filter(|f| wanted(f.name.as_str())) {
                let from = feature.column.as_ref().unwrap_or(&feature.name);
                if let Some(kind) = source.and_then(|s| column_type(s, from.as_str())) {
                    columns.push(named(feature.name.as_str(), kind));
                }
            }
            for made in view.aggregations.iter().filter(|a| wanted(a.name.as_str())) {
                if let Some(kind) = source.and_then(|s| column_type(s, made.column.as_str())) {
                    columns.push(named(made.name.as_str(), made.function.result(kind)));
                }
            }
        }
        columns
    }

    /// Key columns of the service's entities, each once.
    fn keys(&self, service: &FeatureService) -> Vec<Field> {
        let mut keys: Vec<Field> = Vec::new();
        for picked in &service.views {
            let entities = self.views.get(picked.view.as_str()).map_or(&[][..], |view| &view.entities);
            for entity in entities.iter().filter_map(|name| self.entities.get(name.as_str())) {
                for (key, kind) in entity.columns() {
                    if !keys.iter().any(|known| &*known.name == key.as_str()) {
                        keys.push(Field::new(key.as_str(), kind));
                    }
                }
            }
        }
        keys
    }
}

fn column_type(source: &Source, column: &str) -> Option<ValueType> {
    if source.timestamp.as_str() == column {
        return Some(ValueType::Timestamp);
    }
    source.columns.iter().find(|c| c.name.as_str() == column).map(|c| c.kind)
}

fn source_columns(source: &Source) -> impl Iterator<Item = &str> {
    source.columns.iter().map(|c| c.name.as_str()).chain([source.timestamp.as_str()])
}

/// All that is wrong with the pipelines and endpoints of `batch`, and with names that stand twice in it. The feature
/// store judges its own kinds.
pub(crate) fn check(batch: &[Definition], catalog: &Catalog<'_>) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (at, definition) in batch.iter().enumerate() {
        let mut notes = Notes { kind: definition.kind(), name: definition.name(), problems: &mut problems };
        if batch[..at].iter().any(|d| d.kind() == definition.kind() && d.name() == definition.name()) {
            notes.add("name", "stands twice in this batch");
        }
        match definition {
            Definition::Pipeline(d) => pipeline::check(d, catalog, &mut notes),
            Definition::Endpoint(d) => endpoint::check(d, catalog, &mut notes),
            Definition::Entity(_)
            | Definition::Source(_)
            | Definition::FeatureView(_)
            | Definition::FeatureService(_) => {}
        }
    }
    problems
}

/// Collects the problems of one definition.
struct Notes<'a> {
    kind: &'static str,
    name: &'a str,
    problems: &'a mut Vec<Problem>,
}

impl Notes<'_> {
    fn add(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.problems.push(Problem {
            kind: self.kind,
            name: self.name.to_owned(),
            field: field.into(),
            message: message.into(),
        });
    }

    /// Adds the problem unless `fine`.
    fn expect(&mut self, fine: bool, field: impl Into<String>, message: impl Into<String>) {
        if !fine {
            self.add(field, message);
        }
    }

    /// The named thing, or a problem that says what is nearest.
    fn find<'t, T>(&mut self, field: &str, noun: &str, name: &str, known: &BTreeMap<&str, &'t T>) -> Option<&'t T> {
        let found = known.get(name).copied();
        if found.is_none() {
            self.add(field, unknown(noun, name, known.keys().copied()));
        }
        found
    }
}

fn unknown<'k>(noun: &str, name: &str, known: impl IntoIterator<Item = &'k str>) -> String {
    match nearest(name, known) {
        Some(near) => format!("{noun} `{name}` does not exist: did you mean `{near}`?"),
        None => format!("{noun} `{name}` does not exist"),
    }
}

/// A label source has the key columns and a bool label column.
fn check_label(label: &domain::definition::LabelSpec, field: &str, catalog: &Catalog<'_>, notes: &mut Notes<'_>) {
    notes.expect(!label.key.is_empty(), format!("{field}.key"), "names no column");
    let source = notes.find(&format!("{field}.source"), "source", label.source.as_str(), &catalog.sources);
    let Some(source) = source else { return };
    let noun = format!("column of source `{}`", source.name);
    for (i, key) in label.key.iter().enumerate() {
        if column_type(source, key.as_str()).is_none() {
            notes.add(format!("{field}.key[{i}]"), unknown(&noun, key.as_str(), source_columns(source)));
        }
    }
    match column_type(source, label.column.as_str()) {
        Some(ValueType::Bool) => {}
        Some(other) => notes
            .add(format!("{field}.column"), format!("`{}` is {} where a label is bool", label.column, other.as_str())),
        None => notes.add(format!("{field}.column"), unknown(&noun, label.column.as_str(), source_columns(source))),
    }
}

#[cfg(test)]
mod tests;
