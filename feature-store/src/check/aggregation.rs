//! Whether the aggregations of a view can stand.

use std::collections::BTreeSet;

use domain::{
    Span, ValueType,
    definition::{AggregateFunction, Aggregation, FeatureView, Source, WindowShape},
};

use super::{Place, column_of, columns};
use crate::{
    error::FeatureError,
    window::{Way, WindowSpan},
};

/// Most hops in a window: more would cost a read too many look-ups.
const HOPS_MAX: i64 = 4_096;
/// Most values of `last`.
const LAST_MAX: u32 = 1_000;
/// Most different lengths of tile in one view.
const CHAINS_MAX: usize = 32;

pub(super) fn all(place: &Place<'_>, view: &FeatureView, source: &Source) -> Result<(), FeatureError> {
    if view.aggregations.is_empty() {
        return Ok(());
    }
    if view.ttl.is_some() {
        return Err(place.error("ttl", "not allowed beside aggregations: their windows say how old a row may be"));
    }
    place.once("aggregations", view.aggregations.iter().map(|a| a.name.as_str()))?;
    view.aggregations.iter().try_for_each(|aggregation| one(place, aggregation, source))?;
    let tiled = view.aggregations.iter().filter(|a| !Way::of(a).is_totals());
    let grains: BTreeSet<i64> = tiled.map(|aggregation| WindowSpan::of(aggregation).grain()).collect();
    if grains.len() > CHAINS_MAX {
        let reason = format!("{} different hops in one view, at most {CHAINS_MAX}; make two views", grains.len());
        return Err(place.error("aggregations", reason));
    }
    Ok(())
}

fn one(place: &Place<'_>, aggregation: &Aggregation, source: &Source) -> Result<(), FeatureError> {
    let field = format!("aggregations.{}", aggregation.name);
    let refuse = |reason: String| Err(place.error(field.clone(), reason));
    let Some(kind) = column_of(source, &aggregation.column) else {
        return Err(place.unknown(field, "column", aggregation.column.as_str(), columns(source)));
    };
    let (function, column) = (aggregation.function, &aggregation.column);
    if !takes(function, kind) {
        return refuse(format!("column `{column}` is {}, {}", kind, wants(function)));
    }
    if aggregation.window <= Span::ZERO {
        return refuse("the window must be longer than zero".into());
    }
    match (function, aggregation.q) {
        (AggregateFunction::Quantile, Some(q)) if (0.0..=1.0).contains(&q) => {}
        (AggregateFunction::Quantile, Some(q)) => return refuse(format!("q is {q}: write one from 0 to 1")),
        (AggregateFunction::Quantile, None) => {
            return refuse("a quantile needs `q`, from 0 (least) to 1 (greatest), as in `q: 0.95`".into());
        }
        (_, Some(_)) => return refuse(format!("`q` belongs to quantile, not to {}", function.as_str())),
        (_, None) => {}
    }
    match (function, aggregation.k) {
        (AggregateFunction::Last, Some(1..=LAST_MAX)) => {}
        (AggregateFunction::Last, Some(k)) => return refuse(format!("k is {k}: write one from 1 to {LAST_MAX}")),
        (AggregateFunction::Last, None) => return refuse("last needs `k`, how many values, as in `k: 5`".into()),
        (_, Some(_)) => return refuse(format!("`k` belongs to last, not to {}", function.as_str())),
        (_, None) => {}
    }
    hop(aggregation).map_or(Ok(()), refuse)
}

/// What is wrong with the hop.
fn hop(aggregation: &Aggregation) -> Option<String> {
    let (window, hop) = (aggregation.window, aggregation.hop?);
    if aggregation.shape == WindowShape::Tumbling {
        return Some("a tumbling window moves by its own length: leave `hop` out".into());
    }
    if hop <= Span::ZERO || hop > window {
        return Some(format!("the hop is {hop}: it must be longer than zero and at most the window, {window}"));
    }
    if !Way::of(aggregation).is_totals() && window.micros() / hop.micros() > HOPS_MAX {
        let hops = window.micros() / hop.micros();
        let least = Span::from_micros((window.micros() - 1) / HOPS_MAX + 1);
        return Some(format!("the window {window} holds {hops} hops of {hop}, at most {HOPS_MAX}: at least {least}"));
    }
    None
}

const fn takes(function: AggregateFunction, kind: ValueType) -> bool {
    match function {
        AggregateFunction::Count | AggregateFunction::Sum | AggregateFunction::Mean | AggregateFunction::Std => {
            matches!(kind, ValueType::Bool | ValueType::Int | ValueType::Float)
        }
        AggregateFunction::Min | AggregateFunction::Max => !matches!(kind, ValueType::Text | ValueType::List(_)),
        AggregateFunction::Distinct => true,
        AggregateFunction::Last => !matches!(kind, ValueType::List(_)),
        AggregateFunction::Quantile => matches!(kind, ValueType::Int | ValueType::Float),
    }
}

const fn wants(function: AggregateFunction) -> &'static str {
    match function {
        AggregateFunction::Count | AggregateFunction::Sum | AggregateFunction::Mean | AggregateFunction::Std => {
            "an aggregation needs bool, int or float"
        }
        AggregateFunction::Min | AggregateFunction::Max => "min and max need bool, int, float or timestamp",
        AggregateFunction::Distinct => "distinct takes every type",
        AggregateFunction::Last => "last takes every type but lists",
        AggregateFunction::Quantile => "a quantile needs int or float",
    }
}
