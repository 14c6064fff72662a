//! Acting on the gate's decision, and judging a challenger by its own live results.

use domain::{
    EventKind, NewEvent, Timestamp,
    definition::{Autonomy, RolloutSpec},
    state::{PipelineRunEvent, PipelineRunState, StepEvent, StepState},
};
use serde_json::json;
use serving::Target;

use crate::{
    conductor::{ACTOR, Conductor, append, commit},
    endpoint::{Deployment, Order},
    error::{Asking as _, ConductorError},
    hold::waits,
    run::{Decision, PipelineRun, Rollout, Trial},
    store,
};

/// Labels of the challenger from which on the guardrail looks.
const GUARD_LABELS: u64 = 200;
/// Half the width of the 95 % and 99 % intervals, in standard errors.
const Z95: f64 = 1.959_964;
const Z99: f64 = 2.575_829;

/// What a look at a trial leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    Wait,
    Promote(String),
    RollBack(String),
}

/// Judges a trial: rolled back at once when it is surely worse; decided once it has enough labels or its time is up.
pub(crate) fn judge(spec: &RolloutSpec, since: Timestamp, trial: &Trial) -> Verdict {
    let n = trial.challenger_labels;
    if let (Some(difference), Some(lower), Some(upper)) = (trial.difference, trial.lower, trial.upper) {
        let error = (upper - lower) / (2.0 * Z95);
        if n >= GUARD_LABELS && difference - Z99 * error > 0.0 {
            return Verdict::RollBack(format!(
                "guardrail: log loss is {difference:.4} worse than the champion's beyond chance at 99 %, after {n} labels"
            ));
        }
    }
    let until = since + spec.max_duration;
    let (Some(difference), Some(lower), true) = (trial.difference, trial.lower, n >= spec.min_labels) else {
        if trial.at <= until {
            return Verdict::Wait;
        }
        return Verdict::RollBack(format!(
            "only {n} of {} labels by {until}, so its own results cannot decide",
            spec.min_labels
        ));
    };
    if lower > 0.0 {
        return Verdict::RollBack(format!(
            "log loss is {difference:.4} worse than the champion's beyond chance at 95 %, after {n} labels"
        ));
    }
    let how = if difference <= 0.0 { "better" } else { "not provably worse" };
    Verdict::Promote(format!("log loss differs from the champion's by {difference:+.4} after {n} labels: {how}"))
}

impl Conductor {
    /// The last step of a run: what the decision leads to.
    pub(crate) async fn act_on(&self, mut run: PipelineRun, decision: Decision) -> Result<(), ConductorError> {
        let challenger = decision.challenger;
        if run.decision.is_none() {
            self.record_decision(&mut run, &decision).await?;
        }
        if !decision.passed {
            return self.finish(run, PipelineRunEvent::Refuse, Vec::new()).await;
        }
        let Some(champion) = decision.champion else {
            if let Some(asked) = self.ask_if_protected(&run, challenger, &decision.reason).await? {
                let reason = format!("{}; {}", decision.reason, waits(&asked));
                run.decision = Some(Decision { reason, ..decision });
                return self.hold(run, &asked).await;
            }
            let split = vec![Target { version: challenger, percent: 100 }];
            self.split(&run, split, &decision.reason).await?;
            let told = self.promoted(&run, challenger, &decision.reason);
            return self.finish(run, PipelineRunEvent::Promote, vec![told]).await;
        };
        if run.spec.trigger.autonomy != Autonomy::FullAuto {
            let autonomy = match run.spec.trigger.autonomy {
                Autonomy::AlertOnly => "alert_only",
                Autonomy::TrainOnly | Autonomy::FullAuto => "train_only",
            };
            let reason = format!(
                "{}; autonomy is {autonomy}: deploy it yourself with `millpond deploy {} {challenger}`",
                decision.reason, run.endpoint
            );
            run.decision = Some(Decision { reason, ..decision });
            return self.finish(run, PipelineRunEvent::Refuse, Vec::new()).await;
        }
        self.start_trial(run, champion).await
    }

    /// Writes the gate's decision and tells of it, once.
    async fn record_decision(&self, run: &mut PipelineRun, decision: &Decision) -> Result<(), ConductorError> {
        run.decision = Some(decision.clone());
        run.updated = self.now();
        let body = json!({
            "run": run.id, "pipeline": run.pipeline, "endpoint": run.endpoint, "decision": decision,
        });
        let subject = format!("model/{}/{}", run.spec.model, decision.challenger);
        let mut tx = self.begin().await?;
        store::update_run(tx.conn(), run).await?;
        append(&mut tx, self.tell(run, EventKind::GateDecided, subject, body)).await?;
        commit(tx).await?;
        self.changed();
        Ok(())
    }

