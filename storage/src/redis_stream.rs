//! One consumer of a consumer group of a Redis stream.
//!
//! Redis hands an entry to one consumer of the group and remembers it as pending until it is acknowledged. So whoever
//! acknowledges only what is durable elsewhere, and asks for its own pending entries first when it starts, sees every entry
//! at least once, through crashes of either side.

use std::{fmt, time::Duration};

use redis::{AsyncConnectionConfig, Client, Cmd, ErrorKind, IntoConnectionInfo as _, RedisError, Value, cmd};

/// How long the server may take to let us in, and to answer beyond the time for which it was asked to wait.
const PATIENCE: Duration = Duration::from_secs(5);

/// What goes wrong with a stream. The text never repeats the address, which may hold a password.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    #[error("it is not the address of a Redis server: expected `redis://host:port`, or `rediss://` for TLS")]
    BadUrl,
    /// Nobody answers, or not in time: another time may do.
    #[error("Redis cannot be reached: {0}")]
    Unreachable(String),
    /// The group, or the stream with it, is gone.
    #[error("the consumer group is gone")]
    NoGroup,
    /// Redis answers with an error.
    #[error("Redis refuses: {0}")]
    Refused(String),
    #[error("Redis answers in a way that is not understood: {0}")]
    Reply(String),
}

impl From<RedisError> for StreamError {
    fn from(error: RedisError) -> Self {
        if error.code() == Some("NOGROUP") {
            Self::NoGroup
        } else if error.is_io_error() || error.is_timeout() || error.is_connection_dropped() {
            Self::Unreachable(error.to_string())
        } else if matches!(error.kind(), ErrorKind::UnexpectedReturnType | ErrorKind::Parse) {
            Self::Reply(error.to_string())
        } else {
            Self::Refused(error.to_string())
        }
    }
}

/// Where a stream is, and as whom it is read.
#[derive(Clone, PartialEq, Eq)]
pub struct StreamPlace {
    /// `redis://user:password@host:port/db`.
    pub url: String,
    pub key: String,
    pub group: String,
    /// Our name in the group: the same after a restart.
    pub consumer: String,
}

/// Without the address, which may hold a password.
impl fmt::Debug for StreamPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { url: _, key, group, consumer } = self;
        write!(f, "StreamPlace({key}, {group}, {consumer})")
    }
}

/// An entry of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// As in `1700000000000-0`.
    pub id: String,
    /// Names and values, as bytes; `None`: it was deleted from the stream while it was pending.
    pub fields: Option<Vec<(Vec<u8>, Vec<u8>)>>,
}

/// How far a group is behind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lag {
    /// Entries that were not handed to anybody yet; `None`: the server cannot tell.
    pub waiting: Option<u64>,
    /// Entries that were handed out and are not acknowledged.
    pub pending: u64,
}

/// An open connection that reads one stream.
pub struct RedisStream {
    connection: redis::aio::MultiplexedConnection,
    place: StreamPlace,
    block: Duration,
}

