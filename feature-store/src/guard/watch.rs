//! What was served, kept until the next check.

use std::{
    collections::{BTreeMap, VecDeque},
    hash::{DefaultHasher, Hasher as _},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use domain::{Column, Digest, Frame, ServiceName, SourceName, Timestamp, Value};

use super::{GuardConfig, GuardReport};
use crate::{Inner, catalog::ServicePlan, error::FeatureError, key};

/// Of each source: how many rows the online store held, and the version of its table by then.
pub(crate) type Marks = BTreeMap<SourceName, (u64, u64)>;

/// One feature vector as it was served.
#[derive(Debug, Clone)]
pub(super) struct Served {
    pub service: ServiceName,
    /// Of the definitions it was made by.
    pub definition: Digest,
    /// By key column, in order of the service's schema.
    pub keys: Vec<Value>,
    pub at: Timestamp,
    pub served_at: Timestamp,
    pub marks: Marks,
    /// Name and value of each feature.
    pub features: Vec<(std::sync::Arc<str>, Value)>,
}

/// Vectors that wait for a check, and what checks have found so far.
pub(crate) struct Guard {
    config: GuardConfig,
    /// Entities whose hash is below this are watched.
    below: u64,
    waiting: Mutex<VecDeque<Served>>,
    dropped: AtomicU64,
    total: Mutex<GuardReport>,
    /// One check at a time.
    pub(super) turn: tokio::sync::Mutex<()>,
}

impl Guard {
    pub(crate) fn new(config: GuardConfig) -> Self {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "the cast saturates"
        )]
        let below = (config.share.clamp(0.0, 1.0) * u64::MAX as f64) as u64;
        let (waiting, dropped, total, turn) = <_>::default();
        Self { config, below, waiting, dropped, total, turn }
    }

    pub(super) const fn config(&self) -> GuardConfig {
        self.config
    }

    pub(super) fn waiting(&self) -> MutexGuard<'_, VecDeque<Served>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn total(&self) -> MutexGuard<'_, GuardReport> {
        self.total.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Which of the rows are about watched entities. A row with a null key is about none.
    fn watched(&self, keys: &[&Column], rows: usize) -> Vec<usize> {
        if self.below == 0 {
            return Vec::new();
        }
        let mut buffer = Vec::with_capacity(32);
        let watched = |row: &usize| {
            buffer.clear();
            if !keys.iter().all(|column| key::push_cell(&mut buffer, column, *row)) {
                return false;
            }
            let mut hasher = DefaultHasher::new();
            hasher.write(&buffer);
            hasher.finish() <= self.below
        };
        (0..rows).filter(watched).collect()
    }

    fn keep(&self, served: impl IntoIterator<Item = Served>) {
        let mut waiting = self.waiting();
        for served in served {
            if waiting.len() >= self.config.waiting_max {
                waiting.pop_front();
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
            waiting.push_back(served);
        }
    }
}

/// Rows of a request that are about watched entities, with what the online store held before they were read.
pub(crate) struct Watching {
    rows: Vec<usize>,
    definition: Digest,
    marks: Marks,
}

impl Inner {
    /// Called before a request is answered; `None` where nothing of it is watched.
    pub(crate) fn watch(
        &self,
        plan: &ServicePlan,
        keys: &Frame,
        rows: usize,
    ) -> Result<Option<Watching>, FeatureError> {
        // What has no name cannot be found again.
        let Some(definition) = plan.definition else { return Ok(None) };
        let columns: Vec<&Column> =
            plan.schema.keys.iter().map(|field| keys.require(&field.name)).collect::<Result<_, _>>()?;
        let rows = self.guard.watched(&columns, rows);
        if rows.is_empty() {
            return Ok(None);
        }
        Ok(Some(Watching { rows, definition, marks: self.applied(plan)? }))
    }

    /// Keeps what was answered. A request during which rows came in is let go: nobody could say which of them it saw.
    pub(crate) fn served(
        &self,
        plan: &ServicePlan,
        watching: Watching,
        keys: &Frame,
        at: &[Timestamp],
        features: &Frame,
    ) -> Result<(), FeatureError> {
        let Watching { rows: watched, definition, marks } = watching;
        let rows = |marks: &Marks| marks.values().map(|(rows, _)| *rows).collect::<Vec<_>>();
        if rows(&self.applied(plan)?) != rows(&marks) {
            return Ok(());
        }
        let served_at = self.clock.now();
        let columns: Vec<&Column> =
            plan.schema.keys.iter().map(|field| keys.require(&field.name)).collect::<Result<_, _>>()?;
        self.guard.keep(watched.into_iter().map(|row| Served {
            service: plan.schema.service.clone(),
            definition,
            keys: columns.iter().map(|column| column.get(row)).collect(),
            at: at[row],
            served_at,
            marks: marks.clone(),
            features: features.iter().map(|(name, column)| (name.clone(), column.get(row))).collect(),
        }));
        Ok(())
    }

    fn applied(&self, plan: &ServicePlan) -> Result<Marks, FeatureError> {
        let mut marks = Marks::new();
        for part in &plan.parts {
            if !marks.contains_key(&part.view.source) {
                let table = self.source_table(&part.view.source)?;
                let version = table.lake.snapshot().map_or(0, |snapshot| snapshot.version());
                marks.insert(part.view.source.clone(), (table.applied.load(Ordering::SeqCst), version));
            }
        }
        Ok(marks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(share: f64) -> Guard {
        Guard::new(GuardConfig { share, waiting_max: 2 })
    }

    #[test]
    fn the_share_of_entities_is_what_was_asked_for_and_always_the_same_ones() {
        let keys = Column::Int((0..20_000).map(Some).chain([None]).collect());
        let watched = guard(0.1).watched(&[&keys], 20_001);
        assert!((1_800..2_200).contains(&watched.len()), "{}", watched.len());
        assert_eq!(watched, guard(0.1).watched(&[&keys], 20_001));
        assert_eq!(guard(1.0).watched(&[&keys], 20_001).len(), 20_000, "all but the null key");
        assert!(guard(0.0).watched(&[&keys], 20_001).is_empty());
    }

    #[test]
    fn the_oldest_is_let_go_and_counted() {
        let guard = guard(1.0);
        let served = |n| Served {
            service: "s".parse().unwrap(),
            definition: Digest::of(b""),
            keys: vec![Value::Int(n)],
            at: Timestamp::from_micros(n),
            served_at: Timestamp::from_micros(n),
            marks: Marks::new(),
            features: Vec::new(),
        };
        guard.keep((0..5).map(served));
        let kept: Vec<i64> = guard.waiting().iter().map(|served| served.at.micros()).collect();
        assert_eq!((kept, guard.dropped()), (vec![3, 4], 3));
    }
}
