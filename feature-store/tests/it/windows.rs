//! Every function of every window: history, the stream and a naive reference give the same number.

use std::{collections::BTreeSet, sync::Arc};

use domain::{Frame, Value, ports::Features as _};
use proptest::{prelude::*, test_runner::RngSeed};
use serde_json::{Value as Json, json};
use storage::testing::{Faults, FaultyKv, When};
use tempfile::TempDir;

use crate::{
    naive::{Row, standing},
    world::{World, cell, event, events, is_on_spark, objects, parsed, spine, t},
};

/// How one aggregation looks: name, function, column, window and hop in microseconds (no hop: 0), tumbling.
type Shape = (&'static str, &'static str, &'static str, i64, i64, bool);

/// Tiles of several lengths, with coarse tiles of 16 (`long`) and 64 (`longest`), totals beside them.
const SHAPES: [Shape; 28] = [
    ("min", "min", "x", 25, 7, false),
    ("max", "max", "x", 25, 7, false),
    ("max_id", "max", "id", 60, 60, false),
    ("max_at", "max", "at", 60, 11, false),
    ("min_ok", "min", "ok", 60, 11, false),
    ("distinct", "distinct", "note", 40, 7, false),
    ("distinct_x", "distinct", "x", 200, 2, false),
    ("median", "quantile", "x", 25, 7, false),
    ("long_min", "min", "x", 200, 2, false),
    ("long_median", "quantile", "x", 190, 2, false),
    ("longest_max", "max", "x", 2_100, 1, false),
    ("longest_high", "quantile", "x", 1_050, 1, false),
    ("day_min", "min", "x", 20, 0, true),
    ("day_max_id", "max", "id", 50, 0, true),
    ("day_distinct", "distinct", "x", 20, 0, true),
    ("day_median", "quantile", "x", 33, 0, true),
    ("last_x", "last", "x", 25, 7, false),
    ("last_note", "last", "note", 200, 2, false),
    ("longest_last", "last", "id", 1_050, 1, false),
    ("day_last", "last", "x", 33, 0, true),
    ("hop_count", "count", "x", 25, 7, false),
    ("hop_sum", "sum", "x", 25, 10, false),
    ("hop_mean", "mean", "ok", 25, 10, false),
    ("day_count", "count", "x", 20, 0, true),
    ("day_sum", "sum", "x", 33, 0, true),
    ("day_std", "std", "x", 33, 0, true),
    ("exact_sum", "sum", "x", 25, 0, false),
    ("exact_count", "count", "ok", 60, 0, false),
];

fn q(name: &str) -> f64 {
    if name == "longest_high" { 0.9 } else { 0.5 }
}

/// The shapes that the place of joins has: sketches of ours stay here.
fn shapes() -> impl Iterator<Item = &'static Shape> {
    SHAPES.iter().filter(|(_, function, ..)| !is_on_spark() || !["distinct", "quantile"].contains(function))
}

/// How many values `last` keeps.
const K: usize = 3;

fn definitions() -> Vec<Json> {
    let aggregation = |(name, function, column, window, hop, tumbling): &Shape| {
        let mut json = json!({"name": name, "function": function, "column": column, "window": format!("{window}us")});
        if *hop > 0 {
            json["hop"] = format!("{hop}us").into();
        }
        if *tumbling {
            json["shape"] = "tumbling".into();
        }
        if *function == "quantile" {
            json["q"] = q(name).into();
        }
        if *function == "last" {
            json["k"] = K.into();
        }
        json
    };
    let mut all = events()[..2].to_vec();
    all.push(json!({
        "kind": "FeatureView", "name": "w", "source": "events", "entities": ["who"],
        "aggregations": shapes().map(aggregation).collect::<Vec<_>>(),
    }));
    all.push(json!({"kind": "FeatureService", "name": "w", "views": [{"view": "w"}]}));
    all
}

/// The first and the last instant of a window, straight from its definition; microseconds after 2024 began.
fn ends((_, _, _, window, hop, tumbling): &Shape, at: i64) -> (i64, i64) {
    let since = t(0).micros();
    let multiple = |at: i64, of: i64| (at + since).div_euclid(of) * of - since;
    if *tumbling {
        let end = multiple(at, *window);
        return (end - window, end - 1);
    }
    let first = at - window + 1;
    (if *hop > 0 { multiple(first, *hop) } else { first }, at)
}

fn number(row: &Row, column: &str) -> Option<f64> {
    match column {
        "x" => row.x.map(|x| x as f64 / 10.0),
        "id" => Some(row.id as f64),
        "at" => Some(t(row.at).micros() as f64),
        "ok" => row.ok.map(f64::from),
        "note" => row.note.map(|note| note.len() as f64),
        other => panic!("no column {other}"),
    }
}

