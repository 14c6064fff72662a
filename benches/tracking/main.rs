//! What do MLflow's calls cost here, beside MLflow's own server asked the same in the same run?
//!
//! Raw HTTP over connections that stay open, each with one request at a time, so nothing is measured of MLflow's Python
//! client. Both servers run on this machine with their defaults (MLflow: four workers, SQLite, local artifacts); they
//! are asked in turns, question by question. Wall times are the client's, from sending to the answer read. CPU time is
//! the server's: of its whole tree of processes, user and system, less what the tree takes in the same time when idle.
//! Prints the table in `docs/benchmarks.md`. `cargo bench --bench tracking -- --quick` asks a tenth as often and of a
//! tenth of the data: a trial, not a measurement.

mod ask;
#[path = "../support/process.rs"]
mod process;
mod server;
#[path = "../../tests/support/mod.rs"]
mod support;

use std::time::Duration;

use ask::{Asker, Cost};
use process::Machine;
use server::Subject;

/// Rows of the table that both servers answer: what is asked, how often of us, how often of MLflow.
struct Question {
    what: &'static str,
    ours: usize,
    theirs: usize,
    /// Connections at once.
    clients: usize,
    ask: fn(&Asker<'_>, usize),
}

const QUESTIONS: [Question; 12] = [
    Question {
        what: "a constant (`GET /health`): the limit",
        ours: 5_000,
        theirs: 1_000,
        clients: 1,
        ask: |asker, n| asker.constant(n),
    },
    Question { what: "log_metric", ours: 3_000, theirs: 500, clients: 1, ask: |asker, n| asker.log_metric(n) },
    Question {
        what: "log_batch of 1,000 metrics",
        ours: 200,
        theirs: 30,
        clients: 1,
        ask: |asker, n| asker.log_batch(n),
    },
    Question {
        what: "create a run, log, end it",
        ours: 1_000,
        theirs: 200,
        clients: 1,
        ask: |asker, n| asker.whole_run(n),
    },
    Question {
        what: "create a run, log, end it; 8 clients",
        ours: 4_000,
        theirs: 400,
        clients: 8,
        ask: |asker, n| asker.whole_run(n),
    },
    Question {
        what: "search 5,000 runs: filter, order, 100 rows",
        ours: 200,
        theirs: 40,
        clients: 1,
        ask: |asker, n| asker.search(n),
    },
    Question { what: "list 1,000 of 5,000 runs", ours: 50, theirs: 20, clients: 1, ask: |asker, n| asker.list(n) },
    Question { what: "chart of 100,000 points", ours: 100, theirs: 10, clients: 1, ask: |asker, n| asker.chart(n) },
    Question { what: "version by alias", ours: 3_000, theirs: 500, clients: 1, ask: |asker, n| asker.alias(n) },
    Question {
        what: "version by alias; 8 clients",
        ours: 8_000,
        theirs: 800,
        clients: 8,
        ask: |asker, n| asker.alias(n),
    },
    Question { what: "upload 64 MiB", ours: 10, theirs: 10, clients: 1, ask: |asker, n| asker.upload(n) },
    Question { what: "download 64 MiB", ours: 10, theirs: 10, clients: 1, ask: |asker, n| asker.download(n) },
];

/// Points of the curve that only we are asked for: it takes MLflow too long to take in.
const LONG: usize = 1_000_000;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    // Cargo asks every bench that it lists for its tests.
    if arguments.iter().any(|argument| argument == "--test" || argument == "--list") {
        return;
    }
    let scale = if arguments.iter().any(|argument| argument == "--quick") { 10 } else { 1 };
    let machine = Machine::this();
    let ours = Subject::millpond(&machine);
    let theirs = Subject::mlflow(&machine);
    let subjects = [&ours, &theirs];
    eprintln!("both are up; loading ...");
    let askers = subjects.map(|subject| Asker::load(subject, scale));

    println!("{}{}\n", machine.describe(), if scale == 1 { "" } else { " **A trial at a tenth of the size.**" });
    println!("| | Millpond | MLflow | ratio |\n|---|--:|--:|--:|");
    let [mine, others] = subjects.map(|subject| &subject.idle);
    let idle = [
        ("start, s", mine.start.as_secs_f64(), others.start.as_secs_f64()),
        ("processes", float(mine.processes), float(others.processes)),
        ("resident when idle, MiB", mine.rss_mib, others.rss_mib),
        ("the same, shared pages counted once, MiB", mine.pss_mib, others.pss_mib),
        ("CPU when idle, % of a core", 100.0 * mine.cpu_share, 100.0 * others.cpu_share),
    ];
    for (what, mine, other) in idle {
        println!("| {what} | {mine:.3} | {other:.3} | {} |", ratio(other, mine));
    }
    println!("\n| per call, ms | CPU | CPU, MLflow | ratio | p50 | p99 | p50, MLflow | p99, MLflow | ratio of p50 |");
    println!("|---|--:|--:|--:|--:|--:|--:|--:|--:|");
    for question in &QUESTIONS {
        let [mine, other] = [(&askers[0], question.ours), (&askers[1], question.theirs)]
            .map(|(asker, times)| asker.measure(question.clients, (times / scale).max(2), question.ask));
        println!(
            "| {} | {} | {} | {} |",
            question.what,
            [format!("{:.3}", mine.cpu_ms), format!("{:.3}", other.cpu_ms), ratio(other.cpu_ms, mine.cpu_ms)]
                .join(" | "),
            [cells(&mine), cells(&other)].join(" | "),
            ratio(other.p50.as_secs_f64(), mine.p50.as_secs_f64()),
        );
    }
    askers[0].load_long(LONG / scale);
    let long = askers[0].measure(1, (50 / scale).max(2), |asker, n| asker.chart_long(n));
    println!("| chart of {} points (Millpond only) | {:.3} | | | {} | | | |", LONG / scale, long.cpu_ms, cells(&long));
    drop(askers);
    ours.stop();
    theirs.stop();
}

fn cells(cost: &Cost) -> String {
    format!("{} | {}", millis(cost.p50), millis(cost.p99))
}

fn millis(time: Duration) -> String {
    format!("{:.2}", time.as_secs_f64() * 1e3)
}

/// How many times as much MLflow takes; nothing when ours is too little for the clock.
fn ratio(theirs: f64, ours: f64) -> String {
    if ours > 0.0 { format!("{:.1}", theirs / ours) } else { String::new() }
}

#[expect(clippy::cast_precision_loss, reason = "a small count")]
const fn float(count: usize) -> f64 {
    count as f64
}
