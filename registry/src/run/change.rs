//! Changing a run: its state, its name, whether it is deleted.

use domain::{
    EventKind, RunId, Timestamp,
    state::{IllegalMove, RunEvent, RunState},
};
use serde_json::json;
use storage::sql::Conn;

use super::{NAME_TAG, Run, add_tags, find, load, note};
use crate::{Registry, RegistryError, check};

/// What to change of a run; what is `None` stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunChange {
    /// Any state may follow any: a run that ended is resumed on the way.
    pub state: Option<RunState>,
    /// When it ended; now, if it ends and this is `None`.
    pub ended_at: Option<Timestamp>,
    pub name: Option<String>,
}

impl Registry {
    /// Changes a run and gives it as it then stands, without its parameters, tags and metrics. Saying the same again
    /// changes nothing.
    ///
    /// # Errors
    /// An unknown or deleted run, or a bad name.
    pub async fn update_run(&self, run: &RunId, change: RunChange) -> Result<Run, RegistryError> {
        let now = self.now();
        let mut tx = self.begin().await?;
        let mut found = load::bare(tx.conn(), run).await?;
        if found.deleted_at.is_some() {
            return Err(RegistryError::Deleted { what: "run", name: run.to_string() });
        }
        if let Some(name) = change.name
            && rename(tx.conn(), run, &name).await?
        {
            add_tags(tx.conn(), run, &[(NAME_TAG.to_owned(), name.clone())].into()).await?;
            note(&mut tx, now, EventKind::RunChanged, run, None, json!({"name": name})).await?;
            found.name = name;
        }
        let (before, known) = (found.state, found.ended_at);
        let after = reach(before, change.state.unwrap_or(before))?;
        let ended_at = change.ended_at.or(if after == before { known } else { ended(after).then_some(now) });
        if (after, ended_at) != (before, known) {
            store(tx.conn(), run, after, ended_at).await?;
        }
        if after != before {
            let kind = if ended(after) { EventKind::RunFinished } else { EventKind::RunChanged };
            note(&mut tx, now, kind, run, found.cause, json!({"state": after})).await?;
        }
        tx.commit().await?;
        Ok(Run { state: after, ended_at, ..found })
    }

    /// Deletes a run; it can be restored. Deleting it again changes nothing.
    pub async fn delete_run(&self, run: &RunId) -> Result<(), RegistryError> {
        self.set_deleted(run, true).await
    }

    /// Brings back a deleted run. Restoring an active one changes nothing.
    pub async fn restore_run(&self, run: &RunId) -> Result<(), RegistryError> {
        self.set_deleted(run, false).await
    }

    async fn set_deleted(&self, run: &RunId, deleted: bool) -> Result<(), RegistryError> {
        let now = self.now();
        let mut tx = self.begin().await?;
        let (_, deleted_at) = find(tx.conn(), run).await?;
        if deleted_at.is_some() == deleted {
            return Ok(());
        }
        sqlx::query("UPDATE registry_runs SET deleted_at = $2 WHERE id = $1")
            .bind(run.to_string())
            .bind(deleted.then_some(now.micros()))
            .execute(tx.conn())
            .await?;
        note(&mut tx, now, EventKind::RunChanged, run, None, json!({"deleted": deleted})).await?;
        Ok(tx.commit().await?)
    }
}

const fn ended(state: RunState) -> bool {
    match state {
        RunState::Scheduled | RunState::Running => false,
        RunState::Finished | RunState::Failed | RunState::Cancelled => true,
    }
}

/// Goes from one state to another, by way of running where there is no way straight.
fn reach(from: RunState, to: RunState) -> Result<RunState, IllegalMove> {
    if from == to {
        return Ok(to);
    }
    let last = match to {
        RunState::Scheduled => RunEvent::Schedule,
        RunState::Running => RunEvent::Resume,
        RunState::Finished => RunEvent::Finish,
        RunState::Failed => RunEvent::Break,
        RunState::Cancelled => RunEvent::Stop,
    };
    from.next(last).or_else(|_| from.next(RunEvent::Resume)?.next(last))
}

/// Gives a run another name, without the tag that says it; whether it was another.
pub(super) async fn rename(conn: &mut Conn, run: &RunId, name: &str) -> Result<bool, RegistryError> {
    check::text("run name", name, 1)?;
    let changed = sqlx::query("UPDATE registry_runs SET name = $2 WHERE id = $1 AND name <> $2")
        .bind(run.to_string())
        .bind(name)
        .execute(conn)
        .await?;
    Ok(changed.rows_affected() > 0)
}

pub(super) async fn store(
    conn: &mut Conn,
    run: &RunId,
    state: RunState,
    ended_at: Option<Timestamp>,
) -> Result<(), RegistryError> {
    sqlx::query("UPDATE registry_runs SET state = $2, ended_at = $3 WHERE id = $1")
        .bind(run.to_string())
        .bind(state.as_str())
        .bind(ended_at.map(Timestamp::micros))
        .execute(conn)
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_may_follow_every_other() {
        for from in RunState::ALL {
            for to in RunState::ALL {
                assert_eq!(reach(*from, *to), Ok(*to));
            }
        }
    }
}
