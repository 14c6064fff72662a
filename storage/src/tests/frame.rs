use std::sync::Arc;

use arrow::{
    array::{
        ArrayRef, DictionaryArray, Float32Array, Int32Array, LargeStringArray, RecordBatch, TimestampMillisecondArray,
        TimestampNanosecondArray, UInt64Array,
    },
    datatypes::{DataType, Int32Type, TimeUnit},
};
use bytes::Bytes;
use domain::{Coded as _, Column, ErrorCode, Frame, Timestamp, Value};
use proptest::{collection::vec, option, prelude::*};

use crate::{StorageError, from_batches, from_parquet, schema_of, segment, to_batch, to_parquet};

fn column(rows: usize) -> impl Strategy<Value = Column> {
    prop_oneof![
        vec(option::of(any::<bool>()), rows).prop_map(Column::Bool),
        vec(option::of(any::<i64>()), rows).prop_map(Column::Int),
        vec(option::of(-1e300..1e300_f64), rows).prop_map(Column::Float),
        vec(option::of(".{0,12}".prop_map(Arc::from)), rows).prop_map(Column::Text),
        vec(option::of(any::<i64>().prop_map(Timestamp::from_micros)), rows).prop_map(Column::Timestamp),
    ]
}

fn frame() -> impl Strategy<Value = Frame> {
    (0_usize..40, 1_usize..6).prop_flat_map(|(rows, width)| {
        vec(column(rows), width).prop_map(|columns| {
            let named = columns.into_iter().enumerate().map(|(i, c)| (format!("c{i}").into(), c));
            Frame::new(named).unwrap()
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 128,
        rng_seed: proptest::test_runner::RngSeed::Fixed(7),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_frame_comes_back_from_parquet_as_it_was(frame in frame()) {
        let bytes = to_parquet(&frame).unwrap();
        prop_assert_eq!(&bytes, &to_parquet(&frame).unwrap());
        prop_assert_eq!(from_parquet(bytes).unwrap(), frame);
    }

    #[test]
    fn a_frame_comes_back_from_its_batches_in_order(frame in frame(), cut in 0_usize..40) {
        let batch = to_batch(&frame).unwrap();
        let schema = schema_of(&frame.fields());
        prop_assert_eq!(&batch.schema(), &schema);
        let cut = cut.min(frame.rows());
        let parts = [batch.slice(0, cut), batch.slice(cut, frame.rows() - cut)];
        prop_assert_eq!(from_batches(&schema, &parts).unwrap(), frame);
    }
}

#[test]
fn rows_without_columns_keep_their_count() {
    let frame = Frame::of_rows(3);
    let batch = to_batch(&frame).unwrap();
    assert_eq!(from_batches(&batch.schema(), std::slice::from_ref(&batch)).unwrap().rows(), 3);
}

fn foreign(columns: Vec<(&str, ArrayRef)>) -> Result<Frame, StorageError> {
    from_parquet(segment::encode(&RecordBatch::try_from_iter(columns).unwrap()).unwrap())
}

#[test]
fn foreign_columns_are_widened_without_loss() {
    let codes: DictionaryArray<Int32Type> = ["AA", "UA", "AA"].into_iter().collect();
    let at = TimestampMillisecondArray::from(vec![Some(1_500), None, Some(-1)]).with_timezone("America/New_York");
    let frame = foreign(vec![
        ("i", Arc::new(Int32Array::from(vec![Some(1), None, Some(-7)]))),
        ("f", Arc::new(Float32Array::from(vec![0.5, 1.5, -2.0]))),
        ("s", Arc::new(LargeStringArray::from(vec![Some("a"), None, Some("")]))),
        ("d", Arc::new(codes)),
        ("at", Arc::new(at)),
    ])
    .unwrap();
    let row = |n| frame.iter().map(|(_, c)| c.get(n)).collect::<Vec<_>>();
    let time = |us| Value::Timestamp(Timestamp::from_micros(us));
    assert_eq!(row(0)[..2], [Value::Int(1), Value::Float(0.5)]);
    assert_eq!(row(0)[2..], [Value::Text("a".into()), Value::Text("AA".into()), time(1_500_000)]);
    assert_eq!(row(1), [Value::Null, Value::Float(1.5), Value::Null, Value::Text("UA".into()), Value::Null]);
    assert_eq!(row(2)[4], time(-1_000));
}

#[test]
fn what_cannot_be_read_without_loss_is_refused_by_name() {
    let cases: Vec<(ArrayRef, &str)> = vec![
        (Arc::new(UInt64Array::from(vec![u64::MAX])), "int"),
        (Arc::new(TimestampNanosecondArray::from(vec![1_000])), "a timestamp with a zone"),
        (arrow::array::new_null_array(&DataType::Time64(TimeUnit::Microsecond), 1), "bool, int"),
    ];
    for (array, reason) in cases {
        let refused = foreign(vec![("odd", array)]).unwrap_err();
        assert_eq!(refused.code(), ErrorCode::InvalidArgument);
        let text = refused.to_string();
        assert!(text.contains("`odd`") && text.contains(reason), "{text}");
    }
}

#[test]
fn bytes_that_are_not_parquet_are_the_callers_fault() {
    let whole = to_parquet(&Frame::new([("a".into(), Column::Int(vec![Some(1); 100]))]).unwrap()).unwrap();
    for bytes in [Bytes::new(), Bytes::from_static(b"PAR1 not really PAR1"), whole.slice(..whole.len() - 9)] {
        assert!(matches!(from_parquet(bytes), Err(StorageError::BadParquet(_))));
    }
}
