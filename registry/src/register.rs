//! Registering versions: from bytes in hand, or from files that lie in the artifact tree already.
//!
//! Both ways make the same record. Bytes are kept by digest, so a version made from a run's files copies none of them.

use std::collections::BTreeMap;

use bytes::Bytes;
use domain::{
    Digest, EventKind, ModelFiles, ModelName, ModelRef, NewEvent, RunId, Signature, Timestamp, ports::OpenedModel,
};
use futures::future::try_join_all;
use serde_json::json;
use storage::{Tx, require_stored, sql::Conn};
use uuid::Uuid;

use crate::{
    ModelVersion, Registry, RegistryError, Stage, alias,
    artifact::{self, StoredFile},
    bring, check,
    contents::{self, Contents},
    logged_model, mlmodel, model, model_tag,
    numbering::{Original, take_number},
    row, run,
    source::{self, Source},
    version,
};

/// Longest link to a run of another server, in bytes.
const LINK_BYTES_MAX: usize = 4096;
/// How often registering starts over because its source was written to meanwhile.
const TRIES: usize = 4;

/// A version about to be registered from bytes in hand.
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

/// A version about to be registered from where its files lie.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SourcedVersion {
    /// `mlflow-artifacts:/...` of the run or logged model below, `runs:/<run>/<path>`, `models:/m-<id>`, `models:/<name>/<version>`, or an address in an
    /// object store, which is kept and never read.
    pub source: String,
    pub run: Option<RunId>,
    /// Id of the logged model it is.
    pub logged_model: Option<String>,
    pub tags: BTreeMap<String, String>,
    pub description: String,
    pub user_id: String,
    /// Of the run that made it, where that is another server's.
    pub run_link: String,
}

impl Registry {
    /// Registers a version under the next number of its model. All or nothing, and durable when it returns.
    ///
    /// Beside a `model.onnx` come the files with which MLflow's client loads it, unless there is an `MLmodel` already.
    ///
    /// # Errors
    /// An unknown run, no files, or a path that leaves the version's directory.
    pub async fn register(&self, new: NewVersion) -> Result<ModelVersion, RegistryError> {
        check::files(&new.files)?;
        model_tag::check(&new.tags)?;
        for key in new.metrics.keys() {
            check::text("metric", key, 1)?;
        }
        let now = self.now();
        let id = Uuid::new_v4().simple().to_string();
        let mut files = new.files;
        mlmodel::complete(&mut files, &new.signature, &id, Some(new.run), now);
        // Bytes first: a version never names bytes that are not there.
        let stored = files.iter().map(async |(path, bytes)| {
            let digest = self.blobs().put(Bytes::copy_from_slice(bytes)).await?;
            Ok::<_, RegistryError>(StoredFile { path: path.clone(), digest, bytes: bytes.len() as u64 })
        });
        let stored: Vec<StoredFile> = try_join_all(stored).await?;
        let hand: BTreeMap<Digest, Bytes> =
            stored.iter().map(|file| (file.digest, Bytes::from_owner(files[&file.path].clone()))).collect();
        let contents = contents::inspect(&stored, contents::Reader::Hand(&hand)).await?;

        let mut tx = self.begin().await?;
        run::require(tx.conn(), &new.run).await?;
        let digests: Vec<Digest> = stored.iter().map(|file| file.digest).collect();
        require_stored(self.blobs(), &digests).await?;
        if !model::exists(tx.conn(), &new.model).await? {
            model::note(&mut tx, now, EventKind::ModelCreated, &new.model, json!({"tags": {}, "description": ""}))
                .await?;
        }
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
        let (folder, uri) = version::own_folder(&id);
        let reference = ModelRef { model: new.model, version: row::uncount(number, "version")? };
        let mut version = blank(reference, contents, now);
        if new.signature != Signature::default() {
            version.signature = new.signature;
        }
        version.run = Some(new.run);
        (version.source, version.download) = (uri.clone(), uri);
        (version.metrics, version.tags) = (new.metrics, new.tags);
        for file in &stored {
            sqlx::query("INSERT INTO registry_artifacts (path, digest, bytes, written_at) VALUES ($1, $2, $3, $4)")
                .bind(format!("{folder}/{}", file.path))
                .bind(file.digest.to_string())
                .bind(row::count(file.bytes))
                .bind(now.micros())
                .execute(tx.conn())
                .await?;
        }
        finish(tx, version, stored, now).await
    }

