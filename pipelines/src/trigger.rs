//! Starting runs: by hand, or because the journal tells of an alert.

use std::sync::PoisonError;

use domain::{
    EndpointName, Event, EventKind, NewEvent, PipelineName, PipelineRunId, Timestamp, definition::Pipeline,
    state::PipelineRunState,
};
use serde::Deserialize;
use serde_json::json;
use storage::Tx;
use tokio::time::{Duration, Instant, MissedTickBehavior};

use crate::{
    conductor::{ACTOR, Conductor, append, commit},
    error::{Asking as _, ConductorError, During as _},
    policy::Situation,
    run::{Cause, CauseKind, PipelineRun},
    store::{self, signed},
};

/// Events read at once.
const BATCH: usize = 256;
/// How often trials are looked at when nobody asks. Only wall time: what is decided depends on event time alone.
const LOOK: Duration = Duration::from_millis(500);

/// While somebody settles at least this often, the journal is followed there and nowhere else.
const REPLAY: Duration = Duration::from_secs(60);

/// What an alert's event says; other fields are for people.
#[derive(Debug, Deserialize)]
struct AlertBody {
    endpoint: EndpointName,
    rule: String,
    #[serde(default)]
    champion: Option<u32>,
    watermark: Timestamp,
}

/// How far the watching of an endpoint has come; all zero before the first prediction.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Reached {
    pub(crate) watermark: Option<Timestamp>,
    pub(crate) labelled: u64,
}

impl Conductor {
    /// Starts a run, unless one of the pipeline is under way or on trial: then its id is returned. `cutoff` is the
    /// event time up to which labels are known; absent: as far as the endpoint's predictions have come, or now.
    ///
    /// # Errors
    /// `NoSuchPipeline`.
    pub async fn trigger(
        &self,
        pipeline: &PipelineName,
        cause: Cause,
        cutoff: Option<Timestamp>,
    ) -> Result<PipelineRunId, ConductorError> {
        let spec = self.pipeline(pipeline)?;
        let reached = self.progress_of(&spec.endpoint).await;
        let cutoff = cutoff.or(reached.watermark).unwrap_or_else(|| self.now());
        let mut tx = self.begin().await?;
        let past = store::history(tx.conn(), pipeline).await?;
        if let Some(active) = past.iter().find(|run| !run.state.is_final()) {
            return Ok(active.id);
        }
        let id = self.queue(&mut tx, spec, cause, cutoff, reached.labelled).await?;
        commit(tx).await?;
        self.changed();
        self.launch(id);
        Ok(id)
    }

    /// Whether no run is queued or running; a run on trial does not count.
    ///
    /// # Errors
    /// Rows that cannot be read.
    pub async fn idle(&self) -> Result<bool, ConductorError> {
        let computing = [PipelineRunState::Queued, PipelineRunState::Running];
        Ok(store::in_states(self.rooms().meta.reader(), computing).await?.is_empty())
    }

    /// Waits until everything that follows from what was predicted, labelled and applied so far has happened: windows
    /// evaluated, alerts followed, runs computed, trials judged.
    ///
    /// A replay calls it to keep event time and decisions in step: for a minute after it alerts and trials wait for the
    /// next call, so that the same replay decides at the same event times however fast it runs.
    ///
    /// # Errors
    /// An endpoint that does not exist, or a room that fails.
    pub async fn settle(&self, endpoint: &EndpointName) -> Result<(), ConductorError> {
        self.definition(endpoint)?;
        loop {
            let mut changes = self.0.changes.subscribe();
            changes.borrow_and_update();
            self.note_settling();
            if self.rooms().evaluator.endpoints().contains(endpoint) {
                self.rooms().evaluator.settle(endpoint).await.asking("settle the evaluator")?;
            }
            let acted = self.catch_up().await?;
            if !self.idle().await? {
                tokio::select! {
                    _ = changes.changed() => {}
                    () = self.rooms().house.stopping().cancelled_owned() => return Ok(()),
                }
                continue;
            }
            let newest = *self.rooms().meta.journal().watch().borrow();
            if !acted && newest == self.cursor().await? {
                self.note_settling();
                return Ok(());
            }
        }
    }

