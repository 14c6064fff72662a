//! Charts: a series thinned to what a screen can show, without hiding what it shows.

use domain::RunId;

use super::{MetricPoint, columns::Point};
use crate::{Registry, RegistryError};

/// What one bucket may keep: its first and last point, its least and greatest, and one NaN.
const KEPT_OF_BUCKET: usize = 5;

/// A thinned series.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct MetricChart {
    /// How many points were logged.
    pub total: usize,
    /// By step, then time, then value.
    pub points: Vec<MetricPoint>,
}

impl Registry {
    /// At most `points` points of a metric that show its whole shape: of every stretch of the series its first, last,
    /// least and greatest point, and a NaN where it has one, so that gaps stay gaps. All points, if they are no more.
    ///
    /// # Errors
    /// An unknown run, or fewer than 5 points asked for.
    pub async fn metric_chart(&self, run: &RunId, key: &str, points: usize) -> Result<MetricChart, RegistryError> {
        if points < KEPT_OF_BUCKET {
            let problem = format!("of {points} points would show nothing");
            return Err(RegistryError::invalid("a chart", problem, "ask for at least 5 points"));
        }
        let name = key.to_owned();
        self.one_series(run, key, move |series| {
            let total = series.len();
            let points = thin(&series, points).into_iter().map(|point| point.named(&name)).collect();
            MetricChart { total, points }
        })
        .await
    }
}

/// At most `budget` of the points, at least 5.
pub(super) fn thin(points: &[Point], budget: usize) -> Vec<Point> {
    if points.len() <= budget {
        return points.to_vec();
    }
    let gaps = points.iter().any(|point| point.value.is_nan());
    let buckets = budget / if gaps { KEPT_OF_BUCKET } else { KEPT_OF_BUCKET - 1 };
    let mut kept = Vec::with_capacity(budget);
    for bucket in 0..buckets {
        let from = bucket * points.len() / buckets;
        let to = (bucket + 1) * points.len() / buckets;
        let (mut least, mut greatest, mut gap) = (None::<usize>, None::<usize>, None);
        for (index, point) in points.iter().enumerate().take(to).skip(from) {
            if point.value.is_nan() {
                gap.get_or_insert(index);
                continue;
            }
            if least.is_none_or(|known| point.value < points[known].value) {
                least = Some(index);
            }
            if greatest.is_none_or(|known| point.value > points[known].value) {
                greatest = Some(index);
            }
        }
        let mut indices: Vec<usize> = [Some(from), least, greatest, gap, Some(to - 1)].into_iter().flatten().collect();
        indices.sort_unstable();
        indices.dedup();
        kept.extend(indices.into_iter().map(|index| points[index]));
    }
    kept
}
