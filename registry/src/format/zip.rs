//! The list at the end of a ZIP archive: what is in it, without unpacking any of it. Fields are those of PKWARE's APPNOTE.

use std::collections::HashSet;

use super::{
    Fault,
    read::{Cursor, ReadAt, tail},
};

/// Most entries, and the longest name of one in bytes.
const ENTRIES_MAX: u64 = 100_000;
const NAME_BYTES_MAX: usize = 1 << 10;
/// What an archive may unpack to: so many times its length, and this much beside.
const GROWTH_MAX: u64 = 20;
const UNPACKED_FREE_BYTES: u64 = 1 << 30;
/// The list's end, with the longest comment behind it.
const END_BYTES: usize = 22;
const END_SEARCHED_BYTES: u64 = 22 + 0xffff;

/// Whether a file begins as an archive does.
pub(super) const fn begins(head: &[u8]) -> bool {
    matches!(head, [b'P', b'K', 3, 4, ..] | [b'P', b'K', 5, 6, ..])
}

/// Names of all entries. Refuses what lies: about its length, its place, or what it unpacks to; and names that lead out.
pub(super) fn names(file: &dyn ReadAt) -> Result<Vec<String>, Fault> {
    let List { entries, at, bytes } = list(file)?;
    if entries > ENTRIES_MAX {
        return Err(Fault::bad(format!("is an archive of {entries} entries where at most {ENTRIES_MAX} are taken")));
    }
    let end = at.checked_add(bytes).filter(|end| *end <= file.len());
    end.ok_or_else(|| Fault::bad(format!("is an archive whose list of {bytes} bytes is said to begin at byte {at}")))?;
    let mut cursor = Cursor::new(file, at);
    let (mut names, mut seen, mut unpacked) = (Vec::new(), HashSet::new(), 0_u64);
    for _ in 0..entries {
        let entry = entry(&mut cursor)?;
        let shown = &entry.name;
        if !lawful(shown) {
            return Err(Fault::bad(format!("is an archive with an entry {shown:?}, whose name leads out of it")));
        }
        if entry.link {
            return Err(Fault::bad(format!("is an archive with an entry {shown:?} that is a link")));
        }
        if !seen.insert(entry.name.clone()) {
            return Err(Fault::bad(format!("is an archive with two entries {shown:?}")));
        }
        if entry.at.checked_add(entry.packed).is_none_or(|end| end > at) {
            return Err(Fault::bad(format!("is an archive with an entry {shown:?} that does not lie in it")));
        }
        unpacked = unpacked.saturating_add(entry.unpacked);
        names.push(entry.name);
    }
    if unpacked > file.len().saturating_mul(GROWTH_MAX).saturating_add(UNPACKED_FREE_BYTES) {
        return Err(Fault::bad(format!("is an archive of {} bytes that unpacks to {unpacked}", file.len())));
    }
    Ok(names)
}

fn lawful(name: &str) -> bool {
    let inside = |part: &str| !matches!(part, "." | "..");
    !name.is_empty()
        && !name.starts_with('/')
        && !name.chars().any(|c| c.is_control() || matches!(c, '\\' | ':'))
        && name.split('/').all(inside)
}

struct List {
    entries: u64,
    at: u64,
    bytes: u64,
}

fn list(file: &dyn ReadAt) -> Result<List, Fault> {
    let (tail, tail_at) = tail(file, END_SEARCHED_BYTES)?;
    let no_end = || Fault::bad("is an archive without a list of what is in it: it was cut off");
    let last = tail.len().checked_sub(END_BYTES).ok_or_else(no_end)?;
    let end = (0..=last).rev().find(|at| tail[*at..].starts_with(b"PK\x05\x06")).ok_or_else(no_end)?;
    let mut cursor = Cursor::new(file, tail_at + end as u64 + 10);
    let entries = u64::from(u16::from_le_bytes(cursor.array()?));
    let bytes = u64::from(u32::from_le_bytes(cursor.array()?));
    let at = u64::from(u32::from_le_bytes(cursor.array()?));
    if entries != 0xffff && bytes != 0xffff_ffff && at != 0xffff_ffff {
        return Ok(List { entries, at, bytes });
    }
    // Too many for the old form: the larger one stands before it.
    let Some(locator) = (tail_at + end as u64).checked_sub(20) else { return Err(no_end()) };
    let mut cursor = Cursor::new(file, locator);
    if cursor.array()? != *b"PK\x06\x07" {
        return Ok(List { entries, at, bytes });
    }
    cursor.skip(4)?;
    let mut cursor = Cursor::new(file, u64::from_le_bytes(cursor.array()?));
    if cursor.array()? != *b"PK\x06\x06" {
        return Err(no_end());
    }
    cursor.skip(28)?;
    let entries = u64::from_le_bytes(cursor.array()?);
    let bytes = u64::from_le_bytes(cursor.array()?);
    Ok(List { entries, bytes, at: u64::from_le_bytes(cursor.array()?) })
}

struct Entry {
    name: String,
    packed: u64,
    unpacked: u64,
    at: u64,
    link: bool,
}

fn entry(cursor: &mut Cursor<'_>) -> Result<Entry, Fault> {
    let start = cursor.at();
    if cursor.array()? != *b"PK\x01\x02" {
        return Err(Fault::bad(format!("is an archive whose list ends at byte {start}, before all are named")));
    }
    cursor.skip(16)?;
    let mut packed = u64::from(u32::from_le_bytes(cursor.array()?));
    let mut unpacked = u64::from(u32::from_le_bytes(cursor.array()?));
    let [name, extra, comment] = [(); 3].map(|()| cursor.array().map(u16::from_le_bytes));
    let (name, extra, comment) = (u64::from(name?), u64::from(extra?), u64::from(comment?));
    cursor.skip(4)?;
    let mode = u32::from_le_bytes(cursor.array()?) >> 16;
    let mut at = u64::from(u32::from_le_bytes(cursor.array()?));
    let name = cursor.text(name, NAME_BYTES_MAX)?;
    let extra_end = cursor.at() + extra;
    while cursor.at() + 4 <= extra_end {
        let kind = u16::from_le_bytes(cursor.array()?);
        let length = u64::from(u16::from_le_bytes(cursor.array()?));
        let end = (cursor.at() + length).min(extra_end);
        if kind == 1 {
            for number in [&mut unpacked, &mut packed, &mut at] {
                if *number == 0xffff_ffff && cursor.at() + 8 <= end {
                    *number = u64::from_le_bytes(cursor.array()?);
                }
            }
        }
        cursor.skip(end.saturating_sub(cursor.at()))?;
    }
    cursor.skip(extra_end.saturating_sub(cursor.at()) + comment)?;
    Ok(Entry { name, packed, unpacked, at, link: mode & 0o170_000 == 0o120_000 })
}
