//! Experiments: named folders of runs.

use domain::{EventKind, NewEvent, Timestamp};
use serde_json::json;
use storage::{Tx, sql::Conn};

use crate::RegistryError;

/// The scheme of artifact locations that this server keeps itself; see [`crate::Registry`]'s artifacts.
pub(crate) const ARTIFACTS: &str = "mlflow-artifacts:/";

/// The experiment of that name, made now if there is none; gives its number and where its artifacts lie.
///
/// # Errors
/// An experiment of that name that is deleted.
pub(crate) async fn ensure(tx: &mut Tx, name: &str, now: Timestamp) -> Result<(i64, String), RegistryError> {
    if let Some((id, location, deleted_at)) = find(tx.conn(), name).await? {
        return match deleted_at {
            None => Ok((id, location)),
            Some(_) => Err(RegistryError::Deleted { what: "experiment", name: name.to_owned() }),
        };
    }
    let id: i64 = sqlx::query_scalar("SELECT COALESCE(MAX(id), -1) + 1 FROM registry_experiments")
        .fetch_one(tx.conn())
        .await?;
    let location = format!("{ARTIFACTS}{id}");
    sqlx::query(
        "INSERT INTO registry_experiments (id, name, artifact_location, created_at, updated_at)
         VALUES ($1, $2, $3, $4, $4)",
    )
    .bind(id)
    .bind(name)
    .bind(&location)
    .bind(now.micros())
    .execute(tx.conn())
    .await?;
    tx.append(NewEvent {
        at: now,
        kind: EventKind::ExperimentCreated,
        subject: format!("experiment/{id}"),
        actor: crate::ACTOR.into(),
        cause: None,
        body: json!({"name": name}),
    })
    .await?;
    Ok((id, location))
}

/// Number, artifact location and time of deletion.
async fn find(conn: &mut Conn, name: &str) -> Result<Option<(i64, String, Option<i64>)>, RegistryError> {
    let found = "SELECT id, artifact_location, deleted_at FROM registry_experiments WHERE name = $1";
    Ok(sqlx::query_as(found).bind(name).fetch_optional(conn).await?)
}
