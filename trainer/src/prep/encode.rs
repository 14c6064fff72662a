use std::f32::consts::TAU;

use domain::Frame;

use super::{Preprocessor, Scaled};
use crate::TrainerError;

/// Rows as the learner sees them.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Encoded {
    pub(crate) rows: usize,
    pub(crate) width: usize,
    /// `rows * width`, row by row.
    pub(crate) dense: Vec<f32>,
    /// Per embedding the number of each row's category.
    pub(crate) categories: Vec<Vec<u32>>,
}

impl Preprocessor {
    pub(crate) fn encode(&self, rows: &Frame) -> Result<Encoded, TrainerError> {
        let width = self.width();
        let mut encoded = Encoded {
            rows: rows.rows(),
            width,
            dense: vec![0.0; rows.rows() * width],
            categories: vec![Vec::new(); self.embeddings.len()],
        };
        self.write(rows, &mut encoded, |_| true)?;
        Ok(encoded)
    }

    /// Writes again what depends on `column`, from `rows`; all else stays.
    pub(crate) fn rewrite(&self, column: &str, rows: &Frame, encoded: &mut Encoded) -> Result<(), TrainerError> {
        self.write(rows, encoded, |name| name == column)
    }

    fn write(&self, rows: &Frame, out: &mut Encoded, wanted: impl Fn(&str) -> bool) -> Result<(), TrainerError> {
        let mut flag_at = self.scaled.len();
        for (at, scaled) in self.scaled.iter().enumerate() {
            if wanted(&scaled.column) || scaled.minus.as_deref().is_some_and(&wanted) {
                let raw = scaled.raw(rows)?;
                out.fill(at, raw.iter().map(|&x| scaled.scale(x)));
                if scaled.flag {
                    out.fill(flag_at, raw.iter().map(|x| f32::from(u8::from(x.is_nan()))));
                }
            }
            flag_at += usize::from(scaled.flag);
        }
        let sines_at = flag_at;
        let cosines_at = sines_at + self.cycles.len();
        for (at, cycle) in self.cycles.iter().enumerate() {
            if wanted(&cycle.column) {
                let phases: Vec<f32> = floats(rows, &cycle.column)?.iter().map(|x| phase(*x, cycle.period)).collect();
                out.fill(sines_at + at, phases.iter().map(|x| if x.is_nan() { 0.0 } else { (x * TAU).sin() }));
                out.fill(cosines_at + at, phases.iter().map(|x| if x.is_nan() { 0.0 } else { (x * TAU).cos() }));
            }
        }
        let mut hot_at = cosines_at + self.cycles.len();
        for vocabulary in &self.one_hots {
            if wanted(&vocabulary.column) {
                for (row, number) in vocabulary.encode(rows)?.into_iter().enumerate() {
                    let from = row * out.width + hot_at;
                    let cells = &mut out.dense[from..from + vocabulary.len()];
                    cells.fill(0.0);
                    if number > 0 {
                        cells[number as usize - 1] = 1.0;
                    }
                }
            }
            hot_at += vocabulary.len();
        }
        for (embedding, numbers) in self.embeddings.iter().zip(&mut out.categories) {
            if wanted(&embedding.vocabulary.column) {
                *numbers = embedding.vocabulary.encode(rows)?;
            }
        }
        Ok(())
    }
}

impl Scaled {
    fn scale(&self, raw: f32) -> f32 {
        ((self.filled(raw) - self.mean) / self.std).min(self.clip).max(-self.clip)
    }
}

impl Encoded {
    fn fill(&mut self, column: usize, values: impl Iterator<Item = f32>) {
        for (row, value) in self.dense.chunks_exact_mut(self.width).zip(values) {
            row[column] = value;
        }
    }
}

/// How far through its period a value is, 0 to below 1 (reduced before the sine, which keeps large values exact);
/// NaN where it cannot be said.
fn phase(x: f32, period: f32) -> f32 {
    let turns = x / period;
    turns - turns.floor()
}

/// A column of numbers as ONNX gets it; NaN is null.
pub(super) fn floats(rows: &Frame, column: &str) -> Result<Vec<f32>, TrainerError> {
    let values = rows.require(column)?;
    let numbers = values.to_floats().ok_or_else(|| TrainerError::input(column, "it is not a number"))?;
    Ok(numbers.into_iter().map(|x| x.map_or(f32::NAN, |x| x as f32)).collect())
}
