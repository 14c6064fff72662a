//! Layers: defaults < file < environment < flags.

use std::{
    collections::BTreeMap,
    fmt, fs,
    path::{Path, PathBuf},
};

use domain::error::nearest;
use serde::Serialize;
use toml::de::{DeTable, DeValue};

use super::{Config, ConfigError, RESERVED_ENV, SETTINGS, Setting};

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    Default,
    /// The TOML file, with the line (from 1).
    File {
        path: PathBuf,
        line: usize,
    },
    /// The environment variable of that name.
    Env(String),
    /// The command line.
    Flag,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Env(name) => write!(f, "environment {name}"),
            Self::Flag => f.write_str("command line"),
        }
    }
}

impl Serialize for Source {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

/// The config that holds, and where each value came from (every key is in `sources`).
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    pub config: Config,
    pub sources: BTreeMap<String, Source>,
}

/// One line of `config show`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    pub key: &'static str,
    pub value: String,
    pub source: Source,
    pub doc: &'static str,
}

impl Loaded {
    /// Every setting with its value and where it came from, in table order.
    #[must_use]
    pub fn rows(&self) -> Vec<Row> {
        SETTINGS
            .iter()
            .map(|setting| Row {
                key: setting.key,
                value: (setting.show)(&self.config),
                source: self.sources.get(setting.key).cloned().unwrap_or(Source::Default),
                doc: setting.doc,
            })
            .collect()
    }

    fn set(&mut self, setting: &Setting, value: &str, place: Source) -> Result<(), ConfigError> {
        (setting.set)(&mut self.config, value).map_err(|reason| ConfigError::BadValue {
            key: setting.key,
            place: place.clone(),
            value: if setting.shown { value.to_owned() } else { "***".to_owned() },
            reason,
        })?;
        self.sources.insert(setting.key.to_owned(), place);
        Ok(())
    }
}

/// Reads the layers in order. `env` is the whole environment (variables that do not begin with `MILLPOND_`
/// are passed over); `flags` are pairs of key (`server.listen`) and value.
///
/// # Errors
/// The first thing wrong: a file that cannot be read or parsed, a key nobody knows, a value that does not fit.
pub fn load(
    file: Option<&Path>,
    env: impl Iterator<Item = (String, String)>,
    flags: &[(String, String)],
) -> Result<Loaded, ConfigError> {
    let sources = SETTINGS.iter().map(|setting| (setting.key.to_owned(), Source::Default)).collect();
    let mut loaded = Loaded { config: Config::default(), sources };
    if let Some(path) = file {
        let text =
            fs::read_to_string(path).map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
        from_file(&mut loaded, path, &text)?;
    }
    // Sorted, so that of two mistakes the same one is always reported.
    let env: BTreeMap<_, _> = env.filter(|(name, _)| name.starts_with("MILLPOND_")).collect();
    from_env(&mut loaded, &env)?;
    for (key, value) in flags {
        let setting = find(key).ok_or_else(|| unknown(key, Source::Flag))?;
        loaded.set(setting, value, Source::Flag)?;
    }
    Ok(loaded)
}

