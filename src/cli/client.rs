//! A small blocking client of the REST API, as any user could write it.

use std::{fs::File, time::Duration};

use anyhow::Context as _;
use domain::Digest;
use serde::Deserialize;
use serde_json::Value;
use ureq::{
    Agent, Body, SendBody,
    http::{Method, Request, Response, request::Builder},
    tls::{PemItem, RootCerts, TlsConfig, parse_pem},
};

use super::Global;

/// One server, one pool of connections.
#[derive(Clone)]
pub struct Client {
    base: String,
    authorization: Option<String>,
    project: Option<String>,
    agent: Agent,
}

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    #[error("no millpond answers at {url}: {reason}; {}", way_out(reason))]
    Unreachable { url: String, reason: String },
    /// The server's own words.
    #[error("{detail}{}", hint.as_deref().filter(|h| !h.is_empty()).map(|h| format!(" ({h})")).unwrap_or_default())]
    Refused { status: u16, code: String, detail: String, hint: Option<String> },
    #[error("the answer to {path} was not JSON: {reason}")]
    NotJson { path: String, reason: String },
}

fn way_out(reason: &str) -> &'static str {
    if reason.contains("certificate") {
        "name a file of certificates to trust with --ca, and ask for the server by a name that its certificate has"
    } else {
        "start one with `millpond up`, or name another with --url"
    }
}

#[derive(Deserialize)]
struct Problem {
    #[serde(alias = "error_code")]
    code: String,
    /// MLflow's API, which takes files, calls it otherwise.
    #[serde(alias = "message")]
    detail: String,
    hint: Option<String>,
}

/// The type of a body.
pub const JSON: &str = "application/json";

impl Client {
    /// The server that the command line names.
    ///
    /// # Errors
    /// A file of certificates that cannot be read.
    pub fn new(global: &Global) -> anyhow::Result<Self> {
        Self::with_limit(global, Some(Duration::from_secs(120)))
    }

    /// For calls that take as long as there are bytes to read: waits for an answer without limit.
    ///
    /// # Errors
    /// As [`Client::new`].
    pub fn patient(global: &Global) -> anyhow::Result<Self> {
        Self::with_limit(global, None)
    }

    fn with_limit(global: &Global, limit: Option<Duration>) -> anyhow::Result<Self> {
        let mut tls = TlsConfig::builder();
        if let Some(path) = &global.ca {
            let what = || format!("could not read certificates from `{}`", path.display());
            let pem = std::fs::read(path).with_context(what)?;
            let all: Vec<_> = parse_pem(&pem)
                .filter_map(|item| match item {
                    Ok(PemItem::Certificate(certificate)) => Some(Ok(certificate)),
                    Ok(_) => None,
                    Err(error) => Some(Err(error)),
                })
                .collect::<Result<_, _>>()
                .with_context(what)?;
            tls = tls.root_certs(RootCerts::new_with_certs(&all));
        }
        let config = Agent::config_builder()
            .tls_config(tls.build())
            .http_status_as_error(false)
            .timeout_connect(Some(Duration::from_secs(5)))
            .timeout_global(limit)
            .max_idle_connections_per_host(32)
            .build();
        let authorization = global.token.as_ref().map(|token| format!("Bearer {}", token.trim()));
        let (base, project) = (global.url.trim_end_matches('/').to_owned(), global.project.clone());
        Ok(Self { base, authorization, project, agent: config.into() })
    }

    #[must_use]
    pub fn base(&self) -> &str {
        &self.base
    }

    pub fn get(&self, path: &str) -> Result<Value, CallError> {
        self.call(Method::GET, path, "", &[])
    }

    pub fn post(&self, path: &str, body: &Value) -> Result<Value, CallError> {
        self.call(Method::POST, path, JSON, body.to_string().as_bytes())
    }

    pub fn put(&self, path: &str, body: &Value) -> Result<Value, CallError> {
        self.call(Method::PUT, path, JSON, body.to_string().as_bytes())
    }

    /// With a body only where the call reads one: one that is not read may cost the connection.
    pub fn delete(&self, path: &str, body: Option<&Value>) -> Result<Value, CallError> {
        match body {
            Some(body) => self.call(Method::DELETE, path, JSON, body.to_string().as_bytes()),
            None => self.call(Method::DELETE, path, "", &[]),
        }
    }

    /// Sends bytes of any type.
    pub fn send(&self, path: &str, kind: &str, body: &[u8]) -> Result<Value, CallError> {
        self.call(Method::POST, path, kind, body)
    }

    /// Puts a file, of which only a piece at a time is in memory. `digest` is what its bytes must come to.
    pub fn upload(&self, path: &str, file: File, digest: &Digest) -> Result<Value, CallError> {
        let length = file.metadata().map_err(|e| self.unreachable(&e))?.len();
        let request = Request::builder()
            .method(Method::PUT)
            .uri(format!("{}{path}", self.base))
            .header("content-length", length)
            .header("x-content-sha256", digest.to_string());
        let request = self.signed(request).body(SendBody::from_owned_reader(file)).map_err(|e| self.unreachable(&e))?;
        self.answer(path, self.agent.run(request))
    }

    fn unreachable(&self, reason: &dyn std::fmt::Display) -> CallError {
        CallError::Unreachable { url: self.base.clone(), reason: reason.to_string() }
    }

    fn call(&self, method: Method, path: &str, kind: &str, body: &[u8]) -> Result<Value, CallError> {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.base));
        if !kind.is_empty() {
            request = request.header("content-type", kind);
        }
        let request = self.signed(request).body(body).map_err(|e| self.unreachable(&e))?;
        self.answer(path, self.agent.run(request))
    }

    /// With what says who asks.
    fn signed(&self, mut request: Builder) -> Builder {
        for (name, value) in [("authorization", &self.authorization), ("x-millpond-project", &self.project)] {
            if let Some(value) = value {
                request = request.header(name, value);
            }
        }
        request
    }

    fn answer(&self, path: &str, response: Result<Response<Body>, ureq::Error>) -> Result<Value, CallError> {
        let unreachable = |reason: &dyn std::fmt::Display| self.unreachable(reason);
        let response = response.map_err(|e| unreachable(&e))?;
        let status = response.status().as_u16();
        let text = response
            .into_body()
            .into_with_config()
            .limit(256 * 1024 * 1024)
            .read_to_string()
            .map_err(|e| unreachable(&e))?;
        if status == 204 {
            return Ok(Value::Null);
        }
        if (200..300).contains(&status) {
            return serde_json::from_str(&text)
                .map_err(|e| CallError::NotJson { path: path.to_owned(), reason: e.to_string() });
        }
        Err(match serde_json::from_str::<Problem>(&text) {
            Ok(problem) => {
                CallError::Refused { status, code: problem.code, detail: problem.detail, hint: problem.hint }
            }
            Err(_) => {
                CallError::Refused { status, code: String::new(), detail: format!("status {status}"), hint: None }
            }
        })
    }
}

/// A name or value as it stands in a path or query.
#[must_use]
pub fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}
