//! The online answer, written column by column straight from what was found.

use std::fmt;

use axum::{
    http::{HeaderValue, header},
    response::{IntoResponse as _, Response},
};
use domain::{Column, ErrorCode, Frame, Timestamp, Value};
use feature_store::{Answer, FeatureStatus, Selection};
use serde::{Serialize, Serializer, ser::SerializeMap as _};

use crate::feast::{Class, Refusal};

/// Event time where there is none, as protobuf has it.
const NEVER: Timestamp = Timestamp::from_micros(0);

/// What `/get-online-features` answers.
pub struct Online<'a> {
    pub selection: &'a Selection,
    pub keys: &'a Frame,
    pub found: &'a Answer,
    /// Whether names have the view in front: `view__feature`.
    pub full: bool,
    /// Views and the versions that were read; empty unless they were asked for.
    pub versions: Vec<(String, u64)>,
}

impl Online<'_> {
    /// # Errors
    /// When the answer cannot be written, which no answer is known to cause.
    pub fn respond(&self) -> Result<Response, Refusal> {
        let body = serde_json::to_vec(self);
        let body = body.map_err(|e| Refusal::new(ErrorCode::Internal, Class::General, e.to_string()))?;
        let mut response = body.into_response();
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Ok(response)
    }
}

impl Serialize for Online<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut body = to.serialize_map(Some(2))?;
        body.serialize_entry("metadata", &Metadata(self))?;
        body.serialize_entry("results", &Results(self))?;
        body.end()
    }
}

struct Metadata<'a>(&'a Online<'a>);

impl Serialize for Metadata<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut metadata = to.serialize_map(None)?;
        metadata.serialize_entry("feature_names", &Names(self.0))?;
        if !self.0.versions.is_empty() {
            metadata.serialize_entry("feature_view_metadata", &Versions(&self.0.versions))?;
        }
        metadata.end()
    }
}

struct Names<'a>(&'a Online<'a>);

impl Serialize for Names<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let Online { selection, keys, found, full, .. } = self.0;
        let keys = keys.names().iter().map(|name| &**name);
        if *full {
            return to.collect_seq(keys.chain(found.features.names().iter().map(|name| &**name)));
        }
        to.collect_seq(keys.chain(selection.features().map(|feature| feature.feature.as_str())))
    }
}

struct Versions<'a>(&'a [(String, u64)]);

impl Serialize for Versions<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Version<'a> {
            name: &'a str,
            version: u64,
        }
        to.collect_seq(self.0.iter().map(|(name, version)| Version { name, version: *version }))
    }
}

struct Results<'a>(&'a Online<'a>);

impl Serialize for Results<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let Online { keys, found, .. } = self.0;
        let keys = keys.iter().map(|(_, column)| Vector { column, known: None });
        let features = found.features.iter().zip(&found.meta);
        to.collect_seq(keys.chain(features.map(|((_, column), meta)| Vector { column, known: Some(meta) })))
    }
}

/// One column of the answer; `known` is absent for keys.
struct Vector<'a> {
    column: &'a Column,
    known: Option<&'a feature_store::FeatureMeta>,
}

impl Serialize for Vector<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let rows = self.column.len();
        let mut vector = to.serialize_map(Some(3))?;
        vector.serialize_entry("values", &Values(self.column))?;
        match self.known {
            Some(known) => {
                vector.serialize_entry("statuses", &known.statuses)?;
                vector.serialize_entry("event_timestamps", &Times(&known.event_times))?;
            }
            None => {
                vector.serialize_entry("statuses", &KeyStatuses(self.column))?;
                vector.serialize_entry("event_timestamps", &Times(&vec![None; rows]))?;
            }
        }
        vector.end()
    }
}

struct KeyStatuses<'a>(&'a Column);

impl Serialize for KeyStatuses<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let status = |row| if self.0.get(row).is_null() { FeatureStatus::NullValue } else { FeatureStatus::Present };
        to.collect_seq((0..self.0.len()).map(status))
    }
}

/// Numbers, texts and bools as JSON has them, instants as whole seconds since 1970. NaN, which JSON has not, is null.
struct Values<'a>(&'a Column);

impl Serialize for Values<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Column::Bool(v) => to.collect_seq(v),
            Column::Int(v) => to.collect_seq(v),
            // The serializer writes null for what is not finite.
            Column::Float(v) => to.collect_seq(v),
            Column::Text(v) => to.collect_seq(v.iter().map(Option::as_deref)),
            Column::Timestamp(v) => to.collect_seq(v.iter().map(|at| at.map(|at| at.micros().div_euclid(1_000_000)))),
            Column::List(_, v) => to.collect_seq(v.iter().map(|list| list.as_deref().map(List))),
        }
    }
}

struct List<'a>(&'a [Value]);

impl Serialize for List<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(self.0.iter().map(Element))
    }
}

struct Element<'a>(&'a Value);

impl Serialize for Element<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Null => to.serialize_unit(),
            Value::Bool(b) => to.serialize_bool(*b),
            Value::Int(i) => to.serialize_i64(*i),
            Value::Float(x) => to.serialize_f64(*x),
            Value::Text(text) => to.serialize_str(text),
            Value::Timestamp(at) => to.serialize_i64(at.micros().div_euclid(1_000_000)),
            Value::List(values) => List(values).serialize(to),
        }
    }
}

struct Times<'a>(&'a [Option<Timestamp>]);

impl Serialize for Times<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(self.0.iter().map(|at| Rfc3339(at.unwrap_or(NEVER))))
    }
}

/// With 0, 3 or 6 digits behind the second, as protobuf's JSON has them.
struct Rfc3339(Timestamp);

impl fmt::Display for Rfc3339 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ok(at) = jiff::Timestamp::from_microsecond(self.0.micros()) else { return write!(f, "{}", self.0) };
        match self.0.micros().rem_euclid(1_000_000) {
            0 => write!(f, "{at:.0}"),
            rest if rest % 1_000 == 0 => write!(f, "{at:.3}"),
            _ => write!(f, "{at:.6}"),
        }
    }
}

impl Serialize for Rfc3339 {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_as_many_digits_as_they_need() {
        let shown = |micros| Rfc3339(Timestamp::from_micros(micros)).to_string();
        assert_eq!(shown(0), "1970-01-01T00:00:00Z");
        assert_eq!(shown(-500_000), "1969-12-31T23:59:59.500Z");
        assert_eq!(shown(1_000_001), "1970-01-01T00:00:01.000001Z");
    }

    #[test]
    fn what_json_has_no_number_for_is_null() {
        let column = Column::Float(vec![Some(f64::NAN), Some(0.1), None, Some(f64::INFINITY)]);
        assert_eq!(serde_json::to_string(&Values(&column)).unwrap(), "[null,0.1,null,null]");
    }
}
