//! Registered models: the names under which versions are numbered.

use std::collections::{BTreeMap, BTreeSet};

use domain::{EventKind, ModelName, NewEvent, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use storage::{Tx, sql::Conn};

use crate::{
    ModelVersion, Page, Registry, RegistryError, Search, Stage, approval, model_tag,
    query::Statement,
    row, search,
    version::{self, Which},
};

/// The tag of the models that MLflow keeps prompts in.
pub(crate) const PROMPT_TAG: &str = "mlflow.prompt.is_prompt";

/// A model about to be created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewModel {
    pub name: ModelName,
    pub description: String,
    pub tags: BTreeMap<String, String>,
    pub user_id: String,
}

/// A model, in short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Model {
    pub name: ModelName,
    /// Number of the newest version; 0 while there is none.
    pub latest: u32,
    /// Alias -> version.
    pub aliases: BTreeMap<String, u32>,
    pub tags: BTreeMap<String, String>,
    pub description: String,
    pub user_id: String,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// A model with the versions that stand for it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RegisteredModel {
    pub model: Model,
    /// The newest version of each stage that has one.
    pub latest_versions: Vec<ModelVersion>,
}

impl Registry {
    /// Creates a model without versions.
    ///
    /// # Errors
    /// A name that is taken.
    pub async fn create_model(&self, new: NewModel) -> Result<RegisteredModel, RegistryError> {
        version::check_description(&new.description)?;
        model_tag::check(&new.tags)?;
        let now = self.now();
        let mut tx = self.begin().await?;
        let made = sqlx::query(
            "INSERT INTO registry_models (name, last_version, description, user_id, created_at, updated_at)
             VALUES ($1, 0, $2, $3, $4, $4) ON CONFLICT (name) DO NOTHING",
        )
        .bind(new.name.as_str())
        .bind(&new.description)
        .bind(&new.user_id)
        .bind(now.micros())
        .execute(tx.conn())
        .await?;
        if made.rows_affected() == 0 {
            return Err(taken(&new.name));
        }
        for (key, value) in &new.tags {
            model_tag::write(tx.conn(), model_tag::Of::Model(&new.name), key, value).await?;
        }
        note(
            &mut tx,
            now,
            EventKind::ModelCreated,
            &new.name,
            json!({"tags": new.tags, "description": new.description}),
        )
        .await?;
        let made = registered(tx.conn(), &new.name).await?;
        tx.commit().await?;
        Ok(made)
    }

    /// One model with the versions that stand for it.
    ///
    /// # Errors
    /// An unknown model, with the nearest known.
    pub async fn registered_model(&self, name: &ModelName) -> Result<RegisteredModel, RegistryError> {
        registered(&mut *self.meta().reader().begin().await?, name).await
    }

    /// All models, by name.
    pub async fn models(&self) -> Result<Vec<Model>, RegistryError> {
        load(&mut *self.meta().reader().begin().await?, None).await
    }

    /// Models that a filter finds, page by page. Prompts are left out unless the filter speaks of them.
    ///
    /// # Errors
    /// A filter, order or page token that is not lawful.
    pub async fn search_models(&self, search: &Search) -> Result<Page<RegisteredModel>, RegistryError> {
        let prompts = search.filter.contains(PROMPT_TAG);
        let scope = |statement: &mut Statement| {
            if !prompts {
                let tagged = "NOT EXISTS (SELECT 1 FROM registry_model_tags p WHERE p.model = m.name AND p.key = ";
                statement.push(tagged).bind(PROMPT_TAG).push(" AND p.value = ").bind("true").push(")");
            }
        };
        let mut tx = self.meta().reader().begin().await?;
        let found = search::page(&mut tx, search::Kind::Models, scope, search).await?;
        let names: Vec<String> = found.items.into_iter().flatten().collect();
        Ok(Page { items: by_names(&mut tx, &names).await?, next: found.next })
    }