    fn note_settling(&self) {
        *self.0.settled.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    fn is_replaying(&self) -> bool {
        let last = *self.0.settled.lock().unwrap_or_else(PoisonError::into_inner);
        last.is_some_and(|at| at.elapsed() < REPLAY)
    }

    /// Follows the journal and looks at trials until the house shuts down.
    pub(crate) fn follow(&self) {
        let conductor = self.clone();
        self.rooms().house.spawn("conductor", move |stop| async move {
            let mut newest = conductor.rooms().meta.journal().watch();
            let mut look = tokio::time::interval(LOOK);
            look.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    _ = newest.changed() => {}
                    _ = look.tick() => {}
                }
                newest.borrow_and_update();
                if conductor.is_replaying() {
                    continue;
                }
                if let Err(error) = conductor.catch_up().await {
                    // Nothing is lost: the cursor stands before what failed, and the next look tries again.
                    tracing::warn!(%error, "could not follow the journal");
                }
            }
        });
    }

    /// Handles every event after the cursor and looks at every trial; says whether anything was started or decided.
    pub(crate) async fn catch_up(&self) -> Result<bool, ConductorError> {
        let _alone = self.0.following.lock().await;
        let mut acted = false;
        let mut cursor = self.cursor().await?;
        loop {
            let events = self.rooms().meta.journal().read(cursor, BATCH).await.during("read the journal")?;
            let Some(last) = events.last().map(|event| event.seq) else { break };
            for event in &events {
                acted |= match event.kind {
                    EventKind::AlertRaised => self.on_alert(event).await?,
                    EventKind::AliasMoved => self.on_alias_moved(event).await?,
                    _ => false,
                };
            }
            let mut tx = self.begin().await?;
            move_cursor(&mut tx, last).await?;
            commit(tx).await?;
            cursor = last;
        }
        Ok(self.judge_trials().await? || acted)
    }

    /// Starts a run of each pipeline of the alert's endpoint, or tells why not; once per event and pipeline.
    async fn on_alert(&self, event: &Event) -> Result<bool, ConductorError> {
        let Ok(alert) = serde_json::from_value::<AlertBody>(event.body.clone()) else {
            tracing::warn!(seq = event.seq, "alert without endpoint or watermark");
            return Ok(false);
        };
        let of_endpoint = |known: &crate::conductor::Known| -> Vec<Pipeline> {
            known.pipelines.values().filter(|p| p.endpoint == alert.endpoint).cloned().collect()
        };
        let champion = self.deployed(&alert.endpoint).await?.map(|d| d.champion);
        let reached = self.progress_of(&alert.endpoint).await;
        let mut started = false;
        for spec in self.known(of_endpoint) {
            let mut tx = self.begin().await?;
            let history = store::history(tx.conn(), &spec.name).await?;
            let situation = Situation {
                trigger: &spec.trigger,
                history: &history,
                now: alert.watermark,
                labelled: reached.labelled,
                accused: alert.champion,
                champion,
            };
            let outcome = situation.may_start();
            if !claim(&mut tx, event.seq, &spec.name, outcome.as_ref().err()).await? {
                continue;
            }
            let launched = match outcome {
                Ok(()) => {
                    let cause = Cause {
                        kind: CauseKind::Alert,
                        event: Some(event.seq),
                        note: format!("alert: {}", alert.rule),
                    };
                    Some(self.queue(&mut tx, spec, cause, alert.watermark, reached.labelled).await?)
                }
                Err(reason) => {
                    let skipped = NewEvent {
                        at: self.now(),
                        kind: EventKind::PipelineSkipped,
                        subject: format!("pipeline/{}", spec.name),
                        actor: ACTOR.to_owned(),
                        cause: Some(event.seq),
                        body: json!({
                            "pipeline": spec.name, "endpoint": alert.endpoint, "rule": alert.rule,
                            "reason": reason, "event_time": alert.watermark,
                        }),
                    };
                    append(&mut tx, skipped).await?;
                    None
                }
            };
            commit(tx).await?;
            if let Some(id) = launched {
                started = true;
                self.changed();
                self.launch(id);
            }
        }
        Ok(started)
    }

    /// Adds a queued run and tells of it; the caller commits and launches.
    async fn queue(
        &self,
        tx: &mut Tx,
        spec: Pipeline,
        cause: Cause,
        cutoff: Timestamp,
        labelled: u64,
    ) -> Result<PipelineRunId, ConductorError> {
        let (id, at) = (PipelineRunId::mint(), self.now());
        let event = NewEvent {
            at,
            kind: EventKind::PipelineTriggered,
            subject: format!("pipeline/{}", spec.name),
            actor: ACTOR.to_owned(),
            cause: cause.event,
            body: json!({
                "run": id, "pipeline": spec.name, "endpoint": spec.endpoint, "cutoff": cutoff, "cause": cause,
            }),
        };
        let own = append(tx, event).await?;
        let run = PipelineRun {
            id,
            pipeline: spec.name.clone(),
            endpoint: spec.endpoint.clone(),
            state: PipelineRunState::Queued,
            story: cause.event.unwrap_or(own),
            cause,
            cutoff,
            created: at,
            updated: at,
            champion: None,
            challenger: None,
            decision: None,
            rollout: None,
            error: None,
            ended: None,
            steps: Vec::new(),
            spec,
            labelled,
        };
        store::insert_run(tx.conn(), &run).await?;
        Ok(id)
    }

    pub(crate) async fn progress_of(&self, endpoint: &EndpointName) -> Reached {
        // An endpoint that was never predicted on is not known to the evaluator yet.
        match self.rooms().evaluator.status(endpoint).await {
            Ok(status) => Reached { watermark: status.watermark, labelled: status.labelled },
            Err(_) => Reached::default(),
        }
    }

    /// Number of the last event that was handled.
    async fn cursor(&self) -> Result<u64, ConductorError> {
        let at: i64 = sqlx::query_scalar("SELECT seq FROM pipeline_cursor WHERE id = 1")
            .fetch_one(self.rooms().meta.reader())
            .await
            .during("read the journal's cursor")?;
        Ok(at.unsigned_abs())
    }
}

