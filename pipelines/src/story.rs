//! What led to what: the events that follow from one, and those it follows from.

use std::collections::BTreeSet;

use domain::Event;

use crate::{
    conductor::Conductor,
    error::{ConductorError, During as _},
};

/// Events read at once.
const BATCH: usize = 1_000;

impl Conductor {
    /// The event and all that followed from it, directly or through others, oldest first. Begin with an alert and it
    /// tells what the platform did about it.
    ///
    /// # Errors
    /// A journal that cannot be read.
    pub async fn story(&self, seq: u64) -> Result<Vec<Event>, ConductorError> {
        let journal = self.rooms().meta.journal();
        let mut told = Vec::new();
        let mut part = BTreeSet::from([seq]);
        let mut after = seq.saturating_sub(1);
        loop {
            let events = journal.read(after, BATCH).await.during("read the journal")?;
            let Some(last) = events.last() else { return Ok(told) };
            after = last.seq;
            for event in events {
                // A cause always stands before what it led to, so one pass finds them all.
                if event.seq == seq || event.cause.is_some_and(|cause| part.contains(&cause)) {
                    part.insert(event.seq);
                    told.push(event);
                }
            }
        }
    }
}
