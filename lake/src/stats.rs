//! Statistics of a file as Delta Lake's log keeps them: rows, nulls, least and greatest values by column.

use arrow::{
    array::{Array, AsArray as _, RecordBatch},
    datatypes::{DataType, Float64Type, Int64Type, TimeUnit, TimestampMicrosecondType},
};
use serde_json::{Map, Value, json};

use crate::day;

/// Longer texts have no greatest value in the statistics, and a shortened least one.
const TEXT_CHARS_MAX: usize = 64;

/// The statistics of these rows, as the log's JSON. What cannot be said exactly is left out, which readers take as
/// unknown.
pub(crate) fn of(rows: &RecordBatch) -> String {
    let (mut least, mut greatest, mut nulls) = (Map::new(), Map::new(), Map::new());
    for (field, column) in rows.schema().fields().iter().zip(rows.columns()) {
        nulls.insert(field.name().clone(), column.null_count().into());
        let (min, max) = extremes(column);
        if let Some(min) = min {
            least.insert(field.name().clone(), min);
        }
        if let Some(max) = max {
            greatest.insert(field.name().clone(), max);
        }
    }
    json!({"numRecords": rows.num_rows(), "minValues": least, "maxValues": greatest, "nullCount": nulls}).to_string()
}

fn extremes(column: &dyn Array) -> (Option<Value>, Option<Value>) {
    let both = |pair: Option<(Value, Value)>| pair.map_or((None, None), |(min, max)| (Some(min), Some(max)));
    match column.data_type() {
        DataType::Int64 => both(spread(column.as_primitive::<Int64Type>().iter()).map(|(a, b)| (a.into(), b.into()))),
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            let spread = spread(column.as_primitive::<TimestampMicrosecondType>().iter());
            both(spread.and_then(|(a, b)| Some((instant(a)?.into(), instant(b)?.into()))))
        }
        DataType::Float64 => {
            let values = column.as_primitive::<Float64Type>();
            // Readers order NaN in different ways, and JSON has no infinities.
            if values.iter().flatten().any(|value| !value.is_finite()) {
                return (None, None);
            }
            let min = values.iter().flatten().reduce(f64::min);
            both(min.zip(values.iter().flatten().reduce(f64::max)).map(|(a, b)| (a.into(), b.into())))
        }
        DataType::Utf8 => {
            let values = column.as_string::<i32>();
            let Some((min, max)) = spread(values.iter()) else { return (None, None) };
            let short: String = min.chars().take(TEXT_CHARS_MAX).collect();
            let fits = max.chars().count() <= TEXT_CHARS_MAX;
            (Some(short.into()), fits.then(|| max.into()))
        }
        _ => (None, None),
    }
}

fn spread<T: Ord + Copy>(values: impl Iterator<Item = Option<T>>) -> Option<(T, T)> {
    values.flatten().fold(None, |spread, value| {
        Some(spread.map_or((value, value), |(min, max): (T, T)| (min.min(value), max.max(value))))
    })
}

/// As `2024-02-29T00:00:00.000001Z`; `None` outside the years that readers take.
fn instant(micros: i64) -> Option<String> {
    day::name(day::of(micros))?;
    let time = jiff::Timestamp::from_microsecond(micros).ok()?;
    Some(format!("{time:.6}"))
}

/// What a file's statistics say of one column.
#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct Seen {
    pub(crate) rows: Option<u64>,
    /// By column.
    columns: Map<String, Value>,
    greatest: Map<String, Value>,
    nulls: Map<String, Value>,
}

impl Seen {
    /// Reads the log's JSON, whoever wrote it.
    pub(crate) fn parse(text: Option<&str>) -> Self {
        let Some(Value::Object(mut all)) = text.and_then(|text| serde_json::from_str(text).ok()) else {
            return Self::default();
        };
        let mut map = |name: &str| match all.remove(name) {
            Some(Value::Object(map)) => map,
            _ => Map::new(),
        };
        let (columns, greatest, nulls) = (map("minValues"), map("maxValues"), map("nullCount"));
        Self { rows: all.get("numRecords").and_then(Value::as_u64), columns, greatest, nulls }
    }

    pub(crate) fn ints(&self, column: &str) -> Option<(i64, i64)> {
        self.columns.get(column)?.as_i64().zip(self.greatest.get(column)?.as_i64())
    }

    /// Instants in microseconds. A greatest value without microseconds may have lost them, so it is taken as the last
    /// microsecond of its millisecond.
    pub(crate) fn instants(&self, column: &str) -> Option<(i64, i64)> {
        let read = |value: &Value| value.as_str()?.parse::<jiff::Timestamp>().ok().map(|t| t.as_microsecond());
        let (min, max) = read(self.columns.get(column)?).zip(read(self.greatest.get(column)?))?;
        Some((min, if max % 1_000 == 0 { max.saturating_add(999) } else { max }))
    }

    pub(crate) fn nulls(&self, column: &str) -> Option<u64> {
        self.nulls.get(column)?.as_u64()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray};

    use super::*;

    fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
        RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true))).unwrap()
    }

    #[test]
    fn what_is_written_is_read_back() {
        let at = TimestampMicrosecondArray::from(vec![Some(1_500), None, Some(-3)]).with_timezone("UTC");
        let rows = batch(vec![("n", Arc::new(Int64Array::from(vec![3, -1, 2]))), ("at", Arc::new(at))]);
        let seen = Seen::parse(Some(&of(&rows)));
        assert_eq!((seen.rows, seen.ints("n"), seen.nulls("at")), (Some(3), Some((-1, 3)), Some(1)));
        assert_eq!(seen.instants("at"), Some((-3, 1_500)));
    }

    #[test]
    fn a_greatest_instant_cut_to_milliseconds_covers_its_whole_millisecond() {
        let seen = Seen::parse(Some(
            r#"{"minValues":{"at":"1970-01-01T00:00:00.000Z"},"maxValues":{"at":"1970-01-01T00:00:00.001Z"}}"#,
        ));
        assert_eq!(seen.instants("at"), Some((0, 1_999)));
    }

    #[test]
    fn what_cannot_be_said_exactly_is_left_out() {
        let long = "ä".repeat(70);
        let rows = batch(vec![
            ("nan", Arc::new(Float64Array::from(vec![1.0, f64::NAN]))),
            ("infinite", Arc::new(Float64Array::from(vec![f64::INFINITY, 0.0]))),
            ("text", Arc::new(StringArray::from(vec![long.as_str(), "z"]))),
            ("late", Arc::new(TimestampMicrosecondArray::from(vec![0, i64::MAX]).with_timezone("UTC"))),
        ]);
        let stats: Value = serde_json::from_str(&of(&rows)).unwrap();
        assert_eq!(stats["minValues"], json!({"text": "z"}));
        assert_eq!(stats["maxValues"], json!({}));
        assert_eq!(Seen::parse(Some("{")), Seen::default());
    }
}
