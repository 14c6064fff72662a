//! What becomes of rows that are wrong, repeated, late or in another zone.

use bytes::Bytes;
use domain::{Coded as _, Column, ErrorCode, Frame, Value, ports::Features as _};
use feature_store::{Format, IngestReport, Reason, RowError};
use serde_json::json;

use crate::world::{World, cell, event, events, objects, spine, t};

async fn world() -> World {
    let world = World::new().await;
    world.apply(&events()).await;
    world
}

async fn csv(world: &World, text: &str) -> IngestReport {
    let body = Bytes::from(text.to_owned());
    world.store.ingest(&"events".parse().unwrap(), Format::Csv, body).await.unwrap()
}

fn at_fault(line: u64, column: &str, code: Reason, reason: &str) -> RowError {
    RowError { line, column: Some(column.into()), code, reason: reason.into() }
}

#[tokio::test]
async fn a_row_that_does_not_fit_is_set_aside_with_its_line_and_the_rest_is_taken() {
    let world = world().await;
    let body = "\u{feff}id,who,at,x,ok\n\
        1,a,2024-01-01T00:00:01Z,1.5,true\n\
        2,a,2024-01-01T00:00:02Z,fast,true\n\
        3,a,2024-01-01T00:00:03,1,true\n\
        4,a,,1,true\n\
        ,a,2024-01-01T00:00:05Z,1,true\n\
        6,a,2024-01-01T00:00:06Z\n\
        7,\"a\nb\",2024-01-01T00:00:07+02:00,NaN,true\n\
        8,a,2024-01-01T00:00:08Z,2e9,\n\
        9,a,2024-01-01T00:00:09Z,NA,\n";
    let report = csv(&world, body).await;
    assert_eq!((report.accepted, report.duplicates, report.quarantined), (2, 0, 7));
    let expected = [
        at_fault(3, "x", Reason::WrongType, "expected float, found `fast`"),
        at_fault(
            4,
            "at",
            Reason::BadTime,
            "timestamp `2024-01-01T00:00:03` has no zone: write an offset, as in `2024-01-01T00:00:03Z` or `2024-01-01T00:00:03-05:00`",
        ),
        at_fault(5, "at", Reason::Missing, "the event time is missing"),
        at_fault(6, "id", Reason::Missing, "a required value is missing"),
        RowError { line: 7, column: None, code: Reason::Malformed, reason: "expected 5 fields, found 3".into() },
        at_fault(8, "x", Reason::NotFinite, "NaN is not a finite number"),
        at_fault(10, "x", Reason::OutOfRange, "2000000000.0 is outside ±1e9, the range of exact sums"),
    ];
    assert_eq!(report.first_errors, expected);
    let kept = world.store.quarantined(&"events".parse().unwrap(), 100).await.unwrap();
    assert_eq!(kept.iter().map(|row| row.error.clone()).rev().collect::<Vec<_>>(), expected);
    assert_eq!(
        kept[6].raw,
        json!({"id": "2", "who": "a", "at": "2024-01-01T00:00:02Z", "x": "fast", "ok": "true"}).to_string()
    );
    assert_eq!(kept[2].raw, json!(["6", "a", "2024-01-01T00:00:06Z"]).to_string());
    assert_eq!(kept[0].at, world.clock.now());
    assert_eq!(world.store.quarantined(&"events".parse().unwrap(), 2).await.unwrap(), kept[..2]);
    let (keys, at) = spine(&[(Some("a"), 9_000_000)]);
    let features = world.store.latest(&"all".parse().unwrap(), &keys, &at).await.unwrap();
    assert_eq!(cell(&features, "last__id", 0), Value::Int(9));
}

