//! The one table of settings.

use std::{
    fmt::Write as _,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use domain::Span;

use super::{Config, DatabaseUrl, LogFormat, ObjectsUrl, Place, Secret, objects::endpoint};
use crate::telemetry::parse_filter;

/// One setting: how it is called, what it means, and how its text becomes a field of [`Config`].
#[derive(Debug)]
pub struct Setting {
    /// `section.key`.
    pub key: &'static str,
    /// Unit or form of the value.
    pub unit: &'static str,
    /// What it does and when to change it.
    pub doc: &'static str,
    /// Whether a value that does not fit may be repeated: it may hold a password otherwise.
    pub(super) shown: bool,
    /// Reads the value into the config; the error says what was expected.
    pub(super) set: fn(&mut Config, &str) -> Result<(), String>,
    /// Shows the value as `set` reads it.
    pub(super) show: fn(&Config) -> String,
}

impl Setting {
    /// The environment variable that sets it.
    #[must_use]
    pub fn env(&self) -> String {
        format!("MILLPOND_{}", self.key.replace('.', "_").to_uppercase())
    }

    /// The value where nobody set it.
    #[must_use]
    pub fn default_value(&self) -> String {
        (self.show)(&Config::default())
    }
}

/// `section.key` as a path into the config, its reader and its writer.
macro_rules! setting {
    ($section:ident . $key:ident, $unit:literal, $read:expr, $show:expr, $doc:literal) => {
        setting!($section.$key, $unit, $read, $show, $doc, true)
    };
    ($section:ident . $key:ident, $unit:literal, $read:expr, $show:expr, $doc:literal, $shown:literal) => {
        Setting {
            shown: $shown,
            key: concat!(stringify!($section), ".", stringify!($key)),
            unit: $unit,
            doc: $doc,
            set: |config, text| {
                config.$section.$key = $read(text)?;
                Ok(())
            },
            show: |config| $show(&config.$section.$key),
        }
    };
}

/// Every setting, by section.
pub const SETTINGS: &[Setting] = &[
    setting!(
        server.listen,
        "address:port",
        address,
        ToString::to_string,
        "Where REST, gRPC and pages are served. Port 0 takes a free one. Any but a loopback address needs `access.required` and TLS."
    ),
    setting!(
        server.allowed_hosts,
        "names",
        hosts,
        hosts_text,
        "Names, besides loopback ones and the address listened on, under which requests may ask for this server and from whose \
         pages they may come. Set it behind a proxy: `ml.example.org, ml.example.org:8443`."
    ),
    setting!(
        server.max_connections,
        "connections",
        positive,
        ToString::to_string,
        "Connections that are open at once; more wait to be accepted. Each needs a file descriptor (`ulimit -n`)."
    ),
    setting!(
        server.connection_idle,
        "duration",
        some_time,
        ToString::to_string,
        "How long a connection of HTTP/1.1 may take for the head of its next request before it is closed."
    ),
    setting!(
        server.max_body_bytes,
        "bytes",
        bytes,
        ToString::to_string,
        "Largest request body; a larger one is answered 413. Raise it to ingest larger files in one request."
    ),
    setting!(
        server.max_artifact_bytes,
        "bytes",
        bytes,
        ToString::to_string,
        "Largest artifact, or part of one, that is taken in one request; a larger one is answered 413."
    ),
    setting!(
        server.request_deadline,
        "duration",
        some_time,
        ToString::to_string,
        "Time a prediction may take before it is answered 504. Lower it when callers give up earlier."
    ),
    setting!(
        server.transfer_idle,
        "duration",
        some_time,
        ToString::to_string,
        "How long an artifact on its way in or out may stand still before the connection is given up. A transfer that moves may last."
    ),
    setting!(
        server.drain,
        "duration",
        duration,
        ToString::to_string,
        "On SIGTERM, how long requests and tasks in progress may take to finish before they are named and left."
    ),
    setting!(
        access.required,
        "`true` or `false`",
        truth,
        ToString::to_string,
        "Whether a call needs a token. Where it does not, whoever reaches the address may do everything."
    ),
    setting!(
        access.open_to_network,
        "`true` or `false`",
        truth,
        ToString::to_string,
        "Listen on an address that is not loopback although calls need no token: everyone who reaches it may do everything."
    ),
    setting!(
        tls.certificate,
        "path",
        optional_path,
        optional_path_text,
        "Certificate chain as PEM, the server's own first. Read again when the file changes. Empty: no TLS."
    ),
    setting!(tls.key, "path", optional_path, optional_path_text, "Private key of the certificate, as PEM."),
    setting!(
        tls.client_ca,
        "path",
        optional_path,
        optional_path_text,
        "Certificates (PEM) that a client's must be signed by. Empty: clients need none."
    ),
    setting!(
        tls.plain_to_network,
        "`true` or `false`",
        truth,
        ToString::to_string,
        "Listen on an address that is not loopback without TLS, where a proxy in front does TLS: tokens travel readable up to it."
    ),
    setting!(
        data.dir,
        "path",
        path,
        path_text,
        "Directory that holds everything Millpond keeps; made when absent. One server at a time."
    ),
    setting!(
        metadata.url,
        "URL",
        optional::<DatabaseUrl>,
        optional_text,
        "Postgres database for what is not rows or files, as `postgres://user:password@host/database`; several servers may share it. Empty: a SQLite file in the data directory. Set it by the environment, so that the password stands in no file and no process list.",
        false
    ),
    setting!(
        objects.url,
        "URL",
        optional::<ObjectsUrl>,
        optional_text,
        "Bucket that keeps files, models and sealed rows, as `s3://bucket/prefix`; several servers may share it. Empty: the data directory."
    ),
    setting!(
        objects.endpoint,
        "URL",
        endpoint,
        optional_text,
        "Where a store that is not AWS's speaks S3, as in `https://s3.example.org:9000`. Empty: AWS."
    ),
    setting!(
        objects.region,
        "name",
        optional::<String>,
        optional_text,
        "The bucket's region. Empty: from AWS's environment variables or profile; `us-east-1` where an endpoint is set."
    ),
    setting!(
        objects.path_style,
        "`true` or `false`",
        optional_switch,
        optional_text,
        "Whether the bucket is named in the path of addresses and not in the host. Empty: true where an endpoint is set."
    ),
    setting!(
        objects.access_key,
        "text",
        secret,
        optional_text,
        "Key for the bucket, together with `objects.secret_key`. Empty: from AWS's environment variables, profile, or the machine's role.",
        false
    ),
    setting!(
        objects.secret_key,
        "text",
        secret,
        optional_text,
        "Secret of `objects.access_key`. Set it by the environment, so that it stands in no file and no process list.",
        false
    ),
    setting!(
        objects.direct,
        "`true` or `false`",
        switch,
        ToString::to_string,
        "Whether clients get signed addresses of the bucket for large files. Set it to false where they cannot reach the bucket."
    ),
    setting!(
        gc.every,
        "duration",
        duration,
        ToString::to_string,
        "How often blobs that nothing names any more are removed, while the server runs; 0s means never by itself. `millpond gc` does it at once."
    ),
    setting!(
        gc.grace,
        "duration",
        an_hour,
        ToString::to_string,
        "How old a blob that nothing names has to be before it is removed by itself; at least an hour. Raise it to be able to go back to an older backup of the metadata."
    ),
    setting!(
        tables.upkeep_every,
        "duration",
        duration,
        ToString::to_string,
        "How often the newest rows of every source are sealed into its offline table, for others to read, and its small files joined; 0s means never by itself. `millpond features compact` does it at once."
    ),
    setting!(
        tables.keep_versions,
        "duration",
        two_months,
        ToString::to_string,
        "How long earlier versions of offline tables stay readable once their files were replaced, so that training sets can be built again; at most 60d. Lower it to save space."
    ),
    setting!(
        consistency.share,
        "0 to 1",
        share,
        ToString::to_string,
        "Share of entities, by the hash of their key, whose feature vectors are derived again from history after they were served. Raise it where few are served; 0 watches none."
    ),
    setting!(
        consistency.every,
        "duration",
        duration,
        ToString::to_string,
        "How often what was served is compared with history; 0s means never by itself. `millpond features consistency --check` does it at once."
    ),
    setting!(
        onnx.library,
        "path",
        optional_path,
        optional_path_text,
        "ONNX Runtime's shared library. Empty: `ORT_DYLIB_PATH`, then beside the program, then where `make setup` puts it."
    ),
    setting!(
        features.join_memory_bytes,
        "bytes",
        bytes,
        ToString::to_string,
        "Memory of one point-in-time join, about; what does not fit waits in temporary files in the data directory. Raise it where training sets of many millions of rows are slow, lower it on small machines."
    ),
    setting!(
        sql.memory_bytes,
        "bytes",
        bytes,
        ToString::to_string,
        "Memory of one query in SQL; sorts, joins and groups that need more wait in temporary files in the data directory."
    ),
    setting!(
        sql.at_once,
        "queries",
        positive,
        ToString::to_string,
        "Queries in SQL that run at once; as many more wait, and one more is refused."
    ),
    setting!(
        sql.deadline,
        "duration",
        duration,
        ToString::to_string,
        "How long a query in SQL may run, the fetching of its answer included."
    ),
    setting!(
        sql.threads,
        "threads",
        number,
        ToString::to_string,
        "Threads that compute queries in SQL; 0 means one per core."
    ),
    setting!(
        joins.place,
        "`auto`, `local` or `spark`",
        place,
        ToString::to_string,
        "Where point-in-time joins run. `auto`: here, unless `joins.spark_url` is set and a join would need more than `features.join_memory_bytes`. `spark` refuses what Spark cannot answer alike."
    ),
    setting!(
        joins.spark_url,
        "`sc://host:port/;use_ssl=true`",
        secret,
        optional_text,
        "A Spark Connect server (Apache Spark, Databricks, Sail) for joins that outgrow this machine; it must reach the offline tables by the same paths. Not shown, since it may hold a token.",
        false
    ),
    setting!(
        joins.spark_token_file,
        "path",
        optional_path,
        optional_path_text,
        "A file that holds the token for `joins.spark_url`."
    ),
    setting!(
        joins.spark_ca_file,
        "path",
        optional_path,
        optional_path_text,
        "Certificates (PEM) of the authority that signed the Spark server's certificate. Empty: only public authorities."
    ),
    setting!(
        joins.spark_deadline,
        "duration",
        some_time,
        ToString::to_string,
        "How long one join may take on Spark before it is given up and interrupted there."
    ),
    setting!(
        ingestion.quarantine_rows,
        "rows",
        positive,
        ToString::to_string,
        "Rows that each source's quarantine keeps; of more the settled ones go first, then the oldest, and are counted."
    ),
    setting!(
        ingestion.quarantine_keep,
        "duration",
        an_hour,
        ToString::to_string,
        "How long a quarantined row is kept after it was last seen; at least an hour."
    ),
    setting!(
        ingestion.paths,
        "paths",
        paths,
        paths_text,
        "Folders of the server's machine, separated by commas, that callers who may write may load files of rows from, of every project. Empty: loading is off."
    ),
    setting!(
        ingestion.parquet_bytes_max,
        "bytes",
        bytes,
        ToString::to_string,
        "Largest Parquet file that is loaded; the whole of it is held in memory. Larger files of other formats are read in pieces."
    ),
    setting!(
        ingestion.redis,
        "name=URL, ...",
        parsed,
        ToString::to_string,
        "Redis servers that sources may read streams from, as `main=redis://:password@host:6379`, by the names that definitions use. Set it by the environment, so that passwords stand in no file and no process list.",
        false
    ),
    setting!(
        serving.max_in_flight,
        "requests",
        positive,
        ToString::to_string,
        "Prediction requests worked on at once; one more is answered 429. Raise it when callers are many and slow."
    ),
    setting!(
        serving.queue_rows,
        "rows",
        positive,
        ToString::to_string,
        "Rows that may wait for a model version; beyond that requests are answered 429. Lower it to bound the wait."
    ),
    setting!(
        serving.max_batch_rows,
        "rows",
        positive,
        ToString::to_string,
        "Rows a model sees at once. Raise it for throughput, lower it for latency."
    ),
    setting!(serving.threads, "threads", number, ToString::to_string, "Threads that run models; 0 means one per core."),
    setting!(
        training.max_parallel,
        "jobs",
        positive,
        ToString::to_string,
        "Training jobs that run at once; others wait."
    ),
    setting!(
        training.threads,
        "threads",
        number,
        ToString::to_string,
        "Threads of one training job; 0 means one per core. Lower it to leave cores to serving."
    ),
    setting!(
        webhooks.allow_private,
        "`true` or `false`",
        truth,
        ToString::to_string,
        "Let webhooks go to loopback and private addresses, and by plain http. Switch it on only in a network where whoever may register a webhook may reach everything that this server reaches."
    ),
    setting!(
        webhooks.attempts,
        "attempts",
        positive,
        ToString::to_string,
        "How often a webhook's receiver is tried before an event is given up and recorded as failed."
    ),
    setting!(
        webhooks.first_retry,
        "duration",
        some_time,
        ToString::to_string,
        "Wait before a webhook's receiver is tried again; it doubles each time, up to a minute."
    ),
    setting!(
        log.format,
        "`text` or `json`",
        log_format,
        ToString::to_string,
        "How log lines look: `text` for people, `json` (one object per line) for collectors."
    ),
    setting!(
        log.filter,
        "filter",
        filter,
        Clone::clone,
        "What is logged: a level (`error`, `warn`, `info`, `debug`, `trace`), or levels by target as in `warn,serving=debug`."
    ),
];

/// Sizes with a unit, longest suffix first.
const SIZES: [(&str, usize); 7] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("B", 1),
];

