//! The life of a monitor: restored, configured, and moved on window by window.

use std::collections::{BTreeMap, HashMap};

use domain::{
    EndpointName, PredictionId, Span, TaskId, Timestamp,
    definition::{Endpoint, MonitorSpec, Persistence},
    state::AlertState,
};
use storage::{Meta, StorageError, Tables, Tx};

use crate::{
    alerts::{self, Alert, AlertFilter},
    error::EvaluatorError,
    log::{Log, Logged},
    review,
    rules::{History, Rule, Standing},
    state::{State, json_text},
    watch::{Champion, Watch, Watching, columns_of},
    windows::{self, DriftReport},
    worker::Watched,
};

/// A row of `evaluator_endpoints`.
#[derive(Debug, Default, sqlx::FromRow)]
struct Stored {
    name: String,
    definition: Option<String>,
    champion: Option<i64>,
    champion_since: Option<i64>,
    generation: i64,
    evaluated_through: Option<i64>,
}

/// Everything as the last process left it.
pub(crate) async fn restore_all(meta: &Meta, tables: &Tables) -> Result<Vec<Watched>, EvaluatorError> {
    let rows: Vec<Stored> = sqlx::query_as("SELECT * FROM evaluator_endpoints ORDER BY name")
        .fetch_all(meta.reader())
        .await
        .map_err(EvaluatorError::storage("read the watched endpoints"))?;
    let mut all = Vec::with_capacity(rows.len());
    for row in rows {
        match restore(meta, tables, row).await {
            Ok(watched) => all.push(watched),
            // The server that keeps the log watches the endpoint.
            Err(EvaluatorError::Storage { source: StorageError::Elsewhere { table, .. }, .. }) => {
                tracing::info!(table, "an endpoint is watched by another server of this database");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(all)
}

async fn restore(meta: &Meta, tables: &Tables, stored: Stored) -> Result<Watched, EvaluatorError> {
    let corrupt = |detail: String| EvaluatorError::corrupt("a watched endpoint", detail);
    let name: EndpointName = stored.name.parse().map_err(|e: domain::BadName| corrupt(e.to_string()))?;
    let definition = stored.definition.as_deref().map(serde_json::from_str::<Endpoint>).transpose();
    let definition = definition.map_err(|e| corrupt(e.to_string()))?;
    let version = stored.champion.map(u32::try_from).transpose().map_err(|e| corrupt(e.to_string()))?;
    let since = stored.champion_since.map(Timestamp::from_micros);

    let mut state = State::new(name.clone());
    state.watching = Watching {
        champion: version.map(|version| Champion { version, since, reference: None }),
        generation: stored.generation,
        evaluated_through: stored.evaluated_through.map(Timestamp::from_micros),
        history: History::default(),
        alerts: open_alerts(meta, &name).await?,
        definition,
    };
    if let Some(definition) = state.watching.definition.clone() {
        let persistence = definition.monitor.persistence;
        for report in last_reports(meta, &name, stored.generation, persistence).await? {
            for outcome in &report.rules {
                state.watching.history.note(outcome, persistence);
            }
        }
        state.reset_slices(&definition.monitor.slices);
    }
    let log = Log::open(meta, tables, &name).await?;
    for logged in log.read(None).await? {
        if state.push(logged.row.clone()) {
            push_slices(&mut state, &logged)?;
        }
    }
    for label in log.read_labels().await? {
        // A label is logged after its prediction is; only lost, not yet synced predictions are missing.
        if let Some(row) = state.row_of(label.id) {
            state.set_label(row, label.cell);
        }
    }
    let open = withdraw_labelled(meta, &state, review::open(meta, &name).await?).await?;
    Ok(Watched::new(name, log, state, open))
}

/// Takes tasks off the queue whose label arrived while they could not be withdrawn.
async fn withdraw_labelled(
    meta: &Meta,
    state: &State,
    open: HashMap<PredictionId, TaskId>,
) -> Result<HashMap<PredictionId, TaskId>, EvaluatorError> {
    let labelled = |id: &PredictionId| state.row_of(*id).is_some_and(|row| state.labels[row].is_some());
    let (done, open): (HashMap<_, _>, HashMap<_, _>) = open.into_iter().partition(|(id, _)| labelled(id));
    if !done.is_empty() {
        review::withdraw(meta, &done.into_values().collect::<Vec<_>>()).await?;
    }
    Ok(open)
}

async fn open_alerts(meta: &Meta, endpoint: &EndpointName) -> Result<BTreeMap<Rule, Alert>, EvaluatorError> {
    let filter = AlertFilter { endpoint: Some(endpoint.clone()), state: Some(AlertState::Open), limit: usize::MAX };
    Ok(alerts::list(meta, &filter).await?.into_iter().map(|alert| (alert.rule, alert)).collect())
}

/// The reports that persistence looks at, oldest first.
async fn last_reports(
    meta: &Meta,
    endpoint: &EndpointName,
    generation: i64,
    persistence: Persistence,
) -> Result<Vec<DriftReport>, EvaluatorError> {
    let of = persistence.of.max(persistence.fired).max(1);
    windows::newest(meta, endpoint, generation, i64::from(of)).await
}

fn push_slices(state: &mut State, logged: &Logged) -> Result<(), EvaluatorError> {
    if state.slices.is_empty() {
        return Ok(());
    }
    let (names, values) = (logged.names(), logged.values()?);
    state.push_slices(|name| json_text(&values[names.iter().position(|known| known == name)?]));
    Ok(())
}

/// Begins the log of a new endpoint.
pub(crate) async fn begin(meta: &Meta, tables: &Tables, name: &EndpointName) -> Result<Watched, EvaluatorError> {
    let doing = "begin a prediction log";
    let log = Log::open(meta, tables, name).await?;
    let mut tx = meta.begin().await.map_err(EvaluatorError::storage(doing))?;
    sqlx::query("INSERT INTO evaluator_endpoints (name, generation) VALUES ($1, 0) ON CONFLICT (name) DO NOTHING")
        .bind(name.as_str())
        .execute(tx.conn())
        .await
        .map_err(EvaluatorError::storage(doing))?;
    tx.commit().await.map_err(EvaluatorError::storage(doing))?;
    Ok(Watched::new(name.clone(), log, State::new(name.clone()), HashMap::new()))
}

/// Takes on a definition and a champion, durably.
pub(crate) async fn configure(
    meta: &Meta,
    now: Timestamp,
    watched: &Watched,
    mut watch: Watch,
) -> Result<(), EvaluatorError> {
    let doing = "store what an endpoint is watched for";
    let Some(reference) = watch.references.remove(&watch.champion) else {
        return Err(EvaluatorError::NoReference { endpoint: watch.definition.name, champion: watch.champion });
    };
    let columns = columns_of(&reference);
    let (mut champion, mut generation, mut cleared, watermark, old_slices);
    {
        let state = watched.state.read().await;
        let before = &state.watching;
        watermark = state.watermark;
        generation = before.generation;
        old_slices = before.definition.as_ref().map(|d| d.monitor.slices.clone()).unwrap_or_default();
        champion = Champion { version: watch.champion, since: None, reference: Some(reference.into()) };
        cleared = Vec::new();
        match &before.champion {
            Some(known) if known.version == watch.champion => champion.since = known.since,
            Some(_) => {
                champion.since = watermark;
                generation += 1;
                cleared = before.alerts.values().map(|alert| alert.clear(watermark, "new champion")).collect();
            }
            None => {}
        }
    }
    let since = champion.since.map(Timestamp::micros);
    let definition =
        serde_json::to_string(&watch.definition).map_err(|e| EvaluatorError::corrupt("a definition", e))?;
    let mut tx = meta.begin().await.map_err(EvaluatorError::storage(doing))?;
    sqlx::query(
        "UPDATE evaluator_endpoints SET definition = $2, champion = $3, champion_since = $4, generation = $5
         WHERE name = $1",
    )
    .bind(watched.name.as_str())
    .bind(definition)
    .bind(i64::from(champion.version))
    .bind(since)
    .bind(generation)
    .execute(tx.conn())
    .await
    .map_err(EvaluatorError::storage(doing))?;
    for alert in &mut cleared {
        alert.tell(&mut tx, now, &[]).await?;
    }
    tx.commit().await.map_err(EvaluatorError::storage(doing))?;

    let slices = watch.definition.monitor.slices.clone();
    {
        let mut state = watched.state.write().await;
        let watching = &mut state.watching;
        if watching.generation != generation {
            watching.history = History::default();
            watching.alerts.clear();
        }
        watching.generation = generation;
        watching.champion = Some(champion);
        watching.definition = Some(watch.definition);
    }
    if slices != old_slices {
        reload_slices(watched, &slices).await?;
    }
    reload_inputs(watched, &columns).await
}

/// Reads the slice columns of every logged prediction again.
async fn reload_slices(watched: &Watched, slices: &[String]) -> Result<(), EvaluatorError> {
    let all = if slices.is_empty() { Vec::new() } else { watched.log.read(None).await? };
    let mut state = watched.state.write().await;
    state.reset_slices(slices);
    let mut next = 0;
    for logged in all {
        // The log is in the order of the rows in memory; a row logged twice counted once.
        if state.row_of(logged.row.id) == Some(next) {
            push_slices(&mut state, &logged)?;
            next += 1;
        }
    }
    Ok(())
}

/// Reads the inputs that coming windows need, when other columns are wanted than those held.
async fn reload_inputs(
    watched: &Watched,
    columns: &BTreeMap<String, crate::inputs::Kind>,
) -> Result<(), EvaluatorError> {
    let oldest = {
        let mut state = watched.state.write().await;
        if state.recent.holds(columns) {
            return Ok(());
        }
        match (state.watermark, state.watching.input_horizon()) {
            (Some(watermark), Some(horizon)) => watermark - horizon,
            _ => {
                state.recent.reset(columns);
                return Ok(());
            }
        }
    };
    let logged = watched.log.read(Some((oldest, Timestamp::MAX))).await?;
    let logged: HashMap<_, _> = logged.into_iter().map(|logged| (logged.row.id, logged)).collect();
    let mut state = watched.state.write().await;
    let first = state.event_times.iter().position(|at| *at > oldest).unwrap_or(state.len());
    state.recent.reset(columns);
    for row in first..state.len() {
        match logged.get(&state.ids[row]) {
            Some(logged) => {
                let (names, values) = (logged.names(), logged.values()?);
                let value_of = |name: &str| values.get(names.iter().position(|known| known == name)?);
                state.recent.push_json(value_of);
            }
            // Late rows of longer ago lie among the recent ones; no coming window contains them.
            None => state.recent.push_json(|_| None),
        }
    }
    Ok(())
}

/// The end of the next window that event time has passed, with its labels; empty windows are skipped.
fn next_window(state: &State) -> Option<Timestamp> {
    let watching = &state.watching;
    let monitor = &watching.definition.as_ref()?.monitor;
    watching.champion.as_ref()?.reference.as_ref()?;
    let every = Span::from_micros(monitor.every.micros().max(1));
    let closed = |end: Timestamp| state.watermark.is_some_and(|watermark| watermark >= end + monitor.label_delay);
    let after = match watching.evaluated_through {
        Some(through) => through,
        None => *state.event_times.iter().min()? - Span::from_micros(1),
    };
    let next = after.floor(every) + every;
    if !closed(next) {
        return None;
    }
    let start = next - monitor.window;
    let oldest = state.event_times.iter().copied().filter(|at| *at > start).min()?;
    let first_with_rows = (oldest - Span::from_micros(1)).floor(every) + every;
    let end = next.max(first_with_rows);
    closed(end).then_some(end)
}

/// Evaluates the next window if one is due: report, alerts and journal in one transaction.
/// Gives the rules newly raised, or `None` when no window is due.
pub(crate) async fn evaluate_next(
    meta: &Meta,
    now: Timestamp,
    watched: &Watched,
) -> Result<Option<Vec<Rule>>, EvaluatorError> {
    let doing = "store a report";
    let state = watched.state.clone().read_owned().await;
    let Some(end) = next_window(&state) else { return Ok(None) };
    let report = tokio::task::spawn_blocking(move || windows::evaluate(&state, end)).await;
    let report = report.map_err(|e| EvaluatorError::Computation(e.to_string()))??;

    let (mut history, mut open, generation, monitor) = {
        let state = watched.state.read().await;
        let watching = &state.watching;
        let monitor = watching.definition.as_ref().map(|d| d.monitor.clone()).unwrap_or_default();
        (watching.history.clone(), watching.alerts.clone(), watching.generation, monitor)
    };
    let mut told = judge(&report, &monitor, &mut history, &open);
    let mut recent = Vec::new();
    if !told.is_empty() {
        recent = last_reports(meta, &watched.name, generation, monitor.persistence).await?;
        recent.push(report.clone());
        let of = monitor.persistence.of.max(monitor.persistence.fired).max(1) as usize;
        recent.drain(..recent.len().saturating_sub(of));
    }
    let mut tx = meta.begin().await.map_err(EvaluatorError::storage(doing))?;
    windows::store(&mut tx, &report, generation).await?;
    evaluated(&mut tx, &watched.name, end).await?;
    let mut raised = Vec::new();
    for alert in &mut told {
        alert.tell(&mut tx, now, &recent).await?;
        match alert.state {
            AlertState::Cleared => drop(open.remove(&alert.rule)),
            AlertState::Open => {
                if open.insert(alert.rule, alert.clone()).is_none() {
                    raised.push(alert.rule);
                }
            }
        }
    }
    tx.commit().await.map_err(EvaluatorError::storage(doing))?;

    let mut state = watched.state.write().await;
    state.watching.evaluated_through = Some(end);
    state.watching.history = history;
    state.watching.alerts = open;
    Ok(Some(raised))
}

/// What a window changes: alerts raised, told of again, or cleared.
fn judge(
    report: &DriftReport,
    monitor: &MonitorSpec,
    history: &mut History,
    open: &BTreeMap<Rule, Alert>,
) -> Vec<Alert> {
    let mut told = Vec::new();
    for outcome in &report.rules {
        match (history.note(outcome, monitor.persistence), open.get(&outcome.rule)) {
            (Standing::Persistent, None) => told.push(Alert::raise(report, outcome)),
            (Standing::Persistent, Some(alert)) if report.window_end - alert.window_end >= monitor.window => {
                told.push(alert.repeat(report, outcome));
            }
            (Standing::Calm, Some(alert)) => told.push(alert.clear(Some(report.watermark), "quiet windows")),
            (Standing::Persistent | Standing::Calm | Standing::Undecided, _) => {}
        }
    }
    told
}

async fn evaluated(tx: &mut Tx, endpoint: &EndpointName, through: Timestamp) -> Result<(), EvaluatorError> {
    sqlx::query("UPDATE evaluator_endpoints SET evaluated_through = $2 WHERE name = $1")
        .bind(endpoint.as_str())
        .bind(through.micros())
        .execute(tx.conn())
        .await
        .map_err(EvaluatorError::storage("store a report"))?;
    Ok(())
}
