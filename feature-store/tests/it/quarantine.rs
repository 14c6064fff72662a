//! Rows set aside are kept, found, mended, replayed once and let go; columns that drift are told of once.

use std::{collections::BTreeSet, sync::Arc};

use bytes::Bytes;
use domain::{Coded as _, ErrorCode, EventKind, Value, ports::Features as _};
use feature_store::{
    Aside, DriftKind, Format, IngestReport, QuarantineFilter, QuarantineLimits, Quarantined, Reason, Replay,
    ReplayReport, Which,
};
use serde_json::{Map, Value as Json, json};
use storage::testing::{Faults, FaultyKv, When};
use tempfile::TempDir;

use crate::world::{World, cell, event, events, spine, t};

async fn world() -> World {
    let world = World::new().await;
    world.apply(&events()).await;
    world
}

fn source() -> domain::SourceName {
    "events".parse().unwrap()
}

async fn take(world: &World, format: Format, body: &str) -> IngestReport {
    world.store.ingest(&source(), format, Bytes::from(body.to_owned())).await.unwrap()
}

async fn aside(world: &World) -> Vec<Quarantined> {
    let mut rows = world.store.quarantined(&source(), 10_000).await.unwrap();
    rows.reverse();
    rows
}

fn ids(rows: &[Quarantined]) -> Which {
    Which::Rows(rows.iter().map(|row| row.id.clone()).collect())
}

fn object(json: &Json) -> Map<String, Json> {
    json.as_object().unwrap().clone()
}

async fn replay(world: &World, which: Which, patch: Json, instead: Option<Json>) -> ReplayReport {
    let replay = Replay { which, patch: object(&patch), instead: instead.as_ref().map(object) };
    world.store.replay(&source(), &replay, "ann").await.unwrap()
}

fn counts(report: &ReplayReport) -> [u64; 5] {
    [report.replayed, report.accepted, report.duplicates, report.corrections, report.still_bad]
}

async fn kinds(world: &World, kind: EventKind) -> Vec<Json> {
    let events = world.meta.journal().read(0, 1_000).await.unwrap();
    events.into_iter().filter(|event| event.kind == kind).map(|event| event.body).collect()
}

const BAD_CSV: &str =
    "id,who,at,x\n1,a,2024-01-01T00:00:01Z,fast\n2,a,2024-01-01T00:00:02Z,1.5\n3,a,2024-01-01T00:00:03Z,slow\n";

#[tokio::test]
async fn a_row_is_mended_by_a_patch_and_comes_in_once() {
    let world = world().await;
    take(&world, Format::Csv, BAD_CSV).await;
    let rows = aside(&world).await;
    assert_eq!(
        rows.iter().map(|row| (row.error.line, row.state, row.times)).collect::<Vec<_>>(),
        [(2, Aside::Waiting, 1), (4, Aside::Waiting, 1)]
    );
    // Unchanged it does not fit any better, and goes on waiting.
    let report = replay(&world, ids(&rows[..1]), json!({}), None).await;
    assert_eq!(counts(&report), [0, 0, 0, 0, 1]);
    assert_eq!((&report.first_errors[0].id, report.first_errors[0].error.line), (&rows[0].id, 2));
    let report = replay(&world, ids(&rows[..1]), json!({"x": 9}), None).await;
    assert_eq!(counts(&report), [1, 1, 0, 0, 0]);
    let settled = world.store.quarantined_row(&source(), &rows[0].id).await.unwrap();
    assert_eq!((settled.state, settled.settled_by.as_deref()), (Aside::Replayed, Some("ann")));
    assert_eq!(settled.raw, rows[0].raw, "what came is kept as it came");
    // Again: it is settled, and nothing happens.
    assert_eq!(replay(&world, ids(&rows[..1]), json!({"x": 10}), None).await, ReplayReport::default());
    // The same body again: the row that was replayed is known, and stays so.
    let again = take(&world, Format::Csv, BAD_CSV).await;
    assert_eq!((again.accepted, again.duplicates, again.quarantined), (0, 1, 2));
    let rows = aside(&world).await;
    assert_eq!(
        rows.iter().map(|row| (row.state, row.times)).collect::<Vec<_>>(),
        [(Aside::Replayed, 2), (Aside::Waiting, 2)]
    );
    assert_eq!(world.store.stats(&source()).unwrap().quarantined, 1);
    let (keys, at) = spine(&[(Some("a"), 1_000_000)]);
    let features = world.store.latest(&"all".parse().unwrap(), &keys, &at).await.unwrap();
    assert_eq!(cell(&features, "last__x", 0), Value::Float(9.0));
    assert_eq!(kinds(&world, EventKind::QuarantineReplayed).await, [json!({"rows": 1, "still_bad": 0})]);
}

