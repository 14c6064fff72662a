//! Labels, times and weights of a dataset's rows, and how scores are judged.

use domain::{Column, Frame, FrameError, Span, Timestamp, ValueType};

use crate::{TrainJob, TrainerError};

/// The labels of all rows.
pub(crate) fn labels(job: &TrainJob, part: &'static str, rows: &Frame) -> Result<Vec<bool>, TrainerError> {
    let labels = match rows.require(&job.label)? {
        Column::Bool(labels) => labels,
        other => {
            let (name, found) = (job.label.as_str().into(), other.kind());
            return Err(FrameError::WrongType { name, found, expected: ValueType::Bool }.into());
        }
    };
    filled(labels, part, &job.label)
}

/// The event times of all rows.
pub(crate) fn times(job: &TrainJob, part: &'static str, rows: &Frame) -> Result<Vec<Timestamp>, TrainerError> {
    filled(rows.timestamps(&job.event_time)?, part, &job.event_time)
}

fn filled<T: Copy>(values: &[Option<T>], part: &'static str, column: &str) -> Result<Vec<T>, TrainerError> {
    let each = values.iter().enumerate();
    each.map(|(row, value)| value.ok_or_else(|| TrainerError::NullValue { part, column: column.to_owned(), row }))
        .collect()
}

/// Refuses rows that are too few or all of one class.
pub(crate) fn enough(job: &TrainJob, part: &'static str, labels: &[bool], least: usize) -> Result<(), TrainerError> {
    if labels.len() < least {
        return Err(TrainerError::TooFewRows { part, rows: labels.len(), least });
    }
    match labels.first() {
        Some(&value) if labels.iter().all(|label| *label == value) => {
            Err(TrainerError::OneClass { part, label: job.label.clone(), value })
        }
        _ => Ok(()),
    }
}

/// The rows by event time, split into all but the newest tenth and the newest tenth (rounded up).
pub(crate) fn split(times: &[Timestamp]) -> (Vec<usize>, Vec<usize>) {
    let mut order: Vec<usize> = (0..times.len()).collect();
    order.sort_by_key(|&row| times[row]);
    let newest = order.split_off(times.len() - times.len().div_ceil(10));
    (order, newest)
}

/// Weights that halve every `half_life` before the newest time, with mean 1; all 1 without a half life.
pub(crate) fn weights(times: &[Timestamp], half_life: Option<Span>) -> Vec<f32> {
    let (Some(half_life), Some(newest)) = (half_life, times.iter().max()) else {
        return vec![1.0; times.len()];
    };
    let age = |time: &Timestamp| (*newest - *time).micros() as f64 / half_life.micros().max(1) as f64;
    let weights: Vec<f64> = times.iter().map(|time| (-age(time)).exp2()).collect();
    // The newest row weighs 1, so the sum is never zero.
    let mean = weights.iter().sum::<f64>() / weights.len() as f64;
    weights.into_iter().map(|weight| (weight / mean) as f32).collect()
}

/// Share of true labels; 0 of none.
pub(crate) fn rate(labels: &[bool]) -> f64 {
    labels.iter().filter(|label| **label).count() as f64 / labels.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_tenth_is_kept_apart_by_time_not_by_place() {
        let times: Vec<Timestamp> = (0..21).map(|i| Timestamp::from_micros((i * 8) % 21)).collect();
        let (older, newest) = split(&times);
        assert_eq!((older.len(), newest.len()), (18, 3));
        let newest_of_older = older.iter().map(|&row| times[row]).max().unwrap();
        assert!(newest.iter().all(|&row| times[row] > newest_of_older));
    }

    #[test]
    fn weights_halve_with_age_and_average_one() {
        let day = |n: i64| Timestamp::from_micros(n * Span::DAY.micros());
        let weights = weights(&[day(10), day(8), day(6)], Some("2d".parse().unwrap()));
        assert!((weights[0] / weights[1] - 2.0).abs() < 1e-6 && (weights[0] / weights[2] - 4.0).abs() < 1e-6);
        assert!((weights.iter().sum::<f32>() - 3.0).abs() < 1e-5);
        assert_eq!(super::weights(&[day(1), day(2)], None), [1.0, 1.0]);
    }
}