    /// The newest version of each of the stages; of all stages when none is named.
    ///
    /// # Errors
    /// An unknown model.
    pub async fn latest_versions(
        &self,
        name: &ModelName,
        stages: &[Stage],
    ) -> Result<Vec<ModelVersion>, RegistryError> {
        let mut found = self.registered_model(name).await?.latest_versions;
        found.retain(|version| stages.is_empty() || stages.contains(&version.stage));
        Ok(found)
    }

    /// Replaces a model's description.
    ///
    /// # Errors
    /// An unknown model, or a description that is too long.
    pub async fn describe_model(&self, name: &ModelName, text: &str) -> Result<RegisteredModel, RegistryError> {
        version::check_description(text)?;
        let now = self.now();
        let mut tx = self.begin().await?;
        version::newest(tx.conn(), name).await?;
        sqlx::query("UPDATE registry_models SET description = $2, updated_at = $3 WHERE name = $1")
            .bind(name.as_str())
            .bind(text)
            .bind(now.micros())
            .execute(tx.conn())
            .await?;
        note(&mut tx, now, EventKind::ModelChanged, name, json!({"description": text})).await?;
        let changed = registered(tx.conn(), name).await?;
        tx.commit().await?;
        Ok(changed)
    }

    /// Gives a model another name; versions, aliases and tags stay with it. The name it has already changes nothing.
    ///
    /// # Errors
    /// An unknown model, a name that is taken, or a model with a protected alias.
    pub async fn rename_model(&self, from: &ModelName, to: &ModelName) -> Result<RegisteredModel, RegistryError> {
        let now = self.now();
        let mut tx = self.begin().await?;
        version::newest(tx.conn(), from).await?;
        if from != to {
            approval::model_free(tx.conn(), from).await?;
            if exists(tx.conn(), to).await? {
                return Err(taken(to));
            }
            // What belongs to it follows by the tables' own rules.
            sqlx::query("UPDATE registry_models SET name = $2, updated_at = $3 WHERE name = $1")
                .bind(from.as_str())
                .bind(to.as_str())
                .bind(now.micros())
                .execute(tx.conn())
                .await?;
            // Told under both names, so that the story of either leads to the other.
            for name in [from, to] {
                note(&mut tx, now, EventKind::ModelChanged, name, json!({"renamed_from": from, "renamed_to": to}))
                    .await?;
            }
        }
        let renamed = registered(tx.conn(), to).await?;
        tx.commit().await?;
        Ok(renamed)
    }

    /// Deletes a model with its versions, aliases and tags. Its name is free then, and numbers begin again at 1.
    ///
    /// # Errors
    /// An unknown model, or one with a protected alias.
    pub async fn delete_model(&self, name: &ModelName, actor: &str) -> Result<(), RegistryError> {
        let now = self.now();
        let mut tx = self.begin().await?;
        version::newest(tx.conn(), name).await?;
        approval::model_free(tx.conn(), name).await?;
        for gone in version::load(tx.conn(), &Which::AllOf(name)).await? {
            version::delete(&mut tx, &gone, now, actor).await?;
        }
        sqlx::query("DELETE FROM registry_models WHERE name = $1").bind(name.as_str()).execute(tx.conn()).await?;
        let subject = format!("model/{name}");
        let (kind, actor) = (EventKind::ModelDeleted, actor.to_owned());
        tx.append(NewEvent { at: now, kind, subject, actor, cause: None, body: json!({"model": name}) }).await?;
        Ok(tx.commit().await?)
    }
}

fn taken(name: &ModelName) -> RegistryError {
    RegistryError::Exists { what: "registered model", name: name.to_string(), detail: "" }
}

/// Whether there is a model of that name.
pub(crate) async fn exists(conn: &mut Conn, name: &ModelName) -> Result<bool, RegistryError> {
    Ok(sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM registry_models WHERE name = $1)")
        .bind(name.as_str())
        .fetch_one(conn)
        .await?)
}

pub(crate) async fn note(
    tx: &mut Tx,
    at: Timestamp,
    kind: EventKind,
    name: &ModelName,
    body: Value,
) -> Result<(), RegistryError> {
    crate::note(tx, at, kind, format!("model/{name}"), body).await
}

