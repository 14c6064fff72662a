//! Rows of feature requests: JSON objects in, JSON objects out. REST and gRPC share them.

use domain::{
    Coded, Column, ErrorCode, Frame, ServiceName, Timestamp, Value, ValueType, error::nearest, ports::ServiceSchema,
};
use feature_store::{Answer, FeatureError, FeatureStore};
use serde_json::{Map, Value as Json, json};

/// Name of the member that says as of when.
const EVENT_TIMESTAMP: &str = "event_timestamp";

pub type Rows = Vec<Map<String, Json>>;

/// Which entities, as of when.
pub struct Spine {
    pub keys: Frame,
    pub at: Vec<Timestamp>,
}

#[derive(Debug, thiserror::Error)]
pub enum RowsError {
    #[error("rows is empty")]
    Empty,
    #[error("rows[{row}].{member} {problem}")]
    Bad { row: usize, member: String, problem: String, hint: String },
    #[error(transparent)]
    Features(#[from] FeatureError),
}

impl Coded for RowsError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Empty | Self::Bad { .. } => ErrorCode::InvalidArgument,
            Self::Features(error) => error.code(),
        }
    }

    fn hint(&self) -> String {
        match self {
            Self::Empty => "send at least one row with the entity keys".to_owned(),
            Self::Bad { hint, .. } => hint.clone(),
            Self::Features(error) => error.hint(),
        }
    }
}

/// Reads the rows of a request. A row may leave out keys: their features are then not found.
pub fn spine(
    features: &FeatureStore,
    service: &ServiceName,
    rows: &[Map<String, Json>],
    now: Timestamp,
) -> Result<Spine, RowsError> {
    let schema = features.service_schema(service)?;
    if rows.is_empty() {
        return Err(RowsError::Empty);
    }
    let mut columns: Vec<Column> = schema.keys.iter().map(|f| Column::with_capacity(f.kind, rows.len())).collect();
    let mut at = Vec::with_capacity(rows.len());
    for (row, members) in rows.iter().enumerate() {
        known_members(&schema, row, members)?;
        for (field, column) in schema.keys.iter().zip(&mut columns) {
            let value = read(row, &field.name, members, field.kind)?;
            column.push(value).map_err(|e| bad(row, &field.name, e.to_string()))?;
        }
        at.push(match read(row, EVENT_TIMESTAMP, members, ValueType::Timestamp)? {
            Value::Timestamp(at) => at,
            _ => now,
        });
    }
    let mut keys = Frame::of_rows(rows.len());
    for (field, column) in schema.keys.iter().zip(columns) {
        keys.add(field.name.clone(), column).map_err(|e| bad(0, &field.name, e.to_string()))?;
    }
    Ok(Spine { keys, at })
}

fn bad(row: usize, member: &str, problem: String) -> RowsError {
    RowsError::Bad { row, member: member.to_owned(), problem, hint: String::new() }
}

fn read(row: usize, name: &str, members: &Map<String, Json>, kind: ValueType) -> Result<Value, RowsError> {
    let json = members.get(name).unwrap_or(&Json::Null);
    Value::from_json(json, kind).map_err(|e| bad(row, name, format!("does not fit: {e}")))
}

fn known_members(schema: &ServiceSchema, row: usize, members: &Map<String, Json>) -> Result<(), RowsError> {
    let known = || schema.keys.iter().map(|f| &*f.name).chain([EVENT_TIMESTAMP]);
    match members.keys().find(|name| !known().any(|k| k == name.as_str())) {
        None => Ok(()),
        Some(stranger) => Err(RowsError::Bad {
            row,
            member: stranger.clone(),
            problem: "is not an entity key of the service".to_owned(),
            hint: match nearest(stranger, known()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("its keys are {}", known().collect::<Vec<_>>().join(", ")),
            },
        }),
    }
}

/// Each row's keys, time and features as one object.
#[must_use]
pub fn values(spine: &Spine, answer: &Answer) -> Rows {
    (0..spine.at.len())
        .map(|row| {
            let mut members = spine.keys.row_json(row);
            members.insert(EVENT_TIMESTAMP.to_owned(), json!(spine.at[row]));
            members.extend(answer.features.row_json(row));
            members
        })
        .collect()
}

/// Status and event time of each row's features.
#[must_use]
pub fn statuses(answer: &Answer) -> Rows {
    (0..answer.features.rows())
        .map(|row| {
            let names = answer.features.names().iter();
            names
                .zip(&answer.meta)
                .map(|(name, meta)| {
                    let status = json!({"status": meta.statuses[row], "event_timestamp": meta.event_times[row]});
                    (name.to_string(), status)
                })
                .collect()
        })
        .collect()
}
