//! Planning and applying definitions, and reading them back when the store opens.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, PoisonError, atomic::Ordering},
};

use domain::{
    EventKind, NewEvent, SourceName, Timestamp,
    definition::{Definition, Source},
};
use serde::{Deserialize, Serialize};
use storage::{
    Migration,
    sqlx::{self, Row as _},
};

use crate::{
    FeatureStore, Inner,
    catalog::{Catalog, Definitions},
    codec,
    error::{Doing as _, FeatureError},
    key::{self, Layout},
    moved::{self, Part},
    table::{Shelf, SourceTable, lake_table, layout_of},
    view::SourcePlan,
};

const MIGRATIONS: &[Migration] = &[DEFINITIONS, MARKS];

const DEFINITIONS: Migration = Migration {
    name: "definitions and source parts",
    sql: "CREATE TABLE feature_definitions (
              kind TEXT NOT NULL,
              name TEXT NOT NULL,
              version BIGINT NOT NULL,
              body TEXT NOT NULL,
              applied_at BIGINT NOT NULL,
              applied_by TEXT NOT NULL,
              PRIMARY KEY (kind, name, version)
          );
          CREATE TABLE feature_source_parts (
              source TEXT NOT NULL,
              part BIGINT NOT NULL,
              columns TEXT NOT NULL,
              PRIMARY KEY (source, part)
          );",
};

const MARKS: Migration = Migration {
    name: "marks of sources",
    sql: "CREATE TABLE feature_marks (
              source TEXT NOT NULL,
              digest TEXT NOT NULL,
              row_count BIGINT NOT NULL,
              version BIGINT NOT NULL,
              PRIMARY KEY (source, digest)
          );",
};

/// What applying a definition does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    Created,
    Updated,
    Unchanged,
}

/// One definition of an apply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    pub kind: String,
    pub name: String,
    pub action: Action,
    /// For an update, the top-level fields that differ; else empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

/// A set of definitions that was checked against everything that stands.
struct Draft {
    changes: Vec<Change>,
    /// Those that are new or differ.
    changed: Vec<Definition>,
    catalog: Catalog,
    /// Sources that are new or have other columns than their table.
    reshaped: Vec<SourceName>,
}

impl FeatureStore {
    /// What `apply` would do. Checks everything and changes nothing; pipelines and endpoints are passed over.
    ///
    /// # Errors
    /// `Definition` names the definition, the field and the nearest known name; `Incompatible` when a source
    /// changes in a way its rows do not allow.
    pub async fn plan(&self, definitions: &[Definition]) -> Result<Vec<Change>, FeatureError> {
        Ok(self.0.draft(definitions)?.changes)
    }

    /// Makes the definitions stand, all or none, each change with an event in the journal. Views whose stored
    /// form is new are built from the rows that are there before the change is seen. Applying what stands
    /// already does nothing.
    ///
    /// # Errors
    /// As `plan`; `Incompatible` also when a new aggregation meets stored values outside the range of exact sums.
    pub async fn apply(&self, definitions: &[Definition], actor: &str) -> Result<Vec<Change>, FeatureError> {
        self.0.apply(definitions, actor).await
    }
}

impl Inner {
    fn draft(&self, definitions: &[Definition]) -> Result<Draft, FeatureError> {
        let standing = self.catalog();
        let mut all = standing.definitions.clone();
        let (mut changes, mut changed) = (Vec::new(), Vec::new());
        let mut named = BTreeSet::new();
        for definition in definitions {
            if matches!(definition, Definition::Pipeline(_) | Definition::Endpoint(_)) {
                continue;
            }
            let (kind, name) = (definition.kind(), definition.name().to_owned());
            if !named.insert((kind, name.clone())) {
                let (field, reason) = ("name".into(), "is defined twice".into());
                return Err(FeatureError::Definition { kind, name, field, reason, near: None });
            }
            let before = standing.definitions.get(definition);
            let (action, detail) = match &before {
                None => (Action::Created, String::new()),
                Some(before) if before == definition => (Action::Unchanged, String::new()),
                Some(before) => (Action::Updated, difference(before, definition)?),
            };
            if action != Action::Unchanged {
                changed.push(definition.clone());
                all.put(definition.clone());
            }
            changes.push(Change { kind: kind.to_owned(), name, action, detail });
        }
        let mut reshaped = Vec::new();
        for definition in &changed {
            if let Definition::Source(source) = definition {
                let before = standing.definitions.sources.get(&source.name);
                if self.reshapes(source, before)? {
                    reshaped.push(source.name.clone());
                }
            }
        }
        Ok(Draft { changes, changed, catalog: Catalog::build(all)?, reshaped })
    }