fn from_file(loaded: &mut Loaded, path: &Path, text: &str) -> Result<(), ConfigError> {
    let line = |offset| Source::File { path: path.to_owned(), line: position(text, offset).0 };
    let document = DeTable::parse(text).map_err(|error| {
        let (line, column) = position(text, error.span().map_or(0, |span| span.start));
        ConfigError::NotToml { path: path.to_owned(), line, column, message: error.message().to_owned() }
    })?;
    // In the order of the text, so that the first mistake is the one reported.
    let mut found = Vec::new();
    for (section, inside) in document.get_ref() {
        let at = section.span().start;
        match inside.get_ref() {
            DeValue::Table(keys) => found.extend(
                keys.iter()
                    .map(|(key, value)| (key.span().start, format!("{}.{}", section.get_ref(), key.get_ref()), value)),
            ),
            _ => found.push((at, section.get_ref().to_string(), inside)),
        }
        if inside.get_ref().as_table().is_some_and(|keys| keys.is_empty()) && !is_section(section.get_ref()) {
            return Err(unknown(section.get_ref(), line(at)));
        }
    }
    found.sort_by_key(|(at, ..)| *at);
    for (at, key, value) in found {
        let setting = find(&key).ok_or_else(|| unknown(&key, line(at)))?;
        let value = match value.get_ref() {
            DeValue::String(value) => value.to_string(),
            DeValue::Integer(value) => value.to_string(),
            DeValue::Boolean(value) => value.to_string(),
            _ => text.get(value.span()).unwrap_or_default().to_owned(),
        };
        loaded.set(setting, &value, line(at))?;
    }
    Ok(())
}

fn from_env(loaded: &mut Loaded, env: &BTreeMap<String, String>) -> Result<(), ConfigError> {
    let names: Vec<String> = SETTINGS.iter().map(Setting::env).collect();
    for (name, value) in env.iter().filter(|(name, _)| !RESERVED_ENV.contains(&name.as_str())) {
        let place = Source::Env(name.clone());
        let Some(position) = names.iter().position(|known| known == name) else {
            let known = names.iter().map(String::as_str).chain(RESERVED_ENV);
            let nearest = nearest(name, known).map(str::to_owned);
            return Err(ConfigError::Unknown { key: name.clone(), place, nearest });
        };
        loaded.set(&SETTINGS[position], value, place)?;
    }
    Ok(())
}

fn find(key: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.key == key)
}

fn is_section(name: &str) -> bool {
    SETTINGS.iter().any(|setting| setting.key.split_once('.').is_some_and(|(section, _)| section == name))
}

fn unknown(key: &str, place: Source) -> ConfigError {
    let nearest = nearest(key, SETTINGS.iter().map(|setting| setting.key)).map(str::to_owned);
    ConfigError::Unknown { key: key.to_owned(), place, nearest }
}

/// Line and column of a byte offset, both from 1.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = &text[..text.floor_char_boundary(offset)];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

#[cfg(test)]
mod tests {
    use domain::{Coded, ErrorCode};

    use super::*;

