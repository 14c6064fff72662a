//! Instances: JSON objects in, typed columns out, in one pass over each object.

use std::sync::Arc;

use domain::{
    Column, ColumnName, Field, Frame, Timestamp, Value, ValueType,
    error::nearest,
    frame::BadValue,
    ports::{RequestField, ServiceSchema},
};
use serde_json::Value as Json;

use crate::ServingError;

/// Where an instance says when it happened; RFC 3339 with a zone.
pub const EVENT_TIME: &str = "event_timestamp";

/// What an instance of one endpoint may and must hold: worked out once, when the endpoint is configured.
#[derive(Debug)]
pub(crate) struct Form {
    keys: Vec<Field>,
    request: Vec<RequestField>,
    /// Label key columns that the feature service does not know: texts or whole numbers.
    extra: Vec<ColumnName>,
    label_key: Vec<Place>,
}

/// Where a part of the label key stands.
#[derive(Debug, Clone, Copy)]
enum Place {
    Key(usize),
    Request(usize),
    Extra(usize),
    EventTime,
}

/// The instances of one request as columns.
#[derive(Debug)]
pub(crate) struct Parsed {
    /// The service's entity keys, in schema order.
    pub(crate) keys: Frame,
    /// The service's request values, in schema order, defaults filled in.
    pub(crate) request: Frame,
    pub(crate) event_times: Vec<Timestamp>,
    /// Null where a part of the key is null or absent.
    pub(crate) label_keys: Vec<Option<Arc<str>>>,
}

impl Form {
    /// The form of an endpoint over `schema`, or why there is none.
    pub(crate) fn new(schema: &ServiceSchema, label_key: &[ColumnName]) -> Result<Self, String> {
        let mut columns = schema.keys.iter().chain(schema.request.iter().map(|value| &value.field));
        if columns.any(|field| &*field.name == EVENT_TIME) {
            return Err(format!("its feature service has a column `{EVENT_TIME}`, a name kept for the event time"));
        }
        let mut extra = Vec::new();
        let mut places = Vec::with_capacity(label_key.len());
        for (i, column) in label_key.iter().enumerate() {
            let name = column.as_str();
            if label_key[..i].contains(column) {
                return Err(format!("label key column `{name}` stands twice"));
            }
            let key = schema.keys.iter().position(|field| &*field.name == name);
            let request = schema.request.iter().position(|value| &*value.field.name == name);
            let (place, kind) = match (key, request) {
                (Some(at), _) => (Place::Key(at), schema.keys[at].kind),
                (None, Some(at)) => (Place::Request(at), schema.request[at].field.kind),
                (None, None) if name == EVENT_TIME => (Place::EventTime, ValueType::Timestamp),
                (None, None) => {
                    extra.push(column.clone());
                    (Place::Extra(extra.len() - 1), ValueType::Text)
                }
            };
            if kind == ValueType::Float {
                return Err(format!("label key column `{name}` is float, which identifies nothing reliably"));
            }
            places.push(place);
        }
        Ok(Self { keys: schema.keys.clone(), request: schema.request.clone(), extra, label_key: places })
    }

