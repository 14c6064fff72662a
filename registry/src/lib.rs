//! The registry: experiments and runs, datasets, models with their versions and aliases, and how they hang together.
//!
//! State is relational, in [`storage::Meta`]; every change appends an event to the journal in the same transaction.
//! Metric points are rows of a columnar table, files are blobs named by digest. What a call acknowledges is durable.

mod alias;
mod approval;
mod artifact;
mod bring;
mod check;
mod contents;
mod dataset;
mod error;
mod experiment;
pub mod format;
mod history;
mod import;
mod input;
mod lineage;
mod logged_model;
mod metric;
mod mlmodel;
mod model;
mod model_tag;
mod nickname;
mod number;
mod numbering;
mod purge;
mod query;
mod references;
mod register;
mod row;
mod run;
mod schema;
mod search;
mod source;
mod stage;
mod verify;
mod version;
mod webhook;

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::{Arc, OnceLock},
};

use async_trait::async_trait;
use domain::{
    EventKind, ModelName, ModelRef, NewEvent, Timestamp, UploadId,
    ports::{Models, OpenedModel, PortError},
};
use runtime::Clock;
use storage::{Blobs, Meta, Table, Tables, Tx, schema_of};

pub use alias::{Alias, AliasMove};
pub use approval::{
    Approval, ApprovalFilter, Ask, Gate, GateResult, MetricBound, NewProtection, NotWorse, Protection, Verdict, Vote,
};
pub use artifact::{Artifact, ArtifactEntry, ArtifactListing, ArtifactPath, BadPath};
pub use bring::{
    Brought, BroughtExperiment, BroughtLoggedModel, BroughtMeasure, BroughtModel, BroughtRun, BroughtVersion, Record,
};
pub use dataset::{Dataset, DatasetSnapshot};
pub use error::RegistryError;
pub use experiment::{Experiment, NewExperiment, View};
pub use history::{HistoryOf, HistoryPage};
pub use import::NewImport;
pub use input::{DatasetInput, DatasetSummary, ModelOutput};
pub use lineage::{Graph, Reach, shown, walk};
pub use logged_model::{
    LoggedModel, LoggedModelMetric, LoggedModelStatus, ModelDataset, ModelOrder, ModelSearch, NewLoggedModel,
};
pub use metric::{Batch, MetricChart, MetricEntry, MetricPoint, RunPoint, StepRange};
pub use model::{Model, NewModel, RegisteredModel};
pub use purge::{Kept, Purged};
pub use query::Page;
pub use register::{NewVersion, SourcedVersion};
pub use run::{DatasetRef, NewRun, Run, RunChange, RunFilter, TrackedRun, TrackedStart};
pub use search::Search;
pub use stage::Stage;
pub use verify::{FileState, Verified, VerifiedFile};
pub use version::ModelVersion;
pub use webhook::{
    Action, Delivery, Entity, NewWebhook, Secret, Subscription, TestResult, Webhook, WebhookChange, WebhookSettings,
    WebhookStatus,
};

/// The name that always means the newest version; no alias may be called so.
pub const LATEST: &str = "latest";
/// How many uploads may be completed at once, if chance will have it so.
const TURNS: usize = 16;
/// Who stands in the journal where no caller is named.
const ACTOR: &str = "registry";

/// Appends an event about `subject` that no other event led to.
async fn note(
    tx: &mut Tx,
    at: Timestamp,
    kind: EventKind,
    subject: String,
    body: serde_json::Value,
) -> Result<(), RegistryError> {
    tx.append(NewEvent { at, kind, subject, actor: ACTOR.into(), cause: None, body }).await?;
    Ok(())
}

/// The room's front door. Clones share everything.
#[derive(Clone)]
pub struct Registry(Arc<Inner>);

struct Inner {
    meta: Meta,
    blobs: Arc<dyn Blobs>,
    points: Table,
    clock: Clock,
    /// The turn to join an upload's parts; uploads take one of these turns by their id.
    completing: [tokio::sync::Mutex<()>; TURNS],
    /// Set when delivery begins.
    webhooks: OnceLock<webhook::Sender>,
    /// Says that a webhook was registered or changed here.
    webhooks_changed: tokio::sync::Notify,
}

impl Registry {
    /// Opens the registry in `meta`, creating its tables there and one in `tables`, and the experiment `Default`.
    ///
    /// # Errors
    /// When the data is of a newer program, or cannot be read.
    pub async fn open(meta: Meta, blobs: Arc<dyn Blobs>, tables: Tables, clock: Clock) -> Result<Self, RegistryError> {
        meta.migrate("registry", schema::MIGRATIONS).await?;
        let points = tables.table(schema::POINTS, schema_of(&schema::point_fields())).await?;
        let mut tx = meta.begin().await?;
        artifact::clean(tx.conn(), clock.now()).await?;
        tx.commit().await?;
        let registry = Self(Arc::new(Inner {
            meta,
            blobs,
            points,
            clock,
            completing: Default::default(),
            webhooks: OnceLock::new(),
            webhooks_changed: tokio::sync::Notify::new(),
        }));
        registry.ensure_default_experiment().await?;
        Ok(registry)
    }

    fn meta(&self) -> &Meta {
        &self.0.meta
    }

    fn blobs(&self) -> &dyn Blobs {
        &*self.0.blobs
    }

    fn shared_blobs(&self) -> Arc<dyn Blobs> {
        self.0.blobs.clone()
    }

    fn points(&self) -> &Table {
        &self.0.points
    }

    fn completing(&self, upload: UploadId) -> &tokio::sync::Mutex<()> {
        let mut hasher = DefaultHasher::new();
        upload.hash(&mut hasher);
        let turn = hasher.finish() as usize % TURNS;
        &self.0.completing[turn]
    }

    fn now(&self) -> Timestamp {
        self.0.clock.now()
    }

    async fn begin(&self) -> Result<Tx, RegistryError> {
        Ok(self.0.meta.begin().await?)
    }
}

#[async_trait]
impl Models for Registry {
    async fn resolve(&self, model: &ModelName, alias: &str) -> Result<ModelRef, PortError> {
        Self::resolve(self, model, alias).await.map_err(|error| PortError::from_coded(&error))
    }

    async fn open(&self, version: &ModelRef) -> Result<OpenedModel, PortError> {
        self.open_version(version).await.map_err(|error| PortError::from_coded(&error))
    }
}
