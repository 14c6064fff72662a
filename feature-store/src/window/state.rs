//! What is kept of some rows for functions that cannot be taken back, and how it is merged.

use std::cmp::Ordering;

use domain::Value;
use stats::{DdSketch, HyperLogLog, hyperloglog};

use crate::{
    codec::{self, Rest},
    error::FeatureError,
    window::newest::Newest,
};

/// A function of which partial results can be merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fold {
    Least,
    Greatest,
    Distinct,
    Quantile,
    /// The newest so many.
    Last(u32),
}

/// Where a row stands among an entity's rows: event time, time of writing (none first), number.
pub(crate) type Rank = (i64, Option<i64>, i64);

/// The partial result of one function over some values.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Partial {
    /// Null: no value.
    Least(Value),
    /// Null: no value.
    Greatest(Value),
    Distinct(HyperLogLog),
    Quantile(DdSketch),
    Last(Newest),
}

/// The partial results of a chain's functions over the same rows, in order of the chain's slots.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct State(Vec<Partial>);

impl Fold {
    /// A name for the layout's digest: another way to keep the same function needs another name.
    pub(crate) fn name(self) -> String {
        match self {
            Self::Least => "least".into(),
            Self::Greatest => "greatest".into(),
            Self::Distinct => "hyperloglog-12".into(),
            Self::Quantile => "ddsketch-1%".into(),
            Self::Last(most) => format!("last {most}"),
        }
    }

    fn empty(self) -> Partial {
        match self {
            Self::Least => Partial::Least(Value::Null),
            Self::Greatest => Partial::Greatest(Value::Null),
            Self::Distinct => Partial::Distinct(HyperLogLog::default()),
            Self::Quantile => Partial::Quantile(DdSketch::default()),
            Self::Last(most) => Partial::Last(Newest::of(most)),
        }
    }

    fn read(self, bytes: &[u8]) -> Result<Partial, FeatureError> {
        let sketch = |error: stats::BadSketch| codec::corrupt(error.to_string());
        let value = || match codec::read_values(bytes)?.as_slice() {
            [value] => Ok(value.clone()),
            _ => Err(codec::corrupt("not one value".into())),
        };
        Ok(match self {
            Self::Least => Partial::Least(value()?),
            Self::Greatest => Partial::Greatest(value()?),
            Self::Distinct => Partial::Distinct(HyperLogLog::from_bytes(bytes).map_err(sketch)?),
            Self::Quantile => Partial::Quantile(DdSketch::from_bytes(bytes).map_err(sketch)?),
            Self::Last(most) => Partial::Last(Newest::read(most, bytes)?),
        })
    }
}

impl Partial {
    /// Takes the value of a row in; null changes nothing.
    fn add(&mut self, rank: Rank, value: &Value) {
        if value.is_null() {
            return;
        }
        match self {
            Self::Least(least) => replace_if(least, value, Ordering::Less),
            Self::Greatest(greatest) => replace_if(greatest, value, Ordering::Greater),
            Self::Distinct(sketch) => sketch.insert(hyperloglog::hash(&codec::write_values([&one_zero(value)]))),
            Self::Quantile(sketch) => {
                if let Some(number) = number(value) {
                    sketch.insert(number);
                }
            }
            Self::Last(newest) => newest.add(rank, value),
        }
    }

    /// Takes in what `other`, of the same function, has seen.
    fn merge(&mut self, other: &Self) {
        match (self, other) {
            (Self::Least(least), Self::Least(value)) => replace_if(least, value, Ordering::Less),
            (Self::Greatest(greatest), Self::Greatest(value)) => replace_if(greatest, value, Ordering::Greater),
            (Self::Distinct(mine), Self::Distinct(theirs)) => mine.merge(theirs),
            (Self::Quantile(mine), Self::Quantile(theirs)) => mine.merge(theirs),
            (Self::Last(mine), Self::Last(theirs)) => mine.merge(theirs),
            (mine, theirs) => debug_assert!(false, "states of two chains: {mine:?}, {theirs:?}"),
        }
    }

    fn write(&self) -> Vec<u8> {
        match self {
            Self::Least(value) | Self::Greatest(value) => codec::write_values([value]),
            Self::Distinct(sketch) => sketch.to_bytes(),
            Self::Quantile(sketch) => sketch.to_bytes(),
            Self::Last(newest) => newest.write(),
        }
    }

    /// The function's result; `q` is the quantile asked for and means nothing to the others.
    pub(crate) fn finish(&self, q: f64) -> Value {
        match self {
            Self::Least(value) | Self::Greatest(value) => value.clone(),
            Self::Distinct(sketch) => Value::Int(i64::try_from(sketch.estimate()).unwrap_or(i64::MAX)),
            Self::Quantile(sketch) => sketch.quantile(q).map_or(Value::Null, Value::Float),
            Self::Last(newest) => newest.list(),
        }
    }
}

