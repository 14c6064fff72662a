//! Settings: one table, one typed struct, one order of precedence.
//!
//! Defaults give way to the TOML file, the file to the environment (`MILLPOND_SECTION_KEY`), the
//! environment to flags. A key that is not in the table is an error that names the nearest one.

mod database;
mod error;
mod load;
mod objects;
mod redis;
mod table;

pub use database::DatabaseUrl;
pub use error::ConfigError;
pub use load::{Loaded, Row, Source, load};
pub use objects::{ObjectsUrl, Secret};
pub use redis::RedisServers;
pub use table::{SETTINGS, Setting, reference_markdown};

use std::{
    fmt,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use domain::Span;
use serde::Serialize;

/// Environment variables that begin like a setting and are none: the path of the file, and what the command line needs
/// to talk to a server.
pub const RESERVED_ENV: [&str; 5] =
    ["MILLPOND_CONFIG", "MILLPOND_URL", "MILLPOND_TOKEN", "MILLPOND_PROJECT", "MILLPOND_CA"];

/// Everything that can be set. Each field is described in [`SETTINGS`].
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Config {
    pub server: Server,
    pub access: Access,
    pub tls: Tls,
    pub data: Data,
    pub metadata: Metadata,
    pub objects: Objects,
    pub gc: Gc,
    pub tables: Tables,
    pub consistency: Consistency,
    pub onnx: Onnx,
    pub features: Features,
    pub sql: Sql,
    pub joins: Joins,
    pub ingestion: Ingestion,
    pub serving: Serving,
    pub training: Training,
    pub webhooks: Webhooks,
    pub log: Log,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Server {
    pub listen: SocketAddr,
    /// In lower case, each with or without a port.
    pub allowed_hosts: Vec<String>,
    pub max_connections: usize,
    pub connection_idle: Span,
    pub max_body_bytes: usize,
    pub max_artifact_bytes: usize,
    pub request_deadline: Span,
    pub transfer_idle: Span,
    pub drain: Span,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Access {
    /// Whether a call needs a token.
    pub required: bool,
    pub open_to_network: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Tls {
    /// Absent, with its key: no TLS.
    pub certificate: Option<PathBuf>,
    pub key: Option<PathBuf>,
    /// Absent: clients need no certificate.
    pub client_ca: Option<PathBuf>,
    pub plain_to_network: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Data {
    pub dir: PathBuf,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Metadata {
    /// Absent: a SQLite file in the data directory.
    pub url: Option<DatabaseUrl>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Objects {
    /// Absent: files in the data directory.
    pub url: Option<ObjectsUrl>,
    /// Absent: AWS.
    pub endpoint: Option<String>,
    pub region: Option<String>,
    /// Absent: where there is an endpoint.
    pub path_style: Option<bool>,
    /// Both or none.
    pub access_key: Option<Secret>,
    pub secret_key: Option<Secret>,
    pub direct: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Gc {
    /// Zero: never by itself.
    pub every: Span,
    pub grace: Span,
}

/// Offline tables of sources.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Tables {
    /// Zero: never by itself.
    pub upkeep_every: Span,
    pub keep_versions: Span,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Consistency {
    /// 0 to 1.
    pub share: f64,
    /// Zero: never by itself.
    pub every: Span,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Onnx {
    /// Absent: searched for.
    pub library: Option<PathBuf>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Features {
    pub join_memory_bytes: usize,
}

/// Questions in SQL.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Sql {
    pub memory_bytes: usize,
    pub at_once: usize,
    pub deadline: Span,
    /// 0: one per core.
    pub threads: usize,
}

/// Point-in-time joins beside this process.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Joins {
    pub place: Place,
    /// `sc://host:port/;use_ssl=true`. Absent: there is no Spark.
    pub spark_url: Option<Secret>,
    pub spark_token_file: Option<PathBuf>,
    pub spark_ca_file: Option<PathBuf>,
    pub spark_deadline: Span,
}

/// Where joins run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// Here, unless there is a Spark server and the join would not fit.
    #[default]
    Auto,
    Local,
    Spark,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Local => "local",
            Self::Spark => "spark",
        })
    }
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Ingestion {
    /// Of each source.
    pub quarantine_rows: usize,
    pub quarantine_keep: Span,
    /// Folders that files may be loaded from; empty: none may.
    pub paths: Vec<PathBuf>,
    pub parquet_bytes_max: usize,
    /// That streams are read from.
    pub redis: RedisServers,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Serving {
    pub max_in_flight: usize,
    pub queue_rows: usize,
    pub max_batch_rows: usize,
    /// 0: one per core.
    pub threads: usize,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Training {
    pub max_parallel: usize,
    /// 0: one per core.
    pub threads: usize,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Webhooks {
    pub allow_private: bool,
    pub attempts: usize,
    pub first_retry: Span,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Log {
    pub format: LogFormat,
    pub filter: String,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For machines: one JSON object per line.
    Json,
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "text",
            Self::Json => "json",
        })
    }
}

impl Default for Config {
    fn default() -> Self {
        let seconds = |count: i64| Span::from_micros(count * 1_000_000);
        Self {
            server: Server {
                listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
                allowed_hosts: Vec::new(),
                max_connections: 8_192,
                connection_idle: seconds(60),
                max_body_bytes: 16 << 20,
                max_artifact_bytes: 64 << 30,
                request_deadline: seconds(10),
                transfer_idle: seconds(30),
                drain: seconds(10),
            },
            access: Access { required: false, open_to_network: false },
            tls: Tls { certificate: None, key: None, client_ca: None, plain_to_network: false },
            data: Data { dir: PathBuf::from("./data") },
            metadata: Metadata { url: None },
            objects: Objects {
                url: None,
                endpoint: None,
                region: None,
                path_style: None,
                access_key: None,
                secret_key: None,
                direct: true,
            },
            gc: Gc { every: Span::DAY, grace: Span::from_micros(7 * Span::DAY.micros()) },
            tables: Tables {
                upkeep_every: Span::from_micros(10 * 60_000_000),
                keep_versions: Span::from_micros(30 * Span::DAY.micros()),
            },
            consistency: Consistency { share: 0.01, every: seconds(300) },
            onnx: Onnx { library: None },
            features: Features { join_memory_bytes: 1 << 30 },
            sql: Sql { memory_bytes: 512 << 20, at_once: 4, deadline: seconds(300), threads: 0 },
            joins: Joins {
                place: Place::Auto,
                spark_url: None,
                spark_token_file: None,
                spark_ca_file: None,
                spark_deadline: seconds(3_600),
            },
            ingestion: Ingestion {
                quarantine_rows: 100_000,
                quarantine_keep: Span::from_micros(30 * Span::DAY.micros()),
                paths: Vec::new(),
                parquet_bytes_max: 1 << 30,
                redis: RedisServers::default(),
            },
            serving: Serving { max_in_flight: 256, queue_rows: 4096, max_batch_rows: 256, threads: 0 },
            training: Training { max_parallel: 1, threads: 0 },
            webhooks: Webhooks { allow_private: false, attempts: 8, first_retry: seconds(1) },
            log: Log { format: LogFormat::Text, filter: "info".to_owned() },
        }
    }
}

impl Config {
    /// The reference page, generated from the table.
    #[must_use]
    pub fn reference_markdown() -> String {
        reference_markdown()
    }
}