fn address(text: &str) -> Result<SocketAddr, String> {
    text.trim().parse().map_err(|_| "expected an address and a port, as in `127.0.0.1:8080` or `[::1]:8080`".to_owned())
}

fn hosts(text: &str) -> Result<Vec<String>, String> {
    let names: Vec<String> =
        text.split(',').map(|name| name.trim().to_ascii_lowercase()).filter(|name| !name.is_empty()).collect();
    let lawful = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '[' | ']');
    match names.iter().find(|name| !name.chars().all(lawful)) {
        None => Ok(names),
        Some(name) => Err(format!("expected host names separated by commas, and `{name}` is none")),
    }
}

fn hosts_text(names: &[String]) -> String {
    names.join(", ")
}

fn truth(text: &str) -> Result<bool, String> {
    text.trim().parse().map_err(|_| "expected `true` or `false`".to_owned())
}

fn number(text: &str) -> Result<usize, String> {
    text.trim().replace('_', "").parse().map_err(|_| "expected a whole number, 0 or more".to_owned())
}

fn positive(text: &str) -> Result<usize, String> {
    number(text).ok().filter(|count| *count > 0).ok_or_else(|| "expected a whole number, 1 or more".to_owned())
}

fn share(text: &str) -> Result<f64, String> {
    let lawful = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
    lawful.ok_or_else(|| "expected a number from 0 to 1".to_owned())
}

