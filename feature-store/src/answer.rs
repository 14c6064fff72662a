//! Feature values with what is known about each of them.

use domain::{Column, Frame, Timestamp};
use serde::{Deserialize, Serialize};

/// How a value came to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum FeatureStatus {
    /// From a row in time.
    Present,
    /// From a row in time whose value is null, or a mean over an empty window.
    NullValue,
    /// No row of the entity is known at that instant; the value is the declared default, or null.
    /// A count or a sum over no rows is still 0 where the key itself is not null.
    NotFound,
    /// The newest row is older than the view's time to live; the value is the declared default, or null.
    OutsideMaxAge,
}

/// What is known about one feature column, row by row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeatureMeta {
    pub statuses: Vec<FeatureStatus>,
    /// Event time of the newest row the value rests on; `None` where no row is known.
    pub event_times: Vec<Option<Timestamp>>,
}

/// One value per feature and row, in schema order, and beside it one `FeatureMeta` per feature.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    pub features: Frame,
    pub meta: Vec<FeatureMeta>,
}

/// The newest row of an entity at an instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Newest {
    Nothing,
    TooOld(Timestamp),
    At(Timestamp),
}

/// One view's answer: the asked outputs as columns, and each row's newest event.
#[derive(Debug)]
pub(crate) struct ViewRows {
    pub(crate) columns: Vec<Column>,
    pub(crate) newest: Vec<Newest>,
}

impl ViewRows {
    /// Status and event time of every value of one column of this view.
    pub(crate) fn meta(&self, column: &Column) -> FeatureMeta {
        let statuses = self.newest.iter().enumerate().map(|(row, newest)| match newest {
            Newest::Nothing => FeatureStatus::NotFound,
            Newest::TooOld(_) => FeatureStatus::OutsideMaxAge,
            Newest::At(_) if is_null(column, row) => FeatureStatus::NullValue,
            Newest::At(_) => FeatureStatus::Present,
        });
        let event_times = self.newest.iter().map(|newest| match newest {
            Newest::Nothing => None,
            Newest::TooOld(at) | Newest::At(at) => Some(*at),
        });
        FeatureMeta { statuses: statuses.collect(), event_times: event_times.collect() }
    }
}

fn is_null(column: &Column, row: usize) -> bool {
    match column {
        Column::Bool(v) => v[row].is_none(),
        Column::Int(v) => v[row].is_none(),
        Column::Float(v) => v[row].is_none(),
        Column::Text(v) => v[row].is_none(),
        Column::Timestamp(v) => v[row].is_none(),
        Column::List(_, v) => v[row].is_none(),
    }
}
