//! Tables by column, as Feast sends rows: `{"column": [values]}`.

use domain::{Timestamp, ValueType, definition::Source, time::BadTimestamp};
use jiff::tz::TimeZone;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Class, Refusal};

/// What Feast's client calls event and created time, whatever the source does.
const EVENT_TIME: &str = "event_timestamp";
const CREATED: &str = "created";

/// Columns in the order in which they were sent.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub struct Columns(Map<String, Value>);

impl Columns {
    /// The rows of the table, with times in the source's own names and as instants: a time without a zone is UTC, and
    /// whole numbers are seconds since 1970, as Feast writes them.
    ///
    /// # Errors
    /// A column that is no list, or of another length than the others; a time that cannot be read.
    pub fn into_rows(self, source: &Source) -> Result<Vec<Map<String, Value>>, Refusal> {
        let mut rows: Vec<Map<String, Value>> = Vec::new();
        let mut first: Option<String> = None;
        let has = |name: &str| self.0.contains_key(name);
        let has_own = (has(source.timestamp.as_str()), source.created.as_ref().is_some_and(|name| has(name.as_str())));
        for (name, column) in self.0 {
            let Value::Array(values) = column else {
                return Err(unfit(format!("df.{name} is not a list of values")));
            };
            let name = match (name.as_str(), &source.created) {
                (EVENT_TIME, _) if !has_own.0 => source.timestamp.to_string(),
                (CREATED, Some(created)) if !has_own.1 => created.to_string(),
                // The client always sends one; a source without created times has no use for it.
                (CREATED, None) if source.columns.iter().all(|column| column.name.as_str() != CREATED) => continue,
                _ => name,
            };
            let other = first.get_or_insert_with(|| name.clone());
            if *other == name {
                rows = vec![Map::new(); values.len()];
            } else if values.len() != rows.len() {
                let message = format!("df.{name} has {} values where df.{other} has {}", values.len(), rows.len());
                return Err(unfit(message));
            }
            let is_time = source.columns.iter().any(|c| c.name.as_str() == name && c.kind == ValueType::Timestamp);
            for (number, (row, value)) in rows.iter_mut().zip(values).enumerate() {
                let value = if is_time {
                    instant(value).map_err(|why| unfit(format!("df.{name}[{number}]: {why}")))?
                } else {
                    value
                };
                row.insert(name.clone(), value);
            }
        }
        Ok(rows)
    }
}

fn unfit(message: String) -> Refusal {
    Refusal::unfit(Class::General, message)
}

/// A time as our own JSON has it.
fn instant(value: Value) -> Result<Value, String> {
    match value {
        Value::Number(number) => {
            let seconds = number.as_i64().and_then(|seconds| seconds.checked_mul(1_000_000));
            let micros = seconds.ok_or_else(|| format!("{number} is not a whole number of seconds since 1970"))?;
            Ok(Value::String(Timestamp::from_micros(micros).to_string()))
        }
        Value::String(text) => parse(&text).map(|at| Value::String(at.to_string())),
        other => Ok(other),
    }
}

/// Reads a time; one without a zone is UTC, and a day is its beginning.
///
/// # Errors
/// Says that it is none.
pub fn parse(text: &str) -> Result<Timestamp, String> {
    match text.parse::<Timestamp>() {
        Err(BadTimestamp::NoZone(wall)) => wall
            .parse::<jiff::civil::DateTime>()
            .and_then(|wall| TimeZone::UTC.to_timestamp(wall))
            .map(|at| Timestamp::from_micros(at.as_microsecond()))
            .map_err(|e| e.to_string()),
        read => read.map_err(|e| e.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn source() -> Source {
        serde_json::from_value(json!({
            "name": "readings", "timestamp": "read_at", "created": "written_at", "columns": [
                {"name": "pump", "type": "text"}, {"name": "temp", "type": "float"},
                {"name": "serviced", "type": "timestamp"},
                {"name": "read_at", "type": "timestamp"}, {"name": "written_at", "type": "timestamp"}]
        }))
        .unwrap()
    }

    fn rows(df: Value) -> Result<Value, String> {
        let columns: Columns = serde_json::from_value(df).unwrap();
        let rows = columns.into_rows(&source()).map_err(|e| e.to_string())?;
        Ok(Value::Array(rows.into_iter().map(Value::Object).collect()))
    }

    #[test]
    fn columns_become_rows_under_the_sources_own_names() {
        let df = json!({"pump": ["a", "b"], "serviced": [0, null],
            "event_timestamp": ["2024-01-01T00:00:00", "2024-01-01T02:00:00+02:00"], "created": [null, null]});
        let wanted = json!([
            {"pump": "a", "serviced": "1970-01-01T00:00:00Z", "read_at": "2024-01-01T00:00:00Z", "written_at": null},
            {"pump": "b", "serviced": null, "read_at": "2024-01-01T00:00:00Z", "written_at": null}]);
        assert_eq!(rows(df), Ok(wanted));
    }

    #[test]
    fn times_without_a_zone_are_utc() {
        let read = |text| parse(text).map(|at| at.to_string());
        for text in ["2024-01-01", "2024-01-01T00:00:00", "2024-01-01 00:00:00", "2024-01-01T00:00:00+00:00"] {
            assert_eq!(read(text), Ok("2024-01-01T00:00:00Z".to_owned()), "{text}");
        }
        assert!(read("99999-01-01").is_err());
    }

    #[test]
    fn a_ragged_or_shapeless_table_names_its_column() {
        assert!(rows(json!({"pump": ["a"], "temp": [1, 2]})).unwrap_err().contains("df.temp has 2 values"));
        assert!(rows(json!({"pump": "a"})).unwrap_err().contains("df.pump is not a list"));
        assert!(rows(json!({"event_timestamp": ["soon"]})).unwrap_err().contains("df.read_at[0]"));
    }
}
