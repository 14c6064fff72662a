//! Which tiles a view keeps.

use domain::{Value, definition::Aggregation};

use crate::{
    error::FeatureError,
    window::{Fold, Rank, State, WindowSpan, floor},
};

/// A window of more tiles than this is also kept in coarse ones.
const FINE_MAX: i64 = 64;
/// A window of more tiles than this has the longer coarse ones.
const MEDIUM_MAX: i64 = 1_024;

/// Tiles of one length and the functions kept in them.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Chain {
    /// Names the chain within its view.
    pub(crate) number: u8,
    /// Length of a tile in microseconds.
    pub(crate) grain: i64,
    /// How many tiles make a coarse one; 0: there are none.
    pub(crate) coarse: i64,
    /// Positions in the source of the columns that are kept.
    pub(crate) columns: Vec<usize>,
    pub(crate) slots: Vec<Slot>,
}

/// One function over one column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slot {
    /// Among the chain's columns.
    pub(crate) column: usize,
    pub(crate) fold: Fold,
}

/// How an output is read from tiles.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct TileRule {
    /// Among the view's chains.
    pub(crate) chain: usize,
    pub(crate) slot: usize,
    pub(crate) span: WindowSpan,
    /// The quantile asked for; 0 where another function is.
    pub(crate) q: f64,
}

/// All chains of a view, while it is compiled and after.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Tiles(pub(crate) Vec<Chain>);

impl Tiles {
    /// Finds a place for an aggregation over the source's column `at`, kept as `fold`.
    pub(crate) fn place(&mut self, aggregation: &Aggregation, fold: Fold, at: usize) -> TileRule {
        let span = WindowSpan::of(aggregation);
        let grain = span.grain();
        let chain = self.0.iter().position(|chain| chain.grain == grain).unwrap_or_else(|| {
            let number = u8::try_from(self.0.len()).unwrap_or(u8::MAX);
            self.0.push(Chain { number, grain, coarse: 0, columns: Vec::new(), slots: Vec::new() });
            self.0.len() - 1
        });
        let found = &mut self.0[chain];
        found.coarse = found.coarse.max(coarse(span.tiles()));
        let column = position_or_push(&mut found.columns, at);
        let slot = position_or_push(&mut found.slots, Slot { column, fold });
        TileRule { chain, slot, span, q: aggregation.q.unwrap_or(0.0) }
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What distinguishes the stored form of these tiles from others, given the name and type of each column.
    pub(crate) fn parts(&self, column: impl Fn(usize) -> String) -> Vec<String> {
        let mut parts = Vec::new();
        for chain in &self.0 {
            parts.push(format!("tiles {} x {} from 1970, tail to the tile", chain.grain, chain.coarse));
            parts.extend(chain.columns.iter().map(|at| format!("tile column {}", column(*at))));
            parts.extend(chain.slots.iter().map(|slot| format!("slot {} {}", slot.column, slot.fold.name())));
        }
        parts
    }
}

impl Chain {
    pub(crate) fn empty(&self) -> State {
        State::empty(self.folds())
    }

    pub(crate) fn folds(&self) -> impl Iterator<Item = Fold> + '_ {
        self.slots.iter().map(|slot| slot.fold)
    }

    /// Takes in a row, given the values of the chain's columns.
    pub(crate) fn add(&self, state: &mut State, rank: Rank, values: &[Value]) {
        state.add(rank, self.slots.iter().map(|slot| &values[slot.column]));
    }

    /// The tile in which an instant lies, by its first instant.
    pub(crate) const fn tile(&self, at: i64) -> i64 {
        floor(at, self.grain)
    }

    /// Length of a coarse tile; `None` where there are none.
    pub(crate) const fn coarse_grain(&self) -> Option<i64> {
        if self.coarse == 0 { None } else { Some(self.grain.saturating_mul(self.coarse)) }
    }

    /// The values of the chain's columns in a source row.
    pub(crate) fn values(&self, row: &[Value]) -> Vec<Value> {
        self.columns.iter().map(|at| row[*at].clone()).collect()
    }
}

impl TileRule {
    /// The output's value from the merged state of its window.
    pub(crate) fn finish(&self, state: &State) -> Result<Value, FeatureError> {
        let partial = state.slot(self.slot).ok_or_else(|| crate::codec::corrupt("a tile without its slot".into()))?;
        Ok(partial.finish(self.q))
    }
}

/// How many tiles make a coarse one, for a window of so many.
const fn coarse(tiles: i64) -> i64 {
    if tiles <= FINE_MAX {
        0
    } else if tiles <= MEDIUM_MAX {
        16
    } else {
        64
    }
}

fn position_or_push<T: PartialEq>(all: &mut Vec<T>, item: T) -> usize {
    all.iter().position(|known| *known == item).unwrap_or_else(|| {
        all.push(item);
        all.len() - 1
    })
}
