//! Where a server is, as Spark writes it: `sc://host:port/;token=...;use_ssl=true`.

use std::{fmt, net::IpAddr, str::FromStr};

/// Spark Connect's own port.
const PORT: u16 = 15_002;

/// A Spark Connect server. Spark's `docs/connection-string.md` describes the text form; `token`, `use_ssl` and `user_id`
/// are understood.
#[derive(Clone, PartialEq, Eq)]
pub struct Address {
    host: String,
    port: u16,
    tls: bool,
    token: Option<String>,
    user: String,
}

/// Why a text is no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{shown}` is no Spark Connect address: {reason}")]
pub struct BadAddress {
    shown: String,
    reason: String,
}

impl Address {
    /// The same with a token, unless it has one.
    ///
    /// # Errors
    /// When the token would go over a network unencrypted, or holds something other than visible ASCII.
    pub fn with_token(mut self, token: &str) -> Result<Self, BadAddress> {
        self.token.get_or_insert_with(|| token.to_owned());
        self.checked()
    }

    /// What tonic takes.
    pub(crate) fn uri(&self) -> String {
        format!("{}://{}:{}", if self.tls { "https" } else { "http" }, self.host, self.port)
    }

    pub(crate) const fn tls(&self) -> bool {
        self.tls
    }

    pub(crate) fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    pub(crate) fn user(&self) -> &str {
        &self.user
    }

    fn checked(self) -> Result<Self, BadAddress> {
        let wrong = |reason: &str| Err(BadAddress { shown: self.to_string(), reason: reason.to_owned() });
        let Some(token) = &self.token else { return Ok(self) };
        if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return wrong("the token has blanks or other bytes that no header may hold");
        }
        let bare = self.host.trim_start_matches('[').trim_end_matches(']');
        let near = bare == "localhost" || bare.parse().is_ok_and(|address: IpAddr| address.is_loopback());
        if !self.tls && !near {
            return wrong("its token would cross the network in the clear; add `use_ssl=true`");
        }
        Ok(self)
    }
}

/// Without the token.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sc://{}:{}{}", self.host, self.port, if self.tls { "/;use_ssl=true" } else { "" })
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({self})")
    }
}

impl FromStr for Address {
    type Err = BadAddress;

    fn from_str(raw: &str) -> Result<Self, BadAddress> {
        // A token must not come out in a message.
        let shown = raw.split(";").next().unwrap_or_default().to_owned();
        let wrong = |reason: String| BadAddress { shown: shown.clone(), reason };
        let rest = raw.strip_prefix("sc://").ok_or_else(|| wrong("it begins with `sc://`".into()))?;
        let (place, parameters) = rest.split_once('/').unwrap_or((rest, ""));
        let bracket = place.rfind(']').unwrap_or(0);
        let (host, port) = match place[bracket..].rfind(':') {
            Some(colon) => (&place[..bracket + colon], Some(&place[bracket + colon + 1..])),
            None => (place, None),
        };
        let port = port.map_or(Ok(PORT), |port| port.parse().map_err(|_| wrong(format!("`{port}` is no port"))))?;
        let lawful = |byte: u8| byte.is_ascii_alphanumeric() || b".-_[]:".contains(&byte);
        if host.is_empty() || !host.bytes().all(lawful) {
            return Err(wrong(format!("`{host}` is no host")));
        }
        let mut address = Self { host: host.into(), port, tls: false, token: None, user: "millpond".into() };
        for parameter in parameters.split(';').filter(|parameter| !parameter.is_empty()) {
            match parameter.split_once('=') {
                Some(("token", token)) => address.token = Some(token.to_owned()),
                Some(("user_id", user)) => address.user = user.to_owned(),
                Some(("use_ssl", "true")) => address.tls = true,
                Some(("use_ssl", "false")) => address.tls = false,
                Some(("use_ssl", other)) => return Err(wrong(format!("use_ssl is `{other}`, not true or false"))),
                Some((other, _)) => {
                    return Err(wrong(format!("parameter `{other}` is not one of token, use_ssl, user_id")));
                }
                None => return Err(wrong("parameters are written `;name=value`".into())),
            }
        }
        address.checked()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_spark_writes_them() {
        let address: Address = "sc://cluster.example.org:443/;use_ssl=true;token=secret;user_id=ann".parse().unwrap();
        assert_eq!((address.uri().as_str(), address.user()), ("https://cluster.example.org:443", "ann"));
        assert_eq!(address.token(), Some("secret"));
        assert!(!format!("{address:?} {address}").contains("secret"));
        assert_eq!("sc://localhost".parse::<Address>().unwrap().uri(), "http://localhost:15002");
        assert_eq!("sc://[::1]:7/".parse::<Address>().unwrap().uri(), "http://[::1]:7");
    }

    #[test]
    fn what_is_wrong_is_said_and_a_token_never_shown() {
        let wrong = |raw: &str| raw.parse::<Address>().unwrap_err().to_string();
        assert_eq!(wrong("spark://h:1"), "`spark://h:1` is no Spark Connect address: it begins with `sc://`");
        assert!(wrong("sc://h:99999").contains("`99999` is no port"));
        assert!(wrong("sc://h:1/;use_tls=true").contains("`use_tls`"));
        let plain = wrong("sc://h:1/;token=secret");
        assert!(plain.contains("use_ssl=true") && !plain.contains("secret"), "{plain}");
        assert!("sc://127.0.0.1:1/;token=secret".parse::<Address>().is_ok());
        assert!("sc://h:1".parse::<Address>().unwrap().with_token("secret").is_err());
    }
}
