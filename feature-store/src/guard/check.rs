//! Deriving again what was served.

use std::collections::BTreeMap;

use domain::{Column, Digest, Frame, SourceName, Value};
use serde_json::Map;
use storage::StorageError;

use super::{
    Cause, GuardReport, GuardState, Mismatch,
    watch::{Marks, Served},
};
use crate::{
    FeatureStore, Inner,
    catalog::{Catalog, ServicePlan},
    error::FeatureError,
    features::features,
    table::Mark,
};

/// Vectors of one service that are derived together.
const AT_ONCE: usize = 5_000;

impl FeatureStore {
    /// Derives everything that waits again from history, reports what differs and counts it. Mismatches are kept and,
    /// if there are any, one event in the journal says how many. One check at a time; a second waits for the first.
    ///
    /// # Errors
    /// What storage says; vectors that were not compared yet wait for the next check.
    pub async fn check_consistency(&self) -> Result<GuardReport, FeatureError> {
        let guard = &self.0.guard;
        let _turn = guard.turn.lock().await;
        let mut found = GuardReport::default();
        loop {
            let Some(batch) = next_batch(&mut guard.waiting()) else { break };
            match self.0.derive_again(&batch).await {
                Ok((report, mismatches)) => {
                    self.0.keep_mismatches(&report, &mismatches).await?;
                    guard.total().add(&report);
                    found.add(&report);
                }
                Err(error) => {
                    let mut waiting = guard.waiting();
                    let room = guard.config().waiting_max.saturating_sub(waiting.len());
                    batch.into_iter().rev().take(room).for_each(|served| waiting.push_front(served));
                    return Err(error);
                }
            }
        }
        Ok(found)
    }

    /// How the guard stands, with at most `limit` mismatches.
    pub async fn consistency(&self, limit: usize) -> Result<GuardState, FeatureError> {
        let guard = &self.0.guard;
        let mismatches = self.0.newest_mismatches(limit).await?;
        let (waiting, total) = (guard.waiting().len(), guard.total().clone());
        Ok(GuardState { share: guard.config().share, waiting, dropped: guard.dropped(), total, mismatches })
    }
}

/// The oldest vector and the others of its service, as many as are derived together.
fn next_batch(waiting: &mut std::collections::VecDeque<Served>) -> Option<Vec<Served>> {
    let service = waiting.front()?.service.clone();
    let (mut batch, mut rest) = (Vec::new(), std::collections::VecDeque::with_capacity(waiting.len()));
    for served in waiting.drain(..) {
        if served.service == service && batch.len() < AT_ONCE { batch.push(served) } else { rest.push_back(served) }
    }
    *waiting = rest;
    Some(batch)
}

impl GuardReport {
    fn add(&mut self, other: &Self) {
        self.vectors += other.vectors;
        self.values += other.values;
        self.gone += other.gone;
        self.late_data += other.late_data;
        self.definition_change += other.definition_change;
        self.lost_write += other.lost_write;
    }
}

