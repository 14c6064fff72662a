//! Sending one message and reading what came back. Blocks: callers run it on threads that may wait.

use std::{fmt, io, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use domain::{Span, Timestamp};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::Serialize;
use sha2::Sha256;
use ureq::{
    Agent,
    config::Config,
    http::{Request, Uri},
    unversioned::{
        resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver},
        transport::{DefaultConnector, NextTimeout},
    },
};
use url::Url;

use super::{Secret, WebhookSettings, address};
use crate::RegistryError;

/// Time for a whole exchange, and for connecting.
const EXCHANGE: Duration = Duration::from_secs(10);
const CONNECT: Duration = Duration::from_secs(5);
/// How much of an answer is read.
const ANSWER_BYTES_MAX: u64 = 64 << 10;
/// The longest wait between two attempts.
const WAIT_MAX: Span = Span::from_micros(60_000_000);

/// A message on its way.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub(crate) url: Url,
    pub(crate) secret: Option<Secret>,
    pub(crate) delivery: String,
    pub(crate) body: String,
}

/// What became of an attempt.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Outcome {
    pub(crate) status: Option<u16>,
    pub(crate) answer: String,
    /// Why it did not arrive; `None` where it did.
    pub(crate) error: Option<String>,
    /// Whether trying again may help.
    pub(crate) again: bool,
    /// The receiver asks to be left alone for so long.
    pub(crate) after: Option<Span>,
}

/// What a test of a webhook found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TestResult {
    pub success: bool,
    pub response_status: Option<u16>,
    pub response_body: Option<String>,
    pub error_message: Option<String>,
}

impl From<Outcome> for TestResult {
    fn from(outcome: Outcome) -> Self {
        Self {
            success: outcome.error.is_none(),
            response_status: outcome.status,
            response_body: Some(outcome.answer).filter(|answer| !answer.is_empty()),
            error_message: outcome.error,
        }
    }
}

/// Sends messages. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Sender {
    agent: Agent,
    pub(crate) settings: Arc<WebhookSettings>,
}

impl Sender {
    pub(crate) fn new(settings: WebhookSettings) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .https_only(!settings.allow_private)
            // A proxy would be what is connected to, and a redirect leads elsewhere.
            .proxy(None)
            .max_redirects(0)
            .max_redirects_will_error(false)
            // Each message looks the address up and has it checked.
            .max_idle_connections(0)
            .timeout_global(Some(EXCHANGE))
            .timeout_connect(Some(CONNECT))
            .user_agent(concat!("millpond/", env!("CARGO_PKG_VERSION")))
            .build();
        let resolver = Guarded { allow_private: settings.allow_private, inner: DefaultResolver::default() };
        let agent = Agent::with_parts(config, DefaultConnector::default(), resolver);
        Self { agent, settings: Arc::new(settings) }
    }

    /// Sends a message without holding up other tasks.
    pub(crate) async fn send(&self, message: Message, at: Timestamp) -> Outcome {
        let sender = self.clone();
        let sent = tokio::task::spawn_blocking(move || sender.exchange(&message, at)).await;
        sent.unwrap_or_else(|error| failed(format!("the attempt broke off: {error}"), true))
    }

    /// The wait before the attempt after so many.
    pub(crate) fn wait(&self, attempts: u32, outcome: &Outcome) -> Span {
        let doubled = self.settings.first_retry.micros().saturating_mul(1_i64 << attempts.saturating_sub(1).min(30));
        let asked = outcome.after.unwrap_or(Span::ZERO);
        Span::from_micros(doubled.max(asked.micros()).min(WAIT_MAX.micros()))
    }

    fn exchange(&self, message: &Message, at: Timestamp) -> Outcome {
        let seconds = at.micros().div_euclid(1_000_000).to_string();
        let mut request = Request::post(message.url.as_str())
            .header("content-type", "application/json")
            .header("x-mlflow-delivery-id", &message.delivery)
            .header("x-mlflow-timestamp", &seconds);
        if let Some(secret) = &message.secret {
            let signature = sign(secret, &message.delivery, &seconds, &message.body);
            request = request.header("x-mlflow-signature", signature);
        }
        let request = match request.body(message.body.as_bytes()) {
            Ok(request) => request,
            Err(error) => return failed(format!("the request cannot be written: {error}"), false),
        };
        let response = match self.agent.run(request) {
            Ok(response) => response,
            Err(error) => {
                let again = !is_blocked(&error) && !matches!(error, ureq::Error::RequireHttpsOnly(_));
                return failed(told(&error), again);
            }
        };
        let status = response.status().as_u16();
        let after = response.headers().get("retry-after").and_then(|text| text.to_str().ok()?.trim().parse().ok());
        let after = after.map(|seconds: u32| Span::from_micros(i64::from(seconds) * 1_000_000));
        // What was answered is shown by a test and matters for nothing else.
        let answer = response.into_body().into_with_config().limit(ANSWER_BYTES_MAX).read_to_vec().unwrap_or_default();
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let (error, again) = match status {
            200..300 => (None, false),
            300..400 => (Some(format!("status {status}: redirects are not followed")), false),
            429 | 500..600 => (Some(format!("status {status}")), true),
            _ => (Some(format!("status {status}")), false),
        };
        Outcome { status: Some(status), answer, error, again, after }
    }
}

