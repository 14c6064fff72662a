//! Limits of texts that callers choose.

use std::collections::BTreeMap;

use domain::{ModelFiles, error::nearest};

use crate::RegistryError;

/// Longest key of a parameter, tag or metric, and longest name, in characters.
pub(crate) const KEY_CHARS_MAX: usize = 250;
/// Longest value of a parameter or tag, in bytes.
const VALUE_BYTES_MAX: usize = 64 * 1024;
/// Longest path of a file, in bytes.
const PATH_BYTES_MAX: usize = 512;

/// A name of `least` to 250 characters without control characters.
pub(crate) fn text(what: &'static str, text: &str, least: usize) -> Result<(), RegistryError> {
    let chars = text.chars().count();
    if chars < least || chars > KEY_CHARS_MAX || text.chars().any(char::is_control) {
        let shown: String = text.chars().take(40).collect();
        let hint = "use at most 250 characters and none that control a terminal";
        return Err(RegistryError::invalid(format!("{what} {shown:?}"), "is not a lawful name", hint));
    }
    Ok(())
}

/// Keys as names, values of bounded length.
pub(crate) fn pairs(what: &'static str, pairs: &BTreeMap<String, String>) -> Result<(), RegistryError> {
    for (key, value) in pairs {
        text(what, key, 1)?;
        if value.len() > VALUE_BYTES_MAX {
            let problem = format!("has {} bytes where at most {VALUE_BYTES_MAX} are taken", value.len());
            return Err(RegistryError::invalid(format!("{what} `{key}`"), problem, "keep long values as files"));
        }
    }
    Ok(())
}

/// Longest alias, in characters.
const ALIAS_CHARS_MAX: usize = 255;

/// An alias, by MLflow's rule; and none that could be taken for a version number or for `latest`.
pub(crate) fn alias(alias: &str) -> Result<(), RegistryError> {
    let lawful = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
    let number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let versioned = alias.strip_prefix(['v', 'V']).is_some_and(number);
    let sized = (1..=ALIAS_CHARS_MAX).contains(&alias.len());
    if !sized || !alias.bytes().all(lawful) || alias.eq_ignore_ascii_case(crate::LATEST) || versioned || number(alias) {
        let shown: String = alias.chars().take(40).collect();
        let hint =
            "use at most 255 letters, digits, `_` or `-`; neither `latest` nor what reads as a version, as `v3` or `3`";
        return Err(RegistryError::invalid(format!("alias {shown:?}"), "is not a lawful alias", hint));
    }
    Ok(())
}

/// At least one file, and only relative paths that stay inside the version's directory.
pub(crate) fn files(files: &ModelFiles) -> Result<(), RegistryError> {
    if files.is_empty() {
        return Err(RegistryError::invalid("the version", "has no files", "give at least `model.onnx`"));
    }
    for path in files.keys() {
        let bad_part = |part: &str| matches!(part, "" | "." | "..");
        let bad_char = |c: char| c.is_control() || matches!(c, '\\' | ':');
        if path.len() > PATH_BYTES_MAX || path.split('/').any(bad_part) || path.chars().any(bad_char) {
            let hint = "use a relative path of plain names joined by `/`";
            return Err(RegistryError::invalid(format!("file {path:?}"), "has no lawful path", hint));
        }
    }
    Ok(())
}

pub(crate) fn near<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    nearest(wrong, known).map(str::to_owned)
}
