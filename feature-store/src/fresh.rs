//! How far behind the clock each view is.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use domain::{SourceName, Span, Timestamp, ViewName};
use serde::{Deserialize, Serialize};

use crate::{FeatureStore, key, online::Pair};

/// A view against its target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Freshness {
    pub view: ViewName,
    /// Greatest event time of any row that reached the view; `None`: no row has.
    pub newest: Option<Timestamp>,
    /// From there to now; never below zero.
    pub behind: Option<Span>,
    /// What the definition asks for.
    pub target: Option<Span>,
}

impl Freshness {
    /// Whether the view is further behind than its definition allows; a view without rows is.
    #[must_use]
    pub fn is_late(&self) -> bool {
        self.target.is_some_and(|target| self.behind.is_none_or(|behind| behind > target))
    }
}

/// Greatest event time per source.
#[derive(Default)]
pub(crate) struct Newest(Mutex<BTreeMap<SourceName, Timestamp>>);

impl Newest {
    /// Takes in an event time.
    pub(crate) fn note(&self, source: &SourceName, at: Timestamp) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let newest = known.entry(source.clone()).or_insert(at);
        *newest = at.max(*newest);
    }

    pub(crate) fn of(&self, source: &SourceName) -> Option<Timestamp> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(source).copied()
    }

    /// How the online store keeps the greatest event time, given that of the rows it is written with.
    pub(crate) fn pair(&self, source: &SourceName, at: Timestamp) -> Pair {
        let newest = self.of(source).map_or(at, |known| known.max(at));
        (key::newest(source.as_str()), newest.micros().to_le_bytes().to_vec())
    }
}

impl FeatureStore {
    /// How far behind the clock each view is, by event time.
    #[must_use]
    pub fn freshness(&self) -> Vec<Freshness> {
        let now = self.0.clock.now();
        let catalog = self.0.catalog();
        let one = |view: &domain::definition::FeatureView| {
            let newest = self.0.newest.of(&view.source);
            let behind = newest.map(|newest| (now - newest).max(Span::ZERO));
            Freshness { view: view.name.clone(), newest, behind, target: view.freshness }
        };
        catalog.definitions.views.values().map(one).collect()
    }
}
