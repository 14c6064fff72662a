//! Features made of many rows: the function and the window of event time.

use serde::{Deserialize, Serialize};

use crate::{ColumnName, ListType, Scalar, Span, ValueType};

/// What an aggregation makes of the values in its window. Nulls are left out by every function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AggregateFunction {
    /// Rows whose value is not null.
    Count,
    Sum,
    /// Sum over count; null over an empty window. Of a bool column: the share of true.
    Mean,
    /// Population standard deviation; null over an empty window.
    Std,
    /// The least value, of the column's type; null over an empty window.
    Min,
    /// The greatest value, of the column's type; null over an empty window.
    Max,
    /// How many different values, by `HyperLogLog` with 4,096 registers: a standard error of 1.6 %.
    Distinct,
    /// The value at rank `q`, by a `DDSketch`: within 1 % of the true one; null over an empty window.
    Quantile,
    /// The newest `k` values as a list, oldest first (ties as everywhere: by time of writing, then as ingested);
    /// empty over an empty window.
    Last,
}

impl AggregateFunction {
    /// Type of the feature made from a column of this type.
    #[must_use]
    pub fn result(self, column: ValueType) -> ValueType {
        match self {
            // Definitions refuse lists of lists.
            Self::Last => Scalar::of(column).map_or(column, |element| ValueType::List(ListType::of(element))),
            Self::Count | Self::Distinct => ValueType::Int,
            Self::Sum | Self::Mean | Self::Std | Self::Quantile => ValueType::Float,
            Self::Min | Self::Max => column,
        }
    }

    /// As written in YAML.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Sum => "sum",
            Self::Mean => "mean",
            Self::Std => "std",
            Self::Min => "min",
            Self::Max => "max",
            Self::Distinct => "distinct",
            Self::Quantile => "quantile",
            Self::Last => "last",
        }
    }
}

/// Where a window lies, seen from the instant `t` that is asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WindowShape {
    /// The trailing `(t - window, t]`; with a hop its tail reaches back to the hop's last multiple.
    #[default]
    Sliding,
    /// The newest whole period that has ended: `[end - window, end)`, `end` being the last multiple of the
    /// window, counted from 1970 in UTC, at or before `t`.
    Tumbling,
}

impl WindowShape {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
    fn is_sliding(&self) -> bool {
        *self == Self::Sliding
    }
}

/// One feature made of many rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Aggregation {
    pub name: ColumnName,
    /// Source column; which types it may have depends on the function.
    pub column: ColumnName,
    pub function: AggregateFunction,
    pub window: Span,
    #[serde(default, skip_serializing_if = "WindowShape::is_sliding")]
    pub shape: WindowShape,
    /// Sliding windows: the tail is rounded down to a multiple of this, counted from 1970 in UTC; the head is
    /// exact. Absent: count, sum, mean and std have an exact tail, the others take 5 minutes for windows below
    /// 12 hours, 1 hour below 12 days, else 1 day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hop: Option<Span>,
    /// `quantile`: which one, 0 (least) to 1 (greatest).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub q: Option<f64>,
    /// `last`: how many values, 1 to 1,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub k: Option<u32>,
}
