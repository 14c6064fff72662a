//! Aliases: names such as `champion` that point at a version and move.

use domain::{Event, EventKind, ModelName, ModelRef, NewEvent, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::json;
use storage::{Tx, sql::Conn};

use crate::{LATEST, ModelVersion, Registry, RegistryError, approval, check, row, version};

/// Where an alias points, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alias {
    pub alias: String,
    pub version: u32,
    pub moved_at: Timestamp,
    pub actor: String,
    pub reason: String,
}

/// An alias about to move.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AliasMove {
    pub model: ModelName,
    /// Letters, digits, `_` and `-`; nothing that reads as a version, and not `latest`.
    pub alias: String,
    pub version: u32,
    /// Who moves it.
    pub actor: String,
    pub reason: String,
    /// Number of the journal's event that led to this.
    pub cause: Option<u64>,
}

impl Registry {
    /// Points an alias at a version; see [`Registry::move_alias`].
    pub async fn set_alias(
        &self,
        model: &ModelName,
        alias: &str,
        version: u32,
        actor: &str,
        reason: &str,
    ) -> Result<Alias, RegistryError> {
        let (model, alias) = (model.clone(), alias.to_owned());
        let (actor, reason) = (actor.to_owned(), reason.to_owned());
        self.move_alias(AliasMove { model, alias, version, actor, reason, cause: None }).await
    }

    /// Points an alias at a version, whatever it pointed at before; the journal keeps the move. Pointing it where
    /// it points already changes nothing. Durable when it returns.
    ///
    /// # Errors
    /// A bad alias, a version that does not exist, or an alias that is protected and would move.
    pub async fn move_alias(&self, wanted: AliasMove) -> Result<Alias, RegistryError> {
        check::alias(&wanted.alias)?;
        check::text("actor", &wanted.actor, 1)?;
        let now = self.now();
        let mut tx = self.begin().await?;
        version::require(tx.conn(), &ModelRef { model: wanted.model.clone(), version: wanted.version }).await?;
        let before = load(tx.conn(), &wanted.model).await?.into_iter().find(|known| known.alias == wanted.alias);
        let from = before.as_ref().map(|known| known.version);
        if let Some(known) = before.filter(|known| known.version == wanted.version) {
            return Ok(known);
        }
        approval::free(tx.conn(), &wanted.model, &wanted.alias, Some(wanted.version)).await?;
        let moved = point(&mut tx, wanted, from, now).await?;
        tx.commit().await?;
        Ok(moved)
    }

    /// The aliases of a model, by name.
    ///
    /// # Errors
    /// An unknown model.
    pub async fn aliases(&self, model: &ModelName) -> Result<Vec<Alias>, RegistryError> {
        let mut tx = self.meta().reader().begin().await?;
        version::newest(&mut tx, model).await?;
        load(&mut tx, model).await
    }

    /// What happened to an alias, newest first, as the journal tells it: moves, protection, requests.
    pub async fn alias_history(
        &self,
        model: &ModelName,
        alias: &str,
        limit: usize,
    ) -> Result<Vec<Event>, RegistryError> {
        Ok(self.meta().journal().about(&subject(model, alias), limit).await?)
    }

    /// The version an alias points at.
    ///
    /// # Errors
    /// An unknown model or alias; names that are not aliases, such as `latest`, are unknown here.
    pub async fn alias_version(&self, model: &ModelName, alias: &str) -> Result<ModelVersion, RegistryError> {
        let mut tx = self.meta().reader().begin().await?;
        version::newest(&mut tx, model).await?;
        let reference = pointed_at(&mut tx, model, alias).await?;
        version::one(&mut tx, &reference).await
    }

    /// Removes an alias; an absent one is no error.
    ///
    /// # Errors
    /// An unknown model, or an alias that is protected.
    pub async fn remove_alias(&self, model: &ModelName, alias: &str, actor: &str) -> Result<(), RegistryError> {
        let now = self.now();
        let mut tx = self.begin().await?;
        version::newest(tx.conn(), model).await?;
        if current(tx.conn(), model, alias).await?.is_none() {
            return Ok(());
        }
        approval::free(tx.conn(), model, alias, None).await?;
        let from: Option<i64> =
            sqlx::query_scalar("DELETE FROM registry_aliases WHERE model = $1 AND alias = $2 RETURNING version")
                .bind(model.as_str())
                .bind(alias)
                .fetch_optional(tx.conn())
                .await?;
        let Some(from) = from else { return Ok(()) };
        tx.append(NewEvent {
            at: now,
            kind: EventKind::AliasRemoved,
            subject: subject(model, alias),
            actor: actor.to_owned(),
            cause: None,
            body: json!({"model": model, "alias": alias, "from": from}),
        })
        .await?;
        Ok(tx.commit().await?)
    }

