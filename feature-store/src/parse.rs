//! From bodies to rows: CSV, JSON lines, Parquet and rows of JSON. What does not fit is set aside with its
//! reason; only a body that cannot be read as a whole is an error.

use std::collections::HashMap;

use bytes::Bytes;
use domain::{
    Column, Frame, Scalar, Timestamp, Value, ValueType, definition::SourceColumn, error::nearest, frame::BadValue,
    time::BadTimestamp,
};
use jiff::tz::TimeZone;
use runtime::CpuError;
use serde_json::{Map, Value as Json};

use crate::{
    drift::{DriftKind, Strays},
    error::{Doing as _, FeatureError},
    exact,
    report::{Fault, Format, Reason, RowError},
    rows::{ParsedRow, RowMark},
    view::SourcePlan,
};

/// Keys are kept in the online store, whose keys are bounded.
pub(crate) const KEY_TEXT_BYTES_MAX: usize = 1_024;
/// Names that one body may make us compare with the declared ones.
const NEAR_MAX: usize = 256;

/// A row set aside, with what could be read of it as JSON text.
#[derive(Debug)]
pub(crate) struct BadRow {
    pub(crate) error: RowError,
    pub(crate) raw: String,
    pub(crate) form: Form,
    /// What the row is called where it came from; absent: it has no name but its content.
    pub(crate) origin: Option<String>,
}

/// How the values of a raw row are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Json,
    /// Texts, as in CSV.
    Cells,
}

#[derive(Debug, Default)]
pub(crate) struct Parsed {
    pub(crate) good: Vec<ParsedRow>,
    /// In order of their lines.
    pub(crate) bad: Vec<BadRow>,
    /// Columns that are not as declared.
    pub(crate) strays: Strays,
    /// What each row is called where it came from, by its line; empty: they have no names.
    pub(crate) origins: Vec<String>,
    /// Whether all rows are taken or none.
    pub(crate) whole: bool,
}

impl Parsed {
    /// The same rows behind so many lines.
    pub(crate) fn behind(mut self, lines: u64) -> Self {
        self.good.iter_mut().for_each(|row| row.line += lines);
        self.bad.iter_mut().for_each(|row| row.error.line += lines);
        self
    }
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
    Ok(intake.finish())
}

/// Reads rows that are JSON objects already.
pub(crate) fn rows(plan: &SourcePlan, rows: Vec<Map<String, Json>>) -> Result<Parsed, FeatureError> {
    let mut intake = Intake::new(plan)?;
    for (line, row) in (1..).zip(rows) {
        intake.object(line, &row);
    }
    Ok(intake.finish())
}

/// A row that was set aside, or came as an entry of a stream.
#[derive(Debug)]
pub(crate) enum Raw {
    Row(Map<String, Json>, Form),
    /// What is no row, and why.
    Malformed(Json, String),
}

impl Raw {
    /// A text that is to be a JSON object.
    pub(crate) fn json(text: &str) -> Self {
        match serde_json::from_str(text) {
            Ok(Json::Object(row)) => Self::Row(row, Form::Json),
            Ok(_) => Self::Malformed(text.into(), "expected a JSON object".into()),
            Err(e) => Self::Malformed(text.into(), format!("not JSON: {e}")),
        }
    }
}

