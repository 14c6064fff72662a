//! Reading an example's files: typed rows in order of event time.

use std::{collections::BTreeMap, fs::File, path::Path};

use anyhow::Context as _;
use domain::{Timestamp, Value, ValueType};
use parquet::{
    file::reader::{FileReader as _, SerializedFileReader},
    record::Field,
};
use serde_json::{Map, Value as Json};

/// A file's rows as JSON objects, sorted by event time.
pub struct Rows {
    rows: Vec<(Timestamp, Map<String, Json>)>,
    /// Rows before this index have been taken.
    next: usize,
}

/// What a source says of its columns.
pub struct Columns {
    pub timestamp: String,
    pub types: BTreeMap<String, ValueType>,
}

impl Columns {
    /// From the source's definition as the API shows it.
    pub fn of(definitions: &Json, source: &str) -> anyhow::Result<Self> {
        let found = definitions["definitions"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|d| d["kind"] == "Source" && d["name"] == source)
            .with_context(|| format!("the plan names source `{source}`, which is not defined"))?;
        let types = found["columns"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|c| Ok((c["name"].as_str().unwrap_or("").to_owned(), serde_json::from_value(c["type"].clone())?)))
            .collect::<anyhow::Result<_>>()?;
        Ok(Self { timestamp: found["timestamp"].as_str().unwrap_or("").to_owned(), types })
    }
}

impl Rows {
    pub fn read(path: &Path, columns: &Columns) -> anyhow::Result<Self> {
        let mut rows = match path.extension().and_then(|e| e.to_str()) {
            Some("parquet") => parquet_rows(path, columns),
            Some("csv") => csv_rows(path, columns),
            _ => anyhow::bail!("rows come in .parquet or .csv"),
        }
        .with_context(|| format!("`{}`", path.display()))?;
        rows.sort_by_key(|(at, _)| *at);
        Ok(Self { rows, next: 0 })
    }

    /// The rows not yet taken with event time at or before `until`.
    pub fn take_until(&mut self, until: Timestamp) -> &[(Timestamp, Map<String, Json>)] {
        let from = self.next;
        let ahead = &self.rows[from..];
        self.next = from + ahead.partition_point(|(at, _)| *at <= until);
        &self.rows[from..self.next]
    }
}

fn keyed(row: Map<String, Json>, columns: &Columns) -> anyhow::Result<(Timestamp, Map<String, Json>)> {
    let at = row.get(&columns.timestamp).and_then(Json::as_str);
    let at = at.with_context(|| format!("a row has no `{}`", columns.timestamp))?.parse()?;
    Ok((at, row))
}

fn parquet_rows(path: &Path, columns: &Columns) -> anyhow::Result<Vec<(Timestamp, Map<String, Json>)>> {
    let reader = SerializedFileReader::new(File::open(path)?)?;
    let mut out = Vec::new();
    for row in reader.get_row_iter(None)? {
        let row = row?;
        let object = row
            .get_column_iter()
            .filter(|(name, _)| columns.types.contains_key(*name))
            .map(|(name, field)| Ok((name.clone(), json(field)?)))
            .collect::<anyhow::Result<_>>()?;
        out.push(keyed(object, columns)?);
    }
    Ok(out)
}

fn json(field: &Field) -> anyhow::Result<Json> {
    Ok(match field {
        Field::Null => Json::Null,
        Field::Bool(b) => Json::from(*b),
        Field::Int(i) => Json::from(*i),
        Field::Long(i) => Json::from(*i),
        Field::Float(x) => Json::from(*x),
        Field::Double(x) => Json::from(*x),
        Field::Str(s) => Json::from(s.as_str()),
        Field::TimestampMicros(us) => Json::from(Timestamp::from_micros(*us).to_string()),
        Field::TimestampMillis(ms) => Json::from(Timestamp::from_micros(ms * 1_000).to_string()),
        other => anyhow::bail!("a column holds {other}, which the replay cannot read"),
    })
}

fn csv_rows(path: &Path, columns: &Columns) -> anyhow::Result<Vec<(Timestamp, Map<String, Json>)>> {
    let mut reader = csv::Reader::from_path(path)?;
    let head = reader.headers()?.clone();
    let mut out = Vec::new();
    for record in reader.records() {
        let record = record?;
        let mut object = Map::new();
        for (name, cell) in head.iter().zip(&record) {
            if let Some(kind) = columns.types.get(name) {
                object.insert(name.to_owned(), Value::from_text(cell, *kind)?.to_json());
            }
        }
        out.push(keyed(object, columns)?);
    }
    Ok(out)
}
