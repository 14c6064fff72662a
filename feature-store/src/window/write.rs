//! Tiles online: rows enter the tile they lie in, and its coarse tile follows.
//!
//! Under a row's key stand the values it brings and the state of its tile through and with that row. So a
//! tile's last row holds the whole tile, and the row before an instant holds the part up to it.

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};

use domain::{Timestamp, Value};
use storage::{Floor, Kv};

use crate::{
    codec::{self, Rest},
    error::{Doing as _, FeatureError},
    key,
    materialise::{Place, read_range},
    online::Pair,
    window::{Chain, State, floor},
};

/// What a row brings to its tile.
pub(crate) struct TileRow {
    /// Time of writing in microseconds, where the source has one.
    pub(crate) created: Option<i64>,
    /// The values of the chain's columns.
    pub(crate) values: Vec<Value>,
}

/// What a batch of rows does to one tile.
#[derive(Default)]
pub(crate) struct TileChange {
    pub(crate) inserts: BTreeMap<Place, TileRow>,
    pub(crate) removals: BTreeSet<Place>,
}

/// Changes of one chain, by the entity's key prefix (under the tiles' tag) and the tile's first instant.
pub(crate) type TileChanges = BTreeMap<(Vec<u8>, i64), TileChange>;

/// What became of a tile.
enum Outcome {
    /// Rows came behind all others: what they add.
    Grew(State),
    /// Its state as it is now; `None`: it holds no row.
    Rebuilt(Option<State>),
}

/// The tiles of one coarse tile that changed.
type Coarse = BTreeMap<i64, Outcome>;

/// Turns changes of tiles into writes. Rows that come in order of time cost one look-up each; a late row, a
/// correction or a removal rebuilds its tile from the tile's rows, and the coarse tile from its tiles.
pub(crate) async fn weave(
    kv: &dyn Kv,
    chain: &Chain,
    changes: TileChanges,
    puts: &mut Vec<Pair>,
    deletes: &mut Vec<Vec<u8>>,
) -> Result<(), FeatureError> {
    let newest: Vec<Floor> = changes.keys().map(|(entity, tile)| newest_of(chain, entity, *tile)).collect();
    let newest = kv.floor_many(&newest).await.doing("read online values")?;
    let mut coarse: BTreeMap<(Vec<u8>, i64), Coarse> = BTreeMap::new();
    for (((entity, tile), change), newest) in changes.into_iter().zip(newest) {
        let prefix = fine_key(chain, &entity, tile);
        let last = newest.as_ref().map(|pair| read_place(&pair.0, prefix.len())).transpose()?;
        let behind =
            change.removals.is_empty() && change.inserts.keys().next().is_some_and(|first| Some(*first) > last);
        let outcome = if behind {
            let state = newest.map_or_else(|| Ok(chain.empty()), |pair| read_record(chain, &pair.1).map(|(_, s)| s))?;
            append(chain, &prefix, state, change.inserts, puts)
        } else {
            rebuild(chain, &prefix, change, read_range(kv, prefix.clone(), &end_of(&prefix)).await?, puts, deletes)?
        };
        if let Some(grain) = chain.coarse_grain() {
            coarse.entry((entity, floor(tile, grain))).or_default().insert(tile, outcome);
        }
    }
    follow(kv, chain, coarse, puts, deletes).await
}

/// All pairs of an entity's chain from its rows in order of place, to be written at once.
pub(crate) fn build(chain: &Chain, entity: &[u8], rows: impl Iterator<Item = (Place, TileRow)>, puts: &mut Vec<Pair>) {
    let mut tile: Option<(i64, State)> = None;
    let mut coarse: BTreeMap<i64, State> = BTreeMap::new();
    for (place, row) in rows {
        let at = chain.tile(place.0);
        let mut state = match tile.take() {
            Some((current, state)) if current == at => state,
            _ => chain.empty(),
        };
        row.enter(chain, place, &mut state);
        puts.push(record(&fine_key(chain, entity, at), place, &row, &state));
        tile = Some((at, state));
        if let Some(grain) = chain.coarse_grain() {
            row.enter(chain, place, coarse.entry(floor(at, grain)).or_insert_with(|| chain.empty()));
        }
    }
    puts.extend(coarse.into_iter().map(|(tile, state)| coarse_pair(chain, entity, tile, &state)));
}

