//! What stored rows mean to the online store, column by column: pairs of plain views, and the marks of identities.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    sync::Arc,
};

use arrow::{
    array::{Array as _, AsArray as _, RecordBatch},
    datatypes::Int64Type,
};
use domain::{SourceName, Timestamp, ValueType};
use storage::{Kv, StorageError};

use super::{
    cells::{CellColumn, CellRow},
    runs::{RunWriter, merge},
};
use crate::{
    error::{Doing as _, FeatureError},
    key,
    rows::RowMark,
    table::{ROW, corrupt},
    view::{SourcePlan, ViewPlan},
};

const DOING: &str = "write online values";

/// Whether the source's rows can be brought online column by column: no view has windows, and no column is a list.
pub(crate) fn is_plain(plan: &SourcePlan) -> bool {
    let lists = plan.definition.columns.iter().any(|column| matches!(column.kind, ValueType::List(_)));
    !lists && !plan.views.iter().any(|view| view.is_windowed())
}

/// The runs of some rows: one list for each view, and that of the marks.
#[derive(Debug, Default)]
pub(crate) struct Runs {
    /// By view.
    views: Vec<Vec<PathBuf>>,
    marks: Vec<PathBuf>,
    /// Greatest event time of the rows.
    pub(crate) newest: Option<Timestamp>,
}

impl Runs {
    pub(crate) fn join(&mut self, other: Self) {
        self.views.resize(self.views.len().max(other.views.len()), Vec::new());
        for (all, new) in self.views.iter_mut().zip(other.views) {
            all.extend(new);
        }
        self.marks.extend(other.marks);
        self.newest = self.newest.max(other.newest);
    }

    /// Puts all pairs into the store, the lists side by side. Durable when it returns; doing it again changes nothing.
    pub(crate) async fn load(self, kv: &dyn Kv) -> Result<u64, FeatureError> {
        let lists = self.views.into_iter().chain([self.marks]).filter(|runs| !runs.is_empty());
        let loads = lists.map(|runs| async move {
            let opened = tokio::task::spawn_blocking(move || merge(&runs)).await;
            kv.load(opened.map_err(|_| StorageError::WorkerGone("online values"))??).await
        });
        let counts = futures::future::try_join_all(loads).await.doing(DOING)?;
        Ok(counts.into_iter().sum())
    }
}

/// The rows' marks in the order of the rows.
pub(crate) struct Marks {
    pub(crate) source: SourceName,
    /// With the row's number.
    pub(crate) rows: Vec<(RowMark, i64)>,
}

impl Marks {
    /// The marks of stored rows, which have all columns of the source.
    pub(crate) fn of(plan: &SourcePlan, rows: &RecordBatch) -> Result<Self, FeatureError> {
        let lacking = || corrupt("rows without all columns".into());
        let columns: Vec<CellColumn> = cells(plan, rows)?.into_iter().collect::<Option<_>>().ok_or_else(lacking)?;
        let (columns, numbers) = (columns.as_slice(), numbers(rows)?);
        let mut bytes = Vec::new();
        let rows = numbers.iter().enumerate();
        let rows = rows.map(|(row, number)| (RowMark::with(plan, &CellRow { columns, row }, &mut bytes), *number));
        Ok(Self { source: plan.definition.name.clone(), rows: rows.collect() })
    }

    fn write(mut self, writer: &mut RunWriter) -> Result<(), StorageError> {
        self.rows.sort_unstable_by_key(|(mark, _)| (mark.at, u128::from_be_bytes(mark.identity)));
        let source = self.source.as_str();
        for (mark, number) in &self.rows {
            let (key, value) = mark.seen(source, *number);
            writer.push(|out| {
                out.extend_from_slice(&key);
                let end = out.len();
                out.extend_from_slice(&value);
                end
            })?;
        }
        Ok(())
    }
}

