//! The tokens of a project: made, rotated, revoked, recognised.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use domain::{Digest, EventKind, NewEvent, ProjectName, Right, Role, Span, Timestamp};
use runtime::CancellationToken;
use serde_json::json;
use storage::{Meta, Tx};

use crate::{Access, AccessError, Admin, Issued, NewToken, Secret, Token, TokenId};

/// A use is remembered when the one remembered is older than this.
const USE_EVERY: Span = Span::from_micros(60_000_000);

/// Every token, in memory: a call is recognised without asking the database.
#[derive(Default)]
pub(crate) struct Known {
    tokens: HashMap<TokenId, (Arc<Token>, Digest)>,
    /// Uses that are not written yet.
    used: Mutex<HashMap<TokenId, Timestamp>>,
}

impl Known {
    pub(crate) async fn load(meta: &Meta) -> Result<Self, AccessError> {
        let rows: Vec<StoredToken> = sqlx::query_as("SELECT * FROM access_tokens").fetch_all(meta.reader()).await?;
        let tokens = rows.into_iter().map(|row| {
            let digest = row.digest.parse().map_err(AccessError::damaged("token"))?;
            let token = row.token()?;
            Ok((token.id.clone(), (Arc::new(token), digest)))
        });
        Ok(Self { tokens: tokens.collect::<Result<_, AccessError>>()?, used: Mutex::default() })
    }
}

#[derive(sqlx::FromRow)]
struct StoredToken {
    id: String,
    name: String,
    role: String,
    scopes: String,
    house: i64,
    digest: String,
    created_at: i64,
    created_by: String,
    expires_at: Option<i64>,
    revoked_at: Option<i64>,
    last_used_at: Option<i64>,
    replaces: Option<String>,
}

impl StoredToken {
    fn token(self) -> Result<Token, AccessError> {
        let scopes = self.scopes.split_whitespace().map(str::parse::<Right>).collect::<Result<_, _>>();
        let replaces = self.replaces.map(|id| id.parse()).transpose();
        Ok(Token {
            id: self.id.parse().map_err(AccessError::damaged("token"))?,
            name: self.name,
            role: self.role.parse().map_err(AccessError::damaged("token"))?,
            scopes: scopes.map_err(AccessError::damaged("token"))?,
            house: self.house != 0,
            created_at: Timestamp::from_micros(self.created_at),
            created_by: self.created_by,
            expires_at: self.expires_at.map(Timestamp::from_micros),
            revoked_at: self.revoked_at.map(Timestamp::from_micros),
            last_used_at: self.last_used_at.map(Timestamp::from_micros),
            replaces: replaces.map_err(AccessError::damaged("token"))?,
        })
    }
}

impl Access {
    /// Makes a token of `project`, which must be the one whose tokens these are.
    ///
    /// # Errors
    /// A name, scope or lifetime that does not fit, or more than the admin may give.
    pub async fn create_token(
        &self,
        project: &ProjectName,
        new: NewToken,
        by: Admin<'_>,
    ) -> Result<Issued, AccessError> {
        new.check()?;
        by.may_touch(new.house)?;
        let now = self.0.clock.now();
        let issued = issue(project, new, now, storage::caller_or(by.name), None)?;
        self.store(&issued, now, by.name).await?;
        Ok(issued)
    }

    /// Makes a token that does what `id` does, for as long as that one did. The old one goes on for `overlap`, so that
    /// its users can change over.
    ///
    /// # Errors
    /// A token that is unknown, expired, revoked, or not the admin's to touch.
    pub async fn rotate_token(
        &self,
        project: &ProjectName,
        id: &TokenId,
        overlap: Span,
        by: Admin<'_>,
    ) -> Result<Issued, AccessError> {
        let now = self.0.clock.now();
        let mut tx = self.0.meta.begin().await?;
        let old = load(&mut tx, id).await?;
        by.may_touch(old.house)?;
        old.check(now)?;
        let lifetime = |end: Timestamp| Span::from_micros(end.micros() - old.created_at.micros());
        let new = NewToken {
            name: old.name.clone(),
            role: old.role,
            scopes: old.scopes.clone(),
            house: old.house,
            expires_in: old.expires_at.map(lifetime),
        };
        let issued = issue(project, new, now, storage::caller_or(by.name), Some(id.clone()))?;
        insert(&mut tx, &issued).await?;
        let end = now.micros().saturating_add(overlap.micros().max(0));
        let end = old.expires_at.map_or(end, |already| already.micros().min(end));
        sqlx::query("UPDATE access_tokens SET expires_at = $1 WHERE id = $2")
            .bind(end)
            .bind(id.to_string())
            .execute(tx.conn())
            .await?;
        let body = json!({"by": issued.token.id, "until": Timestamp::from_micros(end)});
        note(&mut tx, now, EventKind::TokenRotated, id, by.name, body).await?;
        tx.commit().await?;
        self.remember(&issued).await;
        self.edit(id, |old| old.expires_at = Some(Timestamp::from_micros(end))).await;
        Ok(issued)
    }