    /// Reads `instances`; `now` is the event time of those that name none.
    pub(crate) fn read(&self, instances: &[Json], now: Timestamp) -> Result<Parsed, ServingError> {
        if instances.is_empty() {
            return Err(bad("instances".into(), "is empty", "send at least one instance".into()));
        }
        let rows = instances.len();
        let column = |field: &Field| Column::with_capacity(field.kind, rows);
        let mut keys: Vec<_> = self.keys.iter().map(column).collect();
        let mut request: Vec<_> = self.request.iter().map(|value| column(&value.field)).collect();
        let mut extra: Vec<Option<Arc<str>>> = vec![None; self.extra.len()];
        let mut event_times = Vec::with_capacity(rows);
        let mut label_keys = Vec::with_capacity(rows);
        for (row, instance) in instances.iter().enumerate() {
            let Json::Object(object) = instance else {
                let hint = "write each instance as an object of column names and values".into();
                return Err(bad(format!("instances[{row}]"), "is not an object", hint));
            };
            let mut found = 0;
            let mut look_up = |name: &str| {
                let value = object.get(name);
                found += usize::from(value.is_some());
                value
            };
            for (column, field) in keys.iter_mut().zip(&self.keys) {
                let json = look_up(&field.name).ok_or_else(|| {
                    let hint = format!("send `{}` as {}, or null where it is not known", field.name, field.kind);
                    bad(path(row, &field.name), "is missing: it is an entity key", hint)
                })?;
                fill(column, row, field, value(row, field, json)?)?;
            }
            for (column, wanted) in request.iter_mut().zip(&self.request) {
                let field = &wanted.field;
                let given = match look_up(&field.name) {
                    Some(json) => value(row, field, json)?,
                    None => Value::Null,
                };
                let value = match (given, &wanted.default) {
                    (Value::Null, Some(default)) => default.clone(),
                    (Value::Null, None) => {
                        let problem = "is missing: it has no default";
                        let hint = format!("send `{}` as {}", field.name, field.kind);
                        return Err(bad(path(row, &field.name), problem, hint));
                    }
                    (value, _) => value,
                };
                fill(column, row, field, value)?;
            }
            for (slot, name) in extra.iter_mut().zip(&self.extra) {
                *slot = look_up(name.as_str()).map_or(Ok(None), |json| label_part(row, name, json))?;
            }
            let at = match look_up(EVENT_TIME) {
                None | Some(Json::Null) => now,
                Some(json) => event_time(row, json)?,
            };
            if found < object.len() {
                return Err(self.unknown(row, object));
            }
            event_times.push(at);
            label_keys.push(self.label(row, &keys, &request, &extra, at)?);
        }
        let names = self.keys.iter().map(|field| field.name.clone());
        let keys = frame(names.zip(keys), rows)?;
        let names = self.request.iter().map(|value| value.field.name.clone());
        let request = frame(names.zip(request), rows)?;
        Ok(Parsed { keys, request, event_times, label_keys })
    }

    /// The label key of `row`, which every column holds by now.
    fn label(
        &self,
        row: usize,
        keys: &[Column],
        request: &[Column],
        extra: &[Option<Arc<str>>],
        at: Timestamp,
    ) -> Result<Option<Arc<str>>, ServingError> {
        let part = |place: Place| match place {
            Place::Key(i) => text(keys[i].get(row)),
            Place::Request(i) => text(request[i].get(row)),
            Place::Extra(i) => extra[i].clone(),
            Place::EventTime => Some(at.to_string().into()),
        };
        if let [only] = self.label_key[..] {
            return Ok(part(only));
        }
        let mut joined = String::new();
        for (i, place) in self.label_key.iter().enumerate() {
            let Some(text) = part(*place) else { return Ok(None) };
            if text.contains('|') {
                let problem = format!("has `|` in a part of its label key: {text:?}");
                let hint = "a label key of several columns is joined by `|`, so no part may hold one".into();
                return Err(bad(format!("instances[{row}]"), problem, hint));
            }
            if i > 0 {
                joined.push('|');
            }
            joined.push_str(&text);
        }
        Ok((!joined.is_empty()).then(|| joined.into()))
    }

    fn known(&self) -> impl Iterator<Item = &str> {
        let keys = self.keys.iter().map(|field| &*field.name);
        let request = self.request.iter().map(|value| &*value.field.name);
        keys.chain(request).chain(self.extra.iter().map(ColumnName::as_str)).chain([EVENT_TIME])
    }

    fn unknown(&self, row: usize, object: &serde_json::Map<String, Json>) -> ServingError {
        let stranger = object.keys().find(|name| !self.known().any(|known| known == name.as_str()));
        let name = stranger.map_or("", String::as_str);
        let hint = match nearest(name, self.known()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("this endpoint takes {}", self.known().collect::<Vec<_>>().join(", ")),
        };
        let shown: String = name.chars().take(64).collect();
        bad(path(row, &shown), "is not a field of this endpoint", hint)
    }
}

fn frame(columns: impl Iterator<Item = (Arc<str>, Column)>, rows: usize) -> Result<Frame, ServingError> {
    let mut frame = Frame::of_rows(rows);
    for (name, column) in columns {
        frame
            .add(name, column)
            .map_err(|error| ServingError::BadFeatures { problem: format!("a bad schema: {error}") })?;
    }
    Ok(frame)
}

fn path(row: usize, name: &str) -> String {
    format!("instances[{row}].{name}")
}