fn append(
    chain: &Chain,
    prefix: &[u8],
    mut state: State,
    inserts: BTreeMap<Place, TileRow>,
    puts: &mut Vec<Pair>,
) -> Outcome {
    let mut added = chain.empty();
    for (place, row) in inserts {
        row.enter(chain, place, &mut state);
        row.enter(chain, place, &mut added);
        puts.push(record(prefix, place, &row, &state));
    }
    Outcome::Grew(added)
}

fn rebuild(
    chain: &Chain,
    prefix: &[u8],
    change: TileChange,
    stored: Vec<Pair>,
    puts: &mut Vec<Pair>,
    deletes: &mut Vec<Vec<u8>>,
) -> Result<Outcome, FeatureError> {
    let inserted = change.inserts.keys().next().copied();
    let first = inserted.into_iter().chain(change.removals.iter().next().copied()).min();
    let mut rows = change.inserts;
    for (key, value) in stored {
        let place = read_place(&key, prefix.len())?;
        if change.removals.contains(&place) {
            deletes.push(key);
        } else if let Entry::Vacant(row) = rows.entry(place) {
            row.insert(read_record(chain, &value)?.0);
        }
    }
    let mut state = chain.empty();
    for (place, row) in &rows {
        row.enter(chain, *place, &mut state);
        // What stands before the first change is as it was.
        if Some(*place) >= first {
            puts.push(record(prefix, *place, row, &state));
        }
    }
    Ok(Outcome::Rebuilt((!rows.is_empty()).then_some(state)))
}

/// Brings coarse tiles up to their tiles.
async fn follow(
    kv: &dyn Kv,
    chain: &Chain,
    coarse: BTreeMap<(Vec<u8>, i64), Coarse>,
    puts: &mut Vec<Pair>,
    deletes: &mut Vec<Vec<u8>>,
) -> Result<(), FeatureError> {
    let (mut grown, mut rebuilt, mut questions) = (Vec::new(), Vec::new(), Vec::new());
    for ((entity, tile), tiles) in coarse {
        if tiles.values().all(|outcome| matches!(outcome, Outcome::Grew(_))) {
            grown.push((entity, tile, tiles));
            continue;
        }
        let members: Vec<i64> = (0..chain.coarse).map(|n| tile.saturating_add(n.saturating_mul(chain.grain))).collect();
        questions.extend(members.iter().map(|member| newest_of(chain, &entity, *member)));
        rebuilt.push((entity, tile, tiles));
    }
    let keys: Vec<Vec<u8>> = grown.iter().map(|(entity, tile, _)| coarse_key(chain, entity, *tile)).collect();
    let before = kv.get_many(&keys).await.doing("read online values")?;
    for ((entity, tile, tiles), before) in grown.into_iter().zip(before) {
        let mut state = match before {
            Some(bytes) => State::read(chain.folds(), Rest::of(&bytes))?,
            None => chain.empty(),
        };
        for outcome in tiles.values() {
            if let Outcome::Grew(added) = outcome {
                state.merge(added);
            }
        }
        puts.push(coarse_pair(chain, &entity, tile, &state));
    }
    let found = kv.floor_many(&questions).await.doing("read online values")?;
    let members = usize::try_from(chain.coarse).unwrap_or(1).max(1);
    for ((entity, tile, tiles), found) in rebuilt.into_iter().zip(found.chunks(members)) {
        let (mut state, mut holds) = (chain.empty(), false);
        for (number, stored) in (0..chain.coarse).zip(found) {
            let member = tile.saturating_add(number.saturating_mul(chain.grain));
            let outcome = tiles.get(&member);
            if let (None | Some(Outcome::Grew(_)), Some(pair)) = (outcome, stored) {
                state.merge(&read_record(chain, &pair.1)?.1);
                holds = true;
            }
            if let Some(Outcome::Grew(now) | Outcome::Rebuilt(Some(now))) = outcome {
                state.merge(now);
                holds = true;
            }
        }
        if holds {
            puts.push(coarse_pair(chain, &entity, tile, &state));
        } else {
            deletes.push(coarse_key(chain, &entity, tile));
        }
    }
    Ok(())
}

