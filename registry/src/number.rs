//! Floats that JSON cannot write: `NaN`, `Infinity` and `-Infinity` travel as texts.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A float in its JSON form.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    Number(f64),
    Text(String),
}

impl From<f64> for Written {
    fn from(value: f64) -> Self {
        if value.is_finite() {
            return Self::Number(value);
        }
        let text = if value.is_nan() {
            "NaN"
        } else if value > 0.0 {
            "Infinity"
        } else {
            "-Infinity"
        };
        Self::Text(text.to_owned())
    }
}

impl Written {
    fn read<E: serde::de::Error>(self) -> Result<f64, E> {
        match self {
            Self::Number(value) => Ok(value),
            Self::Text(text) => match text.as_str() {
                "NaN" => Ok(f64::NAN),
                "Infinity" => Ok(f64::INFINITY),
                "-Infinity" => Ok(f64::NEG_INFINITY),
                _ => Err(E::custom(format!("`{text}` is not a number"))),
            },
        }
    }
}

pub(crate) fn serialize<S: Serializer>(value: &f64, to: S) -> Result<S::Ok, S::Error> {
    Written::from(*value).serialize(to)
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    Written::deserialize(from)?.read()
}

/// The same for maps of floats.
pub(crate) mod map {
    use super::{BTreeMap, Deserialize, Deserializer, Serializer, Written};

    pub(crate) fn serialize<S: Serializer>(values: &BTreeMap<String, f64>, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(values.iter().map(|(key, value)| (key, Written::from(*value))))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<String, f64>, D::Error> {
        let written = BTreeMap::<String, Written>::deserialize(from)?;
        written.into_iter().map(|(key, value)| Ok((key, value.read()?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Serialize, Deserialize)]
    struct Holder {
        #[serde(with = "super")]
        one: f64,
        #[serde(with = "super::map")]
        many: BTreeMap<String, f64>,
    }

    #[test]
    fn floats_beyond_json_travel_as_texts() {
        let many = [("a".to_owned(), f64::NAN), ("b".to_owned(), 0.1), ("c".to_owned(), f64::INFINITY)].into();
        let text = serde_json::to_string(&Holder { one: f64::NEG_INFINITY, many }).unwrap();
        assert_eq!(text, r#"{"one":"-Infinity","many":{"a":"NaN","b":0.1,"c":"Infinity"}}"#);
        let back: Holder = serde_json::from_str(&text).unwrap();
        assert!(back.one.is_infinite() && back.many["a"].is_nan());
        assert!(serde_json::from_str::<Holder>(r#"{"one":"many","many":{}}"#).is_err());
    }
}