fn bad(path: String, problem: impl Into<String>, hint: String) -> ServingError {
    ServingError::BadInstance { path, problem: problem.into(), hint }
}

fn value(row: usize, field: &Field, json: &Json) -> Result<Value, ServingError> {
    Value::from_json(json, field.kind).map_err(|error| wrong(row, field, &error))
}

fn wrong(row: usize, field: &Field, error: &BadValue) -> ServingError {
    let hint = match error {
        BadValue::NotFinite(_) => format!("send a finite number, or leave `{}` out if it has a default", field.name),
        BadValue::WrongType { .. } | BadValue::Length { .. } | BadValue::Element { .. } => {
            format!("send `{}` as {}", field.name, field.kind)
        }
        BadValue::Timestamp(_) => "write RFC 3339 with a zone, as in `2013-04-01T12:00:00Z`".into(),
    };
    bad(path(row, &field.name), format!("is wrong: {error}"), hint)
}

/// Appends a value; only a default of the wrong type can fail here.
fn fill(column: &mut Column, row: usize, field: &Field, value: Value) -> Result<(), ServingError> {
    column.push(value).map_err(|error| wrong(row, field, &error))
}

fn event_time(row: usize, json: &Json) -> Result<Timestamp, ServingError> {
    let field = Field::new(EVENT_TIME, ValueType::Timestamp);
    match value(row, &field, json)? {
        Value::Timestamp(at) => Ok(at),
        _ => Err(wrong(row, &field, &BadValue::WrongType { expected: field.kind, found: json.to_string() })),
    }
}

/// A part of the label key that is no column of the service.
fn label_part(row: usize, name: &ColumnName, json: &Json) -> Result<Option<Arc<str>>, ServingError> {
    match json {
        Json::Null => Ok(None),
        Json::String(text) => Ok(Some(text.as_str().into())),
        Json::Number(number) if number.is_i64() || number.is_u64() => Ok(Some(number.to_string().into())),
        _ => {
            let hint = format!("send `{name}` as text or as a whole number");
            Err(bad(path(row, name.as_str()), "is wrong: expected text or int", hint))
        }
    }
}

fn text(value: Value) -> Option<Arc<str>> {
    match value {
        Value::Null => None,
        Value::Text(text) => Some(text),
        Value::Bool(flag) => Some(flag.to_string().into()),
        Value::Int(number) => Some(number.to_string().into()),
        Value::Float(number) => Some(number.to_string().into()),
        Value::Timestamp(at) => Some(at.to_string().into()),
        list @ Value::List(_) => Some(list.to_json().to_string().into()),
    }
}

#[cfg(test)]
mod tests {
    use domain::{Coded, ErrorCode};
    use serde_json::json;

    use super::*;

    fn form() -> Form {
        let schema = ServiceSchema {
            service: "flights".parse().unwrap(),
            keys: vec![Field::new("origin", ValueType::Text)],
            request: vec![
                RequestField { field: Field::new("distance", ValueType::Float), default: None },
                RequestField { field: Field::new("month", ValueType::Int), default: Some(Value::Int(6)) },
                RequestField { field: Field::new("scheduled", ValueType::Timestamp), default: Some(Value::Null) },
            ],
            features: vec![Field::new("weather__temp", ValueType::Float)],
        };
        Form::new(&schema, &["flight_id".parse().unwrap()]).unwrap()
    }

    fn now() -> Timestamp {
        "2013-04-01T12:00:00Z".parse().unwrap()
    }

    #[test]
    fn values_become_typed_columns_with_defaults() {
        let instances = [
            json!({"origin": "JFK", "distance": 760, "flight_id": 17}),
            json!({"origin": null, "distance": 1.5, "month": 4, "event_timestamp": "2013-04-01T08:00:00-05:00"}),
        ];
        let parsed = form().read(&instances, now()).unwrap();
        assert_eq!(parsed.keys.column("origin"), Some(&Column::Text(vec![Some("JFK".into()), None])));
        assert_eq!(parsed.request.column("distance"), Some(&Column::Float(vec![Some(760.0), Some(1.5)])));
        assert_eq!(parsed.request.column("month"), Some(&Column::Int(vec![Some(6), Some(4)])));
        assert_eq!(parsed.request.column("scheduled"), Some(&Column::Timestamp(vec![None, None])));
        assert_eq!(parsed.label_keys, [Some("17".into()), None]);
        assert_eq!(parsed.event_times[0], now());
        assert_eq!(parsed.event_times[1].to_string(), "2013-04-01T13:00:00Z");
    }