    /// The version that `name` means: an alias, `latest`, or a number.
    ///
    /// # Errors
    /// An unknown model, alias or number.
    pub async fn resolve(&self, model: &ModelName, name: &str) -> Result<ModelRef, RegistryError> {
        find(&mut *self.meta().reader().begin().await?, model, name).await
    }
}

/// The version that `name` means; see [`Registry::resolve`].
pub(crate) async fn find(conn: &mut Conn, model: &ModelName, name: &str) -> Result<ModelRef, RegistryError> {
    let newest = version::newest(conn, model).await?;
    let reference = |version| ModelRef { model: model.clone(), version };
    if name == LATEST {
        return match newest {
            0 => Err(RegistryError::NoSuchVersion { version: reference(0), newest }),
            _ => Ok(reference(newest)),
        };
    }
    if !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit()) {
        let reference = reference(name.parse().unwrap_or(u32::MAX));
        version::require(conn, &reference).await?;
        return Ok(reference);
    }
    pointed_at(conn, model, name).await
}

/// The version an alias of a model points at.
async fn pointed_at(conn: &mut Conn, model: &ModelName, alias: &str) -> Result<ModelRef, RegistryError> {
    let aliases = load(conn, model).await?;
    match aliases.iter().find(|known| known.alias == alias) {
        Some(known) => Ok(ModelRef { model: model.clone(), version: known.version }),
        None => {
            let known = aliases.iter().map(|known| known.alias.as_str()).chain([LATEST]);
            let nearest = check::near(alias, known);
            Err(RegistryError::NoSuchAlias { model: model.clone(), alias: alias.to_owned(), nearest })
        }
    }
}

/// What the journal calls an alias.
pub(crate) fn subject(model: &ModelName, alias: &str) -> String {
    format!("model/{model}/alias/{alias}")
}

/// The number of the version an alias points at.
pub(crate) async fn current(conn: &mut Conn, model: &ModelName, alias: &str) -> Result<Option<u32>, RegistryError> {
    let found: Option<i64> = sqlx::query_scalar("SELECT version FROM registry_aliases WHERE model = $1 AND alias = $2")
        .bind(model.as_str())
        .bind(alias)
        .fetch_optional(conn)
        .await?;
    found.map(|number| row::uncount(number, "alias")).transpose()
}

/// Points an alias at a version that exists and tells of it; the caller has seen to it that it may move.
pub(crate) async fn point(
    tx: &mut Tx,
    wanted: AliasMove,
    from: Option<u32>,
    now: Timestamp,
) -> Result<Alias, RegistryError> {
    let AliasMove { model, alias, version, actor, reason, cause } = wanted;
    sqlx::query(
        "INSERT INTO registry_aliases (model, alias, version, moved_at, actor, reason)
         VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (model, alias) DO UPDATE SET version = excluded.version, moved_at = excluded.moved_at,
             actor = excluded.actor, reason = excluded.reason",
    )
    .bind(model.as_str())
    .bind(&alias)
    .bind(i64::from(version))
    .bind(now.micros())
    .bind(&actor)
    .bind(&reason)
    .execute(tx.conn())
    .await?;
    tx.append(NewEvent {
        at: now,
        kind: EventKind::AliasMoved,
        subject: subject(&model, &alias),
        actor: actor.clone(),
        cause,
        body: json!({"model": model, "alias": alias, "from": from, "to": version, "reason": reason}),
    })
    .await?;
    Ok(Alias { alias, version, moved_at: now, actor, reason })
}

pub(crate) async fn load(conn: &mut Conn, model: &ModelName) -> Result<Vec<Alias>, RegistryError> {
    let rows: Vec<(String, i64, i64, String, String)> = sqlx::query_as(
        "SELECT alias, version, moved_at, actor, reason FROM registry_aliases WHERE model = $1 ORDER BY alias",
    )
    .bind(model.as_str())
    .fetch_all(conn)
    .await?;
    let read = |(alias, version, moved_at, actor, reason): (_, i64, _, _, _)| {
        let version = row::uncount(version, "alias")?;
        Ok(Alias { alias, version, moved_at: Timestamp::from_micros(moved_at), actor, reason })
    };
    rows.into_iter().map(read).collect()
}