fn value(row: &Row, column: &str) -> Value {
    match column {
        "x" => Value::Float(row.x.unwrap() as f64 / 10.0),
        "id" => Value::Int(row.id),
        "note" => Value::Text(row.note.unwrap().into()),
        other => panic!("no column {other}"),
    }
}

/// Whether `found` is what the rows say.
fn right(shape: &Shape, rows: &[&Row], who: Option<&str>, at: i64, found: &Value) -> bool {
    let (name, function, column, ..) = *shape;
    let Some(who) = who else { return *found == Value::Null };
    let (first, last) = ends(shape, at);
    let inside = rows.iter().filter(|row| row.who == Some(who) && first <= row.at && row.at <= last);
    if function == "last" {
        // Rows stand in the order sent, so those of one instant and time of writing keep it.
        let mut inside: Vec<&&Row> = inside.filter(|row| number(row, column).is_some()).collect();
        inside.sort_by_key(|row| (row.at, row.written));
        let newest = inside.iter().skip(inside.len().saturating_sub(K));
        return *found == Value::List(newest.map(|row| value(row, column)).collect());
    }
    let mut values: Vec<f64> = inside.filter_map(|row| number(row, column)).collect();
    values.sort_by(f64::total_cmp);
    let n = values.len() as f64;
    let float = |x: &Value| match x {
        Value::Float(x) => Some(*x),
        Value::Int(x) => Some(*x as f64),
        Value::Bool(x) => Some(f64::from(*x)),
        Value::Timestamp(x) => Some(x.micros() as f64),
        _ => None,
    };
    let near = |truth: f64, within: f64| float(found).is_some_and(|x| (x - truth).abs() <= within);
    match function {
        "count" => *found == Value::Int(values.len() as i64),
        "sum" => near(values.iter().sum(), 1e-9),
        "distinct" => {
            let different = values.iter().map(|x| (x * 10.0).round() as i64).collect::<BTreeSet<_>>().len();
            // Of several values two may fall into one register.
            matches!(found, Value::Int(_)) && near(different as f64, f64::from(u8::from(different > 1)))
        }
        _ if values.is_empty() => *found == Value::Null,
        "mean" => near(values.iter().sum::<f64>() / n, 1e-9),
        "std" => {
            let mean = values.iter().sum::<f64>() / n;
            near((values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n).sqrt(), 1e-6)
        }
        "min" => near(values[0], 0.0),
        "max" => near(values[values.len() - 1], 0.0),
        "quantile" => {
            let truth = values[(q(name) * (n - 1.0)).floor() as usize];
            near(truth, 0.010_001 * truth.abs())
        }
        other => panic!("no function {other}"),
    }
}

fn check(rows: &[Row], questions: &[(Option<&str>, i64)], found: &Frame) -> Result<(), TestCaseError> {
    let rows = standing(rows);
    for (number, (who, at)) in questions.iter().enumerate() {
        for shape in shapes() {
            let value = cell(found, &format!("w__{}", shape.0), number);
            prop_assert!(right(shape, &rows, *who, *at, &value), "{} of {who:?} at {at}: {value:?}", shape.0);
        }
    }
    Ok(())
}

fn row() -> impl Strategy<Value = Row> {
    let who = prop_oneof![Just(Some("a")), Just(Some("b")), Just(None)];
    let note = prop_oneof![Just(None), Just(Some("red")), Just(Some("blue")), Just(Some("yellow"))];
    (0..25i64, who, 0..60i64, prop::option::of(0..3i64), prop::option::of(-50..50i64), any::<Option<bool>>(), note)
        .prop_map(|(id, who, at, written, x, ok, note)| Row { id, who, at: at * 5, written, x, ok, note })
}

pub fn question() -> impl Strategy<Value = (Option<&'static str>, i64)> {
    let who = prop_oneof![4 => Just(Some("a")), 4 => Just(Some("b")), 1 => Just(None), 1 => Just(Some("nobody"))];
    (who, prop_oneof![4 => -10..400i64, 1 => 400..3_000i64])
}

/// A step of the stream.
#[derive(Debug, Clone)]
pub enum Step {
    One(Row),
    Some(Vec<Row>),
    Reopen,
}

pub fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => row().prop_map(Step::One),
        3 => prop::collection::vec(row(), 2..12).prop_map(Step::Some),
        1 => Just(Step::Reopen),
    ]
}

