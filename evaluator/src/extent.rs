//! How much a version scored on an endpoint, and when.

use std::collections::BTreeMap;

use domain::{Timestamp, prediction::TargetRole};
use serde::Serialize;

use crate::{
    quality::{Bucket, bucket_start},
    state::State,
};

/// What one version scored in a span of event time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Extent {
    /// Event time of the first.
    pub from: Timestamp,
    /// Event time of the last.
    pub to: Timestamp,
    pub predictions: u64,
    /// Of the predictions: scores that were the answer.
    pub answered: u64,
    /// Of the predictions: those whose outcome is known.
    pub labelled: u64,
}

/// All that one version scored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Scored {
    pub version: u32,
    #[serde(flatten)]
    pub all: Extent,
    /// By month of event time (UTC), oldest first.
    pub months: Vec<Extent>,
}

impl Extent {
    fn at(time: Timestamp) -> Self {
        Self { from: time, to: time, predictions: 0, answered: 0, labelled: 0 }
    }

    fn add(&mut self, time: Timestamp, role: TargetRole, labelled: bool) {
        (self.from, self.to) = (self.from.min(time), self.to.max(time));
        self.predictions += 1;
        self.answered += u64::from(role == TargetRole::Live);
        self.labelled += u64::from(labelled);
    }
}

/// What each version of the log scored, by version.
pub(crate) fn of(state: &State) -> Vec<Scored> {
    let mut by_version: BTreeMap<u32, (Extent, BTreeMap<Timestamp, Extent>)> = BTreeMap::new();
    for (row, time) in state.event_times.iter().copied().enumerate() {
        for score in state.scores(row) {
            let labelled = state.labels[row].is_some();
            let (all, months) = by_version.entry(score.version).or_insert_with(|| (Extent::at(time), BTreeMap::new()));
            all.add(time, score.role, labelled);
            let month =
                months.entry(bucket_start(time, Bucket::Month).unwrap_or(time)).or_insert_with(|| Extent::at(time));
            month.add(time, score.role, labelled);
        }
    }
    let scored = |(version, (all, months)): (_, (_, BTreeMap<_, _>))| Scored {
        version,
        all,
        months: months.into_values().collect(),
    };
    by_version.into_iter().map(scored).collect()
}
