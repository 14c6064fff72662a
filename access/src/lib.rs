//! Who may come in: projects, the tokens that open them, and the attempts that were refused.
//!
//! A token belongs to one project and says so in its text, so whoever reads it knows which project's database to ask.
//! Every change and every refused attempt is an event of that project's journal, which is the audit log. What a caller
//! may do follows from the [`domain::Role`] of the token, narrowed by its scopes; which right a call asks for is the
//! door's business.

mod error;
mod project;
mod refusal;
mod schema;
mod secret;
mod token;
mod tokens;

use std::sync::Arc;

use runtime::{Clock, House};
use storage::Meta;
use tokio::sync::RwLock;

pub use error::AccessError;
pub use project::{Project, default_project};
pub use refusal::Attempt;
pub use secret::{BadSecret, Secret, TokenId};
pub use token::{Admin, Issued, NewToken, Token, lifetime};

/// The tokens and the audit of one project. Clones share them.
#[derive(Clone)]
pub struct Access(Arc<Inner>);

struct Inner {
    meta: Meta,
    clock: Clock,
    known: RwLock<tokens::Known>,
    refusals: refusal::Refusals,
}

impl Access {
    /// Opens the tokens of the project whose database `meta` is.
    ///
    /// # Errors
    /// When the data is of a newer program, or cannot be read.
    pub async fn open(meta: Meta, clock: Clock) -> Result<Self, AccessError> {
        meta.migrate("access", schema::MIGRATIONS).await?;
        let known = RwLock::new(tokens::Known::load(&meta).await?);
        Ok(Self(Arc::new(Inner { meta, clock, known, refusals: refusal::Refusals::default() })))
    }

    /// Starts what runs beside the calls: counted refusals and last uses are written every minute, and tokens that
    /// other servers of the same database change are read again.
    pub fn attend(&self, house: &House) {
        let access = self.clone();
        house.spawn("audit of refused calls", |stop| async move { access.write_counts(stop).await });
        if self.0.meta.is_shared() {
            let access = self.clone();
            house.spawn("tokens of other servers", |stop| async move { access.follow(stop).await });
        }
    }
}
