//! Rows written to one view, as clients do that know views and no sources.
//!
//! A view's rows are rows of its source. What such a row lacks would be null there, so a write is refused when it
//! would blank out what another view serves, and rows that only repeat what is there already are passed over.

use std::collections::BTreeSet;

use domain::{Column, Frame, SourceName, Timestamp, Value, ValueType, ViewName, error::nearest};
use serde_json::{Map, Value as Json};

use crate::{
    FeatureStore,
    error::{FeatureError, unknown},
    parse,
    report::IngestReport,
    view::{Rule, SourcePlan, ViewPlan},
};

impl FeatureStore {
    /// Takes rows whose members are the view's keys, its features (by their own names or their columns'), the
    /// source's event time and, where there is one, its created time. All or none are taken: durable and online when
    /// this returns.
    ///
    /// # Errors
    /// `Unknown` view; `Body` when the view is computed from its source, when a member is unknown or does not fit,
    /// or when the write would blank out columns that other views serve.
    pub async fn write_view(
        &self,
        view: &ViewName,
        rows: Vec<Map<String, Json>>,
    ) -> Result<IngestReport, FeatureError> {
        let catalog = self.0.catalog();
        let plan = catalog.views().find(|plan| plan.name == *view).cloned();
        let views = &catalog.definitions.views;
        let plan = plan.ok_or_else(|| unknown("FeatureView", view.as_str(), views.keys().map(AsRef::as_ref)))?;
        let source = catalog.source(&plan.source)?;
        let (rows, given) = by_column(&plan, &source, rows)?;
        spares_others(&plan, &source, &given)?;
        let covered = source.names.iter().all(|name| given.contains(&**name));
        let own = given.iter().all(|name| is_own(&plan, &source, name));
        let rows = if own && !covered { self.without_echoes(&plan, &source, rows).await? } else { rows };
        if rows.is_empty() {
            return Ok(IngestReport::default());
        }
        self.write_source(&plan.source, rows).await
    }

    /// Takes whole rows of a source, all or none: durable and online when this returns.
    ///
    /// # Errors
    /// `Unknown` source; `Body` names the first row that does not fit, and nothing is taken.
    pub async fn write_source(
        &self,
        source: &SourceName,
        rows: Vec<Map<String, Json>>,
    ) -> Result<IngestReport, FeatureError> {
        let whole = move |plan: &SourcePlan| {
            let mut parsed = parse::rows(plan, rows)?;
            parsed.whole = true;
            match (parsed.bad.first(), parsed.strays.unknown()) {
                (Some(bad), _) => Err(parse::refused_row(plan, &bad.error)),
                (None, Some(name)) => Err(body_error(plan, format!("unknown column `{name}`"), None)),
                (None, None) => Ok(parsed),
            }
        };
        self.0.take_in(source, whole).await
    }

    /// The rows that say something new: not those whose key, event time and features are served already.
    async fn without_echoes(
        &self,
        view: &ViewPlan,
        source: &SourcePlan,
        rows: Vec<Map<String, Json>>,
    ) -> Result<Vec<Map<String, Json>>, FeatureError> {
        let read = |row: &Map<String, Json>, name: &str, kind: ValueType| {
            Value::from_json(row.get(name).unwrap_or(&Json::Null), kind).unwrap_or(Value::Null)
        };
        let time = source.definition.timestamp.as_str();
        let at: Vec<Timestamp> = rows
            .iter()
            .map(|row| match read(row, time, ValueType::Timestamp) {
                Value::Timestamp(at) => at,
                _ => Timestamp::MIN,
            })
            .collect();
        let mut keys = Frame::of_rows(rows.len());
        for key in &view.keys {
            let kind = source.definition.columns[key.at].kind;
            let mut column = Column::with_capacity(kind, rows.len());
            for row in &rows {
                column.push(read(row, key.name.as_str(), kind)).map_err(|e| body_error(source, e.to_string(), None))?;
            }
            keys.add(key.name.as_str(), column)?;
        }
        let wanted: Vec<(&str, &str)> =
            view.outputs.iter().map(|output| (view.name.as_str(), output.name.as_str())).collect();
        let selection = self.select(&wanted)?;
        let known = self.0.online_of(&selection.plan, &keys, &at).await?;
        let echoes = |row: usize, members: &Map<String, Json>| {
            known.meta.first().is_some_and(|meta| meta.event_times[row] == Some(at[row]))
                && view.outputs.iter().zip(known.features.iter()).all(|(output, (_, column))| {
                    let Rule::Newest { kept, .. } = &output.rule else { return false };
                    read(members, view.kept[*kept].name.as_str(), output.kind) == column.get(row)
                })
        };
        let new = rows.into_iter().enumerate().filter(|(row, members)| !echoes(*row, members));
        Ok(new.map(|(_, members)| members).collect())
    }
}

