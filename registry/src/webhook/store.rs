//! The rows of webhooks and of what is on its way to them.

use domain::{
    Timestamp, WebhookId,
    state::{DeliveryEvent, DeliveryState},
};
use storage::sql::Conn;

use super::{Delivery, Secret, Subscription, Webhook, WebhookStatus, send::Outcome};
use crate::{RegistryError, query::Statement, row};

/// Deliveries that ended and are kept of each webhook.
const KEPT: i64 = 200;

#[derive(sqlx::FromRow)]
struct Row {
    id: String,
    name: String,
    url: String,
    description: String,
    events: String,
    status: String,
    signed: bool,
    created_at: i64,
    updated_at: i64,
}

impl Row {
    fn read(self) -> Result<Webhook, RegistryError> {
        let unknown = || RegistryError::Damaged { what: "webhook", detail: format!("status `{}`", self.status) };
        Ok(Webhook {
            id: row::parse(&self.id, "webhook")?,
            status: WebhookStatus::parse(&self.status).ok_or_else(unknown)?,
            name: self.name,
            url: self.url,
            description: self.description,
            events: row::from_json(&self.events, "webhook")?,
            signed: self.signed,
            created_at: Timestamp::from_micros(self.created_at),
            updated_at: Timestamp::from_micros(self.updated_at),
        })
    }
}

/// Webhooks; `conditions` continues a statement after `WHERE`. Nothing here reads a secret.
pub(super) async fn webhooks(
    conn: &mut Conn,
    conditions: impl FnOnce(&mut Statement),
) -> Result<Vec<Webhook>, RegistryError> {
    let mut statement = Statement::new(
        "SELECT id, name, url, description, events, status, secret IS NOT NULL AS signed, created_at, updated_at
         FROM registry_webhooks WHERE ",
    );
    conditions(&mut statement);
    statement.query_as::<Row>().fetch_all(conn).await?.into_iter().map(Row::read).collect()
}

pub(super) async fn webhook(conn: &mut Conn, id: &WebhookId) -> Result<Webhook, RegistryError> {
    let found = webhooks(conn, |statement| {
        statement.push("id = ").bind(id.to_string());
    });
    let missing = || RegistryError::NoSuch { what: "webhook", name: id.to_string() };
    found.await?.pop().ok_or_else(missing)
}

/// `since`: the last event that it is not told of.
pub(super) async fn insert(
    conn: &mut Conn,
    new: &Webhook,
    secret: Option<&Secret>,
    since: u64,
) -> Result<(), RegistryError> {
    sqlx::query(
        "INSERT INTO registry_webhooks
             (id, name, url, description, events, status, secret, since, created_at, updated_at, claimed_by, claimed_until)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9, '', 0)",
    )
    .bind(new.id.to_string())
    .bind(&new.name)
    .bind(&new.url)
    .bind(&new.description)
    .bind(row::to_json(&new.events))
    .bind(new.status.as_str())
    .bind(secret.map(|secret| secret.reveal().to_owned()))
    .bind(row::count(since))
    .bind(new.created_at.micros())
    .execute(conn)
    .await?;
    Ok(())
}

/// Writes all but the secret.
pub(super) async fn update(conn: &mut Conn, changed: &Webhook, since: Option<u64>) -> Result<(), RegistryError> {
    sqlx::query(
        "UPDATE registry_webhooks SET name = $2, url = $3, description = $4, events = $5, status = $6, updated_at = $7,
             since = COALESCE($8, since) WHERE id = $1",
    )
    .bind(changed.id.to_string())
    .bind(&changed.name)
    .bind(&changed.url)
    .bind(&changed.description)
    .bind(row::to_json(&changed.events))
    .bind(changed.status.as_str())
    .bind(changed.updated_at.micros())
    .bind(since.map(row::count))
    .execute(conn)
    .await?;
    Ok(())
}

pub(super) async fn set_secret(conn: &mut Conn, id: &WebhookId, secret: Option<&Secret>) -> Result<(), RegistryError> {
    sqlx::query("UPDATE registry_webhooks SET secret = $2 WHERE id = $1")
        .bind(id.to_string())
        .bind(secret.map(|secret| secret.reveal().to_owned()))
        .execute(conn)
        .await?;
    Ok(())
}

pub(super) async fn secret(conn: &mut Conn, id: &WebhookId) -> Result<Option<Secret>, RegistryError> {
    let found: Option<Option<String>> = sqlx::query_scalar("SELECT secret FROM registry_webhooks WHERE id = $1")
        .bind(id.to_string())
        .fetch_optional(conn)
        .await?;
    Ok(found.flatten().map(Secret::new))
}