#[tokio::test]
async fn a_row_is_replaced_as_a_whole_where_nothing_of_it_can_be_read() {
    let world = world().await;
    take(&world, Format::JsonLines, "{\"id\": 1\n").await;
    let rows = aside(&world).await;
    let good = event(1, "a", 1, 0.5);
    assert_eq!(counts(&replay(&world, ids(&rows), json!({}), Some(good.clone())).await), [1, 1, 0, 0, 0]);
    let wrong =
        Replay { which: Which::Waiting(QuarantineFilter::default()), patch: Map::new(), instead: Some(object(&good)) };
    let error = world.store.replay(&source(), &wrong, "ann").await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::InvalidArgument);
    let unknown = Replay { which: Which::Rows(BTreeSet::from(["beef".to_owned()])), patch: Map::new(), instead: None };
    let error = world.store.replay(&source(), &unknown, "ann").await.unwrap_err();
    assert_eq!(
        (error.code(), error.to_string().as_str()),
        (ErrorCode::NotFound, "quarantined row `beef` does not exist")
    );
}

#[tokio::test]
async fn all_rows_of_a_reason_are_replayed_after_the_definition_was_changed() {
    let world = world().await;
    let naive = "id,who,at\n1,a,2024-01-01T00:00:01\n2,a,2024-01-01T00:00:02\nx,a,2024-01-01T00:00:03\n";
    let report = take(&world, Format::Csv, naive).await;
    assert_eq!(report.reasons.into_iter().collect::<Vec<_>>(), [(Reason::WrongType, 1), (Reason::BadTime, 2)]);
    let mut definitions = events();
    definitions[1]["timezone"] = json!("Europe/Berlin");
    world.apply(&definitions).await;
    let filter = QuarantineFilter { reason: Some(Reason::BadTime), ..QuarantineFilter::default() };
    let report = replay(&world, Which::Waiting(filter.clone()), json!({}), None).await;
    assert_eq!(counts(&report), [2, 2, 0, 0, 0]);
    let waiting = QuarantineFilter { state: Some(Aside::Waiting), ..QuarantineFilter::default() };
    let left = world.store.quarantine(&source(), &waiting, 10).await.unwrap();
    assert_eq!(left.iter().map(|row| row.error.line).collect::<Vec<_>>(), [4]);
    assert_eq!(world.store.quarantine(&source(), &filter, 10).await.unwrap().len(), 2);
    let later =
        QuarantineFilter { from: Some(world.clock.advance("1s".parse().unwrap())), ..QuarantineFilter::default() };
    assert_eq!(world.store.quarantine(&source(), &later, 10).await.unwrap(), []);
    let state = world.store.ingestion(&source()).await.unwrap();
    assert_eq!((state.quarantined, state.reasons.into_iter().collect::<Vec<_>>()), (1, vec![(Reason::WrongType, 1)]));
}