    /// Registers the files at a source as the next version of a model that exists. All or nothing, and durable when it
    /// returns. Files that lie on this server become the version's, digest by digest; nothing is copied.
    ///
    /// # Errors
    /// An unknown model, run or logged model; a source that is local, hidden or exotic, or that is not the run's or
    /// logged model's it is said to be of.
    pub async fn register_source(&self, model: &ModelName, new: SourcedVersion) -> Result<ModelVersion, RegistryError> {
        self.register_sourced(model, new, None).await
    }

    /// The same, under the number and times that it had in another store, where it comes from one.
    pub(crate) async fn register_sourced(
        &self,
        model: &ModelName,
        new: SourcedVersion,
        original: Option<Original>,
    ) -> Result<ModelVersion, RegistryError> {
        let wanted = Source::parse(&new.source)?;
        model_tag::check(&new.tags)?;
        version::check_description(&new.description)?;
        if new.run_link.len() > LINK_BYTES_MAX {
            let problem = format!("is longer than {LINK_BYTES_MAX} bytes");
            return Err(RegistryError::invalid("the link to the run", problem, "shorten it"));
        }
        // Looking into files takes a while, so it is done before the turn to write is taken, and done again when they
        // have changed by then.
        for _ in 0..TRIES {
            let found = {
                let mut tx = self.meta().reader().begin().await?;
                version::newest(&mut tx, model).await?;
                find(&mut tx, &wanted, &new).await?
            };
            let contents = match &found.original {
                Some(_) => Contents::default(),
                None => contents::inspect(&found.files, contents::Reader::Store(self.blobs())).await?,
            };
            let now = self.now();
            let mut tx = self.begin().await?;
            version::newest(tx.conn(), model).await?;
            if find(tx.conn(), &wanted, &new).await? != found {
                continue;
            }
            let version = take_number(tx.conn(), model, original.as_ref(), now).await?;
            let reference = ModelRef { model: model.clone(), version };
            let mut version = blank(reference, contents, now);
            if let Some(original) = &found.original {
                let original = version::one(tx.conn(), original).await?;
                (version.signature, version.stated_signature) = (original.signature, original.stated_signature);
                (version.flavors, version.model_uuid) = (original.flavors, original.model_uuid);
                (version.input_example, version.unsafe_reason) = (original.input_example, original.unsafe_reason);
                version.metrics = original.metrics;
            }
            (version.source, version.download) = (new.source, found.download);
            (version.run, version.logged_model) = (found.run, found.logged_model);
            (version.tags, version.description) = (new.tags, new.description);
            (version.user_id, version.run_link) = (new.user_id, new.run_link);
            if let Some(original) = original {
                version.stage = original.stage;
                (version.created_at, version.updated_at) = (original.created_at, original.updated_at);
                let (kind, id) = original.mark;
                bring::mark(tx.conn(), kind, &id).await?;
            }
            return finish(tx, version, found.files, now).await;
        }
        let hint = "wait until the files are written, then register them";
        Err(RegistryError::invalid(format!("source {:?}", new.source), "is being written to", hint))
    }

    /// All files of a version, their digests checked, with its signature.
    ///
    /// # Errors
    /// An unknown version, bytes that are not what was registered, or a version that is not for loading: one whose files
    /// carry code, or one without `model.onnx`.
    pub async fn open_version(&self, version: &ModelRef) -> Result<OpenedModel, RegistryError> {
        let found = self.version(version).await?;
        let what = || format!("model version `{version}`");
        if let Some(reason) = found.unsafe_reason {
            let hint = "this server loads no file that can run code; register the model as ONNX";
            return Err(RegistryError::invalid(what(), format!("is marked unsafe: {reason}"), hint));
        }
        if !found.files.contains_key(mlmodel::ONNX_FILE) {
            let hint = "log the model with MLflow's onnx flavour, or register its `model.onnx`";
            return Err(RegistryError::invalid(what(), "has no `model.onnx`, which is what is served", hint));
        }
        let read = found.files.iter().map(async |(path, digest)| {
            let bytes = self.blobs().get(digest).await?;
            Ok::<_, RegistryError>((path.clone(), bytes.as_ref().into()))
        });
        let files: ModelFiles = try_join_all(read).await?.into_iter().collect();
        Ok(OpenedModel { version: version.clone(), signature: found.signature, files })
    }
}