/// Who is told of what, from which event on.
pub(super) struct Subscriber {
    pub(super) id: WebhookId,
    pub(super) events: Vec<Subscription>,
    pub(super) since: u64,
}

/// The webhooks that are told of events now.
pub(super) async fn subscribers(conn: &mut Conn) -> Result<Vec<Subscriber>, RegistryError> {
    let rows: Vec<(String, String, i64)> =
        sqlx::query_as("SELECT id, events, since FROM registry_webhooks WHERE status = 'ACTIVE' ORDER BY id")
            .fetch_all(conn)
            .await?;
    let read = |(id, events, since): (String, String, i64)| {
        Ok(Subscriber {
            id: row::parse(&id, "webhook")?,
            events: row::from_json(&events, "webhook")?,
            since: row::uncount(since, "webhook")?,
        })
    };
    rows.into_iter().map(read).collect()
}

/// Number of the last event that was turned into deliveries.
pub(super) async fn cursor(conn: &mut Conn) -> Result<u64, RegistryError> {
    let at: i64 = sqlx::query_scalar("SELECT seq FROM registry_outbox WHERE id = 1").fetch_one(conn).await?;
    row::uncount(at, "outbox")
}

pub(super) async fn move_cursor(conn: &mut Conn, to: u64) -> Result<(), RegistryError> {
    sqlx::query("UPDATE registry_outbox SET seq = $1 WHERE id = 1").bind(row::count(to)).execute(conn).await?;
    Ok(())
}

