//! A table as its owner gives it, and as DataFusion reads it.

use std::{fmt, sync::Arc};

use arrow::{
    array::RecordBatch,
    datatypes::{Schema, SchemaRef},
};
use async_trait::async_trait;
use datafusion::{
    catalog::{Session, TableProvider},
    common::ScalarValue,
    error::{DataFusionError, Result as DataFusionResult},
    execution::{SendableRecordBatchStream, TaskContext},
    logical_expr::{Between, BinaryExpr, Expr, Operator, TableProviderFilterPushDown, TableType},
    physical_plan::{
        ExecutionPlan,
        stream::RecordBatchStreamAdapter,
        streaming::{PartitionStream, StreamingTableExec},
    },
};
use domain::{Coded, ErrorCode};
use futures::{StreamExt as _, stream::BoxStream};
use tokio::{runtime::Handle, sync::mpsc};

/// Batches that wait between who reads a table and who computes.
const READ_AHEAD: usize = 2;

/// Why a table could not be read, in its owner's words.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct Fault {
    pub code: ErrorCode,
    pub message: String,
    pub hint: String,
}

impl Fault {
    /// What an owner's error says.
    pub fn of(error: &dyn Coded) -> Self {
        Self { code: error.code(), message: error.to_string(), hint: error.hint() }
    }
}

/// The rows of a table, as they are read.
pub type Batches = BoxStream<'static, Result<RecordBatch, Fault>>;

/// What of a table is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scan {
    /// Positions of columns, in the order in which they are to stand in the batches. May be empty: then only the number
    /// of rows counts.
    pub columns: Vec<usize>,
    /// Least and greatest instant, in microseconds, of [`Rows::time`]; rows outside may come, too.
    pub from: i64,
    pub to: i64,
    /// More rows than this are not looked at.
    pub limit: Option<usize>,
}

/// A table that can be named in SQL.
#[async_trait]
pub trait Rows: Send + Sync + 'static {
    /// Columns and their types.
    fn schema(&self) -> SchemaRef;

    /// The column of instants by whose bounds a scan can be narrowed.
    fn time(&self) -> Option<&str> {
        None
    }

    /// Reads the rows; each batch has exactly the wanted columns. Called on the runtime that the catalogue came from.
    async fn scan(&self, scan: Scan) -> Result<Batches, Fault>;
}

/// A table for the planner.
pub(crate) struct Provider {
    rows: Arc<dyn Rows>,
    schema: SchemaRef,
    home: Handle,
}

impl Provider {
    pub(crate) fn new(rows: Arc<dyn Rows>, home: Handle) -> Self {
        let schema = rows.schema();
        Self { rows, schema, home }
    }
}

impl fmt::Debug for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Provider").field("schema", &self.schema).finish_non_exhaustive()
    }
}

#[async_trait]
impl TableProvider for Provider {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let columns = projection.cloned().unwrap_or_else(|| (0..self.schema.fields().len()).collect());
        let schema: SchemaRef = Arc::new(self.schema.project(&columns)?);
        let (mut from, mut to) = (i64::MIN, i64::MAX);
        if let Some(time) = self.rows.time() {
            for (low, high) in filters.iter().filter_map(|filter| bounds(filter, time)) {
                (from, to) = (from.max(low), to.min(high));
            }
        }
        let part = Part {
            rows: self.rows.clone(),
            schema: schema.clone(),
            home: self.home.clone(),
            scan: Scan { columns, from, to, limit },
        };
        Ok(Arc::new(StreamingTableExec::try_new(schema, vec![Arc::new(part)], None, [], false, limit)?))
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> DataFusionResult<Vec<TableProviderFilterPushDown>> {
        let narrows = |filter: &&Expr| self.rows.time().is_some_and(|time| bounds(filter, time).is_some());
        let said = |narrows| match narrows {
            // Rows outside may come, too: the engine looks again.
            true => TableProviderFilterPushDown::Inexact,
            false => TableProviderFilterPushDown::Unsupported,
        };
        Ok(filters.iter().map(|filter| said(narrows(filter))).collect())
    }
}

/// One reading of a table.
struct Part {
    rows: Arc<dyn Rows>,
    schema: SchemaRef,
    home: Handle,
    scan: Scan,
}

impl fmt::Debug for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Part").field("scan", &self.scan).finish_non_exhaustive()
    }
}

