//! All definitions as they stand, and everything that is compiled from them. Immutable: a change makes a new one.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use domain::{
    Digest, EntityName, Field, ServiceName, SourceName, Value, ViewName,
    definition::{Definition, Entity, FeatureService, FeatureView, Source},
    ports::{RequestField, ServiceSchema},
};

use crate::{
    check,
    error::{FeatureError, unknown},
    view::{Output, SourcePlan, ViewPlan},
    window::WindowSpan,
};

/// What a service answers from each of its views.
#[derive(Debug)]
pub(crate) struct ServicePart {
    pub(crate) view: Arc<ViewPlan>,
    /// Which of the view's outputs, in the service's order.
    pub(crate) outputs: Vec<usize>,
    /// The distinct windows of totals among them.
    pub(crate) windows: Vec<WindowSpan>,
    /// The distinct windows of tiles among them: which of the view's chains, and where they lie.
    pub(crate) tiles: Vec<(usize, WindowSpan)>,
}

#[derive(Debug)]
pub(crate) struct ServicePlan {
    pub(crate) schema: ServiceSchema,
    pub(crate) parts: Vec<ServicePart>,
    /// Of the definitions of the service and of all that it stands on; `None` for a choice of features without a name.
    pub(crate) definition: Option<Digest>,
}

/// The definitions by name.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Definitions {
    pub(crate) entities: BTreeMap<EntityName, Entity>,
    pub(crate) sources: BTreeMap<SourceName, Source>,
    pub(crate) views: BTreeMap<ViewName, FeatureView>,
    pub(crate) services: BTreeMap<ServiceName, FeatureService>,
}

impl Definitions {
    /// Puts a definition in its place; pipelines and endpoints belong to others and are passed over.
    pub(crate) fn put(&mut self, definition: Definition) {
        match definition {
            Definition::Entity(d) => drop(self.entities.insert(d.name.clone(), d)),
            Definition::Source(d) => drop(self.sources.insert(d.name.clone(), d)),
            Definition::FeatureView(d) => drop(self.views.insert(d.name.clone(), d)),
            Definition::FeatureService(d) => drop(self.services.insert(d.name.clone(), d)),
            Definition::Pipeline(_) | Definition::Endpoint(_) => {}
        }
    }

    /// The definition of the same kind and name.
    pub(crate) fn get(&self, like: &Definition) -> Option<Definition> {
        match like {
            Definition::Entity(d) => self.entities.get(&d.name).cloned().map(Definition::Entity),
            Definition::Source(d) => self.sources.get(&d.name).cloned().map(Definition::Source),
            Definition::FeatureView(d) => self.views.get(&d.name).cloned().map(Definition::FeatureView),
            Definition::FeatureService(d) => self.services.get(&d.name).cloned().map(Definition::FeatureService),
            Definition::Pipeline(_) | Definition::Endpoint(_) => None,
        }
    }

    /// In the order in which they can be applied.
    pub(crate) fn all(&self) -> Vec<Definition> {
        let entities = self.entities.values().cloned().map(Definition::Entity);
        let sources = self.sources.values().cloned().map(Definition::Source);
        let views = self.views.values().cloned().map(Definition::FeatureView);
        let services = self.services.values().cloned().map(Definition::FeatureService);
        entities.chain(sources).chain(views).chain(services).collect()
    }
}

#[derive(Debug, Default)]
pub(crate) struct Catalog {
    pub(crate) definitions: Definitions,
    sources: BTreeMap<SourceName, Arc<SourcePlan>>,
    services: BTreeMap<ServiceName, Arc<ServicePlan>>,
}

impl Catalog {
    /// Checks all definitions together and compiles them.
    pub(crate) fn build(definitions: Definitions) -> Result<Self, FeatureError> {
        check::all(&definitions)?;
        let mut views = BTreeMap::new();
        for view in definitions.views.values() {
            let source = definitions.sources.get(&view.source);
            let source = source.ok_or_else(|| unknown("Source", view.source.as_str(), []))?;
            let entities: Vec<&Entity> = view.entities.iter().filter_map(|e| definitions.entities.get(e)).collect();
            views.insert(view.name.clone(), Arc::new(ViewPlan::compile(view, source, &entities)?));
        }
        let mut sources = BTreeMap::new();
        for source in definitions.sources.values() {
            let over: Vec<_> = views.values().filter(|view| view.source == source.name).cloned().collect();
            sources.insert(source.name.clone(), Arc::new(SourcePlan::compile(source, over)?));
        }
        let mut services = BTreeMap::new();
        for service in definitions.services.values() {
            services.insert(service.name.clone(), Arc::new(compile_service(service, &definitions, &views)?));
        }
        Ok(Self { definitions, sources, services })
    }

