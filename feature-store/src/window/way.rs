//! The two ways to a window's value.

use domain::definition::{AggregateFunction, Aggregation};

use crate::{exact::Exact, window::Fold};

/// How a function's value is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// As a difference of exact running totals.
    Totals(Exact),
    /// By merging tiles.
    Tiles(Fold),
}

impl Way {
    pub(crate) fn of(aggregation: &Aggregation) -> Self {
        match aggregation.function {
            AggregateFunction::Count => Self::Totals(Exact::Count),
            AggregateFunction::Sum => Self::Totals(Exact::Sum),
            AggregateFunction::Mean => Self::Totals(Exact::Mean),
            AggregateFunction::Std => Self::Totals(Exact::Std),
            AggregateFunction::Min => Self::Tiles(Fold::Least),
            AggregateFunction::Max => Self::Tiles(Fold::Greatest),
            AggregateFunction::Distinct => Self::Tiles(Fold::Distinct),
            AggregateFunction::Quantile => Self::Tiles(Fold::Quantile),
            AggregateFunction::Last => Self::Tiles(Fold::Last(aggregation.k.unwrap_or(1))),
        }
    }

    pub(crate) const fn is_totals(self) -> bool {
        matches!(self, Self::Totals(_))
    }
}