pub(super) async fn put_delivery(conn: &mut Conn, new: &Delivery, body: &str) -> Result<(), RegistryError> {
    sqlx::query(
        "INSERT INTO registry_deliveries
             (id, webhook, seq, event, body, state, attempts, due_at, last_status, last_error, finished_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT (webhook, seq) DO NOTHING",
    )
    .bind(&new.id)
    .bind(new.webhook.to_string())
    .bind(row::count(new.seq))
    .bind(new.event.to_string())
    .bind(body)
    .bind(new.state.as_str())
    .bind(i64::from(new.attempts))
    .bind(new.due_at.micros())
    .bind(new.last_status.map(i64::from))
    .bind(&new.last_error)
    .bind(new.finished_at.map(Timestamp::micros))
    .execute(conn)
    .await?;
    Ok(())
}

pub(super) async fn waiting_count(conn: &mut Conn, webhook: &WebhookId) -> Result<u64, RegistryError> {
    let count: i64 =
        sqlx::query_scalar("SELECT COUNT(*) FROM registry_deliveries WHERE webhook = $1 AND state = 'waiting'")
            .bind(webhook.to_string())
            .fetch_one(conn)
            .await?;
    row::uncount(count, "delivery")
}

/// Active webhooks for which something waits.
pub(super) async fn busy(conn: &mut Conn) -> Result<Vec<WebhookId>, RegistryError> {
    let ids: Vec<String> = sqlx::query_scalar(
        "SELECT w.id FROM registry_webhooks w WHERE w.status = 'ACTIVE'
             AND EXISTS (SELECT 1 FROM registry_deliveries d WHERE d.webhook = w.id AND d.state = 'waiting')",
    )
    .fetch_all(conn)
    .await?;
    ids.iter().map(|id| row::parse(id, "webhook")).collect()
}

#[derive(sqlx::FromRow)]
struct Sent {
    id: String,
    webhook: String,
    seq: i64,
    event: String,
    state: String,
    attempts: i64,
    due_at: i64,
    last_status: Option<i64>,
    last_error: Option<String>,
    finished_at: Option<i64>,
}

impl Sent {
    fn read(self) -> Result<Delivery, RegistryError> {
        let unknown = || RegistryError::Damaged { what: "delivery", detail: format!("state `{}`", self.state) };
        Ok(Delivery {
            state: DeliveryState::parse(&self.state).ok_or_else(unknown)?,
            id: self.id,
            webhook: row::parse(&self.webhook, "delivery")?,
            seq: row::uncount(self.seq, "delivery")?,
            event: row::parse(&self.event, "delivery")?,
            attempts: row::uncount(self.attempts, "delivery")?,
            last_status: self.last_status.map(|status| row::uncount(status, "delivery")).transpose()?,
            last_error: self.last_error,
            due_at: Timestamp::from_micros(self.due_at),
            finished_at: self.finished_at.map(Timestamp::from_micros),
        })
    }
}

const DELIVERIES: &str = "SELECT d.id, d.webhook, d.seq, d.event, d.state, d.attempts, d.due_at, d.last_status,
    d.last_error, d.finished_at FROM registry_deliveries d";

/// Deliveries of a webhook, newest first.
pub(super) async fn deliveries(
    conn: &mut Conn,
    webhook: &WebhookId,
    limit: usize,
) -> Result<Vec<Delivery>, RegistryError> {
    let mut statement = Statement::new(DELIVERIES);
    statement.push(" WHERE d.webhook = ").bind(webhook.to_string());
    statement.push(" ORDER BY d.seq DESC LIMIT ").bind(row::count(limit as u64));
    statement.query_as::<Sent>().fetch_all(conn).await?.into_iter().map(Sent::read).collect()
}

/// The oldest delivery that waits of an active webhook, with its message.
pub(super) async fn next(conn: &mut Conn, webhook: &WebhookId) -> Result<Option<(Delivery, String)>, RegistryError> {
    let mut statement = Statement::new(DELIVERIES);
    statement.push(" JOIN registry_webhooks w ON w.id = d.webhook WHERE w.status = 'ACTIVE' AND d.state = 'waiting'");
    statement.push(" AND d.webhook = ").bind(webhook.to_string()).push(" ORDER BY d.seq LIMIT 1");
    let Some(found) = statement.query_as::<Sent>().fetch_optional(&mut *conn).await? else { return Ok(None) };
    let found = found.read()?;
    let body: Option<String> = sqlx::query_scalar("SELECT body FROM registry_deliveries WHERE id = $1")
        .bind(&found.id)
        .fetch_optional(conn)
        .await?;
    Ok(body.map(|body| (found, body)))
}

/// Writes what an attempt came to. One whose webhook was deleted meanwhile is gone.
pub(super) async fn record(
    conn: &mut Conn,
    delivery: &mut Delivery,
    outcome: &Outcome,
    due_at: Option<Timestamp>,
    now: Timestamp,
) -> Result<(), RegistryError> {
    delivery.attempts += 1;
    (delivery.last_status, delivery.last_error) = (outcome.status, outcome.error.clone());
    match (due_at, &outcome.error) {
        (Some(due_at), _) => delivery.due_at = due_at,
        (None, None) => delivery.state = delivery.state.next(DeliveryEvent::Deliver)?,
        (None, Some(_)) => delivery.state = delivery.state.next(DeliveryEvent::GiveUp)?,
    }
    delivery.finished_at = (delivery.state != DeliveryState::Waiting).then_some(now);
    sqlx::query(
        "UPDATE registry_deliveries SET state = $2, attempts = $3, due_at = $4, last_status = $5, last_error = $6,
             finished_at = $7 WHERE id = $1",
    )
    .bind(&delivery.id)
    .bind(delivery.state.as_str())
    .bind(i64::from(delivery.attempts))
    .bind(delivery.due_at.micros())
    .bind(delivery.last_status.map(i64::from))
    .bind(&delivery.last_error)
    .bind(delivery.finished_at.map(Timestamp::micros))
    .execute(&mut *conn)
    .await?;
    if delivery.finished_at.is_some() {
        sqlx::query(
            "DELETE FROM registry_deliveries WHERE webhook = $1 AND state <> 'waiting' AND seq <=
                 (SELECT seq FROM registry_deliveries WHERE webhook = $1 AND state <> 'waiting'
                  ORDER BY seq DESC LIMIT 1 OFFSET $2)",
        )
        .bind(delivery.webhook.to_string())
        .bind(KEPT)
        .execute(conn)
        .await?;
    }
    Ok(())
}

/// Takes, or keeps, the turn to deliver to a webhook until `until`; false where another server has it.
pub(super) async fn claim(
    conn: &mut Conn,
    webhook: &WebhookId,
    server: &str,
    now: Timestamp,
    until: Timestamp,
) -> Result<bool, RegistryError> {
    let done = sqlx::query(
        "UPDATE registry_webhooks SET claimed_by = $2, claimed_until = $4
         WHERE id = $1 AND (claimed_by = $2 OR claimed_until < $3)",
    )
    .bind(webhook.to_string())
    .bind(server)
    .bind(now.micros())
    .bind(until.micros())
    .execute(conn)
    .await?;
    Ok(done.rows_affected() > 0)
}
