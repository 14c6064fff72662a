//! The feature store: definitions, ingestion, offline history, online values and the point-in-time join.
//!
//! A row that is ingested is parsed against its source, written to the source's table (offline) and to the
//! key-value store (online) before the call returns. [`FeatureStore::latest`](domain::ports::Features::latest)
//! reads the one, [`FeatureStore::as_of`](domain::ports::Features::as_of) the other, and both give the same
//! numbers for the same instant: one compiled view and one exact arithmetic stand behind both.
//!
//! Sums of windowed aggregations are exact in fixed point at 1e-6, so batch, stream and online agree bit for bit.

mod answer;
mod apply;
mod bulk;
mod catalog;
mod check;
mod codec;
mod dataset;
mod direct;
mod drift;
mod error;
mod exact;
mod features;
mod fresh;
mod guard;
mod history;
mod hot;
mod ingest;
pub mod join;
mod key;
mod lateness;
mod load;
mod marks;
mod materialise;
mod moved;
mod offline;
mod online;
mod parse;
mod past;
mod pieces;
mod pull;
mod quarantine;
pub mod remote;
mod report;
mod rows;
mod scan;
mod select;
mod stream;
mod table;
mod upkeep;
mod verify;
mod version;
mod view;
mod window;

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use domain::{
    EntityName, ServiceName, SourceName, ViewName,
    definition::{Definition, Entity, FeatureService, FeatureView, Source},
};
use runtime::{Clock, Cpu};
use storage::{Kv, Meta, Tables};
use tokio::sync::Mutex;

pub use answer::{Answer, FeatureMeta, FeatureStatus};
pub use apply::{Action, Change};
pub use bulk::BulkLimits;
pub use dataset::Dataset;
pub use drift::{ColumnDrift, Drift, DriftKind};
pub use error::FeatureError;
pub use exact::{SQUARE_LIMIT, SUM_LIMIT};
pub use fresh::Freshness;
pub use guard::{Cause, GuardConfig, GuardReport, GuardState, Mismatch};
/// Where rows lie; see [`FeatureStore::open`].
pub use lake::{Lake, LakeKeys, LakeS3};
pub use lateness::EventTime;
pub use load::{LoadPhase, LoadProgress, LoadSettings, LoadState, LoadedFile};
pub use past::JoinLimits;
pub use pieces::{Piece, Pieces, name_matches};
pub use pull::Stretch;
pub use quarantine::{Aside, QuarantineFilter, QuarantineLimits, Quarantined, Replay, ReplayReport, StillBad, Which};
pub use remote::{JoinPlace, JoinPlan, Remote};
pub use report::{BadReason, Format, IngestReport, Ingestion, Reason, RowError, SourceStats};
pub use select::{Selected, Selection};
/// Who else may run joins; see [`Remote`].
pub use spark::{Address as SparkAddress, BadAddress as BadSparkAddress, Spark, SparkError};
pub use stream::{StreamPhase, StreamSettings, StreamState, Told};
pub use upkeep::{Compaction, TableInfo, Vacuum};
pub use verify::Verified;
pub use version::Standing;

use catalog::{Catalog, ServicePlan};
use table::SourceTable;

/// What may be set.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Of each point-in-time join.
    pub joins: JoinLimits,
    pub guard: GuardConfig,
    pub remote: Remote,
    /// How much is kept of what was set aside.
    pub quarantine: QuarantineLimits,
    pub loading: LoadSettings,
    /// Of large bodies.
    pub bulk: BulkLimits,
}

/// The front door. Clones share everything.
#[derive(Clone)]
pub struct FeatureStore(Arc<Inner>);

struct Inner {
    meta: Meta,
    tables: Tables,
    lake: Lake,
    kv: Arc<dyn Kv>,
    clock: Clock,
    cpu: Cpu,
    /// What one join may use.
    joins: JoinLimits,
    /// Who else may run joins.
    remote: Remote,
    bulk: BulkLimits,
    /// Definitions as they stand; replaced whole, so a reader keeps what it began with.
    catalog: RwLock<Arc<Catalog>>,
    /// Where rows of each source are kept.
    shelf: RwLock<BTreeMap<SourceName, Arc<SourceTable>>>,
    /// Online values in memory.
    hot: hot::Hot,
    newest: fresh::Newest,
    /// Choices of features that were compiled.
    selections: select::Remembered,
    /// One change of definitions at a time.
    applying: Mutex<()>,
    guard: guard::Guard,
    quarantine: QuarantineLimits,
    drifted: drift::Known,
    streams: stream::Streams,
    loading: LoadSettings,
    loads: load::Loads,
}

