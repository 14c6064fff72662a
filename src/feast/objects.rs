//! Our definitions as the objects of a registry of Feast's.
//!
//! A source is two things there: a batch source under its own name, whose rows are pulled and joined, and a push source,
//! into which views over plain columns are written. Views over windows have no push source: they are computed.

use std::collections::HashMap;

use domain::{
    ColumnName, ProjectName, Scalar, Span, Timestamp, ValueType,
    definition::{Definition, Entity, FeatureService, FeatureView, Source},
};
use feature_store::{FeatureStore, Standing};
use prost_types::{Duration, Timestamp as Stamp};
use proto::feast::{
    core::{self, data_source},
    types::value_type::Enum as Type,
};

use super::{Refusal, push};

/// Everything that stands.
pub struct Objects {
    pub entities: Vec<core::Entity>,
    pub sources: Vec<core::DataSource>,
    pub views: Vec<core::FeatureView>,
    pub services: Vec<core::FeatureService>,
    /// When the last of them changed.
    pub changed_at: Timestamp,
}

impl Objects {
    /// # Errors
    /// What storage says.
    pub async fn read(features: &FeatureStore, project: &ProjectName, now: Timestamp) -> Result<Self, Refusal> {
        let all = features.standing().await?;
        let world = World::new(features, &all, project, now);
        let changed_at = all.iter().map(|(_, standing)| standing.changed_at).max().unwrap_or_default();
        let (entities, sources, views, services) = Default::default();
        let mut objects = Self { entities, sources, views, services, changed_at };
        for (definition, standing) in &all {
            match definition {
                Definition::Entity(entity) => objects.entities.extend(world.entities_of(entity, standing)),
                Definition::Source(source) => {
                    let batch = world.batch_source(source);
                    objects.sources.push(world.push_source(source, batch.clone()));
                    objects.sources.push(batch);
                }
                Definition::FeatureView(view) => objects.views.extend(world.view(view, standing)),
                Definition::FeatureService(service) => objects.services.push(world.service(service, standing)),
                Definition::Pipeline(_) | Definition::Endpoint(_) => {}
            }
        }
        Ok(objects)
    }
}

/// The definitions by name, to be looked up in one another.
struct World<'a> {
    features: &'a FeatureStore,
    project: &'a ProjectName,
    now: Timestamp,
    entities: HashMap<&'a str, &'a Entity>,
    sources: HashMap<&'a str, (&'a Source, &'a Standing)>,
    views: HashMap<&'a str, &'a FeatureView>,
}

impl<'a> World<'a> {
    fn new(
        features: &'a FeatureStore,
        all: &'a [(Definition, Standing)],
        project: &'a ProjectName,
        now: Timestamp,
    ) -> Self {
        let mut world =
            Self { features, project, now, entities: HashMap::new(), sources: HashMap::new(), views: HashMap::new() };
        for (definition, standing) in all {
            match definition {
                Definition::Entity(entity) => drop(world.entities.insert(entity.name.as_str(), entity)),
                Definition::Source(source) => drop(world.sources.insert(source.name.as_str(), (source, standing))),
                Definition::FeatureView(view) => drop(world.views.insert(view.name.as_str(), view)),
                _ => {}
            }
        }
        world
    }

    /// An entity of Feast has one key column: one of several columns is as many of them.
    fn entities_of(&self, entity: &Entity, standing: &Standing) -> Vec<core::Entity> {
        let made = |(name, (key, kind)): (String, (&ColumnName, ValueType))| {
            let spec = core::EntitySpecV2 {
                name,
                value_type: type_of(kind).into(),
                description: entity.description.clone(),
                join_key: key.to_string(),
                project: self.project.to_string(),
                ..core::EntitySpecV2::default()
            };
            core::Entity { spec: Some(spec), meta: Some(meta(standing)) }
        };
        names_of(entity).zip(entity.columns()).map(made).collect()
    }

    fn batch_source(&self, source: &Source) -> core::DataSource {
        let times = self.sources.get(source.name.as_str()).map(|(_, standing)| data_source::SourceMeta {
            created_timestamp: Some(stamp(standing.created_at)),
            last_updated_timestamp: Some(stamp(standing.changed_at)),
        });
        core::DataSource {
            r#type: data_source::SourceType::BatchFile.into(),
            name: source.name.to_string(),
            project: self.project.to_string(),
            description: source.description.clone(),
            timestamp_field: source.timestamp.to_string(),
            created_timestamp_column: source.created.as_ref().map(ToString::to_string).unwrap_or_default(),
            // Read by nobody: rows are asked of the offline store by the source's name.
            options: Some(data_source::Options::FileOptions(data_source::FileOptions {
                uri: format!("millpond/{}", source.name),
            })),
            meta: times,
            ..core::DataSource::default()
        }
    }

    fn push_source(&self, source: &Source, batch: core::DataSource) -> core::DataSource {
        core::DataSource {
            r#type: data_source::SourceType::PushSource.into(),
            name: push::name_of(&source.name),
            project: self.project.to_string(),
            description: source.description.clone(),
            options: Some(data_source::Options::PushOptions(data_source::PushOptions {})),
            meta: batch.meta,
            batch_source: Some(Box::new(batch)),
            ..core::DataSource::default()
        }
    }