    #[test]
    fn bad_instances_are_refused_by_name_with_a_way_to_mend_them() {
        let good = || json!({"origin": "JFK", "distance": 760.0});
        let with = |name: &str, value: Json| {
            let mut instance = good();
            instance[name] = value;
            instance
        };
        let cases = [
            (vec![], "instances is empty", "at least one"),
            (vec![good(), json!([1])], "instances[1] is not an object", "an object"),
            (vec![json!("x")], "instances[0] is not an object", "an object"),
            (
                vec![good(), json!({"origin": "JFK"})],
                "instances[1].distance is missing: it has no",
                "`distance` as float",
            ),
            (vec![with("distance", json!(null))], "instances[0].distance is missing: it has no default", "as float"),
            (vec![json!({"distance": 1.0})], "instances[0].origin is missing: it is an entity key", "or null"),
            (
                vec![with("distance", json!("far"))],
                "instances[0].distance is wrong: expected float, found text",
                "float",
            ),
            (vec![with("distance", json!("NaN"))], "instances[0].distance is wrong: NaN is not a finite", "finite"),
            (vec![with("distance", json!([1.0]))], "instances[0].distance is wrong: expected float, found an", "float"),
            (vec![with("month", json!(4.5))], "instances[0].month is wrong: expected int, found number 4.5", "as int"),
            (vec![with("month", json!(true))], "instances[0].month is wrong: expected int, found bool true", "as int"),
            (vec![with("origin", json!(1))], "instances[0].origin is wrong: expected text, found number 1", "as text"),
            (vec![with("distanse", json!(1))], "instances[0].distanse is not a field", "did you mean `distance`?"),
            (vec![with("qqqqqqqqqqqqqqqq", json!(1))], "is not a field of this endpoint", "takes origin, distance"),
            (vec![with("flight_id", json!(1.5))], "instances[0].flight_id is wrong: expected text or int", "whole"),
            (
                vec![with("event_timestamp", json!("2013-04-01T12:00:00"))],
                "event_timestamp is wrong: timestamp",
                "zone",
            ),
            (vec![with("event_timestamp", json!(5))], "event_timestamp is wrong: expected timestamp", "timestamp"),
            (vec![with("weather__temp", json!(5))], "instances[0].weather__temp is not a field", "takes"),
        ];
        for (instances, message, hint) in cases {
            let error = form().read(&instances, now()).unwrap_err();
            assert_eq!(error.code(), ErrorCode::InvalidArgument, "{error}");
            assert!(error.to_string().contains(message), "{error} lacks {message}");
            assert!(error.hint().contains(hint), "{} lacks {hint}", error.hint());
        }
    }

    #[test]
    fn parts_of_a_label_key_are_joined_and_never_ambiguous() {
        let schema = ServiceSchema {
            service: "sensors".parse().unwrap(),
            keys: vec![Field::new("device", ValueType::Text)],
            request: vec![],
            features: vec![],
        };
        let label_key = ["device".parse().unwrap(), EVENT_TIME.parse().unwrap(), "turn".parse().unwrap()];
        let form = Form::new(&schema, &label_key).unwrap();
        let read = |instance: Json| form.read(&[instance], now());
        let parsed = read(json!({"device": "a", "turn": 3})).unwrap();
        assert_eq!(parsed.label_keys, [Some("a|2013-04-01T12:00:00Z|3".into())]);
        assert_eq!(read(json!({"device": "a"})).unwrap().label_keys, [None]);
        assert!(read(json!({"device": "a|b", "turn": 3})).unwrap_err().to_string().contains("has `|`"));
    }

    #[test]
    fn a_float_is_no_label_key() {
        let schema = ServiceSchema {
            service: "s".parse().unwrap(),
            keys: vec![],
            request: vec![RequestField { field: Field::new("x", ValueType::Float), default: None }],
            features: vec![],
        };
        assert!(Form::new(&schema, &["x".parse().unwrap()]).unwrap_err().contains("`x` is float"));
    }
}
