//! From bodies to rows: CSV, JSON lines, Parquet and rows of JSON. What does not fit is set aside with its
//! reason; only a body that cannot be read as a whole is an error.

use bytes::Bytes;
use domain::{
    Column, Frame, Scalar, Timestamp, Value, ValueType, definition::SourceColumn, error::nearest, frame::BadValue,
    time::BadTimestamp,
};
use jiff::tz::TimeZone;
use runtime::CpuError;
use serde_json::{Map, Value as Json};

use crate::{
    error::{Doing as _, FeatureError},
    exact,
    report::{Format, RowError},
    rows::{ParsedRow, RowMark},
    view::SourcePlan,
};

/// Keys are kept in the online store, whose keys are bounded.
pub(crate) const KEY_TEXT_BYTES_MAX: usize = 1_024;
const RAW_BYTES_MAX: usize = 16 << 10;

/// A row set aside, with what could be read of it.
#[derive(Debug)]
pub(crate) struct BadRow {
    pub(crate) error: RowError,
    pub(crate) raw: String,
}

#[derive(Debug, Default)]
pub(crate) struct Parsed {
    pub(crate) good: Vec<ParsedRow>,
    /// In order of their lines.
    pub(crate) bad: Vec<BadRow>,
}

/// Reads a whole body.
///
/// # Errors
/// `Body` when the header names an unknown column or lacks a required one, or the file is not of the format.
pub(crate) fn body(plan: &SourcePlan, format: Format, body: Bytes) -> Result<Parsed, FeatureError> {
    let mut intake = Intake::new(plan)?;
    match format {
        Format::Csv => intake.csv(&body)?,
        Format::JsonLines => intake.json_lines(&body),
        Format::Parquet => intake.parquet(body)?,
    }
    Ok(intake.parsed)
}

/// Reads rows that are JSON objects already.
pub(crate) fn rows(plan: &SourcePlan, rows: Vec<Map<String, Json>>) -> Result<Parsed, FeatureError> {
    let mut intake = Intake::new(plan)?;
    for (line, row) in (1..).zip(rows) {
        intake.object(line, &row);
    }
    Ok(intake.parsed)
}

/// Rows on their way in, held to the rules of their source.
pub(crate) struct Intake<'a> {
    plan: &'a SourcePlan,
    columns: &'a [SourceColumn],
    zone: Option<TimeZone>,
    /// Greatest magnitude per column, where a view aggregates it.
    pub(crate) limits: Vec<Option<f64>>,
    /// Columns that are keys of a view.
    pub(crate) keys: Vec<bool>,
    pub(crate) parsed: Parsed,
}

impl<'a> Intake<'a> {
    pub(crate) fn new(plan: &'a SourcePlan) -> Result<Self, FeatureError> {
        let columns = plan.definition.columns.as_slice();
        let mut limits: Vec<Option<f64>> = vec![None; columns.len()];
        let mut keys = vec![false; columns.len()];
        for view in &plan.views {
            for (at, limit) in view.limits() {
                limits[at] = Some(limits[at].map_or(limit, |known| known.min(limit)));
            }
            view.keys.iter().for_each(|key| keys[key.at] = true);
        }
        let zone = plan.definition.timezone.as_deref().map(TimeZone::get).transpose();
        let zone = zone.map_err(|e| body_error(plan, e.to_string(), None))?;
        Ok(Self { plan, columns, zone, limits, keys, parsed: Parsed::default() })
    }

