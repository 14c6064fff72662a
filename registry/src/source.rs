//! Where a version's files are said to lie: a URI that is parsed once, and refused before anything looks there.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use domain::{ModelName, RunId};

use crate::{RegistryError, experiment::ARTIFACTS};

/// Longest source that is taken, in bytes.
const SOURCE_BYTES_MAX: usize = 4096;
/// Schemes of places that this server never looks into; what lies there is known by its address only.
const ELSEWHERE: [&str; 7] = ["s3", "gs", "abfss", "wasbs", "hdfs", "http", "https"];
/// How often a text may be percent-encoded over itself before it is taken for an attack.
const DECODED_TIMES_MAX: usize = 8;

/// A source, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// A directory of this server's artifact tree.
    Kept(String),
    /// A directory among a run's artifacts; empty for all of them.
    Run { run: RunId, path: String },
    /// The files of a logged model, by its id.
    LoggedModel(String),
    /// The files of another version: `name` is its number, an alias or `latest`.
    Version { model: ModelName, name: String },
    /// A place this server never looks into.
    Elsewhere,
}

impl Source {
    /// Understands a source, or says why it is none.
    pub(crate) fn parse(raw: &str) -> Result<Self, RegistryError> {
        if raw.len() > SOURCE_BYTES_MAX {
            return Err(refused(raw, format!("is longer than {SOURCE_BYTES_MAX} bytes")));
        }
        at_every_decoding(raw)?;
        let (scheme, rest) = raw.split_once(':').filter(|(scheme, _)| is_scheme(scheme)).ok_or_else(|| local(raw))?;
        let scheme = scheme.to_ascii_lowercase();
        let (authority, path) = match rest.strip_prefix("//") {
            Some(rest) => rest.split_at(rest.find('/').unwrap_or(rest.len())),
            None => ("", rest),
        };
        match scheme.as_str() {
            "file" => Err(local(raw)),
            "mlflow-artifacts" | "runs" | "models" => {
                if !authority.is_empty() {
                    return Err(refused(raw, "names another server; leave its address out"));
                }
                Self::kept_here(&scheme, &path.split('/').filter(|part| !part.is_empty()).collect::<Vec<_>>(), raw)
            }
            scheme if ELSEWHERE.contains(&scheme) => {
                if authority.is_empty() {
                    return Err(refused(raw, "names no bucket or host"));
                }
                if scheme.starts_with("http") {
                    public(authority).map_err(|why| refused(raw, why))?;
                }
                Ok(Self::Elsewhere)
            }
            other => Err(refused(raw, format!("has the scheme `{other}`, which is not taken"))),
        }
    }

    fn kept_here(scheme: &str, parts: &[&str], raw: &str) -> Result<Self, RegistryError> {
        match (scheme, parts) {
            ("mlflow-artifacts", [_, ..]) => Ok(Self::Kept(parts.join("/"))),
            ("runs", [run, path @ ..]) => {
                let no_such = |_| RegistryError::NoSuch { what: "run", name: (*run).to_owned() };
                Ok(Self::Run { run: run.parse().map_err(no_such)?, path: path.join("/") })
            }
            ("models", [model]) if model.starts_with("m-") && !model.contains('@') => {
                Ok(Self::LoggedModel((*model).to_owned()))
            }
            ("models", [model, name]) => Self::version(model, name, raw),
            ("models", [both]) if both.contains('@') => {
                let (model, alias) = both.split_once('@').unwrap_or((both, ""));
                Self::version(model, alias, raw)
            }
            _ => Err(refused(raw, "is not complete")),
        }
    }

    fn version(model: &str, name: &str, raw: &str) -> Result<Self, RegistryError> {
        let model = model.parse().map_err(|error| refused(raw, format!("names no model: {error}")))?;
        Ok(Self::Version { model, name: name.to_owned() })
    }
}

/// The directory of this server's artifact tree that a location names; `None` for a location elsewhere.
pub(crate) fn kept(location: &str) -> Option<&str> {
    let path = location.strip_prefix(ARTIFACTS)?.trim_matches('/');
    (!path.is_empty()).then_some(path)
}

