//! Gathered features that do not fit in memory: a file for each chunk of the spine, as Arrow streams in a temporary
//! directory that goes away with the last handle to it, whatever happens.

use std::{
    fmt,
    fs::File,
    io::{self, BufReader, BufWriter, Write as _},
    path::{Path, PathBuf},
};

use arrow::{
    array::RecordBatch,
    compute::filter_record_batch,
    datatypes::{Field, Schema, SchemaRef},
    error::ArrowError,
    ipc::{reader::StreamReader, writer::StreamWriter},
};
use tempfile::TempDir;

use super::{
    error::JoinError,
    gather::Piece,
    marks::{Address, Marks},
    plan::View,
};

/// The features of one view on disk.
pub(super) struct Spill {
    place: String,
    schema: SchemaRef,
    chunk_rows: usize,
    chunks: Vec<Chunk>,
    /// Removes itself.
    dir: TempDir,
}

struct Chunk {
    /// Among the gathered rows of the view, those that the chunk's rows see.
    marks: Marks,
    writer: Option<StreamWriter<BufWriter<File>>>,
    /// Units in the order in which they were written.
    units: Vec<usize>,
}

impl fmt::Debug for Spill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spill").field("dir", &self.dir).field("chunks", &self.chunks.len()).finish_non_exhaustive()
    }
}

impl Spill {
    /// `chosen` are addresses among the rows that `marks` has, which is what will be written.
    pub(super) fn new(
        parent: &Path,
        view: &View,
        chosen: &[Address],
        marks: &Marks,
        chunk_rows: usize,
    ) -> Result<Self, JoinError> {
        let dir = tempfile::Builder::new().prefix("millpond-join-").tempdir_in(parent);
        let dir = dir.map_err(|source| JoinError::Spill { doing: "make a directory for temporary files", source })?;
        // By position: two features may come from one column.
        let field =
            |(at, (_, data_type)): (usize, &(String, _))| Field::new(at.to_string(), Clone::clone(data_type), true);
        let fields: Vec<Field> = view.features.iter().enumerate().map(field).collect();
        let chunk = |rows: &[Address]| {
            let marks = Marks::of(rows, view.table.units.len(), |unit| marks.count(unit));
            Chunk { marks, writer: None, units: Vec::new() }
        };
        Ok(Self {
            place: view.table.place.clone(),
            schema: Schema::new(fields).into(),
            chunk_rows,
            chunks: chosen.chunks(chunk_rows).map(chunk).collect(),
            dir,
        })
    }

    /// Rows of the spine in a chunk.
    pub(super) const fn chunk_rows(&self) -> usize {
        self.chunk_rows
    }

    fn path(&self, chunk: usize) -> PathBuf {
        self.dir.path().join(chunk.to_string())
    }

    fn failed(&self, doing: &'static str, error: ArrowError) -> JoinError {
        match error {
            ArrowError::IoError(_, source) => JoinError::Spill { doing, source },
            source => JoinError::Columns { place: self.place.clone(), source },
        }
    }

    /// Gives every chunk its rows of the piece.
    pub(super) fn write(&mut self, piece: Piece) -> Result<(), JoinError> {
        const DOING: &str = "write temporary files";
        let batch = RecordBatch::try_new(self.schema.clone(), piece.columns).map_err(|e| self.failed(DOING, e))?;
        for at in 0..self.chunks.len() {
            let Some(filter) = self.chunks[at].marks.filter(piece.unit) else { continue };
            let rows = filter_record_batch(&batch, &filter).map_err(|e| self.failed(DOING, e))?;
            let mut writer = match self.chunks[at].writer.take() {
                Some(writer) => writer,
                None => {
                    let file = File::create_new(self.path(at));
                    let file = file.map_err(|source| JoinError::Spill { doing: DOING, source })?;
                    StreamWriter::try_new(BufWriter::new(file), &self.schema).map_err(|e| self.failed(DOING, e))?
                }
            };
            writer.write(&rows).map_err(|e| self.failed(DOING, e))?;
            self.chunks[at].writer = Some(writer);
            self.chunks[at].units.push(piece.unit);
        }
        Ok(())
    }

    /// Ends all files.
    pub(super) fn finish(mut self) -> Result<Self, JoinError> {
        const DOING: &str = "write temporary files";
        for at in 0..self.chunks.len() {
            if let Some(mut writer) = self.chunks[at].writer.take() {
                writer.finish().map_err(|e| self.failed(DOING, e))?;
                let mut file = writer.into_inner().map_err(|e| self.failed(DOING, e))?;
                file.flush().map_err(|source| JoinError::Spill { doing: DOING, source })?;
            }
        }
        Ok(self)
    }

    /// The chunk's pieces in order of their units; `rows` (addresses as they were gathered) become addresses among
    /// these.
    pub(super) fn read(&self, chunk: usize, rows: &mut [Address]) -> Result<Vec<Piece>, JoinError> {
        const DOING: &str = "read temporary files";
        let spilled = &self.chunks[chunk];
        rows.iter_mut().for_each(|at| *at = spilled.marks.dense(*at));
        if spilled.units.is_empty() {
            return Ok(Vec::new());
        }
        let file = File::open(self.path(chunk)).map_err(|source| JoinError::Spill { doing: DOING, source })?;
        let reader = StreamReader::try_new(BufReader::new(file), None).map_err(|e| self.failed(DOING, e))?;
        let mut pieces = Vec::with_capacity(spilled.units.len());
        for (unit, batch) in spilled.units.iter().zip(reader) {
            let batch = batch.map_err(|e| self.failed(DOING, e))?;
            pieces.push(Piece { unit: *unit, columns: batch.columns().to_vec() });
        }
        if pieces.len() < spilled.units.len() {
            return Err(JoinError::Spill { doing: DOING, source: io::ErrorKind::UnexpectedEof.into() });
        }
        pieces.sort_unstable_by_key(|piece| piece.unit);
        Ok(pieces)
    }
}
