//! What others ask: a service's schema, and its features online and from history.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use async_trait::async_trait;
use domain::{
    Frame, FrameError, ServiceName, SourceName, Timestamp,
    ports::{Features, PortError, ServiceSchema},
};
use futures::future::try_join_all;

use crate::{
    FeatureStore, Inner,
    answer::{Answer, ViewRows},
    catalog::{Catalog, ServicePlan},
    error::{Doing as _, FeatureError},
    history::History,
    join::Options,
    offline::ViewIndex,
    online,
    past::{self, Past},
    remote::JoinPlace,
    table::Mark,
};

impl FeatureStore {
    /// The columns of a service.
    pub fn service_schema(&self, service: &ServiceName) -> Result<ServiceSchema, FeatureError> {
        Ok(self.0.catalog().service(service)?.schema.clone())
    }

    /// Features as the online store knows them at `at[row]` (inclusive), each with its status and event time.
    /// `keys` holds at least the service's key columns, in any order; a null key finds nothing.
    ///
    /// # Errors
    /// `Unknown` service; `Frame` when a key column is missing or of a wrong type; `Instants` when `at` has
    /// another length.
    pub async fn online(&self, service: &ServiceName, keys: &Frame, at: &[Timestamp]) -> Result<Answer, FeatureError> {
        let plan = self.0.catalog().service(service)?;
        self.0.online_of(&plan, keys, at).await
    }

    /// The same from offline history: the point-in-time join.
    pub async fn historical(
        &self,
        service: &ServiceName,
        keys: &Frame,
        at: &[Timestamp],
    ) -> Result<Answer, FeatureError> {
        let catalog = self.0.catalog();
        let plan = catalog.service(service)?;
        self.0.historical_of(&catalog, &plan, keys, at).await
    }
}

#[async_trait]
impl Features for FeatureStore {
    async fn schema(&self, service: &ServiceName) -> Result<ServiceSchema, PortError> {
        self.service_schema(service).map_err(|e| PortError::from_coded(&e))
    }

    async fn latest(&self, service: &ServiceName, keys: &Frame, at: &[Timestamp]) -> Result<Frame, PortError> {
        let answer = async {
            let plan = self.0.catalog().service(service)?;
            Ok(self.0.online(&plan, keys, at, |_| ()).await?.0)
        };
        answer.await.map_err(|e: FeatureError| PortError::from_coded(&e))
    }

    async fn as_of(&self, service: &ServiceName, keys: &Frame, at: &[Timestamp]) -> Result<Frame, PortError> {
        let answer = async {
            let catalog = self.0.catalog();
            let plan = catalog.service(service)?;
            check_keys(&plan, keys, at)?;
            let parts = self.0.join(&catalog, &plan, Arc::new(keys.clone()), at.into(), &BTreeMap::new()).await?;
            features(&plan, parts, at.len())
        };
        answer.await.map_err(|e: FeatureError| PortError::from_coded(&e))
    }
}

impl Inner {
    /// A plan's features from the online store.
    pub(crate) async fn online_of(
        &self,
        plan: &ServicePlan,
        keys: &Frame,
        at: &[Timestamp],
    ) -> Result<Answer, FeatureError> {
        let (features, meta) = self.online(plan, keys, at, meta).await?;
        Ok(Answer { features, meta })
    }

    /// Answers from the online store, under the guard's eyes, and says of the parts what `tell` makes of them.
    async fn online<T>(
        &self,
        plan: &ServicePlan,
        keys: &Frame,
        at: &[Timestamp],
        tell: impl FnOnce(&[ViewRows]) -> T,
    ) -> Result<(Frame, T), FeatureError> {
        self.serves(plan)?;
        check_keys(plan, keys, at)?;
        let watching = self.watch(plan, keys, at.len())?;
        let parts = online::read(&*self.kv, &self.hot, plan, keys, at).await?;
        let told = tell(&parts);
        let features = features(plan, parts, at.len())?;
        if let Some(watching) = watching {
            self.served(plan, watching, keys, at, &features)?;
        }
        Ok((features, told))
    }

    /// A plan's features from offline history.
    pub(crate) async fn historical_of(
        &self,
        catalog: &Catalog,
        plan: &ServicePlan,
        keys: &Frame,
        at: &[Timestamp],
    ) -> Result<Answer, FeatureError> {
        check_keys(plan, keys, at)?;
        let parts = self.join(catalog, plan, Arc::new(keys.clone()), at.into(), &BTreeMap::new()).await?;
        let meta = meta(&parts);
        Ok(Answer { features: features(plan, parts, at.len())?, meta })
    }

