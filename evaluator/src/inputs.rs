//! The inputs of the most recent predictions, by column, for drift.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
};

use domain::{Frame, Value};

use crate::state::json_text;

/// Distinct texts kept per column; later ones share one code.
const MAX_TEXTS: usize = 65_536;
const NULL_CODE: u32 = u32::MAX;
const OTHER_TEXT: &str = "(other)";

/// How a column is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Numeric,
    Categorical,
}

#[derive(Debug)]
enum Cells {
    /// NaN is null.
    Numbers(VecDeque<f64>),
    Texts {
        codes: VecDeque<u32>,
        values: Vec<Arc<str>>,
        index: HashMap<Arc<str>, u32>,
    },
}

/// The columns of the last `rows` predictions of the log.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    columns: Vec<(String, Cells)>,
    rows: usize,
}

impl Recent {
    /// Starts anew with these columns and no rows.
    pub(crate) fn reset(&mut self, columns: &BTreeMap<String, Kind>) {
        self.rows = 0;
        self.columns = columns.iter().map(|(name, kind)| (name.clone(), Cells::new(*kind))).collect();
    }

    /// Whether these are the columns held.
    pub(crate) fn holds(&self, columns: &BTreeMap<String, Kind>) -> bool {
        self.columns.len() == columns.len()
            && self
                .columns
                .iter()
                .zip(columns)
                .all(|((name, cells), (other, kind))| name == other && cells.kind() == *kind)
    }

    pub(crate) const fn rows(&self) -> usize {
        self.rows
    }

    /// Adds one row of a frame.
    pub(crate) fn push(&mut self, inputs: &Frame, row: usize) {
        for (name, cells) in &mut self.columns {
            match inputs.column(name).map(|column| column.get(row)) {
                Some(Value::Float(x)) => cells.push_number(x),
                #[expect(clippy::cast_precision_loss, reason = "features are float")]
                Some(Value::Int(x)) => cells.push_number(x as f64),
                Some(Value::Bool(x)) => cells.push_bool(x),
                Some(Value::Text(text)) => cells.push_text(&text),
                Some(Value::Timestamp(t)) => cells.push_text(&t.to_string()),
                Some(list @ Value::List(_)) => cells.push_text(&list.to_json().to_string()),
                Some(Value::Null) | None => cells.push_null(),
            }
        }
        self.rows += 1;
    }

    /// Adds one row read back from the log.
    pub(crate) fn push_json<'a>(&mut self, value_of: impl Fn(&str) -> Option<&'a serde_json::Value>) {
        use serde_json::Value as J;
        for (name, cells) in &mut self.columns {
            match value_of(name) {
                Some(J::Number(n)) => cells.push_number(n.as_f64().unwrap_or(f64::NAN)),
                Some(J::Bool(b)) => cells.push_bool(*b),
                Some(J::String(text)) => cells.push_text(text),
                Some(other) => match json_text(other) {
                    Some(text) => cells.push_text(&text),
                    None => cells.push_null(),
                },
                None => cells.push_null(),
            }
        }
        self.rows += 1;
    }

    /// Drops the oldest rows.
    pub(crate) fn forget(&mut self, rows: usize) {
        let rows = rows.min(self.rows);
        for (_, cells) in &mut self.columns {
            match cells {
                Cells::Numbers(v) => drop(v.drain(..rows)),
                Cells::Texts { codes, .. } => drop(codes.drain(..rows)),
            }
        }
        self.rows -= rows;
    }

    /// A numeric column at `rows` (counted from the oldest held).
    pub(crate) fn numbers(&self, name: &str, rows: &[usize]) -> Option<Vec<Option<f64>>> {
        match self.cells(name)? {
            Cells::Numbers(v) => Some(rows.iter().map(|&row| Some(v[row]).filter(|x| !x.is_nan())).collect()),
            Cells::Texts { .. } => None,
        }
    }

    /// A categorical column at `rows` (counted from the oldest held).
    pub(crate) fn texts(&self, name: &str, rows: &[usize]) -> Option<Vec<Option<&str>>> {
        match self.cells(name)? {
            Cells::Texts { codes, values, .. } => {
                Some(rows.iter().map(|&row| values.get(codes[row] as usize).map(|text| &**text)).collect())
            }
            Cells::Numbers(_) => None,
        }
    }

    fn cells(&self, name: &str) -> Option<&Cells> {
        self.columns.iter().find(|(known, _)| known == name).map(|(_, cells)| cells)
    }
}

impl Cells {
    fn new(kind: Kind) -> Self {
        match kind {
            Kind::Numeric => Self::Numbers(VecDeque::new()),
            Kind::Categorical => Self::Texts { codes: VecDeque::new(), values: Vec::new(), index: HashMap::new() },
        }
    }

    const fn kind(&self) -> Kind {
        match self {
            Self::Numbers(_) => Kind::Numeric,
            Self::Texts { .. } => Kind::Categorical,
        }
    }

    fn push_null(&mut self) {
        match self {
            Self::Numbers(v) => v.push_back(f64::NAN),
            Self::Texts { codes, .. } => codes.push_back(NULL_CODE),
        }
    }

    fn push_number(&mut self, x: f64) {
        match self {
            Self::Numbers(v) => v.push_back(x),
            Self::Texts { .. } => self.push_text(&x.to_string()),
        }
    }

    fn push_bool(&mut self, x: bool) {
        match self {
            Self::Numbers(v) => v.push_back(f64::from(x)),
            Self::Texts { .. } => self.push_text(if x { "true" } else { "false" }),
        }
    }

    /// A text in a numeric column has no number: it counts as null.
    fn push_text(&mut self, text: &str) {
        let Self::Texts { codes, values, index } = self else { return self.push_null() };
        let text = if values.len() < MAX_TEXTS || index.contains_key(text) { text } else { OTHER_TEXT };
        let code = index.get(text).copied().unwrap_or_else(|| {
            let (code, text) = (crate::state::index_of(values.len()), Arc::<str>::from(text));
            values.push(text.clone());
            index.insert(text, code);
            code
        });
        codes.push_back(code);
    }
}
