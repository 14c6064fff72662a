//! Where and why a filter or an order is not one.

use crate::RegistryError;

/// A place in a text and what is wrong there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    /// In characters, from 1.
    pub column: usize,
    /// What stands there.
    pub found: String,
    pub expected: String,
    pub nearest: Option<String>,
}

/// Longest piece of the caller's text that a message repeats, in characters.
const SHOWN_CHARS: usize = 40;
const HINT: &str = "clauses look like metrics.loss < 0.5 AND params.`my kind` = 'mlp', orders like metrics.loss DESC";

impl Fault {
    pub(super) fn new(column: usize, found: &[char], expected: impl Into<String>) -> Self {
        let mut text: String = found.iter().take(SHOWN_CHARS).collect();
        if found.len() > SHOWN_CHARS {
            text.push('…');
        }
        let found = if found.is_empty() { "the end".to_owned() } else { format!("`{text}`") };
        Self { column, found, expected: expected.into(), nearest: None }
    }

    /// As a refusal of `what`, such as `the filter`.
    pub(super) fn refuse(self, what: &str) -> RegistryError {
        let Self { column, found, expected, nearest } = self;
        let near = nearest.map(|near| format!(" (did you mean `{near}`?)")).unwrap_or_default();
        RegistryError::invalid(what, format!("has {found} at column {column} where {expected} is expected{near}"), HINT)
    }
}

/// A text, or a number of things in it, beyond what is taken.
pub(super) fn too_much(what: &str, problem: String) -> RegistryError {
    RegistryError::invalid(what, problem, "ask for less at once, or narrow the result afterwards")
}
