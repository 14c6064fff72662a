//! What came and what did not.

use std::{collections::BTreeMap, fmt};

use registry::Brought;
use serde_json::{Value, json};

use crate::cli::table::Table;

/// Counts, and every reason.
#[derive(Default)]
pub struct Tally {
    counts: BTreeMap<&'static str, Counts>,
    refused: Vec<Refused>,
    files: u64,
    bytes: u64,
}

#[derive(Default)]
struct Counts {
    made: u64,
    same: u64,
}

struct Refused {
    what: &'static str,
    name: String,
    reason: String,
}

impl Tally {
    pub fn count(&mut self, what: &'static str, name: &str, brought: &Brought) {
        let counts = self.counts.entry(what).or_default();
        match brought {
            Brought::Made => counts.made += 1,
            Brought::Same | Brought::Done => counts.same += 1,
            Brought::Refused(reason) => self.refused(what, name, reason),
        }
    }

    pub fn refused(&mut self, what: &'static str, name: &str, reason: &str) {
        self.counts.entry(what).or_default();
        self.refused.push(Refused { what, name: name.to_owned(), reason: reason.to_owned() });
    }

    pub fn file(&mut self, bytes: u64) {
        self.files += 1;
        self.bytes += bytes;
    }

    /// Whether everything came.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.refused.is_empty()
    }

    fn refusals(&self, what: &str) -> usize {
        self.refused.iter().filter(|refused| refused.what == what).count()
    }

    #[must_use]
    pub fn to_json(&self) -> Value {
        let counts = self.counts.iter().map(|(what, counts)| {
            let Counts { made, same } = counts;
            ((*what).to_owned(), json!({"made": made, "same": same, "refused": self.refusals(what)}))
        });
        let refused = self.refused.iter().map(|r| json!({"what": r.what, "name": r.name, "reason": r.reason}));
        json!({
            "counts": counts.collect::<serde_json::Map<_, _>>(), "refused": refused.collect::<Vec<_>>(),
            "files": self.files, "bytes": self.bytes,
        })
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new(&["", "brought", "here already", "not brought"]);
        for (what, Counts { made, same }) in &self.counts {
            table.row([(*what).to_owned(), made.to_string(), same.to_string(), self.refusals(what).to_string()]);
        }
        writeln!(f, "{table}{} files of {} bytes", self.files, self.bytes)?;
        if !self.refused.is_empty() {
            let mut table = Table::new(&["not brought", "name", "because"]);
            for Refused { what, name, reason } in &self.refused {
                table.row([(*what).to_owned(), name.clone(), reason.clone()]);
            }
            write!(f, "{table}")?;
        }
        Ok(())
    }
}
