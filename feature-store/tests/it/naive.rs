//! The reference: every question looks at every row, straight from `point-in-time.md`.

use domain::Value;
use feature_store::FeatureStatus;
use serde_json::{Value as Json, json};

use crate::world::t;

/// A row of `events` as it was sent; times are microseconds after 2024 began.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    pub id: i64,
    pub who: Option<&'static str>,
    pub at: i64,
    pub written: Option<i64>,
    /// In tenths.
    pub x: Option<i64>,
    pub ok: Option<bool>,
    pub note: Option<&'static str>,
}

impl Row {
    pub fn json(&self) -> Json {
        json!({
            "id": self.id, "who": self.who, "at": t(self.at), "written": self.written.map(t),
            "x": self.x.map(|x| x as f64 / 10.0), "ok": self.ok, "note": self.note,
        })
    }
}

/// Rows that count: of one id and instant only the one sent last.
pub fn standing(rows: &[Row]) -> Vec<&Row> {
    let newer = |at: usize, row: &Row| rows[at + 1..].iter().any(|later| (later.id, later.at) == (row.id, row.at));
    rows.iter().enumerate().filter(|(at, row)| !newer(*at, row)).map(|(_, row)| row).collect()
}

/// The row that counts for `who` at `at`: newest event, then newest writing, then sent last.
fn newest<'a>(rows: &[&'a Row], who: Option<&str>, at: i64) -> Option<&'a Row> {
    let mine = rows.iter().filter(|row| row.who.is_some() && row.who == who && row.at <= at);
    mine.fold(None, |best: Option<&Row>, row| match best {
        Some(best) if (best.at, best.written) > (row.at, row.written) => Some(best),
        _ => Some(row),
    })
}

/// What every feature of the service `all` is, in schema order, with its status.
pub fn answer(all: &[Row], who: Option<&str>, at: i64) -> Vec<(Value, FeatureStatus)> {
    use FeatureStatus::{NotFound, NullValue, OutsideMaxAge, Present};
    let rows = standing(all);
    let of = |value: Value| if value == Value::Null { (value, NullValue) } else { (value, Present) };
    let float = |x: Option<i64>| x.map_or(Value::Null, |x| Value::Float(x as f64 / 10.0));
    let row = newest(&rows, who, at);
    let mut out = match row {
        Some(row) => vec![
            of(float(row.x)),
            of(row.note.map_or(Value::Null, |note| Value::Text(note.into()))),
            of(row.ok.map_or(Value::Null, Value::Bool)),
            of(Value::Int(row.id)),
        ],
        None => {
            let none = (Value::Null, NotFound);
            vec![none.clone(), (Value::Text("none".into()), NotFound), none.clone(), none]
        }
    };
    out.extend(match row {
        Some(row) if row.at >= at - 30 => vec![of(float(row.x)), of(Value::Int(row.id))],
        Some(_) => vec![(Value::Float(-1.0), OutsideMaxAge), (Value::Null, OutsideMaxAge)],
        None => vec![(Value::Float(-1.0), NotFound), (Value::Null, NotFound)],
    });
    let window = |length: i64| {
        let inside = move |row: &&&Row| row.who.is_some() && row.who == who && row.at <= at && row.at > at - length;
        rows.iter().filter(inside).copied().collect::<Vec<&Row>>()
    };
    let values: Vec<i64> = window(25).iter().filter_map(|row| row.x).collect();
    let shares: Vec<bool> = window(60).iter().filter_map(|row| row.ok).collect();
    let wide: Vec<f64> = window(60).iter().filter_map(|row| row.x).map(|x| x as f64 / 10.0).collect();
    let aggregates = if who.is_none() {
        vec![Value::Null; 4]
    } else {
        let mean = |n: f64, count: usize| if count == 0 { Value::Null } else { Value::Float(n / count as f64) };
        let average = wide.iter().sum::<f64>() / wide.len() as f64;
        let squares: f64 = wide.iter().map(|x| (x - average).powi(2)).sum();
        vec![
            Value::Int(values.len() as i64),
            Value::Float(values.iter().sum::<i64>() as f64 / 10.0),
            mean(shares.iter().filter(|ok| **ok).count() as f64, shares.len()),
            match mean(squares, wide.len()) {
                Value::Float(variance) => Value::Float(variance.sqrt()),
                other => other,
            },
        ]
    };
    out.extend(aggregates.into_iter().map(|value| if row.is_some() { of(value) } else { (value, NotFound) }));
    out
}

/// Equal, but for the last digits of a standard deviation computed in floats.
pub fn same(found: &Value, expected: &Value) -> bool {
    match (found, expected) {
        (Value::Float(a), Value::Float(b)) => (a - b).abs() < 1e-9,
        (a, b) => a == b,
    }
}