/// Reads rows that are each written in their own form.
pub(crate) fn raws(plan: &SourcePlan, rows: Vec<Raw>) -> Result<Parsed, FeatureError> {
    let mut intake = Intake::new(plan)?;
    for (line, raw) in (1..).zip(rows) {
        match raw {
            Raw::Row(row, form) => {
                intake.form = form;
                intake.object(line, &row);
            }
            Raw::Malformed(raw, why) => intake.malformed(line, why, &raw),
        }
    }
    Ok(intake.finish())
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
    /// Rows whose value in a column is of another type, per column.
    mistyped: Vec<u64>,
    /// The declared name that an unknown one is nearest to.
    near: HashMap<String, Option<String>>,
    /// How values are written.
    form: Form,
    parsed: Parsed,
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
        let mistyped = vec![0; columns.len()];
        let (near, parsed) = (HashMap::new(), Parsed::default());
        Ok(Self { plan, columns, zone, limits, keys, mistyped, near, form: Form::Json, parsed })
    }

    /// What was read, with the columns that came in another type.
    pub(crate) fn finish(self) -> Parsed {
        let Self { columns, mistyped, mut parsed, .. } = self;
        let rows = (parsed.good.len() + parsed.bad.len()) as u64;
        for (column, wrong) in columns.iter().zip(mistyped) {
            parsed.strays.mistyped(column.name.as_str(), wrong, rows);
        }
        parsed
    }

    fn csv(&mut self, body: &[u8]) -> Result<(), FeatureError> {
        self.form = Form::Cells;
        let body = body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body);
        let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(body);
        let header = reader.headers().map_err(|e| body_error(self.plan, format!("header: {e}"), None))?.clone();
        let names: Vec<&str> = header.iter().map(str::trim).collect();
        if names.iter().all(|name| name.is_empty()) {
            return Err(body_error(self.plan, "the header line is missing".into(), None));
        }
        let places = self.places(&names)?;
        self.note_header(&names);
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
                let text = format!("expected {} fields, found {}", names.len(), record.len());
                self.set_aside(line, None, Fault::new(Reason::Malformed, text), &raw());
                continue;
            }
            let zone = self.zone.clone();
            self.take(line, raw, |at, column| match places[at] {
                Some(place) => {
                    let cell = std::str::from_utf8(&record[place])
                        .map_err(|_| Fault::new(Reason::Malformed, "not UTF-8 text"))?;
                    text(cell, column.kind, zone.as_ref())
                }
                None => Ok(Value::Null),
            });
        }
    }

    /// Where each source column stands among the given names. A name that is not declared is left out, unless it is
    /// near to one that is missing and so probably means it.
    pub(crate) fn places(&self, names: &[&str]) -> Result<Vec<Option<usize>>, FeatureError> {
        let known = || self.columns.iter().map(|column| column.name.as_str());
        for (at, name) in names.iter().enumerate() {
            if !known().any(|known| known == *name)
                && let Some(near) = nearest(name, known()).filter(|near| !names.contains(near))
            {
                return Err(body_error(self.plan, format!("unknown column `{name}`"), Some(near.to_owned())));
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

    /// Notes in which way a header is not as declared.
    pub(crate) fn note_header(&mut self, names: &[&str]) {
        let declared = |name: &str| self.columns.iter().any(|column| column.name.as_str() == name);
        for name in names.iter().filter(|name| !declared(name)) {
            self.parsed.strays.note(name, DriftKind::Unknown, 1);
        }
        for column in self.columns.iter().filter(|column| !names.contains(&column.name.as_str())) {
            self.parsed.strays.note(column.name.as_str(), DriftKind::Missing, 1);
        }
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
                Ok(_) => self.malformed(line, "expected a JSON object", &raw()),
                Err(e) => self.malformed(line, format!("not JSON: {e}"), &raw()),
            }
        }
    }

    /// Sets aside what is no row at all.
    fn malformed(&mut self, line: u64, text: impl Into<String>, raw: &Json) {
        self.set_aside(line, None, Fault::new(Reason::Malformed, text), raw);
    }

    /// Takes one object. Members that are not declared are left out, unless one is near to a column that the row lacks.
    fn object(&mut self, line: u64, row: &Map<String, Json>) {
        let raw = || Json::Object(row.clone());
        let columns = self.columns;
        let known = || columns.iter().map(|column| column.name.as_str());
        for stray in row.keys().filter(|name| !known().any(|known| known == name.as_str())) {
            if self.near.len() < NEAR_MAX && !self.near.contains_key(stray) {
                self.near.insert(stray.clone(), nearest(stray, known()).map(str::to_owned));
            }
            let near = self.near.get(stray).and_then(Option::as_deref).filter(|near| !row.contains_key(*near));
            if let Some(near) = near {
                let text = format!("unknown column `{stray}`, did you mean `{near}`?");
                return self.set_aside(line, Some(stray.clone()), Fault::new(Reason::UnknownColumn, text), &raw());
            }
            self.parsed.strays.note(stray, DriftKind::Unknown, 1);
        }
        let (zone, form) = (self.zone.clone(), self.form);
        self.take(line, raw, |_, column| match row.get(column.name.as_str()) {
            Some(Json::String(cell)) if form == Form::Cells => text(cell, column.kind, zone.as_ref()),
            Some(json) => zoned(Value::from_json(json, column.kind), zone.as_ref()),
            None => Ok(Value::Null),
        });
    }

    fn parquet(&mut self, body: Bytes) -> Result<(), FeatureError> {
        let frame = storage::from_parquet(body).map_err(|e| body_error(self.plan, e.to_string(), None))?;
        let names: Vec<&str> = frame.names().iter().map(|name| &**name).collect();
        let places = self.places(&names)?;
        self.note_header(&names);
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
                (Some(Value::Float(x)), _) if !x.is_finite() => Err(BadValue::NotFinite(x.to_string()).into()),
                #[expect(clippy::cast_precision_loss, reason = "ints widen into float columns")]
                (Some(Value::Int(i)), ValueType::Float) => Ok(Value::Float(i as f64)),
                (Some(Value::List(values)), ValueType::List(wanted)) => {
                    let finite = |value: &Value| !matches!(value, Value::Float(x) if !x.is_finite());
                    match values.iter().find(|value| !finite(value)) {
                        Some(Value::Float(x)) => Err(BadValue::NotFinite(x.to_string()).into()),
                        _ => wanted.take(&values).map(Value::List).map_err(Fault::from),
                    }
                }
                (Some(value), _) => Ok(value),
                (None, _) => Ok(Value::Null),
            });
        }
    }

    /// Takes one row, or sets it aside for the first of its columns that is at fault.
    fn take(&mut self, line: u64, raw: impl Fn() -> Json, cell: impl Fn(usize, &SourceColumn) -> Result<Value, Fault>) {
        let mut values = Vec::with_capacity(self.columns.len());
        for (at, column) in self.columns.iter().enumerate() {
            match cell(at, column).and_then(|value| self.lawful(at, column, &value).map(|()| value)) {
                Ok(value) => values.push(value),
                Err(fault) => {
                    self.mistyped[at] += u64::from(fault.code == Reason::WrongType);
                    return self.set_aside(line, Some(column.name.to_string()), fault, &raw());
                }
            }
        }
        let mark = RowMark::of(self.plan, &values);
        self.parsed.good.push(ParsedRow { line, values, mark });
    }

    fn lawful(&self, at: usize, column: &SourceColumn, value: &Value) -> Result<(), Fault> {
        if value.is_null() && at == self.plan.timestamp {
            return Err(Fault::new(Reason::Missing, "the event time is missing"));
        }
        if value.is_null() && column.required {
            return Err(Fault::new(Reason::Missing, "a required value is missing"));
        }
        if let Some(limit) = self.limits[at]
            && !exact::within(value, limit)
        {
            let text = format!("{} is outside ±{limit:e}, the range of exact sums", value.to_json());
            return Err(Fault::new(Reason::OutOfRange, text));
        }
        match value {
            Value::Text(text) if self.keys[at] && text.len() > KEY_TEXT_BYTES_MAX => {
                let text = format!("a key of {} bytes is longer than {KEY_TEXT_BYTES_MAX}", text.len());
                Err(Fault::new(Reason::KeyTooLong, text))
            }
            _ => Ok(()),
        }
    }

    fn set_aside(&mut self, line: u64, column: Option<String>, fault: Fault, raw: &Json) {
        let error = RowError { line, column, code: fault.code, reason: fault.text };
        self.parsed.bad.push(BadRow { error, raw: raw.to_string(), form: self.form, origin: None });
    }
}

