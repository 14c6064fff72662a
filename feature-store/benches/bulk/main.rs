//! How long does a chunk of telemetry of 20 million set-top boxes take, from the file to the online store, and what memory?
//!
//! The chunk (25 columns, with a fleet's faults) is checked, appended to the source's Delta table and brought online as the
//! newest row of each box: the whole of `ingest`. Then the same file comes again, and another view of ten features is
//! built from the table. DuckDB and Polars do the step that they can in the same run: the newest row of each box, written
//! as Parquet. Each is a process of its own, one after the other.
//!
//! Prints the tables in `docs/benchmarks.md` for 1/100, 1/10 and 1 of the boxes. `-- --quick` stops at 1/10, `-- --tiny`
//! at 1/100.

mod data;

use std::{env, fs, path::Path, process::Command, sync::Arc, time::Instant};

use domain::{Column, Frame, Timestamp, ports::Features as _};
use feature_store::{FeatureStore, Format, JoinLimits, Lake, Settings};
use runtime::{Clock, Cpu};
use serde_json::{Value, json};
use storage::{EmbeddedKv, LocalBlobs, Meta, Tables};

fn main() {
    let arguments: Vec<String> = env::args().collect();
    let has = |argument: &str| arguments.iter().any(|found| found == argument);
    // Cargo asks every bench that it lists for its tests.
    if has("--test") || has("--list") {
        return;
    }
    if let Some(at) = arguments.iter().position(|argument| argument == "--child") {
        return child(&arguments[at + 1..]);
    }
    let hundredths: &[usize] = match () {
        () if has("--tiny") => &[1],
        () if has("--quick") => &[1, 10],
        () => &[1, 10, 100],
    };
    println!("{}\n", machine());
    println!("| rows | | wall, s | rows/s | CPU, s | peak, MiB |");
    println!("|--:|---|--:|--:|--:|--:|");
    for size in hundredths {
        measure(data::BOXES / 100 * size);
    }
}

fn measure(boxes: usize) {
    let dir = tempfile::Builder::new().prefix("bulk-").tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let file = dir.path().join("chunk.parquet");
    let program = env::current_exe().expect("this program");
    let made = run(Command::new(&program).args(["--child", "data", &boxes.to_string()]).arg(&file));
    let rows = made["rows"].as_u64().expect("a number of rows");
    for (who, name) in [("duckdb", "DuckDB"), ("polars", "Polars")] {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let python = root.join("../.tools/join/bin/python");
        assert!(python.exists(), "{} is not there: run `cargo xtask setup bench`", python.display());
        let out = dir.path().join("latest.parquet");
        let cost = run(Command::new(python).arg(root.join("benches/bulk/peers.py")).arg(who).arg(&file).arg(&out));
        let version = cost["version"].as_str().unwrap_or_default();
        print(rows, &format!("{name} {version}, newest row of each box only"), &cost);
        // Absent when it failed.
        let _ = fs::remove_file(out);
    }
    let store = dir.path().join("store");
    fs::create_dir(&store).expect("a directory");
    let ours = |what: &str| run(Command::new(&program).args(["--child", what]).arg(&store).arg(&file));
    let first = ours("ingest");
    print(rows, "Millpond, ingest: table, identities and online", &first);
    println!(
        "  {} | {} bytes of file, {} bytes of store",
        first["report"],
        file.metadata().expect("a file").len(),
        size_of(&store)
    );
    print(rows, "Millpond, the same file again", &ours("ingest"));
    print(rows, "Millpond, a view of ten features built from the table", &ours("build"));
}

fn print(rows: u64, who: &str, cost: &Value) {
    let number = |name: &str| cost[name].as_f64().unwrap_or(f64::NAN);
    let (wall, cpu, peak) = (number("wall_s"), number("cpu_s"), number("peak_mib"));
    println!("| {rows} | {who} | {wall:.2} | {:.0} | {cpu:.2} | {peak:.0} |", rows as f64 / wall);
}