/// Writes the runs of rows as they come.
pub(crate) struct Writers {
    views: Vec<(Arc<ViewPlan>, RunWriter)>,
    marks: RunWriter,
    newest: Option<Timestamp>,
}

impl Writers {
    pub(crate) fn new(views: &[Arc<ViewPlan>], dir: &Path) -> Self {
        let views = views.iter().map(|view| (view.clone(), RunWriter::new(dir)));
        Self { views: views.collect(), marks: RunWriter::new(dir), newest: None }
    }

    /// Adds what the views keep of stored rows, without those whose number is in `gone`. The rows have the views' columns.
    pub(crate) fn rows(
        &mut self,
        plan: &SourcePlan,
        rows: &RecordBatch,
        gone: &HashSet<i64>,
    ) -> Result<(), FeatureError> {
        let (columns, numbers) = (cells(plan, rows)?, numbers(rows)?);
        for (view, writer) in &mut self.views {
            write_view(plan, view, &columns, &numbers, gone, writer)?;
        }
        Ok(())
    }

    /// Adds marks.
    pub(crate) fn marks(&mut self, marks: Marks) -> Result<(), FeatureError> {
        self.newest = self.newest.max(marks.rows.iter().map(|(mark, _)| mark.at).max());
        marks.write(&mut self.marks).doing(DOING)
    }

    pub(crate) fn finish(self) -> Result<Runs, FeatureError> {
        let views = self.views.into_iter().map(|(_, writer)| writer.finish());
        Ok(Runs {
            views: views.collect::<Result<_, _>>().doing(DOING)?,
            marks: self.marks.finish().doing(DOING)?,
            newest: self.newest,
        })
    }
}

/// Cells of the source's columns by their positions; those that the batch lacks are `None`.
fn cells(plan: &SourcePlan, rows: &RecordBatch) -> Result<Vec<Option<CellColumn>>, FeatureError> {
    plan.names.iter().map(|name| rows.column_by_name(name).map(CellColumn::of).transpose()).collect()
}

/// The numbers of stored rows.
fn numbers(rows: &RecordBatch) -> Result<Vec<i64>, FeatureError> {
    let column = rows.column_by_name(ROW).and_then(|column| column.as_primitive_opt::<Int64Type>());
    match column {
        Some(numbers) if numbers.null_count() == 0 => Ok(numbers.values().to_vec()),
        _ => Err(corrupt("rows without numbers".into())),
    }
}

/// Writes the pairs that a plain view keeps of stored rows, without those whose number is in `gone`.
fn write_view(
    plan: &SourcePlan,
    view: &ViewPlan,
    columns: &[Option<CellColumn>],
    numbers: &[i64],
    gone: &HashSet<i64>,
    writer: &mut RunWriter,
) -> Result<(), FeatureError> {
    let column =
        |at: usize| columns[at].as_ref().ok_or_else(|| corrupt(format!("column `{}` was not read", plan.names[at])));
    let keys: Vec<&CellColumn> = view.keys.iter().map(|key| column(key.at)).collect::<Result<_, _>>()?;
    let kept: Vec<&CellColumn> = view.kept.iter().map(|kept| column(kept.at)).collect::<Result<_, _>>()?;
    let times = column(plan.timestamp)?;
    let created = plan.created.map(column).transpose()?;
    let prefix = view.layout.prefix();
    let mut entity = prefix.clone();
    for (row, number) in numbers.iter().enumerate() {
        if gone.contains(number) {
            continue;
        }
        entity.truncate(prefix.len());
        if !keys.iter().all(|column| column.push_entity(row, &mut entity)) {
            continue;
        }
        let at = times.instant(row).ok_or_else(|| corrupt("a row without event time".into()))?;
        let created = created.and_then(|created| created.instant(row));
        writer
            .push(|out| {
                out.extend_from_slice(&entity);
                key::push_plain(out, at, created, *number);
                let end = out.len();
                kept.iter().for_each(|column| column.push_value(row, out));
                end
            })
            .doing(DOING)?;
    }
    Ok(())
}
