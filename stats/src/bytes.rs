//! Sketches as bytes: whole numbers of variable length (LEB128), and a reader that never runs over the end.

/// Bytes that are not a sketch of this version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadSketch(pub &'static str);

impl std::fmt::Display for BadSketch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the bytes are no sketch: {}", self.0)
    }
}

impl std::error::Error for BadSketch {}

/// Appends a number in groups of seven bits, least first.
pub(crate) fn push_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push((number & 0x7F) as u8 | 0x80);
        number >>= 7;
    }
    #[expect(clippy::cast_possible_truncation, reason = "below 0x80")]
    out.push(number as u8);
}

/// What of the bytes has not been read.
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Behind a version byte, which must be `version`.
    pub(crate) fn versioned(bytes: &'a [u8], version: u8) -> Result<Self, BadSketch> {
        match bytes {
            [found, rest @ ..] if *found == version => Ok(Self(rest)),
            [_, ..] => Err(BadSketch("an unknown version")),
            [] => Err(BadSketch("no byte")),
        }
    }

    pub(crate) const fn left(&self) -> usize {
        self.0.len()
    }

    pub(crate) const fn rest(self) -> &'a [u8] {
        self.0
    }

    pub(crate) fn byte(&mut self) -> Result<u8, BadSketch> {
        let (first, rest) = self.0.split_first().ok_or(BadSketch("too short"))?;
        self.0 = rest;
        Ok(*first)
    }

    /// A number that [`push_number`] wrote; longer ways to write one are refused.
    pub(crate) fn number(&mut self) -> Result<u64, BadSketch> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7F);
            if (bits << shift) >> shift != bits || (byte == 0 && shift > 0) {
                return Err(BadSketch("a number too long"));
            }
            number |= bits << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(BadSketch("a number too long"))
    }
}
