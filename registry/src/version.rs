//! Versions of models as they are kept: read, described, moved from stage to stage, deleted.

use std::collections::{BTreeMap, BTreeSet};

use domain::{EventKind, ModelName, ModelRef, NewEvent, RunId, Signature, Timestamp, model::FileDigests};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use storage::{Tx, sql::Conn};

use crate::{
    Page, Registry, RegistryError, Search, Stage,
    approval::{self, Waiting},
    check,
    experiment::ARTIFACTS,
    number,
    query::Statement,
    row, search, source,
};

/// Where in the artifact tree the files of versions lie that were registered with their bytes: one folder each.
pub(crate) const FOLDER: &str = "versions";
/// Longest description of a model or version, in bytes.
const DESCRIPTION_BYTES_MAX: usize = 64 * 1024;

/// A registered version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelVersion {
    pub model: ModelName,
    /// From 1; never given twice while the model exists.
    pub version: u32,
    /// The run that made it.
    pub run: Option<RunId>,
    /// The logged model it is, by its id.
    pub logged_model: Option<String>,
    /// Where its maker said that the files lie.
    pub source: String,
    /// Where clients read the files.
    pub download: String,
    /// As columns; a side is empty where it is not known or has no column form.
    pub signature: Signature,
    /// The signature as the `MLmodel` file states it.
    pub stated_signature: Option<Value>,
    /// Names of the ways to load it that the `MLmodel` file lists.
    pub flavors: Vec<String>,
    pub model_uuid: Option<String>,
    /// Path of the input example among the files.
    pub input_example: Option<String>,
    /// Why the files are never loaded by this server: they carry code.
    pub unsafe_reason: Option<String>,
    /// Path -> digest of each file; empty when they lie on another server.
    pub files: FileDigests,
    /// `NaN` and infinities travel as texts.
    #[serde(with = "number::map")]
    pub metrics: BTreeMap<String, f64>,
    pub tags: BTreeMap<String, String>,
    /// Aliases that point here now.
    pub aliases: Vec<String>,
    pub stage: Stage,
    pub description: String,
    pub user_id: String,
    pub run_link: String,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

impl ModelVersion {
    #[must_use]
    pub fn reference(&self) -> ModelRef {
        ModelRef { model: self.model.clone(), version: self.version }
    }
}

impl Registry {
    /// One version.
    ///
    /// # Errors
    /// An unknown model (with the nearest known) or an unknown number (with the newest).
    pub async fn version(&self, version: &ModelRef) -> Result<ModelVersion, RegistryError> {
        one(&mut *self.meta().reader().begin().await?, version).await
    }

    /// All versions of a model, newest first.
    ///
    /// # Errors
    /// An unknown model.
    pub async fn versions(&self, model: &ModelName) -> Result<Vec<ModelVersion>, RegistryError> {
        let mut tx = self.meta().reader().begin().await?;
        newest(&mut tx, model).await?;
        load(&mut tx, &Which::AllOf(model)).await
    }

    /// Versions that a filter finds, page by page.
    ///
    /// # Errors
    /// A filter, order or page token that is not lawful.
    pub async fn search_versions(&self, search: &Search) -> Result<Page<ModelVersion>, RegistryError> {
        let mut tx = self.meta().reader().begin().await?;
        let found = search::page(&mut tx, search::Kind::Versions, |_| {}, search).await?;
        let keys = found.items.into_iter().map(key).collect::<Result<Vec<_>, _>>()?;
        Ok(Page { items: by_keys(&mut tx, &keys).await?, next: found.next })
    }

    /// Where clients read a version's files.
    ///
    /// # Errors
    /// An unknown version.
    pub async fn download_uri(&self, version: &ModelRef) -> Result<String, RegistryError> {
        let mut tx = self.meta().reader().begin().await?;
        let found: Option<String> =
            sqlx::query_scalar("SELECT download FROM registry_versions WHERE model = $1 AND version = $2")
                .bind(version.model.as_str())
                .bind(i64::from(version.version))
                .fetch_optional(&mut *tx)
                .await?;
        match found {
            Some(found) => Ok(found),
            None => Err(no_such(&mut tx, version).await),
        }
    }

