//! A server, and sessions on it.

use std::{fmt, sync::Arc, time::Duration};

use tokio::{
    runtime::Handle,
    time::{Instant, timeout, timeout_at},
};
use tonic::{
    Request, Status,
    metadata::MetadataValue,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint},
};
use uuid::Uuid;

use crate::{
    address::Address,
    error::SparkError,
    protocol::{self as wire, spark_connect_service_client::SparkConnectServiceClient},
    relation::Relation,
    rows::Rows,
};

/// Who asks, as servers show it.
const CLIENT: &str = concat!("millpond/", env!("CARGO_PKG_VERSION"));
/// A message that comes or goes; Spark's own limit.
const MESSAGE_BYTES_MAX: usize = 128 << 20;
const CONNECT: Duration = Duration::from_secs(10);
/// How long a farewell may take.
const FAREWELL: Duration = Duration::from_secs(5);

/// A Spark Connect server. Clones share one connection, which is made when it is first used and again when it breaks.
#[derive(Clone)]
pub struct Spark(Arc<Inner>);

struct Inner {
    address: Address,
    shown: String,
    channel: Channel,
    deadline: Duration,
}

impl fmt::Debug for Spark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Spark({})", self.0.shown)
    }
}

impl Spark {
    /// The server at the address, whose sessions may last for `deadline`. Over TLS its certificate must be signed by a
    /// public authority or by one of `authorities` (PEM). Nothing is sent yet. Called within a runtime.
    ///
    /// # Errors
    /// `Tls` when `authorities` cannot be read.
    pub fn new(address: Address, authorities: Option<&[u8]>, deadline: Duration) -> Result<Self, SparkError> {
        let shown = address.to_string();
        let tls = |reason: String| SparkError::Tls { server: shown.clone(), reason };
        let mut endpoint = Endpoint::from_shared(address.uri())
            .map_err(|error| tls(error.to_string()))?
            .connect_timeout(CONNECT)
            .http2_keep_alive_interval(Duration::from_secs(30))
            .keep_alive_timeout(Duration::from_secs(20));
        if address.tls() {
            let mut config = ClientTlsConfig::new().with_webpki_roots();
            if let Some(pem) = authorities {
                config = config.ca_certificate(Certificate::from_pem(pem));
            }
            endpoint = endpoint.tls_config(config).map_err(|error| tls(error.to_string()))?;
        }
        let channel = endpoint.connect_lazy();
        Ok(Self(Arc::new(Inner { address, shown, channel, deadline })))
    }

    /// The address, without its token.
    #[must_use]
    pub fn server(&self) -> &str {
        &self.0.shown
    }

    /// A session of its own.
    #[must_use]
    pub fn session(&self) -> Session {
        let until = Instant::now() + self.0.deadline;
        Session { spark: self.clone(), id: Uuid::new_v4().to_string(), until, open: false }
    }
}

/// Views and settings of one caller. To be [closed](Session::close); one that is dropped instead interrupts what it runs.
pub struct Session {
    spark: Spark,
    id: String,
    until: Instant,
    /// Whether the server knows of it.
    open: bool,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Session({} on {})", self.id, self.spark.0.shown)
    }
}

impl Session {
    /// Sets what the server's SQL depends on, such as `spark.sql.session.timeZone`.
    ///
    /// # Errors
    /// What the server says.
    pub async fn set(&mut self, settings: &[(&str, &str)]) -> Result<(), SparkError> {
        self.open = true;
        let pair = |(key, value): &(&str, &str)| wire::KeyValue { key: (*key).into(), value: Some((*value).into()) };
        let set = wire::config_request::Set { pairs: settings.iter().map(pair).collect() };
        let request = wire::ConfigRequest {
            session_id: self.id.clone(),
            user_context: Some(self.user()),
            operation: Some(wire::config_request::Operation {
                op_type: Some(wire::config_request::operation::OpType::Set(set)),
            }),
            client_type: Some(CLIENT.into()),
        };
        let request = self.request(request);
        let mut client = self.client();
        self.in_time(client.config(request)).await.map(drop)
    }

    /// Gives a relation a name that queries of this session know.
    ///
    /// # Errors
    /// What the server says.
    pub async fn view(&mut self, name: &str, relation: Relation) -> Result<(), SparkError> {
        let input = relation.into_wire().map_err(|error| self.garbled(&error.to_string()))?;
        let command =
            wire::CreateDataFrameViewCommand { input: Some(input), name: name.into(), is_global: false, replace: true };
        let command = wire::Command { command_type: Some(wire::command::CommandType::CreateDataframeView(command)) };
        let mut rows = self.execute(wire::plan::OpType::Command(command)).await?;
        while rows.next().await?.is_some() {}
        Ok(())
    }

