//! Driving a run: one step after the other, each committed before the next starts.
//!
//! Whoever stops in the middle loses at most the step that was running: when the run is driven again, finished
//! steps are read back and the running one starts again.

use domain::{
    Digest, EventKind, NewEvent, PipelineRunId, Timestamp,
    state::{PipelineRunEvent, PipelineRunState, StepEvent, StepState},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value as Json, json};
use storage::Tx;

use crate::{
    conductor::{ACTOR, Conductor, append, commit},
    error::{Asking as _, ConductorError},
    run::{PipelineRun, Step},
    store,
};

/// What a step leaves behind. Large things are in the registry's blobs and only named here.
pub(crate) trait Outcome: Serialize + DeserializeOwned {
    /// Blobs without which the result is worth nothing.
    fn blobs(&self) -> Vec<Digest> {
        Vec::new()
    }
}

/// A step about to be done.
pub(crate) struct Task<'a> {
    pub(crate) run: &'a PipelineRun,
    pub(crate) name: String,
    /// Digest of everything the result depends on.
    pub(crate) key: Digest,
}

impl Conductor {
    /// Starts to drive a run in its own task; a shutdown leaves it to the next start.
    pub(crate) fn launch(&self, id: PipelineRunId) {
        let conductor = self.clone();
        self.rooms().house.spawn("pipeline run", move |stop| async move {
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = conductor.drive(id) => {}
            }
        });
    }

    async fn drive(&self, id: PipelineRunId) {
        if let Err(error) = self.steps(id).await {
            tracing::warn!(run = %id, %error, "pipeline run failed");
            if let Err(worse) = self.fail(id, &error).await {
                // It stays as it is and is driven again after the next start.
                tracing::error!(run = %id, error = %worse, "could not record that a pipeline run failed");
            }
        }
        self.changed();
    }

    async fn steps(&self, id: PipelineRunId) -> Result<(), ConductorError> {
        let mut run = store::run(self.rooms().meta.reader(), id).await?;
        if run.state == PipelineRunState::Queued {
            run.champion = self.deployed(&run.endpoint).await?.map(|d| d.champion);
            self.advance(&mut run, PipelineRunEvent::Start).await?;
        }
        let data = self.build_dataset(&run).await?;
        let mut fitted = Vec::with_capacity(run.spec.estimators.len());
        for estimator in &run.spec.estimators {
            fitted.push(self.fit(&run, &data, estimator).await?);
        }
        let chosen = self.choose(&run, &fitted).await?;
        let challenger = self.register(&run, &fitted, chosen).await?;
        if run.challenger != Some(challenger) {
            run.challenger = Some(challenger);
            self.save(&mut run).await?;
        }
        let decision = self.gate(&run, &data, &fitted[chosen], challenger).await?;
        self.act_on(run, decision).await
    }

    async fn fail(&self, id: PipelineRunId, error: &ConductorError) -> Result<(), ConductorError> {
        let mut run = store::run(self.rooms().meta.reader(), id).await?;
        run.error = Some(error.to_string());
        self.finish(run, PipelineRunEvent::Break, Vec::new()).await
    }

    /// Moves a run and writes it.
    pub(crate) async fn advance(&self, run: &mut PipelineRun, event: PipelineRunEvent) -> Result<(), ConductorError> {
        run.state = run.state.next(event)?;
        self.save(run).await
    }

    pub(crate) async fn save(&self, run: &mut PipelineRun) -> Result<(), ConductorError> {
        run.updated = self.now();
        let mut tx = self.begin().await?;
        store::update_run(tx.conn(), run).await?;
        commit(tx).await?;
        self.changed();
        Ok(())
    }

    /// Ends a run, in one transaction with the events that tell of it.
    pub(crate) async fn finish(
        &self,
        mut run: PipelineRun,
        event: PipelineRunEvent,
        told: Vec<NewEvent>,
    ) -> Result<(), ConductorError> {
        run.state = run.state.next(event)?;
        run.updated = self.now();
        run.ended = Some(self.event_time(&run).await);
        let mut tx = self.begin().await?;
        store::update_run(tx.conn(), &run).await?;
        self.end_steps(&mut tx, &run).await?;
        for event in told {
            append(&mut tx, event).await?;
        }
        let body = json!({
            "run": run.id, "pipeline": run.pipeline, "endpoint": run.endpoint, "state": run.state,
            "challenger": run.challenger, "reason": ending(&run),
        });
        append(&mut tx, self.tell(&run, EventKind::PipelineFinished, format!("pipeline/{}", run.pipeline), body))
            .await?;
        commit(tx).await?;
        tracing::info!(run = %run.id, pipeline = %run.pipeline, state = run.state.as_str(), "pipeline run ended");
        self.changed();
        Ok(())
    }

    /// A step still running ends with its run: well if the run came to a decision, broken if the run broke.
    async fn end_steps(&self, tx: &mut Tx, run: &PipelineRun) -> Result<(), ConductorError> {
        for mut step in store::steps(self.rooms().meta.reader(), run.id).await? {
            if step.state != StepState::Running {
                continue;
            }
            let broken = run.state == PipelineRunState::Failed;
            step.state = step.state.next(if broken { StepEvent::Break } else { StepEvent::Finish })?;
            step.finished = Some(run.updated);
            step.error = step.error.or_else(|| run.error.clone().filter(|_| broken));
            if !broken && let Some(rollout) = &run.rollout {
                step.result = Some(json!(rollout));
            }
            store::update_step(tx.conn(), run.id, &step).await?;
        }
        Ok(())
    }

    /// Event time reached by the run's endpoint, at least the run's cutoff.
    pub(crate) async fn event_time(&self, run: &PipelineRun) -> Timestamp {
        let reached = self.progress_of(&run.endpoint).await.watermark;
        reached.map_or(run.cutoff, |at| at.max(run.cutoff))
    }

    /// An event of the run's story.
    pub(crate) fn tell(&self, run: &PipelineRun, kind: EventKind, subject: String, body: Json) -> NewEvent {
        NewEvent { at: self.now(), kind, subject, actor: ACTOR.to_owned(), cause: Some(run.story), body }
    }

    /// Does a step unless it is done: in this run before a restart, or with the same key in any earlier run. `work`
    /// gets what an interrupted attempt noted.
    pub(crate) async fn step<T: Outcome, F: Future<Output = Result<T, ConductorError>>>(
        &self,
        task: Task<'_>,
        work: impl FnOnce(Option<Json>) -> F,
    ) -> Result<T, ConductorError> {
        let pool = self.rooms().meta.reader();
        let id = task.run.id;
        let steps = store::steps(pool, id).await?;
        let step = steps.into_iter().find(|s| s.name == task.name);
        let mut step = step.ok_or_else(|| corrupt(format!("step {} is missing", task.name)))?;
        if matches!(step.state, StepState::Done | StepState::Reused) {
            return read(step.result.unwrap_or_default());
        }
        step.key = Some(task.key);
        if step.state == StepState::Waiting
            && let Some((from, result)) = store::find_result(pool, &task.key).await?
        {
            let known: T = read(result.clone())?;
            if self.all_there(&known).await? {
                step.state = step.state.next(StepEvent::Reuse)?;
                step.why = Some(format!("nothing it depends on changed since run {from}"));
                step.result = Some(result);
                step.finished = Some(self.now());
                self.write_step(task.run, &step, &known.blobs()).await?;
                return Ok(known);
            }
            step.why = Some(format!("the files of run {from} are gone"));
            let mut tx = self.begin().await?;
            store::forget_result(tx.conn(), &task.key).await?;
            commit(tx).await?;
        }
        let noted = step.result.take();
        let again = step.state == StepState::Running;
        step.state = step.state.next(if again { StepEvent::Restart } else { StepEvent::Start })?;
        if again {
            step.why = Some("started again after an interruption".into());
        }
        let why = step.why.take().unwrap_or_else(|| "no earlier run has a result for these inputs".into());
        step.why = Some(why);
        step.started = Some(self.now());
        self.write_step(task.run, &step, &[]).await?;
        match work(noted).await {
            Ok(done) => {
                step.state = step.state.next(StepEvent::Finish)?;
                step.result = Some(json!(done));
                step.finished = Some(self.now());
                self.write_step(task.run, &step, &done.blobs()).await?;
                Ok(done)
            }
            Err(error) => {
                step.state = step.state.next(StepEvent::Break)?;
                step.error = Some(error.to_string());
                step.finished = Some(self.now());
                self.write_step(task.run, &step, &[]).await?;
                Err(error)
            }
        }
    }

    /// Notes something in a running step that a restart needs.
    pub(crate) async fn note(&self, run: &PipelineRun, name: &str, note: Json) -> Result<(), ConductorError> {
        let steps = store::steps(self.rooms().meta.reader(), run.id).await?;
        let Some(mut step) = steps.into_iter().find(|s| s.name == name) else { return Ok(()) };
        step.result = Some(note);
        let mut tx = self.begin().await?;
        store::update_step(tx.conn(), run.id, &step).await?;
        commit(tx).await
    }

    /// Writes a step, whose result names `blobs`; one that ended is told of in the same transaction, and its result kept
    /// for later runs.
    async fn write_step(&self, run: &PipelineRun, step: &Step, blobs: &[Digest]) -> Result<(), ConductorError> {
        let mut tx = self.begin().await?;
        for digest in blobs {
            if !self.rooms().registry.has_blob(digest).await.asking("look for a file")? {
                return Err(ConductorError::Step(format!("its file {digest} was cleared away before it was named")));
            }
        }
        store::update_step(tx.conn(), run.id, step).await?;
        if step.state == StepState::Done {
            store::commit_result(tx.conn(), run.id, step, self.now()).await?;
        }
        if step.state.is_final() {
            let body = json!({
                "run": run.id, "pipeline": run.pipeline, "step": step.name, "state": step.state,
                "why": step.why, "error": step.error, "result": step.result,
            });
            append(&mut tx, self.tell(run, EventKind::StepFinished, format!("pipeline/{}", run.pipeline), body))
                .await?;
        }
        commit(tx).await?;
        self.changed();
        Ok(())
    }

    async fn all_there<T: Outcome>(&self, result: &T) -> Result<bool, ConductorError> {
        for digest in result.blobs() {
            if !self.has_blob(&digest).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

fn ending(run: &PipelineRun) -> Option<&str> {
    let verdict = run.rollout.as_ref().and_then(|r| r.verdict.as_deref());
    run.error.as_deref().or(verdict).or_else(|| run.decision.as_ref().map(|d| d.reason.as_str()))
}

fn read<T: DeserializeOwned>(result: Json) -> Result<T, ConductorError> {
    serde_json::from_value(result).map_err(|e| corrupt(e.to_string()))
}

fn corrupt(reason: String) -> ConductorError {
    ConductorError::Corrupt { what: "pipeline step", reason }
}
