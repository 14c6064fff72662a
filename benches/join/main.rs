//! How long does a point-in-time join take, and what memory, beside DuckDB and Polars over the same files?
//!
//! A spine and three views as Parquet in, 25 columns as Parquet out; each join in a process of its own that may use all
//! cores, one after the other. The answers are compared row for row by a digest. Prints the table in
//! `docs/benchmarks.md`: sizes 1/100, 1/10 and 1 of a million questions over ten million rows. `-- --quick` stops at 1/10;
//! `-- --large` joins ten million to a hundred million instead, ours within 4 GiB.

mod data;
mod digest;

use std::{
    env,
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use data::{Size, VIEWS};
use feature_store::join::{Compression, Join, Options};
use serde_json::{Value, json};

/// What our join may keep, and at the large size.
const MEMORY: usize = 512 << 20;
const MEMORY_LARGE: usize = 3 << 30;

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
    let sizes: &[Size] = match () {
        () if has("--large") => &[Size(1_000)],
        () if has("--quick") => &[Size(1), Size(10)],
        () => &[Size(1), Size(10), Size(100)],
    };
    println!("{}\n", machine());
    println!(
        "| rows of the spine, of the views | | wall, s | CPU, s | peak, MiB | CPU of DuckDB's | memory of DuckDB's | answer |"
    );
    println!("|---|---|--:|--:|--:|--:|--:|---|");
    for size in sizes {
        measure(*size, !has("--large"));
    }
}

/// What one join took.
struct Cost {
    who: String,
    wall_s: f64,
    cpu_s: f64,
    peak_mib: f64,
    answer: Result<String, String>,
}

fn measure(size: Size, sorted: bool) {
    let dir = tempfile::Builder::new().prefix("join-").tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let dir = dir.path();
    let mut generate = Command::new(env::current_exe().expect("this program"));
    let hundredths = size.0.to_string();
    let status =
        generate.args(["--child", "data", &hundredths, if sorted { "sorted" } else { "raw" }]).arg(dir).status();
    assert!(status.expect("this program").success(), "the data are not there");
    let memory = if size.0 > 100 { MEMORY_LARGE } else { MEMORY };
    let mut costs = vec![peer("duckdb", dir), peer("polars", dir), ours(dir, "raw", memory)];
    if sorted {
        costs.push(ours(dir, "sorted", memory));
    }
    let (cpu, peak) = (costs[0].cpu_s, costs[0].peak_mib);
    let right = costs[0].answer.clone();
    for cost in &costs {
        let answer = match (&cost.answer, &right) {
            (Err(error), _) => error.as_str(),
            (Ok(found), Ok(right)) if found == right => "the same",
            (Ok(_), Ok(_)) => "ANOTHER",
            (Ok(_), Err(_)) => "not compared",
        };
        println!(
            "| {}, {} | {} | {:.2} | {:.2} | {:.0} | {:.2} | {:.2} | {answer} |",
            data::thousands(size.spine_rows()),
            data::thousands(size.view_rows()),
            cost.who,
            cost.wall_s,
            cost.cpu_s,
            cost.peak_mib,
            cost.cpu_s / cpu,
            cost.peak_mib / peak,
        );
    }
}

/// Runs the command, whose last line of output says what it took, and digests what it wrote.
fn run(who: &str, command: &mut Command, out: &Path) -> Cost {
    let output = command.output().expect("the program starts");
    let said = String::from_utf8_lossy(&output.stdout);
    let cost: Option<Value> = said.lines().last().and_then(|line| serde_json::from_str(line).ok());
    let number = |name: &str| cost.as_ref().and_then(|cost| cost[name].as_f64()).unwrap_or(f64::NAN);
    let version = cost.as_ref().and_then(|cost| cost["version"].as_str()).unwrap_or_default();
    let answer = if output.status.success() {
        Ok(digest::of(out))
    } else {
        let reason = String::from_utf8_lossy(&output.stderr);
        eprintln!("{who}: {}\n{reason}", output.status);
        Err(format!("ended with {}", output.status))
    };
    // Absent when the join failed.
    let _ = fs::remove_file(out);
    Cost {
        who: format!("{who} {version}").trim().to_owned(),
        wall_s: number("wall_s"),
        cpu_s: number("cpu_s"),
        peak_mib: number("peak_mib"),
        answer,
    }
}

fn peer(who: &str, dir: &Path) -> Cost {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = root.join(".tools/join/bin/python");
    assert!(python.exists(), "{} is not there: run `cargo xtask setup bench`", python.display());
    let views: Vec<Value> = VIEWS
        .iter()
        .map(|view| {
            let file = data::path(dir, view.name, false);
            json!({"name": view.name, "file": file, "keys": view.keys, "features": view.features, "ttl_days": view.ttl_days})
        })
        .collect();
    let out = dir.join(format!("{who}.out.parquet"));
    let mut command = Command::new(python);
    command.arg(root.join("benches/join/peers.py")).arg(who).arg(dir).arg(&out).arg(json!(views).to_string());
    run(if who == "duckdb" { "DuckDB" } else { "Polars" }, &mut command, &out)
}

fn ours(dir: &Path, layout: &str, memory: usize) -> Cost {
    let out = dir.join("millpond.out.parquet");
    let mut command = Command::new(env::current_exe().expect("this program"));
    command.args(["--child", layout, &memory.to_string()]).arg(dir).arg(&out);
    let name = if layout == "raw" { "Millpond" } else { "Millpond, views sorted by key and time" };
    run(name, &mut command, &out)
}

/// What has a process of its own: making the data, or joining them.
fn child(arguments: &[String]) {
    if let [what, hundredths, layout, dir] = arguments
        && what == "data"
    {
        let size = Size(hundredths.parse().expect("hundredths"));
        return data::generate(Path::new(dir), size, layout == "sorted");
    }
    let [layout, memory, dir, out] = arguments else { panic!("a layout, bytes of memory, a directory and a file") };
    let (dir, out) = (PathBuf::from(dir), PathBuf::from(out));
    let options =
        Options { memory_bytes: memory.parse().expect("bytes"), temporary: dir.clone(), ..Options::default() };
    let (started, before) = (Instant::now(), cpu_s());
    let join = Join::new(data::spine(&dir), data::views(&dir, layout == "sorted"), options).expect("a lawful join");
    let sink = File::create(out).expect("a file for the rows");
    join.run().write_parquet(sink, Compression::Snappy).expect("the join goes well");
    let cost = json!({"wall_s": started.elapsed().as_secs_f64(), "cpu_s": cpu_s() - before, "peak_mib": peak_mib()});
    println!("{cost}");
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