#[tokio::test]
async fn a_header_that_does_not_fit_is_refused_as_a_whole() {
    let world = world().await;
    for (body, message, hint) in [
        ("id,at,whom\n1,2024-01-01T00:00:01Z,a\n", "unknown column `whom`", "did you mean `who`?"),
        ("id,who\n1,a\n", "required column `at` is missing", ""),
        ("who,at\na,2024-01-01T00:00:01Z\n", "required column `id` is missing", ""),
        ("id,at,id\n1,2024-01-01T00:00:01Z,1\n", "column `id` stands twice", ""),
        ("", "the header line is missing", ""),
    ] {
        let body = Bytes::from_static(body.as_bytes());
        let error = world.store.ingest(&"events".parse().unwrap(), Format::Csv, body).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidArgument);
        assert_eq!(error.to_string(), format!("cannot ingest into source `events`: {message}"));
        assert_eq!(error.hint(), hint);
    }
    let error = world.store.ingest_rows(&"event".parse().unwrap(), Vec::new()).await.unwrap_err();
    assert_eq!((error.code(), error.hint().as_str()), (ErrorCode::NotFound, "did you mean `events`?"));
    assert_eq!(world.store.stats(&"events".parse().unwrap()).unwrap().rows, 0);
}

#[tokio::test]
async fn json_lines_are_taken_line_by_line() {
    let world = world().await;
    let good = event(1, "a", 1, 0.5).to_string();
    let body = format!("{good}\n\n{{\"id\": 2\n[1]\n{{\"id\": 3, \"when\": 1}}\n{}\n", json!({"id": "4", "at": t(4)}));
    let report = world.store.ingest(&"events".parse().unwrap(), Format::JsonLines, body.into()).await.unwrap();
    assert_eq!((report.accepted, report.quarantined), (1, 4));
    let lines: Vec<u64> = report.first_errors.iter().map(|error| error.line).collect();
    assert_eq!(lines, [3, 4, 5, 6]);
    let reasons: Vec<&str> = report.first_errors.iter().map(|error| error.reason.as_str()).collect();
    assert!(reasons[0].starts_with("not JSON: "), "{reasons:?}");
    assert_eq!(
        reasons[1..],
        ["expected a JSON object", "unknown column `when`, did you mean `who`?", "expected int, found text \"4\""]
    );
}

#[tokio::test]
async fn parquet_rows_are_taken_by_name_and_type() {
    let world = world().await;
    let frame = Frame::new([
        ("x".into(), Column::Int(vec![Some(3), None, Some(4)])),
        ("at".into(), Column::Timestamp(vec![Some(t(1)), None, Some(t(2))])),
        ("id".into(), Column::Int(vec![Some(1), Some(2), Some(3)])),
        ("who".into(), Column::Text(vec![Some("a".into()); 3])),
    ]);
    let body = storage::to_parquet(&frame.unwrap()).unwrap();
    let report = world.store.ingest(&"events".parse().unwrap(), Format::Parquet, body).await.unwrap();
    assert_eq!((report.accepted, report.quarantined), (2, 1));
    assert_eq!(report.first_errors, [at_fault(2, "at", Reason::Missing, "the event time is missing")]);
    let (keys, at) = spine(&[(Some("a"), 2)]);
    let features = world.store.latest(&"all".parse().unwrap(), &keys, &at).await.unwrap();
    assert_eq!(cell(&features, "win__sum", 0), Value::Float(7.0));
    let wrong = Frame::new([
        ("id".into(), Column::Text(vec![Some("1".into())])),
        ("at".into(), Column::Timestamp(vec![Some(t(1))])),
    ]);
    for (body, message) in [
        (storage::to_parquet(&wrong.unwrap()).unwrap(), "column `id` is text where int is needed"),
        (Bytes::from_static(b"PAR1 or not"), "not a readable Parquet file"),
    ] {
        let error = world.store.ingest(&"events".parse().unwrap(), Format::Parquet, body).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidArgument);
        assert!(error.to_string().contains(message), "{error}");
    }
}

#[tokio::test]
async fn a_declared_zone_is_applied_to_times_written_without_one() {
    let world = World::new().await;
    let mut definitions = events();
    definitions[1]["timezone"] = json!("America/New_York");
    world.apply(&definitions).await;
    let report =
        csv(&world, "id,who,at\n1,a,2024-01-01T07:00:00\n2,b,2024-07-01T08:00:00\n3,c,2024-01-01T12:00:00Z\n").await;
    assert_eq!((report.accepted, report.quarantined), (3, 0));
    let (keys, _) = spine(&[(Some("a"), 0), (Some("b"), 0), (Some("c"), 0)]);
    let at = ["2024-01-01T12:00:00Z", "2024-07-01T12:00:00Z", "2024-01-01T12:00:00Z"].map(|at| at.parse().unwrap());
    let answer = world.store.online(&"all".parse().unwrap(), &keys, &at).await.unwrap();
    assert_eq!(answer.meta[3].event_times, at.map(Some));
}

