//! MLflow's own tables, read as they stand: those of release 3.17, and of 2.x as far as it has them.

use std::collections::{BTreeMap, BTreeSet};

use domain::{RunId, state::RunState};
use futures::{StreamExt as _, TryStreamExt as _};
use registry::{
    BroughtExperiment, BroughtLoggedModel, BroughtMeasure, BroughtModel, BroughtRun, DatasetInput, MetricPoint,
    ModelOutput, Record,
};
use sqlx::{AssertSqlSafe, FromRow};
use storage::{
    StorageError,
    sql::{Db, Dialect, Pool, Row, open_foreign},
};

use super::rows::{SourceModel, SourceRun, SourceVersion, deleted, instant};

/// The stage of versions that were deleted.
const DELETED_STAGE: &str = "Deleted_Internal";
/// Points that are sent at once.
const POINTS_AT_ONCE: usize = 5_000;

/// An MLflow database.
pub struct Source {
    pool: Pool,
    /// Table -> its columns; only of those that are read.
    columns: BTreeMap<&'static str, BTreeSet<String>>,
}

const TABLES: [&str; 19] = [
    "experiments",
    "experiment_tags",
    "runs",
    "params",
    "tags",
    "metrics",
    "inputs",
    "input_tags",
    "datasets",
    "logged_models",
    "logged_model_params",
    "logged_model_tags",
    "logged_model_metrics",
    "registered_models",
    "registered_model_tags",
    "registered_model_aliases",
    "model_versions",
    "model_version_tags",
    "alembic_version",
];

/// Key and value.
type Pair = (String, Option<String>);

impl Source {
    /// Opens a store; fails when it is none of MLflow's.
    pub async fn open(address: &str) -> anyhow::Result<Self> {
        let pool = open_foreign(address).await?;
        let mut conn = pool.acquire().await.map_err(StorageError::from)?;
        let statement = match conn.dialect() {
            Dialect::Sqlite => "SELECT name FROM pragma_table_info($1)",
            Dialect::Postgres => {
                "SELECT CAST(column_name AS TEXT) FROM information_schema.columns
                 WHERE table_name = $1 AND table_schema = current_schema()"
            }
        };
        let mut columns = BTreeMap::new();
        for table in TABLES {
            let found: Vec<String> =
                sqlx::query_scalar(statement).bind(table).fetch_all(&mut *conn).await.map_err(StorageError::from)?;
            columns.insert(table, found.into_iter().collect());
        }
        drop(conn);
        let source = Self { pool, columns };
        for table in ["experiments", "runs", "metrics", "params", "tags", "registered_models", "model_versions"] {
            anyhow::ensure!(source.has(table, ""), "the store has no table `{table}`: it is not one of MLflow's");
        }
        Ok(source)
    }

    /// Whether a table has a column, or is there at all where none is named.
    fn has(&self, table: &str, column: &str) -> bool {
        self.columns
            .get(table)
            .is_some_and(|known| if column.is_empty() { !known.is_empty() } else { known.contains(column) })
    }

    /// A statement that reads columns of a table: texts, and whole numbers, which begin with `#`. One that this release
    /// does not have is read as absent.
    fn select(&self, table: &str, columns: &[(&str, &str)], more: &str) -> String {
        let column = |(column, name): &(&str, &str)| match column.strip_prefix('#') {
            Some(number) if self.has(table, number) => format!("CAST(\"{number}\" AS BIGINT) AS {name}"),
            Some(_) => format!("CAST(NULL AS BIGINT) AS {name}"),
            None if self.has(table, column) => format!("CAST(\"{column}\" AS TEXT) AS {name}"),
            None => format!("CAST(NULL AS TEXT) AS {name}"),
        };
        let columns: Vec<String> = columns.iter().map(column).collect();
        format!("SELECT {} FROM {table} {more}", columns.join(", "))
    }

