//! Plain views as of each question, by the point-in-time join.

use std::{
    collections::{BTreeSet, HashSet},
    fs, io,
    path::PathBuf,
    sync::Arc,
};

use arrow::array::RecordBatch;
use domain::{Column, Field, Frame, Timestamp, Value, ValueType};
use storage::TimeRange;

use crate::{
    answer::{Newest, ViewRows},
    error::{Doing as _, FeatureError},
    join::{Feature, Join, JoinKey, JoinView, Joined, Mode, Options, Part, Sequence, Spine},
    table::{self, Mark, REPLACES, ROW, SourceTable},
    view::{Rule, SourcePlan, ViewPlan},
};

/// The column of instants beside the keys; no entity's key has this name.
const AT: &str = "?at";
/// The newest row's event time.
const NEWEST: &str = "?newest";

/// What one join may use.
#[derive(Debug, Clone)]
pub struct JoinLimits {
    /// Bytes kept at once, about; what is more waits in temporary files.
    pub memory_bytes: usize,
    /// Where temporary files stand.
    pub temporary: PathBuf,
}

impl JoinLimits {
    /// With temporary files in `temporary`, a directory of this process alone: what an earlier one left there is removed.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn fresh(memory_bytes: usize, temporary: PathBuf) -> io::Result<Self> {
        match fs::remove_dir_all(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => fs::create_dir_all(&temporary)?,
        }
        Ok(Self { memory_bytes, temporary })
    }
}

impl Default for JoinLimits {
    fn default() -> Self {
        let Options { memory_bytes, temporary, .. } = Options::default();
        Self { memory_bytes, temporary }
    }
}

/// The rows of one source that a join may see.
#[derive(Debug, Clone)]
pub(crate) struct Past {
    parts: Vec<Part>,
    /// Rows numbered from this on are not there yet.
    below: i64,
    /// Numbers of rows that later rows below `below` put right.
    replaced: Arc<HashSet<i64>>,
}

impl Past {
    /// The columns (by position in the source) of the rows that stood at the mark, or stand now, with event time up to
    /// `to`.
    pub(crate) async fn read(
        plan: &SourcePlan,
        table: &SourceTable,
        columns: &BTreeSet<usize>,
        to: Timestamp,
        mark: Option<&Mark>,
    ) -> Result<Self, FeatureError> {
        let mut wanted = columns.clone();
        wanted.insert(plan.timestamp);
        wanted.extend(plan.created);
        let field = |at: &usize| Field::new(plan.names[*at].clone(), plan.definition.columns[*at].kind);
        let column = plan.definition.timestamp.to_string();
        // A row and the one that puts it right have the same event time.
        let range = TimeRange { column, from: Timestamp::MIN, to };
        let batches = table.rows_of(wanted.iter().map(field).collect(), Some(range), mark).await?.1;
        let below = mark.map_or(i64::MAX, |mark| i64::try_from(mark.rows).unwrap_or(i64::MAX));
        let mut replaced = HashSet::new();
        for batch in &batches {
            let (numbers, replaces) = (table::numbers(batch, ROW)?, table::numbers(batch, REPLACES)?);
            let counts = numbers.iter().zip(replaces).filter(|(number, _)| number.is_some_and(|number| number < below));
            replaced.extend(counts.filter_map(|(_, replaces)| replaces));
        }
        Ok(Self { parts: batches.into_iter().map(Part::from).collect(), below, replaced: replaced.into() })
    }
}

