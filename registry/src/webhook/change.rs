//! Registering, changing, removing and testing webhooks.

use domain::{EventKind, NewEvent, Timestamp, WebhookId};
use serde_json::{Value, json};
use storage::Tx;
use uuid::Uuid;

use super::{
    Delivery, Secret, Subscription, TestResult, Webhook, WebhookStatus, address,
    event::Told,
    send::{self, Message},
    store, subject,
};
use crate::{Page, Registry, RegistryError, check};

/// The most webhooks there may be: each may have a message on its way.
const WEBHOOKS_MAX: i64 = 100;
const NAME_CHARS_MAX: usize = 63;
const DESCRIPTION_CHARS_MAX: usize = 1_000;
const SECRET_BYTES_MAX: usize = 1_000;

/// A webhook about to be registered.
#[derive(Debug, Clone)]
pub struct NewWebhook {
    /// 1 to 63 letters, digits, `.`, `_` and `-`, first and last a letter or digit.
    pub name: String,
    pub url: String,
    /// At least one.
    pub events: Vec<Subscription>,
    pub description: String,
    pub secret: Option<Secret>,
    pub status: WebhookStatus,
}

/// What is to change of a webhook; `None` stays as it is.
#[derive(Debug, Clone, Default)]
pub struct WebhookChange {
    pub name: Option<String>,
    pub url: Option<String>,
    pub events: Option<Vec<Subscription>>,
    pub description: Option<String>,
    /// `Some(None)`: messages are no longer signed.
    pub secret: Option<Option<Secret>>,
    pub status: Option<WebhookStatus>,
}

impl Registry {
    /// Registers a webhook; it is told of what happens from now on.
    ///
    /// # Errors
    /// A name that is not lawful, a URL that is not https or leads to an address that is not public, no event.
    pub async fn create_webhook(&self, new: NewWebhook, actor: &str) -> Result<Webhook, RegistryError> {
        let now = self.now();
        let webhook = Webhook {
            id: WebhookId::mint(),
            name: new.name,
            url: new.url,
            description: new.description,
            events: distinct(new.events),
            status: new.status,
            signed: new.secret.is_some(),
            created_at: now,
            updated_at: now,
        };
        self.check_webhook(&webhook, new.secret.as_ref()).await?;
        let mut tx = self.begin().await?;
        let known: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM registry_webhooks").fetch_one(tx.conn()).await?;
        if known >= WEBHOOKS_MAX {
            let problem = format!("is one too many: there are {known}");
            return Err(RegistryError::invalid("the webhook", problem, "delete one that is no longer needed"));
        }
        let since = note(&mut tx, now, EventKind::WebhookCreated, &webhook, actor).await?;
        store::insert(tx.conn(), &webhook, new.secret.as_ref(), since).await?;
        tx.commit().await?;
        self.0.webhooks_changed.notify_one();
        Ok(webhook)
    }

    /// One webhook.
    ///
    /// # Errors
    /// An unknown webhook.
    pub async fn webhook(&self, id: &WebhookId) -> Result<Webhook, RegistryError> {
        store::webhook(&mut *self.meta().reader().begin().await?, id).await
    }

