//! Who may do what: rights, and the roles that hold them.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Something a caller may be allowed to do in a project. Every route of every door asks for exactly one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Right {
    /// Look at anything but tokens and the audit log.
    Read,
    /// Ask endpoints for predictions.
    Predict,
    /// Answer review tasks and post labels.
    Review,
    /// Log runs, register models, ingest rows, apply definitions, start pipelines.
    Write,
    /// Deploy, move traffic, approve versions, collect garbage.
    Operate,
    /// Tokens, protections and the audit log.
    Administer,
}

/// What a token was given in its project. A later role holds every right of those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    Viewer,
    Reviewer,
    Engineer,
    Operator,
    Admin,
}

/// A text that names no role or right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{found}` is not a {what}: expected {expected}")]
pub struct BadWord {
    what: &'static str,
    found: String,
    expected: String,
}

macro_rules! words {
    ($type:ident, $what:literal, $all:ident; $($name:ident = $text:literal),+ $(,)?) => {
        impl $type {
            /// Every one, least first.
            pub const $all: &[Self] = &[$(Self::$name),+];

            /// The word as it stands in JSON.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text),+ }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl FromStr for $type {
            type Err = BadWord;

            fn from_str(text: &str) -> Result<Self, BadWord> {
                Self::$all.iter().copied().find(|one| one.as_str() == text).ok_or_else(|| BadWord {
                    what: $what,
                    found: text.to_owned(),
                    expected: Self::$all.iter().map(|one| one.as_str()).collect::<Vec<_>>().join(", "),
                })
            }
        }
    };
}

words! { Right, "right", ALL;
    Read = "read", Predict = "predict", Review = "review", Write = "write", Operate = "operate", Administer = "administer",
}

words! { Role, "role", ALL;
    Viewer = "viewer", Reviewer = "reviewer", Engineer = "engineer", Operator = "operator", Admin = "admin",
}

impl Role {
    /// Whether this role holds `right`.
    #[must_use]
    pub const fn holds(self, right: Right) -> bool {
        let least = match right {
            Right::Read => Self::Viewer,
            Right::Review => Self::Reviewer,
            Right::Predict | Right::Write => Self::Engineer,
            Right::Operate => Self::Operator,
            Right::Administer => Self::Admin,
        };
        self as u8 >= least as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_read_as_they_are_written() {
        for right in Right::ALL {
            assert_eq!(right.to_string().parse(), Ok(*right));
            assert_eq!(serde_json::to_value(right).unwrap(), right.as_str());
        }
        for role in Role::ALL {
            assert_eq!(role.to_string().parse(), Ok(*role));
            assert_eq!(serde_json::to_value(role).unwrap(), role.as_str());
        }
        let wrong = "root".parse::<Role>().unwrap_err().to_string();
        assert_eq!(wrong, "`root` is not a role: expected viewer, reviewer, engineer, operator, admin");
    }

    #[test]
    fn each_role_holds_what_the_ones_before_it_hold() {
        let held =
            |role: Role| -> Vec<_> { Right::ALL.iter().filter(|r| role.holds(**r)).map(|r| r.as_str()).collect() };
        assert_eq!(held(Role::Viewer), ["read"]);
        assert_eq!(held(Role::Reviewer), ["read", "review"]);
        assert_eq!(held(Role::Engineer), ["read", "predict", "review", "write"]);
        assert_eq!(held(Role::Operator), ["read", "predict", "review", "write", "operate"]);
        assert_eq!(held(Role::Admin), Right::ALL.iter().map(|r| r.as_str()).collect::<Vec<_>>());
    }
}