#[tokio::test]
async fn late_rows_come_in_when_somebody_wants_them_and_future_ones_do_not() {
    let world = World::new().await;
    let mut definitions = events();
    definitions[1]["watermark"] = json!("10us");
    definitions[1]["max_future"] = json!("1h");
    world.apply(&definitions).await;
    let ahead = 400 * 86_400_000_000;
    let rows = vec![event(1, "a", 100, 1.0), event(2, "a", 10, 2.0), event(3, "a", ahead, 3.0)];
    assert_eq!(world.put("events", rows).await.quarantined, 2);
    let report = replay(&world, Which::Waiting(QuarantineFilter::default()), json!({}), None).await;
    assert_eq!(counts(&report), [1, 1, 0, 0, 1]);
    let state = world.store.ingestion(&source()).await.unwrap();
    assert_eq!((state.event_time.newest, state.quarantined), (Some(t(100)), 1));
    assert_eq!(world.store.discard(&source(), &Which::Waiting(QuarantineFilter::default()), "bob").await.unwrap(), 1);
    assert_eq!(world.store.discard(&source(), &Which::Waiting(QuarantineFilter::default()), "bob").await.unwrap(), 0);
    assert_eq!(
        aside(&world).await.iter().map(|row| row.state).collect::<Vec<_>>(),
        [Aside::Replayed, Aside::Discarded]
    );
    assert_eq!(kinds(&world, EventKind::QuarantineDiscarded).await, [json!({"rows": 1})]);
}

#[tokio::test]
async fn a_replay_that_fails_anywhere_is_finished_by_another_and_the_row_is_there_once() {
    let mut failures = 0;
    // Opening makes three calls.
    for n in 4..15 {
        for when in [When::Before, When::After] {
            let dir = Arc::new(TempDir::new().unwrap());
            let world = World::open(dir.clone()).await;
            world.apply(&events()).await;
            take(&world, Format::Csv, BAD_CSV).await;
            drop(world);
            let faults = Faults::nth(n, when);
            let world = World::open_with(dir.clone(), |kv| Arc::new(FaultyKv::new(kv, faults))).await;
            let wanted = Replay {
                which: Which::Waiting(QuarantineFilter::default()),
                patch: object(&json!({"x": "7"})),
                instead: None,
            };
            failures += u32::from(world.store.replay(&source(), &wanted, "ann").await.is_err());
            let world = world.reopen().await;
            let report = world.store.replay(&source(), &wanted, "ann").await.unwrap();
            assert_eq!(report.still_bad, 0);
            assert_eq!(world.store.stats(&source()).unwrap().rows, 3, "fault {n} {when:?}: {report:?}");
            assert!(aside(&world).await.iter().all(|row| row.state == Aside::Replayed));
        }
    }
    assert!(failures >= 2, "the faults were met: {failures}");
}

#[tokio::test]
async fn a_full_quarantine_lets_the_oldest_go_settled_ones_first_and_counts_them() {
    let dir = Arc::new(TempDir::new().unwrap());
    let limits = QuarantineLimits { rows_max: 3, keep: "1d".parse().unwrap() };
    let world = World::open_limited(dir, limits).await;
    world.apply(&events()).await;
    let bad = |from: i64, to: i64| (from..to).map(|n| json!({"id": format!("bad {n}")})).collect::<Vec<_>>();
    let report = world.put("events", bad(0, 2)).await;
    assert_eq!((report.quarantined, report.dropped), (2, 0));
    let rows = aside(&world).await;
    world.store.discard(&source(), &ids(&rows[1..]), "bob").await.unwrap();
    let report = world.put("events", bad(2, 4)).await;
    assert_eq!((report.quarantined, report.dropped), (2, 0), "the settled one went");
    let report = world.put("events", bad(4, 6)).await;
    assert_eq!((report.quarantined, report.dropped), (2, 2));
    let left: Vec<String> = aside(&world).await.into_iter().map(|row| row.raw).collect();
    assert_eq!(left, bad(3, 6).iter().map(Json::to_string).collect::<Vec<_>>());
    let report = world.put("events", bad(10, 20)).await;
    assert_eq!((report.quarantined, report.dropped), (10, 10));
    world.clock.advance("2d".parse().unwrap());
    world.put("events", bad(30, 31)).await;
    assert_eq!(aside(&world).await.len(), 1, "what is too old goes");
}

