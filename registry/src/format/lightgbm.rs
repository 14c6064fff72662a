//! LightGBM's text format: lines of `key=value`, the first block about the whole model, then a block for each tree.

use super::{
    Fault,
    read::{ReadAt, head, tail},
};

/// The first block, at most; it names every feature twice.
const HEAD_BYTES_MAX: u64 = 8 << 20;
/// What follows the trees: importances and parameters.
const TAIL_BYTES: u64 = 1 << 20;

/// What a model says of itself.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct LightGbm {
    /// Of the format, as in `v4`.
    pub version: String,
    pub features: Vec<String>,
}

/// Whether a file begins as LightGBM writes it.
pub(super) fn begins(head: &[u8]) -> bool {
    head.starts_with(b"tree\nversion=")
}

pub(super) fn read(file: &dyn ReadAt) -> Result<LightGbm, Fault> {
    let head = head(file, HEAD_BYTES_MAX)?;
    let block = head.windows(2).position(|two| two == b"\n\n");
    let block = block.ok_or_else(|| Fault::bad("has no end of its first block"))?;
    let text = std::str::from_utf8(&head[..block]).map_err(|_| Fault::bad("has a first block that is not UTF-8"))?;
    let value = |key: &str| {
        let found = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        found.ok_or_else(|| Fault::bad(format!("has no `{key}=` in its first block")))
    };
    let number = |text: &str| text.parse::<u64>().map_err(|_| Fault::bad(format!("has a size of {text:?}")));
    let features: Vec<String> = value("feature_names")?.split(' ').map(str::to_owned).collect();
    let last = number(value("max_feature_idx")?)?;
    if last.checked_add(1) != Some(features.len() as u64) {
        let names = features.len();
        return Err(Fault::bad(format!(
            "has {names} names of features, and says that {last} is the last one's number"
        )));
    }
    let mut trees = 0_u64;
    for size in value("tree_sizes")?.split_ascii_whitespace() {
        trees = trees.saturating_add(number(size)?);
    }
    if trees > file.len() - block as u64 {
        return Err(Fault::bad(format!("says that its trees take {trees} bytes, and has {}", file.len())));
    }
    let (tail, _) = tail(file, TAIL_BYTES)?;
    let ended = |end: &[u8]| end.windows(12).any(|window| window == b"end of trees");
    if !ended(&tail) {
        return Err(Fault::bad("has no end of its trees: it was cut off"));
    }
    Ok(LightGbm { version: value("version")?.to_owned(), features })
}
