//! A file of rows in pieces that fit a request: only one of them is in memory at a time.

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom},
    path::Path,
};

/// A piece is cut after the row that reaches this.
const PIECE_BYTES: u64 = 4 << 20;

/// Some rows of a file.
pub struct Piece {
    pub bytes: Vec<u8>,
    /// What is to be added to a line of the piece to get the file's.
    pub lines_before: u64,
}

/// How a file is cut.
enum Cut {
    /// Not at all.
    Whole(Option<File>),
    /// Before lines.
    Lines { reader: BufReader<File>, lines: u64 },
    /// Before records, which may go over several lines; each piece begins with the header.
    Records {
        reader: Box<csv::Reader<File>>,
        slices: File,
        header: Vec<u8>,
        start: Option<csv::Position>,
        header_lines: u64,
    },
}

/// The pieces of a file, in order.
pub struct Pieces {
    cut: Cut,
    piece_bytes: u64,
}

impl Pieces {
    /// Opens a file; its name says how it is cut: `.csv`, `.jsonl` and `.ndjson` are, others go as they are.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::with(path, PIECE_BYTES)
    }

    fn with(path: &Path, piece_bytes: u64) -> io::Result<Self> {
        let file = File::open(path)?;
        let cut = match path.extension().and_then(|extension| extension.to_str()) {
            Some("jsonl" | "ndjson") => Cut::Lines { reader: BufReader::new(file), lines: 0 },
            Some("csv") if file.metadata()?.len() > piece_bytes => records(file, path)?,
            _ => Cut::Whole(Some(file)),
        };
        Ok(Self { cut, piece_bytes })
    }

    fn piece(&mut self) -> io::Result<Option<Piece>> {
        match &mut self.cut {
            Cut::Whole(file) => {
                let Some(mut file) = file.take() else { return Ok(None) };
                let mut bytes = Vec::new();
                file.read_to_end(&mut bytes)?;
                Ok(Some(Piece { bytes, lines_before: 0 }))
            }
            Cut::Lines { reader, lines } => {
                let (mut bytes, lines_before) = (Vec::new(), *lines);
                while (bytes.len() as u64) < self.piece_bytes && reader.read_until(b'\n', &mut bytes)? > 0 {
                    *lines += 1;
                }
                Ok((!bytes.is_empty()).then_some(Piece { bytes, lines_before }))
            }
            Cut::Records { reader, slices, header, start, header_lines } => {
                let Some(from) = start.take() else { return Ok(None) };
                let mut record = csv::ByteRecord::new();
                let end = loop {
                    if !reader.read_byte_record(&mut record)? {
                        break None;
                    }
                    let position = record.position().cloned().unwrap_or_default();
                    if position.byte() - from.byte() >= self.piece_bytes {
                        break Some(position);
                    }
                };
                slices.seek(SeekFrom::Start(from.byte()))?;
                let mut bytes = header.clone();
                match &end {
                    Some(end) => slices.take(end.byte() - from.byte()).read_to_end(&mut bytes)?,
                    None => slices.read_to_end(&mut bytes)?,
                };
                *start = end;
                Ok(Some(Piece { bytes, lines_before: from.line() - 1 - *header_lines }))
            }
        }
    }
}

impl Iterator for Pieces {
    type Item = io::Result<Piece>;

    fn next(&mut self) -> Option<Self::Item> {
        self.piece().transpose()
    }
}

fn records(file: File, path: &Path) -> io::Result<Cut> {
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(file);
    reader.byte_headers()?;
    let start = reader.position().clone();
    let mut slices = File::open(path)?;
    let mut header = Vec::new();
    (&mut slices).take(start.byte()).read_to_end(&mut header)?;
    let header_lines = start.line() - 1;
    Ok(Cut::Records { reader: Box::new(reader), slices, header, start: Some(start), header_lines })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(name: &str, text: &str, size: u64) -> Vec<(String, u64)> {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join(name);
        std::fs::write(&path, text).expect("written");
        let cut = Pieces::with(&path, size).expect("opened");
        cut.map(|piece| piece.expect("read"))
            .map(|piece| (String::from_utf8(piece.bytes).expect("text"), piece.lines_before))
            .collect()
    }

    #[test]
    fn csv_is_cut_before_records_and_every_piece_has_the_header() {
        let text = "a,b\n1,x\n2,\"y\ny\"\n\n3,z\n4,w\n";
        let expected = [("a,b\n1,x\n2,\"y\ny\"\n", 0), ("a,b\n\n3,z\n4,w\n", 3)];
        assert_eq!(pieces("rows.csv", text, 10), expected.map(|(text, lines)| (text.to_owned(), lines)));
        assert_eq!(pieces("rows.csv", text, 1_000), [(text.to_owned(), 0)]);
        // Line 6 of the file is line 3 of its piece.
        assert_eq!(text.lines().nth(3 + 3 - 1), Some("3,z"));
    }

    #[test]
    fn json_lines_are_cut_before_lines_and_other_files_not_at_all() {
        let text = "{\"a\": 1}\n\n{\"a\": 2}\n{\"a\": 3}";
        let expected = [("{\"a\": 1}\n", 0), ("\n{\"a\": 2}\n", 1), ("{\"a\": 3}", 3)];
        assert_eq!(pieces("rows.jsonl", text, 9), expected.map(|(text, lines)| (text.to_owned(), lines)));
        assert_eq!(pieces("rows.json", text, 3), [(text.to_owned(), 0)]);
    }
}