impl Inner {
    /// Compares vectors of one service with history.
    async fn derive_again(&self, batch: &[Served]) -> Result<(GuardReport, Vec<Mismatch>), FeatureError> {
        let mut report = GuardReport::default();
        let catalog = self.catalog();
        let plan = match batch.first().map(|first| catalog.service(&first.service)) {
            Some(Ok(plan)) => plan,
            Some(Err(FeatureError::Unknown { .. })) | None => {
                report.gone = batch.len() as u64;
                return Ok((report, Vec::new()));
            }
            Some(Err(error)) => return Err(error),
        };
        // A key of another type, or another set of keys, is another question.
        let (batch, gone): (Vec<&Served>, Vec<&Served>) = batch.iter().partition(|served| asks_the_same(&plan, served));
        report.gone = gone.len() as u64;
        let now = self.derived(&catalog, &plan, &batch, &Marks::new()).await?;
        let mut differing: BTreeMap<&Marks, Vec<(usize, &Served)>> = BTreeMap::new();
        for (row, served) in batch.iter().enumerate() {
            report.vectors += 1;
            let mut differs = false;
            for (name, value) in &served.features {
                let Some(column) = now.column(name) else { continue };
                report.values += 1;
                differs |= !same(value, &column.get(row));
            }
            if differs {
                differing.entry(&served.marks).or_default().push((row, served));
            }
        }
        let mut mismatches = Vec::new();
        let found_at = self.clock.now();
        for (marks, rows) in differing {
            let asked: Vec<&Served> = rows.iter().map(|(_, served)| *served).collect();
            let then = match self.derived(&catalog, &plan, &asked, marks).await {
                // A vacuum took the version away: nobody can say any more what should have been known.
                Err(FeatureError::Storage { source: StorageError::Gone { .. }, .. }) => {
                    report.gone += asked.len() as u64;
                    continue;
                }
                derived => derived?,
            };
            for (position, (row, served)) in rows.into_iter().enumerate() {
                for (name, online) in &served.features {
                    let (Some(now), Some(then)) = (now.column(name), then.column(name)) else { continue };
                    let offline = now.get(row);
                    if same(online, &offline) {
                        continue;
                    }
                    let cause = cause_of(Some(served.definition), plan.definition, same(online, &then.get(position)));
                    report.count(cause);
                    mismatches.push(Mismatch {
                        service: served.service.clone(),
                        feature: name.to_string(),
                        cause,
                        keys: keys_json(&plan, served),
                        at: served.at,
                        served_at: served.served_at,
                        found_at,
                        online: online.to_json(),
                        offline: offline.to_json(),
                    });
                }
            }
        }
        Ok((report, mismatches))
    }

    /// The service's features for these questions, from the rows that the marks name; from all where they name none.
    async fn derived(
        &self,
        catalog: &Catalog,
        plan: &ServicePlan,
        asked: &[&Served],
        marks: &Marks,
    ) -> Result<Frame, FeatureError> {
        let mut keys = Frame::of_rows(asked.len());
        for (at, field) in plan.schema.keys.iter().enumerate() {
            let mut column = Column::with_capacity(field.kind, asked.len());
            for served in asked {
                let key = column.push(served.keys[at].clone());
                key.map_err(|e| FeatureError::Corrupt { what: "a watched key", reason: e.to_string() })?;
            }
            keys.add(field.name.clone(), column)?;
        }
        let at: Vec<_> = asked.iter().map(|served| served.at).collect();
        let nameless = Digest::of(&[]);
        let mark = |&(rows, version): &(u64, u64)| Mark { rows, version, digest: nameless };
        let marks: BTreeMap<SourceName, Mark> =
            marks.iter().map(|(source, stood)| (source.clone(), mark(stood))).collect();
        let parts = self.join(catalog, plan, keys.into(), at.into(), &marks).await?;
        features(plan, parts, asked.len())
    }
}

fn asks_the_same(plan: &ServicePlan, served: &Served) -> bool {
    let kinds = plan.schema.keys.iter().map(|field| field.kind);
    served.keys.len() == plan.schema.keys.len()
        && served.keys.iter().zip(kinds).all(|(value, kind)| Column::empty(kind).push(value.clone()).is_ok())
}

fn cause_of(served: Option<Digest>, now: Option<Digest>, as_of_then: bool) -> Cause {
    match (served == now, as_of_then) {
        (false, _) => Cause::DefinitionChange,
        (true, true) => Cause::LateData,
        (true, false) => Cause::LostWrite,
    }
}

/// Equal to the bit; NaN is NaN.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Float(a), Value::Float(b)) => a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan()),
        _ => a == b,
    }
}

fn keys_json(plan: &ServicePlan, served: &Served) -> Map<String, serde_json::Value> {
    plan.schema.keys.iter().zip(&served.keys).map(|(field, value)| (field.name.to_string(), value.to_json())).collect()
}