pub async fn agree(steps: &[Step], questions: &[(Option<&'static str>, i64)]) -> Result<(), TestCaseError> {
    let service = "w".parse().unwrap();
    let (keys, at) = spine(questions);
    let mut world = World::new().await;
    world.apply(&definitions()).await;
    let mut sent: Vec<Row> = Vec::new();
    for (number, step) in steps.iter().enumerate() {
        match step {
            Step::One(row) => drop(world.put("events", vec![row.json()]).await),
            Step::Some(rows) => drop(world.put("events", rows.iter().map(Row::json).collect()).await),
            Step::Reopen => world = world.reopen().await,
        }
        sent.extend(match step {
            Step::One(row) => vec![row.clone()],
            Step::Some(rows) => rows.clone(),
            Step::Reopen => Vec::new(),
        });
        if number % 5 == 0 {
            let online = world.store.latest(&service, &keys, &at).await.unwrap();
            check(&sent, questions, &online)?;
            prop_assert_eq!(&online, &world.store.as_of(&service, &keys, &at).await.unwrap());
        }
    }
    let online = world.store.online(&service, &keys, &at).await.unwrap();
    check(&sent, questions, &online.features)?;
    prop_assert_eq!(&online, &world.store.historical(&service, &keys, &at).await.unwrap());
    // The same rows, seen first by a view that is made when all of them are there.
    let late = World::new().await;
    late.apply(&definitions()[..2]).await;
    for row in &sent {
        late.put("events", vec![row.json()]).await;
    }
    late.apply(&definitions()[2..]).await;
    prop_assert_eq!(&late.store.online(&service, &keys, &at).await.unwrap(), &online);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 16,
        rng_seed: RngSeed::Fixed(20_240_102),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]
    #[test]
    fn backfill_stream_and_online_read_agree_at_every_instant(
        steps in prop::collection::vec(step(), 1..40),
        questions in prop::collection::vec(question(), 1..40),
    ) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(agree(&steps, &questions))?;
    }
}

#[tokio::test]
async fn a_write_of_unknown_outcome_is_never_counted_twice() {
    let first: Vec<Json> = (0..6).map(|n| event(n, "a", n * 3, n as f64)).collect();
    let rows =
        vec![event(10, "a", 30, 50.0), event(11, "a", 4, 60.0), event(12, "a", 31, 70.0), event(2, "a", 6, 80.0)];
    let questions: Vec<(Option<&str>, i64)> = (0..60).map(|at| (Some("a"), at)).collect();
    let (keys, at) = spine(&questions);
    let service = "w".parse().unwrap();
    let prepared = async || {
        let dir = Arc::new(TempDir::new().unwrap());
        let world = World::open(dir.clone()).await;
        world.apply(&definitions()).await;
        world.put("events", first.clone()).await;
        dir
    };
    let whole = World::open(prepared().await).await;
    whole.put("events", rows.clone()).await;
    let expected = whole.store.latest(&service, &keys, &at).await.unwrap();
    assert_eq!(expected, whole.store.as_of(&service, &keys, &at).await.unwrap());
    let (mut failures, mut calls) = (0, 4);
    loop {
        let mut failed = false;
        for when in [When::Before, When::After] {
            let dir = prepared().await;
            let faults = Faults::nth(calls, when);
            let world = World::open_with(dir, |kv| Arc::new(FaultyKv::new(kv, faults))).await;
            if world.store.ingest_rows(&"events".parse().unwrap(), objects(rows.clone())).await.is_err() {
                failed = true;
                failures += 1;
                world.put("events", rows.clone()).await;
                let online = world.store.latest(&service, &keys, &at).await.unwrap();
                assert_eq!(online, expected, "call {calls}, {when:?}");
            }
        }
        if !failed {
            break;
        }
        calls += 1;
    }
    assert!(failures >= 20, "the faults were met: {failures}");
}

#[tokio::test]
pub async fn default_hops_follow_the_length_of_the_window() {
    let minute = 60_000_000;
    let aggregation =
        |name: &str, window: &str| json!({"name": name, "function": "max", "column": "x", "window": window});
    let world = World::new().await;
    world.apply(&events()[..2]).await;
    world
        .apply(&[
            json!({"kind": "FeatureView", "name": "w", "source": "events", "entities": ["who"], "aggregations": [
                aggregation("short", "1h"), aggregation("middle", "12h"), aggregation("long", "12d"),
            ]}),
            json!({"kind": "FeatureService", "name": "w", "views": [{"view": "w"}]}),
        ])
        .await;
    world.put("events", vec![event(1, "a", 2 * minute, 1.0)]).await;
    let known = async |minutes: i64, name: &str| {
        let (keys, at) = spine(&[(Some("a"), minutes * minute)]);
        let service = "w".parse().unwrap();
        let online = world.store.latest(&service, &keys, &at).await.unwrap();
        assert_eq!(online, world.store.as_of(&service, &keys, &at).await.unwrap());
        cell(&online, &format!("w__{name}"), 0) != Value::Null
    };
    // The row is of minute 2: its tile of 5 minutes, of an hour, of a day leaves the window whole.
    assert_eq!((known(64, "short").await, known(66, "short").await), (true, false));
    assert_eq!((known(12 * 60 + 59, "middle").await, known(13 * 60 + 1, "middle").await), (true, false));
    assert_eq!((known(13 * 1_440 - 1, "long").await, known(13 * 1_440 + 1, "long").await), (true, false));
}

