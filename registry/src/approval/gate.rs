//! Gates: checks over what the registry knows of a version. Pure; a fact that is missing fails, with its reason.

use serde::{Deserialize, Serialize};

use super::facts::Facts;
use crate::{RegistryError, check};

/// A check that a version must pass at the moment of each approval.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gate {
    /// A metric of the version, or of the run that made it, lies within a bound.
    Metric(MetricBound),
    /// A metric is not worse than that of the version the alias points at now.
    NotWorseThanCurrent(NotWorse),
    /// Every file is known here and none carries code.
    SafeFormat(bool),
    /// It says which columns it reads and writes.
    HasSignature(bool),
    /// The run that made it and the data which that run read are known.
    HasLineage(bool),
}

/// Bounds of a metric, both inclusive; at least one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MetricBound {
    pub key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_least: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_most: Option<f64>,
}

/// How a metric is held against the version that is there now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NotWorse {
    pub key: String,
    pub greater_is_better: bool,
    /// How much worse it may be, in units of the metric.
    #[serde(default)]
    pub tolerance: f64,
}

/// What a gate found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GateResult {
    /// The gate in words.
    pub gate: String,
    pub passed: bool,
    pub found: String,
}

impl Gate {
    /// Refuses a gate that says nothing or cannot be met.
    pub(super) fn check(&self) -> Result<(), RegistryError> {
        let refuse = |problem: &str, hint| Err(RegistryError::invalid(format!("gate {self}"), problem, hint));
        match self {
            Self::Metric(bound) => {
                check::key("metric", &bound.key)?;
                match (bound.at_least, bound.at_most) {
                    (None, None) => refuse("has no bound", "give `at_least`, `at_most` or both"),
                    (Some(least), Some(most)) if least > most => {
                        refuse("can never pass", "let `at_least` be at most `at_most`")
                    }
                    _ => Ok(()),
                }
            }
            Self::NotWorseThanCurrent(rule) => {
                check::key("metric", &rule.key)?;
                if rule.tolerance < 0.0 {
                    return refuse("has a negative tolerance", "give 0 or how much worse it may be");
                }
                Ok(())
            }
            Self::SafeFormat(true) | Self::HasSignature(true) | Self::HasLineage(true) => Ok(()),
            Self::SafeFormat(false) | Self::HasSignature(false) | Self::HasLineage(false) => {
                refuse("is switched off", "leave the gate out, or set it to true")
            }
        }
    }

    /// Looks at a version, and at the one that the alias points at now.
    pub(super) fn judge(&self, candidate: &Facts, current: Option<&Facts>) -> GateResult {
        let verdict = match self {
            Self::Metric(bound) => candidate.metric(&bound.key).and_then(|value| within(bound, value)),
            Self::NotWorseThanCurrent(rule) => {
                candidate.metric(&rule.key).and_then(|value| not_worse(rule, value, current))
            }
            Self::SafeFormat(_) => match (&candidate.unsafe_reason, candidate.files_known) {
                (Some(reason), _) => Err(format!("it carries code: {reason}")),
                (None, false) => Err("its files lie on another server, so nobody looked into them".to_owned()),
                (None, true) => Ok("no file carries code".to_owned()),
            },
            Self::HasSignature(_) => known(candidate.signature, "the signature"),
            Self::HasLineage(_) => match (candidate.run, candidate.dataset) {
                (false, _) => Err("the run that made it is not known".to_owned()),
                (true, false) => Err("the data that its run read is not known".to_owned()),
                (true, true) => Ok("run and data are known".to_owned()),
            },
        };
        let passed = verdict.is_ok();
        GateResult { gate: self.to_string(), passed, found: verdict.unwrap_or_else(|reason| reason) }
    }
}

fn known(there: bool, what: &str) -> Result<String, String> {
    if there { Ok(format!("{what} is known")) } else { Err(format!("{what} is not known")) }
}

fn within(bound: &MetricBound, value: f64) -> Result<String, String> {
    let above = bound.at_least.is_none_or(|least| value >= least);
    let below = bound.at_most.is_none_or(|most| value <= most);
    let found = format!("{} is {value}", bound.key);
    if above && below { Ok(found) } else { Err(found) }
}

fn not_worse(rule: &NotWorse, value: f64, current: Option<&Facts>) -> Result<String, String> {
    let Some(current) = current else { return Ok("the alias points at no version yet".to_owned()) };
    let before = current.metric(&rule.key).map_err(|reason| format!("the version there now: {reason}"))?;
    let holds =
        if rule.greater_is_better { value >= before - rule.tolerance } else { value <= before + rule.tolerance };
    let found = format!("{} is {value}, and {before} of the version there now", rule.key);
    if holds { Ok(found) } else { Err(found) }
}

