//! Whether definitions can stand together. Errors name the definition, the field and the nearest known name.

mod aggregation;

use std::collections::BTreeSet;

use domain::{
    ColumnName, Span, Value, ValueType,
    definition::{Entity, FeatureService, FeatureView, Source, StreamInput},
    error::nearest,
};

use crate::{catalog::Definitions, error::FeatureError};

/// Where in the definitions an error lies.
struct Place<'a> {
    kind: &'static str,
    name: &'a str,
}

impl Place<'_> {
    fn error(&self, field: impl Into<String>, reason: impl Into<String>) -> FeatureError {
        FeatureError::Definition {
            kind: self.kind,
            name: self.name.to_owned(),
            field: field.into(),
            reason: reason.into(),
            near: None,
        }
    }

    /// A name that is not among the known ones.
    fn unknown<'k>(
        &self,
        field: impl Into<String>,
        what: &str,
        wrong: &str,
        known: impl IntoIterator<Item = &'k str>,
    ) -> FeatureError {
        FeatureError::Definition {
            kind: self.kind,
            name: self.name.to_owned(),
            field: field.into(),
            reason: format!("unknown {what} `{wrong}`"),
            near: nearest(wrong, known).map(str::to_owned),
        }
    }

    /// Refuses names that stand twice.
    fn once<'k>(&self, field: &str, names: impl IntoIterator<Item = &'k str>) -> Result<(), FeatureError> {
        let mut seen = BTreeSet::new();
        match names.into_iter().find(|name| !seen.insert(*name)) {
            Some(twice) => Err(self.error(field, format!("`{twice}` stands twice"))),
            None => Ok(()),
        }
    }
}

/// Checks everything against everything.
pub(crate) fn all(definitions: &Definitions) -> Result<(), FeatureError> {
    definitions.entities.values().try_for_each(entity)?;
    definitions.sources.values().try_for_each(source)?;
    definitions.views.values().try_for_each(|view_| view(view_, definitions))?;
    definitions.services.values().try_for_each(|service_| service(service_, definitions))
}

fn entity(entity: &Entity) -> Result<(), FeatureError> {
    let place = Place { kind: "Entity", name: entity.name.as_str() };
    let alone = entity.key.is_some();
    if alone != entity.keys.is_empty() {
        return Err(place.error("key", "an entity has one `key`, or several `keys`"));
    }
    let field = if alone { "type" } else { "keys" };
    if !alone && entity.kind != ValueType::Text {
        return Err(
            place.error("type", "belongs to `key`; among `keys` each has its own, as in `{name: id, type: int}`")
        );
    }
    let lawful = |kind: ValueType| !matches!(kind, ValueType::Float | ValueType::List(_));
    if let Some((_, kind)) = entity.columns().find(|(_, kind)| !lawful(*kind)) {
        return Err(place.error(field, format!("a {} cannot be a key; use int or text", kind.as_str())));
    }
    place.once("keys", entity.columns().map(|(name, _)| name.as_str()))
}

fn source(source: &Source) -> Result<(), FeatureError> {
    let place = Place { kind: "Source", name: source.name.as_str() };
    place.once("columns", source.columns.iter().map(|c| c.name.as_str()))?;
    let instant = |field: &str, column: &ColumnName| match column_of(source, column) {
        Some(ValueType::Timestamp) => Ok(()),
        Some(other) => Err(place.error(field, format!("column `{column}` is {}, a timestamp is needed", other))),
        None => Err(place.unknown(field, "column", column.as_str(), columns(source))),
    };
    instant("timestamp", &source.timestamp)?;
    source.created.as_ref().map_or(Ok(()), |created| instant("created", created))?;
    place.once("row_id", source.row_id.iter().map(ColumnName::as_str))?;
    for column in &source.row_id {
        if column_of(source, column).is_none() {
            return Err(place.unknown("row_id", "column", column.as_str(), columns(source)));
        }
    }
    if let Some(zone) = &source.timezone
        && let Err(error) = jiff::tz::TimeZone::get(zone)
    {
        return Err(place.error("timezone", format!("`{zone}` is not a known IANA time zone: {error}")));
    }
    if source.allowed_lateness.is_some() && source.watermark.is_none() {
        let reason = "counts from the watermark, and the source declares no `watermark`";
        return Err(place.error("allowed_lateness", reason));
    }
    source.stream.as_ref().map_or(Ok(()), |input| stream(&place, source, input))
}

fn stream(place: &Place<'_>, source: &Source, input: &StreamInput) -> Result<(), FeatureError> {
    let texts = [("redis", Some(&input.redis)), ("key", Some(&input.key)), ("group", Some(&input.group))];
    for (field, text) in texts.into_iter().chain([("payload", input.payload.as_ref())]) {
        if text.is_some_and(|text| text.is_empty() || text.len() > 512) {
            return Err(place.error(format!("stream.{field}"), "needs 1 to 512 bytes"));
        }
    }
    match input.entry_id.as_ref().map(|column| (column, column_of(source, column))) {
        None | Some((_, Some(ValueType::Text))) => Ok(()),
        Some((column, Some(other))) => {
            Err(place.error("stream.entry_id", format!("column `{column}` is {other}, text is needed")))
        }
        Some((column, None)) => Err(place.unknown("stream.entry_id", "column", column.as_str(), columns(source))),
    }
}

