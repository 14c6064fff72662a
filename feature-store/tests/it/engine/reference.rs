//! The reference, straight from `point-in-time.md`, and how its rows become Arrow columns and Parquet files.

use std::{collections::HashSet, sync::Arc};

use arrow::{
    array::{
        Array as _, ArrayRef, AsArray as _, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
        TimestampMillisecondArray, TimestampNanosecondArray, TimestampSecondArray,
    },
    compute::{cast, concat_batches},
    datatypes::{DataType, Int64Type, TimeUnit},
};
use bytes::Bytes;
use feature_store::join::{Feature, Join, JoinError, JoinKey, JoinView, Mode, Options, Part, Sequence, Spine};
use parquet::{
    arrow::ArrowWriter,
    file::properties::{EnabledStatistics, WriterProperties},
};

pub const UNITS: [TimeUnit; 4] = [TimeUnit::Second, TimeUnit::Millisecond, TimeUnit::Microsecond, TimeUnit::Nanosecond];

pub fn tick(unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::Second => 1_000_000_000,
        TimeUnit::Millisecond => 1_000_000,
        TimeUnit::Microsecond => 1_000,
        TimeUnit::Nanosecond => 1,
    }
}

/// A row of a view. Instants are ticks of the view's unit.
#[derive(Debug, Clone)]
pub struct Row {
    pub a: Option<i64>,
    pub b: Option<&'static str>,
    pub at: Option<i64>,
    pub created: Option<i64>,
    pub x: Option<i64>,
}

/// A row of the spine.
#[derive(Debug, Clone)]
pub struct Question {
    pub a: Option<i64>,
    pub b: Option<&'static str>,
    pub at: Option<i64>,
}

/// A view and how it is asked.
#[derive(Debug, Clone)]
pub struct View {
    pub rows: Vec<Row>,
    pub unit: TimeUnit,
    pub created_unit: TimeUnit,
    pub both_keys: bool,
    pub a_type: DataType,
    pub b_type: DataType,
    pub ttl: i64,
    pub known: bool,
    pub has_created: bool,
    /// The rows' numbers, and which count: the first so many, without some.
    pub numbers: Option<(Vec<i64>, Option<i64>, HashSet<i64>)>,
    /// Where parts end, and whether each is a file; files have row groups of so many rows.
    pub cuts: Vec<(usize, bool)>,
    pub group_rows: usize,
    pub statistics: EnabledStatistics,
}

fn nanos(t: i64, unit: TimeUnit) -> i128 {
    i128::from(t) * i128::from(tick(unit))
}

/// The newest row that counts, whatever its age, then the same within the time to live.
pub fn answer<'a>(view: &'a View, question: &Question, unit: TimeUnit) -> (Option<&'a Row>, Option<&'a Row>) {
    let Some(at) = question.at.map(|at| nanos(at, unit)) else { return (None, None) };
    let equal = |row: &Row| {
        let a = row.a.is_some() && row.a == question.a;
        a && (!view.both_keys || (row.b.is_some() && row.b == question.b))
    };
    let counts = |place: usize| {
        view.numbers.as_ref().is_none_or(|(numbers, below, replaced)| {
            below.is_none_or(|below| numbers[place] < below) && !replaced.contains(&numbers[place])
        })
    };
    let created = |row: &Row| row.created.filter(|_| view.has_created).map(|c| nanos(c, view.created_unit));
    let candidates = view.rows.iter().enumerate().filter(|(place, row)| {
        let happened = row.at.is_some_and(|t| nanos(t, view.unit) <= at);
        let known = !view.known || created(row).is_some_and(|created| created <= at);
        equal(row) && happened && known && counts(*place)
    });
    let rank = |(place, row): &(usize, &Row)| {
        (row.at, created(row), view.numbers.as_ref().map(|(numbers, ..)| numbers[*place]), *place)
    };
    let newest = candidates.max_by_key(rank).map(|(_, row)| row);
    let young = |row: &&Row| {
        let age = at - row.at.map_or(at, |t| nanos(t, view.unit));
        view.ttl == 0 || age <= i128::from(view.ttl) * 1_000
    };
    (newest, newest.filter(young))
}

pub fn times(values: impl Iterator<Item = Option<i64>>, unit: TimeUnit, zone: Option<&str>) -> ArrayRef {
    let zone: Option<Arc<str>> = zone.map(Into::into);
    let values: Vec<Option<i64>> = values.collect();
    match unit {
        TimeUnit::Second => Arc::new(TimestampSecondArray::from(values).with_timezone_opt(zone)),
        TimeUnit::Millisecond => Arc::new(TimestampMillisecondArray::from(values).with_timezone_opt(zone)),
        TimeUnit::Microsecond => Arc::new(TimestampMicrosecondArray::from(values).with_timezone_opt(zone)),
        TimeUnit::Nanosecond => Arc::new(TimestampNanosecondArray::from(values).with_timezone_opt(zone)),
    }
}

