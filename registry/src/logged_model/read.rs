//! Reading logged models: one, or a page of those that are searched for.

use std::collections::HashMap;

use domain::Timestamp;
use storage::sql::Conn;

use super::{LoggedModel, LoggedModelMetric, Row, no_such};
use crate::{
    Registry, RegistryError,
    query::{Page, Statement},
    row,
    search::{self, Kind, OnDataset, Search},
};

/// Which logged models to find, and in which order. The search's own `order_by` is not used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModelSearch {
    pub search: Search,
    /// Empty: of none.
    pub experiments: Vec<i64>,
    pub order: Vec<ModelOrder>,
    /// Metrics in the filter must have been measured on one of these; without such metrics, any metric must. Empty:
    /// on any dataset or none.
    pub datasets: Vec<ModelDataset>,
}

/// An order of logged models: an attribute, parameter, tag or metric, the last on one dataset if that is named.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModelOrder {
    /// As in a filter: `creation_timestamp`, `metrics.loss`.
    pub field: String,
    pub descending: bool,
    pub dataset_name: Option<String>,
    pub dataset_digest: Option<String>,
}

/// A dataset by name, and by digest if that is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelDataset {
    pub name: String,
    pub digest: Option<String>,
}

/// Ids in one statement; databases bound the number of its values.
const IDS_AT_ONCE: usize = 1_000;

impl Registry {
    /// One logged model.
    ///
    /// # Errors
    /// An unknown or deleted model.
    pub async fn logged_model(&self, id: &str) -> Result<LoggedModel, RegistryError> {
        let mut tx = self.meta().reader().begin().await?;
        let found = load(&mut tx, &[id.to_owned()]).await?;
        found.into_iter().next().ok_or_else(|| no_such(id))
    }

    /// A page of logged models, without the deleted ones.
    ///
    /// # Errors
    /// A filter, order or page token that is not one, or a token of another search.
    pub async fn search_logged_models(&self, wanted: ModelSearch) -> Result<Page<LoggedModel>, RegistryError> {
        let ModelSearch { search, experiments, order, datasets } = wanted;
        let orders = order
            .into_iter()
            .map(|ModelOrder { field, descending, dataset_name, dataset_digest }| {
                let on = OnDataset { name: dataset_name, digest: dataset_digest };
                search::of_logged_models(&field, descending, on)
            })
            .collect::<Result<_, _>>()?;
        let datasets: Vec<_> =
            datasets.into_iter().map(|ModelDataset { name, digest }| OnDataset { name: Some(name), digest }).collect();
        let also = format!("{experiments:?}");
        let query =
            search::Query { kind: Kind::LoggedModels, search: &search, orders, datasets: &datasets, also: &also };
        let mut tx = self.meta().reader().begin().await?;
        let scope = |sql: &mut Statement| {
            sql.push("l.deleted_at IS NULL AND l.experiment IN (").bind_all(experiments).push(")");
        };
        let page = search::page_of(&mut tx, query, scope).await?;
        let ids: Vec<String> = page.items.into_iter().flatten().collect();
        Ok(Page { items: load(&mut tx, &ids).await?, next: page.next })
    }
}

/// The models of these ids that exist and are not deleted, in the order of the ids.
async fn load(conn: &mut Conn, ids: &[String]) -> Result<Vec<LoggedModel>, RegistryError> {
    let mut models = Vec::with_capacity(ids.len());
    for ids in ids.chunks(IDS_AT_ONCE) {
        models.extend(load_few(conn, ids).await?);
    }
    Ok(models)
}

fn of_these(head: &str, ids: &[String], tail: &str) -> Statement {
    let mut sql = Statement::new(head);
    sql.push(" IN (").bind_all(ids.iter().map(String::as_str)).push(")").push(tail);
    sql
}

async fn load_few(conn: &mut Conn, ids: &[String]) -> Result<Vec<LoggedModel>, RegistryError> {
    let head = "SELECT id, experiment, name, model_type, status, status_message, source_run, artifact_uri, created_at,
             updated_at FROM registry_logged_models WHERE deleted_at IS NULL AND id";
    let rows: Vec<Row> = of_these(head, ids, "").query_as().fetch_all(&mut *conn).await?;
    let mut models = HashMap::with_capacity(rows.len());
    for row in rows {
        models.insert(row.id.clone(), row.read()?);
    }

    let head = "SELECT model, key, value FROM registry_logged_model_params WHERE model";
    let pairs: Vec<(String, String, String)> = of_these(head, ids, "").query_as().fetch_all(&mut *conn).await?;
    for (id, key, value) in pairs {
        if let Some(model) = models.get_mut(&id) {
            model.params.insert(key, value);
        }
    }
    let head = "SELECT model, key, value FROM registry_logged_model_tags WHERE model";
    let pairs: Vec<(String, String, String)> = of_these(head, ids, "").query_as().fetch_all(&mut *conn).await?;
    for (id, key, value) in pairs {
        if let Some(model) = models.get_mut(&id) {
            model.tags.insert(key, value);
        }
    }
    let head = "SELECT model, key, dataset_name, dataset_digest, run, value, step, at
         FROM registry_logged_model_metrics WHERE model";
    let tail = " ORDER BY model, key, dataset_name, dataset_digest, run";
    type Metric = (String, String, String, String, String, Option<f64>, i64, i64);
    let metrics: Vec<Metric> = of_these(head, ids, tail).query_as().fetch_all(&mut *conn).await?;
    for (id, key, dataset_name, dataset_digest, run, value, step, at) in metrics {
        if let Some(model) = models.get_mut(&id) {
            let (value, at) = (value.unwrap_or(f64::NAN), Timestamp::from_micros(at));
            let run = row::parse(&run, "logged model")?;
            model.metrics.push(LoggedModelMetric { key, value, step, at, run, dataset_name, dataset_digest });
        }
    }
    let head = "SELECT logged_model, model, version FROM registry_versions WHERE logged_model";
    let tail = " ORDER BY logged_model, model, version";
    let versions: Vec<(String, String, i64)> = of_these(head, ids, tail).query_as().fetch_all(&mut *conn).await?;
    for (id, name, version) in versions {
        if let Some(model) = models.get_mut(&id) {
            model.registrations.push((name, row::uncount(version, "version")?));
        }
    }
    Ok(ids.iter().filter_map(|id| models.remove(id)).collect())
}