/// Whether `path` is `directory` or lies below it.
pub(crate) fn within(path: &str, directory: &str) -> bool {
    path.strip_prefix(directory).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn refused(raw: &str, problem: impl Into<String>) -> RegistryError {
    let shown: String = raw.chars().take(200).collect();
    let hint = "name files that were logged to this server (mlflow-artifacts:/, runs:/, models:/) or an object store (s3://, \
                gs://, abfss://, wasbs://, hdfs://, https://)";
    RegistryError::invalid(format!("source {shown:?}"), problem, hint)
}

fn local(raw: &str) -> RegistryError {
    refused(raw, "is a local path, which this server never reads")
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'))
}

/// Holds every form that one more decoding gives to the rules: whoever uses the source later may decode it again.
fn at_every_decoding(raw: &str) -> Result<(), RegistryError> {
    let mut form = raw.to_owned();
    for _ in 0..DECODED_TIMES_MAX {
        lawful(&form).map_err(|why| refused(raw, why))?;
        match decoded(&form) {
            None => return Err(refused(raw, "holds bytes that are not UTF-8")),
            Some(next) if next == form => return Ok(()),
            Some(next) => form = next,
        }
    }
    Err(refused(raw, "is encoded many times over"))
}

fn lawful(form: &str) -> Result<(), &'static str> {
    if form.chars().any(char::is_control) {
        return Err("holds a control character");
    }
    if form.contains(['#', '?']) {
        return Err("has a fragment or a query; leave `#` and `?` out");
    }
    if form.contains('\\') {
        return Err("holds a backslash");
    }
    // A parameter, as in `..;x`, hides a step from those who do not know of it.
    let step = |part: &str| matches!(part.split(';').next().unwrap_or_default(), "." | "..");
    if form.split(['/', ':']).any(step) {
        return Err("holds a relative step (`.` or `..`)");
    }
    Ok(())
}

/// The text with its percent-encoding taken off once; `None` when that is not a text.
fn decoded(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let pair = (bytes[at] == b'%').then(|| text.get(at + 1..at + 3)).flatten();
        match pair.filter(|pair| pair.bytes().all(|b| b.is_ascii_hexdigit())).map(|pair| u8::from_str_radix(pair, 16)) {
            Some(Ok(byte)) => {
                out.push(byte);
                at += 3;
            }
            _ => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8(out).ok()
}

/// Refuses a host of the server's own network: whoever loads the version would be sent there.
fn public(authority: &str) -> Result<(), &'static str> {
    const INTERNAL: &str = "names an address that is not public";
    if authority.contains('@') {
        return Err("holds a user or a password");
    }
    if let Some(rest) = authority.strip_prefix('[') {
        let (address, _) = rest.split_once(']').ok_or("names no lawful host")?;
        let address: Ipv6Addr = address.parse().map_err(|_| "names no lawful host")?;
        return if internal(address.into()) { Err(INTERNAL) } else { Ok(()) };
    }
    let host = authority.split(':').next().unwrap_or_default().trim_end_matches('.').to_ascii_lowercase();
    // Whatever ends in a number is an address to those who connect, however oddly it is written.
    let last = host.rsplit('.').next().unwrap_or_default();
    if last.starts_with("0x") || (!last.is_empty() && last.bytes().all(|b| b.is_ascii_digit())) {
        let address: Ipv4Addr = host.parse().map_err(|_| INTERNAL)?;
        return if internal(address.into()) { Err(INTERNAL) } else { Ok(()) };
    }
    let own = |zone: &str| host == zone || host.strip_suffix(zone).is_some_and(|rest| rest.ends_with('.'));
    if host.is_empty() || ["localhost", "local", "internal"].into_iter().any(own) {
        return Err(INTERNAL);
    }
    Ok(())
}

