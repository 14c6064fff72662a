//! Feast's own feature server over its default store.

use std::{
    fs,
    net::TcpListener,
    os::unix::process::CommandExt as _,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use tempfile::TempDir;

use crate::support::{python::environment, root};

pub struct Feast {
    child: Child,
    url: String,
    data: TempDir,
}

impl Feast {
    /// Writes the entities and serves them with one worker.
    pub fn start(entities: i64) -> Self {
        let data = tempfile::tempdir().expect("a temporary directory");
        let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port").port();
        let log = fs::File::create(data.path().join("log")).expect("a log");
        let child = Command::new(environment("feast"))
            .arg(root().join("benches/online/peer.py"))
            .args([data.path().display().to_string(), entities.to_string(), port.to_string()])
            .current_dir(data.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").expect("a PATH"))
            .env("HOME", data.path())
            .env("LANG", "C.UTF-8")
            .env("FEAST_USAGE", "False")
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            // So that its workers can be ended with it.
            .process_group(0)
            .spawn()
            .expect("python starts");
        let mut feast = Self { child, url: format!("http://127.0.0.1:{port}"), data };
        eprintln!("Feast writes {entities} entities, which takes minutes ...");
        loop {
            if ureq::get(format!("{}/health", feast.url)).call().is_ok() {
                return feast;
            }
            let ended = feast.child.try_wait().expect("it is our child");
            let said = || fs::read_to_string(feast.data.path().join("log")).unwrap_or_default();
            assert!(ended.is_none(), "Feast's server ended: {}", said());
            thread::sleep(Duration::from_millis(100));
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for Feast {
    fn drop(&mut self) {
        // Already gone is fine.
        let _ = Command::new("kill").args(["--", &format!("-{}", self.child.id())]).status();
        let _ = self.child.wait();
    }
}
