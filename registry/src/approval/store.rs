//! The rows of protections, requests and votes.

use std::collections::HashMap;

use domain::{
    ApprovalId, EventKind, ModelName, NewEvent, Timestamp,
    state::{ApprovalEvent, ApprovalState},
};
use serde_json::json;
use storage::{Tx, sql::Conn};

use super::{Approval, GateResult, Protection, Verdict, Vote, person, protection::Row};
use crate::{
    RegistryError, alias,
    query::{KEYS_AT_ONCE, Statement},
    row,
};

const PROTECTIONS: &str =
    "SELECT model, alias, approvals, gates, allow_unsafe, reason, actor, since FROM registry_protections";

pub(super) async fn protection(
    conn: &mut Conn,
    model: &ModelName,
    alias: &str,
) -> Result<Option<Protection>, RegistryError> {
    let mut statement = Statement::new(PROTECTIONS);
    statement.push(" WHERE model = ").bind(model.as_str()).push(" AND alias = ").bind(alias);
    statement.query_as::<Row>().fetch_optional(conn).await?.map(Row::read).transpose()
}

pub(super) async fn protections(conn: &mut Conn, model: &ModelName) -> Result<Vec<Protection>, RegistryError> {
    let mut statement = Statement::new(PROTECTIONS);
    statement.push(" WHERE model = ").bind(model.as_str()).push(" ORDER BY alias");
    statement.query_as::<Row>().fetch_all(conn).await?.into_iter().map(Row::read).collect()
}

pub(super) async fn put_protection(conn: &mut Conn, new: &Protection) -> Result<(), RegistryError> {
    sqlx::query(
        "INSERT INTO registry_protections (model, alias, approvals, gates, allow_unsafe, reason, actor, since)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
         ON CONFLICT (model, alias) DO UPDATE SET approvals = excluded.approvals, gates = excluded.gates,
             allow_unsafe = excluded.allow_unsafe, reason = excluded.reason, actor = excluded.actor,
             since = excluded.since",
    )
    .bind(new.model.as_str())
    .bind(&new.alias)
    .bind(i64::from(new.rule.approvals))
    .bind(row::to_json(&new.rule.gates))
    .bind(new.rule.allow_unsafe)
    .bind(&new.rule.reason)
    .bind(&new.actor)
    .bind(new.since.micros())
    .execute(conn)
    .await?;
    Ok(())
}

/// False where there was none.
pub(super) async fn drop_protection(conn: &mut Conn, model: &ModelName, alias: &str) -> Result<bool, RegistryError> {
    let done = sqlx::query("DELETE FROM registry_protections WHERE model = $1 AND alias = $2")
        .bind(model.as_str())
        .bind(alias)
        .execute(conn)
        .await?;
    Ok(done.rows_affected() > 0)
}

#[derive(sqlx::FromRow)]
struct Asked {
    id: String,
    model: String,
    alias: String,
    version: i64,
    state: String,
    asked_by: String,
    reason: String,
    asked_at: i64,
    cause: Option<i64>,
    needed: i64,
    gates: String,
    decided_at: Option<i64>,
}

impl Asked {
    fn read(self) -> Result<Approval, RegistryError> {
        let unknown = || RegistryError::Damaged { what: "approval request", detail: format!("state `{}`", self.state) };
        Ok(Approval {
            state: ApprovalState::parse(&self.state).ok_or_else(unknown)?,
            id: row::parse(&self.id, "approval request")?,
            model: row::parse(&self.model, "approval request")?,
            alias: self.alias,
            version: row::uncount(self.version, "approval request")?,
            asked_by: self.asked_by,
            reason: self.reason,
            asked_at: Timestamp::from_micros(self.asked_at),
            cause: self.cause.map(|cause| row::uncount(cause, "cause")).transpose()?,
            needed: row::uncount(self.needed, "approval request")?,
            votes: Vec::new(),
            gates: row::from_json::<Vec<GateResult>>(&self.gates, "approval request")?,
            decided_at: self.decided_at.map(Timestamp::from_micros),
        })
    }
}