impl RedisStream {
    /// Connects, and makes the group, at the stream's beginning, and the stream, where they are not there.
    ///
    /// `block`: how long [`RedisStream::read`] waits for an entry.
    ///
    /// # Errors
    /// As [`StreamError`] says.
    pub async fn open(place: StreamPlace, block: Duration) -> Result<Self, StreamError> {
        let info = place.url.as_str().into_connection_info().map_err(|_| StreamError::BadUrl)?;
        let client = Client::open(info).map_err(|_| StreamError::BadUrl)?;
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(PATIENCE))
            .set_response_timeout(Some(PATIENCE + block));
        let connection = client.get_multiplexed_async_connection_with_config(&config).await?;
        let mut stream = Self { connection, place, block };
        stream.join().await?;
        Ok(stream)
    }

    async fn join(&mut self) -> Result<(), StreamError> {
        let mut create = cmd("XGROUP");
        create.arg("CREATE").arg(&self.place.key).arg(&self.place.group).arg("0").arg("MKSTREAM");
        match self.ask(&create).await {
            Err(StreamError::Refused(why)) if why.contains("BUSYGROUP") => Ok(()),
            done => done.map(drop),
        }
    }

    async fn ask(&mut self, command: &Cmd) -> Result<Value, StreamError> {
        Ok(command.query_async(&mut self.connection).await?)
    }

    /// At most `count` entries that nobody of the group has had; waits for the first. Empty: none came in time.
    ///
    /// # Errors
    /// As [`StreamError`] says.
    pub async fn read(&mut self, count: usize) -> Result<Vec<Entry>, StreamError> {
        let mut command = self.read_group(count);
        command.arg("BLOCK").arg(self.block.as_millis().max(1).to_string());
        command.arg("STREAMS").arg(&self.place.key).arg(">");
        entries_of_streams(self.ask(&command).await?)
    }

    /// At most `count` of our own pending entries behind the one of this id; `0`: from the first.
    ///
    /// # Errors
    /// As [`StreamError`] says.
    pub async fn own(&mut self, behind: &str, count: usize) -> Result<Vec<Entry>, StreamError> {
        let mut command = self.read_group(count);
        command.arg("STREAMS").arg(&self.place.key).arg(behind);
        entries_of_streams(self.ask(&command).await?)
    }

    fn read_group(&self, count: usize) -> Cmd {
        let mut command = cmd("XREADGROUP");
        command.arg("GROUP").arg(&self.place.group).arg(&self.place.consumer).arg("COUNT").arg(count);
        command
    }

    /// Takes over at most `count` entries, from this id on, that some consumer has had pending for longer than `idle`, and
    /// gives the id to go on from, `0-0` when all were seen. What was deleted from the stream is forgotten on the way.
    ///
    /// # Errors
    /// As [`StreamError`] says.
    pub async fn claim(
        &mut self,
        from: &str,
        idle: Duration,
        count: usize,
    ) -> Result<(String, Vec<Entry>), StreamError> {
        let mut command = cmd("XAUTOCLAIM");
        command.arg(&self.place.key).arg(&self.place.group).arg(&self.place.consumer);
        command.arg(idle.as_millis().to_string()).arg(from).arg("COUNT").arg(count);
        let Value::Array(parts) = self.ask(&command).await? else { return Err(unknown("XAUTOCLAIM")) };
        let mut parts = parts.into_iter();
        let next = parts.next().and_then(text).ok_or_else(|| unknown("XAUTOCLAIM"))?;
        Ok((next, entries(parts.next().unwrap_or_default())?))
    }

    /// Says that these entries are done.
    ///
    /// # Errors
    /// As [`StreamError`] says.
    pub async fn acknowledge(&mut self, ids: &[&str]) -> Result<(), StreamError> {
        if ids.is_empty() {
            return Ok(());
        }
        let mut command = cmd("XACK");
        command.arg(&self.place.key).arg(&self.place.group).arg(ids);
        self.ask(&command).await.map(drop)
    }

    /// How far the group is behind.
    ///
    /// # Errors
    /// As [`StreamError`] says.
    pub async fn lag(&mut self) -> Result<Lag, StreamError> {
        let mut command = cmd("XINFO");
        command.arg("GROUPS").arg(&self.place.key);
        let Value::Array(groups) = self.ask(&command).await? else { return Err(unknown("XINFO GROUPS")) };
        for group in groups {
            let members = members(group);
            let member = |name: &str| members.iter().find(|(found, _)| found == name).map(|(_, value)| value);
            if member("name").cloned().and_then(text).as_deref() == Some(&self.place.group) {
                let count = |name: &str| match member(name) {
                    Some(Value::Int(count)) => u64::try_from(*count).ok(),
                    _ => None,
                };
                return Ok(Lag { waiting: count("lag"), pending: count("pending").unwrap_or(0) });
            }
        }
        Err(StreamError::NoGroup)
    }
}

impl fmt::Debug for RedisStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RedisStream").field(&self.place).finish()
    }
}

fn unknown(command: &str) -> StreamError {
    StreamError::Reply(format!("to {command}"))
}

fn bytes(value: Value) -> Option<Vec<u8>> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        Value::SimpleString(text) => Some(text.into_bytes()),
        _ => None,
    }
}

fn text(value: Value) -> Option<String> {
    String::from_utf8(bytes(value)?).ok()
}

/// Names and values, whichever version of the protocol is spoken.
fn members(value: Value) -> Vec<(String, Value)> {
    match value {
        Value::Map(pairs) => pairs.into_iter().filter_map(|(name, value)| Some((text(name)?, value))).collect(),
        Value::Array(flat) => {
            let mut flat = flat.into_iter();
            let mut pairs = Vec::new();
            while let (Some(name), Some(value)) = (flat.next(), flat.next()) {
                pairs.extend(text(name).map(|name| (name, value)));
            }
            pairs
        }
        _ => Vec::new(),
    }
}

/// The entries of the one stream that was asked for.
fn entries_of_streams(value: Value) -> Result<Vec<Entry>, StreamError> {
    let first = match value {
        Value::Nil => return Ok(Vec::new()),
        Value::Map(streams) => streams.into_iter().next().map(|(_, found)| found),
        Value::Array(streams) => match streams.into_iter().next() {
            Some(Value::Array(stream)) => stream.into_iter().nth(1),
            _ => None,
        },
        _ => None,
    };
    entries(first.ok_or_else(|| unknown("XREADGROUP"))?)
}

fn entries(value: Value) -> Result<Vec<Entry>, StreamError> {
    let Value::Array(items) = value else { return Ok(Vec::new()) };
    let mut found = Vec::with_capacity(items.len());
    for item in items {
        let parts = match item {
            // Servers before 7 list deleted entries so.
            Value::Nil => continue,
            Value::Array(parts) => parts,
            _ => return Err(unknown("a read")),
        };
        let mut parts = parts.into_iter();
        let id = parts.next().and_then(text).ok_or_else(|| unknown("a read"))?;
        let fields = match parts.next() {
            Some(Value::Array(flat)) => {
                let mut flat = flat.into_iter().map(bytes);
                let mut fields = Vec::new();
                while let (Some(Some(name)), Some(Some(value))) = (flat.next(), flat.next()) {
                    fields.push((name, value));
                }
                Some(fields)
            }
            _ => None,
        };
        found.push(Entry { id, fields });
    }
    Ok(found)
}
