use std::fs;

use domain::{Coded as _, ErrorCode, Field, Timestamp, ValueType};

use super::rig::{Rig, all, numbers, numbers_schema, values};
use crate::{StorageError, TimeRange, schema_of};

fn seconds(column: &str, from: i64, to: i64) -> Option<TimeRange> {
    let at = |s: i64| Timestamp::from_micros(s * 1_000_000);
    Some(TimeRange { column: column.into(), from: at(from), to: at(to) })
}

#[tokio::test]
async fn rows_come_back_in_order_from_log_segments_and_both() {
    let dir = tempfile::tempdir().unwrap();
    let expected: Vec<i64> = (0..60).collect();
    {
        let rig = Rig::open(dir.path()).await;
        let table = rig.numbers().await;
        assert_eq!((table.rows(), all(&table).await), (0, vec![]));
        table.append(numbers(0, 10)).await.unwrap();
        table.flush().await.unwrap();
        table.append(numbers(10, 11)).await.unwrap();
        table.append_soon(numbers(11, 30)).await.unwrap();
        table.flush().await.unwrap();
        table.flush().await.unwrap();
        table.append_soon(numbers(30, 60)).await.unwrap();
        table.append(numbers(0, 0)).await.unwrap();
        assert_eq!((table.rows(), all(&table).await), (60, expected.clone()));
    }
    let table = Rig::open(dir.path()).await.numbers().await;
    assert_eq!((table.rows(), all(&table).await), (60, expected));
}

#[tokio::test]
async fn the_snapshot_follows_content_and_not_where_rows_stand() {
    let (left, right) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let snapshot = {
        let (flushed, logged) = (Rig::open(left.path()).await, Rig::open(right.path()).await);
        let (flushed, logged) = (flushed.numbers().await, logged.numbers().await);
        assert_eq!(flushed.snapshot(), logged.snapshot());
        let mut seen = vec![flushed.snapshot()];
        for (from, to) in [(0, 5), (5, 6), (6, 20)] {
            flushed.append(numbers(from, to)).await.unwrap();
            logged.append_soon(numbers(from, to)).await.unwrap();
            assert!(!seen.contains(&flushed.snapshot()));
            seen.push(flushed.snapshot());
            flushed.flush().await.unwrap();
            assert_eq!(flushed.snapshot(), logged.snapshot());
        }
        flushed.snapshot()
    };
    assert_eq!(Rig::open(left.path()).await.numbers().await.snapshot(), snapshot);
    assert_eq!(Rig::open(right.path()).await.numbers().await.snapshot(), snapshot);
}

#[tokio::test]
async fn a_range_gives_exactly_its_rows_both_ends_included() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::open(dir.path()).await;
    let table = rig.numbers().await;
    for start in [0, 10, 20] {
        table.append(numbers(start, start + 10)).await.unwrap();
        table.flush().await.unwrap();
    }
    table.append(numbers(30, 40)).await.unwrap();
    let scan = async |from, to| values(&table.scan(seconds("at", from, to)).await.unwrap());
    let expected = |from, to| (from..=to).filter(|n| n % 5 != 4).collect::<Vec<i64>>();
    for (from, to) in [(0, 39), (8, 12), (10, 10), (25, 35), (-5, 3), (38, 99)] {
        assert_eq!(scan(from, to).await, expected(from.max(0), to.min(39)), "{from} to {to}");
    }
    assert_eq!(scan(12, 8).await, Vec::<i64>::new());
    assert_eq!(scan(40, 50).await, Vec::<i64>::new());
    for column in ["n", "nowhere"] {
        let refused = table.scan(seconds(column, 0, 1)).await.unwrap_err();
        assert_eq!(refused.code(), ErrorCode::InvalidArgument);
        assert!(refused.to_string().contains(column));
    }
}

#[tokio::test]
async fn segments_outside_a_range_are_not_even_read() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::open(dir.path()).await;
    let table = rig.numbers().await;
    table.append(numbers(0, 10)).await.unwrap();
    table.flush().await.unwrap();
    let digest: String = sqlx::query_scalar("SELECT digest FROM segments").fetch_one(rig.meta.reader()).await.unwrap();
    table.append(numbers(100, 110)).await.unwrap();
    table.flush().await.unwrap();
    rig.blobs.delete(&digest.parse().unwrap()).await.unwrap();
    assert_eq!(values(&table.scan(seconds("at", 100, 102)).await.unwrap()), [100, 101, 102]);
    assert!(matches!(table.scan(None).await, Err(StorageError::NoSuchBlob(_))));
}

