//! The log as people read it.

use std::{collections::HashMap, sync::Arc};

use domain::{
    EndpointName, PredictionId, Timestamp,
    prediction::{LabelOrigin, TargetRole},
};
use serde::Serialize;

use crate::{error::EvaluatorError, log::Logged, state::State, worker::Watched};

/// Which predictions to list.
#[derive(Debug, Clone, Default)]
pub struct PredictionFilter {
    /// First event time; absent: from the beginning.
    pub from: Option<Timestamp>,
    /// Event time to stop before; absent: to the end.
    pub to: Option<Timestamp>,
    /// At most this many; 0 means 100.
    pub limit: usize,
    /// The last ones instead of the first; still in order of arrival.
    pub newest: bool,
}

/// A prediction, what the model saw, what it said and what was true.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LoggedPrediction {
    pub id: PredictionId,
    pub endpoint: EndpointName,
    pub event_time: Timestamp,
    pub served_at: Timestamp,
    pub label_key: Option<Arc<str>>,
    pub inputs: serde_json::Map<String, serde_json::Value>,
    pub scores: Vec<VersionScore>,
    pub label: Option<KnownLabel>,
}

/// What one version said.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct VersionScore {
    pub version: u32,
    pub role: TargetRole,
    pub score: f32,
}

/// The label that counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct KnownLabel {
    pub value: bool,
    pub origin: LabelOrigin,
    pub known_at: Timestamp,
}

/// Rows of the state, found on disk within their range of event time.
async fn read(
    watched: &Watched,
    choose: impl FnOnce(&State) -> Vec<usize>,
) -> Result<Vec<LoggedPrediction>, EvaluatorError> {
    let wanted: HashMap<PredictionId, Option<KnownLabel>>;
    let range;
    {
        let state = watched.state.read().await;
        let rows = choose(&state);
        let times = || rows.iter().map(|&row| state.event_times[row]);
        let (Some(first), Some(last)) = (times().min(), times().max()) else { return Ok(Vec::new()) };
        range = (first, last);
        let label = |row: usize| {
            state.labels[row].map(|l| KnownLabel { value: l.value, origin: l.origin, known_at: l.known_at })
        };
        wanted = rows.iter().map(|&row| (state.ids[row], label(row))).collect();
    }
    let show = |logged: Logged| -> Option<Result<LoggedPrediction, EvaluatorError>> {
        let label = *wanted.get(&logged.row.id)?;
        Some(logged.inputs().map(|inputs| {
            LoggedPrediction {
                id: logged.row.id,
                endpoint: watched.name.clone(),
                event_time: logged.row.event_time,
                served_at: logged.served_at,
                label_key: logged.row.label_key,
                inputs,
                scores: (logged.row.scores.iter())
                    .map(|s| VersionScore { version: s.version, role: s.role, score: s.score })
                    .collect(),
                label,
            }
        }))
    };
    watched.log.read(Some(range)).await?.into_iter().filter_map(show).collect()
}

pub(crate) async fn list(watched: &Watched, filter: PredictionFilter) -> Result<Vec<LoggedPrediction>, EvaluatorError> {
    let limit = if filter.limit == 0 { 100 } else { filter.limit };
    let (from, to) = (filter.from.unwrap_or(Timestamp::MIN), filter.to.unwrap_or(Timestamp::MAX));
    let choose = |state: &State| {
        let lies_in = |row: &usize| (from..to).contains(&state.event_times[*row]);
        if filter.newest {
            let mut rows: Vec<_> = (0..state.len()).rev().filter(lies_in).take(limit).collect();
            rows.reverse();
            rows
        } else {
            (0..state.len()).filter(lies_in).take(limit).collect()
        }
    };
    read(watched, choose).await
}

pub(crate) async fn find(watched: &Watched, id: PredictionId) -> Result<Option<LoggedPrediction>, EvaluatorError> {
    Ok(read(watched, |state| state.row_of(id).into_iter().collect()).await?.pop())
}
