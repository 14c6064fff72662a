//! What end-to-end tests share: the real binary on a free port over a fresh data directory, and a client.
#![allow(dead_code, reason = "each test program uses its own part")]

use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tempfile::TempDir;
use ureq::{
    Agent,
    http::{HeaderMap, Request},
};

pub mod python;
pub mod receiver;
pub mod sensors;
pub mod shop;

/// The binary under test.
pub const MILLPOND: &str = env!("CARGO_BIN_EXE_millpond");

/// The repository's root.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Runs the command line to its end.
pub fn millpond(args: &[&str]) -> Output {
    Command::new(MILLPOND).current_dir(root()).args(args).output().expect("the binary starts")
}

/// A running server; killed (SIGKILL) when dropped.
pub struct Server {
    child: Child,
    pub url: String,
}

/// An answer: its status and its JSON.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub body: Value,
}

impl Answer {
    /// The body of a success.
    #[track_caller]
    pub fn ok(self) -> Value {
        assert!((200..300).contains(&self.status), "{} {}", self.status, self.body);
        self.body
    }

    /// Checks that this is a problem of that status and code, that it says how to mend it, and returns its detail.
    #[track_caller]
    pub fn problem(self, status: u16, code: &str) -> String {
        assert_eq!((self.status, self.body["code"].as_str()), (status, Some(code)), "{}", self.body);
        self.body["detail"].as_str().expect("a problem has a detail").to_owned()
    }
}

impl Server {
    /// Starts on a free port over `data` and waits until it says that it is ready.
    pub fn start(data: &Path) -> Self {
        Self::start_with(data, &[])
    }

    pub fn start_with(data: &Path, flags: &[&str]) -> Self {
        Self::start_to(data, flags, Stdio::inherit())
    }

    /// The same with its log in a file.
    pub fn start_logging(data: &Path, flags: &[&str], log: &Path) -> Self {
        Self::start_to(data, flags, std::fs::File::create(log).expect("a file").into())
    }

    fn start_to(data: &Path, flags: &[&str], log: Stdio) -> Self {
        let mut child = Command::new(MILLPOND)
            .current_dir(root())
            .args(["up", "--listen", "127.0.0.1:0", "--set", "log.filter=warn", "--data-dir"])
            .arg(data)
            .args(flags)
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("the binary starts");
        let lines = BufReader::new(child.stdout.take().expect("stdout is piped")).lines();
        let mut server = Self { child, url: String::new() };
        let mut said = Vec::new();
        for line in lines.map(|line| line.expect("a line comes")) {
            let url = line.split_whitespace().find(|word| word.starts_with("http://") || word.starts_with("https://"));
            if let Some(url) = url {
                url.clone_into(&mut server.url);
                return server;
            }
            said.push(line);
        }
        panic!("the server did not start: {said:?}")
    }

    /// A server over a data directory of its own.
    pub fn fresh() -> (Self, TempDir) {
        let data = tempfile::tempdir().expect("a temporary directory");
        (Self::start(data.path()), data)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL: nothing is flushed, nothing is said.
    pub fn kill(mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
    }

    /// SIGKILL while others still talk to it.
    pub fn kill_now(&self) {
        let sent = Command::new("kill").args(["-9", &self.child.id().to_string()]).status().expect("kill exists");
        assert!(sent.success());
    }

    /// Ends the server and removes its data once this test program ends, however it ends: for servers in statics,
    /// which are never dropped.
    pub fn leash(&self, data: TempDir) {
        // The pipe closes with the program.
        let script = "cat >/dev/null; kill -9 \"$1\"; rm -rf \"$2\"";
        let leash = Command::new("sh")
            .args(["-c", script, "leash", &self.child.id().to_string()])
            .arg(data.keep())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("sh exists");
        std::mem::forget(leash);
    }

    /// SIGTERM, without waiting for the end.
    pub fn terminate(&self) {
        let sent = Command::new("kill").arg(self.child.id().to_string()).status().expect("kill exists");
        assert!(sent.success());
    }

    /// SIGTERM; the exit code.
    pub fn stop(mut self) -> Option<i32> {
        self.terminate();
        self.child.wait().expect("it ends").code()
    }

    pub fn get(&self, path: &str) -> Answer {
        self.call("GET", path, "", b"")
    }

    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.call("POST", path, "application/json", body.to_string().as_bytes())
    }

    pub fn put(&self, path: &str, body: &Value) -> Answer {
        self.call("PUT", path, "application/json", body.to_string().as_bytes())
    }

    pub fn apply(&self, yaml: &str) -> Answer {
        self.call("POST", "/api/v1/definitions", "application/yaml", yaml.as_bytes())
    }

    pub fn ingest(&self, source: &str, kind: &str, body: &[u8]) -> Answer {
        self.call("POST", &format!("/api/v1/sources/{source}/rows"), kind, body)
    }

    pub fn predict(&self, endpoint: &str, instances: &Value) -> Answer {
        self.post(&format!("/api/v1/endpoints/{endpoint}/predict"), &json!({"instances": instances}))
    }

    pub fn call(&self, method: &str, path: &str, kind: &str, body: &[u8]) -> Answer {
        self.try_call(method, path, kind, body).expect("the server answers")
    }

    /// `Err` when the connection breaks, as it does when the server is killed.
    pub fn try_call(&self, method: &str, path: &str, kind: &str, body: &[u8]) -> Result<Answer, ureq::Error> {
        let kind = (!kind.is_empty()).then(|| ("content-type", kind.to_owned()));
        self.send(method, path, kind.as_slice(), body).map(|(_, answer)| answer)
    }

    /// With headers, both ways.
    pub fn call_with(&self, method: &str, path: &str, headers: &[(&str, String)], body: &[u8]) -> (HeaderMap, Answer) {
        self.send(method, path, headers, body).expect("the server answers")
    }

    fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, String)],
        body: &[u8],
    ) -> Result<(HeaderMap, Answer), ureq::Error> {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .allow_non_standard_methods(true)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_global(Some(Duration::from_secs(120)));
        let agent: Agent = config.build().into();
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.url));
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let response = agent.run(request.body(body).expect("a request"))?;
        let (head, body) = response.into_parts();
        let text = body.into_with_config().limit(1 << 30).read_to_string()?;
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        Ok((head.headers, Answer { status: head.status.as_u16(), body }))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Already gone is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks again until the condition holds; fails after a minute, saying what it waited for.
#[track_caller]
pub fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = ask() {
            return found;
        }
        assert!(start.elapsed() < Duration::from_secs(60), "waited a minute for: {what}");
        std::thread::yield_now();
    }
}