#[tokio::test]
async fn a_long_log_becomes_a_segment_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::open(dir.path()).await;
    let table = rig.numbers().await;
    for part in 0..5 {
        table.append(numbers(part * 20_000, (part + 1) * 20_000)).await.unwrap();
    }
    let moved: i64 =
        sqlx::query_scalar("SELECT SUM(row_count) FROM segments").fetch_one(rig.meta.reader()).await.unwrap();
    assert_eq!(moved, 80_000);
    let logs = fs::read_dir(dir.path().join("wal/numbers")).unwrap().count();
    assert_eq!(logs, 1, "log files that a segment covers are removed");
    assert_eq!(all(&table).await, (0..100_000).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_and_flushes_side_by_side_lose_and_double_nothing() {
    let dir = tempfile::tempdir().unwrap();
    {
        let rig = Rig::open(dir.path()).await;
        let table = rig.numbers().await;
        let writers = (0..6_i64).map(|writer| {
            let table = table.clone();
            tokio::spawn(async move {
                for n in 0..40 {
                    let row = writer * 1_000 + n;
                    if n % 2 == 0 {
                        table.append(numbers(row, row + 1)).await.unwrap();
                    } else {
                        table.append_soon(numbers(row, row + 1)).await.unwrap();
                    }
                    if n % 10 == writer {
                        table.flush().await.unwrap();
                    }
                }
            })
        });
        for done in futures::future::join_all(writers).await {
            done.unwrap();
        }
        rig.tables.flush_all().await;
        check(&all(&table).await);
    }
    check(&all(&Rig::open(dir.path()).await.numbers().await).await);

    fn check(rows: &[i64]) {
        assert_eq!(rows.len(), 240);
        for writer in 0..6 {
            let own: Vec<_> = rows.iter().copied().filter(|row| row / 1_000 == writer).collect();
            assert_eq!(own, (0..40).map(|n| writer * 1_000 + n).collect::<Vec<_>>(), "each writer's order is kept");
        }
    }
}

#[tokio::test]
async fn other_columns_are_refused_by_table_and_rows() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::open(dir.path()).await;
    let table = rig.numbers().await;
    table.append(numbers(0, 3)).await.unwrap();
    let other = schema_of(&[
        Field::new("n", ValueType::Float),
        Field::new("at", ValueType::Timestamp),
        Field::new("word", ValueType::Text),
    ]);
    let refused = rig.tables.table("numbers", other.clone()).await.err().unwrap();
    assert_eq!(refused.code(), ErrorCode::Conflict);
    assert!(refused.to_string().contains("n int64 null"), "{refused}");
    let rows = arrow::array::RecordBatch::new_empty(other);
    assert!(matches!(table.append(rows).await, Err(StorageError::BadRows { .. })));
    let narrow = numbers(0, 1).project(&[0, 1]).unwrap();
    assert!(matches!(table.append(narrow).await, Err(StorageError::BadRows { .. })));
    assert_eq!(all(&table).await, [0, 1, 2]);
}

#[tokio::test]
async fn any_name_makes_its_own_table() {
    let dir = tempfile::tempdir().unwrap();
    let names = ["a", "A", "a.b", "a/b", "../a", ".", "..", "%61", "predictions/flight-delay"];
    {
        let rig = Rig::open(dir.path()).await;
        for (n, name) in (0..).zip(names) {
            let table = rig.tables.table(name, numbers_schema()).await.unwrap();
            table.append(numbers(n, n + 1)).await.unwrap();
        }
        for bad in [String::new(), "x".repeat(121), "X".repeat(100)] {
            assert!(matches!(rig.tables.table(&bad, numbers_schema()).await, Err(StorageError::BadTableName(_))));
        }
    }
    let rig = Rig::open(dir.path()).await;
    for (n, name) in (0..).zip(names) {
        assert_eq!(all(&rig.tables.table(name, numbers_schema()).await.unwrap()).await, [n], "{name}");
    }
}

#[tokio::test]
async fn a_directory_has_one_owner() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::open(dir.path()).await;
    let table = rig.numbers().await;
    let second = crate::Tables::open(rig.meta.clone(), rig.blobs.clone(), &dir.path().join("wal")).await;
    assert!(matches!(second, Err(StorageError::Locked(_))));
    let (meta, blobs) = (rig.meta.clone(), rig.blobs.clone());
    drop((rig, table));
    assert!(crate::Tables::open(meta, blobs, &dir.path().join("wal")).await.is_ok());
}