/// A version of which nothing is known but its name and what is in its files.
fn blank(reference: ModelRef, contents: Contents, now: Timestamp) -> ModelVersion {
    let Contents { model, unsafe_reason } = contents;
    ModelVersion {
        model: reference.model,
        version: reference.version,
        run: None,
        logged_model: None,
        source: String::new(),
        download: String::new(),
        signature: model.signature(),
        stated_signature: model.stated_signature,
        flavors: model.flavors,
        model_uuid: model.model_uuid,
        input_example: model.input_example,
        unsafe_reason,
        files: BTreeMap::new(),
        metrics: BTreeMap::new(),
        tags: BTreeMap::new(),
        aliases: Vec::new(),
        stage: Stage::None,
        description: String::new(),
        user_id: String::new(),
        run_link: String::new(),
        created_at: now,
        updated_at: now,
    }
}

/// Writes a version with its files and all that hangs on it, and commits.
async fn finish(
    mut tx: Tx,
    mut version: ModelVersion,
    files: Vec<StoredFile>,
    now: Timestamp,
) -> Result<ModelVersion, RegistryError> {
    insert(tx.conn(), &version, &files).await?;
    if let Some(logged) = &version.logged_model {
        logged_model::list_version(tx.conn(), logged, &version).await?;
    }
    version.files = files.into_iter().map(|file| (file.path, file.digest)).collect();
    tx.append(NewEvent {
        at: now,
        kind: EventKind::VersionRegistered,
        subject: format!("model/{}", version.reference()),
        actor: crate::ACTOR.into(),
        cause: None,
        body: json!({
            "model": version.model, "version": version.version, "run": version.run, "logged_model": version.logged_model,
            "source": version.source, "files": version.files, "unsafe": version.unsafe_reason, "tags": version.tags,
            "description": version.description,
        }),
    })
    .await?;
    tx.commit().await?;
    Ok(version)
}

/// What a source came to.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    download: String,
    files: Vec<StoredFile>,
    run: Option<RunId>,
    logged_model: Option<String>,
    /// The version whose files these are.
    original: Option<ModelRef>,
}

/// Looks a source up, and holds it to the run and the logged model it is said to be of.
async fn find(conn: &mut Conn, wanted: &Source, new: &SourcedVersion) -> Result<Found, RegistryError> {
    let mut found = Found {
        download: new.source.clone(),
        files: Vec::new(),
        run: new.run,
        logged_model: new.logged_model.clone(),
        original: None,
    };
    match wanted {
        Source::Elsewhere => {}
        Source::Run { run, path } => {
            if new.run.is_some_and(|said| said != *run) {
                return Err(not_of(new, "run", &run.to_string()));
            }
            found.run = Some(*run);
            let root = run_artifacts(conn, run).await?;
            found.download = if path.is_empty() { root } else { format!("{}/{path}", root.trim_end_matches('/')) };
        }
        Source::LoggedModel(id) => {
            if new.logged_model.as_ref().is_some_and(|said| said != id) {
                return Err(not_of(new, "logged model", id));
            }
            found.logged_model = Some(id.clone());
            found.download = logged_model(conn, id).await?.artifact_uri;
        }
        Source::Version { model, name } => {
            let reference = alias::find(conn, model, name).await?;
            let original = version::one(conn, &reference).await?;
            let said_run = new.run.is_some_and(|said| Some(said) != original.run);
            let said_model = new.logged_model.is_some() && new.logged_model != original.logged_model;
            if said_run || said_model {
                let other = if said_run { "another run's" } else { "another logged model's" };
                let hint = "leave `run_id` and `model_id` out: they are the other version's";
                return Err(RegistryError::invalid(format!("source {:?}", new.source), format!("is {other}"), hint));
            }
            found.download.clone_from(&original.download);
            (found.run, found.logged_model) = (original.run, original.logged_model.clone());
            found.files = files_of(conn, &original.reference()).await?;
            found.original = Some(original.reference());
        }
        Source::Kept(path) => owned(conn, path, new).await?,
    }
    if let Some(id) = &found.logged_model {
        let logged = logged_model(conn, id).await?;
        found.run = match (found.run, logged.source_run) {
            (None, made_by) => made_by.map(|run| row::parse(&run, "logged model")).transpose()?,
            (said, _) => said,
        };
    }
    if let Some(run) = &found.run {
        run::require(conn, run).await?;
    }
    if found.original.is_none()
        && let Some(path) = source::kept(&found.download)
    {
        found.files = artifact::below(conn, path).await?;
    }
    Ok(found)
}