fn internal(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            v4.is_loopback()
                || v4.is_private()
                || v4.is_link_local()
                || v4.is_multicast()
                || v4.is_broadcast()
                || a == 0
                // Shared address space (RFC 6598), and networks of benchmarks (RFC 2544).
                || (a == 100 && (64..128).contains(&b))
                || (a == 198 && (18..20).contains(&b))
        }
        IpAddr::V6(v6) => {
            let [first, .., high, low] = v6.segments();
            let v4 = Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
            let carries_v4 = v6.to_ipv4_mapped().is_some() || (first == 0x64 && v6.segments()[1] == 0xff9b);
            v6.is_loopback()
                || v6.is_unspecified()
                || v6.is_multicast()
                || (first & 0xfe00) == 0xfc00
                || (first & 0xffc0) == 0xfe80
                || (carries_v4 && internal(v4.into()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_of_this_server_are_understood() {
        let run = RunId::mint();
        let parse = |text: &str| Source::parse(text).unwrap();
        assert_eq!(
            parse("mlflow-artifacts:/1/abc/artifacts/my model/"),
            Source::Kept("1/abc/artifacts/my model".into())
        );
        assert_eq!(parse("mlflow-artifacts:///1/abc"), Source::Kept("1/abc".into()));
        assert_eq!(parse(&format!("runs:/{run}/a/b")), Source::Run { run, path: "a/b".into() });
        assert_eq!(parse(&format!("runs:/{run}")), Source::Run { run, path: String::new() });
        assert_eq!(parse("models:/m-0123"), Source::LoggedModel("m-0123".into()));
        let model: ModelName = "Elastic Net".parse().unwrap();
        assert_eq!(parse("models:/Elastic Net/3"), Source::Version { model: model.clone(), name: "3".into() });
        assert_eq!(parse("models:/Elastic Net@best"), Source::Version { model, name: "best".into() });
        assert_eq!(parse("s3://bucket/a%20b"), Source::Elsewhere);
        assert_eq!(parse("wasbs://box@account.blob.core.windows.net/m"), Source::Elsewhere);
        assert_eq!(parse("https://models.example.com:8443/m"), Source::Elsewhere);
    }

    #[test]
    fn places_that_are_local_hidden_or_exotic_are_refused() {
        let shape = [
            "",
            "/etc/passwd",
            "etc/passwd",
            "./model",
            "file:/etc",
            "file:///etc",
            "FILE:///etc",
            "C:\\model",
            "c:/model",
            "dbfs:/x",
            "ftp://host/x",
            "javascript:alert(1)",
            "data:text/plain,x",
            "jdbc:x",
            "mlflow-artifacts:/",
            "mlflow-artifacts:",
            "mlflow-artifacts://other:5000/1/x",
            "runs://evil/x",
            "models://evil/m/1",
            "models:/",
            "models:/x",
            "models:/a/b/c",
            "runs:/",
            "s3:/bucket/x",
            "s3:///x",
            "http:///x",
            "mlflow-artifacts:/1/a\nb",
        ];
        let hidden = [
            "..",
            "%2e%2e",
            "%252e%252e",
            "%25252525252e%252e",
            "..%5c",
            "..;x",
            "a#/../",
            "a?x=../",
            "%00",
            "..%2f",
            "a%23b",
            ".",
            "%c0%ae",
            "%2525252525252525252525252e",
        ];
        let texts = shape.into_iter().map(str::to_owned);
        for text in texts.chain(hidden.iter().flat_map(|part| {
            ["mlflow-artifacts:/1/r/artifacts", "s3://bucket", "https://example.com"]
                .map(|base| format!("{base}/{part}/x"))
        })) {
            assert!(Source::parse(&text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_address_of_an_inner_network_is_refused_however_it_is_written() {
        for host in [
            "127.0.0.1",
            "localhost",
            "LOCALHOST.",
            "a.localhost",
            "169.254.169.254",
            "10.0.0.1",
            "192.168.1.1:80",
            "172.16.0.1",
            "0.0.0.0",
            "2130706433",
            "0x7f000001",
            "0177.0.0.1",
            "127.1",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "[fe80::1]",
            "[fc00::1]",
            "[64:ff9b::a00:1]",
            "user:secret@example.com",
            "metadata.google.internal",
            "printer.local",
            "100.64.0.1",
            "[::1",
            "",
        ] {
            assert!(public(host).is_err(), "{host}");
        }
        for host in ["example.com", "8.8.8.8", "[2606:4700::1111]:443", "minio:9000", "3com.com"] {
            assert!(public(host).is_ok(), "{host}");
        }
    }

    #[test]
    fn a_directory_holds_itself_and_what_lies_below_but_not_its_neighbour() {
        assert!(within("1/r/artifacts", "1/r/artifacts") && within("1/r/artifacts/m", "1/r/artifacts"));
        assert!(!within("1/r/artifacts2", "1/r/artifacts") && !within("1/r", "1/r/artifacts"));
        assert_eq!(
            (kept("mlflow-artifacts:/1/r"), kept("s3://b/r"), kept("mlflow-artifacts:/")),
            (Some("1/r"), None, None)
        );
    }
}