    fn csv(&mut self, body: &[u8]) -> Result<(), FeatureError> {
        let body = body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body);
        let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(body);
        let header = reader.headers().map_err(|e| body_error(self.plan, format!("header: {e}"), None))?.clone();
        let names: Vec<&str> = header.iter().map(str::trim).collect();
        if names.iter().all(|name| name.is_empty()) {
            return Err(body_error(self.plan, "the header line is missing".into(), None));
        }
        let places = self.places(&names)?;
        let mut record = csv::ByteRecord::new();
        loop {
            match reader.read_byte_record(&mut record) {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                Err(e) => return Err(body_error(self.plan, e.to_string(), None)),
            }
            let line = record.position().map_or(0, csv::Position::line);
            let raw = || {
                let cell = |bytes: &[u8]| Json::from(String::from_utf8_lossy(bytes));
                if record.len() == names.len() {
                    let cells = names.iter().zip(record.iter());
                    Json::Object(cells.map(|(name, bytes)| ((*name).to_owned(), cell(bytes))).collect())
                } else {
                    Json::Array(record.iter().map(cell).collect())
                }
            };
            if record.len() != names.len() {
                let reason = format!("expected {} fields, found {}", names.len(), record.len());
                self.set_aside(line, None, reason, &raw());
                continue;
            }
            let zone = self.zone.clone();
            self.take(line, raw, |at, column| match places[at] {
                Some(place) => {
                    let cell = std::str::from_utf8(&record[place]).map_err(|_| "not UTF-8 text".to_owned())?;
                    text(cell, column.kind, zone.as_ref())
                }
                None => Ok(Value::Null),
            });
        }
    }

    /// Where each source column stands among the given names.
    pub(crate) fn places(&self, names: &[&str]) -> Result<Vec<Option<usize>>, FeatureError> {
        let known = || self.columns.iter().map(|column| column.name.as_str());
        for (at, name) in names.iter().enumerate() {
            if !known().any(|known| known == *name) {
                let near = nearest(name, known()).map(str::to_owned);
                return Err(body_error(self.plan, format!("unknown column `{name}`"), near));
            }
            if names[..at].contains(name) {
                return Err(body_error(self.plan, format!("column `{name}` stands twice"), None));
            }
        }
        let places: Vec<Option<usize>> = known().map(|column| names.iter().position(|name| *name == column)).collect();
        for (at, column) in self.columns.iter().enumerate() {
            if places[at].is_none() && (column.required || at == self.plan.timestamp) {
                return Err(body_error(self.plan, format!("required column `{}` is missing", column.name), None));
            }
        }
        Ok(places)
    }

    fn json_lines(&mut self, body: &[u8]) {
        let body = body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body);
        for (line, bytes) in (1..).zip(body.split(|byte| *byte == b'\n')) {
            let bytes = bytes.trim_ascii();
            if bytes.is_empty() {
                continue;
            }
            let raw = || Json::from(String::from_utf8_lossy(bytes));
            match serde_json::from_slice::<Json>(bytes) {
                Ok(Json::Object(row)) => self.object(line, &row),
                Ok(_) => self.set_aside(line, None, "expected a JSON object".into(), &raw()),
                Err(e) => self.set_aside(line, None, format!("not JSON: {e}"), &raw()),
            }
        }
    }

    fn object(&mut self, line: u64, row: &Map<String, Json>) {
        let raw = || Json::Object(row.clone());
        let known = || self.columns.iter().map(|column| column.name.as_str());
        if let Some(stray) = row.keys().find(|name| !known().any(|known| known == name.as_str())) {
            let near = nearest(stray, known()).map_or_else(String::new, |near| format!(", did you mean `{near}`?"));
            self.set_aside(line, Some(stray.clone()), format!("unknown column `{stray}`{near}"), &raw());
            return;
        }
        let zone = self.zone.clone();
        self.take(line, raw, |_, column| match row.get(column.name.as_str()) {
            Some(json) => zoned(Value::from_json(json, column.kind), zone.as_ref()),
            None => Ok(Value::Null),
        });
    }

    fn parquet(&mut self, body: Bytes) -> Result<(), FeatureError> {
        let frame = storage::from_parquet(body).map_err(|e| body_error(self.plan, e.to_string(), None))?;
        let names: Vec<&str> = frame.names().iter().map(|name| &**name).collect();
        let places = self.places(&names)?;
        let given: Vec<Option<&Column>> =
            places.iter().map(|place| place.and_then(|at| frame.column(names[at]))).collect();
        for (column, given) in self.columns.iter().zip(&given) {
            if let Some(given) = given {
                self.fits(column, given.kind())?;
            }
        }
        self.frame(&frame, &places, |row| row as u64 + 1);
        Ok(())
    }

    /// Whether a file's column of the type may be read as the source's.
    pub(crate) fn fits(&self, column: &SourceColumn, given: ValueType) -> Result<(), FeatureError> {
        let fits = match (given, column.kind) {
            (found, wanted) if found == wanted => true,
            // Texts are read as instants row by row, like CSV cells.
            (ValueType::Int, ValueType::Float) | (ValueType::Text, ValueType::Timestamp) => true,
            // Lengths and elements are looked at row by row.
            (ValueType::List(found), ValueType::List(wanted)) => {
                found.element == wanted.element || (found.element, wanted.element) == (Scalar::Int, Scalar::Float)
            }
            _ => false,
        };
        if fits {
            return Ok(());
        }
        let reason = format!("column `{}` is {given} where {} is needed", column.name, column.kind);
        Err(body_error(self.plan, reason, None))
    }

    /// Takes the rows of a frame whose columns stand where `places` says.
    pub(crate) fn frame(&mut self, frame: &Frame, places: &[Option<usize>], line: impl Fn(usize) -> u64) {
        let names = frame.names();
        let given: Vec<Option<&Column>> =
            places.iter().map(|place| place.and_then(|at| frame.column(&names[at]))).collect();
        for row in 0..frame.rows() {
            let zone = self.zone.clone();
            let raw = || Json::Object(frame.row_json(row));
            self.take(line(row), raw, |at, column| match (given[at].map(|given| given.get(row)), column.kind) {
                (Some(Value::Text(cell)), ValueType::Timestamp) => text(&cell, column.kind, zone.as_ref()),
                (Some(Value::Float(x)), _) if !x.is_finite() => Err(BadValue::NotFinite(x.to_string()).to_string()),
                #[expect(clippy::cast_precision_loss, reason = "ints widen into float columns")]
                (Some(Value::Int(i)), ValueType::Float) => Ok(Value::Float(i as f64)),
                (Some(Value::List(values)), ValueType::List(wanted)) => {
                    let finite = |value: &Value| !matches!(value, Value::Float(x) if !x.is_finite());
                    match values.iter().find(|value| !finite(value)) {
                        Some(Value::Float(x)) => Err(BadValue::NotFinite(x.to_string()).to_string()),
                        _ => wanted.take(&values).map(Value::List).map_err(|error| error.to_string()),
                    }
                }
                (Some(value), _) => Ok(value),
                (None, _) => Ok(Value::Null),
            });
        }
    }

    /// Takes one row, or sets it aside for the first of its columns that is at fault.
    fn take(
        &mut self,
        line: u64,
        raw: impl Fn() -> Json,
        cell: impl Fn(usize, &SourceColumn) -> Result<Value, String>,
    ) {
        let mut values = Vec::with_capacity(self.columns.len());
        for (at, column) in self.columns.iter().enumerate() {
            match cell(at, column).and_then(|value| self.lawful(at, column, &value).map(|()| value)) {
                Ok(value) => values.push(value),
                Err(reason) => return self.set_aside(line, Some(column.name.to_string()), reason, &raw()),
            }
        }
        let mark = RowMark::of(self.plan, &values);
        self.parsed.good.push(ParsedRow { values, mark });
    }

    fn lawful(&self, at: usize, column: &SourceColumn, value: &Value) -> Result<(), String> {
        if value.is_null() && at == self.plan.timestamp {
            return Err("the event time is missing".into());
        }
        if value.is_null() && column.required {
            return Err("a required value is missing".into());
        }
        if let Some(limit) = self.limits[at]
            && !exact::within(value, limit)
        {
            return Err(format!("{} is outside ±{limit:e}, the range of exact sums", value.to_json()));
        }
        match value {
            Value::Text(text) if self.keys[at] && text.len() > KEY_TEXT_BYTES_MAX => {
                Err(format!("a key of {} bytes is longer than {KEY_TEXT_BYTES_MAX}", text.len()))
            }
            _ => Ok(()),
        }
    }

    fn set_aside(&mut self, line: u64, column: Option<String>, reason: String, raw: &Json) {
        let mut raw = raw.to_string();
        if raw.len() > RAW_BYTES_MAX {
            raw.truncate(raw.floor_char_boundary(RAW_BYTES_MAX));
        }
        self.parsed.bad.push(BadRow { error: RowError { line, column, reason }, raw });
    }
}

