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

/// An alias that cannot be taken for a version number or for `latest`.
pub(crate) fn alias(alias: &str) -> Result<(), RegistryError> {
    let lawful = alias.parse::<domain::ModelName>().is_ok();
    if !lawful || alias == crate::LATEST || alias.bytes().all(|byte| byte.is_ascii_digit()) {
        let hint = "use lowercase letters, digits, `_` or `-`, not only digits, and not `latest`";
        return Err(RegistryError::invalid(format!("alias {alias:?}"), "is not a lawful alias", hint));
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
