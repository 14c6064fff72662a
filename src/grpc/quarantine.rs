//! Rows that were set aside, and how a source's ingestion stands.

use std::collections::HashMap;

use domain::{SourceName, Timestamp};
use feature_store::{QuarantineFilter, Reason, Replay, Which};
use proto::{
    features::{
        Chosen, DiscardRequest, DiscardResponse, Ingestion, IngestionRequest, QuarantineRequest, QuarantineResponse,
        ReplayRequest, ReplayResponse,
    },
    from_struct,
};
use tonic::Status;

use super::{Door, limit, objects, read, read_opt, refuse};

/// Counts by reason, as the wire has them.
pub fn reasons(reasons: impl IntoIterator<Item = (Reason, u64)>) -> HashMap<String, u64> {
    reasons.into_iter().map(|(reason, rows)| (reason.to_string(), rows)).collect()
}

fn which(chosen: Option<Chosen>) -> Result<Which, Status> {
    let Chosen { rows, reason, from, to } = chosen.unwrap_or_default();
    if !rows.is_empty() {
        return Ok(Which::Rows(rows.into_iter().collect()));
    }
    let reason = read_opt("chosen.reason", &reason)?;
    let (from, to) = (read_opt("chosen.from", &from)?, read_opt("chosen.to", &to)?);
    Ok(Which::Waiting(QuarantineFilter { state: None, reason, from, to }))
}

impl Door {
    pub(super) async fn ingestion(&self, request: IngestionRequest) -> Result<Ingestion, Status> {
        let source: SourceName = read("source", &request.source)?;
        let state = self.app.features.ingestion(&source).await.map_err(refuse)?;
        let text = |at: Option<Timestamp>| at.map(|at| at.to_string()).unwrap_or_default();
        Ok(Ingestion {
            rows: state.rows,
            quarantined: state.quarantined,
            reasons: reasons(state.reasons),
            newest: text(state.event_time.newest),
            watermark: text(state.event_time.watermark),
            late_before: text(state.event_time.late_before),
            future_after: text(state.event_time.future_after),
            drift: objects(&state.drift)?,
        })
    }

    pub(super) async fn quarantine(&self, request: QuarantineRequest) -> Result<QuarantineResponse, Status> {
        let QuarantineRequest { source, limit: most, state, reason, from, to } = request;
        let source: SourceName = read("source", &source)?;
        let filter = QuarantineFilter {
            state: read_opt("state", &state)?,
            reason: read_opt("reason", &reason)?,
            from: read_opt("from", &from)?,
            to: read_opt("to", &to)?,
        };
        let rows = self.app.features.quarantine(&source, &filter, limit(most, 100)).await.map_err(refuse)?;
        Ok(QuarantineResponse { rows: objects(&rows)? })
    }

    pub(super) async fn replay(&self, request: ReplayRequest) -> Result<ReplayResponse, Status> {
        let ReplayRequest { source, chosen, patch, instead } = request;
        let source: SourceName = read("source", &source)?;
        let patch = patch.map(from_struct).unwrap_or_default();
        let replay = Replay { which: which(chosen)?, patch, instead: instead.map(from_struct) };
        let done = self.app.features.replay(&source, &replay, &storage::caller_or("grpc")).await.map_err(refuse)?;
        Ok(ReplayResponse {
            replayed: done.replayed,
            accepted: done.accepted,
            duplicates: done.duplicates,
            corrections: done.corrections,
            still_bad: done.still_bad,
            first_errors: objects(&done.first_errors)?,
        })
    }

    pub(super) async fn discard(&self, request: DiscardRequest) -> Result<DiscardResponse, Status> {
        let source: SourceName = read("source", &request.source)?;
        let which = which(request.chosen)?;
        let discarded =
            self.app.features.discard(&source, &which, &storage::caller_or("grpc")).await.map_err(refuse)?;
        Ok(DiscardResponse { discarded })
    }
}
