//! Asking for a protected alias to move, and looking at what was asked.

use domain::{ApprovalId, EventKind, ModelName, ModelRef, NewEvent, state::ApprovalState};
use serde_json::json;

use super::{Approval, COMMENT_CHARS_MAX, facts::Facts, store};
use crate::{Registry, RegistryError, alias, check, version};

/// A request about to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    pub model: ModelName,
    pub alias: String,
    pub version: u32,
    /// Who asks.
    pub actor: String,
    /// Why the alias should move.
    pub reason: String,
    /// Number of the journal's event that led to this.
    pub cause: Option<u64>,
}

/// Which requests to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ApprovalFilter {
    pub state: Option<ApprovalState>,
    pub alias: Option<String>,
    /// At most this many, newest first; 0: 100.
    pub limit: usize,
}

const SHOWN: usize = 100;

impl Registry {
    /// Asks for a protected alias to be pointed at a version. While the same is asked already, that request is the
    /// answer.
    ///
    /// # Errors
    /// An unknown version; an alias that is not protected, or points there already; a version whose files carry code
    /// where the protection does not let that through.
    pub async fn ask_approval(&self, ask: Ask) -> Result<Approval, RegistryError> {
        check::alias(&ask.alias)?;
        check::text("actor", &ask.actor, 1)?;
        check::within("reason", &ask.reason, COMMENT_CHARS_MAX)?;
        let now = self.now();
        let mut tx = self.begin().await?;
        let reference = ModelRef { model: ask.model.clone(), version: ask.version };
        version::require(tx.conn(), &reference).await?;
        let protection = store::protection(tx.conn(), &ask.model, &ask.alias).await?;
        let Some(protection) = protection else {
            return Err(RegistryError::NotProtected { model: ask.model, alias: ask.alias });
        };
        if alias::current(tx.conn(), &ask.model, &ask.alias).await? == Some(ask.version) {
            return Err(RegistryError::Already { alias: ask.alias, version: reference });
        }
        let waiting = store::approvals(tx.conn(), |statement| {
            statement.push("r.state = 'pending' AND r.model = ").bind(ask.model.as_str());
            statement.push(" AND r.alias = ").bind(ask.alias.as_str());
            statement.push(" AND r.version = ").bind(i64::from(ask.version));
        });
        if let Some(known) = waiting.await?.pop() {
            return Ok(known);
        }
        let facts = Facts::of(tx.conn(), &reference).await?;
        super::decide::without_code(&protection, &reference, &facts)?;
        let asked = Approval {
            id: ApprovalId::mint(),
            model: ask.model,
            alias: ask.alias,
            version: ask.version,
            state: ApprovalState::Pending,
            asked_by: ask.actor,
            reason: ask.reason,
            asked_at: now,
            cause: ask.cause,
            needed: protection.rule.approvals,
            votes: Vec::new(),
            gates: Vec::new(),
            decided_at: None,
        };
        store::insert(tx.conn(), &asked).await?;
        tx.append(NewEvent {
            at: now,
            kind: EventKind::ApprovalAsked,
            subject: alias::subject(&asked.model, &asked.alias),
            actor: asked.asked_by.clone(),
            cause: asked.cause,
            body: json!({
                "request": asked.id, "model": asked.model, "alias": asked.alias, "version": asked.version,
                "reason": asked.reason, "needed": asked.needed,
            }),
        })
        .await?;
        tx.commit().await?;
        Ok(asked)
    }

    /// One request of a model.
    ///
    /// # Errors
    /// An unknown model or request.
    pub async fn approval(&self, model: &ModelName, id: &ApprovalId) -> Result<Approval, RegistryError> {
        let mut tx = self.meta().reader().begin().await?;
        version::newest(&mut tx, model).await?;
        store::approval(&mut tx, model, id).await
    }

    /// Requests of a model, newest first.
    ///
    /// # Errors
    /// An unknown model.
    pub async fn approvals(&self, model: &ModelName, filter: &ApprovalFilter) -> Result<Vec<Approval>, RegistryError> {
        let limit = if filter.limit == 0 { SHOWN } else { filter.limit };
        let mut tx = self.meta().reader().begin().await?;
        version::newest(&mut tx, model).await?;
        store::approvals(&mut tx, |statement| {
            statement.push("r.model = ").bind(model.as_str());
            if let Some(state) = filter.state {
                statement.push(" AND r.state = ").bind(state.as_str());
            }
            if let Some(alias) = &filter.alias {
                statement.push(" AND r.alias = ").bind(alias.as_str());
            }
            statement.push(" ORDER BY r.id DESC LIMIT ").bind(i64::try_from(limit).unwrap_or(i64::MAX));
        })
        .await
    }
}
