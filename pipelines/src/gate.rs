//! The gate: whether a challenger is good enough to be tried.

use domain::{Column, Digest, Frame, FrameError, ModelRef, ValueType, definition::GateSpec};
use evaluator::Comparison;
use trainer::metric;

use crate::{
    conductor::Conductor,
    engine::{Outcome, Task},
    error::{Asking as _, ConductorError, During as _, to_json},
    run::{Compared, Decision, PipelineRun},
    steps::{Built, Fitted, LABEL},
};

impl Outcome for Decision {}

impl Conductor {
    /// Compares the challenger with the version in charge on the newest labelled rows, which neither of the run's
    /// candidates was trained on.
    pub(crate) async fn gate(
        &self,
        run: &PipelineRun,
        data: &Built,
        fitted: &Fitted,
        challenger: u32,
    ) -> Result<Decision, ConductorError> {
        let in_charge = self.deployed(&run.endpoint).await?.map(|d| d.champion);
        // A restarted run may find its own challenger in charge already; it is compared with whom it replaced.
        let champion = match in_charge {
            Some(version) if version == challenger => run.champion,
            other => other,
        };
        let parts = [
            "gate".to_owned(),
            to_json(&run.spec.gate),
            format!("{champion:?} {challenger}"),
            run.spec.model.to_string(),
            data.holdout.to_string(),
            run.spec.seed.to_string(),
            self.rooms().code_version.clone(),
        ];
        let key = Digest::of_parts(parts.iter().map(String::as_bytes));
        let task = Task { run, name: "gate".into(), key };
        self.step(task, |_| self.decide(run, data, fitted, champion, challenger)).await
    }

    async fn decide(
        &self,
        run: &PipelineRun,
        data: &Built,
        fitted: &Fitted,
        champion: Option<u32>,
        challenger: u32,
    ) -> Result<Decision, ConductorError> {
        let decision = |passed, reason: String, comparison| Decision {
            passed,
            reason,
            challenger,
            champion,
            rows: data.holdout_rows,
            comparison,
        };
        let Some(champion) = champion else {
            return Ok(decision(true, "first version: there is nothing to compare it with".into(), None));
        };
        if champion == challenger {
            let reason = format!("nothing changed: version {challenger} is in service already");
            return Ok(decision(false, reason, None));
        }
        let spec = &run.spec.gate;
        if data.holdout_rows < spec.min_rows {
            let reason = format!("the holdout has {} rows where {} are needed", data.holdout_rows, spec.min_rows);
            return Ok(decision(false, reason, None));
        }
        let bytes = self.rooms().registry.get_blob(&data.holdout).await.asking("read the holdout")?;
        let holdout = storage::from_parquet(bytes).during("read the holdout")?;
        let labels = labels(&holdout)?;
        let score = async |version| {
            let version = ModelRef { model: run.spec.model.clone(), version };
            self.rooms().serving.score(&version, holdout.clone()).await.asking("score the holdout")
        };
        let (old, new) = (score(champion).await?, score(challenger).await?);
        let (confidence, seed) = (spec.confidence, run.spec.seed);
        // Bootstrapping is maths: it does not belong on the threads that wait.
        let compared = tokio::task::spawn_blocking(move || evaluator::compare(&labels, &old, &new, confidence, seed))
            .await
            .map_err(|e| ConductorError::Step(format!("the comparison broke off: {e}")))?
            .asking("compare champion and challenger")?;
        let constant = fitted.metrics.get(metric::BASELINE_LOG_LOSS).copied();
        let (passed, reason) = judge(spec, &compared, constant);
        let comparison = Compared {
            champion_log_loss: compared.champion_log_loss,
            challenger_log_loss: compared.challenger_log_loss,
            gain: compared.gain,
            lower: compared.lower,
            champion_auc: compared.champion_auc,
            challenger_auc: compared.challenger_auc,
        };
        Ok(decision(passed, reason, Some(comparison)))
    }
}

/// `constant` is the log loss of always answering the training rows' rate.
fn judge(spec: &GateSpec, found: &Comparison, constant: Option<f64>) -> (bool, String) {
    let (gain, lower, percent) = (found.gain, found.lower, spec.confidence * 100.0);
    if let Some(constant) = constant.filter(|constant| found.challenger_log_loss >= *constant) {
        let loss = found.challenger_log_loss;
        return (false, format!("log loss {loss:.4} is no better than a constant's {constant:.4}"));
    }
    let rows = found.rows;
    let numbers =
        format!("log loss gain {gain:+.4} on {rows} rows, at least {lower:+.4} with {percent:.1} % confidence");
    if lower > spec.min_gain {
        return (true, numbers);
    }
    (false, format!("{numbers}; more than {} is needed", spec.min_gain))
}

fn labels(holdout: &Frame) -> Result<Vec<bool>, ConductorError> {
    let wrong = |e: FrameError| ConductorError::Step(format!("holdout: {e}"));
    match holdout.require(LABEL).map_err(wrong)? {
        Column::Bool(values) => {
            let whole: Option<Vec<bool>> = values.iter().copied().collect();
            whole.ok_or_else(|| ConductorError::Step("the holdout has rows without a label".into()))
        }
        other => {
            Err(wrong(FrameError::WrongType { name: LABEL.into(), found: other.kind(), expected: ValueType::Bool }))
        }
    }
}
