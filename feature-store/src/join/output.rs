//! Joined rows, put together batch by batch in the spine's order.

use std::{ops::Range, sync::Arc};

use arrow::{
    array::{
        Array, ArrayRef, PrimitiveArray, RecordBatch, RecordBatchOptions, TimestampMicrosecondArray,
        TimestampMillisecondArray, TimestampNanosecondArray, TimestampSecondArray, new_null_array,
    },
    compute::{concat, interleave},
    datatypes::{Int64Type, SchemaRef, TimeUnit},
};

use super::{
    Options,
    error::JoinError,
    gather::{Gathered, Piece},
    marks::{Address, NOWHERE, unit_and_row},
    plan::{Plan, View},
    round::{self, Round, RoundView},
};

/// The joined rows as batches. Work goes on only while it is asked; dropping it removes its temporary files.
pub struct Joined {
    plan: Arc<Plan>,
    options: Options,
    /// The next row of the spine.
    next: usize,
    round: Option<Round>,
    chunk: Option<Chunk>,
    failed: bool,
}

impl std::fmt::Debug for Joined {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Joined").field("next", &self.next).finish_non_exhaustive()
    }
}

impl Joined {
    pub(super) fn new(plan: Plan, options: Options) -> Self {
        Self { plan: Arc::new(plan), options, next: 0, round: None, chunk: None, failed: false }
    }

    /// The columns of every batch.
    #[must_use]
    pub fn schema(&self) -> SchemaRef {
        self.plan.schema.clone()
    }

    pub(super) const fn options(&self) -> &Options {
        &self.options
    }

    /// Some rows that are ready; `None` behind the last.
    pub(super) fn next_chunk(&mut self) -> Result<Option<Chunk>, JoinError> {
        // A spine has fewer rows than a `u32` counts.
        let all = usize::try_from(self.plan.spine.table.rows()).unwrap_or(usize::MAX);
        if self.next >= all {
            return Ok(None);
        }
        if self.round.as_ref().is_none_or(|round| round.rows.end <= self.next) {
            // The last round's memory goes before the next begins.
            self.round = None;
            let rows = self.next..all.min(self.next + round::round_rows(&self.plan, &self.options));
            self.round = Some(Round::join(&self.plan, &self.options, rows)?);
        }
        let Some(round) = &self.round else { return Ok(None) };
        let rows = self.next..round.rows.end.min(self.next + round.chunk_rows);
        let chunk = Chunk::new(&self.plan, round, rows.clone())?;
        self.next = rows.end;
        Ok(Some(chunk))
    }

    fn next_batch(&mut self) -> Result<Option<RecordBatch>, JoinError> {
        loop {
            if let Some(chunk) = &mut self.chunk
                && chunk.given < chunk.rows
            {
                let rows = chunk.given..chunk.rows.min(chunk.given + self.options.batch_rows.max(1));
                chunk.given = rows.end;
                return chunk.batch(rows).map(Some);
            }
            self.chunk = None;
            match self.next_chunk()? {
                Some(chunk) => self.chunk = Some(chunk),
                None => return Ok(None),
            }
        }
    }
}

impl Iterator for Joined {
    type Item = Result<RecordBatch, JoinError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let batch = self.next_batch();
        self.failed = batch.is_err();
        batch.transpose()
    }
}

/// Rows that are ready to be put together, in any order and by any thread.
pub(super) struct Chunk {
    plan: Arc<Plan>,
    pub(super) rows: usize,
    given: usize,
    spine: Vec<(Vec<ArrayRef>, usize)>,
    views: Vec<ChunkView>,
}

struct ChunkView {
    pieces: Arc<Vec<Piece>>,
    /// By unit: where its piece stands.
    places: Vec<usize>,
    chosen: Vec<Address>,
    newest: Option<ArrayRef>,
    /// One null of each feature's type.
    nulls: Vec<ArrayRef>,
}