    /// From now on the token opens nothing. Revoking it again changes nothing.
    ///
    /// # Errors
    /// A token that is unknown, or not the admin's to touch.
    pub async fn revoke_token(&self, id: &TokenId, by: Admin<'_>) -> Result<Token, AccessError> {
        let now = self.0.clock.now();
        let mut tx = self.0.meta.begin().await?;
        let mut token = load(&mut tx, id).await?;
        by.may_touch(token.house)?;
        if let Some(at) = token.revoked_at {
            // The database may know more than we do, when the outcome of a commit was unknown.
            self.edit(id, |known| known.revoked_at = Some(at)).await;
            return Ok(token);
        }
        sqlx::query("UPDATE access_tokens SET revoked_at = $1 WHERE id = $2")
            .bind(now.micros())
            .bind(id.to_string())
            .execute(tx.conn())
            .await?;
        note(&mut tx, now, EventKind::TokenRevoked, id, by.name, json!({"name": token.name})).await?;
        tx.commit().await?;
        token.revoked_at = Some(now);
        self.edit(id, |known| known.revoked_at = Some(now)).await;
        Ok(token)
    }

    /// Every token, also those that no longer hold, oldest first.
    pub async fn tokens(&self) -> Vec<Token> {
        let known = self.0.known.read().await;
        let used = known.used.lock().unwrap_or_else(PoisonError::into_inner);
        let mut tokens: Vec<Token> = known.tokens.values().map(|(token, _)| Token::clone(token)).collect();
        for token in &mut tokens {
            token.last_used_at = used.get(&token.id).copied().or(token.last_used_at);
        }
        drop(used);
        tokens.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        tokens
    }

    /// The token that `secret` is, if it holds now.
    ///
    /// # Errors
    /// A token that is unknown, expired or revoked.
    pub async fn recognise(&self, secret: &Secret) -> Result<Arc<Token>, AccessError> {
        let now = self.0.clock.now();
        let known = self.0.known.read().await;
        let (token, digest) = known.tokens.get(&secret.id).ok_or(AccessError::UnknownToken)?;
        if !secret.fits(digest) {
            return Err(AccessError::UnknownToken);
        }
        token.check(now)?;
        let mut used = known.used.lock().unwrap_or_else(PoisonError::into_inner);
        let last = used.get(&secret.id).copied().or(token.last_used_at);
        if last.is_none_or(|last| now.micros() - last.micros() >= USE_EVERY.micros()) {
            used.insert(secret.id.clone(), now);
        }
        Ok(token.clone())
    }

    /// A token that opens every project, if no such token holds: how the first admin comes in. It holds only once `keep`
    /// has put it where they find it, so that a crash leaves no token that nobody knows.
    ///
    /// # Errors
    /// When it cannot be kept or stored.
    pub async fn first_token(
        &self,
        project: &ProjectName,
        keep: impl FnOnce(&Secret) -> std::io::Result<()>,
    ) -> Result<bool, AccessError> {
        let now = self.0.clock.now();
        if self.tokens().await.iter().any(|token| token.house && token.check(now).is_ok()) {
            return Ok(false);
        }
        let new = NewToken {
            name: "first-admin".into(),
            role: Role::Admin,
            scopes: Vec::new(),
            house: true,
            expires_in: None,
        };
        let by = "millpond";
        let issued = issue(project, new, now, by.into(), None)?;
        keep(&issued.secret).map_err(AccessError::NotKept)?;
        self.store(&issued, now, by).await?;
        Ok(true)
    }

    /// Makes an issued token hold.
    async fn store(&self, issued: &Issued, now: Timestamp, actor: &str) -> Result<(), AccessError> {
        let mut tx = self.0.meta.begin().await?;
        insert(&mut tx, issued).await?;
        note(&mut tx, now, EventKind::TokenCreated, &issued.token.id, actor, describe(&issued.token)).await?;
        tx.commit().await?;
        self.remember(issued).await;
        Ok(())
    }

    /// Writes the last uses that are not written yet.
    pub(crate) async fn write_uses(&self) -> Result<(), AccessError> {
        let used: Vec<_> = {
            let known = self.0.known.read().await;
            let mut used = known.used.lock().unwrap_or_else(PoisonError::into_inner);
            used.drain().collect()
        };
        if used.is_empty() {
            return Ok(());
        }
        let mut tx = self.0.meta.begin().await?;
        for (id, at) in &used {
            sqlx::query("UPDATE access_tokens SET last_used_at = $1 WHERE id = $2")
                .bind(at.micros())
                .bind(id.to_string())
                .execute(tx.conn())
                .await?;
        }
        tx.commit().await?;
        for (id, at) in used {
            self.edit(&id, |token| token.last_used_at = Some(at)).await;
        }
        Ok(())
    }

