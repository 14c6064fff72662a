//! Fetches the features of the chosen rows: one more pass over the columns, over what holds chosen rows only.

use std::sync::{Arc, Mutex, PoisonError};

use arrow::{
    array::{ArrayRef, new_null_array},
    compute::{CastOptions, cast_with_options, concat},
    datatypes::DataType,
};

use super::{
    error::JoinError,
    marks::{Address, Marks},
    plan::View,
    spill::Spill,
    table::{Slab, weight},
    threads,
};

/// Chosen rows decoded together; the rows between them are decoded, too, where they stand in the same page.
const BATCH_ROWS: usize = 1 << 13;

/// The chosen rows of one unit of a view, in order: a column for each feature.
#[derive(Debug, Clone)]
pub(super) struct Piece {
    pub(super) unit: usize,
    pub(super) columns: Vec<ArrayRef>,
}

/// The features of one view.
#[derive(Debug)]
pub(super) enum Gathered {
    /// In order of their units.
    Memory(Arc<Vec<Piece>>),
    /// On disk, split by chunks of the spine.
    Disk(Arc<Spill>),
}

/// How much may lie in memory, and where the rest goes.
pub(super) struct Room<'a> {
    /// Bytes of gathered features.
    pub(super) bytes: usize,
    /// Rows of the spine whose features lie together on disk.
    pub(super) chunk_rows: usize,
    pub(super) dir: &'a std::path::Path,
    pub(super) threads: usize,
}

/// What has been gathered of a view so far.
enum Held {
    Memory { pieces: Vec<Piece>, bytes: usize },
    Disk(Spill),
}

/// Gathers the view's features. `chosen` (addresses in the view's table, by row of the spine) becomes addresses among
/// the pieces. Takes what it keeps in memory off `room`.
pub(super) fn gather(view: &View, chosen: &mut [Address], room: &mut Room<'_>) -> Result<Gathered, JoinError> {
    let marks = Marks::of(chosen, view.table.units.len(), |unit| view.table.units[unit].rows);
    chosen.iter_mut().for_each(|at| *at = marks.dense(*at));
    let chosen: &[Address] = chosen;
    let units = if view.features.is_empty() { Vec::new() } else { marks.units() };
    let held = Mutex::new(Held::Memory { pieces: Vec::with_capacity(units.len()), bytes: 0 });
    threads::spread(
        room.threads,
        units.len(),
        || (),
        |(), item| {
            let unit = units[item];
            let piece = Piece { unit, columns: columns_of(view, unit, &marks)? };
            let mut held = held.lock().unwrap_or_else(PoisonError::into_inner);
            match &mut *held {
                Held::Disk(spill) => return spill.write(piece),
                Held::Memory { pieces, bytes } => {
                    *bytes += weight(&piece.columns);
                    pieces.push(piece);
                    if *bytes <= room.bytes {
                        return Ok(());
                    }
                }
            }
            let mut spill = Spill::new(room.dir, view, chosen, &marks, room.chunk_rows)?;
            if let Held::Memory { pieces, .. } = &mut *held {
                for piece in pieces.drain(..) {
                    spill.write(piece)?;
                }
            }
            *held = Held::Disk(spill);
            Ok(())
        },
        |()| Ok(()),
    )?;
    Ok(match held.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Held::Memory { mut pieces, bytes } => {
            room.bytes -= bytes;
            pieces.sort_unstable_by_key(|piece| piece.unit);
            Gathered::Memory(pieces.into())
        }
        Held::Disk(spill) => Gathered::Disk(spill.finish()?.into()),
    })
}

fn columns_of(view: &View, unit: usize, marks: &Marks) -> Result<Vec<ArrayRef>, JoinError> {
    let names: Vec<&str> = view.features.iter().map(|(column, _)| column.as_str()).collect();
    let all = view.table.units[unit];
    // Reading all rows needs no selection.
    let select = marks.mask(unit).filter(|_| marks.count(unit) < all.rows);
    let mut slabs = Vec::new();
    for slab in view.table.read(all, &names, select, BATCH_ROWS)? {
        slabs.push(typed(view, &slab?)?);
    }
    if slabs.len() == 1 {
        return Ok(slabs.remove(0));
    }
    let column = |at: usize| {
        let pieces: Vec<&dyn arrow::array::Array> = slabs.iter().map(|slab| slab[at].as_ref()).collect();
        concat(&pieces).map_err(|source| view.table.columns_failed(source))
    };
    (0..names.len()).map(column).collect()
}

/// The slab's columns as the view types them.
fn typed(view: &View, slab: &Slab) -> Result<Vec<ArrayRef>, JoinError> {
    let wanted = |(column, (_, data_type)): (&Option<ArrayRef>, &(String, DataType))| match column {
        Some(array) if array.data_type() == data_type => Ok(array.clone()),
        Some(array) => {
            let options = CastOptions { safe: false, ..CastOptions::default() };
            cast_with_options(array, data_type, &options).map_err(|source| view.table.columns_failed(source))
        }
        None => Ok(new_null_array(data_type, slab.rows)),
    };
    slab.columns.iter().zip(&view.features).map(wanted).collect()
}