fn failed(error: String, again: bool) -> Outcome {
    Outcome { error: Some(error), again, ..Outcome::default() }
}

/// `v1,base64(HMAC-SHA256(secret, "<delivery>.<timestamp>.<body>"))`, as MLflow signs.
pub(super) fn sign(secret: &Secret, delivery: &str, timestamp: &str, body: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.reveal().as_bytes()).expect("keys of any length are taken");
    mac.update(format!("{delivery}.{timestamp}.{body}").as_bytes());
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

/// Looks names up as the system does, and lets only public addresses through. What it gives is what is connected to, so
/// a name that changes its mind after the check leads nowhere else.
#[derive(Debug)]
struct Guarded {
    allow_private: bool,
    inner: DefaultResolver,
}

impl Resolver for Guarded {
    fn resolve(&self, uri: &Uri, config: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let found = self.inner.resolve(uri, config, timeout)?;
        if self.allow_private || address::all_public(&found) {
            return Ok(found);
        }
        Err(ureq::Error::Io(io::Error::new(io::ErrorKind::PermissionDenied, Blocked)))
    }
}

/// A receiver whose address is not public.
#[derive(Debug)]
struct Blocked;

impl fmt::Display for Blocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the receiver's address is not public")
    }
}

impl std::error::Error for Blocked {}

fn is_blocked(error: &ureq::Error) -> bool {
    matches!(error, ureq::Error::Io(inner) if inner.get_ref().is_some_and(|inner| inner.is::<Blocked>()))
}

/// What went wrong, without the URL, which may hold a token.
fn told(error: &ureq::Error) -> String {
    match error {
        error if is_blocked(error) => Blocked.to_string(),
        ureq::Error::RequireHttpsOnly(_) => "the receiver is not spoken to by https".to_owned(),
        ureq::Error::HostNotFound => "the receiver's name is not known".to_owned(),
        ureq::Error::Timeout(_) => format!("no answer within {} seconds", EXCHANGE.as_secs()),
        ureq::Error::BadUri(_) => "the URL cannot be sent to".to_owned(),
        other => other.to_string(),
    }
}

/// The URL of a stored webhook as it is sent to; in words, and without the URL, why it is not.
pub(crate) fn target(url: &str, settings: &WebhookSettings) -> Result<Url, String> {
    address::lawful(url, settings.allow_private).map_err(|error| match error {
        RegistryError::Invalid { problem, .. } => format!("the webhook's URL {problem}"),
        other => other.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_signed_as_mlflow_signs_it() {
        // Python: base64.b64encode(hmac.new(b"sesame", b'id-1.1700000000.{"a": 1}', "sha256").digest())
        let signature = sign(&Secret::new("sesame".into()), "id-1", "1700000000", r#"{"a": 1}"#);
        assert_eq!(signature, "v1,qUruorMH+lpw1zbuhX45LOGjG+6HIN09NHF6QgrhELM=");
    }

    #[test]
    fn the_wait_doubles_up_to_a_minute_and_heeds_the_receiver() {
        let sender = Sender::new(WebhookSettings::default());
        let seconds = |attempts, after: Option<i64>| {
            let after = after.map(|after| Span::from_micros(after * 1_000_000));
            sender.wait(attempts, &Outcome { after, ..Outcome::default() }).micros() / 1_000_000
        };
        assert_eq!([1, 2, 3, 6, 7, 60].map(|attempts| seconds(attempts, None)), [1, 2, 4, 32, 60, 60]);
        assert_eq!((seconds(1, Some(7)), seconds(1, Some(3_600)), seconds(4, Some(2))), (7, 60, 8));
    }

    #[test]
    fn a_private_address_is_not_connected_to_whatever_the_url_says() {
        // A receiver that would answer.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let sender = Sender::new(WebhookSettings::default());
        for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]"] {
            let url = Url::parse(&format!("https://{host}:{port}/")).unwrap();
            let message = Message { url, secret: None, delivery: "1".into(), body: "{}".into() };
            let outcome = sender.exchange(&message, Timestamp::from_micros(0));
            assert_eq!(outcome.error.as_deref(), Some("the receiver's address is not public"), "{host}");
            assert!(!outcome.again);
        }
        assert!(listener.accept().is_err(), "nobody came");
    }
}
