//! One window of event time, held against the champion's reference.

use domain::{EndpointName, Timestamp, definition::MonitorSpec, prediction::TargetRole};
use serde::{Deserialize, Serialize};
use stats::{Holdout, Moments, Reference, z_test};
use storage::{Meta, Tx};

use crate::{
    drift::{self, ColumnDrift},
    error::EvaluatorError,
    quality::{Pile, Quality},
    rules::{Rule, RuleOutcome, Verdict},
    state::State,
};

/// What was found in the window `(window_start, window_end]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DriftReport {
    pub endpoint: EndpointName,
    pub window_start: Timestamp,
    pub window_end: Timestamp,
    /// Event time reached when the window was evaluated.
    pub watermark: Timestamp,
    pub champion: u32,
    /// Rows judged lie after this event time, when the champion took over; absent: it was the first.
    pub champion_since: Option<Timestamp>,
    /// Predictions judged for drift.
    pub rows: u64,
    /// Mean PSI of the inputs, weighted by their importance to the champion; absent below `min_labels` rows
    /// and where no input has any importance.
    pub weighted_psi: Option<f64>,
    /// By drift times importance, the most telling first.
    pub columns: Vec<ColumnDrift>,
    /// Drift of the champion's scores against those on its holdout.
    pub prediction: ColumnDrift,
    /// All answers given in the window, by whatever version.
    pub served_quality: Quality,
    /// The champion's scores, as answer or shadow, since it took over.
    pub champion_quality: Quality,
    /// The champion on its training holdout.
    pub reference_quality: Holdout,
    pub rules: Vec<RuleOutcome>,
    /// Of the rules: those that fired in this window, alert or not.
    pub fired: Vec<Rule>,
}

/// Evaluates the window that ends at `end`. Labels count when known by the end and the label delay.
pub(crate) fn evaluate(state: &State, end: Timestamp) -> Result<DriftReport, EvaluatorError> {
    let missing = || EvaluatorError::corrupt("a monitor", "evaluated before it was configured");
    let definition = state.watching.definition.as_ref().ok_or_else(missing)?;
    let champion = state.watching.champion.as_ref().ok_or_else(missing)?;
    let reference = champion.reference.as_deref().ok_or_else(missing)?;
    let monitor = &definition.monitor;
    let (start, known_by) = (end - monitor.window, end + monitor.label_delay);

    let (mut served, mut own) = (Pile::default(), Pile::default());
    let (mut judged, mut scores) = (Vec::new(), Vec::new());
    let first_recent = state.len() - state.recent.rows();
    for row in 0..state.len() {
        let at = state.event_times[row];
        if at <= start || at > end {
            continue;
        }
        let label = state.labels[row].filter(|label| label.known_at <= known_by).map(|label| label.value);
        if let Some(score) = state.served(row) {
            served.add(score.score, TargetRole::Live, label);
        }
        if champion.since.is_some_and(|since| at <= since) {
            continue;
        }
        if row >= first_recent {
            judged.push(row - first_recent);
        }
        if let Some(score) = state.score_by(row, champion.version) {
            own.add(score, TargetRole::Live, label);
            scores.push(Some(f64::from(score)));
        }
    }

    let enough = judged.len() as u64 >= monitor.min_labels;
    let columns = drift::columns(reference, &state.recent, &judged, monitor.min_labels);
    let weighted_psi = if enough { drift::weighted_psi(&columns) } else { None };
    let prediction = drift::prediction(reference, &scores, monitor.min_labels);
    let rules = apply(monitor, reference, &own, weighted_psi);
    Ok(DriftReport {
        endpoint: state.name.clone(),
        window_start: start,
        window_end: end,
        watermark: state.watermark.unwrap_or(end),
        champion: champion.version,
        champion_since: champion.since,
        rows: judged.len() as u64,
        weighted_psi,
        columns,
        prediction,
        served_quality: served.measure(),
        champion_quality: own.measure(),
        reference_quality: reference.holdout,
        fired: rules.iter().filter(|r| r.verdict == Verdict::Fired).map(|r| r.rule).collect(),
        rules,
    })
}

