//! Edges by hand: what a reader of the contract would try first.

use arrow::{
    array::{ArrayRef, BooleanArray, Date32Array, Float64Array, Int64Array, RecordBatch, StringArray, UInt64Array},
    datatypes::{DataType, TimeUnit},
};
use feature_store::join::{Feature, JoinKey, JoinView, Mode, Options};
use std::sync::Arc;

use super::reference::{column, joined, numbers, times};

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true))).unwrap()
}

fn ints(values: &[i64]) -> ArrayRef {
    Arc::new(Int64Array::from(values.to_vec()))
}

fn micros(values: &[i64]) -> ArrayRef {
    times(values.iter().copied().map(Some), TimeUnit::Microsecond, Some("UTC"))
}

fn view(rows: RecordBatch) -> JoinView {
    JoinView {
        name: "v".into(),
        parts: vec![rows.into()],
        keys: vec![JoinKey::same("k")],
        timestamp: "t".into(),
        created: None,
        sequence: None,
        ttl_micros: 0,
        mode: Mode::Plain,
        features: vec![Feature { column: "x".into(), name: "v__x".into(), data_type: None }],
        newest: None,
    }
}

fn asked(keys: ArrayRef, at: ArrayRef) -> RecordBatch {
    batch(vec![("k", keys), ("at", at)])
}

fn answers(keys: ArrayRef, at: ArrayRef, view: JoinView) -> Vec<Option<i64>> {
    column(&joined(vec![asked(keys, at).into()], vec![view], Options::default()).unwrap(), "v__x")
}

#[test]
fn exactly_the_time_to_live_counts_and_a_microsecond_more_does_not() {
    let rows = batch(vec![("k", ints(&[1])), ("t", micros(&[100])), ("x", ints(&[7]))]);
    let view = JoinView { ttl_micros: 30, ..view(rows) };
    let found = answers(ints(&[1, 1, 1, 1]), micros(&[99, 100, 130, 131]), view);
    assert_eq!(found, [None, Some(7), Some(7), None]);
}

#[test]
fn among_equal_times_the_latest_created_wins_then_the_last_ingested() {
    let created = times([Some(5), None, Some(9), Some(9), Some(1)].into_iter(), TimeUnit::Millisecond, None);
    let rows = batch(vec![
        ("k", ints(&[1, 1, 1, 1, 1])),
        ("t", micros(&[10, 10, 10, 10, 10])),
        ("c", created),
        ("x", ints(&[0, 1, 2, 3, 4])),
    ]);
    let without = answers(ints(&[1]), micros(&[10]), view(rows.clone()));
    assert_eq!(without, [Some(4)], "without times of creation the last one counts");
    let with = JoinView { created: Some("c".into()), ..view(rows) };
    assert_eq!(answers(ints(&[1]), micros(&[10]), with), [Some(3)]);
}

#[test]
fn what_was_written_later_was_not_known() {
    let rows = batch(vec![
        ("k", ints(&[1, 1, 1])),
        ("t", micros(&[10, 20, 30])),
        ("c", times([Some(15), Some(50), None].into_iter(), TimeUnit::Microsecond, None)),
        ("x", ints(&[1, 2, 3])),
    ]);
    let known = JoinView { created: Some("c".into()), mode: Mode::Known, ..view(rows) };
    let found = answers(ints(&[1; 5]), micros(&[14, 15, 49, 50, 99]), known);
    assert_eq!(found, [None, Some(1), Some(1), Some(2), Some(2)]);
}

#[test]
fn a_null_of_the_chosen_row_stays_null() {
    let x = numbers([Some(1), None].into_iter(), &DataType::Int64);
    let rows = batch(vec![("k", ints(&[1, 1])), ("t", micros(&[10, 20])), ("x", x)]);
    assert_eq!(answers(ints(&[1, 1]), micros(&[15, 25]), view(rows)), [Some(1), None]);
}

#[test]
fn questions_come_out_once_each_in_their_order() {
    let rows = batch(vec![("k", ints(&[1, 2])), ("t", micros(&[10, 10])), ("x", ints(&[1, 2]))]);
    let found = answers(ints(&[2, 1, 2, 2, 9, 1]), micros(&[50, 40, 50, 9, 50, 10]), view(rows));
    assert_eq!(found, [Some(2), Some(1), Some(2), None, None, Some(1)]);
}

