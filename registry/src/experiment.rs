//! Experiments: named folders of runs.

use std::collections::{BTreeMap, HashMap};

use domain::{EventKind, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::json;
use storage::{Tx, sql::Conn};

use crate::{
    Registry, RegistryError, check,
    query::{self, Page, Statement},
    row,
    search::{self, Kind, Search},
};

/// The scheme of artifact locations that this server keeps itself; see [`crate::Registry`]'s artifacts.
pub(crate) const ARTIFACTS: &str = "mlflow-artifacts:/";
/// The experiment that is there from the start, for runs that name none.
const DEFAULT: (i64, &str) = (DEFAULT_ID, "Default");
pub(crate) const DEFAULT_ID: i64 = 0;
/// Longest value of a tag of an experiment, in characters.
const TAG_CHARS_MAX: usize = 20_000;
/// Experiments that one listing looks in at most.
const LISTED_MAX: usize = 20_000;

/// An experiment as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Experiment {
    /// Counts from 0, which is `Default`; never given twice.
    pub id: i64,
    pub name: String,
    /// Below it lie the artifacts of its runs.
    pub artifact_location: String,
    pub tags: BTreeMap<String, String>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    /// `None`: it is active.
    pub deleted_at: Option<Timestamp>,
}

/// An experiment about to be created.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewExperiment {
    /// 1 to 500 characters; not that of another experiment, deleted or not.
    pub name: String,
    /// A URI with a scheme; `None`: this server keeps the artifacts.
    pub artifact_location: Option<String>,
    pub tags: BTreeMap<String, String>,
}

/// Which of the things that can be deleted and restored to look at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum View {
    #[default]
    Active,
    Deleted,
    All,
}

impl View {
    /// The condition on the column that says when a thing was deleted.
    pub(crate) fn narrow(self, statement: &mut Statement, deleted_at: &str) {
        match self {
            Self::Active => statement.push(deleted_at).push(" IS NULL"),
            Self::Deleted => statement.push(deleted_at).push(" IS NOT NULL"),
            Self::All => statement.push("1 = 1"),
        };
    }
}

impl Registry {
    /// Makes the experiment `Default`, unless it is there.
    pub(crate) async fn ensure_default_experiment(&self) -> Result<(), RegistryError> {
        let (id, name) = DEFAULT;
        let known: Option<i64> = sqlx::query_scalar("SELECT id FROM registry_experiments WHERE id = $1")
            .bind(id)
            .fetch_optional(self.meta().reader())
            .await?;
        if known.is_some() {
            return Ok(());
        }
        let mut tx = self.begin().await?;
        // Another opening may have been faster. It is part of an empty registry, so the journal does not tell of it.
        sqlx::query(
            "INSERT INTO registry_experiments (id, name, artifact_location, created_at, updated_at)
             VALUES ($1, $2, $3, $4, $4) ON CONFLICT DO NOTHING",
        )
        .bind(id)
        .bind(name)
        .bind(format!("{ARTIFACTS}{id}"))
        .bind(self.now().micros())
        .execute(tx.conn())
        .await?;
        Ok(tx.commit().await?)
    }

    /// Creates an experiment. Durable when it returns.
    ///
    /// # Errors
    /// A bad name, location or tag; a name that is taken, also by a deleted experiment.
    pub async fn create_experiment(&self, new: NewExperiment) -> Result<Experiment, RegistryError> {
        check::experiment(&new.name)?;
        if let Some(location) = &new.artifact_location {
            check::location(location)?;
        }
        check_tags(&new.tags)?;
        let now = self.now();
        let mut tx = self.begin().await?;
        if let Some((_, _, deleted_at)) = find(tx.conn(), &new.name).await? {
            return Err(taken(&new.name, deleted_at));
        }
        let (id, location) = insert(&mut tx, &new.name, new.artifact_location, now).await?;
        put_tags(tx.conn(), id, &new.tags).await?;
        tx.commit().await?;
        let NewExperiment { name, tags, .. } = new;
        let (created_at, updated_at) = (now, now);
        Ok(Experiment { id, name, artifact_location: location, tags, created_at, updated_at, deleted_at: None })
    }