impl fmt::Debug for FeatureStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FeatureStore").finish_non_exhaustive()
    }
}

impl FeatureStore {
    /// Opens the store, whose rows lie in `lake` and, the newest of them, in the logs of `tables`. Reads the definitions,
    /// completes what a crash left half done (rows that were written but not yet online, views not yet built) and is then
    /// ready.
    ///
    /// # Errors
    /// What storage says; `Corrupt` when stored definitions or values cannot be read.
    pub async fn open(
        meta: Meta,
        tables: Tables,
        lake: Lake,
        kv: Arc<dyn Kv>,
        clock: Clock,
        cpu: Cpu,
        settings: Settings,
    ) -> Result<Self, FeatureError> {
        let Settings { joins, guard, remote, quarantine, loading, bulk } = settings;
        let store = Self(Arc::new(Inner {
            meta,
            tables,
            lake,
            kv,
            clock,
            cpu,
            joins,
            remote,
            bulk,
            catalog: RwLock::default(),
            shelf: RwLock::default(),
            hot: hot::Hot::default(),
            newest: fresh::Newest::default(),
            selections: select::Remembered::default(),
            applying: Mutex::default(),
            guard: guard::Guard::new(guard),
            quarantine,
            drifted: drift::Known::default(),
            streams: stream::Streams::default(),
            loading,
            loads: load::Loads::default(),
        }));
        store.0.load().await?;
        Ok(store)
    }

    /// All entities, sources, views and services, in the order in which they can be applied.
    #[must_use]
    pub fn definitions(&self) -> Vec<Definition> {
        self.0.catalog().definitions.all()
    }

    pub fn entity(&self, name: &EntityName) -> Result<Entity, FeatureError> {
        let catalog = self.0.catalog();
        let all = &catalog.definitions.entities;
        all.get(name).cloned().ok_or_else(|| error::unknown("Entity", name.as_str(), all.keys().map(AsRef::as_ref)))
    }

    pub fn source(&self, name: &SourceName) -> Result<Source, FeatureError> {
        Ok(self.0.catalog().source(name)?.definition.clone())
    }

    pub fn view(&self, name: &ViewName) -> Result<FeatureView, FeatureError> {
        let catalog = self.0.catalog();
        let all = &catalog.definitions.views;
        all.get(name)
            .cloned()
            .ok_or_else(|| error::unknown("FeatureView", name.as_str(), all.keys().map(AsRef::as_ref)))
    }

    pub fn service(&self, name: &ServiceName) -> Result<FeatureService, FeatureError> {
        let catalog = self.0.catalog();
        let all = &catalog.definitions.services;
        let known = all.keys().map(AsRef::as_ref);
        all.get(name).cloned().ok_or_else(|| error::unknown("FeatureService", name.as_str(), known))
    }
}

impl Inner {
    fn catalog(&self) -> Arc<Catalog> {
        self.catalog.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_catalog(&self, catalog: Catalog) {
        *self.catalog.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(catalog);
        self.streams.look_again();
    }

    /// The table of a source that is in the catalog and whose rows are here.
    fn source_table(&self, name: &SourceName) -> Result<Arc<SourceTable>, FeatureError> {
        let table = self.any_source_table(name)?;
        if self.meta.is_shared() {
            error::Doing::doing(table.here(), "reach the rows of a source")?;
        }
        Ok(table)
    }

    fn any_source_table(&self, name: &SourceName) -> Result<Arc<SourceTable>, FeatureError> {
        let shelf = self.shelf.read().unwrap_or_else(PoisonError::into_inner);
        shelf.get(name).cloned().ok_or_else(|| error::unknown("Source", name.as_str(), shelf.keys().map(AsRef::as_ref)))
    }

    /// Whether online values of the service are made here: they come from rows, and stay with them.
    fn serves(&self, plan: &ServicePlan) -> Result<(), FeatureError> {
        if self.meta.is_shared() {
            for part in &plan.parts {
                self.source_table(&part.view.source)?;
            }
        }
        Ok(())
    }
}
