//! What does a window of seven days by the hour cost: to read, to keep with a new row, and with a late one? Beside it
//! in the same run the count and sum over the same rows, which need two look-ups, in memory after the first.
//!
//! `cargo bench --profile dev --bench windows` builds nothing that the tests have not built. The store is called in this
//! process, without HTTP, on one thread; a row is durable when its call returns.

use std::{
    fmt::Write as _,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use domain::{Column, Frame, ServiceName, Timestamp, definition::Definition, ports::Features as _};
use feature_store::{FeatureStore, Format, Lake, Settings};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use runtime::{Clock, Cpu};
use serde_json::{Value as Json, json};
use storage::{EmbeddedKv, LocalBlobs, Tables};

const ENTITIES: i64 = 50;
const DAYS: i64 = 14;
/// A row of each entity every ten minutes.
const STEP: i64 = 600_000_000;
const DAY: i64 = 86_400_000_000;
const READS: usize = 2_000;
const WRITES: usize = 200;
const FUNCTIONS: [(&str, &[&str]); 5] = [
    ("count and sum (totals)", &["count", "sum"]),
    ("min and max", &["min", "max"]),
    ("distinct", &["distinct"]),
    ("quantile", &["quantile"]),
    ("last 5", &["last"]),
];

fn definitions(functions: &[&str]) -> Vec<Definition> {
    let aggregation = |function: &&str| {
        let mut json = json!({"name": function, "column": "x", "function": function, "window": "7d"});
        match *function {
            "quantile" => json["q"] = json!(0.95),
            "last" => json["k"] = json!(5),
            _ => {}
        }
        json
    };
    let all: [Json; 4] = [
        json!({"kind": "Entity", "name": "who", "key": "who", "type": "int"}),
        json!({"kind": "Source", "name": "events", "timestamp": "at", "row_id": ["who"], "columns": [
            {"name": "who", "type": "int"}, {"name": "at", "type": "timestamp"}, {"name": "x", "type": "float"},
        ]}),
        json!({"kind": "FeatureView", "name": "w", "source": "events", "entities": ["who"],
            "aggregations": functions.iter().map(aggregation).collect::<Vec<_>>()}),
        json!({"kind": "FeatureService", "name": "w", "views": [{"view": "w"}]}),
    ];
    all.map(|json| serde_json::from_value(json).expect("a definition")).to_vec()
}

fn start() -> i64 {
    "2024-01-01T00:00:00Z".parse::<Timestamp>().expect("an instant").micros()
}

async fn open(dir: &Path) -> FeatureStore {
    let meta = storage::testing::meta_in(dir).await;
    let blobs = Arc::new(LocalBlobs::open(&dir.join("blobs")).await.expect("blobs"));
    let tables = Tables::open(meta.clone(), blobs, &dir.join("wal")).await.expect("tables");
    let kv = Arc::new(EmbeddedKv::open(&dir.join("kv")).await.expect("online store"));
    let clock = Clock::manual(Timestamp::from_micros(start()));
    let lake = Lake::local(&dir.join("blobs/tables")).await.expect("open tables");
    FeatureStore::open(meta, tables, lake, kv, clock, Cpu::new(1), Settings::default()).await.expect("a feature store")
}

fn row(out: &mut String, who: i64, at: i64, x: f64) {
    writeln!(out, "{who},{},{x:.2}", Timestamp::from_micros(at)).expect("text takes text");
}

async fn put(store: &FeatureStore, rows: &str) {
    let csv = format!("who,at,x\n{rows}");
    let report = store.ingest(&"events".parse().expect("a name"), Format::Csv, csv.into()).await.expect("rows");
    assert_eq!(report.quarantined, 0);
}

fn quantile(times: &mut [Duration], share: f64) -> f64 {
    times.sort();
    times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e6
}

async fn measure(name: &str, functions: &[&str]) {
    let dir = tempfile::tempdir().expect("a directory");
    let store = open(dir.path()).await;
    store.apply(&definitions(functions), "bench").await.expect("definitions");
    let mut random = StdRng::seed_from_u64(7);
    let end = start() + DAYS * DAY;
    let began = Instant::now();
    for at in (start()..end).step_by(STEP as usize * 100) {
        let mut rows = String::new();
        for at in (at..(at + STEP * 100).min(end)).step_by(STEP as usize) {
            (0..ENTITIES).for_each(|who| row(&mut rows, who, at, random.random_range(0.0..1_000.0)));
        }
        put(&store, &rows).await;
    }
    let loaded = (ENTITIES * DAYS * DAY / STEP) as f64 / began.elapsed().as_secs_f64();
    let service: ServiceName = "w".parse().expect("a name");
    let mut reads = Vec::with_capacity(READS);
    for _ in 0..READS {
        let keys = Frame::new([("who".into(), Column::Int(vec![Some(random.random_range(0..ENTITIES))]))]);
        let (keys, at) = (keys.expect("keys"), [Timestamp::from_micros(end - random.random_range(0..DAY))]);
        let began = Instant::now();
        store.latest(&service, &keys, &at).await.expect("features");
        reads.push(began.elapsed());
    }
    let mut writes = [Vec::with_capacity(WRITES), Vec::with_capacity(WRITES)];
    for (late, times) in writes.iter_mut().enumerate() {
        for n in 0..WRITES as i64 {
            let at = if late == 0 { end + n * 1_000_000 } else { end - 3 * DAY + n * 77_000_001 };
            let mut rows = String::new();
            row(&mut rows, random.random_range(0..ENTITIES), at, 1.0);
            let began = Instant::now();
            put(&store, &rows).await;
            times.push(began.elapsed());
        }
    }
    let [mut new, mut late] = writes;
    println!(
        "{name:<24} {:>9.0} {:>9.0} {:>11.0} {:>11.0} {:>11.0} {:>11.0} {loaded:>11.0}",
        quantile(&mut reads, 0.5),
        quantile(&mut reads, 0.99),
        quantile(&mut new, 0.5),
        quantile(&mut new, 0.99),
        quantile(&mut late, 0.5),
        quantile(&mut late, 0.99),
    );
}

fn main() {
    // Cargo asks every bench that it lists for its tests.
    if std::env::args().any(|argument| argument == "--test" || argument == "--list") {
        return;
    }
    let profile = if cfg!(debug_assertions) { "dev profile" } else { "optimised" };
    println!("7d by the hour, {ENTITIES} entities, a row each ten minutes for {DAYS} days, {profile}; microseconds");
    println!(
        "{:<24} {:>9} {:>9} {:>11} {:>11} {:>11} {:>11} {:>11}",
        "", "read p50", "p99", "new row p50", "p99", "late p50", "p99", "loaded/s"
    );
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    for (name, functions) in FUNCTIONS {
        runtime.block_on(measure(name, functions));
    }
}
