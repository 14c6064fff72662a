//! Logging: points, and batches of points, parameters and tags.

use std::collections::BTreeMap;

use domain::RunId;

use super::{MetricPoint, columns, latest};
use crate::{Registry, RegistryError, check, run};

const METRICS_MAX: usize = 1_000;
const PARAMS_MAX: usize = 100;
const TAGS_MAX: usize = 100;
/// Of all three together.
const ENTRIES_MAX: usize = 1_000;

/// A point, and what else it was measured for.
#[derive(Debug, Clone, PartialEq)]
pub struct MetricEntry {
    pub point: MetricPoint,
    /// The logged model that the point is about as well.
    pub model: Option<String>,
    /// The dataset that the model was measured on; empty: none was named.
    pub dataset_name: String,
    pub dataset_digest: String,
}

impl From<MetricPoint> for MetricEntry {
    fn from(point: MetricPoint) -> Self {
        Self { point, model: None, dataset_name: String::new(), dataset_digest: String::new() }
    }
}

/// What a run logs at once: at most 1,000 points, 100 parameters and 100 tags, and 1,000 in all.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Batch {
    pub metrics: Vec<MetricEntry>,
    /// A key may come twice, with the same value.
    pub params: Vec<(String, String)>,
    /// Of equal keys, the last one counts.
    pub tags: Vec<(String, String)>,
}

impl Registry {
    /// Logs points of a run, finished or not. Durable when it returns. The newest point of a key is the one with
    /// the greatest step, then time, then value (NaN counts as least), in whatever order they come.
    ///
    /// # Errors
    /// An unknown or deleted run, or a bad key; then nothing is logged.
    pub async fn log_metrics(&self, run: &RunId, points: Vec<MetricPoint>) -> Result<(), RegistryError> {
        for point in &points {
            check::key("metric", &point.key)?;
        }
        let entries: Vec<MetricEntry> = points.into_iter().map(MetricEntry::from).collect();
        self.write(run, &entries, &BTreeMap::new(), &BTreeMap::new()).await
    }

    /// Logs points, parameters and tags of a run. Durable when it returns; see [`Registry::log_metrics`],
    /// [`Registry::log_params`] and [`Registry::set_tags`]. A point with a model is recorded for the model too.
    ///
    /// # Errors
    /// An unknown or deleted run, an unknown model, a bad or oversized entry, named by its place, or a parameter that
    /// has another value; then nothing is logged.
    pub async fn log_batch(&self, run: &RunId, batch: Batch) -> Result<(), RegistryError> {
        let Batch { metrics, params, tags } = batch;
        check_sizes(metrics.len(), params.len(), tags.len())?;
        for (index, entry) in metrics.iter().enumerate() {
            check::key(&format!("metrics[{index}].key"), &entry.point.key)?;
        }
        let params = collect_params(run, params)?;
        let tags = collect_tags(tags)?;
        self.write(run, &metrics, &params, &tags).await
    }

    /// Everything is lawful by now, except against what is stored.
    async fn write(
        &self,
        run: &RunId,
        entries: &[MetricEntry],
        params: &BTreeMap<String, String>,
        tags: &BTreeMap<String, String>,
    ) -> Result<(), RegistryError> {
        let mut conn = self.meta().reader().acquire().await?;
        run::require_active(&mut conn, run).await?;
        latest::require_models(&mut conn, entries).await?;
        run::changed_param(&mut conn, run, params).await?;
        drop(conn);
        if entries.is_empty() && params.is_empty() && tags.is_empty() {
            return Ok(());
        }
        if !entries.is_empty() {
            // History first: a newest value without its history would be a claim without proof. Points without their
            // newest value, as a crash leaves them, are not shown: see `history`.
            self.points().append(columns::batch(self.points().schema(), run, entries)?).await?;
        }
        let mut tx = self.begin().await?;
        run::require_active(tx.conn(), run).await?;
        run::add_params(tx.conn(), run, params).await?;
        if !tags.is_empty() {
            self.put_tags(&mut tx, run, tags).await?;
        }
        latest::of_run(tx.conn(), run, entries).await?;
        latest::of_models(tx.conn(), run, entries).await?;
        Ok(tx.commit().await?)
    }
}

fn check_sizes(metrics: usize, params: usize, tags: usize) -> Result<(), RegistryError> {
    let all = metrics + params + tags;
    let sizes = [
        ("metrics", metrics, METRICS_MAX),
        ("params", params, PARAMS_MAX),
        ("tags", tags, TAGS_MAX),
        ("metrics, params and tags together", all, ENTRIES_MAX),
    ];
    match sizes.into_iter().find(|(_, count, most)| count > most) {
        None => Ok(()),
        Some((what, count, most)) => {
            let problem = format!("are {count} where at most {most} are taken");
            Err(RegistryError::invalid(format!("the batch's {what}"), problem, "send several batches"))
        }
    }
}

fn collect_params(run: &RunId, params: Vec<(String, String)>) -> Result<BTreeMap<String, String>, RegistryError> {
    let mut collected: BTreeMap<String, String> = BTreeMap::new();
    for (index, (key, value)) in params.into_iter().enumerate() {
        check::key(&format!("params[{index}].key"), &key)?;
        let value = run::cut_param(&value);
        match collected.get(&key) {
            Some(found) if found != value => {
                return Err(RegistryError::ParamChanged { run: *run, key, found: found.clone() });
            }
            Some(_) => {}
            None => drop(collected.insert(key, value.to_owned())),
        }
    }
    Ok(collected)
}

fn collect_tags(tags: Vec<(String, String)>) -> Result<BTreeMap<String, String>, RegistryError> {
    let mut collected = BTreeMap::new();
    for (index, (key, value)) in tags.into_iter().enumerate() {
        check::key(&format!("tags[{index}].key"), &key)?;
        collected.insert(key, run::cut_tag(&value).to_owned());
    }
    Ok(collected)
}
