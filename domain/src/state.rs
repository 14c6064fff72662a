//! States and their lawful moves: one pure `next` per machine.

use serde::{Deserialize, Serialize};

/// A move the machine does not allow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{machine} cannot go from {from} on {event}")]
pub struct IllegalMove {
    pub machine: &'static str,
    pub from: String,
    pub event: String,
}

macro_rules! machine {
    ($(#[$doc:meta])* $state:ident on $event:ident as $what:literal {
        states { $($s:ident = $text:literal),+ $(,)? }
        events { $($e:ident),+ $(,)? }
        moves { $( ($from:ident, $on:ident) => $to:ident ),+ $(,)? }
    }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum $state { $( #[serde(rename = $text)] $s ),+ }

        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $event { $($e),+ }

        impl $state {
            pub const ALL: &[Self] = &[$(Self::$s),+];

            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$s => $text),+ }
            }

            /// Reads the form written by `as_str`.
            #[must_use]
            pub fn parse(text: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|s| s.as_str() == text)
            }

            pub fn next(self, event: $event) -> Result<Self, IllegalMove> {
                match (self, event) {
                    $( (Self::$from, $event::$on) => Ok(Self::$to), )+
                    (from, event) => Err(IllegalMove {
                        machine: $what,
                        from: from.as_str().to_owned(),
                        event: format!("{event:?}"),
                    }),
                }
            }

            /// Whether no event leads out of this state.
            #[must_use]
            pub fn is_final(self) -> bool {
                ![$($event::$e),+].into_iter().any(|event| self.next(event).is_ok())
            }
        }
    };
}

machine! {
    /// A tracked run. One that ended may be resumed: a script that is started again goes on in the same run. Any may
    /// be put back to wait for its turn.
    RunState on RunEvent as "run" {
        states {
            Scheduled = "scheduled", Running = "running",
            Finished = "finished", Failed = "failed", Cancelled = "cancelled",
        }
        events { Schedule, Resume, Finish, Break, Stop }
        moves {
            (Scheduled, Resume) => Running,
            (Scheduled, Finish) => Finished,
            (Scheduled, Break) => Failed,
            (Scheduled, Stop) => Cancelled,
            (Running, Finish) => Finished,
            (Running, Break) => Failed,
            (Running, Stop) => Cancelled,
            (Finished, Resume) => Running,
            (Failed, Resume) => Running,
            (Cancelled, Resume) => Running,
            (Running, Schedule) => Scheduled,
            (Finished, Schedule) => Scheduled,
            (Failed, Schedule) => Scheduled,
            (Cancelled, Schedule) => Scheduled,
        }
    }
}

machine! {
    /// A pipeline run: computing steps, then watching a canary, then one of its ends. It is held when its version may
    /// only take over once people approved.
    PipelineRunState on PipelineRunEvent as "pipeline run" {
        states {
            Queued = "queued", Running = "running", Canary = "canary",
            Promoted = "promoted", Refused = "refused", RolledBack = "rolled_back", Held = "held", Failed = "failed",
        }
        events { Start, Refuse, Deploy, Promote, RollBack, Hold, Break }
        moves {
            (Queued, Start) => Running,
            (Queued, Break) => Failed,
            (Running, Refuse) => Refused,
            (Running, Deploy) => Canary,
            (Running, Promote) => Promoted,
            (Running, Hold) => Held,
            (Running, Break) => Failed,
            (Canary, Hold) => Held,
            (Canary, Promote) => Promoted,
            (Canary, RollBack) => RolledBack,
            (Canary, Break) => Failed,
        }
    }
}

machine! {
    /// A step of a pipeline run.
    StepState on StepEvent as "step" {
        states { Waiting = "waiting", Running = "running", Done = "done", Reused = "reused", Failed = "failed" }
        events { Start, Finish, Reuse, Break, Restart }
        moves {
            (Waiting, Start) => Running,
            (Waiting, Reuse) => Reused,
            (Running, Finish) => Done,
            (Running, Break) => Failed,
            (Running, Restart) => Running,
        }
    }
}

machine! {
    /// An alert.
    AlertState on AlertEvent as "alert" {
        states { Open = "open", Cleared = "cleared" }
        events { Clear }
        moves { (Open, Clear) => Cleared }
    }
}

machine! {
    /// A review task.
    TaskState on TaskEvent as "review task" {
        states { Queued = "queued", Answered = "answered", Withdrawn = "withdrawn" }
        events { Answer, Withdraw }
        moves {
            (Queued, Answer) => Answered,
            (Queued, Withdraw) => Withdrawn,
        }
    }
}

machine! {
    /// A request to move a protected alias. It is superseded when the alias moved, lost its protection, or the version
    /// is gone.
    ApprovalState on ApprovalEvent as "approval request" {
        states {
            Pending = "pending", Approved = "approved", Rejected = "rejected", Withdrawn = "withdrawn",
            Superseded = "superseded",
        }
        events { Approve, Reject, Withdraw, Supersede }
        moves {
            (Pending, Approve) => Approved,
            (Pending, Reject) => Rejected,
            (Pending, Withdraw) => Withdrawn,
            (Pending, Supersede) => Superseded,
        }
    }
}

machine! {
    /// An event on its way to a webhook's receiver.
    DeliveryState on DeliveryEvent as "delivery" {
        states { Waiting = "waiting", Delivered = "delivered", Failed = "failed" }
        events { Deliver, GiveUp }
        moves {
            (Waiting, Deliver) => Delivered,
            (Waiting, GiveUp) => Failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_ends_in_one_way_and_may_be_resumed() {
        for end in [RunState::Finished, RunState::Failed, RunState::Cancelled] {
            assert!([RunEvent::Finish, RunEvent::Break, RunEvent::Stop].iter().all(|event| end.next(*event).is_err()));
            assert_eq!(end.next(RunEvent::Resume), Ok(RunState::Running));
        }
        assert_eq!(RunState::Running.next(RunEvent::Finish), Ok(RunState::Finished));
    }

    #[test]
    fn a_refused_challenger_is_never_promoted() {
        assert!(PipelineRunState::Refused.next(PipelineRunEvent::Promote).is_err());
        assert_eq!(PipelineRunState::parse("rolled_back"), Some(PipelineRunState::RolledBack));
    }

    #[test]
    fn an_approval_request_is_decided_once() {
        use ApprovalEvent as E;
        for end in &ApprovalState::ALL[1..] {
            assert!(end.is_final(), "{}", end.as_str());
            assert!([E::Approve, E::Reject, E::Withdraw, E::Supersede].iter().all(|event| end.next(*event).is_err()));
        }
        assert_eq!(ApprovalState::Pending.next(E::Approve), Ok(ApprovalState::Approved));
    }
}
