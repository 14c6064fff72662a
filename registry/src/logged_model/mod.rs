//! Logged models: what a run made, before anybody registers it: files, parameters, tags, and how it measured.

mod read;
mod versions;

use std::collections::BTreeMap;

use domain::{EventKind, RunId, Timestamp};
use serde_json::{Value, json};
use storage::{Tx, sql::Conn};

pub use self::read::{ModelDataset, ModelOrder, ModelSearch};
pub(crate) use self::versions::list_version;
use crate::{Registry, RegistryError, check, experiment, nickname, row};

/// How far a logged model's files have come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoggedModelStatus {
    Pending,
    Ready,
    UploadFailed,
}

impl LoggedModelStatus {
    pub const ALL: [Self; 3] = [Self::Pending, Self::Ready, Self::UploadFailed];

    /// The word that filters compare with.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Ready => "READY",
            Self::UploadFailed => "UPLOAD_FAILED",
        }
    }

    /// Reads the form written by `as_str`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == text)
    }
}

/// A logged model about to be made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewLoggedModel {
    pub experiment: i64,
    /// For people; need not be unique. `None`: one is made up.
    pub name: Option<String>,
    pub model_type: Option<String>,
    /// The run that makes it.
    pub source_run: Option<RunId>,
    pub params: BTreeMap<String, String>,
    pub tags: BTreeMap<String, String>,
}

/// A logged model as it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct LoggedModel {
    /// `m-` and 32 hexadecimal digits.
    pub id: String,
    pub experiment: i64,
    pub name: String,
    pub model_type: Option<String>,
    pub status: LoggedModelStatus,
    pub status_message: Option<String>,
    pub source_run: Option<RunId>,
    pub artifact_uri: String,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub params: BTreeMap<String, String>,
    pub tags: BTreeMap<String, String>,
    /// By key, dataset and run.
    pub metrics: Vec<LoggedModelMetric>,
    /// Registered versions made from it: model and number.
    pub registrations: Vec<(String, u32)>,
}

/// The newest value of a metric of a logged model, on one dataset and by one run.
#[derive(Debug, Clone, PartialEq)]
pub struct LoggedModelMetric {
    pub key: String,
    pub value: f64,
    pub step: i64,
    pub at: Timestamp,
    pub run: RunId,
    /// Empty: not measured on a named dataset.
    pub dataset_name: String,
    pub dataset_digest: String,
}

/// Characters that mean something where models are named: in URIs, paths and filters.
const NAME_FORBIDS: [char; 6] = ['/', ':', '.', '%', '"', '\''];

impl Registry {
    /// Makes a logged model whose files are still to come. Durable when it returns.
    ///
    /// # Errors
    /// Bad names, an experiment that does not exist or is deleted, a source run that does not exist.
    pub async fn create_logged_model(&self, new: NewLoggedModel) -> Result<LoggedModel, RegistryError> {
        if let Some(name) = &new.name {
            name_is_lawful(name)?;
        }
        if let Some(kind) = &new.model_type {
            check::text("model type", kind, 1)?;
        }
        check::pairs("parameter", &new.params)?;
        check::pairs("tag", &new.tags)?;
        let now = self.now();
        let id = format!("m-{}", RunId::mint());
        let name = new.name.unwrap_or_else(|| nickname::of(&id));
        let mut tx = self.begin().await?;
        let location = experiment::require_active(tx.conn(), new.experiment).await?.location;
        if let Some(run) = &new.source_run {
            crate::run::require(tx.conn(), run).await?;
        }
        sqlx::query(
            "INSERT INTO registry_logged_models
                 (id, experiment, name, model_type, status, source_run, artifact_uri, created_at, updated_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8)",
        )
        .bind(&id)
        .bind(new.experiment)
        .bind(&name)
        .bind(&new.model_type)
        .bind(LoggedModelStatus::Pending.as_str())
        .bind(new.source_run.map(|run| run.to_string()))
        .bind(format!("{location}/models/{id}/artifacts"))
        .bind(now.micros())
        .execute(tx.conn())
        .await?;
        add_params(tx.conn(), &id, &new.params).await?;
        add_tags(tx.conn(), &id, &new.tags).await?;
        let body = json!({"experiment": new.experiment, "name": name, "run": new.source_run});
        note(&mut tx, now, EventKind::LoggedModelCreated, &id, body).await?;
        tx.commit().await?;
        self.logged_model(&id).await
    }

