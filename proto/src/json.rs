//! JSON objects as `google.protobuf.Struct`, both ways (protobuf.dev, well-known types).
//!
//! A `Struct` knows one kind of number, the double: whole numbers within 2^53 come back as integers.

use prost_types::{ListValue, Struct, Value, value::Kind};
use serde_json::{Map, Number, Value as Json};

/// A JSON object as a `Struct`; anything but an object becomes an empty one.
#[must_use]
pub fn to_struct(json: Json) -> Struct {
    match json {
        Json::Object(members) => Struct { fields: members.into_iter().map(|(k, v)| (k, value(v))).collect() },
        _ => Struct::default(),
    }
}

/// A `Struct` as a JSON object.
#[must_use]
pub fn from_struct(object: Struct) -> Map<String, Json> {
    object.fields.into_iter().map(|(k, v)| (k, value_to_json(v))).collect()
}

fn value(json: Json) -> Value {
    let kind = match json {
        Json::Null => Kind::NullValue(0),
        Json::Bool(b) => Kind::BoolValue(b),
        Json::Number(n) => Kind::NumberValue(n.as_f64().unwrap_or(f64::NAN)),
        Json::String(s) => Kind::StringValue(s),
        Json::Array(items) => Kind::ListValue(ListValue { values: items.into_iter().map(value).collect() }),
        object @ Json::Object(_) => Kind::StructValue(to_struct(object)),
    };
    Value { kind: Some(kind) }
}

/// One value. NaN and infinities, which JSON lacks, become the texts `NaN`, `Infinity`, `-Infinity`, so that the
/// door refuses them by name.
#[must_use]
pub fn value_to_json(value: Value) -> Json {
    match value.kind {
        None | Some(Kind::NullValue(_)) => Json::Null,
        Some(Kind::BoolValue(b)) => Json::Bool(b),
        Some(Kind::NumberValue(x)) => number(x),
        Some(Kind::StringValue(s)) => Json::String(s),
        Some(Kind::ListValue(list)) => Json::Array(list.values.into_iter().map(value_to_json).collect()),
        Some(Kind::StructValue(object)) => Json::Object(from_struct(object)),
    }
}

const EXACT: f64 = 9_007_199_254_740_992.0;

#[expect(clippy::cast_possible_truncation, reason = "checked to be whole and within 2^53")]
fn number(x: f64) -> Json {
    if x.is_nan() {
        Json::from("NaN")
    } else if x.is_infinite() {
        Json::from(if x > 0.0 { "Infinity" } else { "-Infinity" })
    } else if x.fract() == 0.0 && x.abs() <= EXACT {
        Json::from(x as i64)
    } else {
        Number::from_f64(x).map_or(Json::Null, Json::Number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_object_survives_the_round_trip() {
        let object = json!({"a": 1, "b": [true, null, "x"], "c": {"d": 2.5}});
        assert_eq!(Json::Object(from_struct(to_struct(object.clone()))), object);
    }

    #[test]
    fn what_json_lacks_is_named() {
        assert_eq!(value_to_json(Value { kind: Some(Kind::NumberValue(f64::NAN)) }), json!("NaN"));
    }
}
