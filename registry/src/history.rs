//! The history of a model: what the journal tells of it, its versions and aliases.

use domain::{Event, ModelName};

use crate::{Registry, RegistryError, alias, check, version};

/// Whose history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HistoryOf {
    /// The model with all its versions and aliases.
    All,
    Version(u32),
    Alias(String),
}

impl HistoryOf {
    /// Reads what a caller asked for.
    ///
    /// # Errors
    /// A version and an alias at once, or an unlawful alias.
    pub fn parse(version: Option<u32>, alias: Option<String>) -> Result<Self, RegistryError> {
        match (version, alias) {
            (None, None) => Ok(Self::All),
            (Some(version), None) => Ok(Self::Version(version)),
            (None, Some(alias)) => {
                check::alias(&alias)?;
                Ok(Self::Alias(alias))
            }
            (Some(_), Some(_)) => {
                let hint = "ask for one of the two";
                Err(RegistryError::invalid("the history", "is asked of a version and an alias at once", hint))
            }
        }
    }
}

/// Events, newest first.
#[derive(Debug, Clone, PartialEq)]
pub struct HistoryPage {
    pub events: Vec<Event>,
    /// Ask for what came before this number for the next page; `None` on the last.
    pub next: Option<u64>,
}

impl Registry {
    /// What happened to a model, newest first, before the event numbered `before`. What was deleted keeps its history.
    ///
    /// # Errors
    /// A model of which nothing is known.
    pub async fn history(
        &self,
        model: &ModelName,
        of: &HistoryOf,
        before: Option<u64>,
        limit: usize,
    ) -> Result<HistoryPage, RegistryError> {
        let whole = format!("model/{model}");
        let (subject, below) = match of {
            HistoryOf::All => (whole, true),
            HistoryOf::Version(number) => (format!("{whole}/{number}"), false),
            HistoryOf::Alias(alias) => (alias::subject(model, alias), false),
        };
        // One more than asked for tells whether there is another page.
        let mut events = self.meta().journal().history(&subject, below, before, limit.saturating_add(1)).await?;
        if events.is_empty() && before.is_none() {
            // Says what is near.
            version::newest(&mut *self.meta().reader().begin().await?, model).await?;
        }
        let more = events.len() > limit;
        events.truncate(limit);
        let next = events.last().filter(|_| more).map(|last| last.seq);
        Ok(HistoryPage { events, next })
    }
}
