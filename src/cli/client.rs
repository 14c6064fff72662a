//! A small blocking client of the REST API, as any user could write it.

use std::time::Duration;

use anyhow::Context as _;
use serde::Deserialize;
use serde_json::Value;
use ureq::{
    Agent, Body,
    http::{Method, Request, Response},
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
    #[error("no millpond answers at {url}: {reason}; start one with `millpond up`, or name another with --url")]
    Unreachable { url: String, reason: String },
    /// The server's own words.
    #[error("{detail}{}", hint.as_deref().filter(|h| !h.is_empty()).map(|h| format!(" ({h})")).unwrap_or_default())]
    Refused { status: u16, code: String, detail: String, hint: Option<String> },
    #[error("the answer to {path} was not JSON: {reason}")]
    NotJson { path: String, reason: String },
}

#[derive(Deserialize)]
struct Problem {
    code: String,
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
            .timeout_global(Some(Duration::from_secs(120)))
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

    pub fn delete(&self, path: &str) -> Result<Value, CallError> {
        self.call(Method::DELETE, path, "", &[])
    }

    pub fn put(&self, path: &str, body: &Value) -> Result<Value, CallError> {
        self.call(Method::PUT, path, JSON, body.to_string().as_bytes())
    }

    /// Deletes, and says why.
    pub fn delete_with(&self, path: &str, body: &Value) -> Result<Value, CallError> {
        self.call(Method::DELETE, path, JSON, body.to_string().as_bytes())
    }

    /// Sends bytes of any type.
    pub fn send(&self, path: &str, kind: &str, body: &[u8]) -> Result<Value, CallError> {
        self.call(Method::POST, path, kind, body)
    }

    fn call(&self, method: Method, path: &str, kind: &str, body: &[u8]) -> Result<Value, CallError> {
        let url = format!("{}{path}", self.base);
        let unreachable = |reason: &dyn std::fmt::Display| CallError::Unreachable {
            url: self.base.clone(),
            reason: reason.to_string(),
        };
        let mut request = Request::builder().method(method).uri(&url);
        if !kind.is_empty() {
            request = request.header("content-type", kind);
        }
        for (name, value) in [("authorization", &self.authorization), ("x-millpond-project", &self.project)] {
            if let Some(value) = value {
                request = request.header(name, value);
            }
        }
        let request = request.body(body).map_err(|e| unreachable(&e))?;
        let response: Response<Body> = self.agent.run(request).map_err(|e| unreachable(&e))?;
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