    /// Joins every part of the service to the questions. Sources are read once each, as of their mark in
    /// `marks` where there is one; views are joined side by side on the computing threads.
    pub(crate) async fn join(
        &self,
        catalog: &Catalog,
        plan: &ServicePlan,
        keys: Arc<Frame>,
        at: Arc<[Timestamp]>,
        marks: &BTreeMap<SourceName, Mark>,
    ) -> Result<Vec<ViewRows>, FeatureError> {
        let Some(newest) = at.iter().max().copied() else { return Ok(empty(plan)) };
        if let Some(spark) = &self.remote.spark {
            let chosen = self.join_plan(catalog, plan, at.len() as u64)?;
            tracing::debug!(place = ?chosen.place, reason = chosen.reason, "a join has its place");
            if chosen.place == JoinPlace::Spark {
                return self.join_on(spark, catalog, plan, keys, at, marks).await;
            }
        }
        let mut needed: BTreeMap<&SourceName, BTreeSet<usize>> = BTreeMap::new();
        let mut plain: BTreeMap<&SourceName, BTreeSet<usize>> = BTreeMap::new();
        for part in &plan.parts {
            let of = if part.view.is_windowed() { &mut needed } else { &mut plain };
            of.entry(&part.view.source).or_default().extend(part.view.needed());
        }
        let mut histories: BTreeMap<&SourceName, Arc<History>> = BTreeMap::new();
        for (source, columns) in needed {
            let (source_plan, table) = (catalog.source(source)?, self.source_table(source)?);
            let history = History::load(&source_plan, &table, &columns, Some(newest), marks.get(source)).await?;
            histories.insert(source, Arc::new(history));
        }
        let mut pasts: BTreeMap<&SourceName, Past> = BTreeMap::new();
        for (source, columns) in plain {
            let (source_plan, table) = (catalog.source(source)?, self.source_table(source)?);
            pasts.insert(source, Past::read(&source_plan, &table, &columns, newest, marks.get(source)).await?);
        }
        let options = Options {
            threads: self.cpu.threads(),
            memory_bytes: self.joins.memory_bytes,
            temporary: self.joins.temporary.clone(),
            ..Options::default()
        };
        let joins = plan.parts.iter().map(|part| {
            let (view, outputs, options) = (part.view.clone(), part.outputs.clone(), options.clone());
            let (keys, at) = (keys.clone(), at.clone());
            let (history, past) = (histories.get(&view.source).cloned(), pasts.get(&view.source).cloned());
            async move {
                let source = catalog.source(&view.source)?;
                let unread = || crate::error::unknown("Source", view.source.as_str(), []);
                if view.is_windowed() {
                    let history = history.ok_or_else(unread)?;
                    let join = move || {
                        let index = ViewIndex::build(&view, &history)?;
                        index.ask(&view, &history, &outputs, &view.key_columns(&keys)?, &at)
                    };
                    return self.cpu.run(join).await.doing("join features")?;
                }
                let past = past.ok_or_else(unread)?;
                let join = move || past::ask(&source, &view, past, &outputs, &keys, &at, options);
                self.cpu.run(join).await.doing("join features")?
            }
        });
        try_join_all(joins).await
    }
}

/// An answer to no question still has its columns.
fn empty(plan: &ServicePlan) -> Vec<ViewRows> {
    let columns = |outputs: &[usize], view: &crate::view::ViewPlan| {
        outputs.iter().map(|&index| domain::Column::empty(view.outputs[index].kind)).collect()
    };
    let rows = |part: &crate::catalog::ServicePart| ViewRows {
        columns: columns(&part.outputs, &part.view),
        newest: Vec::new(),
    };
    plan.parts.iter().map(rows).collect()
}

fn check_keys(plan: &ServicePlan, keys: &Frame, at: &[Timestamp]) -> Result<(), FeatureError> {
    if keys.rows() != at.len() {
        return Err(FeatureError::Instants { rows: keys.rows(), instants: at.len() });
    }
    for field in &plan.schema.keys {
        let found = keys.require(&field.name)?.kind();
        if found != field.kind {
            return Err(FrameError::WrongType { name: field.name.clone(), found, expected: field.kind }.into());
        }
    }
    Ok(())
}

/// The parts' columns in schema order.
pub(crate) fn features(plan: &ServicePlan, parts: Vec<ViewRows>, rows: usize) -> Result<Frame, FeatureError> {
    let mut frame = Frame::of_rows(rows);
    let columns = parts.into_iter().flat_map(|part| part.columns);
    for (field, column) in plan.schema.features.iter().zip(columns) {
        frame.add(field.name.clone(), column)?;
    }
    Ok(frame)
}

fn meta(parts: &[ViewRows]) -> Vec<crate::answer::FeatureMeta> {
    parts.iter().flat_map(|part| part.columns.iter().map(|column| part.meta(column))).collect()
}