fn bytes(text: &str) -> Result<usize, String> {
    let text = text.trim();
    let (count, size) = SIZES
        .iter()
        .find_map(|(suffix, size)| text.strip_suffix(suffix).map(|count| (count, *size)))
        .unwrap_or((text, 1));
    let count = positive(count).ok().and_then(|count| count.checked_mul(size));
    count.ok_or_else(|| "expected a number of bytes, 1 or more, as in `16777216` or `16 MiB`".to_owned())
}

fn duration(text: &str) -> Result<Span, String> {
    text.parse().map_err(|_| "expected a duration, as in `250ms`, `10s` or `2m`".to_owned())
}

fn some_time(text: &str) -> Result<Span, String> {
    let span = duration(text)?;
    if span > Span::ZERO { Ok(span) } else { Err("expected a duration longer than nothing, as in `10s`".to_owned()) }
}

fn an_hour(text: &str) -> Result<Span, String> {
    let span = duration(text)?;
    if span >= Span::HOUR { Ok(span) } else { Err("expected a duration of an hour or more, as in `7d`".to_owned()) }
}

fn two_months(text: &str) -> Result<Span, String> {
    let span = duration(text)?;
    let most = Span::from_micros(60 * Span::DAY.micros());
    if span <= most { Ok(span) } else { Err("expected a duration of at most 60 days, as in `30d`".to_owned()) }
}

