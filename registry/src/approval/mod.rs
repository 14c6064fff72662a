//! Protected aliases: who may let them move, and what a version must show first.
//!
//! A protected alias moves in one way only: somebody asks, others approve, and with the last approval that is needed the
//! alias moves in the same transaction. Every other way goes through [`protection::free`], which refuses.

mod ask;
mod decide;
mod facts;
mod gate;
mod protection;
mod store;

use domain::{ApprovalId, ModelName, Timestamp, state::ApprovalState};
use serde::{Deserialize, Serialize};

pub use ask::{ApprovalFilter, Ask};
pub use gate::{Gate, GateResult, MetricBound, NotWorse};
pub use protection::{NewProtection, Protection};
pub(crate) use protection::{free, model_free, stage_free, version_free};
pub(crate) use store::{Waiting, supersede};

/// Longest comment or reason, in characters.
pub(crate) const COMMENT_CHARS_MAX: usize = 4_000;

/// A request to point a protected alias at a version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Approval {
    pub id: ApprovalId,
    pub model: ModelName,
    pub alias: String,
    pub version: u32,
    pub state: ApprovalState,
    /// Who asked; never one of those who approve.
    pub asked_by: String,
    pub reason: String,
    pub asked_at: Timestamp,
    /// Number of the journal's event that led to it.
    pub cause: Option<u64>,
    /// Approvals that are needed: as the protection says now, or said when it was decided.
    pub needed: u32,
    /// What people said, in order.
    pub votes: Vec<Vote>,
    /// What each gate found at the last approval.
    pub gates: Vec<GateResult>,
    pub decided_at: Option<Timestamp>,
}

impl Approval {
    /// How many have approved it.
    #[must_use]
    pub fn given(&self) -> u32 {
        let approvals = self.votes.iter().filter(|vote| vote.verdict == Verdict::Approve).count();
        u32::try_from(approvals).unwrap_or(u32::MAX)
    }
}

/// What one person said of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vote {
    pub actor: String,
    pub verdict: Verdict,
    pub comment: String,
    pub at: Timestamp,
}

/// What people can say of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Approve,
    Reject,
    /// Only who asked.
    Withdraw,
}

impl Verdict {
    const ALL: [Self; 3] = [Self::Approve, Self::Reject, Self::Withdraw];

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Approve => "approve",
            Self::Reject => "reject",
            Self::Withdraw => "withdraw",
        }
    }

    /// Reads the form written by `as_str`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|verdict| verdict.as_str() == text)
    }
}

/// One person, however the name is written: `Ada` and `ada ` do not make four eyes.
pub(crate) fn same_person(a: &str, b: &str) -> bool {
    person(a) == person(b)
}

/// The form of a name by which people are told apart.
pub(crate) fn person(name: &str) -> String {
    name.trim().to_lowercase()
}
