//! Rows that were set aside come in again, as they are or mended, or go for good.
//!
//! A row is written to the store first and then marked; a crash between the two leaves it waiting, and replaying it again
//! finds a duplicate. So it comes in once.

use std::collections::BTreeMap;

use domain::{EventKind, NewEvent, SourceName};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json, json};

use super::{
    Aside, QuarantineFilter, Which,
    store::{Letter, blame, settle},
};
use crate::{
    FeatureStore, Inner,
    error::{Doing as _, FeatureError},
    lateness::Gate,
    parse::{self, Form, Raw},
    report::{IngestReport, RowError},
};

const DOING: &str = "settle rows set aside";
/// Rows taken in together.
const PAGE: usize = 1_000;
const FIRST_ERRORS_MAX: usize = 20;
/// Rows named by id in one call.
const IDS_MAX: usize = 10_000;

/// What to replay, and how it is mended.
#[derive(Debug, Clone, PartialEq)]
pub struct Replay {
    pub which: Which,
    /// Columns that are set to other values first; null removes one.
    pub patch: Map<String, Json>,
    /// What to take in the place of the row; for one row only.
    pub instead: Option<Map<String, Json>>,
}

/// What became of the rows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplayReport {
    /// Rows that are settled now: accepted or duplicates.
    pub replayed: u64,
    pub accepted: u64,
    /// Rows that were in the store already.
    pub duplicates: u64,
    /// Accepted rows that took the place of an earlier one.
    pub corrections: u64,
    /// Rows that still do not fit; they go on waiting, with their present reason.
    pub still_bad: u64,
    /// The first 20 of them.
    pub first_errors: Vec<StillBad>,
}

/// A row that still does not fit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StillBad {
    pub id: String,
    #[serde(flatten)]
    pub error: RowError,
}

impl FeatureStore {
    /// Takes rows that wait into the store, oldest first. They are parsed against the definition that stands now; how late
    /// they are is not asked, since somebody wants them in. Those that still do not fit go on waiting.
    ///
    /// # Errors
    /// `Unknown` source or row; `Replay` when one row is to stand for several; what storage says. When it fails half way,
    /// rows already taken stay; replaying again finds them settled, or duplicates.
    pub async fn replay(
        &self,
        source: &SourceName,
        replay: &Replay,
        actor: &str,
    ) -> Result<ReplayReport, FeatureError> {
        self.0.replay(source, replay, actor).await
    }

    /// Marks rows that wait as unwanted. Gives how many.
    ///
    /// # Errors
    /// `Unknown` source or row; what storage says.
    pub async fn discard(&self, source: &SourceName, which: &Which, actor: &str) -> Result<u64, FeatureError> {
        self.0.discard(source, which, actor).await
    }
}

impl Inner {
    async fn replay(&self, source: &SourceName, replay: &Replay, actor: &str) -> Result<ReplayReport, FeatureError> {
        bounded(&replay.which)?;
        let one = matches!(&replay.which, Which::Rows(ids) if ids.len() == 1);
        if replay.instead.is_some() && !one {
            return Err(FeatureError::Replay { reason: "a row can stand in for exactly one, named by its id".into() });
        }
        self.catalog().source(source)?;
        let table = self.source_table(source)?;
        let (mut report, mut after) = (ReplayReport::default(), None);
        loop {
            let _writing = table.writing.lock().await;
            let plan = self.catalog().source(source)?;
            self.catch_up(&plan, &table).await?;
            let letters = self.next_letters(source, &replay.which, after, PAGE).await?;
            let Some(last) = letters.last() else { break };
            after = Some(last.number);
            let rows = letters.iter().map(|letter| mended(letter, replay)).collect();
            let parsing = plan.clone();
            let parsed = self.cpu.run(move || parse::raws(&parsing, rows)).await.doing("read rows")??;
            let at = self.clock.now();
            let gate = Gate::new(&plan, self.newest.of(source), at).without_lateness();
            let admitted = self.admit(&plan, parsed.good, gate, at, table.has_old_marks()).await?;
            let mut taken = IngestReport { duplicates: admitted.duplicates, ..IngestReport::default() };
            self.take_rows(&plan, &table, admitted.rows, at, &mut taken).await?;
            let mut bad: BTreeMap<usize, RowError> = BTreeMap::new();
            for row in parsed.bad.into_iter().chain(admitted.bad) {
                let place = usize::try_from(row.error.line).unwrap_or(0).saturating_sub(1);
                bad.insert(place, row.error);
            }
            self.close(source, &letters, &mut bad, actor).await?;
            report.replayed += (letters.len() - bad.len()) as u64;
            report.accepted += taken.accepted;
            report.duplicates += taken.duplicates;
            report.corrections += taken.corrections;
            report.still_bad += bad.len() as u64;
            let room = FIRST_ERRORS_MAX - report.first_errors.len();
            let first = bad.into_iter().take(room);
            report.first_errors.extend(first.map(|(at, error)| StillBad { id: letters[at].row.id.clone(), error }));
            self.count_waiting(source, &table).await?;
        }
        Ok(report)
    }