fn path(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() { Err("expected a path".to_owned()) } else { Ok(PathBuf::from(text)) }
}

fn path_text(path: &Path) -> String {
    path.display().to_string()
}

fn paths(text: &str) -> Result<Vec<PathBuf>, String> {
    let paths: Vec<PathBuf> =
        text.split(',').map(str::trim).filter(|path| !path.is_empty()).map(PathBuf::from).collect();
    if paths.iter().all(|path| path.is_absolute()) {
        Ok(paths)
    } else {
        Err("expected whole paths separated by commas, as in `/srv/rows, /mnt/drop`".to_owned())
    }
}

fn paths_text(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path_text(path)).collect::<Vec<_>>().join(", ")
}

fn optional_path(text: &str) -> Result<Option<PathBuf>, String> {
    Ok((!text.is_empty()).then(|| PathBuf::from(text)))
}

fn optional_path_text(path: &Option<PathBuf>) -> String {
    path.as_deref().map(path_text).unwrap_or_default()
}

fn optional<T: std::str::FromStr>(text: &str) -> Result<Option<T>, String>
where
    T::Err: ToString,
{
    if text.is_empty() { Ok(None) } else { text.parse().map(Some).map_err(|why: T::Err| why.to_string()) }
}

fn optional_text<T: ToString>(value: &Option<T>) -> String {
    value.as_ref().map(T::to_string).unwrap_or_default()
}

