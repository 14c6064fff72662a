//! Webhooks: who is told of changes of models, where, and what became of it. In MLflow's words, so that its clients can
//! set them up and its receivers can read them.

mod address;
mod change;
mod deliver;
mod event;
mod queue;
mod send;
mod store;

use std::fmt;

use domain::{Span, Timestamp, WebhookId, state::DeliveryState};
use serde::{Deserialize, Serialize};

pub use change::{NewWebhook, WebhookChange};
pub use event::{Action, Entity, Subscription};
pub(crate) use send::Sender;
pub use send::TestResult;

/// How webhooks are delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookSettings {
    /// Whether receivers may have loopback and private addresses, and be spoken to by plain http.
    pub allow_private: bool,
    /// How often a receiver is tried.
    pub attempts: usize,
    /// Wait before the second attempt; doubled before each next.
    pub first_retry: Span,
}

impl Default for WebhookSettings {
    fn default() -> Self {
        Self { allow_private: false, attempts: 8, first_retry: Span::from_micros(1_000_000) }
    }
}

/// Whether a webhook is told anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum WebhookStatus {
    #[default]
    Active,
    Disabled,
}

impl WebhookStatus {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "ACTIVE",
            Self::Disabled => "DISABLED",
        }
    }

    /// Reads the form written by `as_str`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Active, Self::Disabled].into_iter().find(|status| status.as_str() == text)
    }
}

/// A receiver of registry events. Its secret is not part of it: nothing that shows a webhook can show that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Webhook {
    pub id: WebhookId,
    pub name: String,
    pub url: String,
    pub description: String,
    pub events: Vec<Subscription>,
    pub status: WebhookStatus,
    /// Whether what is sent is signed.
    pub signed: bool,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// An event on its way to a receiver, or what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// The same in every attempt: receivers tell repetitions by it.
    pub id: String,
    pub webhook: WebhookId,
    /// Number of the journal's event.
    pub seq: u64,
    pub event: Subscription,
    pub state: DeliveryState,
    pub attempts: u32,
    /// HTTP status of the last answer.
    pub last_status: Option<u16>,
    pub last_error: Option<String>,
    pub due_at: Timestamp,
    pub finished_at: Option<Timestamp>,
}

/// The key that messages are signed with. It is written and used, and never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    #[must_use]
    pub const fn new(text: String) -> Self {
        Self(text)
    }

    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// What the journal calls a webhook.
pub(crate) fn subject(id: &WebhookId) -> String {
    format!("webhook/{id}")
}
