use std::sync::Arc;

use arrow::{array::Float64Array, datatypes::Schema};
use domain::{Column, Field, Frame, Timestamp, ValueType};
use parquet::{arrow::arrow_reader::ParquetRecordBatchReaderBuilder, file::reader::ChunkReader as _};
use storage::{StorageError, Vault as _};

use super::rig::{HOUR, keep, kept, numbers, open, rows, upto};

#[tokio::test]
async fn rows_and_how_far_they_go_come_back_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let table = open(dir.path()).await;
    assert!(table.snapshot().is_none() && table.kept().await.unwrap().is_none());
    for (from, to) in [(0, 10), (10, 40), (40, 41)] {
        keep(&table, rows(from..to)).await.unwrap();
        for table in [&table, &open(dir.path()).await] {
            assert_eq!(numbers(table).await, upto(to));
            assert_eq!(table.kept().await.unwrap(), Some(kept(to as u64)));
            assert_eq!(table.snapshot().unwrap().rows(), to as u64);
        }
    }
}

#[tokio::test]
async fn a_checkpoint_keeps_what_the_commits_before_it_said() {
    let dir = tempfile::tempdir().unwrap();
    let table = open(dir.path()).await;
    for n in 0..12 {
        keep(&table, rows(n * 3..n * 3 + 3)).await.unwrap();
    }
    assert!(table.exists("_delta_log/00000000000000000009.checkpoint.parquet").await);
    let again = open(dir.path()).await;
    assert_eq!((numbers(&again).await, again.kept().await.unwrap()), (upto(36), Some(kept(36))));
    let file = &again.snapshot().unwrap().files().await.unwrap()[0];
    assert_eq!((file.rows, file.numbers, file.corrections), (3, Some((0, 2)), Some(0)));
}

#[tokio::test]
async fn keeping_again_what_is_kept_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let table = open(dir.path()).await;
    table.keep(&[rows(0..10)], kept(10)).await.unwrap();
    let version = table.snapshot().unwrap().version();
    table.keep(&[rows(0..10)], kept(10)).await.unwrap();
    assert_eq!((table.snapshot().unwrap().version(), numbers(&table).await), (version, upto(10)));
}

#[tokio::test]
async fn files_are_split_by_day_sorted_by_key_and_known_by_their_statistics() {
    let dir = tempfile::tempdir().unwrap();
    let table = open(dir.path()).await;
    keep(&table, rows(0..30)).await.unwrap();
    let snapshot = table.snapshot().unwrap();
    let files = snapshot.files().await.unwrap();
    let days: Vec<_> = files.iter().map(|file| file.day.as_deref().unwrap()).collect();
    assert_eq!(days, ["2024-01-01", "2024-01-02"]);
    let start = 1_704_067_200_000_000;
    // The last one is known to its millisecond.
    assert_eq!(files[1].times, Some((start + 24 * HOUR, start + 29 * HOUR + 999)));
    assert_eq!((files[1].rows, files[1].numbers), (6, Some((24, 29))));
    let opened = snapshot.open(&files[0]).unwrap();
    assert_eq!(opened.bytes(), files[0].bytes);
    assert_eq!(&opened.get_bytes(0, 4).unwrap()[..], b"PAR1");
    assert!(opened.get_bytes(files[0].bytes - 1, 2).is_err());
    let reader = ParquetRecordBatchReaderBuilder::try_new(opened).unwrap();
    let order = reader.metadata().row_group(0).sorting_columns().unwrap().len();
    assert_eq!(order, 3, "who, at, _row");
    let read = snapshot.read(&files[0], &snapshot.schema().unwrap()).await.unwrap();
    let who: Vec<String> = read
        .iter()
        .flat_map(|batch| {
            let who = arrow::array::AsArray::as_string::<i32>(batch.column_by_name("who").unwrap());
            who.iter().flatten().map(str::to_owned).collect::<Vec<_>>()
        })
        .collect();
    assert!(who.is_sorted() && who.len() == 24, "{who:?}");
}

