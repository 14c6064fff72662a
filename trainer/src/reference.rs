//! `reference.json`: what later windows are compared with.

use std::collections::BTreeMap;

use domain::{Column, Frame, ValueType};
use stats::reference::{BINS, ColumnReference, Holdout, Reference, TOP};

use crate::{TrainerError, prep::Preprocessor};

pub(crate) const FILE: &str = "reference.json";

/// The file's text: input columns over all training rows, scores over the holdout.
pub(crate) fn write(
    prep: &Preprocessor,
    train: &Frame,
    scores: &[f32],
    importance: &BTreeMap<String, f64>,
    holdout: Holdout,
) -> Result<Vec<u8>, TrainerError> {
    let mut columns = BTreeMap::new();
    for field in &prep.inputs {
        columns.insert(field.name.to_string(), column(train.require(&field.name)?, prep.is_category(&field.name)));
    }
    let scores: Vec<Option<f64>> = scores.iter().map(|score| Some(f64::from(*score))).collect();
    let prediction = ColumnReference::fit_numeric(&scores, BINS);
    let reference = Reference { columns, prediction, importance: importance.clone(), holdout };
    serde_json::to_vec_pretty(&reference)
        .map_err(|error| TrainerError::Record { what: "reference", reason: error.to_string() })
}

/// Texts and bools (`true`, `false`) are categories, and so are whole numbers that enter the model as categories only.
fn column(values: &Column, category: bool) -> ColumnReference {
    match values {
        Column::Text(texts) => ColumnReference::fit_categorical(texts, TOP),
        Column::Bool(flags) => ColumnReference::fit_categorical(&names(flags), TOP),
        Column::Int(numbers) if category => ColumnReference::fit_categorical(&names(numbers), TOP),
        other => {
            debug_assert_ne!(other.kind(), ValueType::Timestamp, "the plan refuses instants");
            ColumnReference::fit_numeric(&other.to_floats().unwrap_or_default(), BINS)
        }
    }
}

fn names<T: ToString>(values: &[Option<T>]) -> Vec<Option<String>> {
    values.iter().map(|value| value.as_ref().map(ToString::to_string)).collect()
}