impl State {
    pub(crate) fn empty(folds: impl Iterator<Item = Fold>) -> Self {
        Self(folds.map(Fold::empty).collect())
    }

    /// Takes a row in: one value per slot.
    pub(crate) fn add<'a>(&mut self, rank: Rank, values: impl Iterator<Item = &'a Value>) {
        self.0.iter_mut().zip(values).for_each(|(partial, value)| partial.add(rank, value));
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.0.iter_mut().zip(&other.0).for_each(|(mine, theirs)| mine.merge(theirs));
    }

    /// The partial result of a slot.
    pub(crate) fn slot(&self, slot: usize) -> Option<&Partial> {
        self.0.get(slot)
    }

    /// Appends the state.
    pub(crate) fn push(&self, out: &mut Vec<u8>) {
        for partial in &self.0 {
            codec::push_bytes(out, &partial.write());
        }
    }

    /// Reads what [`push`](Self::push) wrote for the same folds; nothing may follow.
    pub(crate) fn read(folds: impl Iterator<Item = Fold>, mut rest: Rest<'_>) -> Result<Self, FeatureError> {
        let partials = folds.map(|fold| fold.read(rest.bytes()?)).collect::<Result<_, _>>()?;
        rest.end()?;
        Ok(Self(partials))
    }
}

fn replace_if(best: &mut Value, value: &Value, when: Ordering) {
    if !value.is_null() && (best.is_null() || compare(value, best) == when) {
        *best = value.clone();
    }
}

/// Values of one column in their order: false before true, numbers and instants as they are.
fn compare(a: &Value, b: &Value) -> Ordering {
    match (a, b) {
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (Value::Int(a), Value::Int(b)) => a.cmp(b),
        (Value::Float(a), Value::Float(b)) => a.total_cmp(b),
        (Value::Timestamp(a), Value::Timestamp(b)) => a.cmp(b),
        // A column has one type, and definitions refuse the others.
        _ => Ordering::Equal,
    }
}

/// Minus zero is the same value as zero.
fn one_zero(value: &Value) -> Value {
    match value {
        Value::Float(x) => Value::Float(x + 0.0),
        other => other.clone(),
    }
}

#[expect(clippy::cast_precision_loss, reason = "a sketch is within 1 %")]
const fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Int(i) => Some(*i as f64),
        Value::Float(x) => Some(*x),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FOLDS: [Fold; 5] = [Fold::Least, Fold::Greatest, Fold::Distinct, Fold::Quantile, Fold::Last(3)];

    /// The state of values that stand at their own places.
    fn of<'a>(values: impl IntoIterator<Item = &'a (i64, Option<i64>)>) -> State {
        let mut state = State::empty(FOLDS.into_iter());
        for (place, value) in values {
            let value = value.map_or(Value::Null, |x| Value::Float(x as f64 / 10.0));
            state.add((place / 3, (place % 2 > 0).then_some(place % 5), *place), std::iter::repeat(&value));
        }
        state
    }

    #[test]
    fn nothing_but_nulls_is_nothing() {
        let results = |state: &State| [0, 1, 2, 3, 4].map(|slot| state.slot(slot).unwrap().finish(0.5));
        let empty = [Value::Null, Value::Null, Value::Int(0), Value::Null, Value::List([].into())];
        assert_eq!(results(&of(&[])), empty);
        assert_eq!(results(&of(&[(0, None), (1, None)])), empty);
        assert_eq!(
            results(&of(&[(0, Some(-20)), (1, None)]))[..3],
            [Value::Float(-2.0), Value::Float(-2.0), Value::Int(1)]
        );
    }

    #[test]
    fn minus_zero_is_no_second_value() {
        let mut state = State::empty([Fold::Distinct].into_iter());
        [0.0, -0.0].map(Value::Float).iter().for_each(|value| state.add((0, None, 0), std::iter::once(value)));
        assert_eq!(state.slot(0).unwrap().finish(0.0), Value::Int(1));
    }

    proptest! {
        #[test]
        fn states_merge_in_any_order_and_come_back_from_bytes(
            values in prop::collection::vec(prop::option::of(-100i64..100), 0..40), cut in 0usize..40,
        ) {
            let cut = cut.min(values.len());
            let values: Vec<(i64, Option<i64>)> = (0..).zip(values).collect();
            let whole = of(values.iter().rev());
            let (mut left, mut right) = (of(&values[..cut]), of(&values[cut..]));
            let other = right.clone();
            right.merge(&left);
            left.merge(&other);
            prop_assert_eq!(&left, &whole);
            prop_assert_eq!(&right, &whole);
            let mut bytes = Vec::new();
            whole.push(&mut bytes);
            prop_assert_eq!(State::read(FOLDS.into_iter(), Rest::of(&bytes)).unwrap(), whole);
            prop_assert!(State::read(FOLDS.into_iter(), Rest::of(&bytes[..bytes.len() - 1])).is_err());
        }
    }
}
