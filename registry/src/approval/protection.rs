//! Protecting an alias, and refusing what would move a protected one.

use domain::{EventKind, ModelName, ModelRef, NewEvent, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::json;
use storage::sql::Conn;

use super::{COMMENT_CHARS_MAX, Gate, store};
use crate::{Registry, RegistryError, Stage, alias, check, row, version};

/// The most approvals that may be asked for.
const APPROVALS_MAX: u32 = 20;
/// The most gates of one alias.
const GATES_MAX: usize = 32;

/// What an alias is to be protected by.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewProtection {
    /// How many people have to approve a move, 1 to 20; who asks is not one of them.
    pub approvals: u32,
    /// What a version must show at each approval.
    #[serde(default)]
    pub gates: Vec<Gate>,
    /// Let versions through whose files carry code.
    #[serde(default)]
    pub allow_unsafe: bool,
    /// Why; kept in the journal.
    #[serde(default)]
    pub reason: String,
}

/// How an alias is protected.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Protection {
    pub model: ModelName,
    pub alias: String,
    #[serde(flatten)]
    pub rule: NewProtection,
    /// Who protected it.
    pub actor: String,
    pub since: Timestamp,
}

impl Registry {
    /// Protects an alias, which need not point anywhere yet, or replaces what it is protected by. Requests that wait
    /// are judged by the new rule.
    ///
    /// # Errors
    /// An unknown model, or a rule that is not lawful.
    pub async fn protect_alias(
        &self,
        model: &ModelName,
        alias: &str,
        rule: NewProtection,
        actor: &str,
    ) -> Result<Protection, RegistryError> {
        check::alias(alias)?;
        check::text("actor", actor, 1)?;
        lawful(&rule)?;
        let now = self.now();
        let mut tx = self.begin().await?;
        version::newest(tx.conn(), model).await?;
        let before = store::protection(tx.conn(), model, alias).await?;
        if let Some(before) = before.as_ref().filter(|before| before.rule == rule) {
            return Ok(before.clone());
        }
        let made =
            Protection { model: model.clone(), alias: alias.to_owned(), rule, actor: actor.to_owned(), since: now };
        store::put_protection(tx.conn(), &made).await?;
        tx.append(NewEvent {
            at: now,
            kind: EventKind::AliasProtected,
            subject: alias::subject(model, alias),
            actor: actor.to_owned(),
            cause: None,
            body: json!({
                "model": model, "alias": alias, "before": before.map(|before| before.rule), "rule": made.rule,
                "reason": made.rule.reason,
            }),
        })
        .await?;
        tx.commit().await?;
        Ok(made)
    }

    /// Lifts the protection of an alias; one without is no error. Requests that wait are superseded.
    ///
    /// # Errors
    /// An unknown model.
    pub async fn unprotect_alias(
        &self,
        model: &ModelName,
        alias: &str,
        actor: &str,
        reason: &str,
    ) -> Result<(), RegistryError> {
        check::text("actor", actor, 1)?;
        check::within("reason", reason, COMMENT_CHARS_MAX)?;
        let now = self.now();
        let mut tx = self.begin().await?;
        version::newest(tx.conn(), model).await?;
        if !store::drop_protection(tx.conn(), model, alias).await? {
            return Ok(());
        }
        let cause = tx
            .append(NewEvent {
                at: now,
                kind: EventKind::AliasUnprotected,
                subject: alias::subject(model, alias),
                actor: actor.to_owned(),
                cause: None,
                body: json!({"model": model, "alias": alias, "reason": reason}),
            })
            .await?;
        let lifted = store::Waiting { model, alias: Some(alias), version: None };
        store::supersede(&mut tx, &lifted, "the alias is no longer protected", actor, now, Some(cause)).await?;
        Ok(tx.commit().await?)
    }

    /// The protected aliases of a model, by name.
    ///
    /// # Errors
    /// An unknown model.
    pub async fn protections(&self, model: &ModelName) -> Result<Vec<Protection>, RegistryError> {
        let mut tx = self.meta().reader().begin().await?;
        version::newest(&mut tx, model).await?;
        store::protections(&mut tx, model).await
    }

    /// How an alias is protected; `None` where it is not.
    pub async fn protection(&self, model: &ModelName, alias: &str) -> Result<Option<Protection>, RegistryError> {
        store::protection(&mut *self.meta().reader().begin().await?, model, alias).await
    }