    /// Whether the source's table is new or needs other columns.
    fn reshapes(&self, source: &Source, before: Option<&Source>) -> Result<bool, FeatureError> {
        let Some(before) = before else { return Ok(true) };
        let table = self.source_table(&source.name)?;
        if table.rows() > 0 {
            compatible(source, before, &table)?;
        }
        Ok(!table.fits(&source.columns))
    }

    async fn apply(&self, definitions: &[Definition], actor: &str) -> Result<Vec<Change>, FeatureError> {
        let _applying = self.applying.lock().await;
        let draft = self.draft(definitions)?;
        if draft.changed.is_empty() {
            return Ok(draft.changes);
        }
        let standing = self.catalog();
        let old: BTreeSet<Layout> = standing.views().map(|view| view.layout).collect();
        let fresh: Vec<_> = draft.catalog.views().filter(|view| !old.contains(&view.layout)).cloned().collect();
        // Rows of a source stand still while its definition, or what is built from it, changes.
        let mut touched: BTreeSet<SourceName> = fresh.iter().map(|view| view.source.clone()).collect();
        touched.extend(draft.changed.iter().filter_map(|definition| match definition {
            Definition::Source(source) => Some(source.name.clone()),
            _ => None,
        }));
        touched.retain(|source| standing.definitions.sources.contains_key(source));
        let tables: BTreeMap<_, _> = touched
            .into_iter()
            .map(|name| Ok((name.clone(), self.source_table(&name)?)))
            .collect::<Result<_, FeatureError>>()?;
        let mut writing = Vec::new();
        for table in tables.values() {
            writing.push(table.writing.lock().await);
        }
        // Again, now that no row can come in between.
        let draft = self.draft(definitions)?;
        for (name, table) in &tables {
            self.catch_up(&standing.source(name)?, table).await?;
        }
        for view in &fresh {
            if let Some(table) = tables.get(&view.source) {
                self.build_view(&draft.catalog.source(&view.source)?, view, table).await?;
            }
        }
        for source in &draft.reshaped {
            // Whatever the log holds has the columns that it has now.
            if let Some(table) = tables.get(source) {
                table.seal().await?;
            }
        }
        self.commit(&draft, actor).await?;
        for source in &draft.reshaped {
            self.open_table(&*draft.catalog.source(source)?).await?;
        }
        for plan in draft.catalog.sources() {
            if let Ok(table) = self.any_source_table(&plan.definition.name) {
                table.lake.lay_out(layout_of(plan));
            }
        }
        for view in fresh.iter().filter(|view| !tables.contains_key(&view.source)) {
            // A source without rows: nothing to build, only to mark.
            self.kv
                .write(vec![(view.layout.built(), Vec::new())], Vec::new(), true)
                .await
                .doing("mark a view built")?;
        }
        let kept: BTreeSet<Layout> = draft.catalog.views().map(|view| view.layout).collect();
        self.set_catalog(draft.catalog);
        drop(writing);
        for layout in old.difference(&kept) {
            if let Err(error) = self.drop_layout(*layout).await {
                tracing::warn!(%error, "online values of a view's earlier form stay until the next start");
            }
        }
        Ok(draft.changes)
    }

