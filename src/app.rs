//! Wiring: the rooms of one project, opened in order over what all projects of the process stand on.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use access::{Access, default_project};
use anyhow::Context as _;
use domain::{
    Coded, EndpointName, ProjectName, SourceName, Span, Timestamp,
    ports::{Features, Models, PredictionTap},
};
use evaluator::Evaluator;
use feature_store::{
    BulkLimits, FeatureStore, GuardConfig, IngestReport, JoinLimits, LoadSettings, QuarantineLimits, Settings,
    StreamSettings, Told,
};
use pipelines::{Conductor, Rooms};
use registry::{Registry, WebhookSettings};
use runtime::{
    CancellationToken, Clock, Cpu, House,
    config::Config,
    metrics::{Metric, Metrics},
};
use serving::{Serving, ServingConfig};
use sql::Engine;
use storage::{Collector, EmbeddedKv, Kv, Meta, References, Tables};
use trainer::{Trainer, TrainerConfig};

use crate::{consistency, feast::materialise::UnderWay, garbage::Garbage, http::problem::chain};

/// What all projects of a process share.
#[derive(Clone)]
pub struct Ground {
    config: Arc<Config>,
    pub house: House,
    pub draining: CancellationToken,
    clock: Clock,
    cpu: Cpu,
    sql: Engine,
    onnx_library: PathBuf,
}

impl Ground {
    /// Takes the data directory (made when absent) and loads ONNX Runtime.
    ///
    /// # Errors
    /// When another process holds the directory, or when ONNX Runtime is absent.
    pub fn lay(config: &Config) -> anyhow::Result<Self> {
        let data = &config.data.dir;
        std::fs::create_dir_all(data)
            .with_context(|| format!("could not make the data directory `{}`", data.display()))?;
        lock(data)?;
        let onnx = backends::init(config.onnx.library.as_deref()).map_err(mendable)?;
        tracing::info!(version = %onnx.version, path = %onnx.path.display(), "onnx runtime loaded");
        let limits = sql::Limits {
            memory_bytes: config.sql.memory_bytes,
            temporary: data.join("sql"),
            at_once: config.sql.at_once,
            threads: cores(config.sql.threads),
            deadline: config.sql.deadline.to_std(),
        };
        let sql = Engine::start(limits).map_err(mendable)?;
        Ok(Self {
            config: Arc::new(config.clone()),
            house: House::new(),
            draining: CancellationToken::new(),
            clock: Clock::system(),
            cpu: Cpu::new(cores(config.serving.threads)),
            sql,
            onnx_library: onnx.path,
        })
    }

    /// Where a project's files lie. Those of the first lie where those of the only one did before there were projects.
    fn dir_of(&self, project: &ProjectName) -> PathBuf {
        let data = &self.config.data.dir;
        if *project == default_project() { data.clone() } else { data.join("projects").join(project.as_str()) }
    }

    async fn meta_of(&self, project: &ProjectName, dir: &Path) -> anyhow::Result<Meta> {
        // A hyphen does not stand in a schema's name, and a `$` not in a project's.
        let schema = format!("project_{}", project.as_str().replace('-', "$"));
        let schema = (*project != default_project()).then_some(schema.as_str());
        match &self.config.metadata.url {
            Some(url) => Meta::connect_in(url.reveal(), schema).await,
            None => Meta::open(&dir.join("meta.db")).await,
        }
        .map_err(mendable)
    }
}

/// Handles to every room of a project. Cheap to clone; what the HTTP and gRPC doors hold.
#[derive(Clone)]
pub struct App {
    pub project: ProjectName,
    pub access: Access,
    pub meta: Meta,
    pub registry: Registry,
    pub features: FeatureStore,
    pub evaluator: Evaluator,
    pub conductor: Conductor,
    pub metrics: Metrics,
    pub clock: Clock,
    /// Answers questions in SQL over [`crate::catalogue::Tables`].
    pub sql: Engine,
    pub house: House,
    pub garbage: Garbage,
    /// Materialisations that Feast's clients began and do not wait for.
    pub materialising: UnderWay,
    tables: Tables,
    draining: CancellationToken,
}

