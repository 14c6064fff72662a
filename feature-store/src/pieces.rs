//! A file of rows in pieces, of which one is in memory at a time.

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader, Read, Seek as _, SeekFrom},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// A piece is cut after the row that reaches this.
const PIECE_BYTES: u64 = 4 << 20;

/// A row of a file that is longer is no row: whoever reads it would need as much memory.
const ROW_BYTES_MAX: u64 = 64 << 20;

/// A file that gives so much and no more before somebody says that a row ended.
struct Metered {
    file: File,
    left: Arc<AtomicU64>,
}

impl Read for Metered {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.left.load(Ordering::Relaxed);
        if left == 0 {
            return Err(endless());
        }
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.file.read(&mut buffer[..most])?;
        self.left.store(left - count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

fn endless() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("a row is longer than {ROW_BYTES_MAX} bytes"))
}

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
        reader: Box<csv::Reader<Metered>>,
        left: Arc<AtomicU64>,
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
                while (bytes.len() as u64) < self.piece_bytes {
                    let read = reader.by_ref().take(ROW_BYTES_MAX).read_until(b'\n', &mut bytes)? as u64;
                    if read == ROW_BYTES_MAX {
                        return Err(endless());
                    }
                    if read == 0 {
                        break;
                    }
                    *lines += 1;
                }
                Ok((!bytes.is_empty()).then_some(Piece { bytes, lines_before }))
            }
            Cut::Records { reader, left, slices, header, start, header_lines } => {
                let Some(from) = start.take() else { return Ok(None) };
                let mut record = csv::ByteRecord::new();
                let end = loop {
                    left.store(ROW_BYTES_MAX, Ordering::Relaxed);
                    if !reader.read_byte_record(&mut record)? {
                        break None;
                    }
                    let Some(position) = record.position().cloned() else { continue };
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
    let left = Arc::new(AtomicU64::new(ROW_BYTES_MAX));
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(Metered { file, left: left.clone() });
    reader.byte_headers()?;
    let start = reader.position().clone();
    let mut slices = File::open(path)?;
    let mut header = Vec::new();
    (&mut slices).take(start.byte()).read_to_end(&mut header)?;
    let header_lines = start.line() - 1;
    Ok(Cut::Records { reader: Box::new(reader), left, slices, header, start: Some(start), header_lines })
}

/// Whether a file's name fits the pattern, in which `*` stands for any text and `?` for one character.
#[must_use]
pub fn name_matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut at, mut read, mut star) = (0, 0, None);
    while read < name.len() {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at, read));
                at += 1;
            }
            Some(&one) if one == '?' || one == name[read] => {
                at += 1;
                read += 1;
            }
            _ => match star {
                // The last star takes one character more.
                Some((place, from)) => {
                    star = Some((place, from + 1));
                    at = place + 1;
                    read = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|rest| *rest == '*')
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

    #[test]
    fn a_star_is_any_text_and_a_question_mark_one_character() {
        for (pattern, name, fits) in [
            ("*.csv", "a.csv", true),
            ("*.csv", ".csv", true),
            ("*.csv", "a.csv.gz", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("a*b*c", "axxbyybzc", true),
            ("a*b*c", "axxc", false),
            ("*", "anything", true),
            ("?*", "", false),
        ] {
            assert_eq!(name_matches(pattern, name), fits, "{pattern} {name}");
        }
    }
}