    async fn commit(&self, draft: &Draft, actor: &str) -> Result<(), FeatureError> {
        let at = self.clock.now();
        let mut tx = self.meta.begin().await.doing("write definitions")?;
        for definition in &draft.changed {
            let (kind, name) = (definition.kind(), definition.name());
            let body = serde_json::to_string(definition).map_err(|e| unreadable(e.to_string()))?;
            let newest = sqlx::query("SELECT MAX(version) FROM feature_definitions WHERE kind = $1 AND name = $2")
                .bind(kind)
                .bind(name)
                .fetch_one(tx.conn())
                .await
                .doing("write definitions")?;
            let version = newest.try_get::<Option<i64>, _>(0).doing("write definitions")?.unwrap_or(0) + 1;
            sqlx::query(
                "INSERT INTO feature_definitions (kind, name, version, body, applied_at, applied_by)
                 VALUES ($1, $2, $3, $4, $5, $6)",
            )
            .bind(kind)
            .bind(name)
            .bind(version)
            .bind(body)
            .bind(at.micros())
            .bind(actor)
            .execute(tx.conn())
            .await
            .doing("write definitions")?;
            let event = NewEvent {
                at,
                kind: EventKind::DefinitionApplied,
                subject: format!("{}/{name}", subject(definition)),
                actor: actor.to_owned(),
                cause: None,
                body: serde_json::json!({ "kind": kind, "name": name, "version": version }),
            };
            tx.append(event).await.doing("write definitions")?;
        }
        tx.commit().await.doing("write definitions")
    }

    /// Reads definitions and tables, and completes what was left half done.
    pub(crate) async fn load(&self) -> Result<(), FeatureError> {
        self.meta.migrate("feature-store", MIGRATIONS).await.doing("prepare the feature store's tables")?;
        let guards = crate::guard::MIGRATIONS;
        self.meta.migrate("feature-store/guard", guards).await.doing("prepare the guard's tables")?;
        let steps = crate::quarantine::MIGRATIONS;
        self.meta.migrate("feature-store/quarantine", steps).await.doing("prepare the quarantine's table")?;
        let steps = crate::stream::MIGRATIONS;
        self.meta.migrate("feature-store/streams", steps).await.doing("prepare the table of streams")?;
        let steps = crate::load::MIGRATIONS;
        self.meta.migrate("feature-store/loads", steps).await.doing("prepare the tables of loads")?;
        let steps = crate::drift::MIGRATIONS;
        self.meta.migrate("feature-store/drift", steps).await.doing("prepare the table of drift")?;
        let stored = sqlx::query("SELECT body FROM feature_definitions ORDER BY version")
            .fetch_all(self.meta.reader())
            .await
            .doing("read definitions")?;
        let mut definitions = Definitions::default();
        for row in stored {
            let body: String = row.try_get(0).doing("read definitions")?;
            definitions.put(serde_json::from_str(&body).map_err(|e| unreadable(e.to_string()))?);
        }
        let catalog = Catalog::build(definitions)?;
        let built = self.layouts().await?;
        for plan in catalog.sources() {
            self.open_table(plan).await?;
            let table = self.any_source_table(&plan.definition.name)?;
            if let Err(kept) = table.here() {
                tracing::info!(reason = %kept, "a source is served by another server of this database");
                continue;
            }
            let _writing = table.writing.lock().await;
            self.catch_up(plan, &table).await?;
            for view in plan.views.iter().filter(|view| !built.contains(&view.layout)) {
                self.build_view(plan, view, &table).await?;
            }
        }
        let standing: BTreeSet<Layout> = catalog.views().map(|view| view.layout).collect();
        for layout in built.difference(&standing) {
            self.drop_layout(*layout).await?;
        }
        self.set_catalog(catalog);
        Ok(())
    }

