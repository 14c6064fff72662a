//! Watermarks, late rows and rows from the future, against a naive reading that takes one row at a time.

use std::collections::{BTreeMap, BTreeSet};

use domain::{Timestamp, Value};
use feature_store::{IngestReport, Reason, Stretch};
use proptest::{prelude::*, test_runner::RngSeed};
use serde_json::{Value as Json, json};

use crate::world::{World, event, events, parsed, t};

const WATERMARK: i64 = 10;
const LATENESS: i64 = 5;
/// The clock of a world says 2024-06-01; instants of these tests begin with that year.
const NOW: i64 = 152 * 86_400_000_000;

/// `events` with bounds on event time.
fn bounded() -> Vec<Json> {
    let mut definitions = events();
    definitions[1]["watermark"] = json!(format!("{WATERMARK}us"));
    definitions[1]["allowed_lateness"] = json!(format!("{LATENESS}us"));
    definitions[1]["max_future"] = json!("1h");
    definitions
}

/// One row as it is sent: id, event time, value.
type Sent = (i64, i64, i64);

/// What became of each row, told by reading one after the other.
#[derive(Debug, Default, PartialEq)]
struct Naive {
    newest: Option<i64>,
    rows: BTreeMap<(i64, i64), i64>,
    accepted: u64,
    duplicates: u64,
    late: BTreeSet<Sent>,
    late_count: u64,
}

impl Naive {
    fn take(&mut self, (id, at, x): Sent) {
        if self.rows.get(&(id, at)) == Some(&x) {
            self.duplicates += 1;
        } else if self.newest.is_some_and(|newest| at < newest - WATERMARK - LATENESS) {
            self.late.insert((id, at, x));
            self.late_count += 1;
        } else {
            self.rows.insert((id, at), x);
            self.newest = Some(self.newest.map_or(at, |newest| newest.max(at)));
            self.accepted += 1;
        }
    }
}

fn row(sent: Sent) -> Json {
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    event(sent.0, "a", sent.1, sent.2 as f64)
}

async fn stored(world: &World) -> BTreeMap<(i64, i64), i64> {
    let columns: Vec<String> = ["id", "at", "x"].map(str::to_owned).to_vec();
    let frame = world.store.rows(&"events".parse().unwrap(), &columns, Stretch::default()).await.unwrap();
    let cell = |name: &str, row: usize| frame.require(name).unwrap().get(row);
    (0..frame.rows())
        .map(|row| match (cell("id", row), cell("at", row), cell("x", row)) {
            #[expect(clippy::cast_possible_truncation, reason = "small numbers")]
            (Value::Int(id), Value::Timestamp(at), Value::Float(x)) => ((id, at.micros() - t(0).micros()), x as i64),
            other => panic!("{other:?}"),
        })
        .collect()
}

/// The late rows that wait, by what they say.
async fn late(world: &World) -> BTreeSet<Sent> {
    let aside = world.store.quarantined(&"events".parse().unwrap(), 10_000).await.unwrap();
    aside
        .iter()
        .map(|row| {
            assert_eq!(row.error.code, Reason::Late);
            let raw: Json = serde_json::from_str(&row.raw).unwrap();
            let at: Timestamp = raw["at"].as_str().unwrap().parse().unwrap();
            #[expect(clippy::cast_possible_truncation, reason = "small numbers")]
            let x = raw["x"].as_f64().unwrap() as i64;
            (raw["id"].as_i64().unwrap(), at.micros() - t(0).micros(), x)
        })
        .collect()
}

/// Sends the rows in calls of these lengths, the last length again and again.
async fn sent(world: &World, rows: &[Sent], cuts: &[usize]) -> IngestReport {
    let mut total = IngestReport::default();
    let (mut rest, mut cuts) = (rows, cuts.iter().copied().chain(std::iter::repeat(7)));
    while !rest.is_empty() {
        let (now, later) = rest.split_at(cuts.next().unwrap_or(1).clamp(1, rest.len()));
        total.add(world.put("events", now.iter().copied().map(row).collect()).await);
        rest = later;
    }
    total
}

