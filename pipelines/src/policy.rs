//! Whether an alert may start a run: pure rules over the pipeline's definition and its past runs.

use domain::{
    Span, Timestamp,
    definition::{Autonomy, TriggerSpec},
    state::PipelineRunState,
};

use crate::run::PipelineRun;

/// Refused or rolled-back runs in a row after which the cool-down doubles, and doubles once more.
const PATIENCE: usize = 2;

/// What is known when an alert arrives.
pub(crate) struct Situation<'a> {
    pub trigger: &'a TriggerSpec,
    /// The pipeline's runs, newest first.
    pub history: &'a [PipelineRun],
    /// Event time reached.
    pub now: Timestamp,
    /// Labels of the endpoint known so far.
    pub labelled: u64,
    /// Version the alert is about, and the one in service.
    pub accused: Option<u32>,
    pub champion: Option<u32>,
}

impl Situation<'_> {
    /// `Err` says in words why nothing is started.
    pub(crate) fn may_start(&self) -> Result<(), String> {
        if self.trigger.autonomy == Autonomy::AlertOnly {
            return Err("autonomy is alert_only: start the pipeline by hand".into());
        }
        if let (Some(accused), Some(champion)) = (self.accused, self.champion)
            && accused != champion
        {
            return Err(format!("version {accused} was replaced by version {champion} meanwhile"));
        }
        if let Some(active) = self.history.iter().find(|run| !run.state.is_final()) {
            return Err(match (active.state, active.challenger) {
                (PipelineRunState::Canary, Some(version)) => {
                    format!("version {version} of run {} is already on trial", active.id)
                }
                _ => format!("run {} is already under way", active.id),
            });
        }
        if let Some(until) = self.cool_until().filter(|until| self.now < *until) {
            return Err(format!("cool-down until {until}"));
        }
        let trained = self.history.iter().find(|run| run.state != PipelineRunState::Failed);
        let fresh = self.labelled.saturating_sub(trained.map_or(0, |run| run.labelled));
        if trained.is_some() && fresh < self.trigger.min_new_labels {
            return Err(format!("{fresh} new labels where {} are needed", self.trigger.min_new_labels));
        }
        Ok(())
    }

    /// End of the cool-down after the last finished run: longer after several that led to nothing.
    fn cool_until(&self) -> Option<Timestamp> {
        let last = self.history.iter().find(|run| run.state.is_final())?;
        let vain = |run: &&PipelineRun| matches!(run.state, PipelineRunState::Refused | PipelineRunState::RolledBack);
        let in_a_row = self.history.iter().take_while(vain).count();
        let factor = match in_a_row.saturating_sub(PATIENCE - 1) {
            0 => 1,
            1 => 2,
            _ => 4,
        };
        let wait = Span::from_micros(self.trigger.cool_down.micros().saturating_mul(factor));
        Some(last.ended.unwrap_or(last.cutoff) + wait)
    }
}

#[cfg(test)]
mod tests {
    use domain::{PipelineRunId, definition::Pipeline};

    use super::*;
    use crate::run::Cause;

    fn day(n: i64) -> Timestamp {
        Timestamp::from_micros(n * Span::DAY.micros())
    }

    fn pipeline() -> Pipeline {
        serde_json::from_value(serde_json::json!({
            "name": "p", "model": "m", "endpoint": "e",
            "dataset": {"service": "s", "spine": "q", "holdout": "1d",
                        "label": {"source": "l", "key": ["k"], "column": "late"}},
            "inputs": [], "estimators": [],
            "trigger": {"autonomy": "full_auto", "cool_down": "10d", "min_new_labels": 100},
        }))
        .unwrap()
    }

    fn run(state: PipelineRunState, ended: i64) -> PipelineRun {
        let spec = pipeline();
        PipelineRun {
            id: PipelineRunId::mint(),
            pipeline: spec.name.clone(),
            endpoint: spec.endpoint.clone(),
            state,
            cause: Cause::manual(""),
            story: 1,
            cutoff: day(ended),
            created: day(ended),
            updated: day(ended),
            champion: None,
            challenger: Some(2),
            decision: None,
            rollout: None,
            error: None,
            ended: state.is_final().then(|| day(ended)),
            steps: Vec::new(),
            spec,
            labelled: 1_000,
        }
    }

    fn judge(history: &[PipelineRun], now: i64, labelled: u64) -> Result<(), String> {
        let spec = pipeline();
        Situation { trigger: &spec.trigger, history, now: day(now), labelled, accused: Some(1), champion: Some(1) }
            .may_start()
    }

    #[test]
    fn the_first_alert_starts_and_the_cool_down_holds_the_next() {
        use PipelineRunState::Promoted;
        assert_eq!(judge(&[], 0, 0), Ok(()));
        let history = [run(Promoted, 100)];
        assert_eq!(judge(&history, 109, 5_000).unwrap_err(), "cool-down until 1970-04-21T00:00:00Z");
        assert_eq!(judge(&history, 110, 5_000), Ok(()));
    }

    #[test]
    fn without_new_labels_nothing_could_be_learned() {
        let history = [run(PipelineRunState::Refused, 100)];
        assert_eq!(judge(&history, 200, 1_099).unwrap_err(), "99 new labels where 100 are needed");
        assert_eq!(judge(&history, 200, 1_100), Ok(()));
    }

    #[test]
    fn runs_in_vain_double_the_cool_down_at_most_twice() {
        use PipelineRunState::{Promoted, Refused, RolledBack};
        let first_free = |states: &[PipelineRunState]| {
            let history: Vec<_> = states.iter().map(|state| run(*state, 100)).collect();
            (100..200).find(|now| judge(&history, *now, 9_999).is_ok()).unwrap() - 100
        };
        assert_eq!(first_free(&[Refused]), 10);
        assert_eq!(first_free(&[Refused, RolledBack]), 20);
        assert_eq!(first_free(&[Refused, Refused, RolledBack]), 40);
        assert_eq!(first_free(&[Refused, Refused, Refused, Refused]), 40);
        assert_eq!(first_free(&[Promoted, Refused, Refused]), 10, "a success makes up for them");
    }

    #[test]
    fn a_trial_or_run_under_way_is_not_disturbed() {
        let trial = judge(&[run(PipelineRunState::Canary, 0)], 500, 9_999).unwrap_err();
        assert!(trial.starts_with("version 2 of run"), "{trial}");
        let busy = judge(&[run(PipelineRunState::Running, 0)], 500, 9_999).unwrap_err();
        assert!(busy.ends_with("is already under way"), "{busy}");
    }

    #[test]
    fn an_alert_about_a_version_no_longer_in_service_starts_nothing() {
        let spec = pipeline();
        let late = Situation {
            trigger: &spec.trigger,
            history: &[],
            now: day(0),
            labelled: 0,
            accused: Some(1),
            champion: Some(2),
        };
        assert_eq!(late.may_start().unwrap_err(), "version 1 was replaced by version 2 meanwhile");
    }
}