/// Runs the command, whose last line of output says what it took.
fn run(command: &mut Command) -> Value {
    let output = command.output().expect("the program starts");
    if !output.status.success() {
        eprintln!("{command:?}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
        return Value::Null;
    }
    let said = String::from_utf8_lossy(&output.stdout);
    said.lines().last().and_then(|line| serde_json::from_str(line).ok()).unwrap_or_default()
}

/// What has a process of its own.
fn child(arguments: &[String]) {
    let said = match arguments {
        [what, boxes, file] if what == "data" => {
            json!({"rows": data::generate(Path::new(file), boxes.parse().expect("a number of boxes"))})
        }
        [what, dir, file] => {
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
            runtime.block_on(ours(what, Path::new(dir), Path::new(file)))
        }
        _ => panic!("what to do, and with which files"),
    };
    println!("{said}");
}

async fn ours(what: &str, dir: &Path, file: &Path) -> Value {
    let store = open(dir).await;
    let apply = async |definitions: Vec<Value>| {
        let definitions: Vec<_> =
            definitions.into_iter().map(|one| serde_json::from_value(one).expect("a definition")).collect();
        store.apply(&definitions, "bench").await.expect("the definitions stand");
    };
    let source = "telemetry".parse().expect("a name");
    if what == "ingest" {
        apply(data::definitions("box", 20)).await;
    }
    let (started, before) = (Instant::now(), cpu_s());
    let report = if what == "ingest" {
        let body = fs::read(file).expect("the chunk").into();
        json!(store.ingest(&source, Format::Parquet, body).await.expect("the chunk is taken"))
    } else {
        apply(data::definitions("ten", 10)).await;
        Value::Null
    };
    let cost = json!({"wall_s": started.elapsed().as_secs_f64(), "cpu_s": cpu_s() - before, "peak_mib": peak_mib()});
    let mut cost = cost.as_object().expect("an object").clone();
    if let Value::Object(mut report) = report {
        report.remove("first_errors");
        cost.insert("report".into(), report.into());
    }
    serve(&store, if what == "ingest" { "box" } else { "ten" }).await;
    cost.into()
}

/// Makes sure that boxes are served.
async fn serve(store: &FeatureStore, view: &str) {
    let service = json!({"kind": "FeatureService", "name": format!("of-{view}"), "views": [{"view": view}]});
    store.apply(&[serde_json::from_value(service).expect("a service")], "bench").await.expect("it stands");
    let boxes: Vec<Option<i64>> = (0..1_000).map(|n| Some(1_000_000_000 + n * 7)).collect();
    let keys = Frame::new([("device_id".into(), Column::Int(boxes))]).expect("keys");
    let at: Timestamp = "2026-01-02T00:00:00Z".parse().expect("an instant");
    let service = format!("of-{view}").parse().expect("a name");
    let answer = store.latest(&service, &keys, &vec![at; 1_000]).await.expect("an answer");
    let known = answer.require(&format!("{view}__uptime_s")).or_else(|_| answer.require(&format!("{view}__channel")));
    let known = known.expect("a feature");
    let found = (0..1_000).filter(|row| !known.get(*row).is_null()).count();
    assert!(found > 900, "{found} of 1000 boxes are served");
}

async fn open(dir: &Path) -> FeatureStore {
    let meta = Meta::open(&dir.join("meta.db")).await.expect("a database");
    let blobs = Arc::new(LocalBlobs::open(&dir.join("blobs")).await.expect("blobs"));
    let tables = Tables::open(meta.clone(), blobs, &dir.join("wal")).await.expect("tables");
    let kv = Arc::new(EmbeddedKv::open(&dir.join("kv")).await.expect("a store"));
    let lake = Lake::local(&dir.join("blobs/tables")).await.expect("a lake");
    let joins = JoinLimits::fresh(512 << 20, dir.join("joins")).expect("a directory");
    let settings = Settings { joins, ..Settings::default() };
    let opened = FeatureStore::open(meta, tables, lake, kv, Clock::system(), Cpu::new(0), settings);
    opened.await.expect("a feature store")
}

fn size_of(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry"));
    entries
        .map(
            |entry| {
                if entry.path().is_dir() { size_of(&entry.path()) } else { entry.metadata().map_or(0, |m| m.len()) }
            },
        )
        .sum()
}

/// User and system time of this process so far.
fn cpu_s() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").expect("Linux tells about this process");
    // Behind the program's name, which stands in brackets, user and system time are the 12th and 13th field.
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let ticks: f64 = fields[11..13].iter().map(|field| field.parse::<f64>().expect("a number of ticks")).sum();
    // Linux counts in hundredths on every machine that we build for.
    ticks / 100.0
}

fn peak_mib() -> f64 {
    let status = fs::read_to_string("/proc/self/status").expect("Linux tells about this process");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("the peak of memory");
    peak.trim().trim_end_matches(" kB").parse::<f64>().expect("kilobytes") / 1_024.0
}

fn machine() -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("");
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let profile = if cfg!(debug_assertions) { "dev profile" } else { "optimised" };
    format!("{cores} cores of {}, {profile}.", model.trim_start_matches([':', '\t', ' ']))
}
