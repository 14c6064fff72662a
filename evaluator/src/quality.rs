//! Quality over event time: exact metrics by bucket, version and slice.

use std::collections::BTreeMap;

use domain::{Timestamp, prediction::TargetRole};
use serde::{Deserialize, Serialize};
use stats::Moments;

use crate::{error::EvaluatorError, state::State};

/// Length of the periods that quality is shown by, in the UTC calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Bucket {
    Day,
    /// From Monday.
    Week,
    Month,
    /// One bucket, which starts with the first prediction asked for.
    #[default]
    All,
}

/// What to show.
#[derive(Debug, Clone, Default)]
pub struct QualityQuery {
    /// First event time; absent: from the beginning.
    pub from: Option<Timestamp>,
    /// Event time to stop before; absent: to the end.
    pub to: Option<Timestamp>,
    pub bucket: Bucket,
    /// A column of `monitor.slices`: one row per value of it.
    pub slice: Option<String>,
}

/// Quality of one version, or of the served answers, in one bucket.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QualityRow {
    pub bucket_start: Timestamp,
    /// `served` (the answers given, whatever version gave them), or the number of a version: all that it
    /// scored, as answer or as shadow.
    pub version: String,
    /// Value of the slice column asked for.
    pub slice: Option<String>,
    pub predictions: u64,
    /// Of the predictions: scores that were the answer.
    pub answered: u64,
    pub labelled: u64,
    /// Absent while only one class is seen. Like all that follow, over labelled predictions.
    pub auc: Option<f64>,
    pub log_loss: Option<f64>,
    pub brier: Option<f64>,
    pub mean_score: Option<f64>,
    /// Share of positive labels.
    pub rate: Option<f64>,
}

/// Scores with their labels, gathered for measuring.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pile {
    pub predictions: u64,
    pub answered: u64,
    pub scores: Vec<f32>,
    pub labels: Vec<bool>,
}

/// Measurements over one pile.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Quality {
    pub predictions: u64,
    pub labelled: u64,
    pub auc: Option<f64>,
    pub log_loss: Option<f64>,
    pub brier: Option<f64>,
    pub mean_score: Option<f64>,
    pub rate: Option<f64>,
}

impl Pile {
    pub(crate) fn add(&mut self, score: f32, role: TargetRole, label: Option<bool>) {
        self.predictions += 1;
        self.answered += u64::from(role == TargetRole::Live);
        if let Some(label) = label {
            self.scores.push(score);
            self.labels.push(label);
        }
    }

    /// Log loss of the labelled rows.
    pub(crate) fn losses(&self) -> Moments {
        Moments::of(&stats::row_losses(&self.scores, &self.labels))
    }

    /// Score less outcome of the labelled rows.
    pub(crate) fn residuals(&self) -> Moments {
        let residual = |(score, label): (&f32, &bool)| f64::from(*score) - f64::from(u8::from(*label));
        Moments::of(&self.scores.iter().zip(&self.labels).map(residual).collect::<Vec<_>>())
    }

    pub(crate) fn measure(&self) -> Quality {
        let measured = stats::quality(&self.scores, &self.labels);
        Quality {
            predictions: self.predictions,
            labelled: self.labels.len() as u64,
            auc: measured.and_then(|m| m.auc),
            log_loss: measured.map(|m| m.log_loss),
            brier: measured.map(|m| m.brier),
            mean_score: measured.map(|m| m.mean_score),
            rate: measured.map(|m| m.rate),
        }
    }
}

/// (bucket, version or `None` for served, slice code)
type Piles = BTreeMap<(Timestamp, Option<u32>, Option<u32>), Pile>;

