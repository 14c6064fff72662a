use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use domain::{Column, Frame};

use crate::TrainerError;

/// Numbers of categories: 1 and up for the known ones, 0 for all others and for null.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Vocabulary {
    pub(crate) column: String,
    pub(crate) keys: Keys,
}

/// The known categories, sorted; the first has number 1.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Keys {
    Texts(Vec<Arc<str>>),
    /// Bools, ints and floats, as the `f32` they have inside ONNX.
    Numbers(Vec<f32>),
}

impl Vocabulary {
    /// The categories seen at least `min_count` times.
    pub(crate) fn fit(column: &str, min_count: u32, rows: &Frame) -> Result<Self, TrainerError> {
        let keys = match rows.require(column)? {
            Column::Text(texts) => {
                let mut counts: BTreeMap<&Arc<str>, u32> = BTreeMap::new();
                for text in texts.iter().flatten().filter(|text| lawful(text)) {
                    *counts.entry(text).or_default() += 1;
                }
                Keys::Texts(counts.into_iter().filter(|(_, n)| *n >= min_count).map(|(text, _)| text.clone()).collect())
            }
            other => {
                let mut counts: BTreeMap<u32, (f32, u32)> = BTreeMap::new();
                for number in other.to_floats().unwrap_or_default().into_iter().flatten() {
                    let number = number as f32;
                    if number.is_finite() {
                        counts.entry(bits(number)).or_insert((number + 0.0, 0)).1 += 1;
                    }
                }
                let mut numbers: Vec<f32> =
                    counts.into_values().filter(|(_, n)| *n >= min_count).map(|(number, _)| number).collect();
                numbers.sort_by(f32::total_cmp);
                Keys::Numbers(numbers)
            }
        };
        Ok(Self { column: column.to_owned(), keys })
    }

    /// Known categories.
    pub(crate) fn len(&self) -> usize {
        match &self.keys {
            Keys::Texts(texts) => texts.len(),
            Keys::Numbers(numbers) => numbers.len(),
        }
    }

    /// The number of each row's category.
    pub(crate) fn encode(&self, rows: &Frame) -> Result<Vec<u32>, TrainerError> {
        let column = rows.require(&self.column)?;
        Ok(match (&self.keys, column) {
            (Keys::Texts(keys), Column::Text(texts)) => {
                let numbers: HashMap<&str, u32> = keys.iter().map(|key| &**key).zip(1..).collect();
                let number = |text: &Option<Arc<str>>| text.as_deref().and_then(|text| numbers.get(text)).copied();
                texts.iter().map(|text| number(text).unwrap_or(0)).collect()
            }
            (Keys::Numbers(keys), column) => {
                let numbers: HashMap<u32, u32> = keys.iter().map(|&key| bits(key)).zip(1..).collect();
                let values = column.to_floats().unwrap_or_default();
                let number = |x: Option<f64>| x.and_then(|x| numbers.get(&bits(x as f32))).copied();
                values.into_iter().map(|x| number(x).unwrap_or(0)).collect()
            }
            (Keys::Texts(_), _) => return Err(TrainerError::input(&self.column, "its type changed after fitting")),
        })
    }
}

/// The empty text is null, and ONNX Runtime takes no text with a NUL byte: neither is a category.
fn lawful(text: &str) -> bool {
    !text.is_empty() && !text.as_bytes().contains(&0)
}

/// One pattern per number: the two zeros are one category.
fn bits(number: f32) -> u32 {
    (number + 0.0).to_bits()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rare_unseen_and_null_categories_are_number_zero() {
        let text = |t: &str| Some(Arc::from(t));
        let train = [text("b"), text("a"), text("b"), text("a"), text("rare"), None, text(""), text("")];
        let rows = Frame::new([("c".into(), Column::Text(train.to_vec()))]).unwrap();
        let vocabulary = Vocabulary::fit("c", 2, &rows).unwrap();
        assert_eq!(vocabulary.len(), 2);
        let asked = Column::Text(vec![text("a"), text("b"), text("rare"), text("new"), None, text("")]);
        let asked = Frame::new([("c".into(), asked)]).unwrap();
        assert_eq!(vocabulary.encode(&asked).unwrap(), [1, 2, 0, 0, 0, 0]);
    }

    #[test]
    fn numbers_are_categories_too() {
        let rows = Frame::new([("c".into(), Column::Int(vec![Some(3), Some(-1), Some(3), Some(-1), None]))]).unwrap();
        let vocabulary = Vocabulary::fit("c", 2, &rows).unwrap();
        assert_eq!(vocabulary.keys, Keys::Numbers(vec![-1.0, 3.0]));
        assert_eq!(vocabulary.encode(&rows).unwrap(), [2, 1, 2, 1, 0]);
        let zeros = Frame::new([("c".into(), Column::Float(vec![Some(-0.0), Some(0.0)]))]).unwrap();
        let vocabulary = Vocabulary::fit("c", 2, &zeros).unwrap();
        assert_eq!(vocabulary.encode(&zeros).unwrap(), [1, 1]);
    }
}
