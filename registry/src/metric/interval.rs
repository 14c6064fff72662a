//! Series of several runs sampled at the same steps, so that their curves can be compared.

use std::collections::BTreeSet;

use domain::RunId;

use super::{chart, columns::Point, history::RunPoint};
use crate::{Registry, RegistryError};

/// Most points of one run, whatever was asked for: a run may have many points at one step.
const POINTS_OF_RUN_MAX: usize = 2_500;

/// Steps from `start` to `end`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepRange {
    pub start: i64,
    pub end: i64,
}

impl Registry {
    /// Points of one metric of several runs, at about `steps` steps spread evenly over those the runs have in the
    /// range; each run's own first and last step are always among them. Runs that do not exist have none.
    ///
    /// # Errors
    /// A range that ends before it starts.
    pub async fn metric_interval(
        &self,
        runs: &[RunId],
        key: &str,
        range: Option<StepRange>,
        steps: usize,
    ) -> Result<Vec<RunPoint>, RegistryError> {
        if let Some(StepRange { start, end }) = range.filter(|range| range.start > range.end) {
            let problem = format!("starts at {start} and ends before, at {end}");
            return Err(RegistryError::invalid("the range of steps", problem, "swap `start_step` and `end_step`"));
        }
        let sampled = self.series(runs, key, move |found| sample(found, range, steps)).await?;
        let points = sampled.into_iter().flat_map(|(run, points)| points.into_iter().map(move |point| (run, point)));
        Ok(points.map(|(run, point)| RunPoint { run, point: point.named(key) }).collect())
    }
}

fn sample(mut found: Vec<(RunId, Vec<Point>)>, range: Option<StepRange>, steps: usize) -> Vec<(RunId, Vec<Point>)> {
    if let Some(StepRange { start, end }) = range {
        for (_, points) in &mut found {
            points.retain(|point| (start..=end).contains(&point.step));
        }
    }
    let mut all: Vec<i64> = found.iter().flat_map(|(_, points)| points.iter().map(|point| point.step)).collect();
    // Each run's steps are in order already, which a stable sort makes use of.
    all.sort();
    all.dedup();
    if all.len() > steps {
        let last = all.len() - 1;
        // Evenly spread indices, the first and the last of them included.
        let spread = |i: usize| if steps == 1 { 0 } else { i * last / (steps - 1) };
        let wanted: BTreeSet<i64> = (0..steps).map(|i| all[spread(i)]).collect();
        for (_, points) in &mut found {
            let ends = points.first().zip(points.last()).map(|(first, last)| (first.step, last.step));
            let Some((first, last)) = ends else { continue };
            points.retain(|point| point.step == first || point.step == last || wanted.contains(&point.step));
        }
    }
    for (_, points) in &mut found {
        if points.len() > POINTS_OF_RUN_MAX {
            *points = chart::thin(points, POINTS_OF_RUN_MAX);
        }
    }
    found
}
