//! Answers on their way back: batches in any order become columns in the questions' order.

use std::sync::Arc;

use arrow::{array::RecordBatch, compute::cast, error::ArrowError};
use domain::{Column, Field, Frame, Timestamp, Value, ValueType};
use spark::{Session, SparkError};

use crate::{
    answer::Newest,
    error::{Doing as _, FeatureError},
    offline::pick,
    table::{corrupt, ints},
    view::ViewPlan,
};

/// The name of the answer's column number `at`.
pub(super) fn feature(at: usize) -> String {
    format!("f{at}")
}

/// All batches of the query `n, t, f0..`, under the types that are wanted.
pub(super) async fn fetch(session: &mut Session, sql: &str, kinds: &[ValueType]) -> Result<Frame, FeatureError> {
    let mut fields = vec![Field::new("n", ValueType::Int), Field::new("t", ValueType::Int)];
    fields.extend(kinds.iter().enumerate().map(|(at, kind)| Field::new(feature(at), *kind)));
    let schema = storage::schema_of(&fields);
    let found = batches(session, sql).await?;
    let batches = found.into_iter().map(|batch| {
        if batch.num_columns() != schema.fields().len() {
            return Err(corrupt(format!("Spark answered {} columns", batch.num_columns())));
        }
        let columns =
            batch.columns().iter().zip(schema.fields()).map(|(column, field)| cast(column, field.data_type()));
        let columns = columns.collect::<Result<Vec<_>, ArrowError>>();
        columns.and_then(|columns| RecordBatch::try_new(schema.clone(), columns)).map_err(|e| corrupt(e.to_string()))
    });
    let batches = batches.collect::<Result<Vec<_>, _>>()?;
    storage::from_batches(&schema, &batches).doing("read an answer of Spark")
}

/// All batches of a query.
pub(super) async fn batches(session: &mut Session, sql: &str) -> Result<Vec<RecordBatch>, SparkError> {
    let mut rows = session.query(sql).await?;
    let mut all = Vec::new();
    while let Some(batch) = rows.next().await? {
        all.push(batch);
    }
    Ok(all)
}

/// Where in an answer each question's row stands.
pub(super) struct Places(Vec<Option<usize>>);

impl Places {
    /// # Errors
    /// When the answer names a question twice, or one that nobody asked.
    pub(super) fn of(answer: &Frame, questions: usize) -> Result<Self, FeatureError> {
        let mut places = vec![None; questions];
        for (row, number) in ints(answer, "n")?.iter().enumerate() {
            let number = number.and_then(|number| usize::try_from(number).ok());
            match number.and_then(|number| places.get_mut(number)) {
                Some(place @ None) => *place = Some(row),
                Some(Some(_)) => return Err(corrupt("Spark answered a question twice".into())),
                None => return Err(corrupt("Spark answered what nobody asked".into())),
            }
        }
        Ok(Self(places))
    }

    /// The newest row's time for each question, from the answer's column `t`.
    pub(super) fn newest(
        &self,
        view: &ViewPlan,
        at: &[Timestamp],
        answer: &Frame,
    ) -> Result<Vec<Newest>, FeatureError> {
        let times = ints(answer, "t")?;
        let newest = self.0.iter().zip(at).map(|(place, at)| match place.and_then(|row| times[row]) {
            None => Newest::Nothing,
            Some(time) => {
                let time = Timestamp::from_micros(time);
                if view.in_time(time, *at) { Newest::At(time) } else { Newest::TooOld(time) }
            }
        });
        Ok(newest.collect())
    }

    /// A column of the answer in the questions' order; `default` where no row is in time.
    pub(super) fn pick(&self, column: &Column, newest: &[Newest], default: &Value) -> Column {
        let rows = self.0.iter().zip(newest).map(|(place, newest)| place.filter(|_| matches!(newest, Newest::At(_))));
        pick(column, rows, default)
    }

    /// The place of each question's row.
    pub(super) fn iter(&self) -> impl Iterator<Item = Option<usize>> + '_ {
        self.0.iter().copied()
    }
}

/// The array of a batch's column under its own type.
pub(super) fn array<'a, T: 'static>(
    batch: &'a RecordBatch,
    name: &str,
    down: impl Fn(&'a Arc<dyn arrow::array::Array>) -> Option<&'a T>,
) -> Result<&'a T, FeatureError> {
    let column = batch.column_by_name(name).and_then(down);
    column.ok_or_else(|| corrupt(format!("Spark answered without a fitting column {name}")))
}