/// What all rows of a tile begin with.
pub(crate) fn fine_key(chain: &Chain, entity: &[u8], tile: i64) -> Vec<u8> {
    let mut key = Vec::with_capacity(entity.len() + 25);
    key.extend_from_slice(entity);
    key::push_tile(&mut key, chain.number, false, tile);
    key
}

/// The key of a coarse tile.
pub(crate) fn coarse_key(chain: &Chain, entity: &[u8], tile: i64) -> Vec<u8> {
    let mut key = Vec::with_capacity(entity.len() + 9);
    key.extend_from_slice(entity);
    key::push_tile(&mut key, chain.number, true, tile);
    key
}

/// Asks for a tile's last row.
pub(crate) fn newest_of(chain: &Chain, entity: &[u8], tile: i64) -> Floor {
    let prefix = fine_key(chain, entity, tile);
    Floor { prefix: prefix.len(), key: end_of(&prefix) }
}

/// Behind all rows of a tile.
fn end_of(tile: &[u8]) -> Vec<u8> {
    let mut end = tile.to_vec();
    key::push_after(&mut end, Timestamp::MAX);
    end
}

fn read_place(key: &[u8], prefix: usize) -> Result<Place, FeatureError> {
    let place = key::read_ordered(key, prefix).zip(key::read_ordered(key, prefix + 8));
    place.ok_or_else(|| codec::corrupt("a row of a tile without a place".into()))
}

impl TileRow {
    /// Takes the row into a state.
    fn enter(&self, chain: &Chain, (at, row): Place, state: &mut State) {
        chain.add(state, (at, self.created, row), &self.values);
    }
}

fn record(prefix: &[u8], (at, number): Place, row: &TileRow, state: &State) -> Pair {
    let mut key = prefix.to_vec();
    key::push_totals(&mut key, Timestamp::from_micros(at), number);
    let mut value = Vec::with_capacity(64);
    let created = row.created.map_or(Value::Null, |created| Value::Timestamp(Timestamp::from_micros(created)));
    codec::push_bytes(&mut value, &codec::write_values([&created].into_iter().chain(&row.values)));
    state.push(&mut value);
    (key, value)
}

fn coarse_pair(chain: &Chain, entity: &[u8], tile: i64, state: &State) -> Pair {
    let mut value = Vec::with_capacity(64);
    state.push(&mut value);
    (coarse_key(chain, entity, tile), value)
}

/// What a row brings and the state of its tile through it.
fn read_record(chain: &Chain, bytes: &[u8]) -> Result<(TileRow, State), FeatureError> {
    let mut rest = Rest::of(bytes);
    let mut values = codec::read_values(rest.bytes()?)?.into_iter();
    let created = match values.next() {
        Some(Value::Timestamp(created)) => Some(created.micros()),
        _ => None,
    };
    let values: Vec<Value> = values.collect();
    if values.len() != chain.columns.len() {
        return Err(codec::corrupt("a row of a tile with too few or too many values".into()));
    }
    Ok((TileRow { created, values }, State::read(chain.folds(), rest)?))
}

/// The state of a tile through a row.
pub(crate) fn state_of(chain: &Chain, bytes: &[u8]) -> Result<State, FeatureError> {
    let mut rest = Rest::of(bytes);
    rest.bytes()?;
    State::read(chain.folds(), rest)
}