async fn agrees(rows: &[Sent], cuts: &[usize], again: bool) -> Result<(), TestCaseError> {
    let world = World::new().await;
    world.apply(&bounded()).await;
    let mut naive = Naive::default();
    rows.iter().for_each(|row| naive.take(*row));
    let report = sent(&world, rows, cuts).await;
    prop_assert_eq!(
        (report.accepted, report.duplicates, report.quarantined),
        (naive.accepted, naive.duplicates, naive.late_count)
    );
    prop_assert_eq!(report.reasons.get(&Reason::Late).copied().unwrap_or(0), naive.late_count);
    prop_assert_eq!(&stored(&world).await, &naive.rows);
    prop_assert_eq!(&late(&world).await, &naive.late);
    let state = world.store.ingestion(&"events".parse().unwrap()).await.unwrap();
    prop_assert_eq!(state.event_time.newest, naive.newest.map(t));
    prop_assert_eq!(state.event_time.watermark, naive.newest.map(|newest| t(newest - WATERMARK)));
    if again {
        // All of it once more, after a restart: nothing new, and the same rows late.
        let world = world.reopen().await;
        let state = world.store.ingestion(&"events".parse().unwrap()).await.unwrap();
        prop_assert_eq!(state.event_time.newest, naive.newest.map(t));
        rows.iter().for_each(|row| naive.take(*row));
        sent(&world, rows, cuts).await;
        prop_assert_eq!(&stored(&world).await, &naive.rows);
        prop_assert_eq!(&late(&world).await, &naive.late);
    }
    Ok(())
}

fn rows() -> impl Strategy<Value = Vec<Sent>> {
    // Time moves on, with jumps back and forth; few ids and values, so that rows repeat and correct each other. Some
    // instants lie before 1970.
    let one = (0..4i64, -30..30i64, 0..2i64);
    let start = prop_oneof![Just(0), Just(-t(0).micros() - 20)];
    (start, prop::collection::vec(one, 1..60)).prop_map(|(start, rows)| {
        let place = |n: usize| i64::try_from(n).unwrap_or(0);
        rows.into_iter().enumerate().map(|(n, (id, jump, x))| (id, start + (place(n) + jump) / 4 * 4, x)).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, rng_seed: RngSeed::Fixed(20), ..ProptestConfig::default() })]

    #[test]
    fn rows_are_late_by_what_came_before_them_however_they_are_cut_into_calls(
        rows in rows(), cuts in prop::collection::vec(1..20usize, 0..6), again in any::<bool>()
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(agrees(&rows, &cuts, again))?;
    }

    #[test]
    fn rows_no_further_out_of_order_than_is_declared_are_all_taken_in_any_order(
        order in prop::collection::vec(0..=(WATERMARK + LATENESS), 40), cuts in prop::collection::vec(1..20usize, 0..6)
    ) {
        // Each row is delayed by at most the bound: sorted by when it arrives.
        let mut rows: Vec<(i64, Sent)> = order.iter().zip(0..).map(|(delay, n)| (n + delay, (n, n, 1))).collect();
        rows.sort_by_key(|(arrives, _)| *arrives);
        let rows: Vec<Sent> = rows.into_iter().map(|(_, row)| row).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let world = World::new().await;
            world.apply(&bounded()).await;
            let report = sent(&world, &rows, &cuts).await;
            prop_assert_eq!((report.accepted, report.quarantined), (40, 0));
            Ok(())
        })?;
    }
}