    /// One experiment, deleted or not.
    pub async fn experiment(&self, id: i64) -> Result<Experiment, RegistryError> {
        let mut tx = self.meta().reader().begin().await?;
        load(&mut tx, &[id]).await?.pop().ok_or_else(|| unknown(id))
    }

    /// The experiment of that name, deleted or not.
    pub async fn experiment_by_name(&self, name: &str) -> Result<Experiment, RegistryError> {
        let mut tx = self.meta().reader().begin().await?;
        let missing = || RegistryError::NoSuch { what: "experiment", name: name.to_owned() };
        let (id, ..) = find(&mut tx, name).await?.ok_or_else(missing)?;
        load(&mut tx, &[id]).await?.pop().ok_or_else(missing)
    }

    /// Experiments, page by page; of equals, the ones changed last come first.
    ///
    /// # Errors
    /// A filter, order or token that cannot be read.
    pub async fn search_experiments(&self, view: View, search: &Search) -> Result<Page<Experiment>, RegistryError> {
        let mut tx = self.meta().reader().begin().await?;
        let scope = |statement: &mut Statement| view.narrow(statement, "e.deleted_at");
        let found = search::page(&mut tx, Kind::Experiments, scope, search).await?;
        let ids = found.items.iter().flatten().map(|id| row::parse(id, "experiment"));
        let items = load(&mut tx, &ids.collect::<Result<Vec<i64>, _>>()?).await?;
        Ok(Page { items, next: found.next })
    }

    /// Gives an experiment another name. The name it has already changes nothing.
    ///
    /// # Errors
    /// An unknown or deleted experiment, a bad name or one that is taken.
    pub async fn rename_experiment(&self, id: i64, name: &str) -> Result<(), RegistryError> {
        check::experiment(name)?;
        let now = self.now();
        let mut tx = self.begin().await?;
        let before = require_active(tx.conn(), id).await?.name;
        if before == name {
            return Ok(());
        }
        if let Some((_, _, deleted_at)) = find(tx.conn(), name).await? {
            return Err(taken(name, deleted_at));
        }
        sqlx::query("UPDATE registry_experiments SET name = $2, updated_at = $3 WHERE id = $1")
            .bind(id)
            .bind(name)
            .bind(now.micros())
            .execute(tx.conn())
            .await?;
        note(&mut tx, now, EventKind::ExperimentChanged, id, json!({"name": name, "before": before})).await?;
        Ok(tx.commit().await?)
    }

    /// Deletes an experiment and its active runs; both can be restored. Deleting it again changes nothing.
    pub async fn delete_experiment(&self, id: i64) -> Result<(), RegistryError> {
        let now = self.now();
        let mut tx = self.begin().await?;
        if require(tx.conn(), id).await?.deleted_at.is_some() {
            return Ok(());
        }
        // The instant also marks which runs went with it, so no run that was deleted before may have the same.
        let last: Option<i64> = sqlx::query_scalar("SELECT MAX(deleted_at) FROM registry_runs WHERE experiment = $1")
            .bind(id)
            .fetch_one(tx.conn())
            .await?;
        let at = last.map_or(now.micros(), |last| now.micros().max(last.saturating_add(1)));
        sqlx::query("UPDATE registry_experiments SET deleted_at = $2, updated_at = $3 WHERE id = $1")
            .bind(id)
            .bind(at)
            .bind(now.micros())
            .execute(tx.conn())
            .await?;
        sqlx::query("UPDATE registry_runs SET deleted_at = $2 WHERE experiment = $1 AND deleted_at IS NULL")
            .bind(id)
            .bind(at)
            .execute(tx.conn())
            .await?;
        note(&mut tx, now, EventKind::ExperimentChanged, id, json!({"deleted": true})).await?;
        Ok(tx.commit().await?)
    }