pub fn numbers(values: impl Iterator<Item = Option<i64>>, data_type: &DataType) -> ArrayRef {
    cast(&Int64Array::from_iter(values), data_type).unwrap()
}

pub fn texts<'a>(values: impl Iterator<Item = Option<&'a str>>, data_type: &DataType) -> ArrayRef {
    cast(&StringArray::from_iter(values), data_type).unwrap()
}

/// The batch as a Parquet file in memory.
pub fn file(batch: &RecordBatch, group_rows: usize, statistics: EnabledStatistics) -> Bytes {
    let properties = WriterProperties::builder()
        .set_max_row_group_row_count(Some(group_rows))
        .set_data_page_row_count_limit(2)
        .set_write_batch_size(2)
        .set_statistics_enabled(statistics)
        .build();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties)).unwrap();
    writer.write(batch).unwrap();
    writer.into_inner().unwrap().into()
}

impl View {
    fn batch(&self) -> RecordBatch {
        let rows = &self.rows;
        let numbered = self.numbers.as_ref().map(|(numbers, ..)| numbers.clone()).unwrap_or(vec![0; rows.len()]);
        RecordBatch::try_from_iter_with_nullable([
            ("x", numbers(rows.iter().map(|row| row.x), &DataType::Int64), true),
            ("key_b", texts(rows.iter().map(|row| row.b), &self.b_type), true),
            ("t", times(rows.iter().map(|row| row.at), self.unit, None), true),
            ("number", numbers(numbered.into_iter().map(Some), &DataType::Int32), true),
            ("c", times(rows.iter().map(|row| row.created), self.created_unit, Some("+02:00")), true),
            ("key_a", numbers(rows.iter().map(|row| row.a), &self.a_type), true),
        ])
        .unwrap()
    }

    /// The view as the engine takes it, its columns named after `name`.
    pub fn asked(&self, name: &str) -> JoinView {
        let batch = self.batch();
        let mut ends: Vec<(usize, bool)> =
            self.cuts.iter().map(|(end, file)| (*end % (batch.num_rows() + 1), *file)).collect();
        ends.push((batch.num_rows(), true));
        ends.sort_unstable();
        let mut first = 0;
        let mut parts = Vec::new();
        for (end, is_file) in ends {
            let part = batch.slice(first, end - first);
            first = end;
            parts.push(if is_file {
                Part::parquet(name, Arc::new(file(&part, self.group_rows, self.statistics))).unwrap()
            } else {
                part.into()
            });
        }
        let key = |spine: &str, view: &str| JoinKey { spine: spine.into(), view: view.into() };
        let mut keys = vec![key("a", "key_a")];
        keys.extend(self.both_keys.then(|| key("b", "key_b")));
        let feature =
            |column: &str| Feature { column: column.into(), name: format!("{name}__{column}"), data_type: None };
        JoinView {
            name: name.into(),
            parts,
            keys,
            timestamp: "t".into(),
            created: self.has_created.then(|| "c".into()),
            sequence: self.numbers.as_ref().map(|(_, below, replaced)| Sequence {
                column: "number".into(),
                below: *below,
                replaced: Arc::new(replaced.clone()),
            }),
            ttl_micros: self.ttl,
            mode: if self.known { Mode::Known } else { Mode::Plain },
            features: vec![feature("x"), feature("key_b")],
            newest: Some(format!("{name}__at")),
        }
    }
}

/// The questions as a batch; `tag` numbers them.
pub fn spine(questions: &[Question], unit: TimeUnit, first: i64) -> RecordBatch {
    let tags = (first..).take(questions.len()).map(Some);
    RecordBatch::try_from_iter_with_nullable([
        ("at", times(questions.iter().map(|q| q.at), unit, Some("UTC")), true),
        ("tag", numbers(tags, &DataType::Int64), true),
        ("a", numbers(questions.iter().map(|q| q.a), &DataType::Int64), true),
        ("b", texts(questions.iter().map(|q| q.b), &DataType::Utf8), true),
    ])
    .unwrap()
}

/// All joined rows as one batch.
pub fn joined(spine: Vec<Part>, views: Vec<JoinView>, options: Options) -> Result<RecordBatch, JoinError> {
    let join = Join::new(Spine { parts: spine, timestamp: "at".into() }, views, options)?;
    let schema = join.schema();
    let batches = join.run().collect::<Result<Vec<_>, _>>()?;
    Ok(concat_batches(&schema, &batches).unwrap())
}

/// A column of whole numbers or instants, as it is.
pub fn column(batch: &RecordBatch, name: &str) -> Vec<Option<i64>> {
    let array = cast(batch.column_by_name(name).unwrap(), &DataType::Int64).unwrap();
    array.as_primitive::<Int64Type>().iter().collect()
}

/// A column of text.
pub fn text(batch: &RecordBatch, name: &str) -> Vec<Option<String>> {
    let array = cast(batch.column_by_name(name).unwrap(), &DataType::Utf8).unwrap();
    assert_eq!(array.len(), batch.num_rows());
    array.as_string::<i32>().iter().map(|text| text.map(str::to_owned)).collect()
}