impl Chunk {
    fn new(plan: &Arc<Plan>, round: &Round, rows: Range<usize>) -> Result<Self, JoinError> {
        let inside = rows.start - round.rows.start..rows.end - round.rows.start;
        let views = plan.views.iter().zip(&round.views);
        Ok(Self {
            plan: plan.clone(),
            rows: rows.len(),
            given: 0,
            views: views
                .map(|(view, joined)| ChunkView::new(view, joined, inside.clone()))
                .collect::<Result<_, _>>()?,
            spine: round::spine_columns(&plan.spine, rows)?,
        })
    }

    /// A range of the chunk's rows.
    pub(super) fn batch(&self, rows: Range<usize>) -> Result<RecordBatch, JoinError> {
        let failed = |source| self.plan.spine.table.columns_failed(source);
        let mut columns = Vec::with_capacity(self.plan.schema.fields().len());
        for at in 0..self.plan.spine.fields.len() {
            let mut first = 0;
            let mut slices = Vec::new();
            for (piece, length) in &self.spine {
                let (from, to) = (rows.start.clamp(first, first + length), rows.end.clamp(first, first + length));
                if from < to {
                    slices.push(piece[at].slice(from - first, to - from));
                }
                first += length;
            }
            columns.push(match slices.as_slice() {
                [only] => only.clone(),
                several => concat(&several.iter().map(AsRef::as_ref).collect::<Vec<_>>()).map_err(failed)?,
            });
        }
        for (view, plan) in self.views.iter().zip(&self.plan.views) {
            view.columns(plan, rows.clone(), &mut columns)?;
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        RecordBatch::try_new_with_options(self.plan.schema.clone(), columns, &options).map_err(failed)
    }
}

impl ChunkView {
    fn new(view: &View, joined: &RoundView, rows: Range<usize>) -> Result<Self, JoinError> {
        let mut chosen = joined.chosen[rows.clone()].to_vec();
        let pieces = match &joined.gathered {
            Gathered::Memory(pieces) => pieces.clone(),
            Gathered::Disk(spill) => spill.read(rows.start / spill.chunk_rows(), &mut chosen)?.into(),
        };
        let mut places = vec![0; view.table.units.len()];
        for (at, piece) in pieces.iter().enumerate() {
            places[piece.unit] = at;
        }
        Ok(Self {
            pieces,
            places,
            chosen,
            newest: joined.newest.as_ref().map(|newest| instants(&newest[rows], view.unit)),
            nulls: view.features.iter().map(|(_, data_type)| new_null_array(data_type, 1)).collect(),
        })
    }

    fn columns(&self, view: &View, rows: Range<usize>, columns: &mut Vec<ArrayRef>) -> Result<(), JoinError> {
        let mut nulls = false;
        let place = |at: &Address| match *at {
            NOWHERE => {
                nulls = true;
                (self.pieces.len(), 0)
            }
            at => {
                let (unit, row) = unit_and_row(at);
                (self.places[unit], row)
            }
        };
        let indices: Vec<(usize, usize)> = self.chosen[rows.clone()].iter().map(place).collect();
        for (at, null) in self.nulls.iter().enumerate() {
            let mut arrays: Vec<&dyn Array> = self.pieces.iter().map(|piece| piece.columns[at].as_ref()).collect();
            if nulls {
                arrays.push(null);
            }
            columns.push(match arrays.as_slice() {
                // No row at all.
                [] => null.slice(0, 0),
                arrays => interleave(arrays, &indices).map_err(|source| view.table.columns_failed(source))?,
            });
        }
        columns.extend(self.newest.as_ref().map(|newest| newest.slice(rows.start, rows.len())));
        Ok(())
    }
}

fn instants(values: &[Option<i64>], unit: TimeUnit) -> ArrayRef {
    let (_, values, nulls) = values.iter().copied().collect::<PrimitiveArray<Int64Type>>().into_parts();
    match unit {
        TimeUnit::Second => Arc::new(TimestampSecondArray::new(values, nulls).with_timezone("UTC")),
        TimeUnit::Millisecond => Arc::new(TimestampMillisecondArray::new(values, nulls).with_timezone("UTC")),
        TimeUnit::Microsecond => Arc::new(TimestampMicrosecondArray::new(values, nulls).with_timezone("UTC")),
        TimeUnit::Nanosecond => Arc::new(TimestampNanosecondArray::new(values, nulls).with_timezone("UTC")),
    }
}
