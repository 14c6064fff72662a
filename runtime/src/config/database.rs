//! The address of a database, which is not shown whole.

use std::{fmt, str::FromStr};

use serde::Serialize;

/// `postgres://user:password@host/database`. Whatever shows it leaves the password out.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrl(String);

impl DatabaseUrl {
    /// The whole address, for opening the database and nothing else.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl FromStr for DatabaseUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let lawful = text.starts_with("postgres://") || text.starts_with("postgresql://");
        if lawful { Ok(Self(text.to_owned())) } else { Err("expected `postgres://user:password@host/database`".into()) }
    }
}

/// Hides more rather than less where the address is not well formed: a password with an `@` in it is a mistake, and
/// still a password.
impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, rest) = self.0.split_once("://").unwrap_or(("postgres", &self.0));
        let (whose, place) = rest.rsplit_once('@').map_or((None, rest), |(whose, place)| (Some(whose), place));
        write!(f, "{scheme}://")?;
        if let Some(whose) = whose {
            match whose.split_once(':') {
                Some((user, _)) => write!(f, "{user}:***@")?,
                None => write!(f, "{whose}@")?,
            }
        }
        match place.split_once('?') {
            Some((place, parameters)) if parameters.contains("pass") => write!(f, "{place}?***"),
            _ => f.write_str(place),
        }
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for DatabaseUrl {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::DatabaseUrl;

    #[test]
    fn the_password_is_not_shown() {
        let shown = [
            ("postgres://host/pond", "postgres://host/pond"),
            ("postgres://ann@host:5433/pond?sslmode=require", "postgres://ann@host:5433/pond?sslmode=require"),
            ("postgres://ann:sesame@host/pond", "postgres://ann:***@host/pond"),
            ("postgresql://ann:ses:ame@host/pond", "postgresql://ann:***@host/pond"),
            ("postgres://ann:se/s@me@host/pond", "postgres://ann:***@host/pond"),
            ("postgres://ann@host/pond?password=sesame", "postgres://ann@host/pond?***"),
        ];
        for (url, expected) in shown {
            let url: DatabaseUrl = url.parse().expect("a URL");
            assert_eq!(url.to_string(), expected);
            assert_eq!(format!("{url:?}"), expected);
            assert_eq!(serde_json::to_value(&url).expect("serialises"), expected);
        }
        assert!("mysql://ann:sesame@host/pond".parse::<DatabaseUrl>().is_err_and(|why| !why.contains("sesame")));
    }
}
