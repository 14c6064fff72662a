use std::collections::BTreeMap;

use domain::Frame;
use rand::seq::SliceRandom as _;
use runtime::seeded;

use crate::{TrainerError, net::Net, prep::Preprocessor, scores::Scores};

/// Rows at most on which importance is measured.
const ROWS_MAX: usize = 5_000;

/// By how much the mean log loss on the holdout rises when one input column is shuffled among the rows; at least 0.
pub(crate) fn importance(
    net: &Net,
    prep: &Preprocessor,
    holdout: &Frame,
    labels: &[bool],
    seed: u64,
) -> Result<BTreeMap<String, f64>, TrainerError> {
    let mut random = seeded(seed, "importance");
    let mut chosen: Vec<usize> = (0..holdout.rows()).collect();
    if chosen.len() > ROWS_MAX {
        chosen.shuffle(&mut random);
        chosen.truncate(ROWS_MAX);
    }
    let labels: Vec<bool> = chosen.iter().map(|&row| labels[row]).collect();
    let rows = holdout.select(prep.inputs.iter().map(|field| &*field.name))?.take(&chosen);
    let encoded = prep.encode(&rows)?;
    let loss = Scores::new(&net.predict(&encoded)?, &labels).log_loss();
    let mut order: Vec<usize> = (0..rows.rows()).collect();
    let mut importance = BTreeMap::new();
    for field in &prep.inputs {
        order.shuffle(&mut random);
        let mut shuffled = rows.clone();
        let column = shuffled.remove(&field.name).expect("selected above");
        shuffled.add(field.name.clone(), column.take(&order))?;
        let mut encoded = encoded.clone();
        prep.rewrite(&field.name, &shuffled, &mut encoded)?;
        let worse = Scores::new(&net.predict(&encoded)?, &labels).log_loss();
        importance.insert(field.name.to_string(), (worse - loss).max(0.0));
    }
    Ok(importance)
}
