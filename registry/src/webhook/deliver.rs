//! Bringing what waits to its receivers: one at a time to each, all receivers side by side, so that a slow one holds up
//! nobody but itself.

use std::{collections::HashSet, time::Duration};

use domain::{Span, WebhookId};
use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use runtime::House;
use tokio::time::MissedTickBehavior;
use uuid::Uuid;

use super::{
    Sender, WebhookSettings,
    queue::give_up,
    send::{self, Message, Outcome},
    store,
};
use crate::{Registry, RegistryError};

/// How often is looked for what another server registered or left behind.
const LOOK: Duration = Duration::from_secs(5);
/// How long a server keeps the turn to deliver to a webhook; longer than an attempt takes.
const TURN: Span = Span::from_micros(30_000_000);
/// The longest sleep before a webhook is looked at again: it may have been changed, disabled or deleted.
const NAP: Duration = Duration::from_secs(5);

impl Registry {
    /// Follows the journal and tells webhooks, until the house shuts down. Where a message was on its way then, it is
    /// sent again after the next start, under the same id.
    pub fn deliver_webhooks(&self, house: &House, settings: WebhookSettings) {
        // A second call would change nothing: the first one's settings stand.
        let _ = self.0.webhooks.set(Sender::new(settings));
        let registry = self.clone();
        house.spawn("webhooks", |stop| async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = registry.deliver() => {}
            }
        });
    }

    /// Sends messages by the settings of this server; strict ones where none were given.
    pub(crate) fn webhook_sender(&self) -> &Sender {
        self.0.webhooks.get_or_init(|| Sender::new(WebhookSettings::default()))
    }

    async fn deliver(&self) {
        let server = Uuid::new_v4().simple().to_string();
        let mut newest = self.meta().journal().watch();
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut after, mut at_work, mut wanted) = (None, HashSet::new(), true);
        let mut workers: FuturesUnordered<BoxFuture<'_, WebhookId>> = FuturesUnordered::new();
        loop {
            newest.borrow_and_update();
            match self.take_stock(&mut after).await {
                Ok((anybody, busy)) => {
                    wanted = anybody;
                    for id in busy.into_iter().filter(|id| at_work.insert(*id)) {
                        let server = server.as_str();
                        workers.push(async move { self.drain(id, server).await }.boxed());
                    }
                }
                // Nothing is lost: the journal and the queue stand where they stood.
                Err(error) => tracing::warn!(%error, "could not look for what webhooks are to be told"),
            }
            tokio::select! {
                // While nobody wants to be told, runs and metrics cost nothing here.
                changed = newest.changed(), if wanted => if changed.is_err() { return },
                () = self.0.webhooks_changed.notified() => {}
                Some(id) = workers.next(), if !workers.is_empty() => drop(at_work.remove(&id)),
                _ = look.tick() => {}
            }
        }
    }

    /// Queues what happened; whether there is anybody to tell, and the webhooks for which something waits.
    async fn take_stock(&self, after: &mut Option<u64>) -> Result<(bool, Vec<WebhookId>), RegistryError> {
        let from = match *after {
            Some(after) => after,
            None => store::cursor(&mut *self.meta().reader().begin().await?).await?,
        };
        let (last, anybody) = self.queue_events(from).await?;
        *after = Some(last);
        let busy = if anybody { store::busy(&mut *self.meta().reader().begin().await?).await? } else { Vec::new() };
        Ok((anybody, busy))
    }

    /// Delivers what waits for one webhook, oldest first, until nothing does.
    async fn drain(&self, id: WebhookId, server: &str) -> WebhookId {
        loop {
            match self.deliver_next(&id, server).await {
                Ok(true) => {}
                Ok(false) => return id,
                Err(error) => {
                    tracing::warn!(webhook = %id, %error, "could not deliver");
                    return id;
                }
            }
        }
    }

    /// Makes one attempt, or sleeps towards the next; false when there is nothing to do here.
    async fn deliver_next(&self, id: &WebhookId, server: &str) -> Result<bool, RegistryError> {
        if self.meta().is_shared() && !self.claim(id, server).await? {
            return Ok(false);
        }
        let (waiting, webhook, secret) = {
            let mut tx = self.meta().reader().begin().await?;
            let Some(waiting) = store::next(&mut tx, id).await? else { return Ok(false) };
            (waiting, store::webhook(&mut tx, id).await?, store::secret(&mut tx, id).await?)
        };
        let (mut delivery, body) = waiting;
        let early = (delivery.due_at - self.now()).to_std();
        if !early.is_zero() {
            tokio::time::sleep(early.min(NAP)).await;
            return Ok(true);
        }
        let sender = self.webhook_sender();
        let outcome = match send::target(&webhook.url, &sender.settings) {
            Ok(url) => {
                let message = Message { url, secret, delivery: delivery.id.clone(), body };
                sender.send(message, self.now()).await
            }
            Err(error) => Outcome { error: Some(error), ..Outcome::default() },
        };
        let now = self.now();
        let tried = delivery.attempts.saturating_add(1);
        let again = outcome.again && (tried as usize) < sender.settings.attempts;
        let due_at = again.then(|| now + sender.wait(tried, &outcome));
        let mut tx = self.begin().await?;
        store::record(tx.conn(), &mut delivery, &outcome, due_at, now).await?;
        if due_at.is_none() && outcome.error.is_some() {
            give_up(&mut tx, &delivery, now).await?;
            tracing::warn!(webhook = %id, delivery = %delivery.id, attempts = delivery.attempts, error = outcome.error, "a webhook's receiver was not told");
        }
        tx.commit().await?;
        Ok(true)
    }

    async fn claim(&self, id: &WebhookId, server: &str) -> Result<bool, RegistryError> {
        let now = self.now();
        let mut tx = self.begin().await?;
        let ours = store::claim(tx.conn(), id, server, now, now + TURN).await?;
        tx.commit().await?;
        Ok(ours)
    }
}
