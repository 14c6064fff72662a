//! How many feature vectors a second does the server give, beside Feast's own server asked the same in the same run?
//!
//! 50,000 entities with 60 doubles in two views, of which a request reads 10 features of one entity or 50 features of 100
//! entities, by Feast's REST call (`POST /get-online-features`), which both servers answer. Clients are raw sockets over
//! connections that stay open, each with one request at a time, all on one thread of this process; servers and client share the
//! machine's cores. CPU time is the server's whole tree's. The limit beside it is a constant by the same HTTP stack.
//! `cargo xtask setup && cargo bench --bench online`; with `-- --quick` a tenth is asked: a trial, not a measurement.

mod client;
mod peer;
#[path = "../support/process.rs"]
mod process;
#[path = "../../tests/support/mod.rs"]
mod support;

use std::{sync::Arc, time::Duration};

use arrow::{
    array::{ArrayRef, Float64Array, Int64Array, RecordBatch, TimestampMicrosecondArray},
    datatypes::{DataType, Field, Schema, TimeUnit},
};
use parquet::arrow::ArrowWriter;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use serde_json::{Value, json};
use support::Server;

use client::{Load, Seen};
use process::Machine;

const ENTITIES: i64 = 50_000;
/// Features of the two views.
const VIEWS: [(&str, usize); 2] = [("small", 10), ("wide", 50)];
/// Rows of one body of ingestion.
const BODY_ROWS: i64 = 25_000;

/// What is asked: a name, the view, and entities per request.
const QUESTIONS: [(&str, usize, usize); 2] = [("1 x 10", 0, 1), ("100 x 50", 1, 100)];
const CONNECTIONS: [usize; 2] = [1, 16];

fn main() {
    // Cargo asks every bench that it lists for its tests.
    if std::env::args().any(|argument| argument == "--test" || argument == "--list") {
        return;
    }
    let quick = std::env::args().any(|argument| argument == "--quick");
    let seconds = if quick { 2 } else { 10 };
    let machine = Machine::this();
    println!("{} {seconds} s per row of the table.\n", machine.describe());

    let data = tempfile::tempdir().expect("a temporary directory");
    let server = Server::start_with(data.path(), &["--set", "server.max_body_bytes=67108864"]);
    server.apply(&definitions()).ok();
    for (view, features) in VIEWS {
        for from in (0..ENTITIES).step_by(BODY_ROWS as usize) {
            let body = rows(from, BODY_ROWS, features);
            server.ingest(view, "application/vnd.apache.parquet", &body).ok();
        }
    }
    let feast = peer::Feast::start(ENTITIES);

    println!(
        "| {:<28} | {:>5} | {:>9} | {:>9} | {:>9} | {:>11} |",
        "", "conns", "req/s", "p50 ms", "p99 ms", "CPU us/req"
    );
    println!("|---|---:|---:|---:|---:|---:|");
    let constant = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n".to_vec();
    for connections in CONNECTIONS {
        let seen = measure(&machine, server.pid(), &server.url, vec![constant.clone()], connections, seconds);
        print_row("a constant by the same stack", connections, &seen);
    }
    for (name, view, entities) in QUESTIONS {
        let requests = requests(view, entities);
        for connections in CONNECTIONS {
            let ours = measure(&machine, server.pid(), &server.url, requests.clone(), connections, seconds);
            print_row(&format!("{name}, Millpond"), connections, &ours);
            let theirs = measure(&machine, feast.pid(), feast.url(), requests.clone(), connections, seconds);
            print_row(&format!("{name}, Feast 0.67 (sqlite)"), connections, &theirs);
            println!(
                "| {:<28} | {:>5} | {:>8.1}x | {:>8.1}x | {:>8.1}x | {:>10.1}x |",
                "ratio",
                "",
                ours.rate / theirs.rate,
                theirs.p50.as_secs_f64() / ours.p50.as_secs_f64(),
                theirs.p99.as_secs_f64() / ours.p99.as_secs_f64(),
                theirs.cpu_micros / ours.cpu_micros
            );
        }
    }
    assert_eq!(server.stop(), Some(0), "the server ends in order");
}

