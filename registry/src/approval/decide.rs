//! What people say of a request, and what comes of it.

use domain::{
    ApprovalId, EventKind, ModelName, ModelRef, NewEvent,
    state::{ApprovalEvent, ApprovalState},
};
use serde_json::json;
use storage::{Tx, sql::Conn};

use super::{Approval, COMMENT_CHARS_MAX, GateResult, Protection, Verdict, Vote, facts::Facts, same_person, store};
use crate::{AliasMove, Registry, RegistryError, Stage, alias, check, stage, version};

impl Registry {
    /// Says something of a request. The last approval that is needed moves the alias, in the same transaction; one
    /// rejection ends it. Said again by the same person, it changes nothing.
    ///
    /// # Errors
    /// An unknown request, one that is decided; an approval by who asked, or of a version that does not pass the gates;
    /// a withdrawal by another.
    pub async fn decide_approval(
        &self,
        model: &ModelName,
        id: &ApprovalId,
        verdict: Verdict,
        actor: &str,
        comment: &str,
    ) -> Result<Approval, RegistryError> {
        check::text("actor", actor, 1)?;
        check::within("comment", comment, COMMENT_CHARS_MAX)?;
        let now = self.now();
        let mut tx = self.begin().await?;
        version::newest(tx.conn(), model).await?;
        let asked = store::approval(tx.conn(), model, id).await?;
        let own = same_person(actor, &asked.asked_by);
        match (verdict, own) {
            (Verdict::Approve, true) => {
                let problem = format!("`{actor}` asked for this, so another has to approve it");
                return Err(RegistryError::Denied { problem, hint: "four eyes: let somebody else look at it" });
            }
            (Verdict::Withdraw, false) => {
                let problem = format!("`{}` asked for this, so only they can withdraw it", asked.asked_by);
                return Err(RegistryError::Denied { problem, hint: "reject it instead" });
            }
            _ => {}
        }
        let said = asked.votes.iter().find(|vote| same_person(&vote.actor, actor)).map(|vote| vote.verdict);
        if said == Some(verdict) && asked.state != ApprovalState::Pending {
            return Ok(asked);
        }
        let vote = Vote { actor: actor.trim().to_owned(), verdict, comment: comment.to_owned(), at: now };
        match verdict {
            Verdict::Approve => approve(&mut tx, asked, vote, said.is_some()).await?,
            Verdict::Reject => end(&mut tx, asked, vote, ApprovalEvent::Reject, EventKind::ApprovalRejected).await?,
            Verdict::Withdraw => {
                end(&mut tx, asked, vote, ApprovalEvent::Withdraw, EventKind::ApprovalWithdrawn).await?;
            }
        }
        let decided = store::approval(tx.conn(), model, id).await?;
        tx.commit().await?;
        Ok(decided)
    }
}

/// Ends a request without moving anything.
async fn end(
    tx: &mut Tx,
    mut asked: Approval,
    vote: Vote,
    event: ApprovalEvent,
    kind: EventKind,
) -> Result<(), RegistryError> {
    asked.state = asked.state.next(event)?;
    asked.decided_at = Some(vote.at);
    store::vote(tx.conn(), &asked.id, &vote).await?;
    store::update(tx.conn(), &asked).await?;
    tell(tx, &asked, &vote, kind, None).await.map(drop)
}

async fn approve(tx: &mut Tx, mut asked: Approval, vote: Vote, again: bool) -> Result<(), RegistryError> {
    let decided = asked.state.next(ApprovalEvent::Approve)?;
    let reference = ModelRef { model: asked.model.clone(), version: asked.version };
    let protection = store::protection(tx.conn(), &asked.model, &asked.alias)
        .await?
        .ok_or_else(|| RegistryError::NotProtected { model: asked.model.clone(), alias: asked.alias.clone() })?;
    asked.gates = pass(tx.conn(), &protection, &reference).await?;
    asked.needed = protection.rule.approvals;
    if !again {
        store::vote(tx.conn(), &asked.id, &vote).await?;
        asked.votes.push(vote.clone());
    }
    if asked.given() < asked.needed {
        store::update(tx.conn(), &asked).await?;
        if !again {
            tell(tx, &asked, &vote, EventKind::ApprovalGiven, None).await?;
        }
        return Ok(());
    }
    asked.state = decided;
    asked.decided_at = Some(vote.at);
    store::update(tx.conn(), &asked).await?;
    let from = alias::current(tx.conn(), &asked.model, &asked.alias).await?;
    let cause = tell(tx, &asked, &vote, EventKind::ApprovalApproved, from).await?;
    let moved = AliasMove {
        model: asked.model.clone(),
        alias: asked.alias.clone(),
        version: asked.version,
        actor: vote.actor.clone(),
        reason: asked.reason.clone(),
        cause: Some(cause),
    };
    alias::point(tx, moved, from, vote.at).await?;
    if let Some(stage) = Stage::named(&asked.alias) {
        stage::shift(tx, &reference, stage, true, vote.at).await?;
    }
    let others = store::Waiting { model: &asked.model, alias: Some(&asked.alias), version: None };
    store::supersede(tx, &others, "the alias moved", &vote.actor, vote.at, Some(cause)).await
}

/// What every gate found; fails when one of them does not let the version through.
async fn pass(conn: &mut Conn, protection: &Protection, version: &ModelRef) -> Result<Vec<GateResult>, RegistryError> {
    let facts = Facts::of(conn, version).await?;
    without_code(protection, version, &facts)?;
    let current = match alias::current(conn, &protection.model, &protection.alias).await? {
        Some(number) => Some(Facts::of(conn, &ModelRef { model: version.model.clone(), version: number }).await?),
        None => None,
    };
    let found: Vec<_> = protection.rule.gates.iter().map(|gate| gate.judge(&facts, current.as_ref())).collect();
    let failed: Vec<_> =
        found.iter().filter(|one| !one.passed).map(|one| format!("{}: {}", one.gate, one.found)).collect();
    if failed.is_empty() {
        return Ok(found);
    }
    Err(RegistryError::GatesClosed { version: version.clone(), alias: protection.alias.clone(), failed })
}

/// Fails for a version whose files carry code, unless the protection lets that through.
pub(super) fn without_code(protection: &Protection, version: &ModelRef, facts: &Facts) -> Result<(), RegistryError> {
    match &facts.unsafe_reason {
        Some(reason) if !protection.rule.allow_unsafe => Err(RegistryError::GatesClosed {
            version: version.clone(),
            alias: protection.alias.clone(),
            failed: vec![format!("its files carry code, which the protection does not let through: {reason}")],
        }),
        _ => Ok(()),
    }
}

/// Appends what became of a request, with everything that led to it.
async fn tell(
    tx: &mut Tx,
    asked: &Approval,
    vote: &Vote,
    kind: EventKind,
    from: Option<u32>,
) -> Result<u64, RegistryError> {
    let approved_by: Vec<_> = asked.votes.iter().filter(|one| one.verdict == Verdict::Approve).collect();
    let event = NewEvent {
        at: vote.at,
        kind,
        subject: alias::subject(&asked.model, &asked.alias),
        actor: vote.actor.clone(),
        cause: asked.cause,
        body: json!({
            "request": asked.id, "model": asked.model, "alias": asked.alias, "version": asked.version, "from": from,
            "asked_by": asked.asked_by, "reason": asked.reason, "comment": vote.comment, "needed": asked.needed,
            "given": asked.given(), "approved_by": approved_by, "gates": asked.gates,
        }),
    };
    Ok(tx.append(event).await?)
}
