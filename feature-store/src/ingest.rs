//! Ingestion: parse, set aside, sift, write offline, write online. Durable when it returns.

use std::sync::{Arc, atomic::Ordering};

use bytes::Bytes;
use domain::{SourceName, Timestamp};
use serde_json::{Map, Value as Json};

use crate::{
    FeatureStore, Inner,
    error::FeatureError,
    lateness::Gate,
    parse::{self, Parsed},
    report::{Format, IngestReport, Ingestion, SourceStats},
    rows::{self, ParsedRow},
    table::{SourceTable, corrupt},
    view::SourcePlan,
};

/// Rows that are written to both stores together.
const CHUNK_ROWS: usize = 8_192;

impl FeatureStore {
    /// Takes all rows of a body. Rows that do not fit are set aside with line and reason and the rest is taken;
    /// what is accepted is durable and online when this returns. Rows are taken in order of event time, those
    /// of one instant in the order of the body. When it fails half way, rows already taken stay: sending the
    /// body again skips them as duplicates.
    ///
    /// # Errors
    /// `Unknown` source; `Body` when a header names an unknown column or lacks a required one (nothing is taken
    /// then); what storage says.
    pub async fn ingest(&self, source: &SourceName, format: Format, body: Bytes) -> Result<IngestReport, FeatureError> {
        if format == Format::Parquet
            && let Some(report) = self.0.take_bulk(source, &body).await?
        {
            return Ok(report);
        }
        self.0.take_in(source, move |plan| parse::body(plan, format, body)).await
    }

    /// The same for rows that are JSON objects already; `line` in the report is the row's number from 1.
    pub async fn ingest_rows(
        &self,
        source: &SourceName,
        rows: Vec<Map<String, Json>>,
    ) -> Result<IngestReport, FeatureError> {
        self.0.take_in(source, move |plan| parse::rows(plan, rows)).await
    }

    /// How much a source holds, rows that wait in its quarantine included.
    pub fn stats(&self, source: &SourceName) -> Result<SourceStats, FeatureError> {
        let table = self.0.source_table(source)?;
        Ok(SourceStats { rows: table.rows(), quarantined: table.waiting.load(Ordering::SeqCst) })
    }
}

impl FeatureStore {
    /// How a source's ingestion stands.
    ///
    /// # Errors
    /// `Unknown` source; what storage says.
    pub async fn ingestion(&self, source: &SourceName) -> Result<Ingestion, FeatureError> {
        let SourceStats { rows, quarantined } = self.stats(source)?;
        let newest = self.0.newest.of(source);
        let event_time = Gate::new(&*self.0.catalog().source(source)?, newest, self.0.clock.now()).state(newest);
        let reasons = self.0.waiting_by_reason(source).await?;
        Ok(Ingestion { rows, quarantined, reasons, event_time, drift: self.drift(source).await? })
    }
}

impl Inner {
    pub(crate) async fn take_in(
        &self,
        source: &SourceName,
        parse: impl FnOnce(&SourcePlan) -> Result<Parsed, FeatureError> + Send + 'static,
    ) -> Result<IngestReport, FeatureError> {
        self.catalog().source(source)?;
        let table = self.source_table(source)?;
        let _writing = table.writing.lock().await;
        // Only now: definitions of this source change under the same lock.
        let plan = self.catalog().source(source)?;
        self.catch_up(&plan, &table).await?;
        let parsing = plan.clone();
        let parsed = parse::unbroken(&plan, self.cpu.run(move || parse(&parsing)).await)??;
        let at = self.clock.now();
        let Parsed { good, mut bad, strays, origins, whole } = parsed;
        let gate = Gate::new(&plan, self.newest.of(source), at);
        let admitted = self.admit(&plan, good, gate, at, table.has_old_marks()).await?;
        if let Some(refused) = admitted.bad.first().filter(|_| whole) {
            return Err(parse::refused_row(&plan, &refused.error));
        }
        bad.extend(admitted.bad);
        bad.sort_by_key(|row| row.error.line);
        for row in &mut bad {
            let place = usize::try_from(row.error.line).ok().and_then(|line| line.checked_sub(1));
            row.origin = place.and_then(|place| origins.get(place)).cloned();
        }
        let drift = strays.into_report();
        self.note_drift(source, &drift, at).await?;
        let mut report = IngestReport { duplicates: admitted.duplicates, drift, ..IngestReport::default() };
        report.aside(bad.iter().map(|row| &row.error));
        report.dropped = self.set_aside(source, &table, bad, at).await?;
        self.take_rows(&plan, &table, admitted.rows, at, &mut report).await?;
        Ok(report)
    }

    /// Takes rows that fit, a chunk at a time: writes those that are new to both stores, and counts what became of them.
    /// The caller holds the table's `writing` and has caught up.
    pub(crate) async fn take_rows(
        &self,
        plan: &Arc<SourcePlan>,
        table: &SourceTable,
        mut rows: Vec<ParsedRow>,
        at: Timestamp,
        report: &mut IngestReport,
    ) -> Result<(), FeatureError> {
        // In order of event time, late rows of one body cost nothing; ties keep the body's order. And when it fails half
        // way, what is left is newer than what was taken: sent again, none of it is late that was not.
        rows.sort_by_key(|row| plan.event_time(&row.values));
        let mut rows = rows.into_iter();
        loop {
            let chunk: Vec<_> = rows.by_ref().take(CHUNK_ROWS).collect();
            if chunk.is_empty() {
                return Ok(());
            }
            let next = i64::try_from(table.rows()).map_err(|_| corrupt("too many rows".into()))?;
            let sifted = rows::sift(&*self.kv, plan, chunk, next, table.has_old_marks()).await?;
            report.duplicates += sifted.duplicates;
            if sifted.rows.is_empty() {
                continue;
            }
            table.append(&plan.definition.columns, &sifted.rows, at).await?;
            report.accepted += sifted.rows.len() as u64;
            report.corrections += sifted.corrections;
            self.put_online(plan, table, sifted.rows, sifted.seen).await?;
        }
    }

    /// Brings rows that are stored but not online into the online store: after a crash or a failed write.
    /// The caller holds the table's `writing`.
    pub(crate) async fn catch_up(&self, plan: &Arc<SourcePlan>, table: &SourceTable) -> Result<(), FeatureError> {
        table.settle().await?;
        if !table.behind() {
            return Ok(());
        }
        if self.catch_up_bulk(plan, table).await? {
            return Ok(());
        }
        let applied = i64::try_from(table.applied.load(Ordering::SeqCst)).unwrap_or(i64::MAX);
        let mut waiting = table.fetch(&plan.definition.columns, |number| number >= applied).await?;
        tracing::info!(source = %plan.definition.name, rows = waiting.len(), "bringing stored rows online");
        while !waiting.is_empty() {
            let rest = waiting.split_off(CHUNK_ROWS.min(waiting.len()));
            let marks = waiting
                .iter()
                .map(|row| rows::RowMark::of(plan, &row.values).seen(plan.definition.name.as_str(), row.number));
            let seen = marks.collect();
            self.put_online(plan, table, waiting, seen).await?;
            waiting = rest;
        }
        Ok(())
    }
}