fn text(cell: &str, kind: ValueType, zone: Option<&TimeZone>) -> Result<Value, Fault> {
    zoned(Value::from_text(cell, kind), zone)
}

/// Reads a wall-clock time in the declared zone. A time that stands twice (clocks going back) is the first of
/// the two, one that does not exist (clocks going forward) is moved forward by the gap.
fn zoned(value: Result<Value, BadValue>, zone: Option<&TimeZone>) -> Result<Value, Fault> {
    match (value, zone) {
        (Ok(value), _) => Ok(value),
        (Err(BadValue::Timestamp(BadTimestamp::NoZone(wall))), Some(zone)) => wall
            .parse::<jiff::civil::DateTime>()
            .and_then(|wall| zone.to_timestamp(wall))
            .map(|at| Value::Timestamp(Timestamp::from_micros(at.as_microsecond())))
            .map_err(|e| Fault::new(Reason::BadTime, e.to_string())),
        (Err(error), _) => Err(error.into()),
    }
}

/// The error of a body that is taken whole or not at all, for the first of its rows that does not fit.
pub(crate) fn refused_row(plan: &SourcePlan, error: &RowError) -> FeatureError {
    let column = error.column.as_deref().map_or(String::new(), |c| format!(", column `{c}`"));
    body_error(plan, format!("row {}{column}: {}", error.line, error.reason), None)
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