/// Whether the column is one of the view's, or a time.
fn is_own(view: &ViewPlan, source: &SourcePlan, column: &str) -> bool {
    let kept = view.kept.iter().map(|kept| kept.at).chain(view.keys.iter().map(|key| key.at));
    let mut own = kept.chain([source.timestamp]).chain(source.created);
    own.any(|at| &*source.names[at] == column)
}

/// Rows by the source's columns, and which of them are given.
type Written = (Vec<Map<String, Json>>, BTreeSet<String>);

/// Rows by the source's columns, and which of them are given.
fn by_column(view: &ViewPlan, source: &SourcePlan, rows: Vec<Map<String, Json>>) -> Result<Written, FeatureError> {
    if view.is_windowed() {
        let reason = format!(
            "view `{}` is computed from windows over its source and takes no values: send rows of the source instead",
            view.name
        );
        return Err(body_error(source, reason, None));
    }
    let column_of = |member: &str| -> Option<&str> {
        let feature = view.outputs.iter().find(|output| output.name.as_str() == member);
        if let Some(Rule::Newest { kept, .. }) = feature.map(|output| &output.rule) {
            return Some(view.kept[*kept].name.as_str());
        }
        source.names.iter().map(|name| &**name).find(|name| *name == member)
    };
    let mut given = BTreeSet::new();
    let mut out = Vec::with_capacity(rows.len());
    for (number, row) in (1..).zip(rows) {
        let mut mapped = Map::new();
        for (member, value) in row {
            let Some(column) = column_of(&member) else {
                let outputs = view.outputs.iter().map(|output| output.name.as_str());
                let near = nearest(&member, outputs.chain(source.names.iter().map(|name| &**name))).map(str::to_owned);
                return Err(body_error(source, format!("row {number}: view `{}` has no `{member}`", view.name), near));
            };
            given.insert(column.to_owned());
            mapped.insert(column.to_owned(), value);
        }
        out.push(mapped);
    }
    Ok((out, given))
}

/// Whether every other view keeps what it serves: a row belongs to it only where its keys are there.
fn spares_others(view: &ViewPlan, source: &SourcePlan, given: &BTreeSet<String>) -> Result<(), FeatureError> {
    for other in source.views.iter().filter(|other| other.name != view.name && !other.is_windowed()) {
        let touched = other.keys.iter().all(|key| given.contains(key.name.as_str()));
        let lacking = other.kept.iter().map(|kept| kept.name.as_str()).find(|name| !given.contains(*name));
        if let (true, Some(lacking)) = (touched, lacking) {
            let reason = format!(
                "view `{}` shares it with view `{}`, whose column `{lacking}` would become null: send whole rows of the \
                 source, `{lacking}` included",
                view.name, other.name
            );
            return Err(body_error(source, reason, None));
        }
    }
    Ok(())
}

fn body_error(plan: &SourcePlan, reason: String, near: Option<String>) -> FeatureError {
    FeatureError::Body { source_name: plan.definition.name.to_string(), reason, near }
}