#[tokio::test]
async fn a_clock_that_runs_ahead_is_set_aside_and_makes_nothing_late() {
    let world = World::new().await;
    world.apply(&bounded()).await;
    let hour = 3_600_000_000;
    let report = world
        .put("events", vec![event(1, "a", NOW, 1.0), event(2, "a", NOW + hour + 1, 1.0), event(3, "a", NOW - 15, 1.0)])
        .await;
    assert_eq!((report.accepted, report.quarantined), (2, 1));
    assert_eq!((report.first_errors[0].line, report.first_errors[0].code), (2, Reason::Future));
    assert_eq!(
        report.first_errors[0].reason,
        "2024-06-01T01:00:00.000001Z lies more than 1h ahead of the clock, which says 2024-06-01T00:00:00Z"
    );
    let state = world.store.ingestion(&"events".parse().unwrap()).await.unwrap();
    assert_eq!(state.event_time.newest, Some(t(NOW)));
    assert_eq!(state.event_time.future_after, Some(t(NOW + hour)));
    // An hour ahead is as far as may be. Once the clock has come so far, the row itself is taken too.
    assert_eq!(world.put("events", vec![event(4, "a", NOW + hour, 1.0)]).await.accepted, 1);
    world.clock.advance("1s".parse().unwrap());
    assert_eq!(world.put("events", vec![event(2, "a", NOW + hour + 1, 1.0)]).await.accepted, 1);
}

#[tokio::test]
async fn a_future_row_taken_before_the_bound_was_declared_does_not_make_everything_late() {
    let world = World::new().await;
    world.apply(&events()).await;
    world.put("events", vec![event(1, "a", NOW * 3, 1.0)]).await;
    let mut definitions = bounded();
    definitions[1]["watermark"] = json!("2h");
    world.store.apply(&parsed(&definitions), "test").await.unwrap();
    let report = world.put("events", vec![event(2, "a", NOW, 1.0), event(1, "a", NOW * 3, 1.0)]).await;
    assert_eq!((report.accepted, report.duplicates, report.quarantined), (1, 1, 0), "{report:?}");
}

#[tokio::test]
async fn late_rows_of_a_declared_zone_are_late_by_their_instant() {
    let world = World::new().await;
    let mut definitions = bounded();
    definitions[1]["timezone"] = json!("America/New_York");
    definitions[1]["watermark"] = json!("30m");
    definitions[1]["allowed_lateness"] = json!("0s");
    world.apply(&definitions).await;
    // The clocks went forward on 10 March 2024 at 02:00: from 01:45 to 03:10 are 25 minutes, and to 03:20 are 35.
    let body = "id,who,at\n1,a,2024-03-10T03:10:00\n2,a,2024-03-10T01:45:00\n3,a,2024-03-10T03:20:00\n4,a,2024-03-10T01:45:00\n";
    let source = "events".parse().unwrap();
    let report = world.store.ingest(&source, feature_store::Format::Csv, body.into()).await.unwrap();
    assert_eq!((report.accepted, report.quarantined), (3, 1), "{report:?}");
    assert_eq!(report.first_errors[0].line, 5);
}

#[tokio::test]
async fn a_lateness_without_a_watermark_is_refused() {
    let world = World::new().await;
    let mut definitions = events();
    definitions[1]["allowed_lateness"] = json!("1h");
    let error = world.store.plan(&parsed(&definitions)).await.unwrap_err();
    let expected =
        "Source `events`: allowed_lateness: counts from the watermark, and the source declares no `watermark`";
    assert_eq!(error.to_string(), expected);
}

#[tokio::test]
async fn a_write_that_is_all_or_nothing_is_refused_for_a_late_row() {
    let world = World::new().await;
    world.apply(&bounded()).await;
    world.put("events", vec![event(1, "a", 100, 1.0)]).await;
    let rows = crate::world::objects(vec![event(2, "a", 101, 1.0), event(3, "a", 1, 1.0)]);
    let source = "events".parse().unwrap();
    let error = world.store.write_source(&source, rows).await.unwrap_err();
    assert!(error.to_string().contains("row 2, column `at`"), "{error}");
    assert_eq!(world.store.stats(&source).unwrap().rows, 1);
}