/// The rules of the monitor, each applied to this window.
fn apply(monitor: &MonitorSpec, reference: &Reference, own: &Pile, weighted_psi: Option<f64>) -> Vec<RuleOutcome> {
    let (rise, bias) = (Rule::LogLossRise, Rule::Bias);
    let enough = own.labels.len() as u64 >= monitor.min_labels;
    let test = |values: &Moments, expected: f64| z_test(values, expected).filter(|_| enough);
    let mut rules = vec![
        match test(&own.losses(), reference.holdout.log_loss) {
            Some(risen) => RuleOutcome::judge(rise, risen.diff, monitor.max_log_loss_rise, Some(risen.p_rise)),
            None => RuleOutcome::insufficient(rise, monitor.max_log_loss_rise),
        },
        match test(&own.residuals(), 0.0) {
            Some(biased) => RuleOutcome::judge(bias, biased.diff, monitor.max_bias, Some(biased.p)),
            None => RuleOutcome::insufficient(bias, monitor.max_bias),
        },
    ];
    if let Some(limit) = monitor.max_weighted_psi {
        rules.push(match weighted_psi {
            Some(value) => RuleOutcome::judge(Rule::WeightedPsi, value, limit, None),
            None => RuleOutcome::insufficient(Rule::WeightedPsi, limit),
        });
    }
    rules
}

fn decode(body: &str) -> Result<DriftReport, EvaluatorError> {
    serde_json::from_str(body).map_err(|e| EvaluatorError::corrupt("a report", e))
}

/// Stores a report; a window evaluated again replaces its report.
pub(crate) async fn store(tx: &mut Tx, report: &DriftReport, generation: i64) -> Result<(), EvaluatorError> {
    let body = serde_json::to_string(report).map_err(|e| EvaluatorError::corrupt("a report", e))?;
    sqlx::query(
        "INSERT INTO evaluator_reports (endpoint, window_end, generation, body) VALUES ($1, $2, $3, $4)
         ON CONFLICT (endpoint, window_end) DO UPDATE SET generation = excluded.generation, body = excluded.body",
    )
    .bind(report.endpoint.as_str())
    .bind(report.window_end.micros())
    .bind(generation)
    .bind(body)
    .execute(tx.conn())
    .await
    .map_err(EvaluatorError::storage("store a report"))?;
    Ok(())
}

/// Reports of windows that end in `[from, to]`, oldest first.
pub(crate) async fn list(
    meta: &Meta,
    endpoint: &EndpointName,
    from: Option<Timestamp>,
    to: Option<Timestamp>,
) -> Result<Vec<DriftReport>, EvaluatorError> {
    let rows: Vec<(String,)> = sqlx::query_as(
        "SELECT body FROM evaluator_reports WHERE endpoint = $1 AND window_end >= $2 AND window_end <= $3
         ORDER BY window_end",
    )
    .bind(endpoint.as_str())
    .bind(from.unwrap_or(Timestamp::MIN).micros())
    .bind(to.unwrap_or(Timestamp::MAX).micros())
    .fetch_all(meta.reader())
    .await
    .map_err(EvaluatorError::storage("list reports"))?;
    rows.iter().map(|(body,)| decode(body)).collect()
}

/// The newest reports on the present champion, oldest first.
pub(crate) async fn newest(
    meta: &Meta,
    endpoint: &EndpointName,
    generation: i64,
    limit: i64,
) -> Result<Vec<DriftReport>, EvaluatorError> {
    let rows: Vec<(String,)> = sqlx::query_as(
        "SELECT body FROM evaluator_reports WHERE endpoint = $1 AND generation = $2 ORDER BY window_end DESC LIMIT $3",
    )
    .bind(endpoint.as_str())
    .bind(generation)
    .bind(limit)
    .fetch_all(meta.reader())
    .await
    .map_err(EvaluatorError::storage("list reports"))?;
    rows.iter().rev().map(|(body,)| decode(body)).collect()
}
