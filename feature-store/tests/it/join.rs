//! Point-in-time joins and windows against the naive reference, offline and online, whatever order rows come in.

use domain::{Timestamp, Value, ports::Features as _};
use proptest::{prelude::*, test_runner::RngSeed};

use crate::{
    naive::{self, Row},
    world::{World, cell, event, events, spine, t},
};

const WHO: [Option<&str>; 4] = [Some("a"), Some("b"), Some("c"), None];

pub fn row() -> impl Strategy<Value = Row> {
    let who = prop_oneof![Just(Some("a")), Just(Some("b")), Just(Some("c")), Just(None)];
    // Few ids and instants: ties, duplicates and corrections (also to another entity) are the rule.
    let note = prop_oneof![Just(None), Just(Some("red")), Just(Some("blue"))];
    (0..12i64, who, 0..100i64, prop::option::of(0..4i64), prop::option::of(-50..50i64), any::<Option<bool>>(), note)
        .prop_map(|(id, who, at, written, x, ok, note)| Row { id, who, at: at / 7 * 7, written, x, ok, note })
}

pub fn question() -> impl Strategy<Value = (Option<&'static str>, i64)> {
    (0..WHO.len() + 1, -10..150i64).prop_map(|(who, at)| (WHO.get(who).copied().unwrap_or(Some("nobody")), at))
}

pub async fn agrees(batches: &[Vec<Row>], questions: &[(Option<&'static str>, i64)]) -> Result<(), TestCaseError> {
    let world = World::new().await;
    world.apply(&events()).await;
    let (keys, at) = spine(questions);
    let service = "all".parse().unwrap();
    for batch in batches {
        world.put("events", batch.iter().map(Row::json).collect()).await;
        // Each question brings more of the online store into memory, through which the next batch is written.
        let known = world.store.as_of(&service, &keys, &at).await.unwrap();
        for _ in 0..4 {
            prop_assert_eq!(&world.store.latest(&service, &keys, &at).await.unwrap(), &known);
        }
    }
    // Within a batch rows are taken in order of event time; rows of one instant stay in the order sent.
    let sent: Vec<Row> = batches.concat();
    let offline = world.store.historical(&service, &keys, &at).await.unwrap();
    let online = world.store.online(&service, &keys, &at).await.unwrap();
    prop_assert_eq!(&offline, &online);
    for (row, (who, at)) in questions.iter().enumerate() {
        let expected = naive::answer(&sent, *who, *at);
        for (((name, column), meta), (value, status)) in offline.features.iter().zip(&offline.meta).zip(expected) {
            let found = column.get(row);
            prop_assert!(naive::same(&found, &value), "{} of {:?} at {}: {:?}, not {:?}", name, who, at, found, value);
            prop_assert_eq!(meta.statuses[row], status, "{} of {:?} at {}", name, who, at);
        }
    }
    // A store that reads its rows back, and views built from rows that were there before, say the same.
    let late = World::new().await;
    late.apply(&events()[..2]).await;
    for batch in batches {
        late.put("events", batch.iter().map(Row::json).collect()).await;
    }
    late.apply(&events()[2..]).await;
    prop_assert_eq!(&late.store.online(&service, &keys, &at).await.unwrap(), &online);
    let again = world.reopen().await;
    prop_assert_eq!(&again.store.online(&service, &keys, &at).await.unwrap(), &online);
    prop_assert_eq!(&again.store.historical(&service, &keys, &at).await.unwrap(), &online);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 16,
        rng_seed: RngSeed::Fixed(20_240_101),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]
    #[test]
    fn offline_online_and_the_naive_reference_agree(
        batches in prop::collection::vec(prop::collection::vec(row(), 0..40), 1..5),
        questions in prop::collection::vec(question(), 1..80),
    ) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(agrees(&batches, &questions))?;
    }
}

#[tokio::test]
pub async fn as_of_is_inclusive_and_one_microsecond_earlier_is_not() {
    let world = World::new().await;
    world.apply(&events()).await;
    world.put("events", vec![event(1, "a", 50, 0.5)]).await;
    let (keys, at) = spine(&[(Some("a"), 49), (Some("a"), 50), (Some("a"), 80), (Some("a"), 81)]);
    let service = "all".parse().unwrap();
    for features in [
        world.store.latest(&service, &keys, &at).await.unwrap(),
        world.store.as_of(&service, &keys, &at).await.unwrap(),
    ] {
        let of = |name: &str| (0..4).map(|row| cell(&features, name, row)).collect::<Vec<_>>();
        let half = || Value::Float(0.5);
        assert_eq!(of("last__x"), [Value::Null, half(), half(), half()]);
        // Thirty microseconds old still counts, one more does not.
        assert_eq!(of("fresh__x"), [Value::Float(-1.0), half(), half(), Value::Float(-1.0)]);
        // The window is (t - 25us, t].
        assert_eq!(of("win__sum"), [Value::Float(0.0), half(), Value::Float(0.0), Value::Float(0.0)]);
    }
}

