//! Alerts: one open per endpoint, rule and champion; each raised, repeated and cleared in the journal.

use domain::{AlertId, EndpointName, EventKind, NewEvent, Timestamp, state::AlertState};
use serde::{Deserialize, Serialize};
use storage::{Meta, Tx};

use crate::{error::EvaluatorError, rules::Rule, rules::RuleOutcome, windows::DriftReport};

/// Persistent trouble with a champion. Its fields are also the body of the journal's events, `id` as `alert`, with the
/// measurements of the last windows beside them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    pub id: AlertId,
    pub endpoint: EndpointName,
    pub rule: Rule,
    pub champion: u32,
    pub state: AlertState,
    /// Measured in the newest window that fired.
    pub value: f64,
    pub limit: f64,
    pub p: Option<f64>,
    pub window_start: Timestamp,
    pub window_end: Timestamp,
    /// Event time reached when that window closed.
    pub watermark: Timestamp,
    /// Event time at which the alert was raised.
    pub raised_at: Timestamp,
    /// Times it was told of again because it went on.
    pub repeats: u32,
    /// Sequence number in the journal of the newest event that told of it.
    #[serde(default)]
    pub event: Option<u64>,
    #[serde(default)]
    pub cleared_at: Option<Timestamp>,
    /// `quiet windows` or `new champion`.
    #[serde(default)]
    pub cleared_because: Option<String>,
}

/// Which alerts to list; newest first.
#[derive(Debug, Clone, Default)]
pub struct AlertFilter {
    pub endpoint: Option<EndpointName>,
    pub state: Option<AlertState>,
    /// At most this many; 0 means 100.
    pub limit: usize,
}

impl Alert {
    /// A fresh alert from the window that completed the pattern.
    pub(crate) fn raise(report: &DriftReport, outcome: &RuleOutcome) -> Self {
        Self {
            id: AlertId::mint(),
            endpoint: report.endpoint.clone(),
            rule: outcome.rule,
            champion: report.champion,
            state: AlertState::Open,
            value: outcome.value.unwrap_or_default(),
            limit: outcome.limit,
            p: outcome.p,
            window_start: report.window_start,
            window_end: report.window_end,
            watermark: report.watermark,
            raised_at: report.watermark,
            repeats: 0,
            event: None,
            cleared_at: None,
            cleared_because: None,
        }
    }

    /// The same alert, told of again with newer evidence.
    pub(crate) fn repeat(&self, report: &DriftReport, outcome: &RuleOutcome) -> Self {
        Self {
            id: self.id,
            raised_at: self.raised_at,
            repeats: self.repeats + 1,
            event: self.event,
            ..Self::raise(report, outcome)
        }
    }

    /// The alert, over.
    pub(crate) fn clear(&self, at: Option<Timestamp>, because: &str) -> Self {
        Self { state: AlertState::Cleared, cleared_at: at, cleared_because: Some(because.to_owned()), ..self.clone() }
    }

    /// Stores the alert and appends the event that tells of it; `self.event` is then that event's number.
    pub(crate) async fn tell(
        &mut self,
        tx: &mut Tx,
        at: Timestamp,
        windows: &[DriftReport],
    ) -> Result<(), EvaluatorError> {
        let (kind, cause) = match self.state {
            AlertState::Open => (EventKind::AlertRaised, None),
            AlertState::Cleared => (EventKind::AlertCleared, self.event),
        };
        let event = NewEvent {
            at,
            kind,
            subject: format!("alert/{}", self.id),
            actor: "evaluator".to_owned(),
            cause,
            body: self.evidence(windows)?,
        };
        self.event = Some(tx.append(event).await.map_err(EvaluatorError::storage("journal an alert"))?);
        let body = serde_json::to_string(self).map_err(|e| EvaluatorError::corrupt("an alert", e))?;
        sqlx::query(
            "INSERT INTO evaluator_alerts (id, endpoint, state, raised_at, body) VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (id) DO UPDATE SET state = excluded.state, body = excluded.body",
        )
        .bind(self.id.to_string())
        .bind(self.endpoint.as_str())
        .bind(self.state.as_str())
        .bind(self.raised_at.micros())
        .bind(body)
        .execute(tx.conn())
        .await
        .map_err(EvaluatorError::storage("store an alert"))?;
        Ok(())
    }

    /// The alert's own fields, and the last windows' measurements of its rule, oldest first.
    fn evidence(&self, windows: &[DriftReport]) -> Result<serde_json::Value, EvaluatorError> {
        let mut body = serde_json::to_value(self).map_err(|e| EvaluatorError::corrupt("an alert", e))?;
        let measured = windows.iter().filter_map(|report| {
            let outcome = report.rules.iter().find(|outcome| outcome.rule == self.rule)?;
            Some(serde_json::json!({
                "window_start": report.window_start, "window_end": report.window_end,
                "verdict": outcome.verdict, "value": outcome.value, "p": outcome.p,
                "labelled": report.champion_quality.labelled,
            }))
        });
        if let Some(fields) = body.as_object_mut() {
            fields.remove("event");
            fields.remove("id");
            fields.insert("alert".to_owned(), self.id.to_string().into());
            fields.insert("windows".to_owned(), measured.collect());
        }
        Ok(body)
    }
}

/// Alerts, newest first.
pub(crate) async fn list(meta: &Meta, filter: &AlertFilter) -> Result<Vec<Alert>, EvaluatorError> {
    let limit = if filter.limit == 0 { 100 } else { i64::try_from(filter.limit).unwrap_or(i64::MAX) };
    let rows: Vec<(String,)> = sqlx::query_as(
        "SELECT body FROM evaluator_alerts
         WHERE ($1 IS NULL OR endpoint = $1) AND ($2 IS NULL OR state = $2)
         ORDER BY raised_at DESC, id DESC LIMIT $3",
    )
    .bind(filter.endpoint.as_ref().map(|name| name.as_str().to_owned()))
    .bind(filter.state.map(AlertState::as_str))
    .bind(limit)
    .fetch_all(meta.reader())
    .await
    .map_err(EvaluatorError::storage("list alerts"))?;
    rows.iter().map(|(body,)| serde_json::from_str(body).map_err(|e| EvaluatorError::corrupt("an alert", e))).collect()
}
