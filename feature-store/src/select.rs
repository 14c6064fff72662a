//! Features chosen one by one, or by a service's name, and read without naming a service again.
//!
//! A choice is compiled once and remembered until a definition changes: callers that ask for the same features over
//! and over pay for one look-up.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use domain::{
    ColumnName, Field, Frame, ServiceName, Timestamp, ValueType, ViewName,
    definition::{FeatureService, ServiceView},
    ports::ServiceSchema,
};

use crate::{
    FeatureStore,
    answer::Answer,
    catalog::{Catalog, ServicePlan},
    error::{FeatureError, unknown},
};

/// Choices that are remembered; beyond that all are forgotten.
const REMEMBERED_MAX: usize = 1_024;
/// What a choice is called where a name is needed.
const NAMELESS: &str = "chosen-features";

/// Features that can be read together.
#[derive(Debug, Clone)]
pub struct Selection {
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) plan: Arc<ServicePlan>,
}

/// One feature of a selection.
#[derive(Debug, Clone, Copy)]
pub struct Selected<'a> {
    pub view: &'a ViewName,
    pub feature: &'a ColumnName,
    pub kind: ValueType,
}

impl Selection {
    /// The key columns that a question needs, and what is answered (`view__feature`).
    #[must_use]
    pub fn schema(&self) -> &ServiceSchema {
        &self.plan.schema
    }

    /// What is answered, in the order of the answer's columns.
    pub fn features(&self) -> impl Iterator<Item = Selected<'_>> {
        self.plan.parts.iter().flat_map(|part| {
            part.outputs.iter().map(|&index| {
                let output = &part.view.outputs[index];
                Selected { view: &part.view.name, feature: &output.name, kind: output.kind }
            })
        })
    }

    /// The views asked, each once.
    pub fn views(&self) -> impl Iterator<Item = &ViewName> {
        self.plan.parts.iter().map(|part| &part.view.name)
    }

    /// Key columns of every entity there is, by the names of entity and column: callers may send more keys than the
    /// features need, or name the entity instead of its column.
    #[must_use]
    pub fn known_key(&self, name: &str) -> Option<Field> {
        let entities = &self.catalog.definitions.entities;
        let column =
            entities.values().flat_map(domain::definition::Entity::columns).find(|(key, _)| key.as_str() == name);
        // An entity of several columns has no one column that its name could mean.
        let named = || entities.get(name).map(|entity| entity.columns().collect::<Vec<_>>());
        let only = || named().filter(|columns| columns.len() == 1).and_then(|columns| columns.into_iter().next());
        column.or_else(only).map(|(key, kind)| Field::new(key.as_str(), kind))
    }
}

/// Compiled choices of one catalog.
#[derive(Default)]
pub(crate) struct Remembered(Mutex<Shelf>);

#[derive(Default)]
struct Shelf {
    catalog: Option<Arc<Catalog>>,
    plans: HashMap<String, Arc<ServicePlan>>,
}

impl Remembered {
    fn find(&self, catalog: &Arc<Catalog>, key: &str) -> Option<Arc<ServicePlan>> {
        let shelf = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let current = shelf.catalog.as_ref().is_some_and(|known| Arc::ptr_eq(known, catalog));
        if current { shelf.plans.get(key).cloned() } else { None }
    }

    fn keep(&self, catalog: &Arc<Catalog>, key: String, plan: Arc<ServicePlan>) {
        let mut shelf = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let current = shelf.catalog.as_ref().is_some_and(|known| Arc::ptr_eq(known, catalog));
        if !current || shelf.plans.len() >= REMEMBERED_MAX {
            shelf.plans.clear();
            shelf.catalog = Some(catalog.clone());
        }
        shelf.plans.insert(key, plan);
    }
}

impl FeatureStore {
    /// Chooses features by the names of view and feature. Features of one view stand together in the answer; views
    /// come in the order in which they are first named.
    ///
    /// # Errors
    /// `Unknown` view or feature; `Definition` when a feature is named twice or keys of two entities collide.
    pub fn select(&self, wanted: &[(&str, &str)]) -> Result<Selection, FeatureError> {
        let catalog = self.0.catalog();
        let mut key = String::with_capacity(wanted.len() * 24);
        for (view, feature) in wanted {
            key.push_str(view);
            key.push('\0');
            key.push_str(feature);
            key.push('\0');
        }
        if let Some(plan) = self.0.selections.find(&catalog, &key) {
            return Ok(Selection { catalog, plan });
        }
        let plan = Arc::new(compile(&catalog, wanted)?);
        self.0.selections.keep(&catalog, key, plan.clone());
        Ok(Selection { catalog, plan })
    }

    /// The features of a service.
    ///
    /// # Errors
    /// `Unknown` service.
    pub fn select_service(&self, service: &str) -> Result<Selection, FeatureError> {
        let catalog = self.0.catalog();
        let known = || catalog.definitions.services.keys().map(AsRef::as_ref);
        let name: ServiceName = service.parse().map_err(|_| unknown("FeatureService", service, known()))?;
        let plan = catalog.service(&name)?;
        Ok(Selection { catalog, plan })
    }

    /// The chosen features as the online store knows them at `at[row]`, as [`FeatureStore::online`] does.
    ///
    /// # Errors
    /// As there.
    pub async fn online_selected(
        &self,
        selection: &Selection,
        keys: &Frame,
        at: &[Timestamp],
    ) -> Result<Answer, FeatureError> {
        self.0.online_of(&selection.plan, keys, at).await
    }

    /// The chosen features from offline history, as [`FeatureStore::historical`] does.
    ///
    /// # Errors
    /// As there.
    pub async fn historical_selected(
        &self,
        selection: &Selection,
        keys: &Frame,
        at: &[Timestamp],
    ) -> Result<Answer, FeatureError> {
        self.0.historical_of(&selection.catalog, &selection.plan, keys, at).await
    }
}

fn compile(catalog: &Catalog, wanted: &[(&str, &str)]) -> Result<ServicePlan, FeatureError> {
    let views = &catalog.definitions.views;
    let mut order: Vec<ServiceView> = Vec::new();
    let mut places: BTreeMap<&str, usize> = BTreeMap::new();
    for (view, feature) in wanted {
        let Some((name, definition)) = views.get_key_value(*view) else {
            return Err(unknown("FeatureView", view, views.keys().map(AsRef::as_ref)));
        };
        let made = || {
            let plain = definition.features.iter().map(|f| &f.name);
            plain.chain(definition.aggregations.iter().map(|a| &a.name))
        };
        let Some(feature) = made().find(|known| known.as_str() == *feature) else {
            let near = domain::error::nearest(feature, made().map(AsRef::as_ref)).map(|near| format!("{view}:{near}"));
            return Err(FeatureError::Unknown { kind: "Feature", name: format!("{view}:{feature}"), near });
        };
        let place = *places.entry(view).or_insert_with(|| {
            order.push(ServiceView { view: name.clone(), features: Vec::new() });
            order.len() - 1
        });
        order[place].features.push(feature.clone());
    }
    let name = NAMELESS.parse().map_err(|e: domain::BadName| crate::codec::corrupt(e.to_string()))?;
    catalog.compile(&FeatureService { name, views: order, request: Vec::new(), description: String::new() })
}
