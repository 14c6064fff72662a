//! Logs: one line per event on standard error, as text for people or JSON for machines.

use domain::{Coded, ErrorCode};
use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt, util::SubscriberInitExt};

use crate::config::LogFormat;

#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    #[error("`{filter}` is not a log filter: {reason}")]
    BadFilter { filter: String, reason: String },
    #[error("logging was already set up in this process")]
    AlreadySetUp,
}

impl Coded for TelemetryError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::BadFilter { .. } => ErrorCode::InvalidArgument,
            Self::AlreadySetUp => ErrorCode::Conflict,
        }
    }

    fn hint(&self) -> String {
        match self {
            Self::BadFilter { .. } => "write a level, or levels by target, as in `info` or `warn,serving=debug`".into(),
            Self::AlreadySetUp => String::new(),
        }
    }
}

/// Sends every `tracing` event of this process that passes `filter` to standard error.
///
/// # Errors
/// `BadFilter` for a filter that does not parse, `AlreadySetUp` on a second call.
pub fn init(format: LogFormat, filter: &str) -> Result<(), TelemetryError> {
    let filter = parse_filter(filter)?;
    let registry = tracing_subscriber::registry().with(filter);
    match format {
        LogFormat::Text => registry.with(fmt::layer().with_writer(std::io::stderr)).try_init(),
        LogFormat::Json => {
            registry.with(fmt::layer().json().flatten_event(true).with_writer(std::io::stderr)).try_init()
        }
    }
    .map_err(|_| TelemetryError::AlreadySetUp)
}

/// Reads a filter as `init` does, so that settings can be checked before anything starts.
///
/// # Errors
/// `BadFilter`.
pub fn parse_filter(filter: &str) -> Result<EnvFilter, TelemetryError> {
    EnvFilter::builder()
        .parse(filter)
        .map_err(|reason| TelemetryError::BadFilter { filter: filter.to_owned(), reason: reason.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_does_not_parse_is_refused_by_name() {
        assert!(parse_filter("warn,serving=debug").is_ok());
        let error = parse_filter("serving=shout").expect_err("no such level");
        assert!(error.to_string().contains("serving=shout"), "{error}");
    }
}