    /// Marks what is in the store now, with one event, and says of the others what is wrong with them now.
    async fn close(
        &self,
        source: &SourceName,
        letters: &[Letter],
        bad: &mut BTreeMap<usize, RowError>,
        actor: &str,
    ) -> Result<(), FeatureError> {
        let at = self.clock.now();
        let mut tx = self.meta.begin().await.doing(DOING)?;
        for (place, error) in bad.iter_mut() {
            // The line of the body it came in, not of this call.
            error.line = letters[*place].row.error.line;
            blame(&mut tx, source, letters[*place].number, error).await?;
        }
        let good = letters.iter().enumerate().filter(|(place, _)| !bad.contains_key(place));
        let numbers: Vec<i64> = good.map(|(_, letter)| letter.number).collect();
        let rows = settle(&mut tx, source, &numbers, Aside::Replayed, at, actor).await?;
        if rows > 0 {
            let (kind, subject) = (EventKind::QuarantineReplayed, format!("source/{source}"));
            let body = json!({ "rows": rows, "still_bad": bad.len() });
            tx.append(NewEvent { at, kind, subject, actor: actor.to_owned(), cause: None, body }).await.doing(DOING)?;
        }
        tx.commit().await.doing(DOING)
    }

    async fn discard(&self, source: &SourceName, which: &Which, actor: &str) -> Result<u64, FeatureError> {
        bounded(which)?;
        self.catalog().source(source)?;
        let table = self.source_table(source)?;
        let (mut discarded, mut after) = (0, None);
        loop {
            // What is being replayed is not thrown away meanwhile.
            let _writing = table.writing.lock().await;
            let letters = self.next_letters(source, which, after, PAGE).await?;
            let Some(last) = letters.last() else { return Ok(discarded) };
            after = Some(last.number);
            let at = self.clock.now();
            let numbers: Vec<i64> = letters.iter().map(|letter| letter.number).collect();
            let mut tx = self.meta.begin().await.doing(DOING)?;
            let rows = settle(&mut tx, source, &numbers, Aside::Discarded, at, actor).await?;
            let (kind, subject) = (EventKind::QuarantineDiscarded, format!("source/{source}"));
            let body = json!({ "rows": rows });
            tx.append(NewEvent { at, kind, subject, actor: actor.to_owned(), cause: None, body }).await.doing(DOING)?;
            tx.commit().await.doing(DOING)?;
            discarded += rows;
            self.count_waiting(source, &table).await?;
        }
    }
}

fn bounded(which: &Which) -> Result<(), FeatureError> {
    match which {
        Which::Rows(ids) if ids.len() > IDS_MAX => {
            let reason = format!("{} rows are named, at most {IDS_MAX} can be; filter by reason or time", ids.len());
            Err(FeatureError::Replay { reason })
        }
        Which::Rows(_) | Which::Waiting(QuarantineFilter { .. }) => Ok(()),
    }
}

/// The row as it is to be read now.
fn mended(letter: &Letter, replay: &Replay) -> Raw {
    if let Some(instead) = &replay.instead {
        return Raw::Row(instead.clone(), Form::Json);
    }
    let kept = &letter.row.raw;
    let raw = match serde_json::from_str::<Json>(kept) {
        // A line that was no JSON object is kept as a text.
        Ok(Json::String(line)) => Raw::json(&line),
        Ok(Json::Object(row)) => Raw::Row(row, letter.form),
        Ok(other) => Raw::Malformed(other, "expected a JSON object".into()),
        Err(_) if !letter.row.whole => {
            let why = "it was too long to be kept whole: give the row to take instead";
            Raw::Malformed(kept.as_str().into(), why.into())
        }
        Err(e) => Raw::Malformed(kept.as_str().into(), format!("not JSON: {e}")),
    };
    let Raw::Row(mut row, form) = raw else { return raw };
    for (column, value) in &replay.patch {
        if value.is_null() {
            row.remove(column);
        } else {
            row.insert(column.clone(), value.clone());
        }
    }
    Raw::Row(row, form)
}