/// Answers the asked outputs of a plain view for each question: the view's keys as of `at`.
pub(crate) fn ask(
    source: &SourcePlan,
    view: &ViewPlan,
    past: Past,
    outputs: &[usize],
    keys: &Frame,
    at: &[Timestamp],
    options: Options,
) -> Result<ViewRows, FeatureError> {
    let joined = join(source, view, past, outputs, keys, at, options)?;
    let schema = joined.schema();
    let batches = joined.collect::<Result<Vec<_>, _>>()?;
    // The keys and instants are the caller's own.
    let ours: Vec<usize> = (view.keys.len() + 1..schema.fields().len()).collect();
    let corrupt = |error: arrow::error::ArrowError| table::corrupt(error.to_string());
    let narrow: Vec<RecordBatch> =
        batches.iter().map(|batch| batch.project(&ours)).collect::<Result<_, _>>().map_err(corrupt)?;
    let frame = storage::from_batches(&schema.project(&ours).map_err(corrupt)?, &narrow).doing("join features")?;
    let newest = frame.timestamps(NEWEST)?.iter().zip(at).map(|(time, at)| match time {
        None => Newest::Nothing,
        Some(time) if view.in_time(*time, *at) => Newest::At(*time),
        Some(time) => Newest::TooOld(*time),
    });
    let newest: Vec<Newest> = newest.collect();
    let mut columns = Vec::with_capacity(outputs.len());
    for (number, index) in outputs.iter().enumerate() {
        let column = frame.require(&name_of(number))?;
        columns.push(match &view.outputs[*index].rule {
            Rule::Newest { default, .. } if !default.is_null() => filled(column, &newest, default)?,
            _ => column.clone(),
        });
    }
    Ok(ViewRows { columns, newest })
}

fn name_of(output: usize) -> String {
    format!("?{output}")
}

fn join(
    source: &SourcePlan,
    view: &ViewPlan,
    past: Past,
    outputs: &[usize],
    keys: &Frame,
    at: &[Timestamp],
    options: Options,
) -> Result<Joined, FeatureError> {
    let mut spine = Frame::of_rows(at.len());
    for (key, column) in view.keys.iter().zip(view.key_columns(keys)?) {
        spine.add(key.name.as_str(), column.clone())?;
    }
    spine.add(AT, Column::Timestamp(at.iter().map(|at| Some(*at)).collect()))?;
    let spine = storage::to_batch(&spine).doing("join features")?;
    let mut features = Vec::with_capacity(outputs.len());
    for (number, index) in outputs.iter().enumerate() {
        let Rule::Newest { kept, .. } = view.outputs[*index].rule else {
            return Err(table::corrupt(format!("view {} is not plain", view.name)));
        };
        let kept = &view.kept[kept];
        features.push(Feature {
            column: kept.name.to_string(),
            name: name_of(number),
            data_type: Some(storage::schema_of(&[Field::new("", kept.kind)]).field(0).data_type().clone()),
        });
    }
    let joined = JoinView {
        name: view.name.to_string(),
        parts: past.parts,
        keys: view.keys.iter().map(|key| JoinKey::same(key.name.as_str())).collect(),
        timestamp: source.names[source.timestamp].to_string(),
        created: source.created.map(|created| source.names[created].to_string()),
        sequence: Some(Sequence { column: ROW.into(), below: Some(past.below), replaced: past.replaced }),
        ttl_micros: view.ttl.unwrap_or(0),
        mode: Mode::Plain,
        features,
        newest: Some(NEWEST.into()),
    };
    let spine = Spine { parts: vec![spine.into()], timestamp: AT.into() };
    Ok(Join::new(spine, vec![joined], options)?.run())
}

/// The column with `default` where no row was in time.
fn filled(column: &Column, newest: &[Newest], default: &Value) -> Result<Column, FeatureError> {
    let kind: ValueType = column.kind();
    let mut out = Column::with_capacity(kind, column.len());
    for (row, newest) in newest.iter().enumerate() {
        let value = if matches!(newest, Newest::At(_)) { column.get(row) } else { default.clone() };
        out.push(value).map_err(|error| table::corrupt(error.to_string()))?;
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_process_left_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let joins = dir.path().join("deep/joins");
        fs::create_dir_all(joins.join("millpond-join-x")).unwrap();
        fs::write(joins.join("millpond-join-x/0"), "rows").unwrap();
        let limits = JoinLimits::fresh(1, joins.clone()).unwrap();
        assert_eq!(limits.temporary, joins);
        assert_eq!(fs::read_dir(&joins).unwrap().count(), 0);
    }
}