    /// Asks a query.
    ///
    /// # Errors
    /// What the server says.
    pub async fn query(&mut self, sql: &str) -> Result<Rows<'_>, SparkError> {
        tracing::debug!(session = self.id, sql, "Spark is asked");
        let relation = Relation::Sql(sql.to_owned()).into_wire();
        let relation = relation.map_err(|error| self.garbled(&error.to_string()))?;
        self.execute(wire::plan::OpType::Root(relation)).await
    }

    async fn execute(&mut self, plan: wire::plan::OpType) -> Result<Rows<'_>, SparkError> {
        self.open = true;
        let request = self.request(wire::ExecutePlanRequest {
            session_id: self.id.clone(),
            user_context: Some(self.user()),
            plan: Some(wire::Plan { op_type: Some(plan) }),
            client_type: Some(CLIENT.into()),
            operation_id: Some(Uuid::new_v4().to_string()),
        });
        let mut client = self.client();
        let stream = self.in_time(client.execute_plan(request)).await?.into_inner();
        Ok(Rows::new(self, stream))
    }

    /// Gives the session's views back.
    pub async fn close(mut self) {
        if std::mem::take(&mut self.open) {
            let (client, request) = (self.client(), self.release());
            farewell(client, None, request).await;
        }
    }

    /// The call's answer, unless the session's time is over before.
    pub(crate) async fn in_time<T>(&self, call: impl Future<Output = Result<T, Status>>) -> Result<T, SparkError> {
        let inner = &self.spark.0;
        match timeout_at(self.until, call).await {
            Ok(answer) => answer.map_err(|status| SparkError::of(&inner.shown, &status)),
            Err(_) => Err(SparkError::Late { server: inner.shown.clone(), seconds: inner.deadline.as_secs() }),
        }
    }

    pub(crate) fn garbled(&self, reason: &str) -> SparkError {
        SparkError::Garbled { server: self.spark.0.shown.clone(), reason: reason.to_owned() }
    }

    fn client(&self) -> SparkConnectServiceClient<Channel> {
        SparkConnectServiceClient::new(self.spark.0.channel.clone())
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    }

    fn user(&self) -> wire::UserContext {
        let user = self.spark.0.address.user();
        wire::UserContext { user_id: user.into(), user_name: user.into() }
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let token = self.spark.0.address.token();
        // An address holds only tokens that a header may.
        if let Some(Ok(value)) = token.map(|token| MetadataValue::try_from(format!("Bearer {token}"))) {
            request.metadata_mut().insert("authorization", value);
        }
        request
    }

    fn release(&self) -> Request<wire::ReleaseSessionRequest> {
        self.request(wire::ReleaseSessionRequest {
            session_id: self.id.clone(),
            user_context: Some(self.user()),
            client_type: Some(CLIENT.into()),
        })
    }
}

/// Nobody waits any more: what runs is stopped on the server.
impl Drop for Session {
    fn drop(&mut self) {
        let Ok(runtime) = Handle::try_current() else { return };
        if !std::mem::take(&mut self.open) {
            return;
        }
        let interrupt = self.request(wire::InterruptRequest {
            session_id: self.id.clone(),
            user_context: Some(self.user()),
            client_type: Some(CLIENT.into()),
            interrupt_type: wire::interrupt_request::InterruptType::All.into(),
        });
        runtime.spawn(farewell(self.client(), Some(interrupt), self.release()));
    }
}

/// Servers forget sessions by themselves after a while, so what goes wrong here is only told.
async fn farewell(
    mut client: SparkConnectServiceClient<Channel>,
    interrupt: Option<Request<wire::InterruptRequest>>,
    release: Request<wire::ReleaseSessionRequest>,
) {
    let said = timeout(FAREWELL, async {
        if let Some(interrupt) = interrupt {
            client.interrupt(interrupt).await?;
        }
        client.release_session(release).await
    });
    match said.await {
        Ok(Ok(_)) => {}
        Ok(Err(status)) => tracing::debug!(%status, "Spark did not take leave of a session"),
        Err(_) => tracing::debug!("Spark took too long over leave of a session"),
    }
}