#[tokio::test]
pub async fn a_tumbling_window_takes_a_row_at_midnight_into_the_day_that_begins() {
    let day = 86_400_000_000;
    let world = World::new().await;
    world.apply(&events()[..2]).await;
    let day_of = |name: &str, function: &str| json!({"name": name, "function": function, "column": "x", "window": "1d", "shape": "tumbling"});
    world
        .apply(&[
            json!({"kind": "FeatureView", "name": "w", "source": "events", "entities": ["who"],
                "aggregations": [day_of("sum", "sum"), day_of("max", "max")]}),
            json!({"kind": "FeatureService", "name": "w", "views": [{"view": "w"}]}),
        ])
        .await;
    world.put("events", vec![event(1, "a", 0, 1.0), event(2, "a", day - 1, 2.0), event(3, "a", day, 4.0)]).await;
    let (keys, at) = spine(&[(Some("a"), day - 1), (Some("a"), day), (Some("a"), 2 * day - 1), (Some("a"), 2 * day)]);
    let service = "w".parse().unwrap();
    let online = world.store.latest(&service, &keys, &at).await.unwrap();
    assert_eq!(online, world.store.as_of(&service, &keys, &at).await.unwrap());
    let of = |name: &str| [0, 1, 2, 3].map(|row| cell(&online, &format!("w__{name}"), row));
    assert_eq!(of("sum"), [0.0, 3.0, 3.0, 4.0].map(Value::Float));
    assert_eq!(of("max"), [Value::Null, Value::Float(2.0), Value::Float(2.0), Value::Float(4.0)]);
}

#[tokio::test]
async fn windows_that_cannot_stand_are_refused_by_name() {
    let world = World::new().await;
    world.apply(&events()[..2]).await;
    let refused = async |aggregation: Json| {
        let view = json!({"kind": "FeatureView", "name": "w", "source": "events", "entities": ["who"],
            "aggregations": [aggregation]});
        world.store.plan(&parsed(&[view])).await.unwrap_err().to_string()
    };
    for (aggregation, reason) in [
        (
            json!({"name": "f", "function": "quantile", "column": "x", "window": "1h"}),
            "a quantile needs `q`, from 0 (least) to 1 (greatest), as in `q: 0.95`",
        ),
        (
            json!({"name": "f", "function": "quantile", "column": "x", "window": "1h", "q": 95}),
            "q is 95: write one from 0 to 1",
        ),
        (
            json!({"name": "f", "function": "max", "column": "x", "window": "1h", "q": 0.5}),
            "`q` belongs to quantile, not to max",
        ),
        (
            json!({"name": "f", "function": "last", "column": "x", "window": "1h"}),
            "last needs `k`, how many values, as in `k: 5`",
        ),
        (
            json!({"name": "f", "function": "last", "column": "x", "window": "1h", "k": 0}),
            "k is 0: write one from 1 to 1000",
        ),
        (
            json!({"name": "f", "function": "sum", "column": "x", "window": "1h", "k": 3}),
            "`k` belongs to last, not to sum",
        ),
        (
            json!({"name": "f", "function": "max", "column": "note", "window": "1h"}),
            "column `note` is text, min and max need bool, int, float or timestamp",
        ),
        (
            json!({"name": "f", "function": "max", "column": "x", "window": "1h", "hop": "2h"}),
            "the hop is 2h: it must be longer than zero and at most the window, 1h",
        ),
        (
            json!({"name": "f", "function": "max", "column": "x", "window": "1d", "hop": "1s"}),
            "the window 1d holds 86400 hops of 1s, at most 4096: at least 21093750us",
        ),
        (
            json!({"name": "f", "function": "sum", "column": "x", "window": "1h", "hop": "5m", "shape": "tumbling"}),
            "a tumbling window moves by its own length: leave `hop` out",
        ),
    ] {
        assert_eq!(refused(aggregation).await, format!("FeatureView `w`: aggregations.f: {reason}"));
    }
}