    /// Brings back an experiment and the runs that were deleted with it, not those deleted before. Restoring an
    /// active one changes nothing.
    pub async fn restore_experiment(&self, id: i64) -> Result<(), RegistryError> {
        let now = self.now();
        let mut tx = self.begin().await?;
        let Some(deleted_at) = require(tx.conn(), id).await?.deleted_at else { return Ok(()) };
        sqlx::query("UPDATE registry_experiments SET deleted_at = NULL, updated_at = $2 WHERE id = $1")
            .bind(id)
            .bind(now.micros())
            .execute(tx.conn())
            .await?;
        sqlx::query("UPDATE registry_runs SET deleted_at = NULL WHERE experiment = $1 AND deleted_at = $2")
            .bind(id)
            .bind(deleted_at)
            .execute(tx.conn())
            .await?;
        note(&mut tx, now, EventKind::ExperimentChanged, id, json!({"deleted": false})).await?;
        Ok(tx.commit().await?)
    }

    /// Sets a tag of an experiment; one that exists is replaced.
    ///
    /// # Errors
    /// An unknown or deleted experiment, a bad key or a value of more than 20,000 characters.
    pub async fn set_experiment_tag(&self, id: i64, key: &str, value: &str) -> Result<(), RegistryError> {
        let tags = [(key.to_owned(), value.to_owned())].into();
        check_tags(&tags)?;
        let mut tx = self.begin().await?;
        require_active(tx.conn(), id).await?;
        put_tags(tx.conn(), id, &tags).await?;
        Ok(tx.commit().await?)
    }

    /// Removes a tag of an experiment.
    ///
    /// # Errors
    /// An unknown or deleted experiment, or one without that tag.
    pub async fn delete_experiment_tag(&self, id: i64, key: &str) -> Result<(), RegistryError> {
        let mut tx = self.begin().await?;
        require_active(tx.conn(), id).await?;
        let gone = sqlx::query("DELETE FROM registry_experiment_tags WHERE experiment = $1 AND key = $2")
            .bind(id)
            .bind(key)
            .execute(tx.conn())
            .await?;
        if gone.rows_affected() == 0 {
            return Err(RegistryError::NoSuch { what: "experiment tag", name: key.to_owned() });
        }
        Ok(tx.commit().await?)
    }
}

/// The experiment of that name, made now if there is none; gives its number and where its artifacts lie.
///
/// # Errors
/// An experiment of that name that is deleted.
pub(crate) async fn ensure(tx: &mut Tx, name: &str, now: Timestamp) -> Result<(i64, String), RegistryError> {
    match find(tx.conn(), name).await? {
        Some((id, location, None)) => Ok((id, location)),
        Some(_) => Err(RegistryError::Deleted { what: "experiment", name: name.to_owned() }),
        None => insert(tx, name, None, now).await,
    }
}

/// Fails when a listing names more experiments than one statement can.
pub(crate) fn check_many(experiments: &[i64]) -> Result<(), RegistryError> {
    let count = experiments.len();
    if count > LISTED_MAX {
        let problem = format!("are {count} where at most {LISTED_MAX} are taken");
        return Err(RegistryError::invalid("the experiments", problem, "search in parts"));
    }
    Ok(())
}

/// What other nouns ask of an experiment.
pub(crate) struct Known {
    pub name: String,
    pub location: String,
    deleted_at: Option<i64>,
}

/// An experiment that must exist.
pub(crate) async fn require(conn: &mut Conn, id: i64) -> Result<Known, RegistryError> {
    let found = "SELECT name, artifact_location, deleted_at FROM registry_experiments WHERE id = $1";
    let found: Option<(String, String, Option<i64>)> = sqlx::query_as(found).bind(id).fetch_optional(conn).await?;
    let (name, location, deleted_at) = found.ok_or_else(|| unknown(id))?;
    Ok(Known { name, location, deleted_at })
}

/// An experiment that must exist and must not be deleted.
pub(crate) async fn require_active(conn: &mut Conn, id: i64) -> Result<Known, RegistryError> {
    let known = require(conn, id).await?;
    if known.deleted_at.is_some() {
        return Err(RegistryError::Deleted { what: "experiment", name: known.name });
    }
    Ok(known)
}

