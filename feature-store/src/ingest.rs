//! Ingestion: parse, set aside, sift, write offline, write online. Durable when it returns.

use std::sync::{Arc, atomic::Ordering};

use bytes::Bytes;
use domain::{Column, Frame, SourceName, Timestamp, Value};
use serde_json::{Map, Value as Json};

use crate::{
    FeatureStore, Inner,
    error::{Doing as _, FeatureError},
    parse::{self, BadRow, Parsed},
    report::{Format, IngestReport, Quarantined, RowError, SourceStats},
    rows::{self, ParsedRow},
    table::{SourceTable, corrupt, quarantine_fields},
    view::SourcePlan,
};

/// Rows that are written to both stores together.
const CHUNK_ROWS: usize = 8_192;
pub(crate) const FIRST_ERRORS_MAX: usize = 20;

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

    /// Rows set aside, newest first.
    pub async fn quarantined(&self, source: &SourceName, limit: usize) -> Result<Vec<Quarantined>, FeatureError> {
        self.0.catalog().source(source)?;
        let table = self.0.source_table(source)?;
        let batches = table.quarantine.scan(None).await.doing("read quarantined rows")?;
        let schema = storage::schema_of(&quarantine_fields());
        let frame = storage::from_batches(&schema, &batches).doing("read quarantined rows")?;
        (0..frame.rows()).rev().take(limit).map(|row| read_quarantined(&frame, row)).collect()
    }

    /// How much a source holds.
    pub fn stats(&self, source: &SourceName) -> Result<SourceStats, FeatureError> {
        let table = self.0.source_table(source)?;
        Ok(SourceStats { rows: table.rows(), quarantined: table.quarantine.rows() })
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
        let Parsed { good, bad } = parse::unbroken(&plan, self.cpu.run(move || parse(&parsing)).await)??;
        let at = self.clock.now();
        set_aside(&table, &bad, at).await?;
        let mut report = IngestReport { quarantined: bad.len() as u64, ..IngestReport::default() };
        report.first_errors = bad.into_iter().take(FIRST_ERRORS_MAX).map(|row| row.error).collect();
        self.take_rows(&plan, &table, good, at, &mut report).await?;
        Ok(report)
    }

    /// Takes rows that fit, a chunk at a time. The caller holds the table's `writing` and has caught up.
    pub(crate) async fn take_rows(
        &self,
        plan: &Arc<SourcePlan>,
        table: &SourceTable,
        mut rows: Vec<ParsedRow>,
        at: Timestamp,
        report: &mut IngestReport,
    ) -> Result<(), FeatureError> {
        // In order of event time, late rows of one body cost nothing; ties keep the body's order.
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

/// Puts bad rows into the quarantine.
pub(crate) async fn set_aside(table: &SourceTable, bad: &[BadRow], at: Timestamp) -> Result<(), FeatureError> {
    if bad.is_empty() {
        return Ok(());
    }
    let line = |row: &BadRow| i64::try_from(row.error.line).unwrap_or(i64::MAX);
    let [lines, column, reason, raw, when] = quarantine_fields();
    let frame = Frame::new([
        (lines.name, Column::Int(bad.iter().map(|row| Some(line(row))).collect())),
        (column.name, Column::Text(bad.iter().map(|row| row.error.column.as_deref().map(Into::into)).collect())),
        (reason.name, Column::Text(bad.iter().map(|row| Some(row.error.reason.as_str().into())).collect())),
        (raw.name, Column::Text(bad.iter().map(|row| Some(row.raw.as_str().into())).collect())),
        (when.name, Column::Timestamp(vec![Some(at); bad.len()])),
    ])?;
    let batch = storage::to_batch(&frame).doing("set rows aside")?;
    table.quarantine.append(batch).await.doing("set rows aside")
}

fn read_quarantined(frame: &Frame, row: usize) -> Result<Quarantined, FeatureError> {
    let cell = |name: &str| Ok::<_, FeatureError>(frame.require(name)?.get(row));
    let words = |name: &str| {
        Ok::<_, FeatureError>(match cell(name)? {
            Value::Text(text) => Some(text.as_ref().to_owned()),
            _ => None,
        })
    };
    let (Value::Int(line), Value::Timestamp(at)) = (cell("line")?, cell("at")?) else {
        return Err(corrupt("a quarantined row without line or time".into()));
    };
    let error = RowError {
        line: u64::try_from(line).unwrap_or(0),
        column: words("column")?,
        reason: words("reason")?.unwrap_or_default(),
    };
    Ok(Quarantined { error, raw: words("raw")?.unwrap_or_default(), at })
}