    /// Opens a source's table, or goes on with the columns that the source has by now.
    async fn open_table(&self, plan: &SourcePlan) -> Result<(), FeatureError> {
        let source = &plan.definition.name;
        let open = self.shelf(|shelf| shelf.get(source).cloned());
        if let Some(table) = open {
            return table.reshape(&self.tables, plan).await;
        }
        let parts = self.parts_of(source).await?;
        if !parts.is_empty() {
            moved::move_rows(&self.tables, &lake_table(&self.lake, plan).await?, source, &parts).await?;
        }
        let table = SourceTable::open(&self.tables, &self.lake, plan).await?;
        let (from, to) = key::all_seen(source.as_str());
        if !self.kv.range(&from, &to, 1).await.doing("read online values")?.is_empty() {
            table.note_old_marks();
        }
        let keys = [key::newest(source.as_str()), key::applied(source.as_str())];
        let mut known = self.kv.get_many(&keys).await.doing("read online values")?;
        if let Some(bytes) = known.pop().flatten() {
            let bytes = bytes.try_into().map_err(|_| codec::corrupt("row counter of a wrong length".into()))?;
            table.applied.store(u64::from_le_bytes(bytes), Ordering::SeqCst);
        }
        if let Some(bytes) = known.pop().flatten() {
            let bytes = bytes.try_into().map_err(|_| codec::corrupt("newest event time of a wrong length".into()))?;
            self.newest.note(source, Timestamp::from_micros(i64::from_le_bytes(bytes)));
        }
        self.open_quarantine(source, &table).await?;
        self.shelf(|shelf| shelf.insert(source.clone(), Arc::new(table)));
        Ok(())
    }

    /// The tables in which an earlier version kept the source's rows.
    async fn parts_of(&self, source: &SourceName) -> Result<Vec<Part>, FeatureError> {
        let rows = sqlx::query("SELECT part, columns FROM feature_source_parts WHERE source = $1 ORDER BY part")
            .bind(source.as_str())
            .fetch_all(self.meta.reader())
            .await
            .doing("read source parts")?;
        let mut parts = Vec::new();
        for row in rows {
            let columns: String = row.try_get(1).doing("read source parts")?;
            let columns = serde_json::from_str(&columns).map_err(|e| unreadable(e.to_string()))?;
            parts.push(Part { number: row.try_get(0).doing("read source parts")?, columns });
        }
        Ok(parts)
    }

    fn shelf<T>(&self, act: impl FnOnce(&mut Shelf) -> T) -> T {
        act(&mut self.shelf.write().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Whether rows stored under `before` can be read under `source`.
fn compatible(source: &Source, before: &Source, table: &SourceTable) -> Result<(), FeatureError> {
    let refuse =
        |reason: String| FeatureError::Incompatible { name: source.name.to_string(), rows: table.rows(), reason };
    let same = [
        ("timestamp", source.timestamp == before.timestamp),
        ("created", source.created == before.created),
        ("row_id", source.row_id == before.row_id),
    ];
    if let Some((field, _)) = same.iter().find(|(_, same)| !same) {
        return Err(refuse(format!("`{field}` cannot change")));
    }
    for field in table.stored_columns()? {
        match source.columns.iter().find(|column| column.name.as_str() == &*field.name) {
            None => return Err(refuse(format!("column `{}` cannot be removed", field.name))),
            Some(column) if column.kind != field.kind => {
                let (from, to) = (field.kind, column.kind);
                return Err(refuse(format!("column `{}` cannot turn from {from} to {to}", field.name)));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// The top-level fields in which two definitions of one thing differ.
fn difference(before: &Definition, after: &Definition) -> Result<String, FeatureError> {
    let json = |definition| serde_json::to_value(definition).map_err(|e| unreadable(e.to_string()));
    let (before, after) = (json(before)?, json(after)?);
    let fields = |value: &serde_json::Value| -> BTreeSet<String> {
        value.as_object().map(|object| object.keys().cloned().collect()).unwrap_or_default()
    };
    let all: BTreeSet<String> = fields(&before).union(&fields(&after)).cloned().collect();
    let differ: Vec<String> = all.into_iter().filter(|field| before.get(field) != after.get(field)).collect();
    Ok(differ.join(", "))
}

const fn subject(definition: &Definition) -> &'static str {
    match definition {
        Definition::Entity(_) => "entity",
        Definition::Source(_) => "source",
        Definition::FeatureView(_) => "view",
        Definition::FeatureService(_) => "service",
        Definition::Pipeline(_) => "pipeline",
        Definition::Endpoint(_) => "endpoint",
    }
}

fn unreadable(reason: String) -> FeatureError {
    FeatureError::Corrupt { what: "definition", reason }
}
