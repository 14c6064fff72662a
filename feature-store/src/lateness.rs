//! Event time: the watermark of a source, and which rows come too late or from too far ahead.
//!
//! The watermark is the greatest event time of the source's rows less `watermark`, the disorder that is declared. Rows are
//! judged one by one in the order in which they came, each by what came before it, so a stream gives the same rows however
//! it is cut into calls. A row that is stored already is a duplicate, however late it comes again.
//!
//! The greatest event time is kept in one place, beside the online values, and written in the same step as the rows that
//! moved it: it survives a restart, and an online store that is lost and filled again brings it back.

use std::{collections::HashMap, sync::Arc};

use domain::{SourceName, Span, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use crate::{
    FeatureStore, Inner,
    error::FeatureError,
    parse::{BadRow, Form},
    report::{Reason, RowError},
    rows::{self, ParsedRow, RowMark},
    view::SourcePlan,
};

/// Identities looked up together.
const LOOKUP_ROWS: usize = 8_192;

/// Where a source stands in event time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventTime {
    /// Greatest event time of the rows; `None`: there are none.
    pub newest: Option<Timestamp>,
    /// From here on rows are on time; `None`: none is declared, or there are no rows.
    pub watermark: Option<Timestamp>,
    /// Rows before this are late.
    pub late_before: Option<Timestamp>,
    /// Rows after this come from too far ahead, now.
    pub future_after: Option<Timestamp>,
}

/// What a source's definition says about event times, and where its rows stand.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Gate {
    disorder: Option<Span>,
    lateness: Span,
    future_after: Option<Timestamp>,
    newest: Option<Timestamp>,
}

/// How an event time stands to the gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Passes,
    Late,
    Future,
}

impl Gate {
    pub(crate) fn new(plan: &SourcePlan, newest: Option<Timestamp>, now: Timestamp) -> Self {
        let source = &plan.definition;
        let future_after = source.max_future.map(|ahead| now + ahead);
        // Rows that were taken before `max_future` was declared must not make everything late.
        let newest = newest.map(|newest| future_after.map_or(newest, |limit| newest.min(limit)));
        Self {
            disorder: source.watermark,
            lateness: source.allowed_lateness.unwrap_or(Span::ZERO),
            future_after,
            newest,
        }
    }

    /// The same for rows that somebody wants in, however late they are.
    pub(crate) fn without_lateness(self) -> Self {
        Self { disorder: None, ..self }
    }

    /// Whether every row passes.
    pub(crate) const fn is_open(&self) -> bool {
        self.disorder.is_none() && self.future_after.is_none()
    }

    fn watermark(&self) -> Option<Timestamp> {
        Some(self.newest? - self.disorder?)
    }

    fn late_before(&self) -> Option<Timestamp> {
        Some(self.watermark()? - self.lateness)
    }

    fn judge(&self, at: Timestamp) -> Verdict {
        if self.future_after.is_some_and(|limit| at > limit) {
            Verdict::Future
        } else if self.late_before().is_some_and(|limit| at < limit) {
            Verdict::Late
        } else {
            Verdict::Passes
        }
    }

    fn pass(&mut self, at: Timestamp) {
        self.newest = Some(self.newest.map_or(at, |newest| newest.max(at)));
    }

    pub(crate) fn state(&self, newest: Option<Timestamp>) -> EventTime {
        let (watermark, late_before) = (self.watermark(), self.late_before());
        EventTime { newest, watermark, late_before, future_after: self.future_after }
    }

    /// Why the row does not pass.
    fn refusal(&self, verdict: Verdict, at: Timestamp, now: Timestamp) -> Option<(Reason, String)> {
        match verdict {
            Verdict::Passes => None,
            Verdict::Future => {
                let ahead = self.future_after.map_or(Span::ZERO, |limit| limit - now);
                Some((Reason::Future, format!("{at} lies more than {ahead} ahead of the clock, which says {now}")))
            }
            Verdict::Late => {
                let watermark = self.watermark().unwrap_or(Timestamp::MIN);
                let allowed = self.lateness;
                Some((Reason::Late, format!("{at} lies more than {allowed} behind the watermark, {watermark}")))
            }
        }
    }
}