    /// Gives the challenger its share, then writes that it is on trial; interrupted between the two, the run is driven
    /// again and finds the share given already.
    async fn start_trial(&self, mut run: PipelineRun, champion: u32) -> Result<(), ConductorError> {
        let challenger = run.challenger.ok_or_else(|| ConductorError::Step("the run has no challenger".into()))?;
        let percent = run.spec.rollout.canary_percent;
        let split = vec![Target { version: champion, percent: 100 - percent }, Target { version: challenger, percent }];
        self.split(&run, split, "the gate was passed").await?;
        run.champion = Some(champion);
        run.rollout = Some(Rollout { since: self.event_time(&run).await, percent, latest: None, verdict: None });
        run.state = run.state.next(PipelineRunEvent::Deploy)?;
        run.updated = self.now();
        let mut tx = self.begin().await?;
        store::update_run(tx.conn(), &run).await?;
        if let Some(step) = run.steps.iter().find(|s| s.name == "rollout" && s.state == StepState::Waiting) {
            let mut step = step.clone();
            step.state = step.state.next(StepEvent::Start)?;
            step.started = Some(run.updated);
            store::update_step(tx.conn(), run.id, &step).await?;
        }
        commit(tx).await?;
        tracing::info!(run = %run.id, challenger, percent, "challenger on trial");
        self.changed();
        Ok(())
    }

    /// Looks at every trial once and acts on what it sees; says whether any was decided.
    pub(crate) async fn judge_trials(&self) -> Result<bool, ConductorError> {
        let on_trial = [PipelineRunState::Canary, PipelineRunState::Canary];
        let mut decided = false;
        for run in store::in_states(self.rooms().meta.reader(), on_trial).await? {
            decided |= self.judge_trial(run).await?;
        }
        Ok(decided)
    }

    async fn judge_trial(&self, mut run: PipelineRun) -> Result<bool, ConductorError> {
        let (Some(champion), Some(challenger), Some(rollout)) = (run.champion, run.challenger, run.rollout.clone())
        else {
            let reason = format!("run {} is on trial without a challenger", run.id);
            return Err(ConductorError::Corrupt { what: "pipeline run", reason });
        };
        let deployed = self.deployed(&run.endpoint).await?;
        let share = |version: u32| {
            deployed.iter().flat_map(|d| &d.targets).filter(|t| t.version == version).map(|t| t.percent).sum::<u32>()
        };
        // Somebody deployed by hand, or a decision was carried out and then interrupted.
        if share(challenger) == 100 {
            self.end_trial(run, rollout, &Verdict::Promote("it was given all the traffic".into())).await?;
            return Ok(true);
        }
        if share(challenger) == 0 || share(champion) == 0 {
            self.end_trial(run, rollout, &Verdict::RollBack("its share of the traffic was taken away".into())).await?;
            return Ok(true);
        }
        let results = self.rooms().evaluator.canary(&run.endpoint, champion, challenger, rollout.since).await;
        let results = results.asking("look at a trial")?;
        let trial = Trial {
            champion_labels: results.champion.n,
            challenger_labels: results.challenger.n,
            champion_log_loss: results.champion.log_loss,
            challenger_log_loss: results.challenger.log_loss,
            difference: results.diff,
            lower: results.lower,
            upper: results.upper,
            at: results.watermark.map_or(rollout.since, |at| at.max(rollout.since)),
        };
        let verdict = judge(&run.spec.rollout, rollout.since, &trial);
        let seen = rollout.latest.as_ref() == Some(&trial);
        let rollout = Rollout { latest: Some(trial), ..rollout };
        match verdict {
            Verdict::Wait => {
                if !seen {
                    run.rollout = Some(rollout);
                    self.save(&mut run).await?;
                }
                return Ok(false);
            }
            Verdict::Promote(ref reason) => {
                if let Some(asked) = self.ask_if_protected(&run, challenger, reason).await? {
                    let verdict = format!("{reason}; {}", waits(&asked));
                    self.split(&run, vec![Target { version: champion, percent: 100 }], &verdict).await?;
                    run.rollout = Some(Rollout { verdict: Some(verdict), ..rollout });
                    self.hold(run, &asked).await?;
                    return Ok(true);
                }
                self.split(&run, vec![Target { version: challenger, percent: 100 }], reason).await?;
            }
            Verdict::RollBack(ref reason) => {
                self.split(&run, vec![Target { version: champion, percent: 100 }], reason).await?;
            }
        }
        self.end_trial(run, rollout, &verdict).await?;
        Ok(true)
    }