impl PartitionStream for Part {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let (sender, receiver) = mpsc::channel(READ_AHEAD);
        let (rows, scan, schema) = (self.rows.clone(), self.scan.clone(), self.schema.clone());
        // Ends by itself when nobody listens any more.
        self.home.spawn(async move {
            let mut batches = tokio::select! {
                () = sender.closed() => return,
                opened = rows.scan(scan) => match opened {
                    Ok(batches) => batches,
                    Err(fault) => {
                        let _ = sender.send(Err(external(fault))).await;
                        return;
                    }
                },
            };
            loop {
                let next = tokio::select! {
                    () = sender.closed() => return,
                    next = batches.next() => next,
                };
                let Some(next) = next else { return };
                let checked = next.map_err(external).and_then(|batch| fit(batch, &schema));
                let failed = checked.is_err();
                if sender.send(checked).await.is_err() || failed {
                    return;
                }
            }
        });
        let stream = futures::stream::unfold(receiver, |mut receiver| async move {
            let next = receiver.recv().await?;
            Some((next, receiver))
        });
        Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), stream))
    }
}

/// The batch under the schema that was promised: names and nullability are taken from there.
fn fit(batch: RecordBatch, schema: &SchemaRef) -> DataFusionResult<RecordBatch> {
    let same = |given: &Schema| {
        given.fields().len() == schema.fields().len()
            && given.fields().iter().zip(schema.fields()).all(|(a, b)| a.data_type() == b.data_type())
    };
    if !same(batch.schema_ref()) {
        return Err(DataFusionError::Internal(format!(
            "a table gave {:?} where {schema:?} was promised",
            batch.schema()
        )));
    }
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(schema.clone(), batch.columns().to_vec(), &options)?)
}

pub(crate) fn external(fault: Fault) -> DataFusionError {
    DataFusionError::External(Box::new(fault))
}

/// What a condition says of the column of instants: least and greatest, in microseconds; none where it says nothing that
/// can be used.
fn bounds(filter: &Expr, time: &str) -> Option<(i64, i64)> {
    let is_time = |expr: &Expr| matches!(expr, Expr::Column(column) if column.name == time);
    match filter {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::And, right }) => {
            let (left, right) = (bounds(left, time), bounds(right, time));
            match (left, right) {
                (Some(a), Some(b)) => Some((a.0.max(b.0), a.1.min(b.1))),
                (one, other) => one.or(other),
            }
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            let (op, at) = if is_time(left) {
                (*op, instant(right)?)
            } else if is_time(right) {
                (op.swap()?, instant(left)?)
            } else {
                return None;
            };
            match op {
                Operator::Eq => Some(at),
                Operator::Lt | Operator::LtEq => Some((i64::MIN, at.1)),
                Operator::Gt | Operator::GtEq => Some((at.0, i64::MAX)),
                _ => None,
            }
        }
        Expr::Between(Between { expr, negated: false, low, high }) if is_time(expr) => {
            Some((instant(low)?.0, instant(high)?.1))
        }
        _ => None,
    }
}

/// The microseconds that a constant lies between: twice the same unless it is finer.
fn instant(expr: &Expr) -> Option<(i64, i64)> {
    let Expr::Literal(value, _) = expr else { return None };
    let exact = |micros: Option<i64>| micros.map(|at| (at, at));
    match value {
        ScalarValue::TimestampSecond(Some(at), _) => exact(at.checked_mul(1_000_000)),
        ScalarValue::TimestampMillisecond(Some(at), _) => exact(at.checked_mul(1_000)),
        ScalarValue::TimestampMicrosecond(Some(at), _) => exact(Some(*at)),
        ScalarValue::TimestampNanosecond(Some(at), _) => Some((at.div_euclid(1_000), at.div_euclid(1_000) + 1)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use datafusion::logical_expr::{col, lit};

    use super::*;

    fn at(micros: i64) -> Expr {
        lit(ScalarValue::TimestampMicrosecond(Some(micros), Some("UTC".into())))
    }

    #[test]
    fn bounds_are_read_from_both_sides_and_from_conjunctions() {
        assert_eq!(bounds(&col("t").gt_eq(at(5)), "t"), Some((5, i64::MAX)));
        assert_eq!(bounds(&at(5).gt(col("t")), "t"), Some((i64::MIN, 5)));
        assert_eq!(bounds(&col("t").gt(at(1)).and(col("t").lt(at(9))), "t"), Some((1, 9)));
        assert_eq!(bounds(&col("t").gt(at(1)).and(col("x").eq(lit(1))), "t"), Some((1, i64::MAX)));
        assert_eq!(bounds(&col("t").between(at(3), at(4)), "t"), Some((3, 4)));
        assert_eq!(bounds(&col("t").eq(lit(ScalarValue::TimestampNanosecond(Some(-1), None))), "t"), Some((-1, 0)));
    }

    #[test]
    fn what_says_nothing_about_the_column_narrows_nothing() {
        assert_eq!(bounds(&col("u").gt_eq(at(5)), "t"), None);
        assert_eq!(bounds(&col("t").not_eq(at(5)), "t"), None);
        assert_eq!(bounds(&col("t").gt(at(5)).or(col("x").eq(lit(1))), "t"), None);
        assert_eq!(bounds(&col("t").gt(col("u")), "t"), None);
    }
}
