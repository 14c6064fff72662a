//! Models and their versions: files by digest, numbered once and for ever.

use std::collections::BTreeMap;

use bytes::Bytes;
use domain::{
    EventKind, ModelFiles, ModelName, ModelRef, NewEvent, RunId, Signature, Timestamp, model::FileDigests,
    ports::OpenedModel,
};
use futures::future::try_join_all;
use serde::{Deserialize, Serialize};
use serde_json::json;
use storage::sql::Conn;

use crate::{Registry, RegistryError, check, number, row, run};

/// A version about to be registered.
#[derive(Debug, Clone)]
pub struct NewVersion {
    /// Created if it does not exist.
    pub model: ModelName,
    /// The run that made it.
    pub run: RunId,
    /// Path inside the version's directory -> bytes.
    pub files: ModelFiles,
    pub signature: Signature,
    /// Measured when it was made, such as the holdout's log loss.
    pub metrics: BTreeMap<String, f64>,
    pub tags: BTreeMap<String, String>,
}

/// A registered version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelVersion {
    pub model: ModelName,
    /// From 1; never given twice.
    pub version: u32,
    pub run: RunId,
    pub signature: Signature,
    /// Path -> digest of each file.
    pub files: FileDigests,
    /// `NaN` and infinities travel as texts.
    #[serde(with = "number::map")]
    pub metrics: BTreeMap<String, f64>,
    pub tags: BTreeMap<String, String>,
    /// Aliases that point here now.
    pub aliases: Vec<String>,
    pub created_at: Timestamp,
}

impl ModelVersion {
    #[must_use]
    pub fn reference(&self) -> ModelRef {
        ModelRef { model: self.model.clone(), version: self.version }
    }
}

/// A model, in short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Model {
    pub name: ModelName,
    /// Number of the newest version.
    pub latest: u32,
    /// Alias -> version.
    pub aliases: BTreeMap<String, u32>,
    pub created_at: Timestamp,
}

impl Registry {
    /// Registers a version under the next number of its model. All or nothing, and durable when it returns.
    ///
    /// # Errors
    /// An unknown run, no files, or a path that leaves the version's directory.
    pub async fn register(&self, new: NewVersion) -> Result<ModelVersion, RegistryError> {
        check::files(&new.files)?;
        check::pairs("tag", &new.tags)?;
        for key in new.metrics.keys() {
            check::text("metric", key, 1)?;
        }
        // Bytes first: a version never names bytes that are not there.
        let stored = new.files.iter().map(async |(path, bytes)| {
            let digest = self.blobs().put(Bytes::copy_from_slice(bytes)).await?;
            Ok::<_, RegistryError>((path.clone(), digest))
        });
        let files: FileDigests = try_join_all(stored).await?.into_iter().collect();

        let now = self.now();
        let mut tx = self.begin().await?;
        run::require(tx.conn(), &new.run).await?;
        let number: i64 = sqlx::query_scalar(
            "INSERT INTO registry_models AS known (name, last_version, description, user_id, created_at, updated_at)
             VALUES ($1, 1, '', '', $2, $2)
             ON CONFLICT (name) DO UPDATE SET last_version = known.last_version + 1, updated_at = excluded.updated_at
             RETURNING last_version",
        )
        .bind(new.model.as_str())
        .bind(now.micros())
        .fetch_one(tx.conn())
        .await?;
        let version = ModelVersion {
            model: new.model,
            version: row::uncount(number, "version")?,
            run: new.run,
            signature: new.signature,
            files,
            metrics: new.metrics,
            tags: new.tags,
            aliases: Vec::new(),
            created_at: now,
        };
        insert(tx.conn(), &version).await?;
        tx.append(NewEvent {
            at: now,
            kind: EventKind::VersionRegistered,
            subject: format!("model/{}", version.reference()),
            actor: crate::ACTOR.into(),
            cause: None,
            body: json!({"model": version.model, "version": version.version, "run": version.run, "files": version.files}),
        })
        .await?;
        tx.commit().await?;
        Ok(version)
    }

