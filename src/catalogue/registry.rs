//! Experiments, runs and what hangs on them; models and their versions.

use std::sync::Arc;

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use domain::{Column, Field, Frame, Timestamp, Value, ValueType};
use futures::{StreamExt as _, stream};
use registry::{Registry, Run, Search, View};
use sql::{Batches, Fault, Rows};

use super::made::{Made, broken, fault, one};

/// Things that are read at once.
const PAGE: usize = 500;

/// A table of the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RegistryTable {
    Experiments,
    Runs,
    Params,
    Tags,
    Metrics,
    LatestMetrics,
    Models,
    Versions,
    Aliases,
}

impl RegistryTable {
    pub(super) const ALL: [Self; 9] = [
        Self::Experiments,
        Self::Runs,
        Self::Params,
        Self::Tags,
        Self::Metrics,
        Self::LatestMetrics,
        Self::Models,
        Self::Versions,
        Self::Aliases,
    ];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Experiments => "experiments",
            Self::Runs => "runs",
            Self::Params => "params",
            Self::Tags => "tags",
            Self::Metrics => "metrics",
            Self::LatestMetrics => "latest_metrics",
            Self::Models => "models",
            Self::Versions => "versions",
            Self::Aliases => "aliases",
        }
    }

    const fn columns(self) -> &'static [(&'static str, ValueType)] {
        use ValueType::{Float, Int, Text, Timestamp};
        match self {
            Self::Experiments => &[
                ("experiment_id", Int),
                ("name", Text),
                ("artifact_location", Text),
                ("created_at", Timestamp),
                ("updated_at", Timestamp),
            ],
            Self::Runs => &[
                ("run_id", Text),
                ("experiment_id", Int),
                ("experiment", Text),
                ("name", Text),
                ("user_id", Text),
                ("state", Text),
                ("dataset", Text),
                ("code_version", Text),
                ("artifact_uri", Text),
                ("started_at", Timestamp),
                ("ended_at", Timestamp),
            ],
            Self::Params | Self::Tags => &[("run_id", Text), ("key", Text), ("value", Text)],
            Self::Metrics => {
                &[("run_id", Text), ("key", Text), ("value", Float), ("step", Int), ("logged_at", Timestamp)]
            }
            Self::LatestMetrics => &[("run_id", Text), ("key", Text), ("value", Float)],
            Self::Models => &[
                ("name", Text),
                ("latest_version", Int),
                ("description", Text),
                ("user_id", Text),
                ("created_at", Timestamp),
                ("updated_at", Timestamp),
            ],
            Self::Versions => &[
                ("model", Text),
                ("version", Int),
                ("run_id", Text),
                ("stage", Text),
                ("source", Text),
                ("description", Text),
                ("user_id", Text),
                ("created_at", Timestamp),
                ("updated_at", Timestamp),
            ],
            Self::Aliases => &[("model", Text), ("alias", Text), ("version", Int)],
        }
    }

    fn schema(self) -> SchemaRef {
        let fields: Vec<Field> = self.columns().iter().map(|(name, kind)| Field::new(*name, *kind)).collect();
        storage::schema_of(&fields)
    }

    /// The rows of things that were not deleted.
    pub(super) fn rows(self, registry: &Registry) -> Arc<dyn Rows> {
        let registry = registry.clone();
        let time = (self == Self::Metrics).then_some("logged_at");
        Made::rows(self.schema(), time, move |range| {
            let registry = registry.clone();
            Box::pin(async move { self.read(registry, range).await })
        })
    }

    async fn read(self, registry: Registry, range: (Timestamp, Timestamp)) -> Result<Batches, Fault> {
        match self {
            Self::Metrics => {
                let schema = self.schema();
                let points = registry.metric_rows(range).await.map_err(fault)?;
                Ok(points
                    .map(move |batch| {
                        let batch = batch.map_err(fault)?;
                        RecordBatch::try_new(schema.clone(), batch.columns().to_vec()).map_err(broken)
                    })
                    .boxed())
            }
            Self::Experiments => self.experiments(&registry).await.map(|batch| one(Ok(batch))),
            Self::Models | Self::Aliases => self.models(&registry).await.map(|batch| one(Ok(batch))),
            Self::Versions => Ok(pages(move |token| {
                let registry = registry.clone();
                async move {
                    let page = registry.search_versions(&search(token)).await.map_err(fault)?;
                    let mut table = Builder::new(self);
                    for version in &page.items {
                        table.row([
                            text(version.model.as_str()),
                            Value::Int(i64::from(version.version)),
                            version.run.map_or(Value::Null, |run| text(&run.to_string())),
                            text(version.stage.as_str()),
                            text(&version.source),
                            text(&version.description),
                            text(&version.user_id),
                            Value::Timestamp(version.created_at),
                            Value::Timestamp(version.updated_at),
                        ]);
                    }
                    Ok((table.finish()?, page.next))
                }
            })),
            Self::Runs | Self::Params | Self::Tags | Self::LatestMetrics => {
                let experiments = all_experiments(&registry).await?;
                Ok(pages(move |token| {
                    let (registry, experiments) = (registry.clone(), experiments.clone());
                    async move {
                        let page =
                            registry.search_runs(&experiments, View::Active, &search(token)).await.map_err(fault)?;
                        let mut table = Builder::new(self);
                        page.items.iter().for_each(|found| self.run(&found.run, &mut table));
                        Ok((table.finish()?, page.next))
                    }
                }))
            }
        }
    }

    async fn experiments(self, registry: &Registry) -> Result<RecordBatch, Fault> {
        let mut table = Builder::new(self);
        let mut token = Some(String::new());
        while let Some(from) = token {
            let page = registry.search_experiments(View::Active, &search(from)).await.map_err(fault)?;
            for one in &page.items {
                table.row([
                    Value::Int(one.id),
                    text(&one.name),
                    text(&one.artifact_location),
                    Value::Timestamp(one.created_at),
                    Value::Timestamp(one.updated_at),
                ]);
            }
            token = page.next;
        }
        table.finish()
    }

    async fn models(self, registry: &Registry) -> Result<RecordBatch, Fault> {
        let mut table = Builder::new(self);
        for model in registry.models().await.map_err(fault)? {
            if self == Self::Aliases {
                for (alias, version) in &model.aliases {
                    table.row([text(model.name.as_str()), text(alias), Value::Int(i64::from(*version))]);
                }
                continue;
            }
            table.row([
                text(model.name.as_str()),
                Value::Int(i64::from(model.latest)),
                text(&model.description),
                text(&model.user_id),
                Value::Timestamp(model.created_at),
                Value::Timestamp(model.updated_at),
            ]);
        }
        table.finish()
    }

    /// What a run is, or has, as rows.
    fn run(self, run: &Run, table: &mut Builder) {
        let id = run.id.to_string();
        match self {
            Self::Params => run.params.iter().for_each(|(key, value)| table.row([text(&id), text(key), text(value)])),
            Self::Tags => run.tags.iter().for_each(|(key, value)| table.row([text(&id), text(key), text(value)])),
            Self::LatestMetrics => {
                run.metrics.iter().for_each(|(key, value)| table.row([text(&id), text(key), Value::Float(*value)]));
            }
            _ => table.row([
                text(&id),
                Value::Int(run.experiment_id),
                text(&run.experiment),
                text(&run.name),
                text(&run.user_id),
                text(run.state.as_str()),
                run.dataset.map_or(Value::Null, |dataset| text(&dataset.digest.to_string())),
                text(&run.code_version),
                text(&run.artifact_uri),
                Value::Timestamp(run.started_at),
                run.ended_at.map_or(Value::Null, Value::Timestamp),
            ]),
        }
    }
}

