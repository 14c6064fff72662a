//! Histories of metrics: of one run, and of several to compare.

use axum::{Json, Router, extract::State, routing::get};
use domain::RunId;
use registry::{RunPoint, StepRange};

use super::{
    run_json::{Metric, Metrics},
    runs::run_id,
    wire::{Fields, Refusal},
};
use crate::app::App;

/// Runs that one call compares at most.
const RUNS_MAX: usize = 100;
/// Points of one page at most, where the client asks for pages.
const PAGE_MAX: usize = 1_000_000;
const BULK_MAX: usize = 25_000;
const SAMPLED_MAX: usize = 2_500;

pub fn routes() -> Router<App> {
    Router::new()
        .route("/metrics/get-history", get(history))
        .route("/metrics/get-history-bulk", get(bulk))
        .route("/metrics/get-history-bulk-interval", get(bulk_interval))
}

async fn history(State(app): State<App>, fields: Fields) -> Result<Json<Metrics>, Refusal> {
    let (run, key) = (run_id(&fields)?, fields.text("metric_key")?);
    let limit = fields.max_results(usize::MAX, PAGE_MAX)?;
    let page = app.registry.metric_page(&run, &key, limit, &fields.page_token()?).await?;
    Ok(Json(Metrics { metrics: page.items.into_iter().map(Metric::from).collect(), next_page_token: page.next }))
}

async fn bulk(State(app): State<App>, fields: Fields) -> Result<Json<Metrics>, Refusal> {
    let (runs, key) = (run_ids(&fields, "run_id")?, fields.text("metric_key")?);
    let points = app.registry.metric_histories(&runs, &key, fields.max_results(BULK_MAX, BULK_MAX)?).await?;
    Ok(compared(points))
}

async fn bulk_interval(State(app): State<App>, fields: Fields) -> Result<Json<Metrics>, Refusal> {
    let (runs, key) = (run_ids(&fields, "run_ids")?, fields.text("metric_key")?);
    let range = match (fields.int_opt("start_step")?, fields.int_opt("end_step")?) {
        (None, None) => None,
        (Some(start), Some(end)) => Some(StepRange { start, end }),
        _ => return Err(Refusal::invalid("give both 'start_step' and 'end_step', or neither")),
    };
    let steps = fields.max_results(SAMPLED_MAX, SAMPLED_MAX)?;
    Ok(compared(app.registry.metric_interval(&runs, &key, range, steps).await?))
}

/// The runs to compare; what is no id is the id of none.
fn run_ids(fields: &Fields, name: &str) -> Result<Vec<RunId>, Refusal> {
    let ids = fields.texts(name)?;
    if ids.is_empty() || ids.len() > RUNS_MAX {
        let message = format!("parameter '{name}' names {} runs: give at least 1 and at most {RUNS_MAX}", ids.len());
        return Err(Refusal::invalid(message));
    }
    let mut runs: Vec<RunId> = Vec::new();
    for run in ids.iter().filter_map(|id| id.parse().ok()) {
        if !runs.contains(&run) {
            runs.push(run);
        }
    }
    Ok(runs)
}

fn compared(points: Vec<RunPoint>) -> Json<Metrics> {
    let metrics = points.into_iter().map(|RunPoint { run, point }| Metric::of_run(point, run)).collect();
    Json(Metrics { metrics, next_page_token: None })
}