#[tokio::test]
pub async fn every_question_comes_out_once_in_its_order_duplicates_included() {
    let world = World::new().await;
    world.apply(&events()).await;
    world.put("events", vec![event(1, "a", 1, 1.0), event(2, "b", 1, 2.0)]).await;
    let (keys, at) = spine(&[(Some("b"), 9), (Some("a"), 9), (Some("b"), 9), (None, 9), (Some("b"), 9)]);
    let answer = world.store.as_of(&"all".parse().unwrap(), &keys, &at).await.unwrap();
    let x = |row| cell(&answer, "last__x", row);
    assert_eq!(answer.rows(), 5);
    assert_eq!((x(0), x(1), x(2), x(3), x(4)), {
        let (a, b) = (Value::Float(1.0), Value::Float(2.0));
        (b.clone(), a, b.clone(), Value::Null, b)
    });
}

#[tokio::test]
pub async fn a_correction_takes_its_rows_place_in_every_window() {
    let world = World::new().await;
    world.apply(&events()).await;
    world.put("events", vec![event(1, "a", 10, 1.0), event(2, "a", 12, 2.0), event(3, "a", 14, 4.0)]).await;
    // Row 1 is put right twice, the second time as another entity's.
    let report = world.put("events", vec![event(1, "a", 10, 8.0)]).await;
    assert_eq!((report.accepted, report.corrections, report.duplicates), (1, 1, 0));
    let sums = async |world: &World| {
        let (keys, at) = spine(&[(Some("a"), 11), (Some("a"), 20), (Some("b"), 20)]);
        let service = "all".parse().unwrap();
        let online = world.store.latest(&service, &keys, &at).await.unwrap();
        assert_eq!(online, world.store.as_of(&service, &keys, &at).await.unwrap());
        [0, 1, 2].map(|row| cell(&online, "win__sum", row))
    };
    assert_eq!(sums(&world).await, [8.0, 14.0, 0.0].map(Value::Float));
    world.put("events", vec![event(1, "b", 10, 3.0)]).await;
    assert_eq!(sums(&world).await, [0.0, 6.0, 3.0].map(Value::Float));
    assert_eq!(world.store.stats(&"events".parse().unwrap()).unwrap().rows, 5);
}

#[tokio::test]
pub async fn a_view_built_later_sums_rows_of_one_instant_whatever_their_time_of_writing() {
    let world = World::new().await;
    world.apply(&events()[..2]).await;
    let written = |id: i64, at: Option<i64>| {
        let mut row = event(id, "a", 35, 1.0);
        row["written"] = serde_json::json!(at.map(t));
        row
    };
    world.put("events", vec![written(1, Some(9)), written(2, None), written(3, Some(4))]).await;
    world.apply(&events()[2..]).await;
    let (keys, at) = spine(&[(Some("a"), 35)]);
    let features = world.store.latest(&"all".parse().unwrap(), &keys, &at).await.unwrap();
    assert_eq!(cell(&features, "win__count", 0), Value::Int(3));
    assert_eq!(cell(&features, "last__id", 0), Value::Int(1));
}

#[tokio::test]
async fn questions_that_do_not_fit_are_refused() {
    let world = World::new().await;
    world.apply(&events()).await;
    let (keys, at) = spine(&[(Some("a"), 1), (Some("b"), 2)]);
    let service = "all".parse().unwrap();
    let short: &[Timestamp] = &at[..1];
    assert_eq!(
        world.store.online(&service, &keys, short).await.unwrap_err().to_string(),
        "2 rows of keys stand beside 1 instants"
    );
    let numbers = domain::Frame::new([("who".into(), domain::Column::Int(vec![Some(1)]))]).unwrap();
    assert_eq!(
        world.store.online(&service, &numbers, &[t(1)]).await.unwrap_err().to_string(),
        "column `who` is int where text is needed"
    );
    let none = domain::Frame::of_rows(1);
    assert!(
        world.store.historical(&service, &none, &[t(1)]).await.unwrap_err().to_string().contains("`who` is missing")
    );
    let error = world.store.latest(&"al".parse().unwrap(), &keys, &at).await.unwrap_err();
    assert_eq!((error.code, error.hint.as_str()), (domain::ErrorCode::NotFound, "did you mean `all`?"));
    let empty = world.store.historical(&service, &keys.take(&[]), &[]).await.unwrap();
    assert_eq!((empty.features.rows(), empty.features.names().len()), (0, 10));
}
