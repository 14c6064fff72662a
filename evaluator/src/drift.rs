//! Drift of the inputs and scores of a window against the champion's reference.

use serde::{Deserialize, Serialize};
use stats::{ColumnReference, Counts, DriftGate, Reference, Verdict, drift_verdict};

use crate::inputs::Recent;

/// One column of a window beside the reference.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ColumnDrift {
    pub name: String,
    /// Absent, like the figures below, where either side has no rows.
    pub psi: Option<f64>,
    /// Numeric columns only.
    pub ks: Option<f64>,
    /// Of chi-square homogeneity, not corrected for the number of columns; the verdict corrects.
    pub p: Option<f64>,
    /// What the verdict's effect gate looks at, 0 to 1.
    pub effect: Option<f64>,
    /// Share of nulls now less share of nulls in training.
    pub null_shift: Option<f64>,
    /// Mean increase of holdout log loss when the column is permuted.
    pub importance: Option<f64>,
    pub verdict: Verdict,
}

fn column(
    name: &str,
    reference: &ColumnReference,
    current: &Counts,
    importance: Option<f64>,
    columns: usize,
    min_rows: u64,
) -> ColumnDrift {
    let drift = reference.drift(current);
    let gate = DriftGate { min_rows, ..DriftGate::default() };
    ColumnDrift {
        name: name.to_owned(),
        psi: drift.map(|d| d.psi),
        ks: drift.and_then(|d| d.ks),
        p: drift.map(|d| d.p),
        effect: drift.map(|d| d.effect),
        null_shift: drift.map(|d| d.null_shift),
        importance,
        verdict: drift_verdict(drift.as_ref(), columns, &gate),
    }
}

/// The inputs at `rows`, the most telling column (effect times importance) first.
pub(crate) fn columns(reference: &Reference, recent: &Recent, rows: &[usize], min_rows: u64) -> Vec<ColumnDrift> {
    let mut found: Vec<_> = reference
        .columns
        .iter()
        .map(|(name, known)| {
            let current = match known {
                ColumnReference::Numeric { .. } => recent.numbers(name, rows).map(|v| known.count_numeric(&v)),
                ColumnReference::Categorical { .. } => recent.texts(name, rows).map(|v| known.count_categorical(&v)),
            };
            let importance = reference.importance.get(name).copied();
            column(name, known, &current.unwrap_or_default(), importance, reference.columns.len(), min_rows)
        })
        .collect();
    let weight = |c: &ColumnDrift| c.effect.unwrap_or_default() * c.importance.unwrap_or_default().max(0.0);
    found.sort_by(|a, b| weight(b).total_cmp(&weight(a)).then_with(|| a.name.cmp(&b.name)));
    found
}

/// Scores against those on the holdout.
pub(crate) fn prediction(reference: &Reference, scores: &[Option<f64>], min_rows: u64) -> ColumnDrift {
    column("prediction", &reference.prediction, &reference.prediction.count_numeric(scores), None, 1, min_rows)
}

/// Mean PSI weighted by importance; absent when no column has both.
pub(crate) fn weighted_psi(columns: &[ColumnDrift]) -> Option<f64> {
    let weighed: Vec<_> = columns.iter().filter_map(|c| Some((c.psi?, c.importance?))).collect();
    stats::weighted_psi(&weighed)
}