    /// Replaces a version's description.
    ///
    /// # Errors
    /// An unknown version, or a description that is too long.
    pub async fn describe_version(&self, version: &ModelRef, text: &str) -> Result<ModelVersion, RegistryError> {
        check_description(text)?;
        let now = self.now();
        let mut tx = self.begin().await?;
        require(tx.conn(), version).await?;
        sqlx::query("UPDATE registry_versions SET description = $3, updated_at = $4 WHERE model = $1 AND version = $2")
            .bind(version.model.as_str())
            .bind(i64::from(version.version))
            .bind(text)
            .bind(now.micros())
            .execute(tx.conn())
            .await?;
        note(&mut tx, now, EventKind::VersionChanged, version, json!({"description": text})).await?;
        let changed = one(tx.conn(), version).await?;
        tx.commit().await?;
        Ok(changed)
    }

    /// Deletes a version and the aliases that point at it. Its number is not given again.
    ///
    /// # Errors
    /// An unknown version, or one under a protected alias.
    pub async fn delete_version(&self, version: &ModelRef, actor: &str) -> Result<(), RegistryError> {
        let now = self.now();
        let mut tx = self.begin().await?;
        let gone = one(tx.conn(), version).await?;
        approval::version_free(tx.conn(), &gone).await?;
        let waiting = Waiting { model: &version.model, alias: None, version: Some(version.version) };
        approval::supersede(&mut tx, &waiting, "the version is deleted", actor, now, None).await?;
        delete(&mut tx, &gone, now, actor).await?;
        touch(tx.conn(), &version.model, now).await?;
        Ok(tx.commit().await?)
    }
}

/// Removes a version that exists, with its aliases, and its files where it alone had them.
pub(crate) async fn delete(
    tx: &mut Tx,
    version: &ModelVersion,
    now: Timestamp,
    actor: &str,
) -> Result<(), RegistryError> {
    let (model, number) = (version.model.as_str(), i64::from(version.version));
    sqlx::query("DELETE FROM registry_versions WHERE model = $1 AND version = $2")
        .bind(model)
        .bind(number)
        .execute(tx.conn())
        .await?;
    let event = |kind, subject, body| NewEvent { at: now, kind, subject, actor: actor.to_owned(), cause: None, body };
    for alias in &version.aliases {
        let subject = format!("model/{model}/alias/{alias}");
        let body = json!({"model": model, "alias": alias, "from": version.version, "reason": "the version is deleted"});
        tx.append(event(EventKind::AliasRemoved, subject, body)).await?;
    }
    let (subject, body) =
        (format!("model/{}", version.reference()), json!({"files": version.files, "run": version.run}));
    tx.append(event(EventKind::VersionDeleted, subject, body)).await?;
    // Files of runs and logged models stay theirs; a folder of its own goes with the last version that names it.
    let own = source::kept(&version.download).filter(|path| source::within(path, FOLDER));
    let Some(id) = own.and_then(|path| path.split('/').nth(1)) else { return Ok(()) };
    let (folder, uri) = own_folder(id);
    let users: i64 = sqlx::query_scalar(
        "SELECT COUNT(*) FROM registry_versions WHERE download = $1 OR (download > $2 AND download < $3)",
    )
    .bind(&uri)
    .bind(format!("{uri}/"))
    .bind(format!("{uri}0"))
    .fetch_one(tx.conn())
    .await?;
    if users == 0 {
        sqlx::query("DELETE FROM registry_artifacts WHERE path > $1 AND path < $2")
            .bind(format!("{folder}/"))
            .bind(format!("{folder}0"))
            .execute(tx.conn())
            .await?;
    }
    Ok(())
}

/// The folder of a version's own, as a path of the artifact tree and as clients name it.
pub(crate) fn own_folder(id: &str) -> (String, String) {
    let path = format!("{FOLDER}/{id}");
    let uri = format!("{ARTIFACTS}{path}");
    (path, uri)
}

pub(crate) fn check_description(text: &str) -> Result<(), RegistryError> {
    if text.len() > DESCRIPTION_BYTES_MAX {
        let problem = format!("has {} bytes where at most {DESCRIPTION_BYTES_MAX} are taken", text.len());
        return Err(RegistryError::invalid("the description", problem, "keep long texts as files"));
    }
    Ok(())
}