/// What became of the rows of a call before they are sifted.
#[derive(Debug, Default)]
pub(crate) struct Admitted {
    /// In the order of the body.
    pub(crate) rows: Vec<ParsedRow>,
    pub(crate) bad: Vec<BadRow>,
    /// Rows that were stored already and would be late or ahead if they were new.
    pub(crate) duplicates: u64,
}

impl FeatureStore {
    /// How far behind the clock the watermark of each source is that has one; never below zero.
    #[must_use]
    pub fn watermarks(&self) -> Vec<(SourceName, Span)> {
        let now = self.0.clock.now();
        let catalog = self.0.catalog();
        let one = |plan: &Arc<SourcePlan>| {
            let source = &plan.definition.name;
            let watermark = Gate::new(plan, self.0.newest.of(source), now).watermark()?;
            Some((source.clone(), (now - watermark).max(Span::ZERO)))
        };
        catalog.sources().filter_map(one).collect()
    }
}

impl Inner {
    /// Lets the rows through the gate, one by one in their order. With `old`, the source has identities that an earlier version
    /// wrote.
    pub(crate) async fn admit(
        &self,
        plan: &SourcePlan,
        rows: Vec<ParsedRow>,
        mut gate: Gate,
        now: Timestamp,
        old: bool,
    ) -> Result<Admitted, FeatureError> {
        let mut out = Admitted::default();
        if gate.is_open() {
            out.rows = rows;
            return Ok(out);
        }
        let mut held = Vec::new();
        for row in rows {
            let at = plan.event_time(&row.values);
            match gate.refusal(gate.judge(at), at, now) {
                None => {
                    gate.pass(at);
                    out.rows.push(row);
                }
                Some(why) => held.push((out.rows.len(), row, why)),
            }
        }
        self.part_repeats(plan, held, old, &mut out).await?;
        Ok(out)
    }

    /// Parts the rows that were held into those that repeat a stored one, or one that passed before them, and the others.
    async fn part_repeats(
        &self,
        plan: &SourcePlan,
        held: Vec<(usize, ParsedRow, (Reason, String))>,
        old: bool,
        out: &mut Admitted,
    ) -> Result<(), FeatureError> {
        let mut passed: HashMap<[u8; 16], RowMark> = HashMap::new();
        let mut read = 0;
        let mut held = held.into_iter().peekable();
        while held.peek().is_some() {
            let some: Vec<_> = held.by_ref().take(LOOKUP_ROWS).collect();
            let marks: Vec<RowMark> = some.iter().map(|(_, row, _)| row.mark).collect();
            let stored = rows::known(&*self.kv, plan.definition.name.as_str(), &marks, old).await?;
            for ((before, row, (code, reason)), stored) in some.into_iter().zip(stored) {
                for earlier in &out.rows[read..before] {
                    passed.insert(earlier.mark.identity, earlier.mark);
                }
                read = before;
                let before = passed.get(&row.mark.identity).map(|mark| mark.digest);
                let repeats = before.or(stored.map(|(digest, _)| digest)) == Some(row.mark.digest);
                if repeats {
                    out.duplicates += 1;
                } else {
                    out.bad.push(aside(plan, &row, code, reason));
                }
            }
        }
        Ok(())
    }
}

/// A row that fits its source and is set aside for its event time.
fn aside(plan: &SourcePlan, row: &ParsedRow, code: Reason, reason: String) -> BadRow {
    let cells = plan.names.iter().zip(&row.values).filter(|(_, value)| !value.is_null());
    let raw: Map<String, Json> = cells.map(|(name, value)| (name.to_string(), value.to_json())).collect();
    let column = Some(plan.definition.timestamp.to_string());
    let error = RowError { line: row.line, column, code, reason };
    BadRow { error, raw: Json::Object(raw).to_string(), form: Form::Json, origin: None }
}
