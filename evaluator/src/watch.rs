//! What an endpoint is watched for, and how far the watching has come.

use std::{collections::BTreeMap, sync::Arc};

use domain::{Span, Timestamp, definition::Endpoint};
use stats::{ColumnReference, Reference};

use crate::{
    alerts::Alert,
    inputs::Kind,
    rules::{History, Rule},
};

/// What the conductor tells the evaluator of an endpoint: again whenever it changes.
#[derive(Debug, Clone)]
pub struct Watch {
    pub definition: Endpoint,
    /// The reference kept with each version that scores here; the champion's must be among them.
    pub references: BTreeMap<u32, Reference>,
    /// The version whose quality and inputs are judged.
    pub champion: u32,
}

/// The watching of one endpoint. Before it is configured only the log is kept.
#[derive(Debug, Default)]
pub(crate) struct Watching {
    pub definition: Option<Endpoint>,
    pub champion: Option<Champion>,
    /// Counts champions, so that a version that comes back starts afresh.
    pub generation: i64,
    /// End of the last window evaluated.
    pub evaluated_through: Option<Timestamp>,
    pub history: History,
    pub alerts: BTreeMap<Rule, Alert>,
}

/// The version in charge.
#[derive(Debug, Clone)]
pub(crate) struct Champion {
    pub version: u32,
    /// Rows up to this event time belong to its predecessors; `None`: there was none.
    pub since: Option<Timestamp>,
    /// Known once configured; not kept over a restart.
    pub reference: Option<Arc<Reference>>,
}

impl Watching {
    /// How long inputs are held: two windows, or as long as an open window can still need them.
    pub(crate) fn input_horizon(&self) -> Option<Span> {
        let monitor = &self.definition.as_ref()?.monitor;
        let (window, wait) =
            (monitor.window.micros(), monitor.label_delay.micros().saturating_add(monitor.every.micros()));
        Some(Span::from_micros(window.saturating_mul(2).max(window.saturating_add(wait))))
    }
}

/// The columns of a reference and how they are counted.
pub(crate) fn columns_of(reference: &Reference) -> BTreeMap<String, Kind> {
    let kind = |column: &ColumnReference| match column {
        ColumnReference::Numeric { .. } => Kind::Numeric,
        ColumnReference::Categorical { .. } => Kind::Categorical,
    };
    reference.columns.iter().map(|(name, column)| (name.clone(), kind(column))).collect()
}