    fn view(&self, view: &FeatureView, standing: &Standing) -> Option<core::FeatureView> {
        let (source, _) = self.sources.get(view.source.as_str())?;
        let batch = self.batch_source(source);
        let stream = view.aggregations.is_empty().then(|| self.push_source(source, batch.clone()));
        let entities = view.entities.iter().filter_map(|name| self.entities.get(name.as_str()));
        let spec = core::FeatureViewSpec {
            name: view.name.to_string(),
            project: self.project.to_string(),
            entities: entities.clone().flat_map(|entity| names_of(entity)).collect(),
            features: self.columns_of(view, source),
            ttl: view.ttl.map(duration),
            batch_source: Some(batch),
            online: true,
            offline: true,
            stream_source: stream,
            description: view.description.clone(),
            entity_columns: entities
                .flat_map(|entity| entity.columns())
                .map(|(key, kind)| column(key.as_str(), kind, String::new()))
                .collect(),
            version: "latest".to_owned(),
            ..core::FeatureViewSpec::default()
        };
        // All rows there are, are online.
        let online = core::MaterializationInterval {
            start_time: Some(stamp(Timestamp::from_micros(0))),
            end_time: Some(stamp(self.now)),
        };
        let meta = core::FeatureViewMeta {
            created_timestamp: Some(stamp(standing.created_at)),
            last_updated_timestamp: Some(stamp(standing.changed_at)),
            materialization_intervals: vec![online],
            current_version_number: i32::try_from(standing.version).unwrap_or(i32::MAX),
        };
        Some(core::FeatureView { spec: Some(spec), meta: Some(meta) })
    }

    /// The features of a view, in its order.
    fn columns_of(&self, view: &FeatureView, source: &Source) -> Vec<core::FeatureSpecV2> {
        let kind_of = |name: &ColumnName| source.columns.iter().find(|c| c.name == *name).map(|c| c.kind);
        let plain = view.features.iter().filter_map(|feature| {
            let kind = kind_of(feature.column.as_ref().unwrap_or(&feature.name))?;
            Some(column(feature.name.as_str(), kind, String::new()))
        });
        let computed = view.aggregations.iter().filter_map(|made| {
            let chosen = self.features.select(&[(view.name.as_str(), made.name.as_str())]).ok()?;
            let kind = chosen.features().next()?.kind;
            Some(column(made.name.as_str(), kind, format!("of `{}` over the last {}", made.column, made.window)))
        });
        plain.chain(computed).collect()
    }

    fn service(&self, service: &FeatureService, standing: &Standing) -> core::FeatureService {
        let projection = |wanted: &domain::definition::ServiceView| {
            let view = self.views.get(wanted.view.as_str())?;
            let (source, _) = self.sources.get(view.source.as_str())?;
            let batch = self.batch_source(source);
            let all = self.columns_of(view, source);
            let chosen = if wanted.features.is_empty() {
                all
            } else {
                let find = |name: &ColumnName| all.iter().find(|column| column.name == name.as_str()).cloned();
                wanted.features.iter().filter_map(find).collect()
            };
            Some(core::FeatureViewProjection {
                feature_view_name: view.name.to_string(),
                feature_columns: chosen,
                timestamp_field: source.timestamp.to_string(),
                created_timestamp_column: batch.created_timestamp_column.clone(),
                stream_source: view.aggregations.is_empty().then(|| self.push_source(source, batch.clone())),
                batch_source: Some(batch),
                ..core::FeatureViewProjection::default()
            })
        };
        let spec = core::FeatureServiceSpec {
            name: service.name.to_string(),
            project: self.project.to_string(),
            features: service.views.iter().filter_map(projection).collect(),
            description: service.description.clone(),
            ..core::FeatureServiceSpec::default()
        };
        core::FeatureService { spec: Some(spec), meta: Some(meta(standing)) }
    }
}

/// What Feast calls an entity: one entity for each key column.
fn names_of(entity: &Entity) -> impl Iterator<Item = String> {
    let several = entity.columns().count() > 1;
    entity
        .columns()
        .map(move |(key, _)| if several { format!("{}_{key}", entity.name) } else { entity.name.to_string() })
}

fn column(name: &str, kind: ValueType, description: String) -> core::FeatureSpecV2 {
    core::FeatureSpecV2 { name: name.to_owned(), value_type: type_of(kind).into(), description, ..Default::default() }
}

const fn type_of(kind: ValueType) -> Type {
    match kind {
        ValueType::Bool => Type::Bool,
        ValueType::Int => Type::Int64,
        ValueType::Float => Type::Double,
        ValueType::Text => Type::String,
        ValueType::Timestamp => Type::UnixTimestamp,
        ValueType::List(list) => match list.element {
            Scalar::Bool => Type::BoolList,
            Scalar::Int => Type::Int64List,
            Scalar::Float => Type::DoubleList,
            Scalar::Text => Type::StringList,
            Scalar::Timestamp => Type::UnixTimestampList,
        },
    }
}

fn meta(standing: &Standing) -> core::Meta {
    core::Meta {
        created_timestamp: Some(stamp(standing.created_at)),
        last_updated_timestamp: Some(stamp(standing.changed_at)),
    }
}

/// An instant as protobuf has it.
#[must_use]
pub fn stamp(at: Timestamp) -> Stamp {
    let (seconds, micros) = (at.micros().div_euclid(1_000_000), at.micros().rem_euclid(1_000_000));
    Stamp { seconds, nanos: i32::try_from(micros * 1_000).unwrap_or(0) }
}

fn duration(span: Span) -> Duration {
    let (seconds, micros) = (span.micros() / 1_000_000, span.micros() % 1_000_000);
    Duration { seconds, nanos: i32::try_from(micros * 1_000).unwrap_or(0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_before_1970_have_nanoseconds_that_count_forward() {
        let before = stamp(Timestamp::from_micros(-1));
        assert_eq!((before.seconds, before.nanos), (-1, 999_999_000));
    }
}