    /// Reads the tokens again whenever another server changed one.
    pub(crate) async fn follow(&self, stop: CancellationToken) {
        let mut watch = self.0.meta.journal().watch();
        let mut seen = *watch.borrow_and_update();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                changed = watch.changed() => if changed.is_err() { return },
            }
            watch.borrow_and_update();
            match self.catch_up(&mut seen).await {
                Ok(()) => {}
                Err(error) => tracing::warn!(%error, "tokens cannot be read; changes by other servers come later"),
            }
        }
    }

    async fn catch_up(&self, seen: &mut u64) -> Result<(), AccessError> {
        loop {
            let events = self.0.meta.journal().read(*seen, 1_000).await?;
            let Some(last) = events.last().map(|event| event.seq) else { return Ok(()) };
            let touches = [EventKind::TokenCreated, EventKind::TokenRotated, EventKind::TokenRevoked];
            if events.iter().any(|event| touches.contains(&event.kind)) {
                self.reload().await?;
            }
            *seen = last;
        }
    }

    async fn remember(&self, issued: &Issued) {
        let entry = (Arc::new(issued.token.clone()), issued.secret.digest());
        self.0.known.write().await.tokens.insert(issued.token.id.clone(), entry);
    }

    async fn edit(&self, id: &TokenId, change: impl FnOnce(&mut Token)) {
        if let Some((token, _)) = self.0.known.write().await.tokens.get_mut(id) {
            change(Arc::make_mut(token));
        }
    }

    async fn reload(&self) -> Result<(), AccessError> {
        // Held while reading, so that no older reading replaces a newer one.
        let mut known = self.0.known.write().await;
        known.tokens = Known::load(&self.0.meta).await?.tokens;
        Ok(())
    }
}

impl Admin<'_> {
    /// An admin of the first project is not the master of the house: tokens that open every project are not theirs.
    fn may_touch(self, house: bool) -> Result<(), AccessError> {
        if house && !self.house { Err(AccessError::NotOfTheHouse) } else { Ok(()) }
    }
}

fn issue(
    project: &ProjectName,
    new: NewToken,
    now: Timestamp,
    created_by: String,
    replaces: Option<TokenId>,
) -> Result<Issued, AccessError> {
    let secret = Secret::mint(project.clone())?;
    let ends = |span: Span| Timestamp::from_micros(now.micros().saturating_add(span.micros()));
    let token = Token {
        id: secret.id.clone(),
        name: new.name,
        role: new.role,
        scopes: new.scopes,
        house: new.house,
        created_at: now,
        created_by,
        expires_at: new.expires_in.map(ends),
        revoked_at: None,
        last_used_at: None,
        replaces,
    };
    Ok(Issued { token, secret })
}

async fn insert(tx: &mut Tx, issued: &Issued) -> Result<(), AccessError> {
    let token = &issued.token;
    let scopes: Vec<_> = token.scopes.iter().map(|right| right.as_str()).collect();
    sqlx::query(
        "INSERT INTO access_tokens (id, name, role, scopes, house, digest, created_at, created_by, expires_at, replaces)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
    )
    .bind(token.id.to_string())
    .bind(&token.name)
    .bind(token.role.as_str())
    .bind(scopes.join(" "))
    .bind(i64::from(token.house))
    .bind(issued.secret.digest().to_string())
    .bind(token.created_at.micros())
    .bind(&token.created_by)
    .bind(token.expires_at.map(Timestamp::micros))
    .bind(token.replaces.as_ref().map(TokenId::to_string))
    .execute(tx.conn())
    .await?;
    Ok(())
}

async fn load(tx: &mut Tx, id: &TokenId) -> Result<Token, AccessError> {
    sqlx::query_as::<_, StoredToken>("SELECT * FROM access_tokens WHERE id = $1")
        .bind(id.to_string())
        .fetch_optional(tx.conn())
        .await?
        .ok_or_else(|| AccessError::NoSuchToken(id.clone()))?
        .token()
}

fn describe(token: &Token) -> serde_json::Value {
    json!({
        "name": token.name, "role": token.role, "scopes": token.scopes, "house": token.house, "expires_at": token.expires_at,
    })
}

async fn note(
    tx: &mut Tx,
    at: Timestamp,
    kind: EventKind,
    id: &TokenId,
    actor: &str,
    body: serde_json::Value,
) -> Result<(), AccessError> {
    tx.append(NewEvent { at, kind, subject: format!("token/{id}"), actor: actor.into(), cause: None, body }).await?;
    Ok(())
}