async fn move_cursor(tx: &mut Tx, to: u64) -> Result<(), ConductorError> {
    sqlx::query("UPDATE pipeline_cursor SET seq = $1 WHERE id = 1")
        .bind(signed(to))
        .execute(tx.conn())
        .await
        .during("move the journal's cursor")?;
    Ok(())
}

/// Marks the event as handled for the pipeline; false when it was before.
async fn claim(
    tx: &mut Tx,
    seq: u64,
    pipeline: &PipelineName,
    skipped: Option<&String>,
) -> Result<bool, ConductorError> {
    let outcome = skipped.map_or_else(|| "triggered".to_owned(), |reason| format!("skipped: {reason}"));
    let done = sqlx::query(
        "INSERT INTO pipeline_alerts (seq, pipeline, outcome) VALUES ($1, $2, $3) ON CONFLICT (seq, pipeline) DO NOTHING",
    )
    .bind(signed(seq))
    .bind(pipeline.as_str().to_owned())
    .bind(outcome)
    .execute(tx.conn())
    .await
    .during("mark an alert as handled")?;
    Ok(done.rows_affected() == 1)
}

impl Conductor {
    /// Handles the newest `events` events again, as after a crash that lost the cursor; for tests of the promise that
    /// an alert starts one run.
    #[cfg(test)]
    pub(crate) async fn rewind(&self, events: u64) -> Result<(), ConductorError> {
        let to = self.cursor().await?.saturating_sub(events);
        let mut tx = self.begin().await?;
        move_cursor(&mut tx, to).await?;
        commit(tx).await
    }
}
