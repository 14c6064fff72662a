//! Tags of registered models and of their versions.

use std::collections::BTreeMap;

use domain::{EventKind, ModelName, ModelRef};
use serde_json::json;
use storage::{Tx, sql::Conn};

use crate::{Registry, RegistryError, check::KEY_CHARS_MAX, version};

/// Longest value of a tag, in characters.
const VALUE_CHARS_MAX: usize = 100_000;

/// What a tag hangs on.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Of<'a> {
    Model(&'a ModelName),
    Version(&'a ModelRef),
}

impl Registry {
    /// Sets a tag of a model; one that exists is replaced.
    ///
    /// # Errors
    /// An unknown model, or a key or value that is not lawful.
    pub async fn tag_model(&self, model: &ModelName, key: &str, value: &str) -> Result<(), RegistryError> {
        self.set(Of::Model(model), key, Some(value)).await
    }

    /// Removes a tag of a model; an absent one is no error.
    ///
    /// # Errors
    /// An unknown model.
    pub async fn untag_model(&self, model: &ModelName, key: &str) -> Result<(), RegistryError> {
        self.set(Of::Model(model), key, None).await
    }

    /// Sets a tag of a version; one that exists is replaced.
    ///
    /// # Errors
    /// An unknown version, or a key or value that is not lawful.
    pub async fn tag_version(&self, version: &ModelRef, key: &str, value: &str) -> Result<(), RegistryError> {
        self.set(Of::Version(version), key, Some(value)).await
    }

    /// Removes a tag of a version; an absent one is no error.
    ///
    /// # Errors
    /// An unknown version.
    pub async fn untag_version(&self, version: &ModelRef, key: &str) -> Result<(), RegistryError> {
        self.set(Of::Version(version), key, None).await
    }

    async fn set(&self, of: Of<'_>, key: &str, value: Option<&str>) -> Result<(), RegistryError> {
        lawful(key, value.unwrap_or_default())?;
        let mut tx = self.begin().await?;
        match of {
            Of::Model(model) => drop(version::newest(tx.conn(), model).await?),
            Of::Version(version) => version::require(tx.conn(), version).await?,
        }
        let changed = match value {
            Some(value) => write(tx.conn(), of, key, value).await?,
            None => remove(tx.conn(), of, key).await?,
        };
        if changed {
            self.note_tag(&mut tx, of, key, value).await?;
            tx.commit().await?;
        }
        Ok(())
    }

    async fn note_tag(&self, tx: &mut Tx, of: Of<'_>, key: &str, value: Option<&str>) -> Result<(), RegistryError> {
        let (kind, subject) = match of {
            Of::Model(model) => (EventKind::ModelChanged, format!("model/{model}")),
            Of::Version(version) => (EventKind::VersionChanged, format!("model/{version}")),
        };
        let body = json!({"tag": key, "value": value});
        crate::note(tx, self.now(), kind, subject, body).await
    }
}

/// Writes a tag; false where it stands there already.
pub(crate) async fn write(conn: &mut Conn, of: Of<'_>, key: &str, value: &str) -> Result<bool, RegistryError> {
    let done = match of {
        Of::Model(model) => {
            sqlx::query(
                "INSERT INTO registry_model_tags AS known (model, key, value) VALUES ($1, $2, $3)
                 ON CONFLICT (model, key) DO UPDATE SET value = excluded.value WHERE known.value <> excluded.value",
            )
            .bind(model.as_str())
            .bind(key)
            .bind(value)
            .execute(conn)
            .await?
        }
        Of::Version(version) => {
            sqlx::query(
                "INSERT INTO registry_version_tags AS known (model, version, key, value) VALUES ($1, $2, $3, $4)
                 ON CONFLICT (model, version, key) DO UPDATE SET value = excluded.value WHERE known.value <> excluded.value",
            )
            .bind(version.model.as_str())
            .bind(i64::from(version.version))
            .bind(key)
            .bind(value)
            .execute(conn)
            .await?
        }
    };
    Ok(done.rows_affected() > 0)
}

async fn remove(conn: &mut Conn, of: Of<'_>, key: &str) -> Result<bool, RegistryError> {
    let done = match of {
        Of::Model(model) => {
            sqlx::query("DELETE FROM registry_model_tags WHERE model = $1 AND key = $2")
                .bind(model.as_str())
                .bind(key)
                .execute(conn)
                .await?
        }
        Of::Version(version) => {
            sqlx::query("DELETE FROM registry_version_tags WHERE model = $1 AND version = $2 AND key = $3")
                .bind(version.model.as_str())
                .bind(i64::from(version.version))
                .bind(key)
                .execute(conn)
                .await?
        }
    };
    Ok(done.rows_affected() > 0)
}

/// Lawful tags only.
pub(crate) fn check(tags: &BTreeMap<String, String>) -> Result<(), RegistryError> {
    tags.iter().try_for_each(|(key, value)| lawful(key, value))
}

/// Keys are names as MLflow knows them: letters, digits, `_ - . / :` and spaces, and no relative path.
fn lawful(key: &str, value: &str) -> Result<(), RegistryError> {
    let shown: String = key.chars().take(40).collect();
    let what = || format!("tag {shown:?}");
    let letter = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | ':' | ' ');
    let plain = key.split('/').all(|part| !matches!(part, "" | "." | ".."));
    if !(1..=KEY_CHARS_MAX).contains(&key.chars().count()) || !key.chars().all(letter) || !plain {
        let hint = "use 1 to 250 letters, digits, spaces and `_ - . / :`, without `.` or `..` as steps of a path";
        return Err(RegistryError::invalid(what(), "has no lawful key", hint));
    }
    let chars = value.chars().count();
    if chars > VALUE_CHARS_MAX {
        let problem = format!("has {chars} characters where at most {VALUE_CHARS_MAX} are taken");
        return Err(RegistryError::invalid(what(), problem, "keep long values as files"));
    }
    Ok(())
}
