//! A registry in a directory of its own that can be closed and opened again.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use bytes::Bytes;
use domain::{
    Field, ModelFiles, ModelName, ModelRef, RunId, Signature, Span, Timestamp, ValueType, model::FileDigests,
};
use registry::{DatasetSnapshot, MetricPoint, NewRun, NewVersion, Registry};
use runtime::Clock;
use storage::{
    Blobs, LocalBlobs, Meta, Tables,
    testing::{Faults, FaultyBlobs},
};
use tempfile::TempDir;

pub struct World {
    pub dir: TempDir,
    pub registry: Registry,
    pub meta: Meta,
    pub tables: Tables,
    pub clock: Clock,
    blobs: LocalBlobs,
}

impl World {
    pub async fn new() -> Self {
        let dir = TempDir::new().unwrap();
        Self::open(dir, Clock::manual("2013-04-01T00:00:00Z".parse().unwrap())).await
    }

    async fn open(dir: TempDir, clock: Clock) -> Self {
        let meta = storage::testing::meta_in(dir.path()).await;
        let local = LocalBlobs::open(&dir.path().join("blobs")).await.unwrap();
        let blobs: Arc<dyn Blobs> = Arc::new(local.clone());
        let tables = Tables::open(meta.clone(), blobs.clone(), &dir.path().join("wal")).await.unwrap();
        let registry = Registry::open(meta.clone(), blobs, tables.clone(), clock.clone()).await.unwrap();
        Self { dir, registry, meta, tables, clock, blobs: local }
    }

    /// Lets go of everything and starts again from what is on disk.
    pub async fn reopen(self) -> Self {
        let Self { dir, registry, meta, tables, clock, .. } = self;
        drop((registry, tables));
        meta.reader().close().await;
        drop(meta);
        clock.advance(Span::HOUR);
        Self::open(dir, clock).await
    }

    pub async fn run(&self) -> RunId {
        let new = NewRun { experiment: "delays".into(), name: "first".into(), ..NewRun::default() };
        self.registry.start_run(new).await.unwrap().id
    }

    /// The same registry over a store that fails as planned.
    pub async fn with_faults(&self, faults: Faults) -> Registry {
        // Not opened anew: that would clear away what calls that failed are still writing.
        let faulty = Arc::new(FaultyBlobs::new(self.blobs.clone(), faults));
        Registry::open(self.meta.clone(), faulty, self.tables.clone(), self.clock.clone()).await.unwrap()
    }

    /// Puts files into the artifact tree, as clients do over the wire; gives their digests.
    pub async fn put(&self, directory: &str, files: &[(&str, &[u8])]) -> FileDigests {
        let mut digests = FileDigests::new();
        for (path, bytes) in files {
            let digest = self.registry.put_blob(Bytes::copy_from_slice(bytes)).await.unwrap();
            let mut tx = self.meta.begin().await.unwrap();
            sqlx::query("INSERT INTO registry_artifacts (path, digest, bytes, written_at) VALUES ($1, $2, $3, 0)")
                .bind(format!("{directory}/{path}"))
                .bind(digest.to_string())
                .bind(bytes.len() as i64)
                .execute(tx.conn())
                .await
                .unwrap();
            tx.commit().await.unwrap();
            digests.insert((*path).to_owned(), digest);
        }
        digests
    }

    /// Paths of the artifact tree below a directory.
    pub async fn artifacts(&self, directory: &str) -> Vec<String> {
        let all = sqlx::query_scalar("SELECT path FROM registry_artifacts ORDER BY path");
        let all: Vec<String> = all.fetch_all(self.meta.reader()).await.unwrap();
        all.into_iter().filter(|path| path.starts_with(&format!("{directory}/"))).collect()
    }

    /// A logged model of a run, and the directory of its files.
    pub async fn logged_model(&self, id: &str, run: Option<RunId>) -> String {
        let mut tx = self.meta.begin().await.unwrap();
        sqlx::query(
            "INSERT INTO registry_logged_models (id, experiment, name, status, source_run, artifact_uri, created_at, updated_at)
             SELECT $1, MIN(id), 'classifier', 'READY', $2, $3, 0, 0 FROM registry_experiments",
        )
        .bind(id)
        .bind(run.map(|run| run.to_string()))
        .bind(format!("mlflow-artifacts:/0/models/{id}/artifacts"))
        .execute(tx.conn())
        .await
        .unwrap();
        tx.commit().await.unwrap();
        format!("0/models/{id}/artifacts")
    }

    /// The directory of a run's artifacts.
    pub async fn artifacts_of(&self, run: &RunId) -> String {
        let uri = sqlx::query_scalar("SELECT artifact_uri FROM registry_runs WHERE id = $1").bind(run.to_string());
        let uri: String = uri.fetch_one(self.meta.reader()).await.unwrap();
        uri.strip_prefix("mlflow-artifacts:/").unwrap().to_owned()
    }

    /// The file that holds these bytes.
    pub fn blob_file(&self, digest: &domain::Digest) -> PathBuf {
        let name = digest.to_string();
        self.dir.path().join("blobs").join(&name[..2]).join(&name[2..])
    }
}

pub fn model() -> ModelName {
    "flight-delay".parse().unwrap()
}

pub fn reference(version: u32) -> ModelRef {
    ModelRef { model: model(), version }
}

pub fn texts(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

pub fn at(seconds: i64) -> Timestamp {
    Timestamp::from_micros(seconds * 1_000_000)
}

pub fn point(key: &str, step: i64, seconds: i64, value: f64) -> MetricPoint {
    MetricPoint { key: key.into(), value, step, at: at(seconds) }
}

pub fn version_of(run: RunId, weights: &[u8]) -> NewVersion {
    let files: ModelFiles =
        [("model.onnx".into(), weights.into()), ("extra/card.md".into(), b"# card".as_slice().into())].into();
    let inputs = vec![Field::new("distance", ValueType::Float)];
    let outputs = vec![Field::new("probability", ValueType::Float)];
    NewVersion {
        model: model(),
        run,
        files,
        signature: Signature { inputs, outputs },
        metrics: [("log_loss".into(), 0.5), ("broken".into(), f64::NAN)].into(),
        tags: texts(&[("kind", "mlp")]),
    }
}

pub async fn dataset(world: &World) -> DatasetSnapshot {
    let train = world.registry.put_blob(Bytes::from_static(b"rows to learn from")).await.unwrap();
    let holdout = world.registry.put_blob(Bytes::from_static(b"rows to judge by")).await.unwrap();
    DatasetSnapshot {
        digest: domain::Digest::of_parts([train.as_bytes().as_slice(), holdout.as_bytes()]),
        rows: 12,
        spec: serde_json::json!({"service": "flights", "holdout": "7d"}),
        from: at(10),
        to: at(20),
        cutoff: at(25),
        source_snapshots: [("flights".into(), domain::Digest::of(b"flights"))].into(),
        blobs: [("train".into(), train), ("holdout".into(), holdout)].into(),
    }
}
