//! What runs read and made: datasets by name and digest, logged models by id.

use std::collections::BTreeMap;

use domain::RunId;
use serde::{Deserialize, Serialize};
use serde_json::json;
use storage::sql::Conn;

use crate::{Dataset, Registry, RegistryError, check, experiment, query::Statement, row, run};

/// The tag of an input that says what it was read for.
const CONTEXT_TAG: &str = "mlflow.data.context";
const NAME_CHARS_MAX: usize = 500;
const DIGEST_CHARS_MAX: usize = 36;
const SOURCE_TYPE_CHARS_MAX: usize = 36;
const SOURCE_BYTES_MAX: usize = 65_535;
const SCHEMA_BYTES_MAX: usize = 1 << 20;
const PROFILE_BYTES_MAX: usize = (1 << 24) - 1;
/// Longest key and value of a tag of an input, in characters.
const TAG_KEY_CHARS_MAX: usize = 255;
const TAG_VALUE_CHARS_MAX: usize = 500;
/// Longest id of a logged model, in characters.
const MODEL_CHARS_MAX: usize = 255;
/// Datasets that are listed of experiments at most.
const SUMMARIES_MAX: i64 = 1_000;
/// The source type of datasets that this platform built.
pub(crate) const OWN_SOURCE: &str = "millpond";
pub(crate) const READ: &str = "input";
pub(crate) const MADE: &str = "output";

/// A dataset that a run read. Name and digest together say which.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatasetInput {
    pub name: String,
    pub digest: String,
    pub source_type: String,
    /// Where it came from; mostly JSON.
    pub source: String,
    pub schema: Option<String>,
    pub profile: Option<String>,
    /// `mlflow.data.context` says what it was read for.
    pub tags: BTreeMap<String, String>,
}

/// A logged model that a run made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelOutput {
    pub model: String,
    pub step: i64,
}

/// A dataset that runs of an experiment read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatasetSummary {
    pub experiment_id: i64,
    pub name: String,
    pub digest: String,
    pub context: Option<String>,
}

impl Registry {
    /// Records what a run read: datasets, and logged models by id. What is recorded already stays; its tags are
    /// added to.
    ///
    /// # Errors
    /// An unknown or deleted run, or a text that is missing or too long; then nothing is recorded.
    pub async fn log_inputs(
        &self,
        run: &RunId,
        datasets: Vec<DatasetInput>,
        models: Vec<String>,
    ) -> Result<(), RegistryError> {
        for (index, input) in datasets.iter().enumerate() {
            check_input(index, input)?;
        }
        check_models(models.iter())?;
        let mut tx = self.begin().await?;
        run::require_active(tx.conn(), run).await?;
        put(tx.conn(), run, &datasets).await?;
        for model in &models {
            link(tx.conn(), run, model, READ, 0).await?;
        }
        Ok(tx.commit().await?)
    }

    /// Records which logged models a run made. What is recorded already stays.
    ///
    /// # Errors
    /// An unknown or deleted run, or an id that is missing or too long; then nothing is recorded.
    pub async fn log_outputs(&self, run: &RunId, models: Vec<ModelOutput>) -> Result<(), RegistryError> {
        check_models(models.iter().map(|output| &output.model))?;
        let mut tx = self.begin().await?;
        run::require_active(tx.conn(), run).await?;
        for output in &models {
            link(tx.conn(), run, &output.model, MADE, output.step).await?;
        }
        Ok(tx.commit().await?)
    }

    /// The datasets that active runs of these experiments read, each once for what it was read for; at most 1,000.
    pub async fn search_datasets(&self, experiments: &[i64]) -> Result<Vec<DatasetSummary>, RegistryError> {
        experiment::check_many(experiments)?;
        let mut statement = Statement::new(
            "SELECT DISTINCT r.experiment, i.name, i.digest, i.context
             FROM registry_inputs i JOIN registry_runs r ON r.id = i.run
             WHERE r.deleted_at IS NULL AND r.experiment IN (",
        );
        statement.bind_all(experiments.iter().copied());
        statement.push(") ORDER BY r.experiment, i.name, i.digest, i.context LIMIT ").bind(SUMMARIES_MAX);
        let rows: Vec<(i64, String, String, Option<String>)> =
            statement.query_as().fetch_all(self.meta().reader()).await?;
        let read = |(experiment_id, name, digest, context)| DatasetSummary { experiment_id, name, digest, context };
        Ok(rows.into_iter().map(read).collect())
    }
}

/// A dataset of ours as an input of the run that learned from it.
pub(crate) fn of_dataset(data: &Dataset) -> DatasetInput {
    let snapshot = &data.snapshot;
    let digest = snapshot.digest.to_string();
    DatasetInput {
        name: snapshot.spec["service"].as_str().unwrap_or("dataset").to_owned(),
        digest: digest[..32].to_owned(),
        source_type: OWN_SOURCE.to_owned(),
        source: json!({"digest": digest, "rows": snapshot.rows, "from": snapshot.from, "to": snapshot.to}).to_string(),
        schema: None,
        profile: None,
        tags: [(CONTEXT_TAG.to_owned(), "training".to_owned())].into(),
    }
}

fn check_input(index: usize, input: &DatasetInput) -> Result<(), RegistryError> {
    let what = |field: &str| format!("datasets[{index}].{field}");
    let needed = [
        ("name", &input.name, NAME_CHARS_MAX),
        ("digest", &input.digest, DIGEST_CHARS_MAX),
        ("source_type", &input.source_type, SOURCE_TYPE_CHARS_MAX),
    ];
    for (field, text, chars_max) in needed {
        if text.is_empty() {
            return Err(RegistryError::invalid(what(field), "is empty", "say which dataset was read"));
        }
        check::within(what(field), text, chars_max)?;
    }
    let bulky = [
        ("source", Some(&input.source), SOURCE_BYTES_MAX),
        ("schema", input.schema.as_ref(), SCHEMA_BYTES_MAX),
        ("profile", input.profile.as_ref(), PROFILE_BYTES_MAX),
    ];
    for (field, text, bytes_max) in bulky {
        let bytes = text.map_or(0, String::len);
        if bytes > bytes_max {
            let problem = format!("has {bytes} bytes where at most {bytes_max} are taken");
            return Err(RegistryError::invalid(what(field), problem, "keep long descriptions as files"));
        }
    }
    for (key, value) in &input.tags {
        if key.is_empty() {
            return Err(RegistryError::invalid(what("tags"), "have an empty key", "name every tag"));
        }
        check::within(what("tags: a key"), key, TAG_KEY_CHARS_MAX)?;
        check::within(what(&format!("tags.{key}")), value, TAG_VALUE_CHARS_MAX)?;
    }
    Ok(())
}

fn check_models<'a>(models: impl Iterator<Item = &'a String>) -> Result<(), RegistryError> {
    for (index, model) in models.enumerate() {
        if model.is_empty() {
            return Err(RegistryError::invalid(format!("models[{index}].model_id"), "is empty", "say which model"));
        }
        check::within(format!("models[{index}].model_id"), model, MODEL_CHARS_MAX)?;
    }
    Ok(())
}

