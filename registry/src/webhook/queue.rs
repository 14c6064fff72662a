//! From the journal to what waits for receivers: each event becomes a delivery for each webhook that wants it, in one
//! transaction with the cursor, so that none is lost and none is made twice.

use std::collections::HashMap;

use domain::{Event, EventKind, NewEvent, WebhookId, state::DeliveryState};
use serde_json::json;
use storage::{Tx, sql::Conn};
use uuid::Uuid;

use super::{
    Delivery,
    event::{Told, model_of, told},
    store::{self, Subscriber},
    subject,
};
use crate::{Registry, RegistryError, model::PROMPT_TAG};

/// Events read at once.
const BATCH: usize = 256;
/// Deliveries that may wait for one receiver; what comes then is recorded as failed.
const WAITING_MAX: u64 = 1_000;

impl Registry {
    /// Queues all that happened after the event numbered `after`; gives the number of the last event looked at, and
    /// whether anybody wants to be told at all.
    pub(super) async fn queue_events(&self, after: u64) -> Result<(u64, bool), RegistryError> {
        // Read before the webhooks are: one that is registered later wants only what comes later.
        let newest = *self.meta().journal().watch().borrow();
        let subscribers = store::subscribers(&mut *self.meta().reader().begin().await?).await?;
        let Some(since) = subscribers.iter().map(|one| one.since).min() else {
            return Ok((newest.max(after), false));
        };
        let mut after = after.max(since.min(newest));
        let mut prompts = HashMap::new();
        loop {
            let events = self.meta().journal().read(after, BATCH).await?;
            let Some(last) = events.last().map(|event| event.seq) else { return Ok((after, true)) };
            let mut wanted = Vec::new();
            for event in &events {
                let Some(model) = model_of(event) else { continue };
                let prompt = match prompts.get(model) {
                    Some(known) => *known,
                    None => {
                        let is = is_prompt(&mut *self.meta().reader().begin().await?, model).await?;
                        prompts.insert(model.to_owned(), is);
                        is
                    }
                };
                if let Some(told) = told(event, prompt)
                    && subscribers.iter().any(|one| one.events.contains(&told.event))
                {
                    wanted.push((event, told));
                }
            }
            if !wanted.is_empty() {
                self.queue(&wanted, last).await?;
            }
            after = last;
        }
    }

    async fn queue(&self, events: &[(&Event, Told)], last: u64) -> Result<(), RegistryError> {
        let mut tx = self.begin().await?;
        // Another server may have been here, and a webhook may be gone.
        let done = store::cursor(tx.conn()).await?;
        for one in store::subscribers(tx.conn()).await? {
            let mut waiting = store::waiting_count(tx.conn(), &one.id).await?;
            for (event, told) in events.iter().filter(|(event, _)| event.seq > done.max(one.since)) {
                if one.events.contains(&told.event) {
                    self.put(&mut tx, &one, event, told, &mut waiting).await?;
                }
            }
        }
        if last > done {
            store::move_cursor(tx.conn(), last).await?;
        }
        Ok(tx.commit().await?)
    }

    async fn put(
        &self,
        tx: &mut Tx,
        one: &Subscriber,
        event: &Event,
        told: &Told,
        waiting: &mut u64,
    ) -> Result<(), RegistryError> {
        let now = self.now();
        let full = *waiting >= WAITING_MAX;
        let delivery = Delivery {
            id: Uuid::new_v4().to_string(),
            webhook: one.id,
            seq: event.seq,
            event: told.event,
            state: if full { DeliveryState::Failed } else { DeliveryState::Waiting },
            attempts: 0,
            last_status: None,
            last_error: full.then(|| format!("{WAITING_MAX} deliveries wait already")),
            due_at: now,
            finished_at: full.then_some(now),
        };
        store::put_delivery(tx.conn(), &delivery, &told.body(event.at)).await?;
        if full {
            return give_up(tx, &delivery, now).await;
        }
        *waiting += 1;
        Ok(())
    }
}

/// Tells that a receiver was not told.
pub(super) async fn give_up(tx: &mut Tx, delivery: &Delivery, now: domain::Timestamp) -> Result<(), RegistryError> {
    let webhook: &WebhookId = &delivery.webhook;
    tx.append(NewEvent {
        at: now,
        kind: EventKind::WebhookGaveUp,
        subject: subject(webhook),
        actor: crate::ACTOR.into(),
        cause: Some(delivery.seq),
        body: json!({
            "delivery": delivery.id, "event": delivery.event, "attempts": delivery.attempts,
            "status": delivery.last_status, "error": delivery.last_error,
        }),
    })
    .await?;
    Ok(())
}

async fn is_prompt(conn: &mut Conn, model: &str) -> Result<bool, RegistryError> {
    Ok(sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM registry_model_tags WHERE model = $1 AND key = $2 AND LOWER(value) = 'true')",
    )
    .bind(model)
    .bind(PROMPT_TAG)
    .fetch_one(conn)
    .await?)
}
