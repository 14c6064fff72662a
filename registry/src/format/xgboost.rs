//! XGBoost's own formats: JSON and UBJSON of one shape. <https://xgboost.readthedocs.io/en/stable/tutorials/saving_model.html>

use std::{
    fmt,
    io::{self, BufReader, Read},
};

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, IgnoredAny, SeqAccess, Visitor},
};

use super::{
    Fault,
    read::{Cursor, ReadAt, Stream},
    ubjson::{self, Leaf},
};

/// Most features, and the longest text, that are read.
const FEATURES_MAX: usize = 100_000;
const TEXT_BYTES_MAX: usize = 1 << 20;
/// Arrays and objects inside each other.
const DEPTH_MAX: usize = 64;

/// What a model says of itself.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Xgboost {
    /// As in `2.1.4`.
    pub version: String,
    pub features: Vec<String>,
    /// XGBoost's words: `float`, `int`, `i`, `q`, `c`.
    pub kinds: Vec<String>,
}

/// Whether a file is JSON or UBJSON that begins as XGBoost writes it.
pub(super) fn begins(head: &[u8]) -> Option<Coding> {
    let head = &head[..head.len().min(256)];
    let plain: Vec<u8> = head.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    if plain.starts_with(b"{\"learner\":{") || plain.starts_with(b"{\"version\":[") {
        return Some(Coding::Json);
    }
    let binary = head.first() == Some(&b'{') && head.get(1).is_some_and(|marker| b"iUIlL$#".contains(marker));
    let named = head.windows(7).take(16).any(|window| window == b"learner" || window == b"version");
    (binary && named).then_some(Coding::Ubjson)
}

/// How it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coding {
    Json,
    Ubjson,
}

pub(super) fn read(file: &dyn ReadAt, coding: Coding) -> Result<Xgboost, Fault> {
    let found = match coding {
        Coding::Json => read_json(file)?,
        Coding::Ubjson => read_ubjson(file)?,
    };
    if !found.kinds.is_empty() && found.kinds.len() != found.features.len() {
        let (kinds, names) = (found.kinds.len(), found.features.len());
        return Err(Fault::bad(format!("has {kinds} types of features and {names} names of them")));
    }
    Ok(found)
}

fn read_json(file: &dyn ReadAt) -> Result<Xgboost, Fault> {
    #[derive(Deserialize)]
    struct Model {
        learner: Learner,
        version: Texts<u32>,
    }
    #[derive(Deserialize)]
    struct Learner {
        #[serde(default)]
        feature_names: Texts<String>,
        #[serde(default)]
        feature_types: Texts<String>,
        #[serde(rename = "gradient_booster")]
        _booster: IgnoredAny,
        #[serde(rename = "learner_model_param")]
        _params: IgnoredAny,
    }
    let shallow = Shallow { inner: BufReader::new(Stream::new(file)), depth: 0, text: None, escaped: false };
    let model: Model =
        serde_json::from_reader(BufReader::new(shallow)).map_err(|error| match error.io_error_kind() {
            Some(kind) if kind != io::ErrorKind::InvalidData => Fault::Io(kind.into()),
            _ => Fault::bad(format!("is not XGBoost's JSON: {error}")),
        })?;
    let version: Vec<String> = model.version.0.iter().map(ToString::to_string).collect();
    Ok(Xgboost {
        version: version.join("."),
        features: model.learner.feature_names.0,
        kinds: model.learner.feature_types.0,
    })
}

fn read_ubjson(file: &dyn ReadAt) -> Result<Xgboost, Fault> {
    let (mut found, mut version, mut booster) = (Xgboost::default(), Vec::new(), false);
    let mut seen = |path: &[String], leaf: Leaf| {
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        match (&path[..], leaf) {
            (["version"], Leaf::Whole(number)) if version.len() < 8 => version.push(number.to_string()),
            (["learner", "feature_names"], Leaf::Text(name)) => found.features.push(name),
            (["learner", "feature_types"], Leaf::Text(kind)) => found.kinds.push(kind),
            (["learner", "gradient_booster", ..], _) => booster = true,
            _ => {}
        }
        if found.features.len().max(found.kinds.len()) > FEATURES_MAX {
            return Err(Fault::bad(format!("has more than {FEATURES_MAX} features")));
        }
        Ok(())
    };
    ubjson::walk(&mut Cursor::new(file, 0), &mut seen)?;
    if !booster {
        return Err(Fault::bad("is not XGBoost's UBJSON: it has no learner with a booster"));
    }
    found.version = version.join(".");
    Ok(found)
}

/// A list of bounded length.
struct Texts<T>(Vec<T>);

impl<T> Default for Texts<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Texts<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read<T>(std::marker::PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Read<T> {
            type Value = Texts<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Texts<T>, A::Error> {
                let mut all = Vec::new();
                while let Some(next) = seq.next_element()? {
                    if all.len() == FEATURES_MAX {
                        return Err(A::Error::custom(format!("more than {FEATURES_MAX} entries")));
                    }
                    all.push(next);
                }
                Ok(Texts(all))
            }
        }
        deserializer.deserialize_seq(Read(std::marker::PhantomData))
    }
}

/// JSON on its way to a parser that would keep a text, or the brackets that are open, however many there are.
struct Shallow<R> {
    inner: R,
    depth: usize,
    /// Length so far of the text that is open.
    text: Option<usize>,
    escaped: bool,
}

impl<R: Read> Read for Shallow<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        for byte in &buffer[..count] {
            match (&mut self.text, byte) {
                (Some(_), _) if self.escaped => self.escaped = false,
                (Some(_), b'\\') => self.escaped = true,
                (Some(_), b'"') => self.text = None,
                (Some(length), _) => {
                    *length += 1;
                    if *length > TEXT_BYTES_MAX {
                        return Err(too_much("a text is too long"));
                    }
                }
                (None, b'"') => self.text = Some(0),
                (None, b'[' | b'{') => {
                    self.depth += 1;
                    if self.depth > DEPTH_MAX {
                        return Err(too_much("it nests too deep"));
                    }
                }
                (None, b']' | b'}') => self.depth = self.depth.saturating_sub(1),
                (None, _) => {}
            }
        }
        Ok(count)
    }
}

fn too_much(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