/// Number of the newest version of a model that must exist; 0 while it has none.
pub(crate) async fn newest(conn: &mut Conn, model: &ModelName) -> Result<u32, RegistryError> {
    let found: Option<i64> = sqlx::query_scalar(
        "SELECT COALESCE((SELECT MAX(v.version) FROM registry_versions v WHERE v.model = m.name), 0)
         FROM registry_models m WHERE m.name = $1",
    )
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

/// Fails unless the version exists.
pub(crate) async fn require(conn: &mut Conn, version: &ModelRef) -> Result<(), RegistryError> {
    let found: Option<i64> =
        sqlx::query_scalar("SELECT version FROM registry_versions WHERE model = $1 AND version = $2")
            .bind(version.model.as_str())
            .bind(i64::from(version.version))
            .fetch_optional(&mut *conn)
            .await?;
    if found.is_some() { Ok(()) } else { Err(no_such(conn, version).await) }
}

/// Why a version was not found.
async fn no_such(conn: &mut Conn, version: &ModelRef) -> RegistryError {
    match newest(conn, &version.model).await {
        Ok(newest) => RegistryError::NoSuchVersion { version: version.clone(), newest },
        Err(error) => error,
    }
}

/// A version that must exist, as it stands.
pub(crate) async fn one(conn: &mut Conn, version: &ModelRef) -> Result<ModelVersion, RegistryError> {
    match load(conn, &Which::One(version)).await?.pop() {
        Some(found) => Ok(found),
        None => Err(no_such(conn, version).await),
    }
}

/// Sets the time of a model's last change.
pub(crate) async fn touch(conn: &mut Conn, model: &ModelName, now: Timestamp) -> Result<(), RegistryError> {
    sqlx::query("UPDATE registry_models SET updated_at = $2 WHERE name = $1")
        .bind(model.as_str())
        .bind(now.micros())
        .execute(conn)
        .await?;
    Ok(())
}

pub(crate) async fn note(
    tx: &mut Tx,
    at: Timestamp,
    kind: EventKind,
    version: &ModelRef,
    body: Value,
) -> Result<(), RegistryError> {
    crate::note(tx, at, kind, format!("model/{version}"), body).await
}

/// Model and number of a version.
pub(crate) type Key = (String, i64);

fn key(texts: Vec<String>) -> Result<Key, RegistryError> {
    match &texts[..] {
        [model, version] => Ok((model.clone(), row::parse(version, "version")?)),
        _ => Err(RegistryError::Damaged { what: "version", detail: format!("key {texts:?}") }),
    }
}

/// Which versions to load.
pub(crate) enum Which<'a> {
    One(&'a ModelRef),
    AllOf(&'a ModelName),
    Keys(&'a [Key]),
}

impl Which<'_> {
    /// A statement with the condition that picks the rows of these versions.
    fn of(&self, select: &str, order: &str) -> Statement {
        let mut statement = Statement::new(select);
        match self {
            Self::One(version) => {
                statement.push(" WHERE model = ").bind(version.model.as_str());
                statement.push(" AND version = ").bind(i64::from(version.version));
            }
            Self::AllOf(model) => {
                statement.push(" WHERE model = ").bind(model.as_str());
            }
            Self::Keys(keys) => {
                // The lists alone would let the index down; the pairs alone are exact.
                let models: BTreeSet<&str> = keys.iter().map(|(model, _)| model.as_str()).collect();
                statement.push(" WHERE model IN (").bind_all(models).push(") AND (model, version) IN (VALUES ");
                for (n, (model, version)) in keys.iter().enumerate() {
                    statement.push(if n == 0 { "(" } else { ", (" }).bind(model.as_str());
                    statement.push(", ").bind(*version).push(")");
                }
                statement.push(")");
            }
        }
        statement.push(order);
        statement
    }
}

/// How many versions are loaded by key in one statement.
const KEYS_AT_ONCE: usize = 500;

/// Versions in the order of their keys; those that do not exist are left out.
pub(crate) async fn by_keys(conn: &mut Conn, keys: &[Key]) -> Result<Vec<ModelVersion>, RegistryError> {
    let mut found = BTreeMap::new();
    for keys in keys.chunks(KEYS_AT_ONCE) {
        for version in load(conn, &Which::Keys(keys)).await? {
            found.insert((version.model.to_string(), i64::from(version.version)), version);
        }
    }
    Ok(keys.iter().filter_map(|key| found.remove(key)).collect())
}

/// A version's own row.
#[derive(sqlx::FromRow)]
struct Row {
    model: String,
    version: i64,
    run: Option<String>,
    logged_model: Option<String>,
    source: String,
    download: String,
    signature: String,
    stated_signature: Option<String>,
    flavors: String,
    model_uuid: Option<String>,
    input_example: Option<String>,
    unsafe_reason: Option<String>,
    stage: String,
    description: String,
    user_id: String,
    run_link: String,
    created_at: i64,
    updated_at: i64,
}

impl Row {
    fn read(self) -> Result<ModelVersion, RegistryError> {
        Ok(ModelVersion {
            model: row::parse(&self.model, "version")?,
            version: row::uncount(self.version, "version")?,
            run: self.run.map(|run| row::parse(&run, "version")).transpose()?,
            logged_model: self.logged_model,
            source: self.source,
            download: self.download,
            signature: row::from_json(&self.signature, "version")?,
            stated_signature: self.stated_signature.map(|text| row::from_json(&text, "version")).transpose()?,
            flavors: row::from_json(&self.flavors, "version")?,
            model_uuid: self.model_uuid,
            input_example: self.input_example,
            unsafe_reason: self.unsafe_reason,
            files: FileDigests::new(),
            metrics: BTreeMap::new(),
            tags: BTreeMap::new(),
            aliases: Vec::new(),
            stage: Stage::parse(&self.stage).map_err(RegistryError::damaged("version"))?,
            description: self.description,
            user_id: self.user_id,
            run_link: self.run_link,
            created_at: Timestamp::from_micros(self.created_at),
            updated_at: Timestamp::from_micros(self.updated_at),
        })
    }
}

/// Versions as they stand; those of one model newest first.
pub(crate) async fn load(conn: &mut Conn, which: &Which<'_>) -> Result<Vec<ModelVersion>, RegistryError> {
    let rows = "SELECT model, version, run, logged_model, source, download, signature, stated_signature, flavors,
                    model_uuid, input_example, unsafe_reason, stage, description, user_id, run_link, created_at, updated_at
                FROM registry_versions";
    let rows: Vec<Row> = which.of(rows, " ORDER BY model, version DESC").query_as().fetch_all(&mut *conn).await?;
    let files = which.of("SELECT model, version, path, digest FROM registry_version_files", "");
    let files: Vec<(String, i64, String, String)> = files.query_as().fetch_all(&mut *conn).await?;
    let metrics = which.of("SELECT model, version, key, value FROM registry_version_metrics", "");
    let metrics: Vec<(String, i64, String, Option<f64>)> = metrics.query_as().fetch_all(&mut *conn).await?;
    let tags = which.of("SELECT model, version, key, value FROM registry_version_tags", "");
    let tags: Vec<(String, i64, String, String)> = tags.query_as().fetch_all(&mut *conn).await?;
    let aliases = which.of("SELECT model, version, alias FROM registry_aliases", " ORDER BY alias");
    let aliases: Vec<(String, i64, String)> = aliases.query_as().fetch_all(&mut *conn).await?;

    let mut versions = rows.into_iter().map(Row::read).collect::<Result<Vec<_>, _>>()?;
    let mut known: BTreeMap<Key, &mut ModelVersion> =
        versions.iter_mut().map(|version| ((version.model.to_string(), i64::from(version.version)), version)).collect();
    for (model, number, path, digest) in files {
        if let Some(version) = known.get_mut(&(model, number)) {
            version.files.insert(path, row::parse(&digest, "version")?);
        }
    }
    for (model, number, key, value) in metrics {
        if let Some(version) = known.get_mut(&(model, number)) {
            version.metrics.insert(key, value.unwrap_or(f64::NAN));
        }
    }
    for (model, number, key, value) in tags {
        if let Some(version) = known.get_mut(&(model, number)) {
            version.tags.insert(key, value);
        }
    }
    for (model, number, alias) in aliases {
        if let Some(version) = known.get_mut(&(model, number)) {
            version.aliases.push(alias);
        }
    }
    Ok(versions)
}
