//! Windows from history: one pass over an entity's rows and its questions, both in order of time.
//!
//! Tiles move through two stacks: each is merged once on its way in and once on its way to the front, so a
//! question costs two merges however long its window is.

use std::collections::BTreeSet;

use domain::Value;

use crate::{
    error::FeatureError,
    view::ViewPlan,
    window::{Chain, Ends, Rank, State, TileRule, WindowSpan},
};

/// One entity's rows, in order of time.
pub(crate) struct Entity<'a> {
    /// Event times in microseconds.
    pub(crate) times: &'a [i64],
    /// Where a row stands, by its place in `times`.
    pub(crate) rank: &'a dyn Fn(usize) -> Rank,
    /// The value of a row (by its place in `times`) in a column (by its position in the source).
    pub(crate) cell: &'a dyn Fn(usize, usize) -> Value,
}

/// Calls `answer` for each question with its place in `questions` and the state of its window. The questions
/// (instants in microseconds) must be in order.
fn slide<E>(
    chain: &Chain,
    span: WindowSpan,
    entity: &Entity<'_>,
    questions: impl IntoIterator<Item = i64>,
    mut answer: impl FnMut(usize, &State) -> Result<(), E>,
) -> Result<(), E> {
    let mut tiles = Sliding::new(chain);
    let mut next = 0;
    for (number, at) in questions.into_iter().enumerate() {
        let Ends { open, close } = span.ends(at);
        tiles.drop_until(open);
        // No window from here on reaches back to these.
        next += entity.times[next..].partition_point(|time| *time <= open);
        while entity.times.get(next).is_some_and(|time| *time <= close) {
            let values: Vec<Value> = chain.columns.iter().map(|column| (entity.cell)(next, *column)).collect();
            tiles.add((entity.rank)(next), &values);
            next += 1;
        }
        answer(number, &tiles.merged())?;
    }
    Ok(())
}

/// Answers one entity's questions (instant, and where its values go) in order of time: each rule's value goes to
/// its own column of `values`; outputs without a rule are passed over.
pub(crate) fn answer(
    view: &ViewPlan,
    rules: &[Option<TileRule>],
    entity: &Entity<'_>,
    questions: impl Iterator<Item = (i64, usize)> + Clone,
    values: &mut [Vec<Value>],
) -> Result<(), FeatureError> {
    let windows: BTreeSet<_> = rules.iter().flatten().map(|rule| (rule.chain, rule.span)).collect();
    let places: Vec<usize> = questions.clone().map(|(_, place)| place).collect();
    for (chain, span) in windows {
        slide(&view.tiles.0[chain], span, entity, questions.clone().map(|(at, _)| at), |number, state| {
            for (rule, values) in rules.iter().zip(&mut *values) {
                if let Some(rule) = rule.filter(|rule| (rule.chain, rule.span) == (chain, span)) {
                    values[places[number]] = rule.finish(state)?;
                }
            }
            Ok::<_, FeatureError>(())
        })?;
    }
    Ok(())
}

/// The tiles of a window that only moves forward.
struct Sliding<'a> {
    chain: &'a Chain,
    /// Oldest last: a tile's first instant, and the state of it and of all nearer the beginning of this stack.
    front: Vec<(i64, State)>,
    /// Newer than `front`, oldest first; each with its own state.
    back: Vec<(i64, State)>,
    /// All of `back`.
    behind: State,
    /// The newest tile, which still grows.
    growing: Option<(i64, State)>,
}

impl<'a> Sliding<'a> {
    fn new(chain: &'a Chain) -> Self {
        Self { chain, front: Vec::new(), back: Vec::new(), behind: chain.empty(), growing: None }
    }

    /// Takes in a row that is not older than those before.
    fn add(&mut self, rank: Rank, values: &[Value]) {
        let tile = self.chain.tile(rank.0);
        if self.growing.as_ref().is_none_or(|(growing, _)| *growing != tile)
            && let Some((done, state)) = self.growing.replace((tile, self.chain.empty()))
        {
            self.behind.merge(&state);
            self.back.push((done, state));
        }
        if let Some((_, state)) = &mut self.growing {
            self.chain.add(state, rank, values);
        }
    }

    /// Forgets the tiles that begin at or before `open`.
    fn drop_until(&mut self, open: i64) {
        while self.front.last().is_some_and(|(tile, _)| *tile <= open) {
            self.front.pop();
        }
        if self.front.is_empty() && self.back.first().is_some_and(|(tile, _)| *tile <= open) {
            let mut sum = self.chain.empty();
            for (tile, state) in self.back.drain(..).rev().take_while(|(tile, _)| *tile > open) {
                sum.merge(&state);
                self.front.push((tile, sum.clone()));
            }
            self.back.clear();
            self.behind = self.chain.empty();
        }
        if self.growing.as_ref().is_some_and(|(tile, _)| *tile <= open) {
            self.growing = None;
        }
    }

    fn merged(&self) -> State {
        let mut all = self.front.last().map_or_else(|| self.chain.empty(), |(_, state)| state.clone());
        all.merge(&self.behind);
        if let Some((_, state)) = &self.growing {
            all.merge(state);
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use domain::definition::Aggregation;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::window::{Fold, Tiles};

    fn rules(json: serde_json::Value) -> (Tiles, WindowSpan) {
        let aggregation: Aggregation = serde_json::from_value(json).unwrap();
        let mut tiles = Tiles::default();
        let rule = tiles.place(&aggregation, Fold::Quantile, 0);
        (tiles, rule.span)
    }

    proptest! {
        #[test]
        fn a_sliding_pass_finds_what_each_window_holds(
            mut rows in prop::collection::vec((-200i64..400, -50i64..50), 0..60),
            mut questions in prop::collection::vec(-300i64..900, 0..40),
            window in 1i64..120, hop in prop::option::of(1i64..40),
        ) {
            rows.sort_unstable();
            questions.sort_unstable();
            let mut json = json!({"name": "q", "column": "x", "function": "quantile", "q": 0.5, "window": format!("{window}us")});
            match hop {
                Some(hop) => json["hop"] = format!("{hop}us").into(),
                None => json["shape"] = "tumbling".into(),
            }
            let (tiles, span) = rules(json);
            let chain = &tiles.0[0];
            let times: Vec<i64> = rows.iter().map(|(time, _)| *time).collect();
            let cell = |row: usize, _: usize| Value::Int(rows[row].1);
            let rank = |row: usize| (times[row], None, row as i64);
            let entity = Entity { times: &times, rank: &rank, cell: &cell };
            let mut answered = 0;
            slide(chain, span, &entity, questions.iter().copied(), |number, state| {
                let ends = span.ends(questions[number]);
                let mut expected = chain.empty();
                for row in (0..rows.len()).filter(|row| ends.open < times[*row] && times[*row] <= ends.close) {
                    chain.add(&mut expected, rank(row), &[Value::Int(rows[row].1)]);
                }
                answered += 1;
                prop_assert_eq!(state, &expected);
                Ok(())
            })?;
            prop_assert_eq!(answered, questions.len());
        }
    }
}