/// The version of the code, as runs record it.
#[must_use]
pub fn code_version() -> String {
    format!(
        "millpond {}{}",
        env!("CARGO_PKG_VERSION"),
        option_env!("MILLPOND_COMMIT").map_or_else(String::new, |c| format!(" ({c})"))
    )
}

impl App {
    /// Opens a project: migrates its data, loads deployed models and resumes pipeline runs.
    ///
    /// # Errors
    /// When its data belongs to a newer version or cannot be read.
    pub async fn open(ground: &Ground, project: &ProjectName) -> anyhow::Result<Self> {
        let Ground { config, house, clock, cpu, sql, .. } = ground.clone();
        let data = ground.dir_of(project);
        let threads = cores(config.serving.threads);
        let metrics = Metrics::new();
        metrics.set(Metric::BuildInfo, &[env!("CARGO_PKG_VERSION")], 1.0);

        let meta = ground.meta_of(project, &data).await?;
        if meta.is_shared() {
            let meta = meta.clone();
            house.spawn("journal of other servers", move |stop| async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = meta.follow() => {}
                }
            });
        }
        let blobs = crate::objects::open(&config.objects, &data, project).await?;
        blobs.claim(&meta.identity().await.map_err(mendable)?).await.map_err(mendable)?;
        let kv: Arc<dyn Kv> = Arc::new(EmbeddedKv::open(&data.join("online")).await.map_err(mendable)?);
        let tables = Tables::open(meta.clone(), blobs.clone(), &data.join("wal")).await.map_err(mendable)?;

        let access = Access::open(meta.clone(), clock.clone()).await.map_err(mendable)?;
        access.attend(&house);
        let registry =
            Registry::open(meta.clone(), blobs.clone(), tables.clone(), clock.clone()).await.map_err(mendable)?;
        registry.deliver_webhooks(
            &house,
            WebhookSettings {
                allow_private: config.webhooks.allow_private,
                attempts: config.webhooks.attempts,
                first_retry: config.webhooks.first_retry,
            },
        );
        let joins = JoinLimits::fresh(config.features.join_memory_bytes, data.join("joins"))
            .with_context(|| format!("could not make room for joins in `{}`", data.display()))?;
        let guard = GuardConfig { share: config.consistency.share, ..GuardConfig::default() };
        let remote = crate::joins::remote(&config.joins)?;
        let quarantine = QuarantineLimits {
            rows_max: config.ingestion.quarantine_rows as u64,
            keep: config.ingestion.quarantine_keep,
        };
        let loading = LoadSettings {
            folders: config.ingestion.paths.clone(),
            parquet_bytes_max: config.ingestion.parquet_bytes_max as u64,
        };
        let settings = Settings { joins, guard, remote, quarantine, loading, bulk: BulkLimits::default() };
        let lake = crate::objects::lake(&config.objects, &data, project).await?;
        let features = FeatureStore::open(meta.clone(), tables.clone(), lake, kv, clock.clone(), cpu, settings)
            .await
            .map_err(mendable)?;
        let (redis, counted) = (config.ingestion.redis.reveal().clone(), metrics.clone());
        let told: Told = Arc::new(move |source: &SourceName, report: &IngestReport| {
            crate::counts::ingested(&counted, source, report)
        });
        features.load_files(&house, told.clone());
        features.read_streams(&house, StreamSettings::new(redis, told));
        if config.tables.upkeep_every > Span::ZERO {
            features.keep_up(&house, config.tables.upkeep_every.to_std(), config.tables.keep_versions);
        }
        if config.consistency.every > Span::ZERO {
            consistency::go_on(&house, &features, &metrics, config.consistency.every.to_std());
        }
        let evaluator = Evaluator::open(meta.clone(), tables.clone(), clock.clone(), house.clone(), metrics.clone())
            .await
            .map_err(mendable)?;
        let serving = Serving::new(
            Arc::new(features.clone()) as Arc<dyn Features>,
            Arc::new(registry.clone()) as Arc<dyn Models>,
            Arc::new(evaluator.clone()) as Arc<dyn PredictionTap>,
            Arc::new(serving::OnnxLoader),
            clock.clone(),
            metrics.clone(),
            &house,
            ServingConfig {
                max_in_flight: config.serving.max_in_flight,
                queue_rows: config.serving.queue_rows,
                max_batch_rows: config.serving.max_batch_rows,
                threads,
            },
        );
        let trainer = Trainer::new(TrainerConfig {
            exe: std::env::current_exe().context("could not find this program's own path")?,
            work_dir: data.join("jobs"),
            max_parallel: config.training.max_parallel,
            threads: cores(config.training.threads),
            onnx_library: Some(ground.onnx_library.clone()),
        });
        crate::counts::follow(&house, meta.journal(), metrics.clone());
        let conductor = Conductor::open(Rooms {
            meta: meta.clone(),
            registry: registry.clone(),
            features: features.clone(),
            trainer: Arc::new(trainer),
            serving,
            evaluator: evaluator.clone(),
            clock: clock.clone(),
            house: house.clone(),
            code_version: code_version(),
            conducted_by: tables.keeper_of("pipelines").await.map_err(mendable)?,
        })
        .await
        .map_err(mendable)?;
        // All that name blobs. A room that is left out here loses its files.
        let rooms: Vec<Arc<dyn References>> =
            vec![Arc::new(tables.clone()), Arc::new(registry.clone()), Arc::new(conductor.clone())];
        let garbage = Garbage::new(Collector::new(meta.clone(), blobs, rooms), registry.clone(), clock.clone());
        if config.gc.every > Span::ZERO {
            garbage.go_on(&house, config.gc.every.to_std(), config.gc.grace);
        }
        Ok(Self {
            project: project.clone(),
            access,
            meta,
            registry,
            features,
            evaluator,
            conductor,
            metrics,
            clock,
            sql,
            house,
            garbage,
            materialising: UnderWay::default(),
            tables,
            draining: ground.draining.clone(),
        })
    }

    /// Event time an endpoint has reached: the wall clock's, except where history is replayed.
    pub async fn event_now(&self, endpoint: &EndpointName) -> Timestamp {
        let reached = self.evaluator.status(endpoint).await.ok().and_then(|status| status.watermark);
        reached.unwrap_or_else(|| self.clock.now())
    }

    /// Cancelled when the drain begins.
    #[must_use]
    pub fn drain(&self) -> CancellationToken {
        self.draining.clone()
    }

    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.is_cancelled()
    }

    /// Writes what is buffered; called once its tasks have stopped.
    pub async fn flush(&self) {
        self.tables.flush_all().await;
    }
}

/// What kept a room from opening and what to do about it: whoever starts the server sees one line.
pub(crate) fn mendable(error: impl Coded) -> anyhow::Error {
    let (text, hint) = (chain(&error), error.hint());
    if hint.is_empty() { anyhow::anyhow!(text) } else { anyhow::anyhow!("{text}: {hint}") }
}

fn cores(asked: usize) -> usize {
    if asked > 0 { asked } else { std::thread::available_parallelism().map_or(2, usize::from) }
}

/// Takes the data directory for this process; the lock goes when the process goes, however it ends.
fn lock(data: &Path) -> anyhow::Result<()> {
    let path = data.join("lock");
    let file = std::fs::File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .with_context(|| format!("could not open `{}`", path.display()))?;
    match file.try_lock() {
        Ok(()) => {
            // Held until the process ends: leaking the handle is what keeps the lock.
            std::mem::forget(file);
            Ok(())
        }
        Err(std::fs::TryLockError::WouldBlock) => anyhow::bail!(
            "the data directory `{}` is in use by another millpond: stop it, or choose another with --data-dir",
            data.display()
        ),
        Err(std::fs::TryLockError::Error(error)) => Err(error).context("could not lock the data directory"),
    }
}