async fn registered(conn: &mut Conn, name: &ModelName) -> Result<RegisteredModel, RegistryError> {
    match by_names(conn, &[name.to_string()]).await?.pop() {
        Some(found) => Ok(found),
        // Says what is near.
        None => match version::newest(conn, name).await {
            Err(error) => Err(error),
            Ok(_) => Err(RegistryError::NoSuchModel { name: name.clone(), nearest: None }),
        },
    }
}

/// How many models are loaded by name in one statement.
const NAMES_AT_ONCE: usize = 1_000;

/// Models in the order of the names; those that do not exist are left out.
pub(crate) async fn by_names(conn: &mut Conn, names: &[String]) -> Result<Vec<RegisteredModel>, RegistryError> {
    let mut found = BTreeMap::new();
    for names in names.chunks(NAMES_AT_ONCE) {
        let mut newest = Statement::new("SELECT model, MAX(version) FROM registry_versions WHERE model IN (");
        newest.bind_all(names.iter().map(String::as_str)).push(") GROUP BY model, stage ORDER BY 1, 2");
        let newest: Vec<version::Key> = newest.query_as().fetch_all(&mut *conn).await?;
        let mut versions: BTreeMap<String, Vec<ModelVersion>> = BTreeMap::new();
        for version in version::by_keys(conn, &newest).await? {
            versions.entry(version.model.to_string()).or_default().push(version);
        }
        for model in load(conn, Some(names)).await? {
            let name = model.name.to_string();
            let latest_versions = versions.remove(&name).unwrap_or_default();
            found.insert(name, RegisteredModel { model, latest_versions });
        }
    }
    // A name asked for twice is answered once.
    let mut seen = BTreeSet::new();
    Ok(names.iter().filter(|name| seen.insert(*name)).filter_map(|name| found.remove(name)).collect())
}

#[derive(sqlx::FromRow)]
struct Row {
    name: String,
    latest: i64,
    description: String,
    user_id: String,
    created_at: i64,
    updated_at: i64,
}

/// Models by name: those named, or all.
async fn load(conn: &mut Conn, names: Option<&[String]>) -> Result<Vec<Model>, RegistryError> {
    let of = |select: &str, column: &str| {
        let mut statement = Statement::new(select);
        if let Some(names) = names {
            statement.push(" WHERE ").push(column).push(" IN (").bind_all(names.iter().map(String::as_str)).push(")");
        }
        statement
    };
    let mut rows = of(
        "SELECT m.name, COALESCE((SELECT MAX(v.version) FROM registry_versions v WHERE v.model = m.name), 0) AS latest,
             m.description, m.user_id, m.created_at, m.updated_at FROM registry_models m",
        "m.name",
    );
    let rows: Vec<Row> = rows.push(" ORDER BY m.name").query_as().fetch_all(&mut *conn).await?;
    let aliases = of("SELECT model, alias, version FROM registry_aliases", "model");
    let aliases: Vec<(String, String, i64)> = aliases.query_as().fetch_all(&mut *conn).await?;
    let tags = of("SELECT model, key, value FROM registry_model_tags", "model");
    let tags: Vec<(String, String, String)> = tags.query_as().fetch_all(&mut *conn).await?;
    let mut aliases_of: BTreeMap<String, BTreeMap<String, u32>> = BTreeMap::new();
    for (model, alias, version) in aliases {
        aliases_of.entry(model).or_default().insert(alias, row::uncount(version, "alias")?);
    }
    let mut tags_of: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for (model, key, value) in tags {
        tags_of.entry(model).or_default().insert(key, value);
    }
    let read = |row: Row| {
        Ok(Model {
            latest: row::uncount(row.latest, "model")?,
            aliases: aliases_of.remove(&row.name).unwrap_or_default(),
            tags: tags_of.remove(&row.name).unwrap_or_default(),
            name: row::parse(&row.name, "model")?,
            description: row.description,
            user_id: row.user_id,
            created_at: Timestamp::from_micros(row.created_at),
            updated_at: Timestamp::from_micros(row.updated_at),
        })
    };
    rows.into_iter().map(read).collect()
}