    fn pairs(of: &[(&str, &str)]) -> Vec<(String, String)> {
        of.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn load_all(toml: &str, env: &[(&str, &str)], flags: &[(&str, &str)]) -> Result<Loaded, ConfigError> {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("millpond.toml");
        fs::write(&path, toml).expect("writes");
        load(Some(&path), pairs(env).into_iter(), &pairs(flags))
    }

    fn message(toml: &str, env: &[(&str, &str)], flags: &[(&str, &str)]) -> String {
        let error = load_all(toml, env, flags).expect_err("a mistake");
        assert_eq!(error.code(), ErrorCode::InvalidArgument);
        let text = error.to_string();
        // The directory differs from run to run.
        text.rsplit_once('/').filter(|_| text.starts_with('/')).map_or(text.clone(), |(_, rest)| rest.to_owned())
    }

    #[test]
    fn each_layer_beats_the_one_before() {
        let toml =
            "[server]\nlisten = \"127.0.0.1:1\"\nmax_body_bytes = 1024\ndrain = \"1s\"\n[serving]\nthreads = 3\n";
        let env = [("MILLPOND_SERVER_DRAIN", "2s"), ("MILLPOND_SERVER_MAX_BODY_BYTES", "2 KiB"), ("HOME", "/root")];
        let loaded = load_all(toml, &env, &[("server.drain", "3s")]).expect("lawful");
        let config = &loaded.config;
        assert_eq!(config.serving.threads, 3);
        assert_eq!(config.server.listen.port(), 1);
        assert_eq!(config.server.max_body_bytes, 2048);
        assert_eq!(config.server.drain.to_string(), "3s");
        assert_eq!(config.serving.queue_rows, 4096);
        let source = |key: &str| loaded.sources[key].to_string();
        assert!(source("server.listen").ends_with("millpond.toml:2"), "{}", source("server.listen"));
        assert_eq!(source("server.max_body_bytes"), "environment MILLPOND_SERVER_MAX_BODY_BYTES");
        assert_eq!(source("server.drain"), "command line");
        assert_eq!(source("serving.queue_rows"), "default");
        let row = loaded.rows().into_iter().find(|row| row.key == "server.drain").expect("in the table");
        assert_eq!((row.key, row.value.as_str(), row.source.clone()), ("server.drain", "3s", Source::Flag));
        assert_eq!(loaded.rows().len(), SETTINGS.len());
    }

    #[test]
    fn an_unknown_key_names_its_line_and_the_nearest_key() {
        assert_eq!(
            message("# mine\n[server]\nlisen = \"127.0.0.1:1\"\n", &[], &[]),
            "millpond.toml:3: unknown setting `server.lisen`, did you mean `server.listen`?"
        );
        assert_eq!(
            message("[server]\ndrain = \"1s\"\n[servng]\nthreads = 1\n", &[], &[]),
            "millpond.toml:4: unknown setting `servng.threads`, did you mean `serving.threads`?"
        );
        assert_eq!(message("[zoo]\n", &[], &[]), "millpond.toml:1: unknown setting `zoo`");
        assert_eq!(
            message("", &[("MILLPOND_SERVER_LISTN", "x")], &[]),
            "environment MILLPOND_SERVER_LISTN: unknown setting `MILLPOND_SERVER_LISTN`, did you mean `MILLPOND_SERVER_LISTEN`?"
        );
        assert_eq!(
            message("", &[], &[("data.dirs", "x")]),
            "command line: unknown setting `data.dirs`, did you mean `data.dir`?"
        );
    }

    #[test]
    fn a_wrong_value_says_what_was_expected() {
        assert_eq!(
            message("[serving]\nmax_in_flight = 0\n", &[], &[]),
            "millpond.toml:2: `0` is not a value of `serving.max_in_flight`: expected a whole number, 1 or more"
        );
        assert_eq!(
            message("", &[("MILLPOND_LOG_FORMAT", "xml")], &[]),
            "environment MILLPOND_LOG_FORMAT: `xml` is not a value of `log.format`: expected `text` or `json`"
        );
        assert_eq!(
            message("[server]\n\nlisten = [1, 2]\n", &[], &[]),
            "millpond.toml:3: `[1, 2]` is not a value of `server.listen`: expected an address and a port, as in `127.0.0.1:8080` or `[::1]:8080`"
        );
    }

    #[test]
    fn text_that_is_not_toml_names_line_and_column() {
        let text = message("[server]\nlisten = = 3\n", &[], &[]);
        assert!(text.starts_with("millpond.toml:2:10: not TOML: "), "{text}");
    }

    #[test]
    fn dotted_keys_and_reserved_variables_are_lawful() {
        let env = [("MILLPOND_CONFIG", "x"), ("MILLPOND_URL", "http://h"), ("MILLPOND_ONNX_LIBRARY", "")];
        let loaded = load_all("log.format = \"json\"\n", &env, &[]).expect("lawful");
        assert_eq!(loaded.config.log.format, super::super::LogFormat::Json);
        assert_eq!(loaded.config.onnx.library, None);
    }

    #[test]
    fn an_absent_file_is_named() {
        let error = load(Some(Path::new("/no/such.toml")), std::iter::empty(), &[]).expect_err("absent");
        assert_eq!(error.code(), ErrorCode::NotFound);
        assert!(error.to_string().contains("/no/such.toml"));
        let loaded = load(None, std::iter::empty(), &[]).expect("defaults");
        assert_eq!(loaded.config, Config::default());
    }
}