fn parsed<T: std::str::FromStr<Err = String>>(text: &str) -> Result<T, String> {
    text.parse()
}

fn secret(text: &str) -> Result<Option<Secret>, String> {
    Ok((!text.is_empty()).then(|| Secret::new(text)))
}

fn switch(text: &str) -> Result<bool, String> {
    text.parse().map_err(|_| "expected `true` or `false`".to_owned())
}

fn optional_switch(text: &str) -> Result<Option<bool>, String> {
    if text.is_empty() { Ok(None) } else { switch(text).map(Some) }
}

fn place(text: &str) -> Result<Place, String> {
    match text {
        "auto" => Ok(Place::Auto),
        "local" => Ok(Place::Local),
        "spark" => Ok(Place::Spark),
        _ => Err("expected `auto`, `local` or `spark`".to_owned()),
    }
}

fn log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err("expected `text` or `json`".to_owned()),
    }
}

fn filter(text: &str) -> Result<String, String> {
    match parse_filter(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err("expected a level, or levels by target, as in `info` or `warn,serving=debug`".to_owned()),
    }
}

/// The table as a Markdown page, for the documentation.
#[must_use]
pub fn reference_markdown() -> String {
    let mut page = String::from(
        "# Configuration\n\n\
         A setting is looked for in this order, and the last one found counts: its default, the TOML file (`--config` or\n\
         `MILLPOND_CONFIG`), the environment, the command line. `millpond config show` prints each value with where it came\n\
         from. A key that is not listed here is an error.\n\n\
         Durations are written `250ms`, `10s`, `2m`, `24h`; sizes in bytes or as `16 MiB`.\n\
         This page is generated from `runtime::config::SETTINGS`.\n",
    );
    let mut section = "";
    for setting in SETTINGS {
        let (this, key) = setting.key.split_once('.').unwrap_or(("", setting.key));
        // Writing to a String cannot fail, here and below.
        if this != section {
            section = this;
            let _ = write!(
                page,
                "\n## [{section}]\n\n| key | default | unit | environment | meaning |\n|---|---|---|---|---|\n"
            );
        }
        let default = match setting.default_value() {
            empty if empty.is_empty() => "(empty)".to_owned(),
            value => format!("`{value}`"),
        };
        let _ = writeln!(page, "| `{key}` | {default} | {} | `{}` | {} |", setting.unit, setting.env(), setting.doc);
    }
    page
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_setting_reads_back_what_it_shows() {
        for setting in SETTINGS {
            let mut config = Config::default();
            (setting.set)(&mut config, &setting.default_value()).unwrap_or_else(|why| panic!("{}: {why}", setting.key));
            assert_eq!(config, Config::default(), "{}", setting.key);
        }
    }

    #[test]
    fn every_field_of_the_config_is_in_the_table_once() {
        let keys: BTreeSet<_> = SETTINGS.iter().map(|setting| setting.key.to_owned()).collect();
        assert_eq!(keys.len(), SETTINGS.len());
        let tree = serde_json::to_value(Config::default()).expect("serialises");
        let fields: BTreeSet<_> = tree
            .as_object()
            .expect("sections")
            .iter()
            .flat_map(|(section, keys)| {
                keys.as_object().expect("keys").keys().map(move |key| format!("{section}.{key}")).collect::<Vec<_>>()
            })
            .collect();
        assert_eq!(keys, fields);
    }

    #[test]
    fn sizes_may_carry_a_unit() {
        assert_eq!(bytes("16 MiB"), Ok(16 << 20));
        assert_eq!(bytes("16_777_216"), Ok(16 << 20));
        assert_eq!(bytes("2kB"), Ok(2_000));
        for bad in ["", "0", "-1", "1.5 MiB", "MiB", "99999999999 GiB"] {
            assert!(bytes(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_page_names_every_key_default_and_variable() {
        let page = reference_markdown();
        for setting in SETTINGS {
            let row = page.lines().find(|line| line.contains(&setting.env())).expect("a row");
            assert!(row.contains(&setting.default_value()) && row.contains(setting.doc), "{row}");
        }
        assert!(page.contains("## [server]") && page.contains("MILLPOND_SERVER_MAX_BODY_BYTES"));
    }
}