/// What a load cost.
struct Cost {
    rate: f64,
    p50: Duration,
    p99: Duration,
    cpu_micros: f64,
}

fn measure(machine: &Machine, pid: u32, url: &str, requests: Vec<Vec<u8>>, connections: usize, seconds: u64) -> Cost {
    let load = Load { address: url.trim_start_matches("http://").to_owned(), requests, connections };
    load.run(Duration::from_secs(1));
    let before = machine.cpu_seconds(pid);
    let Seen { mut times, took } = load.run(Duration::from_secs(seconds));
    let cpu = machine.cpu_seconds(pid) - before;
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    Cost {
        rate: times.len() as f64 / took.as_secs_f64(),
        p50: at(0.5),
        p99: at(0.99),
        cpu_micros: cpu * 1e6 / times.len() as f64,
    }
}

fn print_row(name: &str, connections: usize, cost: &Cost) {
    println!(
        "| {name:<28} | {connections:>5} | {:>9.0} | {:>9.2} | {:>9.2} | {:>11.0} |",
        cost.rate,
        cost.p50.as_secs_f64() * 1e3,
        cost.p99.as_secs_f64() * 1e3,
        cost.cpu_micros
    );
}

fn definitions() -> String {
    let mut yaml = String::from("kind: Entity\nname: thing\nkeys: [{name: id, type: int}]\n");
    for (view, features) in VIEWS {
        yaml += &format!("---\nkind: Source\nname: {view}\ntimestamp: at\nrow_id: [id]\ncolumns:\n");
        yaml += "  - {name: id, type: int, required: true}\n  - {name: at, type: timestamp, required: true}\n";
        (0..features).for_each(|n| yaml += &format!("  - {{name: {view}_f{n}, type: float}}\n"));
        yaml += &format!("---\nkind: FeatureView\nname: {view}\nsource: {view}\nentities: [thing]\nfeatures:\n");
        (0..features).for_each(|n| yaml += &format!("  - {{name: {view}_f{n}}}\n"));
    }
    yaml
}

/// A Parquet file of the entities from `from` on, an hour old.
fn rows(from: i64, count: i64, features: usize) -> Vec<u8> {
    let view = VIEWS.iter().find(|(_, known)| *known == features).map_or("", |(view, _)| view);
    let mut random = StdRng::seed_from_u64(from as u64);
    let hour_ago = jiff::Timestamp::now().as_microsecond() - 3_600_000_000;
    let mut fields = vec![
        Field::new("id", DataType::Int64, false),
        Field::new("at", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), false),
    ];
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(from..from + count)),
        Arc::new(TimestampMicrosecondArray::from_iter_values((0..count).map(|_| hour_ago)).with_timezone("UTC")),
    ];
    for n in 0..features {
        fields.push(Field::new(format!("{view}_f{n}"), DataType::Float64, false));
        columns.push(Arc::new(Float64Array::from_iter_values((0..count).map(|_| random.random::<f64>()))));
    }
    let schema = Arc::new(Schema::new(fields));
    let batch = RecordBatch::try_new(schema.clone(), columns).expect("columns of one length");
    let mut out = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut out, schema, None).expect("a writer");
    writer.write(&batch).expect("memory takes it");
    writer.close().expect("memory takes it");
    out
}

/// Requests for random entities, which both servers understand.
fn requests(view: usize, entities: usize) -> Vec<Vec<u8>> {
    let (name, features) = VIEWS[view];
    let names: Vec<String> = (0..features).map(|n| format!("{name}:{name}_f{n}")).collect();
    let mut random = StdRng::seed_from_u64(7);
    let body = |_| {
        let ids: Vec<i64> = (0..entities).map(|_| random.random_range(0..ENTITIES)).collect();
        let body: Value = json!({"features": names, "entities": {"id": ids}});
        let body = body.to_string();
        format!(
            "POST /get-online-features HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
        .into_bytes()
    };
    (0..1_000).map(body).collect()
}