/// Fails unless a path lies among the artifacts of the run or the logged model that it is said to be of: whoever may
/// register a version must not reach any other files by it.
async fn owned(conn: &mut Conn, path: &str, new: &SourcedVersion) -> Result<(), RegistryError> {
    let inside = |location: &str| source::kept(location).is_some_and(|root| source::within(path, root));
    if new.run.is_none() && new.logged_model.is_none() {
        let hint = "give the run_id or the model_id whose artifacts these are";
        return Err(RegistryError::invalid(format!("source {:?}", new.source), "is of no run or logged model", hint));
    }
    if let Some(id) = &new.logged_model
        && inside(&logged_model(conn, id).await?.artifact_uri)
    {
        return Ok(());
    }
    if let Some(run) = &new.run {
        if inside(&run_artifacts(conn, run).await?) {
            return Ok(());
        }
        // A run's logged models have their files beside it, not below it.
        let logged: Vec<String> = sqlx::query_scalar(
            "SELECT artifact_uri FROM registry_logged_models WHERE source_run = $1 AND deleted_at IS NULL",
        )
        .bind(run.to_string())
        .fetch_all(conn)
        .await?;
        if logged.iter().any(|root| inside(root)) {
            return Ok(());
        }
        return Err(not_of(new, "run", &run.to_string()));
    }
    Err(not_of(new, "logged model", new.logged_model.as_deref().unwrap_or_default()))
}

fn not_of(new: &SourcedVersion, what: &'static str, id: &str) -> RegistryError {
    let hint = "name a source among the artifacts of that run or logged model";
    RegistryError::invalid(format!("source {:?}", new.source), format!("is not of {what} `{id}`"), hint)
}

pub(crate) async fn run_artifacts(conn: &mut Conn, run: &RunId) -> Result<String, RegistryError> {
    let found: Option<String> = sqlx::query_scalar("SELECT artifact_uri FROM registry_runs WHERE id = $1")
        .bind(run.to_string())
        .fetch_optional(conn)
        .await?;
    found.ok_or(RegistryError::NoSuchRun(*run))
}

#[derive(sqlx::FromRow)]
struct LoggedRow {
    artifact_uri: String,
    source_run: Option<String>,
}

async fn logged_model(conn: &mut Conn, id: &str) -> Result<LoggedRow, RegistryError> {
    let found: Option<LoggedRow> = sqlx::query_as(
        "SELECT artifact_uri, source_run FROM registry_logged_models WHERE id = $1 AND deleted_at IS NULL",
    )
    .bind(id)
    .fetch_optional(conn)
    .await?;
    found.ok_or_else(|| RegistryError::NoSuch { what: "logged model", name: id.to_owned() })
}

pub(crate) async fn files_of(conn: &mut Conn, version: &ModelRef) -> Result<Vec<StoredFile>, RegistryError> {
    let rows: Vec<(String, String, i64)> = sqlx::query_as(
        "SELECT path, digest, bytes FROM registry_version_files WHERE model = $1 AND version = $2 ORDER BY path",
    )
    .bind(version.model.as_str())
    .bind(i64::from(version.version))
    .fetch_all(conn)
    .await?;
    let read = |(path, digest, bytes): (String, String, i64)| {
        Ok(StoredFile { path, digest: row::parse(&digest, "version")?, bytes: row::uncount(bytes, "version")? })
    };
    rows.into_iter().map(read).collect()
}

async fn insert(conn: &mut Conn, version: &ModelVersion, files: &[StoredFile]) -> Result<(), RegistryError> {
    let (model, number) = (version.model.as_str(), i64::from(version.version));
    sqlx::query(
        "INSERT INTO registry_versions (model, version, run, logged_model, source, download, signature, stated_signature,
             flavors, model_uuid, input_example, unsafe_reason, stage, description, user_id, run_link, created_at, updated_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)",
    )
    .bind(model)
    .bind(number)
    .bind(version.run.map(|run| run.to_string()))
    .bind(&version.logged_model)
    .bind(&version.source)
    .bind(&version.download)
    .bind(row::to_json(&version.signature))
    .bind(version.stated_signature.as_ref().map(row::to_json))
    .bind(row::to_json(&version.flavors))
    .bind(&version.model_uuid)
    .bind(&version.input_example)
    .bind(&version.unsafe_reason)
    .bind(version.stage.as_str())
    .bind(&version.description)
    .bind(&version.user_id)
    .bind(&version.run_link)
    .bind(version.created_at.micros())
    .bind(version.updated_at.micros())
    .execute(&mut *conn)
    .await?;
    for file in files {
        sqlx::query(
            "INSERT INTO registry_version_files (model, version, path, digest, bytes) VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(model)
        .bind(number)
        .bind(&file.path)
        .bind(file.digest.to_string())
        .bind(row::count(file.bytes))
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
        model_tag::write(conn, model_tag::Of::Version(&version.reference()), key, value).await?;
    }
    Ok(())
}