    /// Only what is in the workspace that is there from the start.
    fn workspace(&self, table: &str) -> &'static str {
        if self.has(table, "workspace") { "WHERE workspace = 'default'" } else { "" }
    }

    /// Rows of a statement of ours, whose places take `binds`.
    async fn rows<T>(&self, statement: String, binds: &[&str]) -> Result<Vec<T>, StorageError>
    where
        T: for<'r> FromRow<'r, Row> + Send + Unpin,
    {
        let mut query = sqlx::query_as::<Db, T>(AssertSqlSafe(statement));
        for bind in binds {
            query = query.bind((*bind).to_owned());
        }
        Ok(query.fetch_all(&self.pool).await?)
    }

    /// The pairs of a table that belong to a thing.
    async fn pairs(&self, table: &str, of: &str, id: &str) -> Result<BTreeMap<String, String>, StorageError> {
        if !self.has(table, "") {
            return Ok(BTreeMap::new());
        }
        let (key, value) = match table {
            "logged_model_params" => ("param_key", "param_value"),
            "logged_model_tags" => ("tag_key", "tag_value"),
            "input_tags" => ("name", "value"),
            _ => ("key", "value"),
        };
        let wanted = format!("WHERE CAST(\"{of}\" AS TEXT) = $1");
        let rows: Vec<Pair> = self.rows(self.select(table, &[(key, "k"), (value, "v")], &wanted), &[id]).await?;
        Ok(rows.into_iter().map(|(key, value)| (key, value.unwrap_or_default())).collect())
    }

    pub async fn experiments(&self) -> Result<Vec<BroughtExperiment>, StorageError> {
        #[derive(FromRow)]
        struct Found {
            id: i64,
            name: String,
            stage: Option<String>,
            created: Option<i64>,
            updated: Option<i64>,
        }
        let columns = [
            ("#experiment_id", "id"),
            ("name", "name"),
            ("lifecycle_stage", "stage"),
            ("#creation_time", "created"),
            ("#last_update_time", "updated"),
        ];
        let more = format!("{} ORDER BY 1", self.workspace("experiments"));
        let mut all = Vec::new();
        for found in self.rows::<Found>(self.select("experiments", &columns, &more), &[]).await? {
            let created_at = instant(found.created.unwrap_or(0));
            let updated_at = found.updated.map_or(created_at, instant);
            all.push(BroughtExperiment {
                id: found.id,
                name: found.name,
                created_at,
                updated_at,
                deleted_at: deleted(found.stage.as_deref(), Some(updated_at)),
                tags: self.pairs("experiment_tags", "experiment_id", &found.id.to_string()).await?,
            });
        }
        Ok(all)
    }

    /// The runs of an experiment, or why one cannot be read.
    pub async fn runs(&self, experiment: i64) -> Result<Vec<Result<SourceRun, (String, String)>>, StorageError> {
        #[derive(FromRow)]
        struct Found {
            id: String,
            name: Option<String>,
            user_id: Option<String>,
            status: Option<String>,
            started: Option<i64>,
            ended: Option<i64>,
            stage: Option<String>,
            deleted: Option<i64>,
            artifact_uri: Option<String>,
        }
        let columns = [
            ("run_uuid", "id"),
            ("name", "name"),
            ("user_id", "user_id"),
            ("status", "status"),
            ("#start_time", "started"),
            ("#end_time", "ended"),
            ("lifecycle_stage", "stage"),
            ("#deleted_time", "deleted"),
            ("artifact_uri", "artifact_uri"),
        ];
        let wanted = "WHERE CAST(experiment_id AS TEXT) = $1 ORDER BY start_time, run_uuid";
        let mut all = Vec::new();
        for found in self.rows::<Found>(self.select("runs", &columns, wanted), &[&experiment.to_string()]).await? {
            let state = match found.status.as_deref() {
                Some("SCHEDULED") => Some(RunState::Scheduled),
                Some("RUNNING") => Some(RunState::Running),
                Some("FINISHED") => Some(RunState::Finished),
                Some("FAILED") => Some(RunState::Failed),
                Some("KILLED") => Some(RunState::Cancelled),
                _ => None,
            };
            let (Ok(id), Some(state)) = (found.id.parse::<RunId>(), state) else {
                all.push(Err((found.id, "its id or status is none that this server knows".to_owned())));
                continue;
            };
            let tags = self.pairs("tags", "run_uuid", &found.id).await?;
            let tagged = || tags.get("mlflow.runName").cloned();
            let name = found.name.filter(|name| !name.is_empty()).or_else(tagged).unwrap_or_else(|| found.id.clone());
            let started_at = instant(found.started.unwrap_or(0));
            let ended_at = found.ended.map(instant);
            let record = BroughtRun {
                id,
                experiment,
                name,
                user_id: found.user_id.unwrap_or_default(),
                state,
                started_at,
                ended_at,
                params: self.pairs("params", "run_uuid", &found.id).await?,
                tags,
            };
            let deleted_at = deleted(found.stage.as_deref(), found.deleted.map(instant).or(ended_at));
            all.push(Ok(SourceRun { record, artifact_uri: found.artifact_uri.unwrap_or_default(), deleted_at }));
        }
        Ok(all)
    }

    /// The whole history of a run's metrics, piece by piece.
    pub async fn points(
        &self,
        run: RunId,
        mut send: impl AsyncFnMut(Record) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let nan = if self.has("metrics", "is_nan") { "CASE WHEN is_nan THEN 1 ELSE 0 END" } else { "0" };
        let step = if self.has("metrics", "step") { "step" } else { "0" };
        let statement = format!(
            "SELECT CAST(\"key\" AS TEXT), CAST(value AS DOUBLE PRECISION), CAST(\"timestamp\" AS BIGINT),
                 CAST({step} AS BIGINT), CAST({nan} AS BIGINT)
             FROM metrics WHERE run_uuid = $1 ORDER BY 1, 4, 3"
        );
        let query = sqlx::query_as::<Db, (String, Option<f64>, i64, i64, i64)>(AssertSqlSafe(statement));
        let rows = query.bind(run.to_string()).fetch(&self.pool).map_err(StorageError::from);
        let mut chunks = std::pin::pin!(rows.try_chunks(POINTS_AT_ONCE));
        while let Some(chunk) = chunks.next().await {
            let point = |(key, value, at, step, nan): (_, Option<f64>, _, _, i64)| {
                // Infinities stand there as the greatest and the least number, and come as those: nothing tells them apart.
                let value = if nan == 0 { value.unwrap_or(f64::NAN) } else { f64::NAN };
                MetricPoint { key, value, step, at: instant(at) }
            };
            let points = chunk.map_err(|broken| broken.1)?.into_iter().map(point).collect();
            send(Record::Points { run, points }).await?;
        }
        Ok(())
    }

    /// What a run read and made.
    pub async fn inputs(&self, run: RunId) -> Result<Option<Record>, StorageError> {
        if !self.has("inputs", "") || !self.has("datasets", "") {
            return Ok(None);
        }
        #[derive(FromRow)]
        struct Found {
            input: String,
            name: String,
            digest: String,
            source_type: String,
            source: String,
            schema: Option<String>,
            profile: Option<String>,
        }
        let id = run.to_string();
        let found: Vec<Found> = self
            .rows(
                "SELECT CAST(i.input_uuid AS TEXT) AS input, CAST(d.name AS TEXT) AS name, CAST(d.digest AS TEXT) AS digest,
                     CAST(d.dataset_source_type AS TEXT) AS source_type, CAST(d.dataset_source AS TEXT) AS source,
                     CAST(d.dataset_schema AS TEXT) AS schema, CAST(d.dataset_profile AS TEXT) AS profile
                 FROM inputs i JOIN datasets d ON d.dataset_uuid = i.source_id
                 WHERE i.destination_id = $1 AND i.source_type = 'DATASET' ORDER BY 1"
                    .to_owned(),
                &[&id],
            )
            .await?;
        let mut datasets = Vec::new();
        for Found { input, name, digest, source_type, source, schema, profile } in found {
            let tags = self.pairs("input_tags", "input_uuid", &input).await?;
            datasets.push(DatasetInput { name, digest, source_type, source, schema, profile, tags });
        }
        let columns = [("source_type", "kind"), ("destination_id", "model"), ("#step", "step")];
        let wanted = "WHERE source_id = $1 AND source_type IN ('RUN_INPUT', 'RUN_OUTPUT')";
        let links: Vec<(String, String, Option<i64>)> =
            self.rows(self.select("inputs", &columns, wanted), &[&id]).await?;
        let (mut models_read, mut models_made) = (Vec::new(), Vec::new());
        for (kind, model, step) in links {
            if kind == "RUN_INPUT" {
                models_read.push(model);
            } else {
                models_made.push(ModelOutput { model, step: step.unwrap_or(0) });
            }
        }
        let none = datasets.is_empty() && models_read.is_empty() && models_made.is_empty();
        Ok((!none).then_some(Record::Inputs { run, datasets, models_read, models_made }))
    }

    pub async fn logged_models(&self) -> Result<Vec<SourceModel>, StorageError> {
        if !self.has("logged_models", "") {
            return Ok(Vec::new());
        }
        #[derive(FromRow)]
        struct Found {
            id: String,
            experiment: i64,
            name: String,
            artifact_uri: String,
            created: i64,
            updated: i64,
            status: i64,
            stage: Option<String>,
            model_type: Option<String>,
            source_run: Option<String>,
            status_message: Option<String>,
        }
        let columns = [
            ("model_id", "id"),
            ("#experiment_id", "experiment"),
            ("name", "name"),
            ("artifact_location", "artifact_uri"),
            ("#creation_timestamp_ms", "created"),
            ("#last_updated_timestamp_ms", "updated"),
            ("#status", "status"),
            ("lifecycle_stage", "stage"),
            ("model_type", "model_type"),
            ("source_run_id", "source_run"),
            ("status_message", "status_message"),
        ];
        let mut all = Vec::new();
        for found in self.rows::<Found>(self.select("logged_models", &columns, "ORDER BY 5, 1"), &[]).await? {
            let updated_at = instant(found.updated);
            let record = BroughtLoggedModel {
                experiment: found.experiment,
                name: found.name,
                model_type: found.model_type.filter(|kind| !kind.is_empty()),
                status: match found.status {
                    2 => "READY",
                    3 => "UPLOAD_FAILED",
                    _ => "PENDING",
                }
                .to_owned(),
                status_message: found.status_message,
                source_run: found.source_run.and_then(|run| run.parse().ok()),
                created_at: instant(found.created),
                updated_at,
                params: self.pairs("logged_model_params", "model_id", &found.id).await?,
                tags: self.pairs("logged_model_tags", "model_id", &found.id).await?,
                metrics: self.measures(&found.id).await?,
                id: found.id,
            };
            let deleted_at = deleted(found.stage.as_deref(), Some(updated_at));
            all.push(SourceModel { record, artifact_uri: found.artifact_uri, deleted_at });
        }
        Ok(all)
    }

    /// How a logged model measured, newest first.
    async fn measures(&self, model: &str) -> Result<Vec<BroughtMeasure>, StorageError> {
        if !self.has("logged_model_metrics", "") {
            return Ok(Vec::new());
        }
        type Found = (String, i64, i64, Option<f64>, String, Option<String>, Option<String>);
        let statement =
            "SELECT CAST(metric_name AS TEXT), CAST(metric_timestamp_ms AS BIGINT), CAST(metric_step AS BIGINT),
                 CAST(metric_value AS DOUBLE PRECISION), CAST(run_id AS TEXT), CAST(dataset_name AS TEXT),
                 CAST(dataset_digest AS TEXT)
             FROM logged_model_metrics WHERE model_id = $1 ORDER BY 3 DESC, 2 DESC";
        let found: Vec<Found> = self.rows(statement.to_owned(), &[model]).await?;
        let measure = |(key, at, step, value, run, name, digest): Found| {
            Some(BroughtMeasure {
                key,
                value: value.unwrap_or(f64::NAN),
                step,
                at: instant(at),
                run: run.parse().ok()?,
                dataset_name: name.unwrap_or_default(),
                dataset_digest: digest.unwrap_or_default(),
            })
        };
        Ok(found.into_iter().filter_map(measure).collect())
    }

    /// Registered models, or the name of one that cannot be here.
    pub async fn models(&self) -> Result<Vec<Result<BroughtModel, String>>, StorageError> {
        #[derive(FromRow)]
        struct Found {
            name: String,
            created: Option<i64>,
            updated: Option<i64>,
            text: Option<String>,
        }
        let columns = [
            ("name", "name"),
            ("#creation_time", "created"),
            ("#last_updated_time", "updated"),
            ("description", "text"),
        ];
        let more = format!("{} ORDER BY 1", self.workspace("registered_models"));
        let mut all = Vec::new();
        for found in self.rows::<Found>(self.select("registered_models", &columns, &more), &[]).await? {
            let Found { name, created, updated, text: description } = found;
            let Ok(model) = name.parse() else {
                all.push(Err(name));
                continue;
            };
            // Deleted versions count: their numbers are not given again.
            let last: Vec<(Option<i64>,)> = self
                .rows("SELECT CAST(MAX(version) AS BIGINT) FROM model_versions WHERE name = $1".into(), &[&name])
                .await?;
            let last = last.first().and_then(|(last,)| *last).unwrap_or(0);
            all.push(Ok(BroughtModel {
                last_version: u32::try_from(last).unwrap_or(u32::MAX),
                tags: self.pairs("registered_model_tags", "name", &name).await?,
                name: model,
                description: description.unwrap_or_default(),
                created_at: instant(created.unwrap_or(0)),
                updated_at: instant(updated.or(created).unwrap_or(0)),
            }));
        }
        Ok(all)
    }

    /// Versions; a deleted one is a row without contents, and left out.
    pub async fn versions(&self) -> Result<Vec<SourceVersion>, StorageError> {
        let columns = [
            ("name", "name"),
            ("#version", "version"),
            ("#creation_time", "created"),
            ("#last_updated_time", "updated"),
            ("description", "description"),
            ("user_id", "user_id"),
            ("current_stage", "stage"),
            ("source", "source"),
            ("run_id", "run"),
            ("run_link", "run_link"),
            ("storage_location", "storage_location"),
        ];
        let more = format!("{} ORDER BY 1, 2", self.workspace("model_versions"));
        let mut all: Vec<SourceVersion> = self.rows(self.select("model_versions", &columns, &more), &[]).await?;
        all.retain(|version| version.stage.as_deref() != Some(DELETED_STAGE));
        Ok(all)
    }

    pub async fn version_tags(&self, model: &str, version: i64) -> Result<BTreeMap<String, String>, StorageError> {
        let wanted = "WHERE name = $1 AND CAST(version AS TEXT) = $2";
        let select = self.select("model_version_tags", &[("key", "k"), ("value", "v")], wanted);
        let rows: Vec<Pair> = self.rows(select, &[model, &version.to_string()]).await?;
        Ok(rows.into_iter().map(|(key, value)| (key, value.unwrap_or_default())).collect())
    }

    /// Model, alias and version.
    pub async fn aliases(&self) -> Result<Vec<(String, String, i64)>, StorageError> {
        if !self.has("registered_model_aliases", "") {
            return Ok(Vec::new());
        }
        let columns = [("name", "name"), ("alias", "alias"), ("#version", "version")];
        let more = format!("{} ORDER BY 1, 2", self.workspace("registered_model_aliases"));
        self.rows(self.select("registered_model_aliases", &columns, &more), &[]).await
    }
}
