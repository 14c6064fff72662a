//! Bringing in the records of another store, one by one and with the ids they have there.
//!
//! Each record is one transaction, and bringing it again changes nothing, so whoever brings them may be interrupted
//! anywhere and begin again. A record that contradicts what is here is refused with the reason; nothing is overwritten.

mod record;
mod tracking;
mod versions;

pub use record::{
    BroughtExperiment, BroughtLoggedModel, BroughtMeasure, BroughtModel, BroughtRun, BroughtVersion, Record,
};

use domain::{Coded as _, ErrorCode};
use serde::{Deserialize, Serialize};
use storage::sql::Conn;

use crate::{Registry, RegistryError};

/// Who stands in the journal for what was brought.
const ACTOR: &str = "import";

/// What became of a record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", content = "reason", rename_all = "lowercase")]
pub enum Brought {
    /// It was not here, and is now.
    Made,
    /// It is here already, as it was brought before.
    Same,
    /// It is here already, and so is all that belongs to it: nothing more of it has to be brought.
    Done,
    /// It contradicts what is here, or cannot be here.
    Refused(String),
}

impl Registry {
    /// Takes the record of another store.
    ///
    /// # Errors
    /// A store or database that fails: bring it again then. What is wrong with the record is an outcome, not an error.
    pub async fn bring(&self, record: Record) -> Result<Brought, RegistryError> {
        let brought = match record {
            Record::Experiment(new) => self.bring_experiment(new).await,
            Record::Run(new) => self.bring_run(new).await,
            Record::Points { run, points } => self.bring_points(&run, points).await,
            Record::Inputs { run, datasets, models_read, models_made } => {
                self.bring_inputs(&run, &datasets, &models_read, &models_made).await
            }
            Record::LoggedModel(new) => self.bring_logged_model(new).await,
            Record::Model(new) => self.bring_model(new).await,
            Record::Version(new) => self.bring_version(new).await,
            Record::Alias { model, alias, version } => self.bring_alias(model, &alias, version).await,
            Record::RunDone { run, deleted_at } => self.end("run", "registry_runs", &run.to_string(), deleted_at).await,
            Record::LoggedModelDone { id, deleted_at } => {
                self.end("logged_model", "registry_logged_models", &id, deleted_at).await
            }
        };
        match brought {
            Err(error) if wrong_with_the_record(&error) => Ok(Brought::Refused(error.to_string())),
            other => other,
        }
    }
}

/// Whether bringing the same record again would end in the same way.
fn wrong_with_the_record(error: &RegistryError) -> bool {
    use ErrorCode as C;
    matches!(error.code(), C::InvalidArgument | C::NotFound | C::AlreadyExists | C::Conflict | C::TooLarge)
}

fn refused(reason: impl Into<String>) -> Result<Brought, RegistryError> {
    Ok(Brought::Refused(reason.into()))
}

/// Whether a thing was brought in earlier, with all that belongs to it.
async fn marked(conn: &mut Conn, kind: &str, id: &str) -> Result<bool, RegistryError> {
    let found: Option<String> = sqlx::query_scalar("SELECT id FROM registry_brought WHERE kind = $1 AND id = $2")
        .bind(kind)
        .bind(id)
        .fetch_optional(conn)
        .await?;
    Ok(found.is_some())
}

pub(crate) async fn mark(conn: &mut Conn, kind: &str, id: &str) -> Result<(), RegistryError> {
    sqlx::query("INSERT INTO registry_brought (kind, id) VALUES ($1, $2) ON CONFLICT DO NOTHING")
        .bind(kind)
        .bind(id)
        .execute(conn)
        .await?;
    Ok(())
}