    /// Says how the upload of its files ended, and gives the model as it then stands. Saying it again changes nothing.
    ///
    /// # Errors
    /// An unknown or deleted model, or one that is no longer pending and shall be again.
    pub async fn finalize_logged_model(
        &self,
        id: &str,
        status: LoggedModelStatus,
    ) -> Result<LoggedModel, RegistryError> {
        let now = self.now();
        let mut tx = self.begin().await?;
        let before = require(tx.conn(), id).await?;
        if before != status {
            if status == LoggedModelStatus::Pending {
                let problem = format!("is {} and cannot be pending again", before.as_str());
                let hint = "log another model, or say READY or UPLOAD_FAILED";
                return Err(RegistryError::invalid(format!("logged model `{id}`"), problem, hint));
            }
            sqlx::query("UPDATE registry_logged_models SET status = $2, updated_at = $3 WHERE id = $1")
                .bind(id)
                .bind(status.as_str())
                .bind(now.micros())
                .execute(tx.conn())
                .await?;
            note(&mut tx, now, EventKind::LoggedModelChanged, id, json!({"status": status.as_str()})).await?;
            tx.commit().await?;
        }
        self.logged_model(id).await
    }

    /// Deletes a logged model: it is no longer found. Deleting it again is fine. Versions registered from it stay.
    ///
    /// # Errors
    /// A model that never was.
    pub async fn delete_logged_model(&self, id: &str) -> Result<(), RegistryError> {
        let now = self.now();
        let mut tx = self.begin().await?;
        let found: Option<Option<i64>> =
            sqlx::query_scalar("SELECT deleted_at FROM registry_logged_models WHERE id = $1")
                .bind(id)
                .fetch_optional(tx.conn())
                .await?;
        if found.ok_or_else(|| no_such(id))?.is_none() {
            sqlx::query("UPDATE registry_logged_models SET deleted_at = $2, updated_at = $2 WHERE id = $1")
                .bind(id)
                .bind(now.micros())
                .execute(tx.conn())
                .await?;
            note(&mut tx, now, EventKind::LoggedModelChanged, id, json!({"deleted": true})).await?;
            tx.commit().await?;
        }
        Ok(())
    }

    /// Sets tags, replacing those that exist, and gives the model as it then stands.
    ///
    /// # Errors
    /// Bad keys or values, an unknown or deleted model.
    pub async fn set_logged_model_tags(
        &self,
        id: &str,
        tags: BTreeMap<String, String>,
    ) -> Result<LoggedModel, RegistryError> {
        check::pairs("tag", &tags)?;
        let mut tx = self.begin().await?;
        require(tx.conn(), id).await?;
        add_tags(tx.conn(), id, &tags).await?;
        tx.commit().await?;
        self.logged_model(id).await
    }

    /// Removes a tag and gives the model as it then stands.
    ///
    /// # Errors
    /// An unknown or deleted model, a tag that is not there.
    pub async fn delete_logged_model_tag(&self, id: &str, key: &str) -> Result<LoggedModel, RegistryError> {
        let mut tx = self.begin().await?;
        require(tx.conn(), id).await?;
        let removed = sqlx::query("DELETE FROM registry_logged_model_tags WHERE model = $1 AND key = $2")
            .bind(id)
            .bind(key)
            .execute(tx.conn())
            .await?;
        if removed.rows_affected() == 0 {
            return Err(RegistryError::NoSuch { what: "tag", name: format!("{key}` of logged model `{id}") });
        }
        tx.commit().await?;
        self.logged_model(id).await
    }

    /// Adds parameters. Saying the same again is fine; saying something else is refused, and then nothing is added.
    ///
    /// # Errors
    /// Bad keys or values, an unknown or deleted model, a parameter that is there with another value.
    pub async fn log_logged_model_params(
        &self,
        id: &str,
        params: BTreeMap<String, String>,
    ) -> Result<(), RegistryError> {
        check::pairs("parameter", &params)?;
        let mut tx = self.begin().await?;
        require(tx.conn(), id).await?;
        add_params(tx.conn(), id, &params).await?;
        Ok(tx.commit().await?)
    }
}