fn unknown(id: i64) -> RegistryError {
    RegistryError::NoSuch { what: "experiment", name: id.to_string() }
}

fn taken(name: &str, deleted_at: Option<i64>) -> RegistryError {
    let detail = if deleted_at.is_some() { " and is deleted" } else { "" };
    RegistryError::Exists { what: "experiment", name: name.to_owned(), detail }
}

async fn insert(
    tx: &mut Tx,
    name: &str,
    location: Option<String>,
    now: Timestamp,
) -> Result<(i64, String), RegistryError> {
    let id: i64 =
        sqlx::query_scalar("SELECT COALESCE(MAX(id), -1) + 1 FROM registry_experiments").fetch_one(tx.conn()).await?;
    let location = location.unwrap_or_else(|| format!("{ARTIFACTS}{id}"));
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
    note(tx, now, EventKind::ExperimentCreated, id, json!({"name": name})).await?;
    Ok((id, location))
}

/// Number, artifact location and time of deletion.
async fn find(conn: &mut Conn, name: &str) -> Result<Option<(i64, String, Option<i64>)>, RegistryError> {
    let found = "SELECT id, artifact_location, deleted_at FROM registry_experiments WHERE name = $1";
    Ok(sqlx::query_as(found).bind(name).fetch_optional(conn).await?)
}

/// Experiments by number, in the order asked for; unknown ones are left out.
async fn load(conn: &mut Conn, ids: &[i64]) -> Result<Vec<Experiment>, RegistryError> {
    let mut found = HashMap::with_capacity(ids.len());
    for ids in ids.chunks(query::KEYS_AT_ONCE) {
        let mut statement = Statement::new(
            "SELECT id, name, artifact_location, created_at, updated_at, deleted_at FROM registry_experiments
             WHERE id IN (",
        );
        statement.bind_all(ids.iter().copied()).push(")");
        let rows: Vec<(i64, String, String, i64, i64, Option<i64>)> =
            statement.query_as().fetch_all(&mut *conn).await?;
        for (id, name, artifact_location, created_at, updated_at, deleted_at) in rows {
            let [created_at, updated_at] = [created_at, updated_at].map(Timestamp::from_micros);
            let (tags, deleted_at) = (BTreeMap::new(), deleted_at.map(Timestamp::from_micros));
            found.insert(id, Experiment { id, name, artifact_location, tags, created_at, updated_at, deleted_at });
        }
        let mut statement =
            Statement::new("SELECT experiment, key, value FROM registry_experiment_tags WHERE experiment IN (");
        statement.bind_all(ids.iter().copied()).push(")");
        let tags: Vec<(i64, String, String)> = statement.query_as().fetch_all(&mut *conn).await?;
        for (id, key, value) in tags {
            if let Some(experiment) = found.get_mut(&id) {
                experiment.tags.insert(key, value);
            }
        }
    }
    Ok(ids.iter().filter_map(|id| found.remove(id)).collect())
}

pub(crate) fn check_tags(tags: &BTreeMap<String, String>) -> Result<(), RegistryError> {
    for (key, value) in tags {
        check::key("experiment tag", key)?;
        check::within(format!("the value of experiment tag `{key}`"), value, TAG_CHARS_MAX)?;
    }
    Ok(())
}

async fn put_tags(conn: &mut Conn, id: i64, tags: &BTreeMap<String, String>) -> Result<(), RegistryError> {
    for (key, value) in tags {
        sqlx::query(
            "INSERT INTO registry_experiment_tags (experiment, key, value) VALUES ($1, $2, $3)
             ON CONFLICT (experiment, key) DO UPDATE SET value = excluded.value",
        )
        .bind(id)
        .bind(key)
        .bind(value)
        .execute(&mut *conn)
        .await?;
    }
    Ok(())
}

async fn note(
    tx: &mut Tx,
    at: Timestamp,
    kind: EventKind,
    id: i64,
    body: serde_json::Value,
) -> Result<(), RegistryError> {
    crate::note(tx, at, kind, format!("experiment/{id}"), body).await
}
