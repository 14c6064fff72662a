//! Refused attempts: each kind is told of at once, and counted while it goes on.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use domain::{ErrorCode, EventKind, NewEvent, Timestamp};
use runtime::CancellationToken;
use serde_json::json;

use crate::{Access, AccessError};

/// How often counted attempts are written.
const EVERY: Duration = Duration::from_secs(60);
/// Kinds that are counted apart; what comes beyond is counted together, so that nobody fills the disk or the memory.
const KINDS: usize = 1_024;
/// Wrong tokens that are looked at within a second; who comes beyond is told to come later.
const WRONG_A_SECOND: u32 = 50;

/// What somebody tried and was not let do.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Attempt {
    /// The token's name; `None` where there was none that holds.
    pub who: Option<String>,
    pub from: Option<IpAddr>,
    /// Method and route, as in `DELETE /api/v1/tokens/{id}`: the route, not the path, since those are without number.
    pub call: String,
    pub code: ErrorCode,
}

#[derive(Default)]
pub(crate) struct Refusals(Mutex<Counts>);

#[derive(Default)]
struct Counts {
    /// How often each came since it was last told of.
    kinds: HashMap<Attempt, u64>,
    /// The second that is counted, and the wrong tokens in it.
    second: (i64, u32),
}

impl Counts {
    /// Whether this is the first of its kind, to be told of at once; others are counted.
    fn is_first(&mut self, attempt: &Attempt) -> bool {
        if let Some(times) = self.kinds.get_mut(attempt) {
            *times += 1;
            return false;
        }
        if self.kinds.len() < KINDS {
            self.kinds.insert(attempt.clone(), 0);
            return true;
        }
        let rest = Attempt { who: None, from: None, call: "others".into(), code: attempt.code };
        *self.kinds.entry(rest).or_default() += 1;
        false
    }
}

impl Access {
    /// Whether so many wrong tokens came within this second that no more are looked at; counts this one.
    #[must_use]
    pub fn is_flooded(&self) -> bool {
        let second = self.0.clock.now().micros().div_euclid(1_000_000);
        let mut counts = self.0.refusals.0.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.second.0 != second {
            counts.second = (second, 0);
        }
        counts.second.1 = counts.second.1.saturating_add(1);
        counts.second.1 > WRONG_A_SECOND
    }

    /// Keeps a refused attempt: the first of its kind is in the journal when this returns, more of the same are
    /// counted and told of within a minute.
    ///
    /// # Errors
    /// When the journal cannot be written.
    pub async fn refused(&self, attempt: Attempt) -> Result<(), AccessError> {
        let first = self.0.refusals.0.lock().unwrap_or_else(PoisonError::into_inner).is_first(&attempt);
        if first { self.write(vec![(attempt, 1)]).await } else { Ok(()) }
    }

    /// Writes what was counted, every minute and at the end.
    pub(crate) async fn write_counts(&self, stop: CancellationToken) {
        loop {
            let ended = tokio::time::timeout(EVERY, stop.cancelled()).await.is_ok();
            let counted: Vec<_> = {
                let mut counts = self.0.refusals.0.lock().unwrap_or_else(PoisonError::into_inner);
                counts.kinds.drain().filter(|(_, times)| *times > 0).collect()
            };
            if let Err(error) = self.write(counted).await {
                tracing::error!(%error, "refused attempts could not be written to the journal");
            }
            if let Err(error) = self.write_uses().await {
                tracing::warn!(%error, "last uses of tokens could not be written");
            }
            if ended {
                return;
            }
        }
    }

    async fn write(&self, attempts: Vec<(Attempt, u64)>) -> Result<(), AccessError> {
        if attempts.is_empty() {
            return Ok(());
        }
        let at = self.0.clock.now();
        let mut tx = self.0.meta.begin().await?;
        for (attempt, times) in attempts {
            tx.append(event(at, &attempt, times)).await?;
        }
        Ok(tx.commit().await?)
    }
}

fn event(at: Timestamp, attempt: &Attempt, times: u64) -> NewEvent {
    let who = attempt.who.as_deref().unwrap_or("anonymous");
    NewEvent {
        at,
        kind: EventKind::AccessRefused,
        subject: format!("access/{who}"),
        actor: who.to_owned(),
        cause: None,
        body: json!({"call": attempt.call, "code": attempt.code, "from": attempt.from, "times": times}),
    }
}
