//! Features of any type, and parts that differ.

use std::sync::Arc;

use arrow::{
    array::{
        Array as _, ArrayRef, AsArray as _, DictionaryArray, FixedSizeListArray, Int32Array, Int64Array, ListArray,
        RecordBatch, StringArray, StructArray,
    },
    compute::take,
    datatypes::{DataType, Field, Float32Type, Int8Type, TimeUnit},
};
use feature_store::join::{Feature, JoinKey, JoinView, Mode, Options, Part};
use parquet::file::properties::EnabledStatistics;

use super::reference::{column, file, joined, text, times};

fn keys(rows: usize) -> ArrayRef {
    Arc::new((0..rows as i64).map(Some).collect::<Int64Array>())
}

fn at(rows: usize, at: i64) -> ArrayRef {
    times((0..rows).map(|_| Some(at)), TimeUnit::Microsecond, None)
}

fn view(parts: Vec<Part>, columns: &[&str]) -> JoinView {
    let feature = |column: &&str| Feature { column: (*column).into(), name: format!("v__{column}"), data_type: None };
    JoinView {
        name: "v".into(),
        parts,
        keys: vec![JoinKey::same("k")],
        timestamp: "t".into(),
        created: None,
        sequence: None,
        ttl_micros: 0,
        mode: Mode::Plain,
        features: columns.iter().map(feature).collect(),
        newest: None,
    }
}

/// Every kind of column, 6 rows each with nulls.
fn every_kind() -> Vec<(&'static str, ArrayRef)> {
    let list = [Some(vec![Some(1.0), None]), None, Some(vec![]), Some(vec![Some(2.0)]), None, Some(vec![Some(3.0); 9])];
    let vector = (0..6).map(|n| (n != 2).then(|| vec![Some(n as f32), Some(0.5)]));
    let words: DictionaryArray<Int8Type> =
        vec![Some("red"), None, Some("blue"), Some("red"), Some("green"), None].into_iter().collect();
    let inner: ArrayRef = Arc::new(Int32Array::from(vec![Some(1), None, Some(3), Some(4), Some(5), Some(6)]));
    vec![
        ("list", Arc::new(ListArray::from_iter_primitive::<Float32Type, _, _>(list))),
        ("vector", Arc::new(FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>(vector, 2))),
        ("word", Arc::new(words)),
        ("pair", Arc::new(StructArray::from(vec![(Arc::new(Field::new("n", DataType::Int32, true)), inner)]))),
        (
            "text",
            Arc::new(StringArray::from(vec![
                Some("a"),
                Some(""),
                None,
                Some("long enough to matter"),
                None,
                Some("é"),
            ])),
        ),
    ]
}

#[test]
fn features_of_every_kind_come_through_memory_files_and_temporary_files() {
    let kinds = every_kind();
    let names: Vec<&str> = kinds.iter().map(|(name, _)| *name).collect();
    let mut columns = vec![("k", keys(6), true), ("t", at(6, 1), true)];
    columns.extend(kinds.iter().map(|(name, array)| (*name, array.clone(), true)));
    let rows = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
    // Asked in another order, some twice, some unknown.
    let asked: Vec<i64> = (0..200).map(|n| n * 7 % 8).collect();
    let spine =
        RecordBatch::try_from_iter([("k", Arc::new(Int64Array::from(asked.clone())) as ArrayRef), ("at", at(200, 5))])
            .unwrap();
    let known = asked.iter().map(|k| if *k < 6 { Some(*k as i32) } else { None });
    let places: Int32Array = known.collect();
    for memory_bytes in [1 << 30, 55_000, 0] {
        for parquet in [false, true] {
            let part = if parquet {
                Part::parquet("rows", Arc::new(file(&rows, 4, EnabledStatistics::None))).unwrap()
            } else {
                rows.clone().into()
            };
            let options = Options { memory_bytes, ..Options::default() };
            let found = joined(vec![spine.clone().into()], vec![view(vec![part], &names)], options).unwrap();
            for (name, array) in &kinds {
                let found = found.column_by_name(&format!("v__{name}")).unwrap();
                let expected = take(array, &places, None).unwrap();
                let words = DataType::Dictionary(DataType::Int32.into(), DataType::Utf8.into());
                assert_eq!(found.data_type(), if *name == "word" { &words } else { expected.data_type() });
                for row in 0..200 {
                    let [found, expected] = [found, &expected]
                        .map(|array| arrow::util::display::array_value_to_string(array, row).unwrap());
                    assert_eq!(found, expected, "{name}, row {row}, {memory_bytes} bytes, parquet {parquet}");
                }
            }
        }
    }
}

#[test]
fn a_part_without_a_column_has_nulls_and_another_width_is_converted() {
    let narrow: ArrayRef = Arc::new(Int32Array::from(vec![10, 11, 12]));
    let old = RecordBatch::try_from_iter([("k", keys(3)), ("t", at(3, 1)), ("x", narrow)]).unwrap();
    let wide: ArrayRef = Arc::new(Int64Array::from(vec![20]));
    let note: ArrayRef = Arc::new(StringArray::from(vec!["new"]));
    let new = RecordBatch::try_from_iter([("x", wide), ("note", note), ("t", at(1, 2)), ("k", keys(1))]).unwrap();
    let parts: Vec<Part> = vec![old.into(), new.into()];
    let only = view(parts.clone(), &["note"]);
    let mut view = view(parts, &["x", "note"]);
    view.features[0].data_type = Some(DataType::Int64);
    let spine = RecordBatch::try_from_iter([("k", keys(3)), ("at", at(3, 5))]).unwrap();
    let found = joined(vec![spine.clone().into()], vec![view], Options::default()).unwrap();
    assert_eq!(column(&found, "v__x"), [Some(20), Some(11), Some(12)]);
    let notes = [Some("new".into()), None, None];
    assert_eq!(text(&found, "v__note"), notes);
    // Nothing at all is read of the first part then.
    let alone = joined(vec![spine.into()], vec![only], Options::default()).unwrap();
    assert_eq!(text(&alone, "v__note"), notes);
}

#[test]
fn a_value_that_does_not_fit_the_wanted_type_is_an_error_not_a_null() {
    let wide: ArrayRef = Arc::new(Int64Array::from(vec![i64::MAX]));
    let rows = RecordBatch::try_from_iter([("k", keys(1)), ("t", at(1, 1)), ("x", wide)]).unwrap();
    let mut view = view(vec![rows.into()], &["x"]);
    view.features[0].data_type = Some(DataType::Int8);
    let spine = RecordBatch::try_from_iter([("k", keys(1)), ("at", at(1, 5))]).unwrap();
    let error = joined(vec![spine.into()], vec![view], Options::default()).unwrap_err().to_string();
    assert!(error.starts_with("could not put together the columns of view `v`: "), "{error}");
}

#[test]
fn spine_columns_pass_through_untouched() {
    let kinds = every_kind();
    let mut columns = vec![("k", keys(6), true), ("at", at(6, 5), true)];
    columns.extend(kinds.iter().map(|(name, array)| (*name, array.clone(), true)));
    let spine = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
    let rows = RecordBatch::try_from_iter([("k", keys(2)), ("t", at(2, 1))]).unwrap();
    let options = Options { batch_rows: 4, ..Options::default() };
    let found = joined(vec![spine.clone().into()], vec![view(vec![rows.into()], &[])], options).unwrap();
    assert_eq!(found, spine);
    assert_eq!(found.column(2).as_list::<i32>().null_count(), 2);
}