#[tokio::test]
async fn a_range_of_time_reads_the_rows_inside_both_ends_included() {
    let dir = tempfile::tempdir().unwrap();
    let table = open(dir.path()).await;
    keep(&table, rows(0..100)).await.unwrap();
    let snapshot = table.snapshot().unwrap();
    let at = |hour: i64| 1_704_067_200_000_000 + hour * HOUR;
    assert_eq!(snapshot.files_within((at(24), at(47))).await.unwrap().len(), 1);
    let wanted = storage::schema_of(&[Field::new("_row", ValueType::Int)]);
    let found = snapshot.scan(&wanted, Some((at(20), at(30)))).await.unwrap();
    let count: usize = found.iter().map(arrow::array::RecordBatch::num_rows).sum();
    assert_eq!((count, found[0].num_columns()), (11, 1));
}

#[tokio::test]
async fn a_new_column_is_null_in_older_rows_and_a_changed_one_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let table = open(dir.path()).await;
    keep(&table, rows(0..5)).await.unwrap();
    let more = rows(5..10);
    let mut fields: Vec<_> = more.schema().fields().iter().map(|field| field.as_ref().clone()).collect();
    fields.insert(1, arrow::datatypes::Field::new("y", arrow::datatypes::DataType::Float64, true));
    let mut columns = more.columns().to_vec();
    columns.insert(1, Arc::new(Float64Array::from(vec![0.5; 5])));
    let more = arrow::array::RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap();
    keep(&table, more).await.unwrap();
    for table in [&table, &open(dir.path()).await] {
        let snapshot = table.snapshot().unwrap();
        let wanted = storage::schema_of(&[Field::new("y", ValueType::Float), Field::new("_row", ValueType::Int)]);
        let found = snapshot.scan(&wanted, None).await.unwrap();
        let nulls: usize = found.iter().map(|batch| batch.column(0).null_count()).sum();
        assert_eq!((nulls, numbers(table).await), (5, upto(10)));
    }
    let x = Frame::new([
        ("x".into(), Column::Int(vec![Some(1)])),
        ("at".into(), Column::Timestamp(vec![Some(Timestamp::from_micros(0))])),
        ("_row".into(), Column::Int(vec![Some(10)])),
        ("_replaces".into(), Column::Int(vec![None])),
    ]);
    let refused = keep(&table, storage::to_batch(&x.unwrap()).unwrap()).await.unwrap_err();
    assert!(matches!(refused, StorageError::SchemaMismatch { .. }), "{refused:?}");
    assert_eq!(numbers(&table).await, upto(10));
}

#[tokio::test]
async fn an_empty_table_takes_other_columns() {
    let dir = tempfile::tempdir().unwrap();
    let table = open(dir.path()).await;
    table.ensure(&rows(0..1).schema()).await.unwrap();
    let version = table.snapshot().unwrap().version();
    table.ensure(&rows(0..1).schema()).await.unwrap();
    assert_eq!(table.snapshot().unwrap().version(), version);
    let other = storage::schema_of(&[Field::new("at", ValueType::Timestamp), Field::new("x", ValueType::Text)]);
    table.ensure(&other).await.unwrap();
    assert_eq!(*open(dir.path()).await.snapshot().unwrap().schema().unwrap(), *other);
}

#[tokio::test]
async fn instants_that_no_calendar_names_lie_in_a_partition_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let table = open(dir.path()).await;
    let times = [i64::MIN, -62_135_596_800_000_001, 0, 253_402_300_800_000_000, i64::MAX];
    let frame = Frame::new([
        ("at".into(), Column::Timestamp(times.iter().map(|t| Some(Timestamp::from_micros(*t))).collect())),
        ("_row".into(), Column::Int((0..5).map(Some).collect())),
        ("_replaces".into(), Column::Int(vec![None; 5])),
    ]);
    keep(&table, storage::to_batch(&frame.unwrap()).unwrap()).await.unwrap();
    let table = open(dir.path()).await;
    assert_eq!(numbers(&table).await, upto(5));
    let snapshot = table.snapshot().unwrap();
    let wanted = storage::schema_of(&[Field::new("_row", ValueType::Int)]);
    for (range, count) in [((i64::MIN, -1), 2), ((i64::MAX, i64::MAX), 1), ((0, 0), 1)] {
        let found = snapshot.scan(&wanted, Some(range)).await.unwrap();
        assert_eq!(found.iter().map(arrow::array::RecordBatch::num_rows).sum::<usize>(), count, "{range:?}");
    }
}