#[tokio::test]
async fn rows_that_come_again_are_skipped_and_rows_that_differ_are_corrections() {
    let world = world().await;
    let rows = || vec![event(1, "a", 1, 1.0), event(2, "a", 2, 2.0), event(1, "a", 1, 1.0)];
    let first = world.put("events", rows()).await;
    assert_eq!((first.accepted, first.duplicates, first.corrections), (2, 1, 0));
    let again = world.put("events", rows()).await;
    assert_eq!((again.accepted, again.duplicates, again.corrections), (0, 3, 0));
    let mended = world.put("events", vec![event(2, "a", 2, 5.0), event(2, "a", 2, 6.0), event(2, "a", 3, 7.0)]).await;
    assert_eq!((mended.accepted, mended.duplicates, mended.corrections), (3, 0, 2));
    let (keys, at) = spine(&[(Some("a"), 3)]);
    let features = world.store.latest(&"all".parse().unwrap(), &keys, &at).await.unwrap();
    assert_eq!(cell(&features, "win__sum", 0), Value::Float(14.0));
    assert_eq!(features, world.store.as_of(&"all".parse().unwrap(), &keys, &at).await.unwrap());
}

#[tokio::test]
async fn a_late_row_never_hides_a_newer_one() {
    let world = world().await;
    world.put("events", vec![event(1, "a", 50, 1.0)]).await;
    world.put("events", vec![event(2, "a", 40, 2.0)]).await;
    let (keys, at) = spine(&[(Some("a"), 55), (Some("a"), 45)]);
    let features = world.store.latest(&"all".parse().unwrap(), &keys, &at).await.unwrap();
    assert_eq!([0, 1].map(|row| cell(&features, "last__id", row)), [1, 2].map(Value::Int));
    assert_eq!([0, 1].map(|row| cell(&features, "win__sum", row)), [3.0, 2.0].map(Value::Float));
}

#[tokio::test]
async fn a_key_too_long_to_store_is_set_aside_and_one_in_a_question_finds_nothing() {
    let world = world().await;
    let long = "k".repeat(1_025);
    let report = world.put("events", vec![event(1, &long, 1, 1.0)]).await;
    assert_eq!(
        report.first_errors,
        [at_fault(1, "who", Reason::KeyTooLong, "a key of 1025 bytes is longer than 1024")]
    );
    let huge = "k".repeat(100_000);
    let (keys, at) = spine(&[(Some(&huge), 1)]);
    let features = world.store.latest(&"all".parse().unwrap(), &keys, &at).await.unwrap();
    assert_eq!(features, world.store.as_of(&"all".parse().unwrap(), &keys, &at).await.unwrap());
}

#[tokio::test]
async fn writers_of_one_source_take_turns() {
    let world = world().await;
    let source = "events".parse().unwrap();
    let calls = (0..8).map(|call| {
        let rows = (0..50).map(|n| event(call * 25 + n, "a", call * 25 + n, 1.0)).collect();
        world.store.ingest_rows(&source, objects(rows))
    });
    let reports = futures::future::try_join_all(calls).await.unwrap();
    // Neighbouring calls share half their rows; each row is taken exactly once.
    assert_eq!(reports.iter().map(|report| report.accepted).sum::<u64>(), 225);
    assert_eq!(reports.iter().map(|report| report.duplicates).sum::<u64>(), 175);
    let (keys, at) = spine(&[(Some("a"), 500), (Some("a"), 224)]);
    let features = world.store.latest(&"all".parse().unwrap(), &keys, &at).await.unwrap();
    assert_eq!(cell(&features, "win__count", 1), Value::Int(25));
    assert_eq!(features, world.store.as_of(&"all".parse().unwrap(), &keys, &at).await.unwrap());
}