    pub(crate) fn source(&self, name: &SourceName) -> Result<Arc<SourcePlan>, FeatureError> {
        let known = self.sources.keys().map(SourceName::as_str);
        self.sources.get(name).cloned().ok_or_else(|| unknown("Source", name.as_str(), known))
    }

    pub(crate) fn service(&self, name: &ServiceName) -> Result<Arc<ServicePlan>, FeatureError> {
        let known = self.services.keys().map(ServiceName::as_str);
        self.services.get(name).cloned().ok_or_else(|| unknown("FeatureService", name.as_str(), known))
    }

    /// Compiles a choice of features that stands in no definition.
    pub(crate) fn compile(&self, choice: &FeatureService) -> Result<ServicePlan, FeatureError> {
        check::service(choice, &self.definitions)?;
        let views = self.views().map(|view| (view.name.clone(), view.clone())).collect();
        Ok(ServicePlan { definition: None, ..compile_service(choice, &self.definitions, &views)? })
    }

    pub(crate) fn sources(&self) -> impl Iterator<Item = &Arc<SourcePlan>> {
        self.sources.values()
    }

    pub(crate) fn views(&self) -> impl Iterator<Item = &Arc<ViewPlan>> {
        self.sources.values().flat_map(|source| &source.views)
    }
}

fn compile_service(
    service: &FeatureService,
    definitions: &Definitions,
    views: &BTreeMap<ViewName, Arc<ViewPlan>>,
) -> Result<ServicePlan, FeatureError> {
    let mut entities: BTreeMap<&EntityName, &Entity> = BTreeMap::new();
    let mut features = Vec::new();
    let mut parts = Vec::new();
    for wanted in &service.views {
        let view = views.get(&wanted.view);
        let view = view.ok_or_else(|| unknown("FeatureView", wanted.view.as_str(), []))?;
        let of_view = definitions.views.get(&wanted.view).into_iter().flat_map(|view| &view.entities);
        entities.extend(of_view.filter_map(|name| definitions.entities.get_key_value(name)));
        let outputs: Vec<usize> = if wanted.features.is_empty() {
            (0..view.outputs.len()).collect()
        } else {
            wanted.features.iter().filter_map(|name| view.outputs.iter().position(|o| o.name == *name)).collect()
        };
        for output in outputs.iter().map(|&index| &view.outputs[index]) {
            features.push(Field::new(format!("{}__{}", view.name, output.name), output.kind));
        }
        let chosen = || outputs.iter().map(|&index| &view.outputs[index]);
        let windows = BTreeSet::from_iter(chosen().filter_map(Output::window)).into_iter().collect();
        let tiles =
            BTreeSet::from_iter(chosen().filter_map(|output| output.tile().map(|rule| (rule.chain, rule.span))))
                .into_iter()
                .collect();
        parts.push(ServicePart { view: view.clone(), outputs, windows, tiles });
    }
    let keys = entities.values().flat_map(|entity| entity.columns());
    let keys = keys.map(|(name, kind)| Field::new(name.as_str(), kind)).collect();
    let request = service
        .request
        .iter()
        .map(|value| {
            let default = value.default.as_ref().map(|json| Value::from_json(json, value.kind)).transpose();
            let default = default.map_err(|error| FeatureError::Definition {
                kind: "FeatureService",
                name: service.name.to_string(),
                field: format!("request.{}.default", value.name),
                reason: error.to_string(),
                near: None,
            })?;
            Ok(RequestField { field: Field::new(value.name.as_str(), value.kind), default })
        })
        .collect::<Result<_, FeatureError>>()?;
    let schema = ServiceSchema { service: service.name.clone(), keys, request, features };
    Ok(ServicePlan { schema, parts, definition: Some(digest(service, definitions)?) })
}

/// Changes whenever a definition changes that the service's answers rest on.
fn digest(service: &FeatureService, definitions: &Definitions) -> Result<Digest, FeatureError> {
    let mut all = vec![Definition::FeatureService(service.clone())];
    for view in service.views.iter().filter_map(|wanted| definitions.views.get(&wanted.view)) {
        all.push(Definition::FeatureView(view.clone()));
        all.extend(definitions.sources.get(&view.source).cloned().map(Definition::Source));
        all.extend(
            view.entities.iter().filter_map(|name| definitions.entities.get(name).cloned().map(Definition::Entity)),
        );
    }
    let write = |definition: &Definition| {
        serde_json::to_vec(definition)
            .map_err(|e| FeatureError::Corrupt { what: "a definition", reason: e.to_string() })
    };
    let all: Vec<Vec<u8>> = all.iter().map(write).collect::<Result<_, _>>()?;
    Ok(Digest::of_parts(all.iter().map(Vec::as_slice)))
}