    async fn end_trial(&self, mut run: PipelineRun, rollout: Rollout, verdict: &Verdict) -> Result<(), ConductorError> {
        let challenger = run.challenger.unwrap_or_default();
        let (event, told, reason) = match verdict {
            Verdict::Promote(reason) => (PipelineRunEvent::Promote, EventKind::RolloutPromoted, reason),
            Verdict::RollBack(reason) => (PipelineRunEvent::RollBack, EventKind::RolloutRolledBack, reason),
            Verdict::Wait => return Ok(()),
        };
        run.rollout = Some(Rollout { verdict: Some(reason.clone()), ..rollout });
        let body = json!({
            "run": run.id, "endpoint": run.endpoint, "challenger": challenger, "champion": run.champion,
            "reason": reason, "trial": run.rollout,
        });
        let told = self.tell(&run, told, format!("model/{}/{challenger}", run.spec.model), body);
        self.finish(run, event, vec![told]).await
    }

    fn promoted(&self, run: &PipelineRun, version: u32, reason: &str) -> NewEvent {
        let body = json!({ "run": run.id, "endpoint": run.endpoint, "challenger": version, "reason": reason });
        self.tell(run, EventKind::RolloutPromoted, format!("model/{}/{version}", run.spec.model), body)
    }

    /// Changes the endpoint's targets and leaves its shadows as they are.
    async fn split(&self, run: &PipelineRun, targets: Vec<Target>, reason: &str) -> Result<(), ConductorError> {
        let shadow = self.deployed(&run.endpoint).await?.map(|d| d.shadow).unwrap_or_default();
        let order = Order { actor: ACTOR, reason, cause: Some(run.story) };
        self.deploy_by(&run.endpoint, Deployment { targets, shadow }, &order).await
    }
}

#[cfg(test)]
mod tests {
    use domain::Span;

    use super::*;

    fn trial(n: u64, difference: f64, error: f64, day: i64) -> Trial {
        Trial {
            champion_labels: 4 * n,
            challenger_labels: n,
            champion_log_loss: Some(0.5),
            challenger_log_loss: Some(0.5 + difference),
            difference: (n > 1).then_some(difference),
            lower: (n > 1).then_some(difference - Z95 * error),
            upper: (n > 1).then_some(difference + Z95 * error),
            at: Timestamp::from_micros(day * Span::DAY.micros()),
        }
    }

    fn look(n: u64, difference: f64, error: f64, day: i64) -> &'static str {
        let spec = RolloutSpec { canary_percent: 20, min_labels: 1_000, max_duration: "14d".parse().unwrap() };
        match judge(&spec, Timestamp::from_micros(0), &trial(n, difference, error, day)) {
            Verdict::Wait => "wait",
            Verdict::Promote(_) => "promote",
            Verdict::RollBack(_) => "roll back",
        }
    }

    #[test]
    fn a_trial_waits_for_its_labels_and_then_decides() {
        assert_eq!(look(999, -0.05, 0.01, 3), "wait");
        assert_eq!(look(1_000, -0.05, 0.01, 3), "promote");
        assert_eq!(look(1_000, 0.01, 0.01, 3), "promote", "worse, but within chance");
        assert_eq!(look(1_000, 0.022, 0.01, 3), "roll back", "worse at 95 %");
    }

    #[test]
    fn the_guardrail_does_not_wait() {
        assert_eq!(look(199, 0.5, 0.01, 1), "wait", "too few to tell");
        assert_eq!(look(200, 0.022, 0.01, 1), "wait", "worse at 95 % only");
        assert_eq!(look(200, 0.026, 0.01, 1), "roll back");
    }

    #[test]
    fn time_up_without_labels_rolls_back() {
        assert_eq!(look(0, 0.0, 0.0, 14), "wait");
        assert_eq!(look(0, 0.0, 0.0, 15), "roll back");
        assert_eq!(look(999, -0.5, 0.01, 15), "roll back");
    }
}
