//! Numbers of versions: the next one, or the one that a version had in another store.

use domain::{ModelName, ModelRef, Timestamp};
use storage::sql::Conn;

use crate::{RegistryError, Stage, row, version};

/// What a version keeps of the store that it comes from.
pub(crate) struct Original {
    pub number: u32,
    pub stage: Stage,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    /// By which it is known to have been brought.
    pub mark: (&'static str, String),
}

/// The next number of a model, or the one that a version had.
pub(crate) async fn take_number(
    conn: &mut Conn,
    model: &ModelName,
    original: Option<&Original>,
    now: Timestamp,
) -> Result<u32, RegistryError> {
    let Some(original) = original else {
        let number: i64 = sqlx::query_scalar(
            "UPDATE registry_models SET last_version = last_version + 1, updated_at = $2 WHERE name = $1
             RETURNING last_version",
        )
        .bind(model.as_str())
        .bind(now.micros())
        .fetch_one(conn)
        .await?;
        return row::uncount(number, "version");
    };
    let reference = ModelRef { model: model.clone(), version: original.number };
    if version::require(&mut *conn, &reference).await.is_ok() {
        return Err(RegistryError::Exists { what: "model version", name: reference.to_string(), detail: "" });
    }
    sqlx::query(
        "UPDATE registry_models SET last_version = CASE WHEN last_version < $2 THEN $2 ELSE last_version END
         WHERE name = $1",
    )
    .bind(model.as_str())
    .bind(i64::from(original.number))
    .execute(conn)
    .await?;
    Ok(original.number)
}