fn no_such(id: &str) -> RegistryError {
    RegistryError::NoSuch { what: "logged model", name: id.to_owned() }
}

fn name_is_lawful(name: &str) -> Result<(), RegistryError> {
    check::text("logged model", name, 1)?;
    if let Some(found) = name.chars().find(|c| NAME_FORBIDS.contains(c)) {
        let hint = "use a name without / : . % and quotes";
        return Err(RegistryError::invalid(
            format!("logged model {name:?}"),
            format!("has a `{found}` in its name"),
            hint,
        ));
    }
    Ok(())
}

/// The status of a logged model that must exist and not be deleted.
async fn require(conn: &mut Conn, id: &str) -> Result<LoggedModelStatus, RegistryError> {
    let found: Option<String> =
        sqlx::query_scalar("SELECT status FROM registry_logged_models WHERE id = $1 AND deleted_at IS NULL")
            .bind(id)
            .fetch_optional(conn)
            .await?;
    status(&found.ok_or_else(|| no_such(id))?)
}

fn status(text: &str) -> Result<LoggedModelStatus, RegistryError> {
    let damaged = || RegistryError::Damaged { what: "logged model", detail: format!("status `{text}`") };
    LoggedModelStatus::parse(text).ok_or_else(damaged)
}

pub(crate) async fn add_params(
    conn: &mut Conn,
    id: &str,
    params: &BTreeMap<String, String>,
) -> Result<(), RegistryError> {
    for (key, value) in params {
        // The update changes nothing, but makes the row come back.
        let stored: String = sqlx::query_scalar(
            "INSERT INTO registry_logged_model_params (model, key, value) VALUES ($1, $2, $3)
             ON CONFLICT (model, key) DO UPDATE SET key = excluded.key RETURNING value",
        )
        .bind(id)
        .bind(key)
        .bind(value)
        .fetch_one(&mut *conn)
        .await?;
        if stored != *value {
            let shown: String = stored.chars().take(80).collect();
            return Err(RegistryError::invalid(
                format!("parameter `{key}` of logged model `{id}`"),
                format!("is `{shown}` and cannot become another"),
                "log another model, or keep the changing value as a tag",
            ));
        }
    }
    Ok(())
}

pub(crate) async fn add_tags(conn: &mut Conn, id: &str, tags: &BTreeMap<String, String>) -> Result<(), RegistryError> {
    for (key, value) in tags {
        sqlx::query(
            "INSERT INTO registry_logged_model_tags (model, key, value) VALUES ($1, $2, $3)
             ON CONFLICT (model, key) DO UPDATE SET value = excluded.value",
        )
        .bind(id)
        .bind(key)
        .bind(value)
        .execute(&mut *conn)
        .await?;
    }
    Ok(())
}

async fn note(tx: &mut Tx, at: Timestamp, kind: EventKind, id: &str, body: Value) -> Result<(), RegistryError> {
    crate::note(tx, at, kind, format!("logged_model/{id}"), body).await
}

/// A model's own row.
#[derive(sqlx::FromRow)]
struct Row {
    id: String,
    experiment: i64,
    name: String,
    model_type: Option<String>,
    status: String,
    status_message: Option<String>,
    source_run: Option<String>,
    artifact_uri: String,
    created_at: i64,
    updated_at: i64,
}

impl Row {
    fn read(self) -> Result<LoggedModel, RegistryError> {
        Ok(LoggedModel {
            id: self.id,
            experiment: self.experiment,
            name: self.name,
            model_type: self.model_type,
            status: status(&self.status)?,
            status_message: self.status_message,
            source_run: self.source_run.map(|run| row::parse(&run, "logged model")).transpose()?,
            artifact_uri: self.artifact_uri,
            created_at: Timestamp::from_micros(self.created_at),
            updated_at: Timestamp::from_micros(self.updated_at),
            params: BTreeMap::new(),
            tags: BTreeMap::new(),
            metrics: Vec::new(),
            registrations: Vec::new(),
        })
    }
}
