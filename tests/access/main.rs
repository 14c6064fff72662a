//! Projects, tokens, roles and the audit log: the real binary, asked as everybody.

#[path = "../support/mod.rs"]
mod support;

mod approvals;
mod audit;
mod client;
mod connections;
mod grpc;
mod listening;
mod roles;
mod tenants;

use std::path::Path;

use serde_json::{Value, json};
use support::{Answer, MILLPOND, Server};
use tempfile::TempDir;

/// A server that wants tokens, its data, and the token of its first admin.
pub struct Guarded {
    pub server: Server,
    /// Taken by the leash of a server that is never dropped.
    data: Option<TempDir>,
    pub root: String,
}

/// Who asks: headers of the request.
#[derive(Debug, Clone, Default)]
pub struct As {
    pub token: Option<String>,
    pub project: Option<&'static str>,
}

impl As {
    pub fn token(token: &str) -> Self {
        Self { token: Some(token.to_owned()), project: None }
    }

    pub fn within(self, project: &'static str) -> Self {
        Self { project: Some(project), ..self }
    }
}

const GUARDED: [&str; 2] = ["--set", "access.required=true"];

impl Guarded {
    pub fn fresh() -> Self {
        Self::with(&[])
    }

    pub fn with(flags: &[&str]) -> Self {
        let data = tempfile::tempdir().expect("a directory");
        let server = start(data.path(), flags);
        let root = std::fs::read_to_string(data.path().join("first-admin.token")).expect("the first admin's token");
        Self::of(server, data, &root)
    }

    pub fn of(server: Server, data: TempDir, root: &str) -> Self {
        Self { server, data: Some(data), root: root.trim().to_owned() }
    }

    pub fn data(&self) -> &Path {
        self.data.as_ref().expect("not on a leash").path()
    }

    /// Started again over the same data after `end` has ended it.
    pub fn again(self, end: impl FnOnce(Server)) -> Self {
        let Self { server, data, root } = self;
        end(server);
        let data = data.expect("not on a leash");
        Self::of(start(data.path(), &[]), data, &root)
    }

    /// For a static, which is never dropped.
    pub fn leashed(mut self) -> Self {
        self.server.leash(self.data.take().expect("not on a leash yet"));
        self
    }

    /// Makes a token with that role and scopes in a project.
    pub fn token(&self, project: &'static str, name: &str, role: &str, scopes: &[&str]) -> String {
        let body = json!({"name": name, "role": role, "scopes": scopes});
        let made = self.ask(&As::token(&self.root).within(project), "POST", "/api/v1/tokens", &body).ok();
        made["secret"].as_str().expect("a secret").to_owned()
    }

    pub fn create_project(&self, name: &str) {
        self.ask(&As::token(&self.root), "POST", "/api/v1/projects", &json!({"name": name})).ok();
    }

    pub fn ask(&self, who: &As, method: &str, path: &str, body: &Value) -> Answer {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.server.call_with(method, path, &headers(who, "application/json"), body.as_bytes()).1
    }

    pub fn get(&self, who: &As, path: &str) -> Answer {
        self.ask(who, "GET", path, &Value::Null)
    }
}

pub fn start(data: &Path, flags: &[&str]) -> Server {
    Server::start_with(data, &[&GUARDED, flags].concat())
}

/// The headers that say who asks.
pub fn headers(who: &As, kind: &str) -> Vec<(&'static str, String)> {
    let mut headers = vec![("content-type", kind.to_owned())];
    headers.extend(who.token.as_ref().map(|token| ("authorization", format!("Bearer {token}"))));
    headers.extend(who.project.map(|project| ("x-millpond-project", project.to_owned())));
    headers
}

/// Runs the command line against a server as the holder of a token.
pub fn millpond_as(server: &Server, token: &str, args: &[&str]) -> std::process::Output {
    let mut command = std::process::Command::new(MILLPOND);
    command.args(args).env("MILLPOND_URL", &server.url).env("MILLPOND_TOKEN", token);
    command.output().expect("the binary starts")
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