    /// One version.
    ///
    /// # Errors
    /// An unknown model (with the nearest known) or an unknown number (with the newest).
    pub async fn version(&self, version: &ModelRef) -> Result<ModelVersion, RegistryError> {
        let mut tx = self.meta().reader().begin().await?;
        let found = load(&mut tx, &version.model, Some(version.version)).await?;
        match found.into_iter().next() {
            Some(found) => Ok(found),
            None => {
                let newest = newest(&mut tx, &version.model).await?;
                Err(RegistryError::NoSuchVersion { version: version.clone(), newest })
            }
        }
    }

    /// All versions of a model, newest first.
    ///
    /// # Errors
    /// An unknown model.
    pub async fn versions(&self, model: &ModelName) -> Result<Vec<ModelVersion>, RegistryError> {
        let mut tx = self.meta().reader().begin().await?;
        newest(&mut tx, model).await?;
        load(&mut tx, model, None).await
    }

    /// All models, by name.
    pub async fn models(&self) -> Result<Vec<Model>, RegistryError> {
        let mut tx = self.meta().reader().begin().await?;
        let rows: Vec<(String, i64, i64)> =
            sqlx::query_as("SELECT name, last_version, created_at FROM registry_models ORDER BY name")
                .fetch_all(&mut *tx)
                .await?;
        let aliases: Vec<(String, String, i64)> =
            sqlx::query_as("SELECT model, alias, version FROM registry_aliases").fetch_all(&mut *tx).await?;
        let mut by_model: BTreeMap<String, BTreeMap<String, u32>> = BTreeMap::new();
        for (model, alias, version) in aliases {
            by_model.entry(model).or_default().insert(alias, row::uncount(version, "alias")?);
        }
        let read = |(name, latest, created_at): (String, i64, i64)| {
            let aliases = by_model.remove(&name).unwrap_or_default();
            let latest = row::uncount(latest, "model")?;
            Ok(Model {
                name: row::parse(&name, "model")?,
                latest,
                aliases,
                created_at: Timestamp::from_micros(created_at),
            })
        };
        rows.into_iter().map(read).collect()
    }

    /// All files of a version, their digests checked, with its signature.
    ///
    /// # Errors
    /// An unknown version, or bytes that are not what was registered.
    pub async fn open_version(&self, version: &ModelRef) -> Result<OpenedModel, RegistryError> {
        let found = self.version(version).await?;
        let read = found.files.iter().map(async |(path, digest)| {
            let bytes = self.blobs().get(digest).await?;
            Ok::<_, RegistryError>((path.clone(), bytes.as_ref().into()))
        });
        let files: ModelFiles = try_join_all(read).await?.into_iter().collect();
        Ok(OpenedModel { version: version.clone(), signature: found.signature, files })
    }
}

/// Number of the newest version of a model that must exist.
pub(crate) async fn newest(conn: &mut Conn, model: &ModelName) -> Result<u32, RegistryError> {
    let found: Option<i64> = sqlx::query_scalar("SELECT last_version FROM registry_models WHERE name = $1")
        .bind(model.as_str())
        .fetch_optional(&mut *conn)
        .await?;
    if let Some(number) = found {
        return row::uncount(number, "model");
    }
    let known: Vec<String> = sqlx::query_scalar("SELECT name FROM registry_models").fetch_all(conn).await?;
    let nearest = check::near(model.as_str(), known.iter().map(String::as_str));
    Err(RegistryError::NoSuchModel { name: model.clone(), nearest })
}