/// Requests with their votes. `conditions` continues a statement after `WHERE`, with `r` for the request.
pub(super) async fn approvals(
    conn: &mut Conn,
    conditions: impl FnOnce(&mut Statement),
) -> Result<Vec<Approval>, RegistryError> {
    // What waits is judged by the rule of today.
    let mut statement = Statement::new(
        "SELECT r.id, r.model, r.alias, r.version, r.state, r.asked_by, r.reason, r.asked_at, r.cause,
             CASE WHEN r.state = 'pending' THEN COALESCE(p.approvals, r.needed) ELSE r.needed END AS needed,
             r.gates, r.decided_at
         FROM registry_approvals r LEFT JOIN registry_protections p ON p.model = r.model AND p.alias = r.alias WHERE ",
    );
    conditions(&mut statement);
    let asked: Vec<Asked> = statement.query_as().fetch_all(&mut *conn).await?;
    let mut found = asked.into_iter().map(Asked::read).collect::<Result<Vec<_>, _>>()?;
    let places: HashMap<String, usize> = found.iter().enumerate().map(|(n, one)| (one.id.to_string(), n)).collect();
    let ids: Vec<String> = found.iter().map(|one| one.id.to_string()).collect();
    for ids in ids.chunks(KEYS_AT_ONCE) {
        let mut votes =
            Statement::new("SELECT approval, actor, verdict, comment, at FROM registry_votes WHERE approval IN (");
        votes.bind_all(ids.iter().map(String::as_str)).push(") ORDER BY approval, at, person");
        let votes: Vec<(String, String, String, String, i64)> = votes.query_as().fetch_all(&mut *conn).await?;
        for (id, actor, verdict, comment, at) in votes {
            let unknown = || RegistryError::Damaged { what: "vote", detail: format!("verdict `{verdict}`") };
            let verdict = Verdict::parse(&verdict).ok_or_else(unknown)?;
            if let Some(place) = places.get(&id) {
                found[*place].votes.push(Vote { actor, verdict, comment, at: Timestamp::from_micros(at) });
            }
        }
    }
    Ok(found)
}

/// A request of a model.
pub(super) async fn approval(conn: &mut Conn, model: &ModelName, id: &ApprovalId) -> Result<Approval, RegistryError> {
    let found = approvals(conn, |statement| {
        statement.push("r.model = ").bind(model.as_str()).push(" AND r.id = ").bind(id.to_string());
    });
    let missing = || RegistryError::NoSuch { what: "approval request", name: id.to_string() };
    found.await?.pop().ok_or_else(missing)
}

pub(super) async fn insert(conn: &mut Conn, new: &Approval) -> Result<(), RegistryError> {
    sqlx::query(
        "INSERT INTO registry_approvals
             (id, model, alias, version, state, asked_by, reason, asked_at, cause, needed, gates)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
    )
    .bind(new.id.to_string())
    .bind(new.model.as_str())
    .bind(&new.alias)
    .bind(i64::from(new.version))
    .bind(new.state.as_str())
    .bind(&new.asked_by)
    .bind(&new.reason)
    .bind(new.asked_at.micros())
    .bind(new.cause.map(row::count))
    .bind(i64::from(new.needed))
    .bind(row::to_json(&new.gates))
    .execute(conn)
    .await?;
    Ok(())
}

/// Writes where a request stands.
pub(super) async fn update(conn: &mut Conn, changed: &Approval) -> Result<(), RegistryError> {
    sqlx::query("UPDATE registry_approvals SET state = $2, needed = $3, gates = $4, decided_at = $5 WHERE id = $1")
        .bind(changed.id.to_string())
        .bind(changed.state.as_str())
        .bind(i64::from(changed.needed))
        .bind(row::to_json(&changed.gates))
        .bind(changed.decided_at.map(Timestamp::micros))
        .execute(conn)
        .await?;
    Ok(())
}

/// Writes what somebody said; who said something before has changed their mind.
pub(super) async fn vote(conn: &mut Conn, of: &ApprovalId, vote: &Vote) -> Result<(), RegistryError> {
    sqlx::query(
        "INSERT INTO registry_votes (approval, person, actor, verdict, comment, at) VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (approval, person) DO UPDATE SET verdict = excluded.verdict, comment = excluded.comment,
             at = excluded.at",
    )
    .bind(of.to_string())
    .bind(person(&vote.actor))
    .bind(&vote.actor)
    .bind(vote.verdict.as_str())
    .bind(&vote.comment)
    .bind(vote.at.micros())
    .execute(conn)
    .await?;
    Ok(())
}

/// Which requests that wait.
pub(crate) struct Waiting<'a> {
    pub(crate) model: &'a ModelName,
    pub(crate) alias: Option<&'a str>,
    pub(crate) version: Option<u32>,
}

/// Ends requests that wait and that nothing can come of any more.
pub(crate) async fn supersede(
    tx: &mut Tx,
    waiting: &Waiting<'_>,
    why: &str,
    actor: &str,
    now: Timestamp,
    cause: Option<u64>,
) -> Result<(), RegistryError> {
    let found = approvals(tx.conn(), |statement| {
        statement.push("r.state = 'pending' AND r.model = ").bind(waiting.model.as_str());
        if let Some(alias) = waiting.alias {
            statement.push(" AND r.alias = ").bind(alias);
        }
        if let Some(version) = waiting.version {
            statement.push(" AND r.version = ").bind(i64::from(version));
        }
        statement.push(" ORDER BY r.id");
    });
    for mut asked in found.await? {
        asked.state = asked.state.next(ApprovalEvent::Supersede)?;
        asked.decided_at = Some(now);
        update(tx.conn(), &asked).await?;
        tx.append(NewEvent {
            at: now,
            kind: EventKind::ApprovalSuperseded,
            subject: alias::subject(&asked.model, &asked.alias),
            actor: actor.to_owned(),
            cause,
            body: json!({
                "request": asked.id, "model": asked.model, "alias": asked.alias, "version": asked.version,
                "asked_by": asked.asked_by, "reason": why,
            }),
        })
        .await?;
    }
    Ok(())
}
