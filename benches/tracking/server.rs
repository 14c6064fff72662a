//! The two servers, and what Linux says of their processes.

use std::{
    collections::BTreeMap,
    fs,
    net::TcpListener,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::support::{self, Server, root};

/// How long a tree is watched at a time until it is at rest.
const WATCH: Duration = Duration::from_secs(5);
/// Times it is watched at most.
const WATCHES: usize = 24;
/// CPU seconds per second below which a tree counts as at rest.
const REST: f64 = 0.10;

/// The machine that is measured on.
pub struct Machine {
    ticks_per_second: f64,
    page_bytes: f64,
}

impl Machine {
    pub fn this() -> Self {
        let number = |name: &str| said("getconf", &[name]).parse().expect("getconf prints a number");
        Self { ticks_per_second: number("CLK_TCK"), page_bytes: number("PAGESIZE") }
    }

    /// One sentence for people.
    pub fn describe(&self) -> String {
        let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpu
            .lines()
            .find_map(|line| line.strip_prefix("model name"))
            .unwrap_or("")
            .trim_start_matches([':', '\t', ' ']);
        let cores = thread::available_parallelism().map_or(0, usize::from);
        let profile = if cfg!(debug_assertions) { "dev profile" } else { "optimised" };
        format!(
            "{}, {cores} cores of {model}, Linux {}, {profile}.",
            said("date", &["-u", "+%Y-%m-%d"]),
            said("uname", &["-r"])
        )
    }
}

fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().expect("the program is there");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// A server that nobody asks anything yet.
pub struct Idle {
    /// From the start of the process to its first answer.
    pub start: Duration,
    pub processes: usize,
    pub rss_mib: f64,
    /// Pages shared by several processes are counted once.
    pub pss_mib: f64,
    /// CPU seconds per second.
    pub cpu_share: f64,
}

enum Process {
    Ours(Server),
    #[expect(dead_code, reason = "held for its end")]
    Theirs(Group),
}

/// A process with all that it starts; ends with us.
struct Group(Child);

impl Drop for Group {
    fn drop(&mut self) {
        // Already gone is fine.
        let _ = Command::new("kill").args(["--", &format!("-{}", self.0.id())]).status();
        let _ = self.0.wait();
    }
}

/// A server under measurement.
pub struct Subject {
    process: Process,
    pid: u32,
    pub url: String,
    pub idle: Idle,
    ticks_per_second: f64,
    _data: TempDir,
}

impl Subject {
    pub fn millpond(machine: &Machine) -> Self {
        let started = Instant::now();
        let (server, data) = Server::fresh();
        let (pid, url) = (server.pid(), server.url.clone());
        Self::ready(machine, started, Process::Ours(server), pid, url, data)
    }

    /// MLflow's server as it comes, but for its telemetry.
    pub fn mlflow(machine: &Machine) -> Self {
        let python = root().join(".tools/mlflow/bin/python");
        assert!(python.exists(), "{} is not there: run `cargo xtask setup`", python.display());
        let data = tempfile::tempdir().expect("a temporary directory");
        let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port").port();
        let log = fs::File::create(data.path().join("log")).expect("a log");
        let started = Instant::now();
        let child = Command::new(python)
            .args(["-m", "mlflow", "server", "--host", "127.0.0.1", "--port", &port.to_string()])
            .args(["--backend-store-uri", &format!("sqlite:///{}/mlflow.db", data.path().display())])
            .args(["--artifacts-destination", &data.path().join("artifacts").display().to_string()])
            .current_dir(data.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").expect("a PATH"))
            .env("HOME", data.path())
            .env("LANG", "C.UTF-8")
            .env("MLFLOW_DISABLE_TELEMETRY", "true")
            .env("DO_NOT_TRACK", "true")
            .env("GIT_PYTHON_REFRESH", "quiet")
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            // So that its workers can be ended with it.
            .process_group(0)
            .spawn()
            .expect("python starts");
        let pid = child.id();
        Self::ready(machine, started, Process::Theirs(Group(child)), pid, format!("http://127.0.0.1:{port}"), data)
    }

    fn ready(machine: &Machine, started: Instant, process: Process, pid: u32, url: String, data: TempDir) -> Self {
        let idle = Idle { start: Duration::ZERO, processes: 0, rss_mib: 0.0, pss_mib: 0.0, cpu_share: 0.0 };
        let mut subject = Self { process, pid, url, idle, ticks_per_second: machine.ticks_per_second, _data: data };
        support::eventually(&format!("an answer from {}", subject.url), || {
            let answered = ureq::get(format!("{}/health", subject.url)).call().is_ok();
            if !answered {
                thread::sleep(Duration::from_millis(5));
            }
            answered.then_some(())
        });
        subject.idle.start = started.elapsed();
        // Processes started beside the one that answers go on starting for a while.
        for _ in 0..WATCHES {
            let (before, since) = (subject.cpu_seconds(), Instant::now());
            thread::sleep(WATCH);
            subject.idle.cpu_share = (subject.cpu_seconds() - before) / since.elapsed().as_secs_f64();
            if subject.idle.cpu_share < REST {
                break;
            }
        }
        let tree = tree(pid);
        subject.idle.processes = tree.len();
        subject.idle.rss_mib = tree.iter().map(|(pid, _)| resident_pages(*pid)).sum::<f64>() * machine.page_bytes / MIB;
        subject.idle.pss_mib = tree.iter().map(|(pid, _)| proportional_kib(*pid)).sum::<f64>() / 1024.0;
        subject
    }

    /// User and system time of the whole tree, and of children that have ended.
    pub fn cpu_seconds(&self) -> f64 {
        tree(self.pid).iter().map(|(_, ticks)| ticks).sum::<f64>() / self.ticks_per_second
    }

    /// Ends it; ours in order.
    pub fn stop(self) {
        if let Process::Ours(server) = self.process {
            assert_eq!(server.stop(), Some(0), "the server ends in order");
        }
    }
}

const MIB: f64 = 1024.0 * 1024.0;

/// The living processes of a tree, with the ticks each and its ended children have taken.
fn tree(top: u32) -> Vec<(u32, f64)> {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    let mut ticks: BTreeMap<u32, f64> = BTreeMap::new();
    for entry in fs::read_dir("/proc").expect("Linux").flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        // It may have ended by now.
        let Some((parent, taken)) = stat(&entry.path()) else { continue };
        children.entry(parent).or_default().push(pid);
        ticks.insert(pid, taken);
    }
    let mut found = Vec::new();
    let mut open = vec![top];
    while let Some(pid) = open.pop() {
        if let Some(taken) = ticks.get(&pid) {
            found.push((pid, *taken));
        }
        open.extend(children.remove(&pid).unwrap_or_default());
    }
    found
}

/// Parent, and ticks in user and system mode with those of children that were waited for.
fn stat(process: &Path) -> Option<(u32, f64)> {
    let text = fs::read_to_string(process.join("stat")).ok()?;
    // The name, in parentheses, may hold anything.
    let fields: Vec<&str> = text[text.rfind(')')? + 1..].split_whitespace().collect();
    let ticks = fields.get(11..15)?.iter().map(|field| field.parse::<f64>().ok()).sum::<Option<f64>>()?;
    Some((fields.get(1)?.parse().ok()?, ticks))
}

fn resident_pages(pid: u32) -> f64 {
    let text = fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    text.split_whitespace().nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0.0)
}

fn proportional_kib(pid: u32) -> f64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
    line.and_then(|rest| rest.split_whitespace().next()).and_then(|kib| kib.parse().ok()).unwrap_or(0.0)
}
