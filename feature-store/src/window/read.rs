//! Windows online: which keys a window needs, and what they say together.

use domain::Timestamp;
use storage::Floor;

use crate::{
    codec::Rest,
    error::FeatureError,
    key,
    online::Pair,
    window::{
        Chain, Ends, State, floor,
        write::{coarse_key, fine_key, newest_of, state_of},
    },
};

/// A part of a window, found by one look-up.
pub(crate) enum Piece {
    /// A whole tile by its last row, or the newest tile by its last row in the window.
    Row(Floor),
    Coarse(Floor),
}

impl Piece {
    /// The look-up.
    pub(crate) const fn question(&self) -> &Floor {
        match self {
            Self::Row(floor) | Self::Coarse(floor) => floor,
        }
    }

    /// Takes in what the look-up found.
    pub(crate) fn merge(&self, chain: &Chain, found: &Pair, state: &mut State) -> Result<(), FeatureError> {
        state.merge(&match self {
            Self::Row(_) => state_of(chain, &found.1)?,
            Self::Coarse(_) => State::read(chain.folds(), Rest::of(&found.1))?,
        });
        Ok(())
    }
}

/// The pieces of an entity's window. At most 2 tiles for each one that makes a coarse tile, and the coarse ones
/// between: below 200 for the longest window that definitions may have.
pub(crate) fn pieces(chain: &Chain, entity: &[u8], ends: Ends) -> Vec<Piece> {
    let newest = chain.tile(ends.close);
    let mut tile = chain.tile(ends.open.saturating_add(1));
    let mut pieces = Vec::new();
    while tile < newest {
        let coarse = chain.coarse_grain().filter(|grain| floor(tile, *grain) == tile);
        match coarse.filter(|grain| tile.saturating_add(*grain) <= newest) {
            Some(grain) => {
                let key = coarse_key(chain, entity, tile);
                pieces.push(Piece::Coarse(Floor { prefix: key.len(), key }));
                tile = tile.saturating_add(grain);
            }
            None => {
                pieces.push(Piece::Row(newest_of(chain, entity, tile)));
                tile = tile.saturating_add(chain.grain);
            }
        }
    }
    let mut key = fine_key(chain, entity, newest);
    let prefix = key.len();
    key::push_after(&mut key, Timestamp::from_micros(ends.close));
    pieces.push(Piece::Row(Floor { key, prefix }));
    pieces
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::window::{Fold, Tiles};

    fn count(window: &str, hop: &str, at: i64) -> usize {
        let json = json!({"name": "m", "column": "x", "function": "max", "window": window, "hop": hop});
        let mut tiles = Tiles::default();
        let rule = tiles.place(&serde_json::from_value(json).unwrap(), Fold::Greatest, 0);
        pieces(&tiles.0[0], &[1], rule.span.ends(at)).len()
    }

    #[test]
    fn a_window_is_a_bounded_number_of_look_ups() {
        let hour = 3_600_000_000;
        let worst = |window: &str, hop: &str, step: i64| (0..200).map(|n| count(window, hop, n * step)).max().unwrap();
        assert_eq!(worst("1h", "5m", hour / 60 + 1), 13);
        assert!(worst("7d", "1h", hour / 3 + 1) <= 41);
        assert!(worst("365d", "1d", 24 * hour + 7) <= 53);
        assert!(worst("4096h", "1h", hour + 3) <= 190);
    }
}
