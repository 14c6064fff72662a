//! Rows that an earlier version kept in segments, on their way into a source's Delta table.
//!
//! That version began another table, a part, whenever a source's columns changed. Here the parts' rows are committed one
//! piece after the other in the order of their numbers, and only then taken out of the manifest: a crash at any step
//! finds either the parts, and goes on where the Delta table ends, or the Delta table whole.

use arrow::array::RecordBatch;
use domain::{Digest, Field, SourceName};
use lake::LakeTable;
use storage::{Kept, Table, Tables, Vault as _};

use crate::{
    error::{Doing as _, FeatureError},
    table::{log_name, stored_schema},
};

const DOING: &str = "move a source's rows into its table";
/// Rows of one commit.
const PIECE_ROWS: usize = 262_144;

/// The columns of one part, and its number from 1.
pub(crate) struct Part {
    pub(crate) number: i64,
    pub(crate) columns: Vec<Field>,
}

fn name_of(source: &SourceName, part: &Part) -> String {
    match part.number {
        1 => log_name(source),
        number => format!("{}.{number}", log_name(source)),
    }
}

/// Moves the rows of the parts, where that is not done and they are here. Doing it again changes nothing.
pub(crate) async fn move_rows(
    tables: &Tables,
    lake: &LakeTable,
    source: &SourceName,
    parts: &[Part],
) -> Result<(), FeatureError> {
    let names: Vec<String> = parts.iter().map(|part| name_of(source, part)).collect();
    let Some(first) = names.first() else { return Ok(()) };
    if !tables.keeps(first).await.doing(DOING)? {
        return Ok(());
    }
    let mut opened = Vec::new();
    for (name, part) in names.iter().zip(parts) {
        let table = tables.table(name, stored_schema(&part.columns)).await.doing(DOING)?;
        if table.here().is_err() {
            // Its keeper moves them.
            return Ok(());
        }
        table.flush().await.doing(DOING)?;
        opened.push(table);
    }
    let rows: u64 = opened.iter().map(Table::rows).sum();
    if rows > 0 {
        tracing::info!(%source, rows, "moving rows of an earlier version into the source's Delta table");
        let end = Kept { rows, covered: opened[0].stored().covered, chain: digest_of(&opened) };
        copy(lake, &opened, end).await?;
    }
    drop(opened);
    tables.hand_over(&names).await.doing(DOING)
}

/// What named the rows of these parts so far, so that what was made from them is still known by it.
fn digest_of(parts: &[Table]) -> Digest {
    let digests: Vec<Digest> = parts.iter().map(Table::snapshot).collect();
    match digests.as_slice() {
        [only] => *only,
        all => Digest::of_parts(all.iter().map(|digest| digest.as_bytes().as_slice())),
    }
}

async fn copy(lake: &LakeTable, parts: &[Table], end: Kept) -> Result<(), FeatureError> {
    let mut skipped = lake.rows();
    let mut done = skipped;
    for part in parts {
        lake.ensure(part.schema()).await.doing(DOING)?;
        let mut piece: Vec<RecordBatch> = Vec::new();
        for at in 0..part.segments() {
            for batch in part.segment(at).await.doing(DOING)? {
                let rows = batch.num_rows();
                let skip = usize::try_from(skipped).unwrap_or(usize::MAX).min(rows);
                skipped -= skip as u64;
                if skip < rows {
                    piece.push(batch.slice(skip, rows - skip));
                }
            }
            if piece.iter().map(RecordBatch::num_rows).sum::<usize>() >= PIECE_ROWS {
                done = keep(lake, &mut piece, done, end).await?;
            }
        }
        done = keep(lake, &mut piece, done, end).await?;
    }
    Ok(())
}

/// Commits the piece, whose first row has the number `done`. Gives the number after its last.
async fn keep(lake: &LakeTable, piece: &mut Vec<RecordBatch>, done: u64, end: Kept) -> Result<u64, FeatureError> {
    let rows: u64 = piece.iter().map(|batch| batch.num_rows() as u64).sum();
    if rows > 0 {
        lake.keep(piece, Kept { rows: done + rows, ..end }).await.doing(DOING)?;
        piece.clear();
    }
    Ok(done + rows)
}