/// Records datasets of a run; of one that is known, only the tags are added to.
pub(crate) async fn put(conn: &mut Conn, run: &RunId, inputs: &[DatasetInput]) -> Result<(), RegistryError> {
    let run = run.to_string();
    for input in inputs {
        let known: Option<String> =
            sqlx::query_scalar("SELECT tags FROM registry_inputs WHERE run = $1 AND name = $2 AND digest = $3")
                .bind(&run)
                .bind(&input.name)
                .bind(&input.digest)
                .fetch_optional(&mut *conn)
                .await?;
        let mut tags: BTreeMap<String, String> =
            known.map(|text| row::from_json(&text, "input")).transpose()?.unwrap_or_default();
        tags.extend(input.tags.clone());
        sqlx::query(
            "INSERT INTO registry_inputs
                 (run, name, digest, source_type, source, schema, profile, context, tags, position)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9,
                 (SELECT COALESCE(MAX(position), -1) + 1 FROM registry_inputs WHERE run = $1))
             ON CONFLICT (run, name, digest) DO UPDATE SET context = excluded.context, tags = excluded.tags",
        )
        .bind(&run)
        .bind(&input.name)
        .bind(&input.digest)
        .bind(&input.source_type)
        .bind(&input.source)
        .bind(&input.schema)
        .bind(&input.profile)
        .bind(tags.get(CONTEXT_TAG))
        .bind(row::to_json(&tags))
        .execute(&mut *conn)
        .await?;
    }
    Ok(())
}

pub(crate) async fn link(
    conn: &mut Conn,
    run: &RunId,
    model: &str,
    role: &str,
    step: i64,
) -> Result<(), RegistryError> {
    sqlx::query(
        "INSERT INTO registry_run_models (run, model, role, step) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
    )
    .bind(run.to_string())
    .bind(model)
    .bind(role)
    .bind(step)
    .execute(conn)
    .await?;
    Ok(())
}

#[derive(sqlx::FromRow)]
struct Row {
    run: String,
    name: String,
    digest: String,
    source_type: String,
    source: String,
    schema: Option<String>,
    profile: Option<String>,
    tags: String,
}

/// (run, dataset it read), in the order recorded.
pub(crate) async fn datasets_of(
    conn: &mut Conn,
    runs: &[String],
) -> Result<Vec<(String, DatasetInput)>, RegistryError> {
    let mut statement = Statement::new(
        "SELECT run, name, digest, source_type, source, schema, profile, tags FROM registry_inputs WHERE run IN (",
    );
    statement.bind_all(runs.iter().map(String::as_str)).push(") ORDER BY run, position");
    let read = |row: Row| {
        let Row { run, name, digest, source_type, source, schema, profile, tags } = row;
        let tags = row::from_json(&tags, "input")?;
        Ok((run, DatasetInput { name, digest, source_type, source, schema, profile, tags }))
    };
    statement.query_as::<Row>().fetch_all(conn).await?.into_iter().map(read).collect()
}

/// How a run and a logged model hang together.
pub(crate) enum ModelLink {
    Read(String),
    Made(ModelOutput),
}

/// (run, logged model it read or made).
pub(crate) async fn models_of(conn: &mut Conn, runs: &[String]) -> Result<Vec<(String, ModelLink)>, RegistryError> {
    let mut statement = Statement::new("SELECT run, model, role, step FROM registry_run_models WHERE run IN (");
    statement.bind_all(runs.iter().map(String::as_str)).push(") ORDER BY run, step, model");
    let rows: Vec<(String, String, String, i64)> = statement.query_as().fetch_all(conn).await?;
    let read = |(run, model, role, step): (_, _, String, _)| match role.as_str() {
        READ => (run, ModelLink::Read(model)),
        _ => (run, ModelLink::Made(ModelOutput { model, step })),
    };
    Ok(rows.into_iter().map(read).collect())
}
