//! A store in a directory of its own, and short ways to write definitions, rows and questions.

use std::{cell::RefCell, path::Path, sync::Arc, time::Duration};

use domain::{Column, Frame, Timestamp, Value, definition::Definition};
use feature_store::{
    BulkLimits, FeatureStore, GuardConfig, IngestReport, JoinLimits, JoinPlace, Lake, LoadSettings, QuarantineLimits,
    Remote, Settings, Spark,
};
use runtime::{Clock, Cpu};
use serde_json::{Map, Value as Json, json};
use storage::{EmbeddedKv, Kv, LocalBlobs, Meta, Tables};
use tempfile::TempDir;

/// Bodies of 40 rows are large ones, and take several pieces and commits.
pub const SMALL: BulkLimits = BulkLimits { rows_min: 40, piece_rows: 16, commit_rows: 100, aside_rows: 12 };
/// Every entity is watched.
const WATCH_ALL: GuardConfig = GuardConfig { share: 1.0, waiting_max: 10_000 };

thread_local! {
    /// The Spark Connect server that stores opened by this thread join on.
    static SPARK: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Runs a suite whose joins are on the server.
pub fn on_spark<T>(address: &str, suite: impl FnOnce() -> T) -> T {
    SPARK.set(Some(address.to_owned()));
    let done = suite();
    SPARK.set(None);
    done
}

/// Whether joins are on Spark.
pub fn is_on_spark() -> bool {
    SPARK.with_borrow(Option::is_some)
}

fn remote() -> Remote {
    let Some(address) = SPARK.with_borrow(Clone::clone) else { return Remote::default() };
    let spark = Spark::new(address.parse().unwrap(), None, Duration::from_secs(120)).unwrap();
    Remote { spark: Some(spark), place: JoinPlace::Spark }
}

/// A store that lives as long as its directory. `store` goes first when dropped.
pub struct World {
    pub store: FeatureStore,
    pub meta: Meta,
    pub clock: Clock,
    pub dir: Arc<TempDir>,
}

impl World {
    /// A fresh, empty store.
    pub async fn new() -> Self {
        Self::open(Arc::new(TempDir::new().unwrap())).await
    }

    /// The store of an existing directory.
    pub async fn open(dir: Arc<TempDir>) -> Self {
        Self::open_with(dir, |kv| Arc::new(kv)).await
    }

    /// The same with something put before its key-value store.
    pub async fn open_with(dir: Arc<TempDir>, wrap: impl FnOnce(EmbeddedKv) -> Arc<dyn Kv>) -> Self {
        Self::open_remote(dir, wrap, remote()).await
    }

    /// The same with its joins somewhere else.
    pub async fn open_remote(dir: Arc<TempDir>, wrap: impl FnOnce(EmbeddedKv) -> Arc<dyn Kv>, remote: Remote) -> Self {
        Self::open_as(dir, wrap, remote, QuarantineLimits::default(), SMALL).await
    }

    /// The same with a quarantine of this size.
    pub async fn open_limited(dir: Arc<TempDir>, limits: QuarantineLimits) -> Self {
        Self::open_as(dir, |kv| Arc::new(kv), remote(), limits, SMALL).await
    }

    /// The same with other limits of large bodies.
    pub async fn open_bulk(dir: Arc<TempDir>, wrap: impl FnOnce(EmbeddedKv) -> Arc<dyn Kv>, bulk: BulkLimits) -> Self {
        Self::open_as(dir, wrap, remote(), QuarantineLimits::default(), bulk).await
    }

    async fn open_as(
        dir: Arc<TempDir>,
        wrap: impl FnOnce(EmbeddedKv) -> Arc<dyn Kv>,
        remote: Remote,
        quarantine: QuarantineLimits,
        bulk: BulkLimits,
    ) -> Self {
        let path = |name: &str| -> std::path::PathBuf { Path::new(dir.path()).join(name) };
        let meta = storage::testing::meta_in(dir.path()).await;
        let blobs = Arc::new(LocalBlobs::open(&path("blobs")).await.unwrap());
        let tables = Tables::open(meta.clone(), blobs, &path("wal")).await.unwrap();
        let kv = wrap(EmbeddedKv::open(&path("kv")).await.unwrap());
        let clock = Clock::manual("2024-06-01T00:00:00Z".parse().unwrap());
        let lake = Lake::local(&path("blobs/tables")).await.unwrap();
        // So little memory that joins go in rounds.
        let joins = JoinLimits::fresh(4_096, path("joins")).unwrap();
        let loading = LoadSettings { folders: vec![path("files")], ..LoadSettings::default() };
        let settings = Settings { joins, guard: WATCH_ALL, remote, quarantine, loading, bulk };
        let opened = FeatureStore::open(meta.clone(), tables, lake, kv, clock.clone(), Cpu::new(2), settings);
        let store = opened.await.unwrap();
        Self { store, meta, clock, dir }
    }

    /// Closes this one and opens the directory again.
    pub async fn reopen(self) -> Self {
        let dir = self.dir.clone();
        drop(self);
        Self::open(dir).await
    }

    pub async fn apply(&self, definitions: &[Json]) {
        self.store.apply(&parsed(definitions), "test").await.unwrap();
    }

    pub async fn put(&self, source: &str, rows: Vec<Json>) -> IngestReport {
        self.store.ingest_rows(&source.parse().unwrap(), objects(rows)).await.unwrap()
    }
}

pub fn parsed(definitions: &[Json]) -> Vec<Definition> {
    definitions.iter().map(|json| serde_json::from_value(json.clone()).unwrap()).collect()
}

pub fn objects(rows: Vec<Json>) -> Vec<Map<String, Json>> {
    rows.into_iter().map(|row| row.as_object().unwrap().clone()).collect()
}

/// The instant `micros` after 2024 began.
pub fn t(micros: i64) -> Timestamp {
    let start: Timestamp = "2024-01-01T00:00:00Z".parse().unwrap();
    Timestamp::from_micros(start.micros() + micros)
}

/// Entity `who`, source `events` over it, a plain view with and one without time to live, windows, a service of all.
pub fn events() -> Vec<Json> {
    vec![
        json!({"kind": "Entity", "name": "who", "key": "who"}),
        json!({"kind": "Source", "name": "events", "timestamp": "at", "created": "written", "row_id": ["id"], "columns": [
            {"name": "id", "type": "int", "required": true}, {"name": "who", "type": "text"},
            {"name": "at", "type": "timestamp"}, {"name": "written", "type": "timestamp"},
            {"name": "x", "type": "float"}, {"name": "ok", "type": "bool"}, {"name": "note", "type": "text"},
        ]}),
        json!({"kind": "FeatureView", "name": "last", "source": "events", "entities": ["who"], "features": [
            {"name": "x"}, {"name": "remark", "column": "note", "default": "none"}, {"name": "ok"}, {"name": "id"},
        ]}),
        json!({"kind": "FeatureView", "name": "fresh", "source": "events", "entities": ["who"], "ttl": "30us", "features": [
            {"name": "x", "default": -1}, {"name": "id"},
        ]}),
        json!({"kind": "FeatureView", "name": "win", "source": "events", "entities": ["who"], "aggregations": [
            {"name": "count", "column": "x", "function": "count", "window": "25us"},
            {"name": "sum", "column": "x", "function": "sum", "window": "25us"},
            {"name": "share", "column": "ok", "function": "mean", "window": "60us"},
            {"name": "spread", "column": "x", "function": "std", "window": "60us"},
        ]}),
        json!({"kind": "FeatureService", "name": "all", "views": [{"view": "last"}, {"view": "fresh"}, {"view": "win"}]}),
    ]
}

/// A row of `events`.
pub fn event(id: i64, who: &str, at: i64, x: f64) -> Json {
    json!({"id": id, "who": who, "at": t(at), "x": x})
}

/// Questions: who, when.
pub fn spine(rows: &[(Option<&str>, i64)]) -> (Frame, Vec<Timestamp>) {
    let who = rows.iter().map(|(who, _)| who.map(Into::into)).collect();
    let keys = Frame::new([("who".into(), Column::Text(who))]).unwrap();
    (keys, rows.iter().map(|(_, at)| t(*at)).collect())
}

/// One value of a frame.
pub fn cell(frame: &Frame, column: &str, row: usize) -> Value {
    frame.require(column).unwrap().get(row)
}

/// What a crash at this moment would leave behind.
pub fn copy(from: &Path) -> TempDir {
    let to = TempDir::new().unwrap();
    copy_into(from, to.path());
    to
}

pub fn copy_into(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_into(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