#[test]
fn keys_are_equal_by_value_whatever_their_types() {
    let pairs: Vec<(ArrayRef, ArrayRef)> = vec![
        (numbers([Some(-1), Some(3)].into_iter(), &DataType::Int16), ints(&[-1, 3])),
        (Arc::new(UInt64Array::from(vec![1, 3])), ints(&[1, 3])),
        (ints(&[1, 3]), Arc::new(UInt64Array::from(vec![1, 3]))),
        (Arc::new(StringArray::from(vec!["", "b"])), Arc::new(StringArray::from(vec!["", "b"]))),
        (Arc::new(BooleanArray::from(vec![false, true])), Arc::new(BooleanArray::from(vec![false, true]))),
        (Arc::new(Float64Array::from(vec![0.5, 1.5])), Arc::new(Float64Array::from(vec![0.5, 1.5]))),
        (Arc::new(Date32Array::from(vec![-1, 9])), Arc::new(Date32Array::from(vec![-1, 9]))),
        (
            times([Some(-1), Some(9)].into_iter(), TimeUnit::Second, None),
            times([Some(-1_000_000), Some(9_000_000)].into_iter(), TimeUnit::Microsecond, None),
        ),
    ];
    for (asked, stored) in pairs {
        let types = format!("{} and {}", asked.data_type(), stored.data_type());
        let rows = batch(vec![("k", stored), ("t", micros(&[10, 10])), ("x", ints(&[1, 2]))]);
        assert_eq!(answers(asked, micros(&[50, 50]), view(rows)), [Some(1), Some(2)], "{types}");
    }
}

#[test]
fn a_negative_key_is_not_the_unsigned_one_with_its_bits() {
    let rows = |keys: ArrayRef| batch(vec![("k", keys), ("t", micros(&[10])), ("x", ints(&[1]))]);
    let large: ArrayRef = Arc::new(UInt64Array::from(vec![u64::MAX]));
    assert_eq!(answers(ints(&[-1]), micros(&[50]), view(rows(large.clone()))), [None]);
    assert_eq!(answers(large.clone(), micros(&[50]), view(rows(ints(&[-1])))), [None]);
    assert_eq!(answers(large.clone(), micros(&[50]), view(rows(large))), [Some(1)]);
}

#[test]
fn an_instant_between_two_ticks_equals_neither() {
    let seconds = times([Some(1), Some(2)].into_iter(), TimeUnit::Second, None);
    let millis = times([Some(1_001), Some(2_000)].into_iter(), TimeUnit::Millisecond, None);
    let rows = batch(vec![("k", millis), ("t", micros(&[10, 10])), ("x", ints(&[1, 2]))]);
    assert_eq!(answers(seconds, micros(&[50, 50]), view(rows)), [None, Some(2)]);
}

#[test]
fn a_view_without_keys_is_one_history() {
    let rows = batch(vec![("t", micros(&[10, 20])), ("x", ints(&[1, 2]))]);
    let view = JoinView { keys: Vec::new(), ..view(rows) };
    assert_eq!(answers(ints(&[1, 2, 3]), micros(&[5, 15, 25]), view), [None, Some(1), Some(2)]);
}

#[test]
fn nothing_asked_and_nothing_known_are_fine() {
    let none = batch(vec![("k", ints(&[])), ("t", micros(&[])), ("x", ints(&[]))]);
    assert_eq!(answers(ints(&[]), micros(&[]), view(none.clone())), []);
    assert_eq!(answers(ints(&[1]), micros(&[1]), view(none.clone())), [None]);
    let typed = Feature { column: "x".into(), name: "v__x".into(), data_type: Some(DataType::Int64) };
    let no_parts = JoinView { parts: Vec::new(), features: vec![typed], ..view(none) };
    assert_eq!(answers(ints(&[1]), micros(&[1]), no_parts), [None]);
}

#[test]
fn what_cannot_be_joined_is_refused_with_the_column_and_the_table() {
    let rows = batch(vec![("k", ints(&[1])), ("t", micros(&[1])), ("x", ints(&[1])), ("c", micros(&[1]))]);
    let refused = |view: JoinView| {
        let spine = asked(ints(&[1]), micros(&[1]));
        joined(vec![spine.into()], vec![view], Options::default()).unwrap_err().to_string()
    };
    let feature = |column: &str, name: &str| Feature { column: column.into(), name: name.into(), data_type: None };
    let text: ArrayRef = Arc::new(StringArray::from(vec!["1"]));
    let texts = batch(vec![("k", text), ("t", micros(&[1])), ("x", ints(&[1]))]);
    for (view, reason) in [
        (view(texts), "column `k` of view `v` is Utf8, what the spine has (Int64) is needed"),
        (
            JoinView { timestamp: "x".into(), ..view(rows.clone()) },
            "column `x` of view `v` is Int64, a timestamp is needed",
        ),
        (JoinView { timestamp: "no".into(), ..view(rows.clone()) }, "view `v` has no column `no`"),
        (JoinView { keys: vec![JoinKey::same("no")], ..view(rows.clone()) }, "the spine has no column `no`"),
        (JoinView { features: vec![feature("no", "y")], ..view(rows.clone()) }, "view `v` has no column `no`"),
        (JoinView { features: vec![feature("x", "k")], ..view(rows.clone()) }, "column `k` would come out twice"),
        (JoinView { mode: Mode::Known, ..view(rows) }, "view `v` needs a column `created` for mode `known`"),
    ] {
        assert_eq!(refused(view), reason);
    }
}