    /// Looks whether an alias may be pointed at a version without a request.
    ///
    /// # Errors
    /// `Protected`, where the alias is and points elsewhere.
    pub async fn may_move(&self, model: &ModelName, alias: &str, version: u32) -> Result<(), RegistryError> {
        let mut tx = self.meta().reader().begin().await?;
        if alias::current(&mut tx, model, alias).await? == Some(version) {
            return Ok(());
        }
        free(&mut tx, model, alias, Some(version)).await
    }
}

fn lawful(rule: &NewProtection) -> Result<(), RegistryError> {
    if !(1..=APPROVALS_MAX).contains(&rule.approvals) {
        let problem = format!("asks for {} approvals", rule.approvals);
        return Err(RegistryError::invalid("the protection", problem, "ask for 1 to 20"));
    }
    if rule.gates.len() > GATES_MAX {
        let problem = format!("has {} gates", rule.gates.len());
        return Err(RegistryError::invalid("the protection", problem, "give at most 32"));
    }
    if rule.allow_unsafe && rule.gates.iter().any(|gate| matches!(gate, Gate::SafeFormat(_))) {
        let hint = "leave out `allow_unsafe` or the gate `safe_format`";
        return Err(RegistryError::invalid("the protection", "both lets code through and forbids it", hint));
    }
    rule.gates.iter().try_for_each(Gate::check)?;
    check::within("reason", &rule.reason, COMMENT_CHARS_MAX)
}

fn refusal(protection: Protection, version: Option<u32>) -> RegistryError {
    let Protection { model, alias, rule, .. } = protection;
    RegistryError::Protected { model, alias, approvals: rule.approvals, version }
}

/// Fails if the alias is protected; `version` is the one it was to point at.
pub(crate) async fn free(
    conn: &mut Conn,
    model: &ModelName,
    alias: &str,
    version: Option<u32>,
) -> Result<(), RegistryError> {
    match store::protection(conn, model, alias).await? {
        Some(protection) => Err(refusal(protection, version)),
        None => Ok(()),
    }
}

/// Fails if a version may not come to the stage, or leave it: MLflow's clients load `models:/name/Production` as they
/// load `models:/name@production`, so an alias of that name holds the stage, too.
pub(crate) async fn stage_free(conn: &mut Conn, version: &ModelRef, stage: Stage) -> Result<(), RegistryError> {
    if !stage.is_named() {
        return Ok(());
    }
    let protections = store::protections(conn, &version.model).await?;
    let held = protections.into_iter().find(|known| known.alias.eq_ignore_ascii_case(stage.as_str()));
    held.map_or(Ok(()), |held| Err(refusal(held, Some(version.version))))
}

/// Fails if a protected alias points at the version, or a protected stage holds it.
pub(crate) async fn version_free(conn: &mut Conn, version: &crate::ModelVersion) -> Result<(), RegistryError> {
    for alias in &version.aliases {
        free(conn, &version.model, alias, None).await?;
    }
    stage_free(conn, &version.reference(), version.stage).await
}

/// Fails if the model has a protected alias: under another name, or made anew, it would have none.
pub(crate) async fn model_free(conn: &mut Conn, model: &ModelName) -> Result<(), RegistryError> {
    match store::protections(conn, model).await?.into_iter().next() {
        Some(protection) => Err(refusal(protection, None)),
        None => Ok(()),
    }
}

/// Columns of a protection.
#[derive(sqlx::FromRow)]
pub(super) struct Row {
    model: String,
    alias: String,
    approvals: i64,
    gates: String,
    allow_unsafe: bool,
    reason: String,
    actor: String,
    since: i64,
}

impl Row {
    pub(super) fn read(self) -> Result<Protection, RegistryError> {
        let rule = NewProtection {
            approvals: row::uncount(self.approvals, "protection")?,
            gates: row::from_json(&self.gates, "protection")?,
            allow_unsafe: self.allow_unsafe,
            reason: self.reason,
        };
        Ok(Protection {
            model: row::parse(&self.model, "protection")?,
            alias: self.alias,
            rule,
            actor: self.actor,
            since: Timestamp::from_micros(self.since),
        })
    }
}