async fn insert(conn: &mut Conn, version: &ModelVersion) -> Result<(), RegistryError> {
    let (model, number) = (version.model.as_str(), i64::from(version.version));
    sqlx::query(
        "INSERT INTO registry_versions (model, version, run, source, download, signature, stage, description, user_id,
             run_link, created_at, updated_at)
         VALUES ($1, $2, $3, '', '', $4, 'None', '', '', '', $5, $5)",
    )
    .bind(model)
    .bind(number)
    .bind(version.run.to_string())
    .bind(row::to_json(&version.signature))
    .bind(version.created_at.micros())
    .execute(&mut *conn)
    .await?;
    for (path, digest) in &version.files {
        sqlx::query("INSERT INTO registry_version_files (model, version, path, digest, bytes) VALUES ($1, $2, $3, $4, 0)")
            .bind(model)
            .bind(number)
            .bind(path)
            .bind(digest.to_string())
            .execute(&mut *conn)
            .await?;
    }
    for (key, value) in &version.metrics {
        sqlx::query("INSERT INTO registry_version_metrics (model, version, key, value) VALUES ($1, $2, $3, $4)")
            .bind(model)
            .bind(number)
            .bind(key)
            .bind(row::float(*value))
            .execute(&mut *conn)
            .await?;
    }
    for (key, value) in &version.tags {
        sqlx::query("INSERT INTO registry_version_tags (model, version, key, value) VALUES ($1, $2, $3, $4)")
            .bind(model)
            .bind(number)
            .bind(key)
            .bind(value)
            .execute(&mut *conn)
            .await?;
    }
    Ok(())
}

/// Versions of a model, newest first: one, or all.
async fn load(
    conn: &mut Conn,
    model: &ModelName,
    only: Option<u32>,
) -> Result<Vec<ModelVersion>, RegistryError> {
    let (name, only) = (model.as_str(), only.map(i64::from));
    let rows: Vec<(i64, String, String, i64)> = sqlx::query_as(
        "SELECT version, run, signature, created_at FROM registry_versions
         WHERE model = $1 AND ($2 IS NULL OR version = $2) ORDER BY version DESC",
    )
    .bind(name)
    .bind(only)
    .fetch_all(&mut *conn)
    .await?;
    let mut versions = Vec::with_capacity(rows.len());
    for (number, run, signature, created_at) in rows {
        versions.push(ModelVersion {
            model: model.clone(),
            version: row::uncount(number, "version")?,
            run: row::parse(&run, "version")?,
            signature: row::from_json(&signature, "version")?,
            files: FileDigests::new(),
            metrics: BTreeMap::new(),
            tags: BTreeMap::new(),
            aliases: Vec::new(),
            created_at: Timestamp::from_micros(created_at),
        });
    }
    let files: Vec<(i64, String, String)> = sqlx::query_as(
        "SELECT version, path, digest FROM registry_version_files WHERE model = $1 AND ($2 IS NULL OR version = $2)",
    )
    .bind(name)
    .bind(only)
    .fetch_all(&mut *conn)
    .await?;
    let metrics: Vec<(i64, String, Option<f64>)> = sqlx::query_as(
        "SELECT version, key, value FROM registry_version_metrics WHERE model = $1 AND ($2 IS NULL OR version = $2)",
    )
    .bind(name)
    .bind(only)
    .fetch_all(&mut *conn)
    .await?;
    let tags: Vec<(i64, String, String)> = sqlx::query_as(
        "SELECT version, key, value FROM registry_version_tags WHERE model = $1 AND ($2 IS NULL OR version = $2)",
    )
    .bind(name)
    .bind(only)
    .fetch_all(&mut *conn)
    .await?;
    let aliases: Vec<(i64, String)> = sqlx::query_as(
        "SELECT version, alias FROM registry_aliases
         WHERE model = $1 AND ($2 IS NULL OR version = $2) ORDER BY alias",
    )
    .bind(name)
    .bind(only)
    .fetch_all(&mut *conn)
    .await?;
    let mut by_number: BTreeMap<i64, &mut ModelVersion> =
        versions.iter_mut().map(|version| (i64::from(version.version), version)).collect();
    for (number, path, digest) in files {
        if let Some(version) = by_number.get_mut(&number) {
            version.files.insert(path, row::parse(&digest, "version")?);
        }
    }
    for (number, key, value) in metrics {
        if let Some(version) = by_number.get_mut(&number) {
            version.metrics.insert(key, value.unwrap_or(f64::NAN));
        }
    }
    for (number, key, value) in tags {
        if let Some(version) = by_number.get_mut(&number) {
            version.tags.insert(key, value);
        }
    }
    for (number, alias) in aliases {
        if let Some(version) = by_number.get_mut(&number) {
            version.aliases.push(alias);
        }
    }
    Ok(versions)
}
