//! The versions of a logged model, as MLflow's pages read them.

use serde_json::{Value, json};
use storage::sql::Conn;

use crate::{ModelVersion, RegistryError, row};

/// The tag of a logged model in which MLflow's pages look for its versions.
const VERSIONS_TAG: &str = "mlflow.modelVersions";

/// Adds the version to the list that MLflow's pages read from its logged model.
pub(crate) async fn list_version(conn: &mut Conn, id: &str, version: &ModelVersion) -> Result<(), RegistryError> {
    let listed: Option<String> =
        sqlx::query_scalar("SELECT value FROM registry_logged_model_tags WHERE model = $1 AND key = $2")
            .bind(id)
            .bind(VERSIONS_TAG)
            .fetch_optional(&mut *conn)
            .await?;
    // Clients write this tag too, so what stands there may be anything.
    let mut list: Vec<Value> = listed.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
    let entry = json!({"name": version.model, "version": version.version});
    // A version of another store is in the list already.
    if !list.contains(&entry) {
        list.push(entry);
    }
    sqlx::query(
        "INSERT INTO registry_logged_model_tags (model, key, value) VALUES ($1, $2, $3)
         ON CONFLICT (model, key) DO UPDATE SET value = excluded.value",
    )
    .bind(id)
    .bind(VERSIONS_TAG)
    .bind(row::to_json(&list))
    .execute(conn)
    .await?;
    Ok(())
}
