//! A range of the spine joined as a whole.

use std::ops::Range;

use arrow::{array::ArrayRef, buffer::BooleanBuffer};

use super::{
    Options,
    choose::choose,
    error::JoinError,
    gather::{Gathered, Room, gather},
    hash::Hashing,
    index::{Builder, Index},
    keys::{Cells, Keys},
    marks::Address,
    plan::{Plan, SpinePlan},
    table::Slab,
    threads,
    time::Times,
};

/// Rows of the spine decoded together.
const BATCH_ROWS: usize = 1 << 14;
/// Bytes that sorting the spine by one key set takes for each row, and the best candidates of one view.
const INDEX_BYTES: usize = 100;
const BEST_BYTES: usize = 32;
/// A round has at least so many rows, however little memory there is.
const ROUND_ROWS_MIN: usize = 64;
/// Rows that come out of one chunk at most, and temporary files of one view at most.
const CHUNK_ROWS_MAX: usize = 1 << 20;
const CHUNKS_MAX: usize = 256;

/// What each row of a range of the spine sees.
pub(super) struct Round {
    /// Rows of the spine.
    pub(super) rows: Range<usize>,
    pub(super) views: Vec<RoundView>,
    /// Rows that come out together.
    pub(super) chunk_rows: usize,
}

pub(super) struct RoundView {
    pub(super) gathered: Gathered,
    /// By row of the round, among what was gathered.
    pub(super) chosen: Vec<Address>,
    pub(super) newest: Option<Vec<Option<i64>>>,
}

/// How many rows of the spine fit into one round.
pub(super) fn round_rows(plan: &Plan, options: &Options) -> usize {
    let each = INDEX_BYTES + BEST_BYTES + 8 * plan.views.len();
    // Three fifths: what was chosen stays while features are gathered.
    (options.memory_bytes / 5 * 3 / each).max(ROUND_ROWS_MIN)
}

impl Round {
    pub(super) fn join(plan: &Plan, options: &Options, rows: Range<usize>) -> Result<Self, JoinError> {
        let mut choices: Vec<_> = plan.views.iter().map(|_| None).collect();
        let hashing = Hashing::new(options.hash_bits);
        let build = |at: usize| index(plan, at, hashing, rows.clone());
        // All indexes side by side where they fit, else one after the other.
        let side_by_side = rows.len().saturating_mul(INDEX_BYTES * plan.key_sets.len()) < options.memory_bytes / 2;
        let step = if side_by_side { options.threads.max(1) } else { 1 };
        for first in (0..plan.key_sets.len()).step_by(step) {
            let sets = first..plan.key_sets.len().min(first + step);
            let indexes = threads::map(options.threads, sets.len(), |at| build(first + at))?;
            for (at, index) in sets.zip(indexes) {
                for (view, choice) in plan.views.iter().zip(&mut choices).filter(|(view, _)| view.key_set == at) {
                    *choice = Some(choose(view, &index, plan.spine.unit, rows.len(), options.threads)?);
                }
            }
        }
        let kept = 8 * rows.len() * plan.views.len();
        let chunk_rows = chunk_rows(plan, options, rows.len());
        let mut room = Room {
            bytes: (options.memory_bytes / 2).saturating_sub(kept),
            chunk_rows,
            dir: &options.temporary,
            threads: options.threads,
        };
        let mut views = Vec::with_capacity(plan.views.len());
        // Every view has a key set, so every view has its choice.
        for (view, mut choice) in plan.views.iter().zip(choices.into_iter().flatten()) {
            let gathered = gather(view, &mut choice.rows, &mut room)?;
            views.push(RoundView { gathered, chosen: choice.rows, newest: choice.newest });
        }
        Ok(Self { rows, views, chunk_rows })
    }
}

/// As many rows as an eighth of the memory holds, by a guess at their width.
fn chunk_rows(plan: &Plan, options: &Options, rows: usize) -> usize {
    use arrow::datatypes::DataType as T;
    fn width(data_type: &T) -> usize {
        match data_type {
            T::FixedSizeList(item, length) => usize::try_from(*length).unwrap_or(0) * width(item.data_type()),
            T::List(_) | T::LargeList(_) | T::Struct(_) | T::Map(..) => 256,
            other => other.primitive_width().unwrap_or(32),
        }
    }
    let each: usize = plan.schema.fields().iter().map(|field| width(field.data_type())).sum();
    let fit = options.memory_bytes / 8 / each.max(1);
    fit.clamp(ROUND_ROWS_MIN, CHUNK_ROWS_MAX).max(rows.div_ceil(CHUNKS_MAX))
}

fn index(plan: &Plan, key_set: usize, hashing: Hashing, rows: Range<usize>) -> Result<Index, JoinError> {
    let spine = &plan.spine;
    let keys = &plan.key_sets[key_set];
    let types: Vec<_> = keys.iter().map(|(_, kind)| *kind).collect();
    let mut columns: Vec<&str> = keys.iter().map(|(column, _)| column.as_str()).collect();
    columns.push(&spine.timestamp);
    // The footer may lie about how many there are: so much is believed at once.
    let mut builder = Builder::new(hashing, &types, rows.len().min(1 << 20));
    read(spine, rows, &columns, |slab| {
        let array = |at: usize| slab.columns[at].as_ref().ok_or_else(|| spine.table.missing(columns[at]));
        let mut cells = Vec::with_capacity(types.len());
        for (at, kind) in types.iter().enumerate() {
            cells.push(Cells::of(array(at)?, *kind).map_err(|source| spine.table.columns_failed(source))?);
        }
        let times = Times::of(array(types.len())?, spine.unit).ok_or_else(|| spine.table.missing(&spine.timestamp))?;
        builder.add(&Keys::new(cells), &times, slab.rows);
        Ok(())
    })?;
    Ok(builder.finish())
}

/// Reads columns of a range of the spine, in order.
pub(super) fn read(
    spine: &SpinePlan,
    rows: Range<usize>,
    columns: &[&str],
    mut take: impl FnMut(&Slab) -> Result<(), JoinError>,
) -> Result<(), JoinError> {
    let mut first = 0;
    for unit in &spine.table.units {
        let (from, to) = (rows.start.clamp(first, first + unit.rows), rows.end.clamp(first, first + unit.rows));
        if from < to {
            let inside = from - first..to - first;
            let part = inside.len() < unit.rows;
            let select = part.then(|| BooleanBuffer::collect_bool(unit.rows, |row| inside.contains(&row)));
            for slab in spine.table.read(*unit, columns, select, BATCH_ROWS)? {
                take(&slab?)?;
            }
        }
        first += unit.rows;
    }
    Ok(())
}

/// All columns of a range of the spine: pieces of some rows each, in order.
pub(super) fn spine_columns(spine: &SpinePlan, rows: Range<usize>) -> Result<Vec<(Vec<ArrayRef>, usize)>, JoinError> {
    let columns: Vec<&str> = spine.fields.iter().map(|field| field.name().as_str()).collect();
    let mut pieces = Vec::new();
    read(spine, rows, &columns, |slab| {
        let missing = |at: usize| spine.table.missing(columns[at]);
        let arrays = slab.columns.iter().enumerate().map(|(at, array)| array.clone().ok_or_else(|| missing(at)));
        pieces.push((arrays.collect::<Result<_, _>>()?, slab.rows));
        Ok(())
    })?;
    Ok(pieces)
}
