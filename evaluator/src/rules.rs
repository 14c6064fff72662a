//! When a window counts as bad, and how many bad windows make an alert.

use std::collections::{BTreeMap, VecDeque};

use domain::definition::Persistence;
use serde::{Deserialize, Serialize};

/// What is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// The champion's log loss exceeds that on its training holdout.
    LogLossRise,
    /// The champion's mean score differs from the observed rate.
    Bias,
    /// The champion's inputs drifted, weighted by their importance.
    WeightedPsi,
}

impl Rule {
    pub const ALL: [Self; 3] = [Self::LogLossRise, Self::Bias, Self::WeightedPsi];

    /// The rule as it stands in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::LogLossRise => "log_loss_rise",
            Self::Bias => "bias",
            Self::WeightedPsi => "weighted_psi",
        }
    }

    /// Reads the form written by `as_str`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|rule| rule.as_str() == text)
    }
}

/// What a rule says of one window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Fired,
    Quiet,
    /// Too few rows to tell: neither bad nor good.
    InsufficientData,
}

/// A rule applied to one window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RuleOutcome {
    pub rule: Rule,
    pub verdict: Verdict,
    /// What was measured: the rise of log loss, mean score less rate, or the weighted PSI.
    pub value: Option<f64>,
    /// What `value` (bias: its size) must exceed to fire.
    pub limit: f64,
    /// Chance of a value this large if nothing had changed; absent where the rule has no test.
    pub p: Option<f64>,
}

/// Below this, chance is ruled out.
pub(crate) const SIGNIFICANCE: f64 = 0.01;

impl RuleOutcome {
    /// Judges a measured value: large enough, and beyond chance where there is a test.
    pub(crate) fn judge(rule: Rule, value: f64, limit: f64, p: Option<f64>) -> Self {
        let large = if rule == Rule::Bias { value.abs() > limit } else { value > limit };
        let fired = large && p.is_none_or(|p| p < SIGNIFICANCE);
        Self { rule, verdict: if fired { Verdict::Fired } else { Verdict::Quiet }, value: Some(value), limit, p }
    }

    pub(crate) const fn insufficient(rule: Rule, limit: f64) -> Self {
        Self { rule, verdict: Verdict::InsufficientData, value: None, limit, p: None }
    }
}

/// The last verdicts of every rule since the champion took over.
#[derive(Debug, Clone, Default)]
pub(crate) struct History(BTreeMap<Rule, VecDeque<Verdict>>);

/// What the last windows together say of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Enough of them fired, the newest among them.
    Persistent,
    /// All of them were quiet.
    Calm,
    Undecided,
}

impl History {
    /// Notes the newest window's verdict and says where the rule stands.
    pub(crate) fn note(&mut self, outcome: &RuleOutcome, persistence: Persistence) -> Standing {
        let of = persistence.of.max(persistence.fired).max(1) as usize;
        let verdicts = self.0.entry(outcome.rule).or_default();
        verdicts.push_back(outcome.verdict);
        while verdicts.len() > of {
            verdicts.pop_front();
        }
        let count = |verdict| verdicts.iter().filter(|v| **v == verdict).count();
        if outcome.verdict == Verdict::Fired && count(Verdict::Fired) >= persistence.fired.max(1) as usize {
            Standing::Persistent
        } else if count(Verdict::Quiet) == of {
            Standing::Calm
        } else {
            Standing::Undecided
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standings(persistence: Persistence, verdicts: &[Verdict]) -> Vec<Standing> {
        let mut history = History::default();
        let note = |verdict: &Verdict| {
            let outcome = RuleOutcome { verdict: *verdict, ..RuleOutcome::insufficient(Rule::Bias, 0.1) };
            history.note(&outcome, persistence)
        };
        verdicts.iter().map(note).collect()
    }

    #[test]
    fn two_of_three_windows_are_needed_and_three_quiet_ones_calm() {
        use {Standing as S, Verdict as V};
        let seen = standings(
            Persistence { fired: 2, of: 3 },
            &[V::Fired, V::Quiet, V::Fired, V::Quiet, V::Quiet, V::Quiet, V::Fired],
        );
        let expected = [S::Undecided, S::Undecided, S::Persistent, S::Undecided, S::Undecided, S::Calm, S::Undecided];
        assert_eq!(seen, expected);
    }

    #[test]
    fn windows_without_enough_data_neither_fire_nor_calm() {
        use {Standing as S, Verdict as V};
        let none = V::InsufficientData;
        let seen = standings(Persistence { fired: 1, of: 2 }, &[none, none, V::Quiet, none, V::Fired]);
        assert_eq!(seen, [S::Undecided, S::Undecided, S::Undecided, S::Undecided, S::Persistent]);
    }

    #[test]
    fn a_change_must_be_large_and_beyond_chance() {
        let verdict = |value, p| RuleOutcome::judge(Rule::Bias, value, 0.03, p).verdict;
        assert_eq!(verdict(-0.05, Some(0.001)), Verdict::Fired);
        assert_eq!(verdict(-0.05, Some(0.2)), Verdict::Quiet);
        assert_eq!(verdict(0.02, Some(1e-9)), Verdict::Quiet);
        assert_eq!(RuleOutcome::judge(Rule::WeightedPsi, 0.5, 0.2, None).verdict, Verdict::Fired);
        assert_eq!(RuleOutcome::judge(Rule::LogLossRise, -0.5, 0.02, Some(1.0)).verdict, Verdict::Quiet);
    }
}
