//! Push sources. Every source takes rows, so each is one: under its own name and, because Feast wants the names of a
//! push source and of the batch source behind it to differ, under that name with `_push` behind it.

use domain::{SourceName, definition::Source};
use feature_store::FeatureStore;

use super::{Class, Refusal};

const SUFFIX: &str = "_push";

/// What Feast's clients are told a source's push source is called.
#[must_use]
pub fn name_of(source: &SourceName) -> String {
    format!("{source}{SUFFIX}")
}

/// The source that a push source stands for.
///
/// # Errors
/// There is none of that name.
pub fn source(features: &FeatureStore, name: &str) -> Result<Source, Refusal> {
    let find = |name: &str| name.parse::<SourceName>().ok().map(|name| features.source(&name));
    let found = [Some(name), name.strip_suffix(SUFFIX)].into_iter().flatten().find_map(|name| find(name)?.ok());
    found.ok_or_else(|| {
        Refusal::unfit(Class::PushSourceNotFound, format!("push source `{name}` does not exist: give a source's name"))
    })
}