    /// Webhooks, newest first, page by page: `after` is the last of the page before.
    pub async fn webhooks(&self, limit: usize, after: Option<WebhookId>) -> Result<Page<Webhook>, RegistryError> {
        let mut tx = self.meta().reader().begin().await?;
        let found = store::webhooks(&mut tx, |statement| {
            // Ids sort by creation.
            match after {
                Some(after) => statement.push("id < ").bind(after.to_string()),
                None => statement.push("1 = 1"),
            };
            statement.push(" ORDER BY id DESC LIMIT ").bind(i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1));
        });
        let mut items = found.await?;
        let more = items.len() > limit;
        items.truncate(limit);
        let next = items.last().filter(|_| more).map(|last| last.id.to_string());
        Ok(Page { items, next })
    }

    /// Changes a webhook. One that is made active is told of what happens from then on, and of what waited for it when
    /// it was disabled.
    ///
    /// # Errors
    /// An unknown webhook, or what would not be lawful in a new one.
    pub async fn change_webhook(
        &self,
        id: &WebhookId,
        change: WebhookChange,
        actor: &str,
    ) -> Result<Webhook, RegistryError> {
        // Looking a name up takes a while, so it is done before the turn to write is taken.
        let secret = change.secret.clone();
        let merged = merge(self.webhook(id).await?, change.clone());
        self.check_webhook(&merged, secret.as_ref().and_then(Option::as_ref)).await?;
        let now = self.now();
        let mut tx = self.begin().await?;
        let before = store::webhook(tx.conn(), id).await?;
        let wakes = before.status == WebhookStatus::Disabled && change.status == Some(WebhookStatus::Active);
        let changed = Webhook { updated_at: now, ..merge(before, change) };
        let seq = note(&mut tx, now, EventKind::WebhookChanged, &changed, actor).await?;
        store::update(tx.conn(), &changed, wakes.then_some(seq)).await?;
        if let Some(secret) = &secret {
            store::set_secret(tx.conn(), id, secret.as_ref()).await?;
        }
        tx.commit().await?;
        self.0.webhooks_changed.notify_one();
        Ok(changed)
    }

    /// Removes a webhook with all that waits for it.
    ///
    /// # Errors
    /// An unknown webhook.
    pub async fn delete_webhook(&self, id: &WebhookId, actor: &str) -> Result<(), RegistryError> {
        let now = self.now();
        let mut tx = self.begin().await?;
        let gone = store::webhook(tx.conn(), id).await?;
        sqlx::query("DELETE FROM registry_webhooks WHERE id = $1").bind(id.to_string()).execute(tx.conn()).await?;
        note(&mut tx, now, EventKind::WebhookDeleted, &gone, actor).await?;
        Ok(tx.commit().await?)
    }

    /// Sends a made-up event to a webhook's receiver, once, and says what it answered. A disabled one is tested, too.
    ///
    /// # Errors
    /// An unknown webhook; a receiver that does not answer is a result.
    pub async fn test_webhook(&self, id: &WebhookId, event: Option<Subscription>) -> Result<TestResult, RegistryError> {
        let (webhook, secret) = {
            let mut tx = self.meta().reader().begin().await?;
            (store::webhook(&mut tx, id).await?, store::secret(&mut tx, id).await?)
        };
        let sender = self.webhook_sender();
        let now = self.now();
        let none = || RegistryError::Damaged { what: "webhook", detail: "it has no events".to_owned() };
        let event = event.or_else(|| webhook.events.first().copied()).ok_or_else(none)?;
        let url = match send::target(&webhook.url, &sender.settings) {
            Ok(url) => url,
            // It was registered under other settings.
            Err(error) => {
                let error_message = Some(error);
                return Ok(TestResult { success: false, response_status: None, response_body: None, error_message });
            }
        };
        let body = Told::example(event).body(now);
        let message = Message { url, secret, delivery: Uuid::new_v4().to_string(), body };
        Ok(sender.send(message, now).await.into())
    }

    /// What is on its way to a webhook's receiver and what became of the newest events, newest first.
    ///
    /// # Errors
    /// An unknown webhook.
    pub async fn deliveries(&self, id: &WebhookId, limit: usize) -> Result<Vec<Delivery>, RegistryError> {
        let mut tx = self.meta().reader().begin().await?;
        store::webhook(&mut tx, id).await?;
        store::deliveries(&mut tx, id, limit).await
    }

    async fn check_webhook(&self, webhook: &Webhook, secret: Option<&Secret>) -> Result<(), RegistryError> {
        let name = &webhook.name;
        let word = |c: char| c.is_ascii_alphanumeric();
        let lawful = (1..=NAME_CHARS_MAX).contains(&name.len())
            && name.starts_with(word)
            && name.ends_with(word)
            && name.chars().all(|c| word(c) || matches!(c, '.' | '_' | '-'));
        if !lawful {
            let shown: String = name.chars().take(40).collect();
            let hint = "use 1 to 63 letters, digits, `.`, `_` and `-`, first and last a letter or digit";
            return Err(RegistryError::invalid(format!("webhook {shown:?}"), "is not a lawful name", hint));
        }
        if webhook.events.is_empty() {
            return Err(RegistryError::invalid("the webhook", "has no events", "name at least one"));
        }
        check::within("the description", &webhook.description, DESCRIPTION_CHARS_MAX)?;
        if secret.is_some_and(|secret| secret.reveal().len() > SECRET_BYTES_MAX) {
            return Err(RegistryError::invalid("the secret", "is longer than 1000 bytes", "shorten it"));
        }
        address::check(&webhook.url, self.webhook_sender().settings.allow_private).await.map(drop)
    }
}

fn distinct(events: Vec<Subscription>) -> Vec<Subscription> {
    let mut seen = std::collections::BTreeSet::new();
    events.into_iter().filter(|event| seen.insert(*event)).collect()
}

fn merge(webhook: Webhook, change: WebhookChange) -> Webhook {
    let WebhookChange { name, url, events, description, secret, status } = change;
    Webhook {
        name: name.unwrap_or(webhook.name),
        url: url.unwrap_or(webhook.url),
        events: events.map_or(webhook.events, distinct),
        description: description.unwrap_or(webhook.description),
        signed: secret.map_or(webhook.signed, |secret| secret.is_some()),
        status: status.unwrap_or(webhook.status),
        ..webhook
    }
}

/// Tells of a change. Of the URL only where it leads: what follows may hold a token.
async fn note(
    tx: &mut Tx,
    at: Timestamp,
    kind: EventKind,
    webhook: &Webhook,
    actor: &str,
) -> Result<u64, RegistryError> {
    let host = url::Url::parse(webhook.url.trim()).ok().map(|url| url.origin().ascii_serialization());
    let body: Value = json!({
        "name": webhook.name, "receiver": host, "events": webhook.events, "status": webhook.status,
        "signed": webhook.signed,
    });
    let (subject, actor) = (subject(&webhook.id), actor.to_owned());
    Ok(tx.append(NewEvent { at, kind, subject, actor, cause: None, body }).await?)
}