impl std::fmt::Display for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Metric(MetricBound { key, at_least, at_most }) => {
                write!(f, "metric `{key}`")?;
                if let Some(least) = at_least {
                    write!(f, " at least {least}")?;
                }
                if let Some(most) = at_most {
                    write!(f, " at most {most}")?;
                }
                Ok(())
            }
            Self::NotWorseThanCurrent(rule) => {
                let better = if rule.greater_is_better { "greater" } else { "less" };
                write!(
                    f,
                    "`{}` not worse than the current version's ({better} is better, tolerance {})",
                    rule.key, rule.tolerance
                )
            }
            Self::SafeFormat(_) => f.write_str("safe format"),
            Self::HasSignature(_) => f.write_str("has a signature"),
            Self::HasLineage(_) => f.write_str("has lineage"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(metrics: &[(&str, f64)]) -> Facts {
        Facts {
            metrics: metrics.iter().map(|(key, value)| ((*key).to_owned(), *value)).collect(),
            files_known: true,
            signature: true,
            run: true,
            dataset: true,
            ..Facts::default()
        }
    }

    fn passes(gate: &str, candidate: &Facts, current: Option<&Facts>) -> bool {
        let gate: Gate = serde_json::from_str(gate).unwrap();
        gate.check().unwrap();
        gate.judge(candidate, current).passed
    }

    #[test]
    fn a_metric_is_held_to_its_bounds() {
        let gate = r#"{"metric": {"key": "auc", "at_least": 0.7, "at_most": 0.9}}"#;
        for (value, passed) in
            [(0.7, true), (0.9, true), (0.699, false), (0.91, false), (f64::NAN, false), (f64::INFINITY, false)]
        {
            assert_eq!(passes(gate, &facts(&[("auc", value)]), None), passed, "{value}");
        }
        assert!(!passes(gate, &facts(&[("loss", 0.8)]), None), "an absent metric fails");
    }

    #[test]
    fn a_version_is_held_against_the_one_that_is_there() {
        let less = r#"{"not_worse_than_current": {"key": "loss", "greater_is_better": false, "tolerance": 0.01}}"#;
        let more = r#"{"not_worse_than_current": {"key": "loss", "greater_is_better": true}}"#;
        let now = facts(&[("loss", 0.5)]);
        for (value, as_loss, as_gain) in
            [(0.5, true, true), (0.51, true, true), (0.52, false, true), (0.49, true, false)]
        {
            let candidate = facts(&[("loss", value)]);
            assert_eq!(
                (passes(less, &candidate, Some(&now)), passes(more, &candidate, Some(&now))),
                (as_loss, as_gain),
                "{value}"
            );
        }
        assert!(passes(less, &facts(&[("loss", 9.0)]), None), "the first has nobody to be worse than");
        for unknown in [facts(&[]), facts(&[("loss", f64::NAN)])] {
            assert!(!passes(less, &facts(&[("loss", 0.1)]), Some(&unknown)));
            assert!(!passes(less, &unknown, Some(&now)));
        }
    }

    #[test]
    fn what_is_not_known_fails() {
        let all = facts(&[]);
        let gates = [r#"{"safe_format": true}"#, r#"{"has_signature": true}"#, r#"{"has_lineage": true}"#];
        assert!(gates.iter().all(|gate| passes(gate, &all, None)));
        assert!(gates.iter().all(|gate| !passes(gate, &Facts::default(), None)));
        let code = Facts { unsafe_reason: Some("`m.pkl` is a pickle".into()), ..facts(&[]) };
        assert!(!passes(gates[0], &code, None));
        assert!(!passes(gates[2], &Facts { dataset: false, ..facts(&[]) }, None));
    }

    #[test]
    fn a_gate_that_says_nothing_is_refused() {
        for bad in [
            r#"{"metric": {"key": "auc"}}"#,
            r#"{"metric": {"key": "", "at_least": 1}}"#,
            r#"{"metric": {"key": "auc", "at_least": 2, "at_most": 1}}"#,
            r#"{"not_worse_than_current": {"key": "auc", "greater_is_better": true, "tolerance": -1}}"#,
            r#"{"has_lineage": false}"#,
        ] {
            assert!(serde_json::from_str::<Gate>(bad).unwrap().check().is_err(), "{bad}");
        }
        for unread in [r#"{"metric": {"key": "auc", "atleast": 1}}"#, r#"{"is_pretty": true}"#, r#""safe_format""#] {
            assert!(serde_json::from_str::<Gate>(unread).is_err(), "{unread}");
        }
    }
}
