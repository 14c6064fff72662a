//! The text of a token: `mpt_<project>.<id>.<secret>`.

use std::{fmt, str::FromStr};

use domain::{Digest, ProjectName};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;

use crate::AccessError;

/// What scanners for leaked secrets look for.
const PREFIX: &str = "mpt_";
/// A secret has 256 random bits.
const SECRET_BYTES: usize = 32;
const ID_BYTES: usize = 8;

/// The public part of a token: 16 hexadecimal digits, safe to show and to log.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TokenId(String);

impl FromStr for TokenId {
    type Err = BadSecret;

    fn from_str(text: &str) -> Result<Self, BadSecret> {
        if is_hex(text, ID_BYTES) { Ok(Self(text.to_owned())) } else { Err(BadSecret("id")) }
    }
}

impl TryFrom<String> for TokenId {
    type Error = BadSecret;

    fn try_from(text: String) -> Result<Self, BadSecret> {
        text.parse()
    }
}

impl From<TokenId> for String {
    fn from(id: TokenId) -> Self {
        id.0
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text that is no token. It does not repeat the text, which may be somebody's password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this is not a token of Millpond: its {0} is malformed; one looks like `mpt_<project>.<id>.<secret>`")]
pub struct BadSecret(&'static str);

/// A whole token, as its holder has it. Never stored, never logged.
#[derive(Clone)]
pub struct Secret {
    pub project: ProjectName,
    pub id: TokenId,
    secret: String,
}

impl Secret {
    /// A new one.
    pub(crate) fn mint(project: ProjectName) -> Result<Self, AccessError> {
        let id = TokenId(random::<ID_BYTES>()?);
        Ok(Self { project, id, secret: random::<SECRET_BYTES>()? })
    }

    /// The whole text, for its holder and nobody else.
    #[must_use]
    pub fn reveal(&self) -> String {
        format!("{PREFIX}{}.{}.{}", self.project, self.id, self.secret)
    }

    /// What is stored of it. A secret of 256 random bits needs no salt and no slow hash: there is nothing to guess.
    pub(crate) fn digest(&self) -> Digest {
        Digest::of_parts([self.project.as_str(), &self.id.0, &self.secret].map(str::as_bytes))
    }

    /// Whether this is the token whose digest was stored, in a time that does not depend on where they differ.
    pub(crate) fn fits(&self, stored: &Digest) -> bool {
        self.digest().as_bytes().ct_eq(stored.as_bytes()).into()
    }
}

impl FromStr for Secret {
    type Err = BadSecret;

    fn from_str(text: &str) -> Result<Self, BadSecret> {
        let rest = text.trim().strip_prefix(PREFIX).ok_or(BadSecret("beginning"))?;
        let mut parts = rest.split('.');
        let (Some(project), Some(id), Some(secret), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(BadSecret("form"));
        };
        let project = project.parse().map_err(|_| BadSecret("project"))?;
        let secret = if is_hex(secret, SECRET_BYTES) { secret.to_owned() } else { return Err(BadSecret("secret")) };
        Ok(Self { project, id: id.parse()?, secret })
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({PREFIX}{}.{}.***)", self.project, self.id)
    }
}

fn is_hex(text: &str, bytes: usize) -> bool {
    text.len() == 2 * bytes && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn random<const BYTES: usize>() -> Result<String, AccessError> {
    let mut bytes = [0; BYTES];
    getrandom::fill(&mut bytes).map_err(|e| AccessError::NoRandomness(e.to_string()))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_reads_as_it_is_written_and_hides_when_it_is_shown() {
        let minted = Secret::mint("flights_2-a".parse().unwrap()).unwrap();
        let read: Secret = minted.reveal().parse().unwrap();
        assert_eq!((&read.project, &read.id), (&minted.project, &minted.id));
        assert!(read.fits(&minted.digest()));
        assert!(!format!("{minted:?}").contains(&minted.secret));
        assert_ne!(Secret::mint(read.project.clone()).unwrap().reveal(), minted.reveal());
    }

    #[test]
    fn another_secret_id_or_project_does_not_fit() {
        let minted = Secret::mint("a".parse().unwrap()).unwrap();
        let text = minted.reveal();
        let flipped = format!("{}{}", &text[..text.len() - 1], if text.ends_with('0') { '1' } else { '0' });
        assert!(!flipped.parse::<Secret>().unwrap().fits(&minted.digest()));
        assert!(!text.replacen("mpt_a.", "mpt_b.", 1).parse::<Secret>().unwrap().fits(&minted.digest()));
    }

    #[test]
    fn what_is_no_token_is_refused_without_being_repeated() {
        let (id, secret) = ("0123456789abcdef", "0".repeat(64));
        let wrong = [
            String::new(),
            "sesame".into(),
            "mpt_".into(),
            format!("mpt_a.{id}"),
            format!("mpt_a.{id}.{secret}.x"),
            format!("mpt_../etc.{id}.{secret}"),
            format!("mpt_A.{id}.{secret}"),
            format!("mpt_a.{id}.{}", "g".repeat(64)),
            format!("mpt_a.{id}.{secret}0"),
            format!("mpt_a.0123.{secret}"),
            "x".repeat(1 << 20),
        ];
        for text in wrong {
            let refused = text.parse::<Secret>().expect_err("no token").to_string();
            assert!(text.len() < 5 || !refused.contains(&text), "{refused}");
        }
    }
}
