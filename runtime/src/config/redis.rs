//! Addresses of Redis servers by name, which are not shown.

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::Serialize;

/// `main=redis://:password@host:6379, spare=rediss://other:6379/1`. Whatever shows it leaves the addresses out.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct RedisServers(BTreeMap<String, String>);

impl RedisServers {
    /// The whole addresses, for connecting and nothing else.
    #[must_use]
    pub const fn reveal(&self) -> &BTreeMap<String, String> {
        &self.0
    }
}

impl FromStr for RedisServers {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || "expected `name=redis://host:port`, or several of them between commas".to_owned();
        let mut servers = BTreeMap::new();
        for one in text.split(',').map(str::trim).filter(|one| !one.is_empty()) {
            let (name, url) = one.split_once('=').ok_or_else(expected)?;
            let (name, url) = (name.trim(), url.trim());
            let lawful = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
            let address =
                ["redis://", "rediss://"].iter().any(|scheme| url.len() > scheme.len() && url.starts_with(scheme));
            if name.is_empty() || !name.bytes().all(lawful) || !address {
                return Err(expected());
            }
            if servers.insert(name.to_owned(), url.to_owned()).is_some() {
                return Err(format!("`{name}` stands twice"));
            }
        }
        Ok(Self(servers))
    }
}

impl fmt::Display for RedisServers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown: Vec<String> = self.0.keys().map(|name| format!("{name}=***")).collect();
        f.write_str(&shown.join(", "))
    }
}

impl fmt::Debug for RedisServers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for RedisServers {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::RedisServers;

    #[test]
    fn servers_have_names_and_their_addresses_are_not_shown() {
        let servers: RedisServers = "main=redis://:sesame@host:6379, spare=rediss://other/1".parse().expect("servers");
        assert_eq!(servers.reveal()["main"], "redis://:sesame@host:6379");
        assert_eq!(servers.to_string(), "main=***, spare=***");
        assert_eq!(format!("{servers:?}"), "main=***, spare=***");
        assert_eq!("".parse::<RedisServers>(), Ok(RedisServers::default()));
        for wrong in [
            "redis://:sesame@host",
            "main=http://sesame",
            "Main=redis://sesame",
            "main=redis://",
            "a=redis://sesame,a=redis://x",
        ] {
            assert!(wrong.parse::<RedisServers>().is_err_and(|why| !why.contains("sesame")), "{wrong}");
        }
    }
}