/// Copies what is asked for out of the state, so that measuring holds no lock.
pub(crate) fn gather(state: &State, query: &QualityQuery) -> Result<Gathered, EvaluatorError> {
    let slice = match &query.slice {
        None => None,
        Some(name) => Some(state.slice(name).ok_or_else(|| unknown_slice(state, name))?),
    };
    let (from, to) = (query.from.unwrap_or(Timestamp::MIN), query.to.unwrap_or(Timestamp::MAX));
    let rows = || (0..state.len()).filter(|&row| (from..to).contains(&state.event_times[row]));
    let first = rows().map(|row| state.event_times[row]).min().unwrap_or_default();
    let mut piles = Piles::new();
    for row in rows() {
        let start = bucket_start(state.event_times[row], query.bucket).unwrap_or(first);
        let (code, label) = (slice.map(|slice| slice.codes[row]), state.labels[row].map(|label| label.value));
        for score in state.scores(row) {
            piles.entry((start, Some(score.version), code)).or_default().add(score.score, score.role, label);
        }
        if let Some(served) = state.served(row) {
            piles.entry((start, None, code)).or_default().add(served.score, served.role, label);
        }
    }
    let values = slice.map(|slice| slice.values.iter().map(ToString::to_string).collect());
    Ok(Gathered { piles, values: values.unwrap_or_default() })
}

fn unknown_slice(state: &State, name: &str) -> EvaluatorError {
    let known = state.slices.iter().map(|(name, _)| name.clone()).collect();
    EvaluatorError::UnknownSlice { endpoint: state.name.clone(), slice: name.to_owned(), known }
}

pub(crate) struct Gathered {
    piles: Piles,
    values: Vec<String>,
}

impl Gathered {
    /// Rows by bucket, then `served` before the versions, then by slice value.
    pub(crate) fn measure(self) -> Vec<QualityRow> {
        let mut rows: Vec<_> = self
            .piles
            .into_iter()
            .map(|((bucket_start, version, code), pile)| {
                let quality = pile.measure();
                let row = QualityRow {
                    bucket_start,
                    version: version.map_or_else(|| "served".to_owned(), |version| version.to_string()),
                    slice: code.map(|code| self.values[code as usize].clone()),
                    predictions: quality.predictions,
                    answered: pile.answered,
                    labelled: quality.labelled,
                    auc: quality.auc,
                    log_loss: quality.log_loss,
                    brier: quality.brier,
                    mean_score: quality.mean_score,
                    rate: quality.rate,
                };
                (version, row)
            })
            .collect();
        rows.sort_by(|(v, a), (w, b)| (a.bucket_start, v, &a.slice).cmp(&(b.bucket_start, w, &b.slice)));
        rows.into_iter().map(|(_, row)| row).collect()
    }
}

/// Start of the bucket in which `at` lies; `None` for `All`.
pub(crate) fn bucket_start(at: Timestamp, bucket: Bucket) -> Option<Timestamp> {
    use domain::Span;
    Some(match bucket {
        Bucket::All => return None,
        Bucket::Day => at.floor(Span::DAY),
        Bucket::Week => {
            // 1970-01-01 was a Thursday: Mondays lie three days before multiples of a week.
            let (week, shift) = (Span::from_micros(7 * Span::DAY.micros()), Span::from_micros(3 * Span::DAY.micros()));
            (at + shift).floor(week) - shift
        }
        Bucket::Month => {
            // Outside the calendar's years every instant is its own day.
            let day = at.floor(Span::DAY);
            let Ok(instant) = jiff::Timestamp::from_microsecond(day.micros()) else { return Some(day) };
            let past = i64::from(jiff::tz::Offset::UTC.to_datetime(instant).day()) - 1;
            day - Span::from_micros(past * Span::DAY.micros())
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_follow_the_utc_calendar() {
        let start = |at: &str, bucket| bucket_start(at.parse().unwrap(), bucket).map(|t| t.to_string());
        let noon = "2013-03-31T12:30:00Z"; // a Sunday
        assert_eq!(start(noon, Bucket::Day).unwrap(), "2013-03-31T00:00:00Z");
        assert_eq!(start(noon, Bucket::Week).unwrap(), "2013-03-25T00:00:00Z");
        assert_eq!(start("2013-04-01T00:00:00Z", Bucket::Week).unwrap(), "2013-04-01T00:00:00Z");
        assert_eq!(start(noon, Bucket::Month).unwrap(), "2013-03-01T00:00:00Z");
        assert_eq!(start("1969-12-31T23:59:59Z", Bucket::Month).unwrap(), "1969-12-01T00:00:00Z");
        assert_eq!(start(noon, Bucket::All), None);
    }
}
