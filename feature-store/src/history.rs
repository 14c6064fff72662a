//! The rows of one source in memory, as far as a join needs them.

use std::collections::{BTreeMap, BTreeSet};

use domain::{Column, Field, Frame, Timestamp};
use storage::TimeRange;

use crate::{
    error::FeatureError,
    table::{self, Mark, SourceTable, corrupt, ints},
    view::SourcePlan,
};

/// Standing rows (no correction has replaced them), in order of ingestion.
#[derive(Debug)]
pub(crate) struct History {
    frame: Frame,
    /// Column of the frame by position in the source.
    names: BTreeMap<usize, String>,
    /// Event times in microseconds.
    pub(crate) times: Vec<i64>,
    /// Times of writing, where the source has them.
    pub(crate) created: Option<Vec<Option<i64>>>,
    pub(crate) numbers: Vec<i64>,
}

impl History {
    /// Reads the needed columns of the rows that stood at the mark (without one: that stand now), as far as their event
    /// time is not after `to`.
    pub(crate) async fn load(
        plan: &SourcePlan,
        table: &SourceTable,
        needed: &BTreeSet<usize>,
        to: Option<Timestamp>,
        mark: Option<&Mark>,
    ) -> Result<Self, FeatureError> {
        let mut wanted = needed.clone();
        wanted.insert(plan.timestamp);
        wanted.extend(plan.created);
        let columns = &plan.definition.columns;
        let field = |at: &usize| Field::new(plan.names[*at].clone(), columns[*at].kind);
        let fields: Vec<Field> = wanted.iter().map(field).collect();
        let column = || plan.definition.timestamp.to_string();
        let range = to.map(|to| TimeRange { column: column(), from: Timestamp::MIN, to });
        let mut frame = table.scan(&fields, range, mark).await?;
        let standing = table::standing(&frame, mark.map_or(u64::MAX, |mark| mark.rows))?;
        if standing.len() != frame.rows() {
            frame = frame.take(&standing);
        }
        let micros = |at: usize| -> Result<Vec<Option<i64>>, FeatureError> {
            Ok(frame.timestamps(&plan.names[at])?.iter().map(|t| t.map(Timestamp::micros)).collect())
        };
        let times: Option<Vec<i64>> = micros(plan.timestamp)?.into_iter().collect();
        let numbers: Option<Vec<i64>> = ints(&frame, table::ROW)?.iter().copied().collect();
        Ok(Self {
            times: times.ok_or_else(|| corrupt("a row without event time".into()))?,
            created: plan.created.map(micros).transpose()?,
            numbers: numbers.ok_or_else(|| corrupt("a row without a number".into()))?,
            names: wanted.iter().map(|&at| (at, plan.names[at].to_string())).collect(),
            frame,
        })
    }

    pub(crate) fn rows(&self) -> usize {
        self.times.len()
    }

    /// Columns by their positions in the source.
    pub(crate) fn columns(&self, all: impl Iterator<Item = usize>) -> Result<BTreeMap<usize, &Column>, FeatureError> {
        all.map(|at| Ok((at, self.column(at)?))).collect()
    }

    /// A column by its position in the source.
    pub(crate) fn column(&self, at: usize) -> Result<&Column, FeatureError> {
        let name = self.names.get(&at).ok_or_else(|| corrupt(format!("column {at} was not read")))?;
        Ok(self.frame.require(name)?)
    }
}