#[tokio::test]
async fn a_row_too_long_to_keep_whole_is_cut_and_needs_another_in_its_place() {
    let world = world().await;
    let long = json!({"id": "no number", "note": "n".repeat(100_000), "who": "nul \0 byte"});
    world.put("events", vec![long]).await;
    let rows = aside(&world).await;
    assert!(!rows[0].whole && rows[0].raw.len() == 64 << 10);
    assert_eq!(counts(&replay(&world, ids(&rows), json!({"id": 1}), None).await), [0, 0, 0, 0, 1]);
    assert_eq!(counts(&replay(&world, ids(&rows), json!({}), Some(event(1, "a", 1, 1.0))).await), [1, 1, 0, 0, 0]);
}

#[tokio::test]
async fn a_new_column_is_left_out_told_of_once_and_forgotten_when_it_is_declared() {
    let world = world().await;
    let with = |id: i64| {
        let mut row = event(id, "a", id, 1.0);
        row["firmware_build"] = json!("7.1");
        row
    };
    let report = world.put("events", vec![with(1), with(2), event(3, "a", 3, 1.0)]).await;
    assert_eq!((report.accepted, report.quarantined), (3, 0));
    assert_eq!(
        (report.drift[0].column.as_str(), report.drift[0].kind, report.drift[0].rows),
        ("firmware_build", DriftKind::Unknown, 2)
    );
    world.put("events", vec![with(4)]).await;
    let world = world.reopen().await;
    world.put("events", vec![with(5)]).await;
    let drift = world.store.drift(&source()).await.unwrap();
    assert_eq!(drift.len(), 1);
    assert!(drift[0].seen.rows >= 3, "{drift:?}");
    let told = kinds(&world, EventKind::SourceDrifted).await;
    assert_eq!(told, [json!({"columns": [{"column": "firmware_build", "kind": "unknown", "rows": 2}]})]);
    let mut definitions = events();
    definitions[1]["columns"].as_array_mut().unwrap().push(json!({"name": "firmware_build", "type": "text"}));
    world.apply(&definitions).await;
    assert_eq!(world.store.drift(&source()).await.unwrap(), []);
    assert_eq!(world.put("events", vec![with(6)]).await.drift, []);
}

#[tokio::test]
async fn a_file_whose_columns_came_and_went_is_taken_for_what_it_has() {
    let world = world().await;
    let report = take(&world, Format::Csv, "id,who,at,colour_code\n1,a,2024-01-01T00:00:01Z,red\n").await;
    assert_eq!((report.accepted, report.quarantined), (1, 0));
    let seen: Vec<(&str, DriftKind)> = report.drift.iter().map(|d| (d.column.as_str(), d.kind)).collect();
    let missing = DriftKind::Missing;
    assert_eq!(
        seen,
        [("colour_code", DriftKind::Unknown), ("note", missing), ("ok", missing), ("written", missing), ("x", missing)]
    );
}

#[tokio::test]
async fn a_column_whose_type_changed_is_told_of_and_a_few_bad_cells_are_not() {
    let world = world().await;
    let rows = |bad: i64, good: i64| {
        let wrong = (0..bad).map(|n| json!({"id": n, "at": t(n), "x": {"value": n}}));
        wrong.chain((0..good).map(|n| event(100 + n, "a", n, 1.0))).collect::<Vec<_>>()
    };
    assert_eq!(world.put("events", rows(3, 50)).await.drift, []);
    let report = world.put("events", rows(40, 10)).await;
    assert_eq!(
        (report.drift[0].column.as_str(), report.drift[0].kind, report.drift[0].rows),
        ("x", DriftKind::WrongType, 40)
    );
}