fn search(page_token: String) -> Search {
    Search { filter: String::new(), order_by: Vec::new(), limit: PAGE, page_token }
}

async fn all_experiments(registry: &Registry) -> Result<Vec<i64>, Fault> {
    let mut all = Vec::new();
    let mut token = Some(String::new());
    while let Some(from) = token {
        let page = registry.search_experiments(View::Active, &search(from)).await.map_err(fault)?;
        all.extend(page.items.iter().map(|one| one.id));
        token = page.next;
    }
    Ok(all)
}

/// Batch after batch, each with the token of the next.
fn pages<F>(fetch: impl Fn(String) -> F + Send + Sync + 'static) -> Batches
where
    F: Future<Output = Result<(RecordBatch, Option<String>), Fault>> + Send + 'static,
{
    let fetch = Arc::new(fetch);
    stream::unfold(Some(String::new()), move |token| {
        let fetch = fetch.clone();
        async move {
            Some(match fetch(token?).await {
                Ok((batch, next)) => (Ok(batch), next),
                Err(fault) => (Err(fault), None),
            })
        }
    })
    .boxed()
}

fn text(of: &str) -> Value {
    Value::Text(of.into())
}

/// Rows as they come, columns in the end.
struct Builder {
    columns: Vec<(&'static str, Column)>,
    /// The first cell that did not fit.
    wrong: Option<String>,
}

impl Builder {
    fn new(table: RegistryTable) -> Self {
        let columns = table.columns().iter().map(|(name, kind)| (*name, Column::with_capacity(*kind, PAGE)));
        Self { columns: columns.collect(), wrong: None }
    }

    /// Cells in the order and of the types of the columns.
    fn row<const N: usize>(&mut self, cells: [Value; N]) {
        for ((name, column), cell) in self.columns.iter_mut().zip(cells) {
            if let Err(wrong) = column.push(cell) {
                self.wrong.get_or_insert_with(|| format!("{name}: {wrong}"));
            }
        }
    }

    fn finish(self) -> Result<RecordBatch, Fault> {
        if let Some(wrong) = self.wrong {
            return Err(broken(wrong));
        }
        let frame = Frame::new(self.columns.into_iter().map(|(name, column)| (name.into(), column))).map_err(broken)?;
        storage::to_batch(&frame).map_err(broken)
    }
}
