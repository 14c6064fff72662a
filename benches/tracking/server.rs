//! The two servers, and what Linux says of their processes.

use std::{
    fs,
    net::TcpListener,
    os::unix::process::CommandExt as _,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::{
    process::{Machine, proportional_kib, resident_pages, tree},
    support::{self, Server, root},
};

/// How long a tree is watched at a time until it is at rest.
const WATCH: Duration = Duration::from_secs(5);
/// Times it is watched at most.
const WATCHES: usize = 24;
/// CPU seconds per second below which a tree counts as at rest.
const REST: f64 = 0.10;

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