fn text(cell: &str, kind: ValueType, zone: Option<&TimeZone>) -> Result<Value, String> {
    zoned(Value::from_text(cell, kind), zone)
}

/// Reads a wall-clock time in the declared zone. A time that stands twice (clocks going back) is the first of
/// the two, one that does not exist (clocks going forward) is moved forward by the gap.
fn zoned(value: Result<Value, BadValue>, zone: Option<&TimeZone>) -> Result<Value, String> {
    match (value, zone) {
        (Ok(value), _) => Ok(value),
        (Err(BadValue::Timestamp(BadTimestamp::NoZone(wall))), Some(zone)) => wall
            .parse::<jiff::civil::DateTime>()
            .and_then(|wall| zone.to_timestamp(wall))
            .map(|at| Value::Timestamp(Timestamp::from_micros(at.as_microsecond())))
            .map_err(|e| e.to_string()),
        (Err(error), _) => Err(error.to_string()),
    }
}

/// What a thread that reads a body gave. One that broke down did so over bytes that were made, or damaged, to do that: the
/// readers of some formats are not proof against all of them.
pub(crate) fn unbroken<T>(plan: &SourcePlan, read: Result<T, CpuError>) -> Result<T, FeatureError> {
    match read {
        Err(CpuError::Panicked(reason)) => Err(body_error(plan, format!("its reader broke down: {reason}"), None)),
        other => other.doing("read rows"),
    }
}

/// A body that cannot be taken as a whole.
pub(crate) fn body_error(plan: &SourcePlan, reason: String, near: Option<String>) -> FeatureError {
    FeatureError::Body { source_name: plan.definition.name.to_string(), reason, near }
}
