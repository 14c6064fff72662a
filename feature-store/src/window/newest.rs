//! The newest few values.

use std::sync::Arc;

use domain::{Timestamp, Value};

use crate::{codec, error::FeatureError, window::Rank};

/// The newest values of some rows, at most so many. Which row is newer: see [`Rank`].
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Newest {
    most: usize,
    /// Oldest first.
    rows: Vec<(Rank, Value)>,
}

impl Newest {
    pub(crate) fn of(most: u32) -> Self {
        Self { most: most as usize, rows: Vec::new() }
    }

    /// Takes a row in; one that is known already changes nothing.
    pub(crate) fn add(&mut self, rank: Rank, value: &Value) {
        let at = match self.rows.binary_search_by(|(known, _)| known.cmp(&rank)) {
            Ok(_) => return,
            Err(0) if self.rows.len() == self.most => return,
            Err(at) => at,
        };
        self.rows.insert(at, (rank, value.clone()));
        if self.rows.len() > self.most {
            self.rows.remove(0);
        }
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        other.rows.iter().for_each(|(rank, value)| self.add(*rank, value));
    }

    /// The values, oldest first.
    pub(crate) fn list(&self) -> Value {
        Value::List(self.rows.iter().map(|(_, value)| value.clone()).collect::<Arc<[Value]>>())
    }

    pub(crate) fn write(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.rows.len() * 36);
        for ((at, created, number), value) in &self.rows {
            let created = created.map_or(Value::Null, |created| Value::Timestamp(Timestamp::from_micros(created)));
            for part in [&Value::Int(*at), &created, &Value::Int(*number), value] {
                codec::push_value(&mut out, part);
            }
        }
        out
    }

    pub(crate) fn read(most: u32, bytes: &[u8]) -> Result<Self, FeatureError> {
        let values = codec::read_values(bytes)?;
        let wrong = || codec::corrupt("not the newest values of a tile".into());
        let (rows, []) = values.as_chunks::<4>() else { return Err(wrong()) };
        let row = |row: &[Value; 4]| match row {
            [Value::Int(at), Value::Null, Value::Int(number), value] => Ok(((*at, None, *number), value.clone())),
            [Value::Int(at), Value::Timestamp(created), Value::Int(number), value] => {
                Ok(((*at, Some(created.micros()), *number), value.clone()))
            }
            _ => Err(wrong()),
        };
        let rows = rows.iter().map(row).collect::<Result<Vec<_>, _>>()?;
        if rows.len() > most as usize || !rows.is_sorted_by(|a, b| a.0 < b.0) {
            return Err(wrong());
        }
        Ok(Self { most: most as usize, rows })
    }
}