fn view(view: &FeatureView, definitions: &Definitions) -> Result<(), FeatureError> {
    let place = Place { kind: "FeatureView", name: view.name.as_str() };
    let Some(source) = definitions.sources.get(&view.source) else {
        let known = definitions.sources.keys().map(AsRef::as_ref);
        return Err(place.unknown("source", "source", view.source.as_str(), known));
    };
    if view.entities.is_empty() {
        return Err(place.error("entities", "a view needs at least one entity"));
    }
    place.once("entities", view.entities.iter().map(AsRef::as_ref))?;
    if view.freshness.is_some_and(|target| target <= Span::ZERO) {
        return Err(place.error("freshness", "the target must be longer than zero"));
    }
    let mut keys = Vec::new();
    for name in &view.entities {
        let Some(entity) = definitions.entities.get(name) else {
            let known = definitions.entities.keys().map(AsRef::as_ref);
            return Err(place.unknown("entities", "entity", name.as_str(), known));
        };
        for (key, wanted) in entity.columns() {
            match column_of(source, key) {
                Some(kind) if kind == wanted => keys.push(key.as_str()),
                Some(kind) => {
                    let reason = format!(
                        "column `{key}` of source `{}` is {}, the key of entity `{name}` is {}",
                        source.name, kind, wanted
                    );
                    return Err(place.error("entities", reason));
                }
                None => {
                    let what = format!("column in source `{}` for entity `{name}`:", source.name);
                    return Err(place.unknown("entities", &what, key.as_str(), columns(source)));
                }
            }
        }
    }
    place.once("entities", keys)?;
    match (view.features.is_empty(), view.aggregations.is_empty()) {
        (true, true) => return Err(place.error("features", "a view needs features or aggregations")),
        (false, false) => {
            return Err(place.error("aggregations", "features and aggregations cannot stand in one view; make two"));
        }
        _ => {}
    }
    features(&place, view, source)?;
    aggregation::all(&place, view, source)
}

fn features(place: &Place<'_>, view: &FeatureView, source: &Source) -> Result<(), FeatureError> {
    place.once("features", view.features.iter().map(|f| f.name.as_str()))?;
    for feature in &view.features {
        let column = feature.column.as_ref().unwrap_or(&feature.name);
        let field = format!("features.{}", feature.name);
        let Some(kind) = column_of(source, column) else {
            return Err(place.unknown(field, "column", column.as_str(), columns(source)));
        };
        if let Some(json) = &feature.default {
            Value::from_json(json, kind).map_err(|e| place.error(format!("{field}.default"), e.to_string()))?;
        }
    }
    Ok(())
}

/// Checks one service, or another choice of features, against the definitions that stand.
pub(crate) fn service(service: &FeatureService, definitions: &Definitions) -> Result<(), FeatureError> {
    let place = Place { kind: "FeatureService", name: service.name.as_str() };
    let mut names: Vec<String> = Vec::new();
    let mut entities = BTreeSet::new();
    for wanted in &service.views {
        let Some(view) = definitions.views.get(&wanted.view) else {
            let known = definitions.views.keys().map(AsRef::as_ref);
            return Err(place.unknown("views", "feature view", wanted.view.as_str(), known));
        };
        entities.extend(&view.entities);
        let made = || view.features.iter().map(|f| &f.name).chain(view.aggregations.iter().map(|a| &a.name));
        for name in &wanted.features {
            if !made().any(|known| known == name) {
                let field = format!("views.{}.features", wanted.view);
                return Err(place.unknown(field, "feature", name.as_str(), made().map(AsRef::as_ref)));
            }
        }
        let chosen: Vec<&ColumnName> =
            if wanted.features.is_empty() { made().collect() } else { wanted.features.iter().collect() };
        names.extend(chosen.iter().map(|name| format!("{}__{name}", wanted.view)));
    }
    place.once("views", names.iter().map(String::as_str))?;
    let keys: Vec<&str> = entities
        .iter()
        .filter_map(|name| definitions.entities.get(*name))
        .flat_map(Entity::columns)
        .map(|(name, _)| name.as_str())
        .collect();
    place.once("views (keys of their entities)", keys.iter().copied())?;
    place.once("request", service.request.iter().map(|r| r.name.as_str()))?;
    for value in &service.request {
        let field = format!("request.{}", value.name);
        if keys.contains(&value.name.as_str()) {
            return Err(place.error(field, "an entity key has this name already"));
        }
        if names.iter().any(|name| name == value.name.as_str()) {
            return Err(place.error(field, "a feature has this name already"));
        }
        if let Some(json) = &value.default {
            Value::from_json(json, value.kind).map_err(|e| place.error(format!("{field}.default"), e.to_string()))?;
        }
    }
    Ok(())
}

fn column_of(source: &Source, name: &ColumnName) -> Option<ValueType> {
    source.columns.iter().find(|column| column.name == *name).map(|column| column.kind)
}

fn columns(source: &Source) -> impl Iterator<Item = &str> {
    source.columns.iter().map(|column| column.name.as_str())
}
